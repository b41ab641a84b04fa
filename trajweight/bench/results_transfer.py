"""Whether weights that a small model found serve a larger one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.analysis.markdown import escaped, table
from trajweight.bench.controls import TRANSFERRED
from trajweight.bench.results_claims import with_interval

if TYPE_CHECKING:
    from trajweight.bench.results_facts import ModelFacts


def transfer(facts: ModelFacts) -> list[str]:
    """Transferred learned weights less others, under the larger model and under its own."""
    there = [name for name in TRANSFERRED if name in {cell.method for cell in facts.transferred}]
    if len(there) < 2:
        return []
    first = there[0]
    models = sorted({str(cell.at("larger")) for cell in facts.transferred})
    heads, rows = ["this", "less this"], []
    for metric in facts.claims.primary:
        heads += [f"{metric.name}, under the larger model", "says", "under its own"]
    for other in there[1:]:
        row = [escaped(TRANSFERRED[first]), escaped(TRANSFERRED[other])]
        for metric in facts.claims.primary:
            larger, own = facts.transfers(metric, first, other)
            row += [
                "-"
                if larger is None
                else f"{with_interval(larger.mean, larger.interval)}, {larger.n_runs} pairs",
                "-" if larger is None else facts.judged(metric, larger),
                "-" if own is None else with_interval(own.mean, own.interval),
            ]
        rows.append(row)
    return [
        f"Weights were found with {escaped(facts.model)}, and a larger model, "
        f"{escaped(', '.join(models))}, was trained on them; nothing was searched for there. In "
        "the runs that all four have, without correction for many looks:",
        table(heads, rows),
    ]
