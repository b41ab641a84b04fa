"""From tokens to weights: the frozen pass, the warm-up, the loop, the contest with uniform.

The text wing hands over token rows and their roles; what comes back is numbers. A trained head
leaves with everything needed to score rows it has never seen by forward passes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.bilevel import Course, Search, learn, rank_correlation
from trajweight.choosing import estimator_of
from trajweight.errors import RunError
from trajweight.features import losses_among
from trajweight.folding import folding_of, refolded, resampled_tasks
from trajweight.inner import InnerLevel
from trajweight.outer import OuterLevel
from trajweight.processes import ALONE, Processes
from trajweight.reweighting import HeadEnsemble, HeadShape, Prior, new_head, restored_head
from trajweight.student import Student
from trajweight.trained_head import HeadInputs, TrainedHead, lasting_cut
from trajweight.verdict import Verdict, hold_contest, temperatures_that_keep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trajweight.config import RunConfig
    from trajweight.encoded import Encoded
    from trajweight.ground import Beginning, Ground
    from trajweight.journal import Journal
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
        learned: The same as the heads say, whether or not these weights were taken.
        apart: The same by each head of an ensemble, each with mean one. Shape (n_synthetic, k).
        embeddings: Shape (n, d).
        base_nll: Loss under the base model, in nats a token. Shape (n,).
        losses: What features are made of, see `trajweight.features.LOSSES`; one for every
            adapter of the likelihood under real data, or one where there is none. Shape (n, 6).
    """

    scores: Tensor
    weights: Tensor
    learned: Tensor
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
        ground: The model at work.
        course: Where the first search ended, where that is finite.
        facts: For the report; see `trajweight.analysis.report.Learning`.
    """

    scored: Scored
    head: TrainedHead
    ground: Ground
    course: Course | None
    facts: dict[str, Any]


def learn_weights(ground: Ground, *, on_step: Callable[[dict[str, float]], None]) -> Outcome:
    """Learn a weight for every synthetic training row.

    Args:
        ground: The model at work on at least one validation and one synthetic row, how far an
            earlier, interrupted call came, and who is told.
        on_step: Called with the numbers of every outer step.

    Raises:
        DivergenceError: If training leaves the finite numbers.
        Interrupted: If the journal's interruption asks for an end; the journal is saved then.
    """
    material, config, progress = ground.material, ground.config, ground.progress
    student, journal = ground.student, ground.journal
    sources = tuple(dict.fromkeys(material.sources[row] for row in material.synthetic))
    reads = HeadInputs(config.outer.head, ground.mapped, sources)
    ensemble = _learn_heads(ground, reads, on_step)
    first, heads = ensemble.beginnings[0], ensemble.heads
    with torch.no_grad():
        scores = heads([ensemble.inputs[place] for place in ensemble.beginning_of])
    with ground.stopwatch.stage("contest"):
        verdict = _contest(first.inner, first.start, heads, scores, material, config, progress)
    weights = verdict.best.weights if verdict.wins else verdict.baseline.weights
    apart = heads.weights_apart(scores[material.synthetic], material.prior)
    scored = Scored(
        scores=scores.mean(1),
        weights=weights,
        learned=verdict.best.weights,
        apart=apart,
        embeddings=ground.frozen.embeddings,
        base_nll=ground.frozen.losses.all,
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
    course = journal.searches[0].get("course")
    return Outcome(scored, trained, ground, course and Course(**course), facts)


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
        weights = trained.heads.weights(scores[synthetic], prior)
    return Scored(
        scores=scores.mean(1),
        weights=weights,
        learned=weights,
        apart=apart,
        embeddings=frozen.embeddings,
        base_nll=frozen.losses.all,
        losses=[losses_among(each) for each in features],
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


@dataclass(frozen=True)
class _Ensemble:
    """What the searches leave.

    Attributes:
        kind: How the members differ; None where there is one.
        heads: One a member.
        beginnings: With what the searches began, each once.
        inputs: What a head reads of all rows, for each beginning. Shape (n, ...) each.
        beginning_of: The place of each member's beginning.
    """

    kind: str | None
    heads: HeadEnsemble
    beginnings: list[Beginning]
    inputs: list[Tensor]
    beginning_of: list[int]


def _learn_heads(
    ground: Ground, reads: HeadInputs, on_step: Callable[[dict[str, float]], None]
) -> _Ensemble:
    """One search a member, from where the journal left them."""
    config, journal, of = ground.config, ground.journal, ground.config.outer.ensemble
    material, progress = ground.material, ground.progress
    folding = folding_of(material, config)
    if of > 1:
        progress.say(str(folding))
    beginning_of = list(range(of)) if folding.is_crossfitted else [0] * of
    beginnings = [ground.begin(of=beginning_of[-1] + 1)]
    inputs = [reads.of(beginnings[0].features, material.sources, material.synthetic)]
    shape = reads.shape(
        inputs[0][material.synthetic], hidden=config.outer.hidden, w_min=config.outer.w_min
    )
    for member, place in enumerate(beginning_of):
        seed, share = config.seed + member, None
        if member and not folding.is_crossfitted:
            share = resampled_tasks(material, seed)
        elif member:
            own = refolded(material, seed=seed, real_share=config.data.fixed_real_share)
            progress.say(
                f"head {member + 1} of {of}: {len(own.real)} real rows train and "
                f"{len(own.validation)} judge; {len(own.left_out)} synthetic rows belong with "
                "real rows that do not train, and are left out"
            )
            beginnings.append(ground.begin(own, member, of=of))
            inputs.append(reads.of(beginnings[-1].features, own.sources, own.synthetic))
        if member >= len(journal.searches):
            with ground.stopwatch.stage("bilevel loop"), journal.interruption.deferred():
                search = _search(
                    beginnings[place], inputs[place], shape, config, seed=seed, share=share
                )
                _run(search, member, of, journal, progress, on_step)
    heads = HeadEnsemble([restored_head(shape, found["head"]) for found in journal.searches])
    kind = folding.kind if of > 1 else None
    return _Ensemble(kind, heads, beginnings, inputs, beginning_of)


def _search(
    beginning: Beginning,
    inputs: Tensor,
    shape: HeadShape,
    config: RunConfig,
    *,
    seed: int,
    share: Tensor | None,
) -> Search:
    """The search of one member.

    Args:
        beginning: Where it begins.
        inputs: What the head reads of all rows. Shape (n, ...).
        shape: Of the head.
        config: Settings.
        seed: Of this member.
        share: Of the validation rows, where a member begins with the warm-up of another; it has a
            stream of batches of its own then.
    """
    settings, problem, material = config.outer, beginning.inner.problem, beginning.material
    if share is not None:
        problem = problem.with_shares(share)
    problems = [problem, *(problem.sibling(f"member{k}") for k in range(1, settings.population))]
    inners = [
        InnerLevel(each, config.inner, seed=seed + 1000 * place)
        for place, each in enumerate(problems)
    ]
    for each in inners:
        own = {} if share is None else {"generator": each.generator.get_state()}
        each.restore({**beginning.start, **own})
    mine = inputs[material.synthetic]
    lengths = [sum(material.encoded[row].assistant_mask) for row in material.synthetic]
    head = new_head(shape, mine, seed=seed)
    outer = OuterLevel(head, mine, torch.tensor(lengths), settings, prior=material.prior)
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
        "contest_steps": verdict.steps,
    }
    if verdict.alone:
        facts["returns_outer_loss"] = verdict.alone.outer_loss
        if verdict.has_dev:
            facts["returns_dev_loss"] = verdict.alone.loss
    if verdict.has_dev:
        facts |= {"uniform_dev_loss": uniform.loss, "weighted_dev_loss": best.loss}
    return facts
