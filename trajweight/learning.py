"""From tokens to weights: the frozen pass, the warm-up, the loop, the contest with uniform.

The text wing hands over token rows and their roles; what comes back is numbers. A trained head
leaves with everything needed to score rows it has never seen by forward passes alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.backbone import ADAPTER
from trajweight.bilevel import Search, learn, rank_correlation
from trajweight.choosing import estimator_of
from trajweight.errors import RunError
from trajweight.features import FeatureMap, adapter_tensors
from trajweight.inner import InnerLevel
from trajweight.journal import Journal
from trajweight.outer import OuterLevel
from trajweight.problem import Problem
from trajweight.processes import ALONE, Processes
from trajweight.retraining import RETRAINED, retrain
from trajweight.returns import task_shares
from trajweight.reweighting import HeadEnsemble, HeadShape, Prior, new_head, restored_head
from trajweight.student import Student
from trajweight.trained_head import HeadInputs, TrainedHead, lasting_cut
from trajweight.verdict import Verdict, hold_contest, temperatures_that_keep
from trajweight.warmup import SLOW, Warmed, train_until_flat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trajweight.config import RunConfig
    from trajweight.encoded import Encoded
    from trajweight.material import Material
    from trajweight.models import LoadedModel
    from trajweight.progress import Progress
    from trajweight.stopwatch import Stopwatch


@dataclass(frozen=True)
class Scored:
    """What is known of every row of the material afterwards.

    Attributes:
        scores: The head's output; its mean over an ensemble. Shape (n,).
        weights: Of the synthetic rows, in their order, mean one. Shape (n_synthetic,).
        apart: The same by each head of an ensemble, each with mean one. Shape (n_synthetic, k).
        embeddings: Shape (n, d).
        base_nll: Loss under the base model, in nats a token. Shape (n,).
    """

    scores: Tensor
    weights: Tensor
    apart: Tensor
    embeddings: Tensor
    base_nll: Tensor


@dataclass(frozen=True)
class Outcome:
    """What learning leaves.

    Attributes:
        scored: Scores and weights; the weights are one where uniform won.
        head: The trained head, for `score_rows`.
        student: The model at work; it holds the retrained adapter, where one was asked for.
        facts: For the report; see `trajweight.analysis.report.Learning`.
    """

    scored: Scored
    head: TrainedHead
    student: Student
    facts: dict[str, Any]


def learn_weights(
    loaded: LoadedModel,
    material: Material,
    config: RunConfig,
    *,
    progress: Progress,
    stopwatch: Stopwatch,
    on_step: Callable[[dict[str, float]], None],
    journal: Journal | None = None,
    processes: Processes = ALONE,
) -> Outcome:
    """Learn a weight for every synthetic training row.

    Args:
        loaded: The base model; it is frozen and gets an adapter.
        material: Rows and roles; at least one validation and one synthetic row.
        config: Settings.
        progress: Told of stages and of every outer step.
        stopwatch: Gets the time of every stage.
        on_step: Called with the numbers of every outer step.
        journal: How far an earlier, interrupted call came, and where to note how far this one
            comes; by default it begins at the beginning.
        processes: Those that do the same work together; each calls this with the same rows.

    Raises:
        DivergenceError: If training leaves the finite numbers.
        ConfigError: If the model is of a kind that cannot be used.
        Interrupted: If the journal's interruption asks for an end; the journal is saved then.
    """
    journal = journal or Journal()
    with stopwatch.stage("frozen model"):
        student = Student(
            loaded,
            config.model,
            material.encoded,
            progress,
            accumulation=config.inner.accumulation,
            processes=processes,
        )
        frozen = student.freeze(progress)
        student.add_adapter(config.model, frozen, seed=config.seed)
    problem = problem_of(student, material)
    inner = InnerLevel(problem, config.inner, seed=config.seed)
    with stopwatch.stage("warm-up"):
        warm = journal.warm or _warm_up(inner, config, journal, progress)
        start, real_adapter = warm["start"], warm["real_adapter"]
    with stopwatch.stage("features"):
        mapped = FeatureMap.fit(
            frozen.embeddings[[*material.real, *material.synthetic]],
            components=config.outer.components,
        )
        features = student.features(mapped, frozen, material.n_turns, real_adapter, progress)
        sources = tuple(dict.fromkeys(material.sources[row] for row in material.synthetic))
        reads = HeadInputs(config.outer.head, mapped, sources)
        inputs = reads.of(features, material.sources, material.synthetic)
    with stopwatch.stage("bilevel loop"), journal.interruption.deferred():
        mine, of = inputs[material.synthetic], config.outer.ensemble
        shape = reads.shape(mine, hidden=config.outer.hidden, w_min=config.outer.w_min)
        beginning = _Beginning(inner, start, mine, shape)
        for member in range(len(journal.searches), of):
            search = beginning.search(material, config, member)
            _run(search, member, of, journal, progress, on_step)
    heads = HeadEnsemble([restored_head(shape, found["head"]) for found in journal.searches])
    with torch.no_grad():
        scores = heads(inputs)
    with stopwatch.stage("contest"):
        verdict = _contest(inner, start, heads, scores, material, config, progress)
    weights = verdict.best.weights if verdict.wins else verdict.baseline.weights
    apart = heads.weights_apart(scores[material.synthetic], material.prior)
    scored = Scored(
        scores=scores.mean(1),
        weights=weights,
        apart=apart,
        embeddings=frozen.embeddings,
        base_nll=frozen.losses.all,
    )
    cut = lasting_cut(
        config.model, layers=len(student.backbone.layers), depth=student.backbone.depth
    )
    trained = TrainedHead(heads, reads, real_adapter, cut, config.seed)
    facts = _facts(journal, verdict, student, material, config)
    facts["reliability"] = reliability(scores[material.synthetic])
    if config.retrain.enabled:
        with stopwatch.stage("retraining"):
            problem = problem_of(student, material, RETRAINED, whole_vocabulary=True)
            made = retrain(problem, weights, config, dev=material.dev, progress=progress)
            facts["retrained"] = made.as_facts()
    return Outcome(scored, trained, student, facts)


def score_rows(
    loaded: LoadedModel,
    encoded: list[Encoded],
    n_turns: list[int],
    sources: list[str],
    synthetic: list[int],
    *,
    prior: Prior | None,
    tensors: Mapping[str, Tensor],
    head_config: Mapping[str, Any],
    progress: Progress,
    stopwatch: Stopwatch,
    processes: Processes = ALONE,
) -> Scored:
    """Score rows with a trained head, by forward passes alone.

    Args:
        loaded: The base model that the head was trained on.
        encoded: The rows.
        n_turns: Turns of each row.
        sources: Source of each row.
        synthetic: Positions of the rows that get weights; mean one over them.
        prior: What returns make of those rows beforehand.
        tensors: From the run's head file.
        head_config: From beside it.
        progress: Told of stages.
        stopwatch: Gets the time of every stage.
        processes: Those that do the same work together.

    Raises:
        RunError: If the model is not the one the head was trained on, or the head is a table.
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
    trained = TrainedHead.unpack(tensors, head_config)
    with stopwatch.stage("frozen model"):
        student = Student(loaded, trained.adapter, encoded, progress, processes=processes)
        frozen = student.freeze(progress)
        student.add_adapter(trained.adapter, frozen, seed=trained.seed)
    with stopwatch.stage("features"), torch.no_grad():
        mapped, adapter = trained.inputs.mapped, trained.real_adapter
        features = student.features(mapped, frozen, n_turns, adapter, progress)
        scores = trained.heads(trained.inputs.of(features, sources, synthetic))
        apart = trained.heads.weights_apart(scores[synthetic], prior)
    return Scored(
        scores=scores.mean(1),
        weights=trained.heads.weights(scores[synthetic], prior),
        apart=apart,
        embeddings=frozen.embeddings,
        base_nll=frozen.losses.all,
    )


def problem_of(
    student: Student, material: Material, adapter: str = ADAPTER, *, whole_vocabulary: bool = False
) -> Problem:
    """The problem of one of the student's adapters; the outer loss counts all tasks alike."""
    tasks = [material.tasks[row] for row in material.validation]
    share = task_shares([material.within[row] for row in material.validation], tasks)
    losses = student.losses_of(adapter, whole_vocabulary=whole_vocabulary)
    return Problem(
        apart=losses.apart,
        accumulate=losses.accumulate,
        evaluate=losses.evaluate,
        linears=student.linears_of(adapter),
        real=material.real,
        synthetic=material.synthetic,
        validation=material.validation,
        validation_share=share,
        real_weight=material.real_weight,
        sibling=lambda name: problem_of(student, material, f"{adapter}-{name}"),
        passes=losses.passes,
        processes=student.processes,
    )


def reliability(scores: Tensor) -> float | None:
    """Mean rank correlation between the heads of an ensemble: (n, k); None with one head."""
    columns = scores.unbind(1)
    pairs = [
        rank_correlation(left, right)
        for place, left in enumerate(columns)
        for right in columns[place + 1 :]
    ]
    return sum(pairs) / len(pairs) if pairs else None


def _warm_up(
    inner: InnerLevel, config: RunConfig, journal: Journal, progress: Progress
) -> dict[str, Any]:
    """The warm-up, and what it leaves for the journal."""
    before = inner.problem.outer_loss()
    real_adapter = _learn_format(inner, config, progress)
    left = {"outer_loss_before": before, "real_adapter": real_adapter, "start": inner.state()}
    journal.end_warm_up(left)
    return left


def _learn_format(inner: InnerLevel, config: RunConfig, progress: Progress) -> list[Tensor]:
    """Train on real rows alone, then on all with uniform weights; gives back the real adapter.

    While the adapter still learns the format, the outer gradient speaks of format and length;
    only afterwards does it speak of content.
    """
    problem, settings = inner.problem, config.inner
    least = settings.real_steps if problem.real else 0
    progress.start("warm-up", SLOW * (least + settings.warmup_steps))

    def warm_up(rows: Sequence[int], *, size: int, least: int) -> Warmed:
        return train_until_flat(
            inner, rows, size=size, least=least, watch=lambda loss: progress.advance(loss=loss)
        )

    real_adapter: list[Tensor] = []
    if least:
        on_real = warm_up(problem.real, size=settings.batch_size, least=least)
        real_adapter = adapter_tensors(problem.linears)
        progress.say(f"warm-up on real rows: {on_real}")
    else:
        progress.say("no real training rows: the features lack the likelihood under real data")
    size = 2 * settings.batch_size
    on_all = warm_up(problem.training, size=size, least=settings.warmup_steps)
    progress.finish()
    progress.say(f"warm-up on all training rows: {on_all}")
    return real_adapter


@dataclass(frozen=True)
class _Beginning:
    """What every search of an ensemble begins with.

    Attributes:
        inner: The inner level of the warm-up.
        start: Its state at the end of it.
        inputs: What the head reads of the synthetic training rows. Shape (n, ...).
        shape: Of the heads.
    """

    inner: InnerLevel
    start: dict[str, Any]
    inputs: Tensor
    shape: HeadShape

    def search(self, material: Material, config: RunConfig, member: int) -> Search:
        """The search of one member, with a seed of its own; the first has the run's own tasks."""
        seed, settings, problem = config.seed + member, config.outer, self.inner.problem
        if member:
            problem = problem.with_shares(resampled_tasks(material, seed))
        problems = [
            problem,
            *(problem.sibling(f"member{k}") for k in range(1, settings.population)),
        ]
        inners = [
            InnerLevel(each, config.inner, seed=seed + 1000 * place)
            for place, each in enumerate(problems)
        ]
        for each in inners:
            own = {"generator": each.generator.get_state()} if member else {}
            each.restore({**self.start, **own})
        lengths = [sum(material.encoded[row].assistant_mask) for row in material.synthetic]
        head = new_head(self.shape, self.inputs, seed=seed)
        outer = OuterLevel(head, self.inputs, torch.tensor(lengths), settings, prior=material.prior)
        return Search(inners, outer, estimator_of(config.estimator), settings)


def _run(
    search: Search,
    member: int,
    of: int,
    journal: Journal,
    progress: Progress,
    on_step: Callable[[dict[str, float]], None],
) -> None:
    """Drive a search to its end from where the journal left it."""
    journal.resume(search)
    name = f"bilevel loop {member + 1} of {of}" if of > 1 else "bilevel loop"
    progress.start(name, search.config.max_steps)
    if search.outer.steps:
        progress.advance(search.outer.steps)

    def watch(facts: dict[str, float]) -> None:
        told = {"member": member, **facts} if of > 1 else facts
        on_step(told)
        journal.tell(told)
        progress.advance(outer_loss=facts["outer_loss"], ess=facts["ess_fraction"])

    learned = learn(search, watch=watch, between=lambda: journal.between(search))
    progress.finish()
    journal.end_search(learned)


def resampled_tasks(material: Material, seed: int) -> Tensor:
    """Shares of the validation rows when their tasks are drawn again with replacement: (m,).

    What another sample of validation tasks would have taught differs as much as this does.
    """
    tasks = [material.tasks[row] for row in material.validation]
    names = list(dict.fromkeys(tasks))
    drawn = torch.randint(len(names), (len(names),), generator=torch.Generator().manual_seed(seed))
    times = Counter(names[place] for place in drawn.tolist())
    within = [material.within[row] for row in material.validation]
    return task_shares(within, tasks, [times[task] for task in tasks])


def _contest(
    inner: InnerLevel,
    start: dict[str, Any],
    heads: HeadEnsemble,
    scores: Tensor,
    material: Material,
    config: RunConfig,
    progress: Progress,
) -> Verdict:
    """Let dev choose the temperature; the heads are left at the best one."""
    mine, prior = scores[material.synthetic], material.prior

    def weights_at(temperature: float) -> Tensor:
        heads.set_temperature(temperature)
        with torch.no_grad():
            return heads.weights(mine, prior)

    temperatures = temperatures_that_keep(
        weights_at, config.outer.temperatures, target_ess=config.outer.target_ess, prior=prior
    )
    by_temperature = {each: weights_at(each) for each in temperatures}
    verdict = hold_contest(inner, start, by_temperature, material, config, progress)
    heads.set_temperature(verdict.best.temperature)
    return verdict


def _facts(
    journal: Journal, verdict: Verdict, student: Student, material: Material, config: RunConfig
) -> dict[str, Any]:
    vocabulary, best, uniform = student.vocabulary, verdict.best, verdict.uniform
    warm: dict[str, Any] = journal.warm or {}
    facts: dict[str, Any] = {
        "mode": "learned",
        "selected": "head" if verdict.wins else "returns" if material.prior else "uniform",
        "estimator": config.estimator.name,
        "head": config.outer.head,
        "objective": material.objective,
        "base_outer_loss": warm["outer_loss_before"],
        "uniform_outer_loss": uniform.outer_loss,
        "weighted_outer_loss": best.outer_loss,
        "outer_steps": sum(found["steps"] for found in journal.searches),
        "stopped_because": journal.searches[-1]["stopped_because"],
        "temperature": best.temperature,
        "target_ess": config.outer.target_ess,
        "tradeoff": verdict.tradeoff(),
        "trunk_layers": student.backbone.depth,
        "vocabulary": "full" if vocabulary is None else f"seen ({len(vocabulary)} tokens)",
        "dev_gain": verdict.gain,
        "dev_gain_se": verdict.error,
    }
    if verdict.alone:
        facts["returns_outer_loss"] = verdict.alone.outer_loss
        if verdict.has_dev:
            facts["returns_dev_loss"] = verdict.alone.loss
    if verdict.has_dev:
        facts |= {"uniform_dev_loss": uniform.loss, "weighted_dev_loss": best.loss}
    return facts
