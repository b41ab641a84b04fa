"""From tokens to weights: the frozen pass, the adapter, the loop, the contest with uniform.

The text wing hands over token rows and their roles; what comes back is numbers. A trained head
leaves with everything needed to score rows it has never seen by forward passes alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trajweight.bilevel import Learned, learn
from trajweight.config import ModelConfig, RunConfig
from trajweight.errors import RunError
from trajweight.features import (
    FeatureMap,
    adapter_tensors,
)
from trajweight.inner import SLOW, InnerLevel, Problem, Warmed, train_until_flat
from trajweight.reweighting import HeadShape, ReweightingHead
from trajweight.student import Student
from trajweight.verdict import Verdict, hold_contest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trajweight.encoded import Encoded
    from trajweight.material import Material
    from trajweight.models import LoadedModel
    from trajweight.progress import Progress
    from trajweight.stopwatch import Stopwatch


@dataclass(frozen=True)
class Scored:
    """What is known of every row of the material afterwards.

    Attributes:
        scores: The head's output. Shape (n,).
        weights: Of the synthetic rows, in their order, mean one. Shape (n_synthetic,).
        embeddings: Shape (n, d).
        base_nll: Loss under the base model, in nats a token. Shape (n,).
    """

    scores: Tensor
    weights: Tensor
    embeddings: Tensor
    base_nll: Tensor


@dataclass(frozen=True)
class Outcome:
    """What learning leaves.

    Attributes:
        scored: Scores and weights; the weights are one where uniform won.
        head: Tensors of the trained head, for `score_rows`.
        head_config: What is needed to use them.
        facts: For the report; see `trajweight.analysis.report.Learning`.
    """

    scored: Scored
    head: dict[str, Tensor]
    head_config: dict[str, Any]
    facts: dict[str, Any]


def learn_weights(
    loaded: LoadedModel,
    material: Material,
    config: RunConfig,
    *,
    progress: Progress,
    stopwatch: Stopwatch,
    on_step: Callable[[dict[str, float]], None],
) -> Outcome:
    """Learn a weight for every synthetic training row.

    Args:
        loaded: The base model; it is frozen and gets an adapter.
        material: Rows and roles; at least one validation and one synthetic row.
        config: Settings.
        progress: Told of stages and of every outer step.
        stopwatch: Gets the time of every stage.
        on_step: Called with the numbers of every outer step.

    Raises:
        DivergenceError: If training leaves the finite numbers.
        ConfigError: If the model is of a kind that cannot be used.
    """
    with stopwatch.stage("frozen model"):
        student = Student(loaded, config.model, material.encoded, progress)
        frozen = student.freeze(progress)
        linears = student.add_adapter(config.model, frozen, seed=config.seed)
    problem = _problem(student, linears, material)
    inner = InnerLevel(problem, config.inner, seed=config.seed)
    before = problem.outer_loss()
    with stopwatch.stage("warm-up"):
        real_adapter = _learn_format(inner, config, progress)
        start = inner.state()
    with stopwatch.stage("features"):
        mapped = FeatureMap.fit(
            frozen.embeddings[[*material.real, *material.synthetic]],
            components=config.outer.components,
        )
        features = student.features(mapped, frozen, material.n_turns, real_adapter, progress)
    head = _new_head(features[material.synthetic], config)
    with stopwatch.stage("bilevel loop"):
        learned = _loop(inner, head, features[material.synthetic], config, progress, on_step)
    candidates = [_weighed(each, features, material) for each in learned.heads]
    with stopwatch.stage("contest"):
        verdict = hold_contest(inner, start, [w for _, w in candidates], material, config, progress)
    scores, weights = candidates[verdict.best]
    final = weights if verdict.wins else torch.ones_like(weights)
    scored = Scored(scores, final, frozen.embeddings, frozen.losses.all)
    head = learned.heads[verdict.best]
    tensors, described = _packed(head, mapped, real_adapter, student, config)
    facts = _facts(learned, verdict, before, student)
    return Outcome(scored, tensors, described, facts)


@torch.no_grad()
def _weighed(head: ReweightingHead, features: Tensor, material: Material) -> tuple[Tensor, Tensor]:
    """Scores of all rows and weights of the synthetic training rows: (n,) and (n_synthetic,)."""
    scores = head(features)
    return scores, head.weights(scores[material.synthetic])


def score_rows(
    loaded: LoadedModel,
    encoded: list[Encoded],
    n_turns: list[int],
    synthetic: list[int],
    *,
    tensors: Mapping[str, Tensor],
    head_config: Mapping[str, Any],
    progress: Progress,
    stopwatch: Stopwatch,
) -> Scored:
    """Score rows with a trained head, by forward passes alone.

    Args:
        loaded: The base model that the head was trained on.
        encoded: The rows.
        n_turns: Turns of each row.
        synthetic: Positions of the rows that get weights; mean one over them.
        tensors: From the run's head file.
        head_config: From beside it.
        progress: Told of stages.
        stopwatch: Gets the time of every stage.

    Raises:
        RunError: If the model is not the one the head was trained on.
    """
    if head_config["model_fingerprint"] != loaded.fingerprint:
        message = (
            f"the head was trained on {head_config['model']} with fingerprint "
            f"{head_config['model_fingerprint']}, and this is {loaded.name} with "
            f"{loaded.fingerprint}"
        )
        raise RunError(
            message, hint="The model changed since the run was trained; train a new head."
        )
    settings = ModelConfig(**head_config["adapter"])
    with stopwatch.stage("frozen model"):
        student = Student(loaded, settings, encoded, progress)
        frozen = student.freeze(progress)
        student.add_adapter(settings, frozen, seed=head_config["seed"])
    head, mapped, real_adapter = _unpacked(tensors, head_config)
    with stopwatch.stage("features"), torch.no_grad():
        features = student.features(mapped, frozen, n_turns, real_adapter, progress)
        scores = head(features)
        weights = head.weights(scores[synthetic])
    return Scored(scores, weights, frozen.embeddings, frozen.losses.all)


def _problem(student: Student, linears: list[nn.Linear], material: Material) -> Problem:
    tasks = Counter(material.tasks[row] for row in material.validation)
    share = [1 / (len(tasks) * tasks[material.tasks[row]]) for row in material.validation]
    return Problem(
        apart=student.losses.apart,
        accumulate=student.losses.accumulate,
        evaluate=student.losses.evaluate,
        linears=linears,
        real=material.real,
        synthetic=material.synthetic,
        validation=material.validation,
        validation_share=torch.tensor(share),
        real_weight=material.real_weight,
    )


def _learn_format(inner: InnerLevel, config: RunConfig, progress: Progress) -> list[Tensor]:
    """Train on real rows alone, then on all with uniform weights; gives back the real adapter.

    While the adapter still learns the format, the outer gradient speaks of format and length;
    only afterwards does it speak of content.
    """
    problem, settings = inner.problem, config.inner
    least = settings.real_steps if problem.real else 0
    progress.start("warm-up", SLOW * (least + settings.warmup_steps))

    def warm_up(rows: Sequence[int], *, size: int, least: int, keep_best: bool) -> Warmed:
        return train_until_flat(
            inner,
            rows,
            size=size,
            least=least,
            sample=config.outer.batch_size,
            keep_best=keep_best,
            watch=lambda loss: progress.advance(loss=loss),
        )

    real_adapter: list[Tensor] = []
    if least:
        size = settings.batch_size
        on_real = warm_up(problem.real, size=size, least=least, keep_best=True)
        real_adapter = adapter_tensors(problem.linears)
        progress.say(f"warm-up on real rows: {on_real}")
    else:
        progress.say("no real training rows: the features lack the likelihood under real data")
    everything, size = [*problem.real, *problem.synthetic], 2 * settings.batch_size
    on_all = warm_up(everything, size=size, least=settings.warmup_steps, keep_best=False)
    progress.finish()
    progress.say(f"warm-up on all training rows: {on_all}")
    return real_adapter


def _new_head(features: Tensor, config: RunConfig) -> ReweightingHead:
    shape = HeadShape(features.shape[1], hidden=config.outer.hidden, w_min=config.outer.w_min)
    return ReweightingHead(
        shape,
        mean=features.mean(0),
        scale=features.std(0, unbiased=False),
        generator=torch.Generator().manual_seed(config.seed),
    )


def _loop(
    inner: InnerLevel,
    head: ReweightingHead,
    features: Tensor,
    config: RunConfig,
    progress: Progress,
    on_step: Callable[[dict[str, float]], None],
) -> Learned:
    progress.start("bilevel loop", config.outer.max_steps)

    def watch(facts: dict[str, float]) -> None:
        on_step(facts)
        progress.advance(outer_loss=facts["outer_loss"], ess=facts["ess_share"])

    learned = learn(inner, head, features, config.outer, watch=watch)
    progress.finish()
    return learned


def _facts(learned: Learned, verdict: Verdict, before: float, student: Student) -> dict[str, Any]:
    vocabulary = student.vocabulary
    facts: dict[str, Any] = {
        "mode": "learned",
        "selected": "head" if verdict.wins else "uniform",
        "objective": "imitate the real validation trajectories (mean NLL, tasks alike)",
        "base_outer_loss": before,
        "uniform_outer_loss": verdict.uniform[1],
        "weighted_outer_loss": verdict.weighted[1],
        "outer_steps": learned.steps,
        "stopped_because": learned.stopped_because,
        "trunk_layers": student.backbone.depth,
        "vocabulary": "full" if vocabulary is None else f"seen ({len(vocabulary)} tokens)",
        "dev_gain": verdict.gain,
        "dev_gain_se": verdict.error,
    }
    if verdict.has_dev:
        facts |= {"uniform_dev_loss": verdict.uniform[0], "weighted_dev_loss": verdict.weighted[0]}
    return facts


def _packed(
    head: ReweightingHead,
    mapped: FeatureMap,
    real_adapter: Sequence[Tensor],
    student: Student,
    config: RunConfig,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings that `_unpacked` builds a working head from."""
    tensors = {f"head.{name}": value for name, value in head.state_dict().items()}
    tensors |= {"map.centre": mapped.centre, "map.components": mapped.components}
    tensors |= {f"adapter.{i:04d}": value for i, value in enumerate(real_adapter)}
    layers = len(student.backbone.layers)
    adapter = ModelConfig(
        **{
            **asdict(config.model),
            "adapter_layers": layers - student.backbone.depth if student.backbone.depth else 0,
        }
    )
    described = {
        "shape": asdict(head.shape),
        "features": mapped.names,
        "adapter": asdict(adapter),
        "seed": config.seed,
    }
    return tensors, described


def _unpacked(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[ReweightingHead, FeatureMap, list[Tensor]]:
    own = {
        name.removeprefix("head."): value
        for name, value in tensors.items()
        if name.startswith("head.")
    }
    head = ReweightingHead(
        HeadShape(**config["shape"]),
        mean=own["mean"],
        scale=own["scale"],
        generator=torch.Generator(),
    )
    head.load_state_dict(own)
    head.requires_grad_(False)
    adapter = [tensors[name] for name in sorted(tensors) if name.startswith("adapter.")]
    return head, FeatureMap(tensors["map.centre"], tensors["map.components"]), adapter
