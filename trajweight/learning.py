"""From tokens to weights: the frozen pass, the warm-up, the loop, the contest with uniform.

The text wing hands over token rows and their roles; what comes back is numbers. A trained head
leaves with everything needed to score rows it has never seen by forward passes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.backbone import ADAPTER
from trajweight.bilevel import Course, Search, learn, rank_correlation
from trajweight.choosing import estimator_of
from trajweight.errors import RunError
from trajweight.features import (
    FeatureMap,
    Frozen,
    adapter_tensors,
    losses_among,
    set_adapter,
)
from trajweight.folding import folding_of, refolded, resampled_tasks
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
        losses: What the heads know of the losses, see `trajweight.features.LOSSES`; one for every
            adapter of the likelihood under real data, or one where there is none. Shape (n, 6).
    """

    scores: Tensor
    weights: Tensor
    apart: Tensor
    embeddings: Tensor
    base_nll: Tensor
    losses: list[Tensor]


@dataclass(frozen=True)
class Outcome:
    """What learning leaves.

    Attributes:
        scored: Scores and weights; the weights are one where uniform won.
        head: The trained head, for `score_rows`.
        student: The model at work; it holds the retrained adapter, where one was asked for.
        course: Where the first search ended, where that is finite.
        facts: For the report; see `trajweight.analysis.report.Learning`.
    """

    scored: Scored
    head: TrainedHead
    student: Student
    course: Course | None
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
        # It sees no loss, so that the heads of an ensemble may share it.
        mapped = FeatureMap.fit(
            frozen.embeddings[[*material.real, *material.synthetic]],
            components=config.outer.components,
        )
    sources = tuple(dict.fromkeys(material.sources[row] for row in material.synthetic))
    reads = HeadInputs(config.outer.head, mapped, sources)
    ground = _Ground(
        student,
        frozen,
        adapter_tensors(student.linears),
        reads,
        config,
        journal,
        progress,
        stopwatch,
    )
    ensemble = ground.learn(material, on_step)
    first, heads = ensemble.beginnings[0], ensemble.heads
    with torch.no_grad():
        scores = heads([ensemble.beginnings[place].inputs for place in ensemble.beginning_of])
    with stopwatch.stage("contest"):
        verdict = _contest(first.inner, first.start, heads, scores, material, config, progress)
    weights = verdict.best.weights if verdict.wins else verdict.baseline.weights
    apart = heads.weights_apart(scores[material.synthetic], material.prior)
    scored = Scored(
        scores=scores.mean(1),
        weights=weights,
        apart=apart,
        embeddings=frozen.embeddings,
        base_nll=frozen.losses.all,
        losses=[losses_among(each.features) for each in ensemble.beginnings],
    )
    cut = lasting_cut(
        config.model, layers=len(student.backbone.layers), depth=student.backbone.depth
    )
    adapters = [each.real_adapter for each in ensemble.beginnings]
    trained = TrainedHead(heads, reads, adapters, ensemble.beginning_of, cut, config.seed)
    facts = _facts(journal, verdict, student, material, config)
    if ensemble.kind:
        facts["ensemble_kind"] = ensemble.kind
    facts["reliability"] = reliability(scores[material.synthetic])
    if config.retrain.enabled:
        with stopwatch.stage("retraining"):
            problem = problem_of(student, material, RETRAINED, whole_vocabulary=True)
            made = retrain(problem, weights, config, dev=material.dev, progress=progress)
            facts["retrained"] = made.as_facts()
    course = journal.searches[0].get("course")
    return Outcome(scored, trained, student, course and Course(**course), facts)


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
        features = [
            student.features(trained.inputs.mapped, frozen, n_turns, adapter, progress)
            for adapter in trained.real_adapters
        ]
        inputs = [trained.inputs.of(each, sources, synthetic) for each in features]
        scores = trained.heads([inputs[place] for place in trained.adapter_of])
        apart = trained.heads.weights_apart(scores[synthetic], prior)
    return Scored(
        scores=scores.mean(1),
        weights=trained.heads.weights(scores[synthetic], prior),
        apart=apart,
        embeddings=frozen.embeddings,
        base_nll=frozen.losses.all,
        losses=[losses_among(each) for each in features],
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
        left_out=material.left_out,
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


def _learn_format(
    inner: InnerLevel, config: RunConfig, progress: Progress, *, stage: str
) -> list[Tensor]:
    """Train on real rows alone, then on all with uniform weights; gives back the real adapter.

    While the adapter still learns the format, the outer gradient speaks of format and length;
    only afterwards does it speak of content.
    """
    problem, settings = inner.problem, config.inner
    least = settings.real_steps if problem.real else 0
    progress.start(stage, SLOW * (least + settings.warmup_steps))

    def warm_up(rows: Sequence[int], *, size: int, least: int) -> Warmed:
        return train_until_flat(
            inner,
            rows,
            size=size,
            least=least,
            sample=config.estimator.batch_size,
            watch=lambda loss: progress.advance(loss=loss),
        )

    real_adapter: list[Tensor] = []
    if least:
        on_real = warm_up(problem.real, size=settings.batch_size, least=least)
        real_adapter = adapter_tensors(problem.linears)
        progress.say(f"{stage} on real rows: {on_real}")
    else:
        progress.say("no real training rows: the features lack the likelihood under real data")
    size = 2 * settings.batch_size
    on_all = warm_up(problem.training, size=size, least=settings.warmup_steps)
    progress.finish()
    progress.say(f"{stage} on all training rows: {on_all}")
    return real_adapter


@dataclass(frozen=True)
class _Beginning:
    """What a search begins with; the members of an ensemble that is not cross-fitted share one.

    Attributes:
        material: Whose rows train and judge.
        inner: The inner level of the warm-up.
        start: Its state at the end of it; empty once the search is over and nothing begins there.
        real_adapter: What the warm-up on real rows left; empty where there are none.
        features: Of all rows. Shape (n, f).
        inputs: What the head reads of all rows. Shape (n, ...).
    """

    material: Material
    inner: InnerLevel
    start: dict[str, Any]
    real_adapter: list[Tensor]
    features: Tensor
    inputs: Tensor

    def search(
        self, shape: HeadShape, config: RunConfig, *, seed: int, share: Tensor | None
    ) -> Search:
        """The search of one member.

        Args:
            shape: Of the head.
            config: Settings.
            seed: Of this member.
            share: Of the validation rows, where a member begins with the warm-up of another; it
                has a stream of batches of its own then.
        """
        settings, problem, material = config.outer, self.inner.problem, self.material
        if share is not None:
            problem = problem.with_shares(share)
        problems = [
            problem,
            *(problem.sibling(f"member{k}") for k in range(1, settings.population)),
        ]
        inners = [
            InnerLevel(each, config.inner, seed=seed + 1000 * place)
            for place, each in enumerate(problems)
        ]
        for each in inners:
            own = {} if share is None else {"generator": each.generator.get_state()}
            each.restore({**self.start, **own})
        inputs = self.inputs[material.synthetic]
        lengths = [sum(material.encoded[row].assistant_mask) for row in material.synthetic]
        head = new_head(shape, inputs, seed=seed)
        outer = OuterLevel(head, inputs, torch.tensor(lengths), settings, prior=material.prior)
        return Search(inners, outer, estimator_of(config.estimator), settings)


@dataclass(frozen=True)
class _Ensemble:
    """What the searches leave.

    Attributes:
        kind: How the members differ; None where there is one.
        heads: One a member.
        beginnings: With what the searches began, each once.
        beginning_of: The place of each member's beginning.
    """

    kind: str | None
    heads: HeadEnsemble
    beginnings: list[_Beginning]
    beginning_of: list[int]


@dataclass(frozen=True)
class _Ground:
    """What all members of an ensemble stand on.

    Attributes:
        student: The model; its adapter is what the members take in turns.
        frozen: What the frozen model says of every row, for all members.
        untrained: The adapter before any training.
        reads: How the heads' inputs are made.
        config: Settings.
        journal: How far an earlier call came.
        progress: Told of stages and of every outer step.
        stopwatch: Gets the time of every stage.
    """

    student: Student
    frozen: Frozen
    untrained: list[Tensor]
    reads: HeadInputs
    config: RunConfig
    journal: Journal
    progress: Progress
    stopwatch: Stopwatch

    def learn(self, material: Material, on_step: Callable[[dict[str, float]], None]) -> _Ensemble:
        """One search a member, from where the journal left them."""
        config, journal, of = self.config, self.journal, self.config.outer.ensemble
        folding = folding_of(material, config)
        if of > 1:
            self.progress.say(str(folding))
        beginning_of = list(range(of)) if folding.is_crossfitted else [0] * of
        beginnings = [self._begin(material, 0, of=beginning_of[-1] + 1)]
        mine = beginnings[0].inputs[material.synthetic]
        shape = self.reads.shape(mine, hidden=config.outer.hidden, w_min=config.outer.w_min)
        for member, place in enumerate(beginning_of):
            seed, share = config.seed + member, None
            if member and not folding.is_crossfitted:
                share = resampled_tasks(material, seed)
            elif member:
                own = refolded(material, seed=seed, real_share=config.data.real_share)
                self.progress.say(
                    f"head {member + 1} of {of}: {len(own.real)} real rows train and "
                    f"{len(own.validation)} judge; {len(own.left_out)} synthetic rows belong with "
                    "real rows that do not train, and are left out"
                )
                beginnings.append(self._begin(own, member, of=of))
            if member >= len(journal.searches):
                with self.stopwatch.stage("bilevel loop"), journal.interruption.deferred():
                    search = beginnings[place].search(shape, config, seed=seed, share=share)
                    _run(search, member, of, journal, self.progress, on_step)
        heads = HeadEnsemble([restored_head(shape, found["head"]) for found in journal.searches])
        kind = folding.kind if of > 1 else None
        return _Ensemble(kind, heads, beginnings, beginning_of)

    def _begin(self, material: Material, place: int, *, of: int) -> _Beginning:
        """The warm-up, unless the journal has it, and the features that come of it.

        Args:
            material: Whose rows train and judge.
            place: Of this beginning among all.
            of: How many beginnings there are.
        """
        problem = problem_of(self.student, material)
        inner = InnerLevel(problem, self.config.inner, seed=self.config.seed + place)
        with self.stopwatch.stage("warm-up"):
            if place == len(self.journal.warm):
                self._warm_up(inner, f"warm-up {place + 1} of {of}" if of > 1 else "warm-up")
        warm = self.journal.warm[place]
        with self.stopwatch.stage("features"):
            features = self.student.features(
                self.reads.mapped,
                self.frozen,
                material.n_turns,
                warm["real_adapter"],
                self.progress,
            )
            inputs = self.reads.of(features, material.sources, material.synthetic)
        start = warm.get("start", {})
        return _Beginning(material, inner, start, warm["real_adapter"], features, inputs)

    def _warm_up(self, inner: InnerLevel, stage: str) -> None:
        """Begin with an adapter that no other member has trained; the journal keeps the end."""
        problem = inner.problem
        set_adapter(problem.linears, self.untrained)
        before = problem.outer_loss()
        real_adapter = _learn_format(inner, self.config, self.progress, stage=stage)
        self.journal.end_warm_up(
            {"outer_loss_before": before, "real_adapter": real_adapter, "start": inner.state()}
        )


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
    # One is enough to look at a row through, and an adapter is large.
    journal.end_search(learned, None if member else search.course())


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
    facts: dict[str, Any] = {
        "mode": "learned",
        "selected": "head" if verdict.wins else "returns" if material.prior else "uniform",
        "estimator": config.estimator.name,
        "head": config.outer.head,
        "objective": material.objective,
        "base_outer_loss": journal.warm[0]["outer_loss_before"],
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
