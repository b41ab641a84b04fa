"""Weights by another method than learning, and all methods side by side.

Every method is given the same rows to look at and meets the same target of the effective sample
size. Side by side they are judged as learned weights are: short trainings from one state on the
same batches, of as many steps as it took to hold learned weights against uniform ones, and the loss
of dev rows afterwards.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch

from trajweight.config import LEARNED
from trajweight.contest import contest
from trajweight.errors import ConfigError, TrajweightError
from trajweight.ground import Ground
from trajweight.preparing import material_of, require_synthetic, rows_by_name, tokenise
from trajweight.scorers import names, scorer
from trajweight.scorers.scorer import Pool, weights_of
from trajweight.verdict import Candidate, candidate_of, gain_over
from trajweight.weights import weight_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from trajweight.job import Job
    from trajweight.learning import Outcome

    Floats = NDArray[np.float64]

UNIFORM, RETURNS = "uniform", "returns"


def weigh_by(job: Job, name: str) -> None:
    """Weigh a job's synthetic training rows by one method, and write the weights.

    A method that reads rows alone loads no model.

    Raises:
        ConfigError: If there is no such method, or the rows lack what it needs.
        DataError: If there is no synthetic trajectory to weigh.
    """
    method = scorer(name)
    require_synthetic(job)
    lengths, ground = ({}, None) if method.needs == "rows" else _model_at_work(job)
    pool = pool_of(job, ground)
    with job.stopwatch.stage(name), rows_by_name(lengths):
        scored = method.score(pool)
    ids = pool.synthetic["traj_id"].to_list()
    weights = weights_of(scored, target_ess=job.config.outer.target_ess)
    table = weight_table(
        job.table,
        weights=dict(zip(ids, weights.tolist(), strict=True)),
        real_weight=job.real_weight(),
        scores=dict(zip(ids, scored.scores.tolist(), strict=True)),
        n_tokens=lengths,
    )
    job.run.save_table("weights", table)
    job.facts |= {"mode": "method", "selected": "method", "method": name}
    job.facts |= {"method_sentence": method.sentence, "target_ess": job.config.outer.target_ess}


def _model_at_work(job: Job) -> tuple[dict[str, int], Callable[[], Ground]]:
    """Tokens of every row that can be tokenised, and what makes the ground when it is asked for."""
    loaded, encoded = tokenise(job)
    require_synthetic(job)
    config = job.config
    material = material_of(job, encoded, config.returns, floor=config.outer.w_min)
    ground = partial(
        Ground.of,
        loaded,
        material,
        config,
        progress=job.progress,
        stopwatch=job.stopwatch,
        processes=job.processes,
    )
    return {name: len(row.input_ids) for name, row in encoded.items()}, cache(ground)


def pool_of(job: Job, ground: Callable[[], Ground] | None = None) -> Pool:
    """What scorers may look at of a job's rows: those of splits train and validation.

    Args:
        job: Whose rows are split, and excluded where they cannot be tokenised.
        ground: Gives the model at work; None where there is none.
    """
    rows = job.with_texts("messages_json", "tools_json")
    is_real = pl.col("origin") == "real"
    return Pool(
        synthetic=rows.filter((pl.col("split") == "train") & ~is_real),
        real=rows.filter(pl.col("split").is_in(["train", "validation"]) & is_real),
        seed=job.config.seed,
        ground=ground or _no_model,
    )


def _no_model() -> Ground:
    message = "this method reads rows alone and was given no model"
    raise ConfigError(message)


@dataclass(frozen=True)
class Compared:
    """All methods side by side.

    Attributes:
        chosen: The method whose weights are to be taken.
        weights: By method, of the synthetic rows, mean one. Shape (n,) each.
        facts: For the report, a row a method, the best on dev first and those without weights last.
    """

    chosen: str
    weights: dict[str, Floats]
    facts: list[dict[str, Any]]


def compare(
    job: Job, outcome: Outcome, trajectories: Sequence[str], methods: Sequence[str] = ()
) -> Compared:
    """Set the learned weights beside those of every method, and let dev choose.

    The weights that learning ended with stand, unless a rival saves more than chance would give
    the best of so many: its gain must exceed sqrt(2 ln m) standard errors, about the greatest of m
    draws of noise.

    Args:
        job: Told of every method that cannot be used here.
        outcome: What learning left.
        trajectories: Names of the material's rows, to tell on which a training diverges.
        methods: Names; by default all.

    Raises:
        DivergenceError: If a training of the contest leaves the finite numbers.
    """
    ground, progress = outcome.ground, job.progress
    pool = pool_of(job, lambda: ground)
    target = job.config.outer.target_ess
    wanted = list(methods or names())
    weights: dict[str, Floats] = {LEARNED: outcome.scored.learned.double().numpy()}
    scores: dict[str, Floats] = {}
    told: dict[str, dict[str, Any]] = {LEARNED: {"needs": "training", "sentence": _LEARNED_IS}}
    progress.start("other methods", len(wanted))
    for name in wanted:
        method = scorer(name)
        told[name] = {"needs": method.needs, "sentence": method.sentence}
        began = time.perf_counter()
        try:
            with rows_by_name(trajectories):
                found = method.score(pool)
            weights[name] = weights_of(found, target_ess=target)
            scores[name] = found.scores
        except TrajweightError as error:  # one rival that fails must not cost the search
            told[name]["why_not"] = error.message
        told[name]["seconds"] = time.perf_counter() - began
        progress.advance()
    progress.finish()
    weights.setdefault(UNIFORM, np.ones(len(weights[LEARNED])))
    told.setdefault(UNIFORM, {"needs": "rows", "sentence": "Every weight is one."})
    if (prior := ground.material.prior) is not None:
        weights[RETURNS] = prior.weights.double().numpy()
        told[RETURNS] = {"needs": "rows", "sentence": "What returns alone make of the rows."}
    judged = _judged(outcome, weights, job)
    standing = {"head": LEARNED}.get(outcome.facts["selected"], outcome.facts["selected"])
    chosen = _chosen(judged, standing)
    rows = [
        {
            "method": name,
            **facts,
            **(_told_of(name, judged, scores, outcome) if name in judged else {}),
            "is_chosen": name == chosen,
        }
        for name, facts in told.items()
    ]
    rows.sort(key=lambda row: (row.get("loss") is None, row.get("loss") or 0.0, row["method"]))
    return Compared(chosen, weights, rows)


_LEARNED_IS = "Weights learned at two levels by the reweighting head."


def _judged(outcome: Outcome, weights: dict[str, Floats], job: Job) -> dict[str, Candidate]:
    """A short training with the weights of each method, from the end of the warm-up."""
    beginning = outcome.ground.begin()
    material = beginning.material
    judge = material.dev or material.validation
    tensors: dict[str, Tensor] = {
        name: torch.from_numpy(found).float() for name, found in weights.items()
    }
    job.progress.start("contest of all methods", len(tensors))
    with job.stopwatch.stage("contest of all methods"):
        results = contest(
            beginning.inner,
            beginning.start,
            tensors,
            steps=outcome.facts["contest_steps"],
            judge=judge,
            watch=job.progress.advance,
        )
    job.progress.finish()
    return {
        name: candidate_of(math.inf, tensors[name], found.judged, found.outer, material)
        for name, found in results.items()
    }


def _chosen(judged: dict[str, Candidate], standing: str) -> str:
    """The method that stands, or the one that is better by more than the luck of so many."""
    rivals = [name for name in judged if name not in (LEARNED, UNIFORM, RETURNS)]
    luck = math.sqrt(2 * math.log(max(len(rivals), 2)))

    def beyond_luck(name: str) -> float:
        gain, error = gain_over(judged[standing].by_task, judged[name].by_task)
        return gain - luck * (error or 0.0)

    best = max(rivals, key=beyond_luck, default=standing)
    return best if best != standing and beyond_luck(best) > 0 else standing


def _told_of(
    name: str, judged: dict[str, Candidate], scores: dict[str, Floats], outcome: Outcome
) -> dict[str, Any]:
    """What the contest says of a method, and how near its order is to the learned one."""
    gain, error = gain_over(judged[UNIFORM].by_task, judged[name].by_task)
    found = judged[name]
    alike = None
    if name in scores:
        learned = outcome.scored.scores[outcome.ground.material.synthetic].double().numpy()
        alike = _rank_correlation(scores[name], learned)
    return {
        "ess_fraction": found.ess_fraction,
        "loss": found.loss,
        "outer_loss": found.outer_loss,
        "gain": gain,
        "gain_se": error,
        "rank_correlation": alike,
    }


def _rank_correlation(one: Floats, other: Floats) -> float | None:
    """Spearman's; None where one of them is constant."""
    found = pl.DataFrame({"one": one, "other": other}).select(
        pl.corr("one", "other", method="spearman")
    )
    value = float(found.item())
    return None if math.isnan(value) else value
