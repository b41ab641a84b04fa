"""Cheap and rival ways to weigh synthetic trajectories, one a file, all behind one interface.

A scorer of your own is a class with what `scorer.Scorer` asks for, in a package of yours, named as
an entry point by the name it carries:

    [project.entry-points."trajweight.scorers"]
    mine = "my_package.my_scorer:MyScorer"
"""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final, get_args

from trajweight.errors import ConfigError
from trajweight.scorers.scorer import Needs, Pool, Scored, Scorer, weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

__all__ = ["SCORERS", "Needs", "Pool", "Scored", "Scorer", "names", "scorer", "weights_of"]

#: By name the module, the class and its arguments; only the one that is asked for is imported.
_OURS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "uniform": ("plain:Uniform", {}),
    "random": ("plain:Random", {}),
    "shorter": ("length:Length", {"prefers": "short"}),
    "longer": ("length:Length", {"prefers": "long"}),
    "reward-filter": ("rewards:RewardFilter", {}),
    "rwr": ("rewards:RewardWeighted", {}),
    "source-reward": ("rewards:SourceReward", {}),
    "dsir": ("dsir:Dsir", {}),
    "text-knn": ("text_knn:TextNeighbours", {}),
    "classifier": ("classifier:Classifier", {}),
    "base-nll-low": ("perplexity:BaseNll", {"prefers": "low"}),
    "base-nll-middle": ("perplexity:BaseNll", {"prefers": "middle"}),
    "base-nll-high": ("perplexity:BaseNll", {"prefers": "high"}),
    "embedding-knn": ("embedding_knn:EmbeddingNeighbours", {}),
    "embedding-classifier": ("embedding_classifier:EmbeddingClassifier", {}),
    "ifd": ("ifd:InstructionFollowing", {}),
    "dimp": ("dimp:LikelihoodRatio", {}),
    "less": ("less:Less", {}),
    "source-mixture": ("source_mixture:SourceMixture", {}),
    "learning-to-reweight": ("learning_to_reweight:LearningToReweight", {}),
    "meta-weight-net": ("meta_weight_net:MetaWeightNet", {}),
    "loss-only-penalty": ("loss_only_penalty:LossOnlyPenalty", {}),
}
#: Every name of ours.
SCORERS: Final[tuple[str, ...]] = tuple(_OURS)
_ENTRY_POINTS: Final = "trajweight.scorers"
#: Names that mean something else to ``--method`` or in a table of methods.
_RESERVED: Final = ("learned", "compare", "list", "returns")


def names() -> list[str]:
    """Every name there is: ours, then those of other packages by the alphabet."""
    return [*SCORERS, *sorted(_theirs())]


def scorer(name: str) -> Scorer:
    """The scorer of a name.

    Raises:
        ConfigError: If there is none; or if another package names something that is no scorer,
            cannot be imported or takes a name of ours.
    """
    theirs = _theirs()
    if name in theirs:
        return _loaded(theirs[name])
    if name not in _OURS:
        near = difflib.get_close_matches(name.lower(), names(), n=1, cutoff=0.5)
        message = f"--method {name}: no such scorer."
        told = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(message, hint=f"{told}Scorers are {', '.join(names())}.")
    place, arguments = _OURS[name]
    module, _, kind = place.partition(":")
    found: Scorer = getattr(importlib.import_module(f"trajweight.scorers.{module}"), kind)(
        **arguments
    )
    return found


def _theirs() -> dict[str, EntryPoint]:
    """The entry points of other packages, by name."""
    found = {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
    if taken := sorted(set(found) & {*SCORERS, *_RESERVED}):
        message = f"another package names a scorer {taken[0]!r}, as one of ours is called"
        raise ConfigError(message, hint=f"Rename or remove {found[taken[0]].value}.")
    return found


def _loaded(point: EntryPoint) -> Scorer:
    """The scorer that an entry point names."""
    try:
        made: Any = point.load()()
    except Exception as error:
        message = f"the scorer {point.name!r} of another package cannot be loaded: {error}"
        raise ConfigError(message, hint=f"Mend or remove {point.value}.") from error
    if fault := _fault(made, point.name):
        message = f"the scorer {point.name!r} of another package {fault}"
        raise ConfigError(message, hint="It must be as trajweight.scorers.Scorer says.")
    found: Scorer = made
    return found


def _fault(made: Any, name: str) -> str:
    """What keeps a value from being the scorer of a name; empty where it is one."""
    if not callable(getattr(made, "score", None)):
        return f"is {type(made).__name__}, which has no method score"
    if getattr(made, "name", None) != name:
        return f"calls itself {getattr(made, 'name', None)!r}"
    if not isinstance(getattr(made, "sentence", None), str):
        return "has no sentence"
    if getattr(made, "needs", None) not in get_args(Needs):
        return f"needs {getattr(made, 'needs', None)!r}, not one of {', '.join(get_args(Needs))}"
    return ""
