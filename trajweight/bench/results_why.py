"""Why weights gain or lose where they do: what was to be gained, and who took it.

In every setting by itself. Oracle weights take the planted bad rows away, so what they gain over
uniform weights is what finding these rows is worth there. Where that is nothing, weights that find
them have nothing to show for it, however well they do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trajweight.analysis.markdown import escaped, table
from trajweight.bench.results_claims import counted, with_interval

if TYPE_CHECKING:
    from trajweight.bench.results_cells import Metric, Setting
    from trajweight.bench.results_facts import ModelFacts
    from trajweight.bench.statistics import Difference

#: What a cell of learned weights says where dev took the head's weights, and where it did not.
_HEAD, _UNIFORM = "head", "uniform"
_HEADS = (
    *("setting", "oracle", "learned", "head's own", "best baseline", "its name"),
    "dev took the head's",
)


@dataclass(frozen=True, slots=True)
class Gains:
    """What methods gain over uniform weights in a setting, each in the runs that both have.

    Attributes:
        setting: The setting.
        room: Oracle less uniform weights; None where they share no run, as below.
        learned: Learned less uniform weights.
        ungated: The head's own weights less uniform ones.
        best_name: The label-free baseline that is best there, with hindsight.
        best: It less uniform weights.
        behind: Learned weights less it.
        taken: Seeds in which dev took the head's weights.
        refused: Seeds in which it took uniform ones.
        cost: Mean of the head's own less learned weights over the seeds of ``refused``.
    """

    setting: Setting
    room: Difference | None
    learned: Difference | None
    ungated: Difference | None
    best_name: str | None
    best: Difference | None
    behind: Difference | None
    taken: tuple[int, ...]
    refused: tuple[int, ...]
    cost: float | None

    @classmethod
    def of(cls, facts: ModelFacts, metric: Metric, setting: Setting) -> Gains:
        """Compare inside of one setting."""
        parts = facts.claims.methods
        name = facts.best_in(metric, setting)

        def between(first: str | None, second: str | None) -> Difference | None:
            if first is None or second is None:
                return None
            return facts.between(metric, first, second, where=setting.__eq__)

        refused = facts.seeds_that_took(_UNIFORM, setting)
        return cls(
            setting=setting,
            room=between(parts.oracle, parts.uniform),
            learned=between(parts.learned, parts.uniform),
            ungated=between(parts.ungated, parts.uniform),
            best_name=name,
            best=between(name, parts.uniform),
            behind=between(parts.learned, name),
            taken=facts.seeds_that_took(_HEAD, setting),
            refused=refused,
            cost=_cost(facts, metric, setting, refused),
        )

    def row(self) -> list[str]:
        """A row of the table."""
        return [
            escaped(str(self.setting)),
            *map(_shown, (self.room, self.learned, self.ungated, self.best)),
            escaped(self.best_name or "-"),
            f"{len(self.taken)} of {len(self.taken) + len(self.refused)}",
        ]


def why(facts: ModelFacts) -> list[str]:
    """For each primary metric a table of what others gain over uniform, and a line a setting."""
    parts = [
        "All less uniform weights, in the runs that both have; each setting by itself, without "
        "correction for many looks. The oracle takes the planted bad rows away, and need not keep "
        "the least effective sample size that all other methods keep. The head's own weights are "
        "those it gives also where dev took uniform ones. The best baseline is the label-free one "
        "that is best in the setting, with hindsight."
    ]
    for metric in facts.claims.primary:
        gains = [Gains.of(facts, metric, setting) for setting in facts.settings]
        lines = [f"{one.setting}: {_told(facts, metric, one)}" for one in gains]
        parts += [
            f"{metric.name[:1].upper()}{metric.name[1:]}, in {metric.unit}; {metric.better} is "
            "better:",
            table(_HEADS, [one.row() for one in gains]),
            "\n".join(f"- {escaped(line)}" for line in lines),
        ]
    return parts


def _told(facts: ModelFacts, metric: Metric, gains: Gains) -> str:
    """What there was to gain, what learned weights took, what the gate cost, who does better."""
    if gains.room is None or gains.learned is None:
        return "no runs of oracle, learned and uniform weights."
    few = min(gains.room.n_seeds, gains.learned.n_seeds)
    if few < facts.claims.least_seeds:
        return f"{counted(few, 'seed')}, too few to say."
    said = [_room(facts, metric, gains), _taken(facts, metric, gains)]
    if gains.refused and gains.cost is not None:
        n = len(gains.taken) + len(gains.refused)
        said.append(
            f"Dev took uniform weights in {len(gains.refused)} of {counted(n, 'seed')}; there the "
            f"head's own would have changed it by {gains.cost:+.3f} in the mean."
        )
    if gains.behind and facts.judged(metric, gains.behind) == "loses":
        said.append(f"{gains.best_name} does better: learned less it {_shown(gains.behind)}.")
    return " ".join(said)


def _room(facts: ModelFacts, metric: Metric, gains: Gains) -> str:
    if gains.setting.noise == 0:
        return "Nothing bad was planted."
    assert gains.room is not None
    shown = _shown(gains.room)
    return {
        "wins": f"Taking the planted bad rows away gains {shown}.",
        "ties": f"Taking the planted bad rows away changes nothing beyond the margin, {shown}, so "
        "finding them is worth little here.",
        "loses": f"Taking the planted bad rows away loses {shown}: they help here.",
        "undecided": f"Whether taking the planted bad rows away gains anything is open, {shown}.",
    }[facts.judged(metric, gains.room)]


def _taken(facts: ModelFacts, metric: Metric, gains: Gains) -> str:
    assert gains.learned is not None
    assert gains.room is not None
    says = facts.judged(metric, gains.learned)
    share = ""
    if (
        says == facts.judged(metric, gains.room) == "wins"
        and gains.learned.n_runs == gains.room.n_runs
    ):
        share = f", {gains.learned.mean / gains.room.mean:.0%} of that"
    return {
        "wins": f"Learned weights gain {_shown(gains.learned)}{share}.",
        "ties": f"Learned weights tie with uniform ones, {_shown(gains.learned)}.",
        "loses": f"Learned weights lose {_shown(gains.learned)}.",
        "undecided": f"Whether learned weights gain is open, {_shown(gains.learned)}.",
    }[says]


def _cost(
    facts: ModelFacts, metric: Metric, setting: Setting, seeds: tuple[int, ...]
) -> float | None:
    """Mean of the head's own less learned weights over some seeds; None without runs."""
    parts = facts.claims.methods
    own, taken = (
        facts.runs(method, metric.path, where=setting.__eq__)
        for method in (parts.ungated, parts.learned)
    )
    both = [(str(setting), seed) for seed in seeds if (str(setting), seed) in own.keys() & taken]
    return float(np.mean([own[at].value - taken[at].value for at in both])) if both else None


def _shown(found: Difference | None) -> str:
    return "-" if found is None else with_interval(found.mean, found.interval)
