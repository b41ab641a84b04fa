"""The sections of a model on the page of results, each a table or a figure with its words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from trajweight.analysis.markdown import escaped, table
from trajweight.bench.results_claims import clean, counted, ends_of, goal, with_interval
from trajweight.bench.results_facts import ALL, AUROC, VERDICTS, may_claim
from trajweight.bench.results_figures import slug
from trajweight.bench.results_share import share
from trajweight.bench.results_transfer import transfer
from trajweight.bench.results_why import why
from trajweight.jsontext import decode

if TYPE_CHECKING:
    from trajweight.bench.results_cells import Metric
    from trajweight.bench.results_facts import ModelFacts
    from trajweight.bench.statistics import Difference

#: The folder of the figures, beside the page.
FIGURES: Final = "figures"
_MB: Final = 1e6


def of_model(facts: ModelFacts, pictures: set[str]) -> list[str]:
    """All sections of a model."""

    def shown(name: str, words: str) -> str:
        stem = f"{slug(facts.model)}-{name}"
        return f"![{escaped(words)}]({FIGURES}/{stem}.png)" if stem in pictures else ""

    parts = [f"## Model {escaped(facts.model)}"]
    for metric in facts.claims.primary:
        key = slug(metric.name)
        parts += [
            f"### {_capital(metric.name)}: learned less each baseline",
            f"In {metric.unit}; {metric.better} is better, so that a difference "
            f"{'below' if metric.better == 'lower' else 'above'} zero speaks for learned weights. "
            "Improvement is the share of pairs of the same seed in which they are better, and of "
            "any two seeds in brackets. Holm p corrects over the rows of this table.",
            _comparisons(facts, metric),
            shown(f"differences-{key}", f"{metric.name}: learned less each baseline"),
            f"### {_capital(metric.name)} by environment",
            _levels(facts, metric),
            shown(f"noise-{key}", f"{metric.name} against the share of noise"),
            shown(
                f"validation-{key}", f"{metric.name} against the number of validation trajectories"
            ),
        ]
    parts += ["### Where it wins, ties and loses", *_where(facts)]
    parts += ["### Why: what was to be gained", *why(facts)]
    if shares := share(facts):
        parts += ["### The share of real rows", *shares]
    parts += ["### Without noise", escaped(clean(facts))]
    parts += ["### Whom the weights find", *_found(facts), shown("auroc", "AUROC by kind")]
    if transferred := transfer(facts):
        parts += ["### Weights transferred to a larger model", *transferred]
    if facts.ablated:
        parts += ["### Ablations", _ablations(facts)]
    parts += ["### Time and memory", _costs(facts)]
    parts += ["### Every run"]
    parts += [
        shown(f"runs-{slug(metric.name)}", f"{metric.name} of every run")
        for metric in facts.claims.primary
    ]
    n_cells = len(facts.cells) + len(facts.ablated) + len(facts.transferred)
    parts.append(folded(f"All {n_cells} cells of {escaped(facts.model)}", _every_run(facts)))
    return parts


def _comparisons(facts: ModelFacts, metric: Metric) -> str:
    """Learned less each baseline over the whole grid, the closest first."""
    there = facts.findings[metric.name]
    rows = []
    for name in sorted(there, key=lambda name: metric.sign * there[name].difference.mean):
        found = there[name].difference
        better, of_any = (
            share if metric.sign > 0 else 1.0 - share
            for share in (found.improvement, found.improvement_any)
        )
        rows.append(
            [
                escaped(name),
                f"{found.mean:+.3f}",
                ends_of(found.interval),
                f"{found.iqm:+.3f}",
                ends_of(found.iqm_interval),
                f"{better:.0%} ({of_any:.0%})",
                f"{found.p_value:.3g}",
                f"{there[name].holm:.3g}",
                f"{found.n_runs}",
                verdict_of(facts, metric, found),
            ]
        )
    heads = ("baseline", "mean", "interval", "IQM", "interval", "improvement", "p", "Holm p")
    return table((*heads, "pairs", "says"), rows) or "No runs to compare."


def verdict_of(facts: ModelFacts, metric: Metric, found: Difference) -> str:
    """What a comparison on the whole grid says, by the rule of claims."""
    if not may_claim(facts, found):
        return "open" if found.n_seeds >= facts.claims.least_seeds else "too few seeds"
    return "wins" if metric.sign * found.mean > 0 else "loses"


def _levels(facts: ModelFacts, metric: Metric) -> str:
    """Method by environment, the best over all first."""
    rows = []
    for method in facts.methods:
        cells = [
            facts.level(method, metric.path, where=facts.inside(environment))
            for environment in (*facts.environments, ALL)
        ]
        if cells[-1] is not None:
            text = [
                "-"
                if one is None
                else f"{with_interval(one.mean, one.interval, sign='')}, IQM {one.iqm:.3f}"
                for one in cells
            ]
            rows.append(
                (-metric.sign * cells[-1].mean, [escaped(method), *text, str(cells[-1].n_runs)])
            )
    heads = ("method", *map(escaped, facts.environments), "all settings", "runs")
    return table(heads, [row for _, row in sorted(rows)])


def _where(facts: ModelFacts) -> list[str]:
    """Verdicts in each setting, counted; wins, ties and losses by name, and all in a table."""
    parts = [
        "In each setting by itself, by its seeds alone and without correction for many looks. An "
        "interval within the margin is a tie, one that excludes zero a win or a loss, and any "
        f"other, or one of fewer than {facts.claims.least_seeds} seeds, is undecided."
    ]
    rows = []
    for metric in facts.claims.primary:
        for rival in facts.rivals(metric):
            named: dict[str, list[str]] = {way: [] for way in VERDICTS}
            for setting, one in facts.by_setting(metric, rival).items():
                way = facts.judged(metric, one)
                named[way].append(str(setting))
                line = [str(setting), metric.name, rival]
                told = with_interval(one.mean, one.interval)
                rows.append([*(escaped(text) for text in line), told, way])
            counts = ", ".join(f"{way} {len(named[way])}" for way in VERDICTS)
            lines = [
                f"**{escaped(_capital(metric.name))} against {escaped(rival)}** (margin "
                f"{metric.margin:g} {escaped(metric.unit)}), of "
                f"{counted(sum(map(len, named.values())), 'setting')}: {counts}.",
                "",
            ]
            lines += [
                f"- {way}: {escaped('; '.join(named[way]))}"
                for way in VERDICTS
                if named[way] and way != "undecided"
            ]
            parts.append("\n".join(lines).strip())
    heads = ("setting", "metric", "against", "learned less it", "learned")
    return [*parts, folded("Every setting", table(heads, rows)) if rows else ""]


def _found(facts: ModelFacts) -> list[str]:
    """AUROC overall and by kind, and what else the weights go with."""
    paths = ("auroc", "average_precision", "ess_fraction", "good_mass", "length_correlation")
    rows = []
    for method in facts.methods:
        levels = [facts.level(method, f"weights.{name}") for name in paths]
        if any(level is not None for level in levels):
            first = levels[0]
            rows.append(
                [
                    escaped(method),
                    "-" if first is None else with_interval(first.mean, first.interval, sign=""),
                    *("-" if one is None else f"{one.mean:.2f}" for one in levels[1:]),
                ]
            )
    heads = ("method", "AUROC", "average precision", "ESS/n", "mass on good", "length given kind")
    parts = [escaped(goal(facts)), table(heads, rows)]
    for part, words in (
        ("auroc_by_kind", "AUROC of all good rows against the bad rows of each kind:"),
        ("good_auroc_by_kind", "AUROC of the good rows of each kind against all bad rows:"),
        ("mean_by_kind", "Mean weight by kind:"),
    ):
        by_method = facts.kinds(part)
        kinds = sorted({kind for values in by_method.values() for kind in values})
        lines = [
            [
                escaped(method),
                *(f"{values[kind]:.2f}" if kind in values else "-" for kind in kinds),
            ]
            for method, values in by_method.items()
        ]
        if lines:
            parts += [words, table(("method", *map(escaped, kinds)), lines)]
    return parts


def _ablations(facts: ModelFacts) -> str:
    """Each ablation less the same method without it."""
    rows: dict[tuple[str, str], list[str]] = {}
    metrics = facts.claims.primary
    for at, metric in enumerate(metrics):
        for key, found in facts.ablations(metric).items():
            row = rows.setdefault(key, ["-"] * 2 * len(metrics))
            row[2 * at] = with_interval(found.mean, found.interval)
            row[2 * at + 1] = facts.judged(metric, found)
    heads = ["method", "changed", *(head for each in metrics for head in (each.name, "says"))]
    lines = [
        [escaped(method), escaped(changed(what)), *row]
        for (method, what), row in sorted(rows.items())
    ]
    return table(heads, lines) or "No ablation shares a run with its method."


def _costs(facts: ModelFacts) -> str:
    """Medians of the seconds and the highest peak, by method."""
    uniform = facts.claims.methods.uniform
    stages = ("scoring", "training", "playing")
    medians = {
        method: [
            float(np.median(values)) if values else None
            for values in (_numbers(facts, method, f"seconds.{stage}") for stage in stages)
        ]
        for method in facts.methods
    }
    totals = {
        method: None if times[0] is None or times[1] is None else times[0] + times[1]
        for method, times in medians.items()
    }
    rows = []
    for method in facts.methods:
        peaks = _numbers(facts, method, "peak_bytes")
        mine, base = totals[method], totals.get(uniform)
        rows.append(
            [
                escaped(method),
                *("-" if one is None else f"{one:.1f}" for one in medians[method]),
                f"{mine / base:.1f} x" if mine is not None and base else "-",
                f"{max(peaks) / _MB:.0f}" if peaks else "-",
            ]
        )
    heads = ("method", *(f"{stage}, s" for stage in stages))
    lead = (
        "Medians over runs; the ratio is of scoring and training to those of uniform weights; "
        "memory is the highest peak, in MB. Methods that weigh a pool alike share one training, "
        "and each is charged for it."
    )
    return f"{lead}\n\n" + table((*heads, "to uniform", "peak, MB"), rows)


def _numbers(facts: ModelFacts, method: str, path: str) -> list[float]:
    """The numbers at a path in a method's cells."""
    found = (cell.number(path) for cell in facts.cells if cell.method == method)
    return [value for value in found if value is not None]


def _every_run(facts: ModelFacts) -> str:
    """A line a cell."""
    rows = []
    for cell in (*facts.cells, *facts.ablated, *facts.transferred):
        name = cell.method if cell.ablation == "{}" else f"{cell.method}, {changed(cell.ablation)}"
        paths = (*(metric.path for metric in facts.claims.primary), "play.greedy.success", AUROC)
        values = [cell.number(path) for path in paths]
        rows.append(
            [
                escaped(str(cell.setting)),
                escaped(name),
                str(cell.seed),
                *("-" if value is None else f"{value:.3f}" for value in values),
            ]
        )
    names = [metric.name for metric in facts.claims.primary]
    return table(("setting", "method", "seed", *names, "greedy success", "AUROC"), rows)


def changed(ablation: str) -> str:
    """What an ablation changes, in words.

    Example:
        >>> changed('{"estimator":"loss-only","every":4}')
        'estimator = loss-only, every = 4'
    """
    return ", ".join(f"{key} = {value}" for key, value in decode(ablation).items())


def folded(title: str, text: str) -> str:
    """A part of the page that opens at a click."""
    return f"<details>\n<summary>{title}</summary>\n\n{text}\n\n</details>"


def _capital(text: str) -> str:
    """With a capital at its beginning, and none taken away behind."""
    return text[:1].upper() + text[1:]
