"""What the finished cells say: every comparison that the page tells, computed and judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from trajweight.bench.controls import AUTO_SHARE, TRANSFERRED
from trajweight.bench.statistics import Run, compare, holm, level, paired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from trajweight.analysis.resampling import Interval
    from trajweight.bench.results_cells import Cell, Claims, Metric, Setting
    from trajweight.bench.statistics import Difference, Level

    Runs = dict[tuple[str, int], Run]

Verdict = Literal["wins", "ties", "loses", "undecided"]
VERDICTS: Final[tuple[Verdict, ...]] = ("wins", "ties", "loses", "undecided")

#: Where a task's measures stand in its list.
_PLACES: Final = {"return": 0, "success": 1}
ALL: Final = "all"
AUROC: Final = "weights.auroc"


@dataclass(frozen=True, slots=True)
class Finding:
    """Learned weights against a baseline.

    Attributes:
        baseline: Name of the method.
        difference: Learned less baseline.
        holm: The p-value after Holm's correction over all baselines.
    """

    baseline: str
    difference: Difference
    holm: float


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How the AUROC of learned weights stands to the best cheap score of a setting.

    Attributes:
        setting: The setting.
        cheap: Its best cheap score.
        gap: Mean over common seeds, learned less cheap.
    """

    setting: Setting
    cheap: str
    gap: float


@dataclass(frozen=True)
class ModelFacts:
    """Everything of one model; found when it is asked for, and once.

    Attributes:
        model: Its name.
        claims: What was fixed before the runs.
        cells: Its cells without ablation.
        ablated: Its cells with one.
        transferred: Cells of a larger model that was trained on weights of this one.
    """

    model: str
    claims: Claims
    cells: tuple[Cell, ...]
    ablated: tuple[Cell, ...]
    transferred: tuple[Cell, ...] = ()

    @cached_property
    def settings(self) -> tuple[Setting, ...]:
        """All of the grid, sorted."""
        return tuple(sorted({cell.setting for cell in self.cells}))

    @cached_property
    def environments(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted({setting.environment for setting in self.settings}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """All that occur, rising."""
        return tuple(sorted({cell.seed for cell in self.cells}))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Learned, uniform, permuted and oracle first, as far as they are there."""
        parts = self.claims.methods
        first = [parts.learned, parts.uniform, parts.permuted, parts.oracle]
        found = {cell.method for cell in self.cells}
        return (*(name for name in first if name in found), *sorted(found - set(first)))

    @cached_property
    def _by_method(self) -> dict[str, list[Cell]]:
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(cell.method, []).append(cell)
        return found

    @cached_property
    def label_free(self) -> tuple[str, ...]:
        """Baselines that look at no return and no truth, but for uniform and permuted."""
        parts = self.claims.methods
        others = {parts.learned, parts.ungated, parts.uniform, parts.permuted, parts.oracle}
        others |= {*parts.reads_returns, *AUTO_SHARE}
        return tuple(name for name in self.methods if name not in others)

    @property
    def ranking(self) -> str:
        """Whose AUROC speaks for the head: uniform weights that dev chose rank nothing."""
        parts = self.claims.methods
        return parts.ungated if parts.ungated in self.methods else parts.learned

    @cached_property
    def baselines(self) -> tuple[str, ...]:
        """Holm's family: uniform, permuted and those that are label-free."""
        parts = self.claims.methods
        own = [name for name in (parts.uniform, parts.permuted) if name in self.methods]
        return (*own, *self.label_free)

    def runs(
        self, method: str, path: str, *, where: Callable[[Setting], bool] = lambda _: True
    ) -> Runs:
        """A method's runs by setting and seed, as far as they have the measure."""
        mine = self._by_method.get(method, ())
        return _runs((one for one in mine if where(one.setting)), path)

    def difference(
        self, metric: Metric, baseline: str, *, where: Callable[[Setting], bool] = lambda _: True
    ) -> Difference | None:
        """Learned less baseline; None where they share no run."""
        return self.between(metric, self.claims.methods.learned, baseline, where=where)

    def between(
        self,
        metric: Metric,
        first: str,
        second: str,
        *,
        where: Callable[[Setting], bool] = lambda _: True,
    ) -> Difference | None:
        """One method less another; None where they share no run."""
        runs = (self.runs(name, metric.path, where=where) for name in (first, second))
        return self._compared(*runs)

    def level(
        self, method: str, path: str, *, where: Callable[[Setting], bool] = lambda _: True
    ) -> Level | None:
        """A method by itself; None where it has no run."""
        claims = self.claims
        return level(
            self.runs(method, path, where=where),
            settings=claims.settings,
            replicates=claims.replicates,
            seed=claims.seed,
        )

    @cached_property
    def findings(self) -> dict[str, dict[str, Finding]]:
        """By primary metric and baseline, with Holm's correction inside of each metric."""
        found = {}
        for metric in self.claims.primary:
            pairs = {name: self.difference(metric, name) for name in self.baselines}
            there = {name: one for name, one in pairs.items() if one is not None}
            adjusted = holm([one.p_value for one in there.values()])
            found[metric.name] = {
                name: Finding(name, one, p)
                for (name, one), p in zip(there.items(), adjusted, strict=True)
            }
        return found

    @cached_property
    def best(self) -> dict[str, str]:
        """The label-free baseline on which learned weights gain least, by primary metric."""
        found = {}
        for metric in self.claims.primary:
            gains = {
                name: metric.sign * one.difference.mean
                for name, one in self.findings[metric.name].items()
                if name in self.label_free
            }
            if gains:
                found[metric.name] = min(gains, key=gains.__getitem__)
        return found

    def best_in(self, metric: Metric, setting: Setting) -> str | None:
        """The label-free baseline that is best in a setting, of those with the most runs there."""
        there = {
            name: [run.value for run in found.values()]
            for name in self.label_free
            if (found := self.runs(name, metric.path, where=setting.__eq__))
        }
        most = max(map(len, there.values()), default=0)
        means = {name: float(np.mean(each)) for name, each in there.items() if len(each) == most}
        return max(means, key=lambda name: metric.sign * means[name], default=None)

    def seeds_that_took(self, what: str, setting: Setting) -> tuple[int, ...]:
        """Seeds of a setting in which dev took these weights, head or uniform, as learned ones."""
        return tuple(
            cell.seed
            for cell in self._by_method.get(self.claims.methods.learned, ())
            if cell.setting == setting and cell.record.get("selected") == what
        )

    def rivals(self, metric: Metric) -> list[str]:
        """Uniform, permuted and the best label-free baseline, as far as there are runs."""
        parts = self.claims.methods
        names = [parts.uniform, parts.permuted, self.best.get(metric.name, "")]
        return [name for name in names if name in self.findings[metric.name]]

    @staticmethod
    def inside(environment: str) -> Callable[[Setting], bool]:
        """Whether a setting is of an environment, or of any."""
        return lambda setting: environment in (ALL, setting.environment)

    def judged(self, metric: Metric, found: Difference) -> Verdict:
        """What an interval says, if it is of enough seeds."""
        is_enough = found.n_seeds >= self.claims.least_seeds
        return verdict(found.interval, metric) if is_enough else "undecided"

    def by_setting(self, metric: Metric, baseline: str) -> dict[Setting, Difference]:
        """The comparison inside of each setting."""
        found = {}
        for setting in self.settings:
            one = self.difference(metric, baseline, where=setting.__eq__)
            if one is not None:
                found[setting] = one
        return found

    def ablations(self, metric: Metric) -> dict[tuple[str, str], Difference]:
        """Each ablation less the same method without it, by method and ablation."""
        found = {}
        for method, ablation in sorted({(one.method, one.ablation) for one in self.ablated}):
            changed = (
                one for one in self.ablated if (one.method, one.ablation) == (method, ablation)
            )
            one = self._compared(_runs(changed, metric.path), self.runs(method, metric.path))
            if one is not None:
                found[method, ablation] = one
        return found

    def transfers(
        self, metric: Metric, first: str, second: str
    ) -> tuple[Difference | None, Difference | None]:
        """One method less another under the larger model, and under the model itself.

        The same settings and seeds on both sides; None where there are none.

        Args:
            metric: Of the difference.
            first: Name of a method whose weights are transferred.
            second: Another.
        """
        larger, own = (
            [_runs((cell for cell in cells if cell.method == of), metric.path) for of in names]
            for cells, names in (
                (self.transferred, (first, second)),
                (self.cells, (TRANSFERRED[first], TRANSFERRED[second])),
            )
        )
        common = larger[0].keys() & larger[1].keys() & own[0].keys() & own[1].keys()

        def among(runs: Runs) -> Runs:
            return {key: run for key, run in runs.items() if key in common}

        return self._compared(*map(among, larger)), self._compared(*map(among, own))

    @cached_property
    def shortfalls(self) -> list[Shortfall]:
        """Learned less the best cheap score in AUROC, the worst setting first."""
        found = []
        for setting in self.settings:
            gaps = {}
            for name in self.claims.methods.cheap:
                pairs = paired(
                    self.runs(self.ranking, AUROC, where=setting.__eq__),
                    self.runs(name, AUROC, where=setting.__eq__),
                )
                if pairs.settings:
                    gaps[name] = float(pairs.differences.mean())
            if gaps:
                cheap = min(gaps, key=gaps.__getitem__)
                found.append(Shortfall(setting, cheap, gaps[cheap]))
        return sorted(found, key=lambda one: one.gap)

    def kinds(self, part: str) -> dict[str, dict[str, float]]:
        """Means over cells of a measure by kind, such as auroc_by_kind: by method and kind."""
        found: dict[str, dict[str, float]] = {}
        for method in self.methods:
            values: dict[str, list[float]] = {}
            for cell in self.cells:
                by_kind = cell.at(f"weights.{part}") if cell.method == method else None
                for kind, value in (by_kind or {}).items():
                    if value is not None:
                        values.setdefault(kind, []).append(value)
            if values:
                found[method] = {kind: float(np.mean(each)) for kind, each in values.items()}
        return found

    @cached_property
    def usual_noise(self) -> float:
        """The noise of most cells, at which the number of validation trajectories is varied."""
        return _commonest([cell.setting.noise for cell in self.cells])

    @cached_property
    def usual_validation(self) -> float:
        """The number of validation trajectories of most cells, at which noise is varied."""
        return _commonest([cell.setting.n_validation for cell in self.cells])

    def _compared(self, first: Runs, second: Runs) -> Difference | None:
        claims = self.claims
        return compare(
            paired(first, second),
            settings=claims.settings,
            replicates=claims.replicates,
            seed=claims.seed,
        )


def facts_of(cells: Iterable[Cell], claims: Claims) -> list[ModelFacts]:
    """The cells of each model apart, models sorted by name."""
    by_model: dict[str, list[Cell]] = {}
    for cell in cells:
        by_model.setdefault(cell.model, []).append(cell)
    return [
        ModelFacts(
            model,
            claims,
            tuple(cell for cell in mine if cell.ablation == "{}" and not _is_of_larger(cell)),
            tuple(cell for cell in mine if cell.ablation != "{}"),
            tuple(cell for cell in mine if _is_of_larger(cell)),
        )
        for model, mine in sorted(by_model.items())
    ]


def _is_of_larger(cell: Cell) -> bool:
    return cell.method in TRANSFERRED


def verdict(interval: Interval | None, metric: Metric) -> Verdict:
    """What an interval says: a tie lies within the margin, a win or a loss excludes zero."""
    if interval is None:
        return "undecided"
    low, high = sorted((metric.sign * interval.low, metric.sign * interval.high))
    if -metric.margin <= low and high <= metric.margin:
        return "ties"
    return "wins" if low > 0 else "loses" if high < 0 else "undecided"


def may_claim(facts: ModelFacts, found: Difference) -> bool:
    """The rule: enough seeds, and an interval that excludes zero."""
    return found.n_seeds >= facts.claims.least_seeds and excludes_zero(found.interval)


def excludes_zero(interval: Interval | None) -> bool:
    """Whether all of it lies on one side of zero."""
    return interval is not None and (interval.low > 0 or interval.high < 0)


def _runs(cells: Iterable[Cell], path: str) -> Runs:
    """Values at a path, with those of each task where the cell tells them."""
    whole, _, last = path.rpartition(".")
    place = _PLACES.get(last) if whole.startswith("play.") else None
    found = {}
    for cell in cells:
        value = cell.number(path)
        if value is not None:
            tasks: Mapping[str, list[float]] = (
                (cell.at(f"{whole}.by_task") or {}) if place is not None else {}
            )
            by_task = {task: float(each[place or 0]) for task, each in tasks.items()}
            found[str(cell.setting), cell.seed] = Run(value, by_task)
    return found


def _commonest(values: list[float]) -> float:
    """The value that occurs most often, the least of those that do."""
    found, counts = np.unique(np.array(values), return_counts=True)
    return float(found[counts.argmax()])
