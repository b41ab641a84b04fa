"""Which cells a benchmark has: environments, noise, validation sizes, seeds, methods, ablations.

The grid is a star, not a block: noise varies at the usual number of validation trajectories, that
number at the usual noise, ablations change one setting of the learned weights in the usual case,
and away from that a grid may leave out methods. So every curve is there, and a night is enough.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from trajweight import __version__
from trajweight.bench.base_model import Recipe
from trajweight.bench.controls import AUTO_SHARE, CONTROLS, PERMUTED, REAL_ONLY, TRANSFERRED
from trajweight.bench.environments import ENVIRONMENTS
from trajweight.bench.playing import DECODINGS
from trajweight.bench.results import Planned
from trajweight.bench.results_cells import Setting
from trajweight.config import LEARNED, RunConfig
from trajweight.errors import ConfigError
from trajweight.jsontext import encode, encode_utf8
from trajweight.scorers import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: Of the file.
VERSION: Final = 1
#: The base model that the benchmark trains itself; see `base_model`.
SMALL: Final = "small"
#: Sections that an ablation may change: those of the search alone.
_ABLATED: Final = ("inner", "outer", "estimator")
#: Methods that nothing comes of without real training rows.
_OF_REAL: Final = (REAL_ONLY, *AUTO_SHARE)
#: What may grow without changing the cells that are finished.
_AXES: Final = (
    *("name", "environments", "noises", "validations", "seeds", "methods", "ablations"),
    *("usual_noise", "usual_validation"),
    *("larger", "larger_recipe", "methods_elsewhere", "seeds_of_ablations"),
)
#: An ablation that is no setting: losses of rows are sums over their tokens, at both levels.
ROW_LOSS: Final = "row_loss"
#: Where our grids are, and how their files begin.
_BUILT_IN, _PREFIX = "trajweight.bench", "grid_"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The plan of a benchmark.

    Attributes:
        name: Of the grid.
        model: small, or what ``--model`` takes.
        environments: Names.
        noises: Shares of bad synthetic rows.
        usual_noise: Where the other numbers vary.
        validations: Numbers of validation trajectories.
        usual_validation: Where the other numbers vary.
        seeds: How many, from 0.
        methods: learned, scorers and controls; weights are transferred in the usual setting only.
        methods_elsewhere: Those of them that run in other settings than the usual one too; empty
            for all that train the grid's own model.
        seeds_of_ablations: How many seeds have ablations.
        n_synthetic: Synthetic rows of a pool.
        n_real: Real training rows.
        n_dev: Real rows that choose.
        n_test: Real rows of the test loss.
        n_games: Tasks of the test fold that the policy plays, of each decoding.
        decodings: How it plays: greedy, sampled, constrained.
        with_generated: Whether games played by a small fine-tuned model are in the pool.
        recipe: How the small model is made, where other than usual; see `base_model.Recipe`.
        larger: The model that weights are transferred to; empty for none.
        larger_recipe: How that one is made where it is small too.
        learning: Settings of the run, as in a run's config.toml.
        ablations: By name, settings that differ, each by its section and name; and row_loss, which
            is mean or sum.
    """

    name: str
    model: str = SMALL
    environments: tuple[str, ...]
    noises: tuple[float, ...]
    usual_noise: float = 0.4
    validations: tuple[int, ...]
    usual_validation: int = 50
    seeds: int
    methods: tuple[str, ...]
    methods_elsewhere: tuple[str, ...] = ()
    seeds_of_ablations: int | None = None
    n_synthetic: int = 160
    n_real: int = 20
    n_dev: int = 20
    n_test: int = 40
    n_games: int = 50
    decodings: tuple[str, ...] = ("greedy",)
    with_generated: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)
    larger: str = ""
    larger_recipe: dict[str, Any] = field(default_factory=dict)
    learning: dict[str, dict[str, Any]] = field(default_factory=dict)
    ablations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be run before anything is.

        Raises:
            ConfigError: If a name is unknown or a setting does not exist.
        """
        known = {LEARNED, *CONTROLS, *names()}
        for what, given, allowed in (
            ("environments", self.environments, set(ENVIRONMENTS)),
            ("methods", self.methods, known),
            ("methods_elsewhere", self.methods_elsewhere, set(self.methods) - set(TRANSFERRED)),
            ("decodings", self.decodings, set(DECODINGS)),
        ):
            if strange := [each for each in given if each not in allowed]:
                message = f"grid {self.name}: {what} has {strange[0]!r}"
                raise ConfigError(message, hint=f"There are {', '.join(sorted(allowed))}.")
        if self.seeds < 1:
            message = f"grid {self.name}: seeds is {self.seeds}; it must be 1 or more"
            raise ConfigError(message)
        if PERMUTED in self.methods and LEARNED not in self.methods:
            message = f"grid {self.name}: {PERMUTED} deals out learned weights, which are missing"
            raise ConfigError(message, hint="Add learned to methods.")
        if self.n_real < 1 and (strange := [each for each in self.methods if each in _OF_REAL]):
            message = f"grid {self.name}: {strange[0]} trains on real rows, and n_real is 0"
            raise ConfigError(message)
        if not self.larger and (strange := [name for name in self.methods if name in TRANSFERRED]):
            message = f"grid {self.name}: {strange[0]} trains a larger model, and there is none"
            raise ConfigError(message, hint="Name one as larger.")
        for changed in ({}, *self.ablations.values()):
            self.settings(changed)
            if (loss := changed.get(ROW_LOSS, "mean")) not in ("mean", "sum"):
                message = f"grid {self.name}: row_loss is {loss!r}; it must be mean or sum"
                raise ConfigError(message)
            free = (*_ABLATED, ROW_LOSS)
            if fixed := [path for path in changed if path.partition(".")[0] not in free]:
                message = f"grid {self.name}: an ablation changes {fixed[0]}, which all cells share"
                raise ConfigError(message, hint=f"Ablations are of {', '.join(_ABLATED)}.")
        recipes = {*self.recipe, *self.larger_recipe}
        if strange := sorted(recipes - {each.name for each in fields(Recipe)}):
            message = f"grid {self.name}: recipe has {strange[0]!r}, which a model has not"
            raise ConfigError(message)

    @classmethod
    def load(cls, name: str, path: Path | None = None) -> Grid:
        """A grid of ours by its name, or one from a file.

        Raises:
            ConfigError: If there is none, or it cannot be read.
        """
        place = path or files(_BUILT_IN).joinpath(f"{_PREFIX}{name}.toml")
        try:
            found = tomllib.loads(place.read_text("utf-8"))
        except OSError as error:
            message = f"there is no grid {name!r}: {error.strerror or error}"
            raise ConfigError(message, hint=f"Ours are {', '.join(built_in())}.") from error
        except ValueError as error:
            message = f"{place}: no TOML: {error}"
            raise ConfigError(message) from error
        if (version := found.pop("version", None)) != VERSION:
            message = f"{place}: version is {version!r}; this program reads {VERSION}"
            raise ConfigError(message)
        lists: dict[str, Any] = {
            key: tuple(each) if isinstance(each, list) else each for key, each in found.items()
        }
        try:
            return cls(**{**lists, "name": name})
        except TypeError as error:
            message = f"{place}: {error}"
            hint = f"It takes: {', '.join(each.name for each in fields(cls))}."
            raise ConfigError(message, hint=hint) from error

    def settings(self, changed: dict[str, Any]) -> RunConfig:
        """The settings of learning, with what an ablation changes.

        Args:
            changed: By section and name, such as ``outer.max_steps``.

        Raises:
            ConfigError: If there is no such setting.
        """
        sections = {name: dict(values) for name, values in self.learning.items()}
        for path, value in changed.items():
            if path == ROW_LOSS:
                continue
            section, _, key = path.partition(".")
            sections.setdefault(section, {})[key] = value
        return RunConfig.of(sections)

    def setup(self, method: str = LEARNED) -> str:
        """Tells cells that may be compared from others: a hash of what all of them share.

        Args:
            method: Of the cell; one that trains the larger model shares that too.
        """
        shared = {name: value for name, value in asdict(self).items() if name not in _AXES}
        if self.model == SMALL:  # which has read the games of all its environments
            shared["environments"] = self.environments
        if method in TRANSFERRED:
            shared |= {"larger": self.larger, "larger_recipe": self.larger_recipe}
        text = encode_utf8({**shared, "tool": __version__}, sort_keys=True)
        return hashlib.sha256(text).hexdigest()[:16]

    def cells(self, only: Sequence[str] = ()) -> Iterator[Planned]:
        """Every cell, seed by seed, so that a grid that is cut short has all settings once.

        Args:
            only: Environments; all by default.
        """
        for seed in range(self.seeds):
            for setting in self.settings_of_pools():
                if only and setting.environment not in only:
                    continue
                is_usual = setting[1:] == (self.usual_noise, self.usual_validation)
                for method in self._methods(is_usual=is_usual):
                    yield Planned(self.model, setting, seed, method)
                if not is_usual:
                    continue
                if self.seeds_of_ablations is None or seed < self.seeds_of_ablations:
                    for changed in self.ablations.values():
                        yield Planned(self.model, setting, seed, LEARNED, ablation_key(changed))
                # Last, since from then on there are two models in memory.
                for method in self.methods:
                    if method in TRANSFERRED:
                        yield Planned(self.model, setting, seed, method)

    def _methods(self, *, is_usual: bool) -> list[str]:
        """Methods that train the grid's own model."""
        wanted = self.methods if is_usual else self.methods_elsewhere or self.methods
        return [name for name in self.methods if name in wanted and name not in TRANSFERRED]

    def settings_of_pools(self) -> list[Setting]:
        """What is set up, each once."""
        found = [
            Setting(environment, noise, n)
            for environment in self.environments
            for noise, n in (
                *((noise, self.usual_validation) for noise in self.noises),
                *((self.usual_noise, n) for n in self.validations),
            )
        ]
        return list(dict.fromkeys(found))


def ablation_key(changed: dict[str, Any]) -> str:
    """What was changed, as it stands in a finished cell."""
    return encode(changed, sort_keys=True)


def built_in() -> list[str]:
    """Names of our grids."""
    found = [each.name for each in files(_BUILT_IN).iterdir()]
    return sorted(
        each.removeprefix(_PREFIX).removesuffix(".toml")
        for each in found
        if each.startswith(_PREFIX) and each.endswith(".toml")
    )
