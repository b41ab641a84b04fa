"""What one run lets anybody promise: the bound of `bound`, fed with what the run left behind.

The losses of each row that a run keeps are those of the base model, so the bound is about that
model, before any training: its loss on a row cut at `CEILING` nats a token. That model was there
before any row was read, so all held-out real rows are untouched ones. The bound tells how far the
weighted synthetic rows can stand for real ones, and how many tasks any promise may count on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from trajweight.analysis.bound import (
    DELTA,
    Reckoning,
    bounds_from_real_rows,
    classifier_hint,
    clipped,
    mmd_hint,
    real_risk_bound,
    shift_over_adapters,
    weighted_terms,
)
from trajweight.analysis.groups import floats_of, tasks_of
from trajweight.analysis.weighing import FixedWeights, PluggedIn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from trajweight.analysis.alignment import EmbeddingDistances
    from trajweight.analysis.promises import Term
    from trajweight.analysis.weighing import Weighing

#: Losses are cut here, in nats a token; chosen before any loss was seen, as it must be.
CEILING: Final = 5.0
_ABOUT: Final = "the base model, before training"


def reckoning_facts(
    rows: pl.DataFrame,
    learned: pl.DataFrame,
    learning: Mapping[str, Any],
    distances: EmbeddingDistances | None,
) -> dict[str, Any]:
    """The bound's table, every term a certificate or an estimate; or why there is none.

    Args:
        rows: All rows with ``origin``, ``split``, ``task_id`` and ``base_nll``.
        learned: The synthetic training rows with ``weight``.
        learning: See `report.Learning`; tells whether weights were learned at all.
        distances: Of the embeddings, where they were measured.
    """
    held_out = pl.col("split").is_in(["validation", "dev", "test"])
    real = _known(rows.filter((pl.col("origin") == "real") & held_out))
    synthetic = _known(learned)
    if not real.height or not synthetic.height or not synthetic["weight"].sum() > 0:
        return {"measured": False, "why": "it takes losses of weighted synthetic and of real rows"}
    weighing: Weighing = FixedWeights() if learning.get("why_uniform") else PluggedIn()
    losses, real_losses = (_losses(each) for each in (synthetic, real))
    tasks, real_tasks = (tasks_of(each, "task_id") for each in (synthetic, real))
    weights = synthetic["weight"].to_numpy()
    shift = shift_over_adapters(
        real_losses[None],
        losses[None],
        weights,
        weighing,
        real_tasks=real_tasks,
        tasks=tasks,
        is_chosen_apart=True,
        delta=DELTA / 2.0,
    )
    weighted = weighted_terms(losses, weights, weighing, tasks=tasks, kl=None, delta=DELTA / 2.0)
    found = Reckoning(
        test_set=bounds_from_real_rows(
            real_losses, tasks=real_tasks, is_untouched=True, delta=DELTA
        ),
        weighted=real_risk_bound(weighted, shift, is_one_of_them=True),
        hints=_hints(distances),
    )
    return {
        "measured": True,
        "model": _ABOUT,
        "loss": f"mean loss of a row in nats a token, cut at {CEILING:g} and divided by it",
        "ceiling": CEILING,
        "delta": DELTA,
        "n_real": real.height,
        "n_cut": int((floats_of(synthetic, "base_nll") > CEILING).sum()),
        **found.as_dict(),
    }


def _hints(distances: EmbeddingDistances | None) -> tuple[Term, ...]:
    """What classifier and kernel see of the shift; neither bounds it from above."""
    if distances is None:
        return ()
    kernel = mmd_hint(distances.mmd.after)
    if distances.classifier is None:
        return (kernel,)
    return classifier_hint(distances.classifier.proxy_distance.after), kernel


def _known(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose base loss is a number."""
    return rows.filter(pl.Series(np.isfinite(floats_of(rows, "base_nll")), dtype=pl.Boolean))


def _losses(rows: pl.DataFrame) -> NDArray[np.float64]:
    """Cut losses from 0 to 1; a mean negative log-likelihood is at least 0 but for rounding."""
    return clipped(np.maximum(floats_of(rows, "base_nll"), 0.0), CEILING)
