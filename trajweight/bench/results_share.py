"""What the share of the mass that real rows have is worth, beside the weights themselves."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trajweight.analysis.markdown import escaped, table
from trajweight.bench.controls import AUTO_SHARE, REAL_ONLY
from trajweight.bench.results_claims import with_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.bench.results_facts import ModelFacts


def share(facts: ModelFacts) -> list[str]:
    """Each method whose real rows' share dev chose, less others; nothing where none was run."""
    present = [name for name in AUTO_SHARE if name in facts.methods]
    if not present:
        return []
    heads = ["this", "less this"]
    for metric in facts.claims.primary:
        heads += [f"{metric.name}, {metric.better} is better", "says"]
    rows = []
    for one, other in _pairs(facts, present):
        row = [escaped(one), escaped(other)]
        for metric in facts.claims.primary:
            found = facts.between(metric, one, other)
            told = "-" if found is None else with_interval(found.mean, found.interval)
            runs = "" if found is None else f", {found.n_runs} pairs"
            row += [told + runs, "-" if found is None else facts.judged(metric, found)]
        rows.append(row)
    return [
        "Weights say how synthetic rows stand to each other; how much real rows count in all is a "
        "setting, by default their share of the rows. Methods that end in auto-share have the same "
        "weights as those without, and dev chose that share by whole trainings "
        "(`--real-share auto`). In the runs that both have, without correction for many looks:",
        table(heads, rows),
        "\n".join(f"- {escaped(line)}" for line in _chosen(facts, present)),
    ]


def _pairs(facts: ModelFacts, present: list[str]) -> list[tuple[str, str]]:
    """What is set against what."""
    pairs = [(name, AUTO_SHARE[name]) for name in present]
    if len(present) > 1:
        pairs.append((present[0], present[1]))
    pairs += [(name, REAL_ONLY) for name in present]
    return [pair for pair in pairs if set(pair) <= set(facts.methods)]


def _chosen(facts: ModelFacts, present: list[str]) -> Iterator[str]:
    """How often dev took which share."""
    for name in present:
        cells = [cell for cell in facts.cells if cell.method == name]
        taken = Counter(cell.number("real_share.share") for cell in cells)
        kept = sum(
            cell.number("real_share.share") == cell.number("real_share.before") for cell in cells
        )
        shares = ", ".join(
            f"{value:.0%} in {times}" for value, times in sorted(taken.items()) if value is not None
        )
        yield (f"{name}: dev took {shares} of {len(cells)} pools, in {kept} of them what they had.")
