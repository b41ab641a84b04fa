"""Why weights gain or lose where they do: what was to be gained, and who took it.

In every setting by itself. Oracle weights take the planted bad rows away, so what they gain over
uniform weights is the room that any weights have that find these rows. Where there is none, a
method that finds them gains nothing by it, and the AUROC against the plant speaks of the plant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.analysis.markdown import escaped, table
from trajweight.bench.results_claims import counted, with_interval
from trajweight.bench.results_facts import may_claim

if TYPE_CHECKING:
    from trajweight.bench.results_cells import Metric, Setting
    from trajweight.bench.results_facts import ModelFacts
    from trajweight.bench.statistics import Difference

#: What the gate of the tool says when it takes the head's weights.
_TAKEN = "head"


def why(facts: ModelFacts) -> list[str]:
    """For each primary metric a table of what others gain over uniform, and a line a setting."""
    parts = [
        "All less uniform weights, in the runs that both have, each setting by itself. The oracle "
        "takes the planted bad rows away: what it gains is there to be gained by finding them. "
        "The head is what it says also where dev preferred uniform weights. The best baseline is "
        "the label-free one that is best in the setting, chosen with hindsight."
    ]
    for metric in facts.claims.primary:
        rows, lines = [], []
        for setting in facts.settings:
            rows.append(_row(facts, metric, setting))
            lines.append(f"- {escaped(f'{setting}: {_told(facts, metric, setting)}')}")
        heads = ("setting", "oracle", "learned", "the head", "best baseline", "its name")
        parts += [
            f"{metric.name[:1].upper()}{metric.name[1:]}, in {metric.unit}; {metric.better} is "
            "better:",
            table((*heads, "dev chose the head"), rows),
            "\n".join(lines),
        ]
    return parts


def _row(facts: ModelFacts, metric: Metric, setting: Setting) -> list[str]:
    parts = facts.claims.methods
    name = facts.best_in(metric, setting)
    chosen, n = _chosen(facts, setting)
    return [
        escaped(str(setting)),
        *(
            _shown(_over_uniform(facts, metric, method, setting))
            for method in (parts.oracle, parts.learned, parts.ungated, name)
        ),
        escaped(name or "-"),
        f"{chosen} of {n}",
    ]


def _told(facts: ModelFacts, metric: Metric, setting: Setting) -> str:
    """The room, what learned weights take of it, what the gate cost, and who does better."""
    parts = facts.claims.methods
    room = _over_uniform(facts, metric, parts.oracle, setting)
    learned = _over_uniform(facts, metric, parts.learned, setting)
    if room is None or learned is None:
        return "no runs of oracle, learned and uniform weights in common."
    if room.n_seeds < facts.claims.least_seeds:
        return f"{counted(room.n_seeds, 'seed')}, too few to say."
    said = [_room(facts, metric, room), _share(facts, metric, learned, room)]
    chosen, n = _chosen(facts, setting)
    if chosen < n:
        ungated = _over_uniform(facts, metric, parts.ungated, setting)
        told = f", where its own would have come to {_shown(ungated)}" if ungated else ""
        said.append(f"Dev took uniform weights in {n - chosen} of {counted(n, 'seed')}{told}.")
    if name := facts.best_in(metric, setting):
        found = facts.between(metric, parts.learned, name, where=setting.__eq__)
        if found and may_claim(facts, found) and metric.sign * found.mean < 0:
            said.append(f"{name} is better than learned weights, by {_size(found)}.")
    return " ".join(said)


def _room(facts: ModelFacts, metric: Metric, room: Difference) -> str:
    if not may_claim(facts, room):
        return (
            "Without the planted bad rows nothing is gained that these seeds can show "
            f"({_shown(room)}), so finding them is worth little here."
        )
    if metric.sign * room.mean > 0:
        return f"Without the planted bad rows {_shown(room)}."
    return f"The planted bad rows help: without them {_shown(room)}."


def _share(facts: ModelFacts, metric: Metric, learned: Difference, room: Difference) -> str:
    if not may_claim(facts, learned):
        return f"Learned weights: {_shown(learned)}, which is not decided."
    if metric.sign * learned.mean < 0:
        return f"Learned weights lose: {_shown(learned)}."
    has_room = may_claim(facts, room) and metric.sign * room.mean > 0
    share = f", {learned.mean / room.mean:.0%} of that" if has_room else ""
    return f"Learned weights gain{share}: {_shown(learned)}."


def _over_uniform(
    facts: ModelFacts, metric: Metric, method: str | None, setting: Setting
) -> Difference | None:
    if method is None:
        return None
    return facts.between(metric, method, facts.claims.methods.uniform, where=setting.__eq__)


def _chosen(facts: ModelFacts, setting: Setting) -> tuple[int, int]:
    """In how many runs dev took the head's weights, and of how many."""
    said = [
        cell.record.get("selected")
        for cell in facts.cells
        if cell.method == facts.claims.methods.learned and cell.setting == setting
    ]
    return said.count(_TAKEN), len(said)


def _shown(found: Difference | None) -> str:
    return "-" if found is None else with_interval(found.mean, found.interval)


def _size(found: Difference) -> str:
    return with_interval(found.mean, found.interval).lstrip("+-")
