"""The figures of the page of results, as PNG and SVG: clear in grey, each axis with its unit.

What must be told apart differs in mark and in line as well as in colour. The same facts give the
same bytes of SVG with the same matplotlib.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.plots import COLOURS, DPI, FORMATS, SETTINGS
from trajweight.bench.results_facts import excludes_zero
from trajweight.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

    from trajweight.bench.results_cells import Metric, Setting
    from trajweight.bench.results_facts import ModelFacts
    from trajweight.bench.statistics import Level

#: Colour, mark and line of learned, uniform, permuted, the best label-free baseline and oracle.
_STYLES: Final = (
    (COLOURS["main"], "o", "-"),
    ("#000000", "s", "--"),
    (COLOURS["quiet"], "v", ":"),
    (COLOURS["other"], "D", "-."),
    (COLOURS["good"], "^", (0, (6, 2, 1, 2, 1, 2))),
)
#: Panels beside each other, at the most.
_MOST_COLUMNS: Final = 3
_PANEL: Final = (3.3, 2.7)
#: How far series stand apart at one place of an axis, as a part of its length.
_APART: Final = 0.012
#: Above this area a cell of the map is light, and what stands on it dark.
_LIGHT: Final = 0.45
#: Dots of one row are spread over this part of its height, by seed.
_SPREAD: Final = 0.5


def save_figures(facts: ModelFacts, folder: Path) -> list[Path]:
    """Write every figure of a model that its cells suffice for.

    Args:
        facts: What its cells say.
        folder: Made where it is not there; files of the same names are replaced.

    Returns:
        The files; their names begin with the model's.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    paths = []
    # the user's own style shall not change what the page looks like
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        for name, size, draw in _figures(facts):
            sheet = Sheet(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
            FigureCanvasAgg(sheet)
            draw(sheet)
            for kind in FORMATS:
                path = folder / f"{slug(facts.model)}-{name}.{kind}"
                stream = io.BytesIO()
                # neither a date nor a version, which would make other bytes of the same figure
                nothing: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
                sheet.savefig(stream, format=kind, metadata=nothing)
                write_atomically(path, stream.getvalue())
                paths.append(path)
    return paths


def slug(name: str) -> str:
    """A name as part of a file's name.

    Example:
        >>> slug("Test NLL")
        'test-nll'
    """
    return "-".join("".join(each if each.isalnum() else " " for each in name.lower()).split())


def _figures(
    facts: ModelFacts,
) -> Iterator[tuple[str, tuple[float, float], Callable[[Sheet], None]]]:
    """Name, size in inches and drawing of each figure."""
    n_lines, n_columns = _shape(facts)
    wide = _PANEL[0] * n_columns + 0.6
    size = max(wide, 6.5), _PANEL[1] * n_lines + 0.9
    for metric in facts.claims.primary:
        key = slug(metric.name)
        there = facts.findings[metric.name]
        if there:
            high = 1.5 + 0.3 * len(there)
            yield f"differences-{key}", (7.0, high), _bound(_differences, facts, metric)
        by_noise = [one for one in facts.settings if one.n_validation == facts.usual_validation]
        if len({one.noise for one in by_noise}) > 1:
            yield f"noise-{key}", size, _bound(_by_noise, facts, metric)
        by_number = [one for one in facts.settings if one.noise == facts.usual_noise]
        if len({one.n_validation for one in by_number}) > 1:
            yield f"validation-{key}", size, _bound(_by_validation, facts, metric)
        n_methods = sum(bool(facts.runs(method, metric.path)) for method in facts.methods)
        if n_methods:
            high = (1.0 + 0.27 * n_methods) * n_lines + 0.5
            yield f"runs-{key}", (max(wide, 7.0), high), _bound(_runs, facts, metric)
    areas = facts.kinds("auroc_by_kind")
    if any(areas.values()):
        n_kinds = len({kind for values in areas.values() for kind in values})
        high = 2.4 + 0.3 * len(areas)
        yield "auroc", (3.0 + 0.5 * (n_kinds + 1), high), lambda sheet: _areas(sheet, facts)


def _bound(
    draw: Callable[[Sheet, ModelFacts, Metric], None], facts: ModelFacts, metric: Metric
) -> Callable[[Sheet], None]:
    return lambda sheet: draw(sheet, facts, metric)


def _differences(sheet: Sheet, facts: ModelFacts, metric: Metric) -> None:
    """Learned less each baseline, the closest at the top; hollow where zero is not excluded."""
    there = facts.findings[metric.name]
    names = sorted(there, key=lambda name: -metric.sign * there[name].difference.mean)
    axes = sheet.add_subplot()
    for height, name in enumerate(names):
        found = there[name].difference
        is_sure = excludes_zero(found.interval)
        if found.interval is not None:
            ends = [found.interval.low, found.interval.high]
            axes.plot(ends, [height, height], color=COLOURS["main"], linewidth=1.8)
        axes.plot(
            [found.mean],
            [height],
            linestyle="none",
            marker="o",
            markersize=7,
            color=COLOURS["main"],
            markerfacecolor=COLOURS["main"] if is_sure else "white",
        )
    axes.axvline(0.0, color="#000000", linewidth=1.0)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")
    side = "left" if metric.better == "lower" else "right"
    axes.set_xlabel(
        f"{metric.name}, learned less baseline, in {metric.unit}\n"
        f"({side} of zero learned is better; hollow: the 95 % interval holds zero)"
    )
    _title(sheet, facts, f"{metric.name}: learned weights against each baseline")


def _by_noise(sheet: Sheet, facts: ModelFacts, metric: Metric) -> None:
    kept = facts.usual_validation
    _curves(
        sheet,
        facts,
        metric,
        x_of=lambda one: 100.0 * one.noise,
        is_kept=lambda one: one.n_validation == kept,
        label=f"noise, % of rows\n({kept:g} validation trajectories)",
    )
    _title(sheet, facts, f"{metric.name} against noise (bars: 95 % intervals)")


def _by_validation(sheet: Sheet, facts: ModelFacts, metric: Metric) -> None:
    kept = facts.usual_noise
    _curves(
        sheet,
        facts,
        metric,
        x_of=lambda one: float(one.n_validation),
        is_kept=lambda one: one.noise == kept,
        label=f"validation trajectories, number\n({kept:.0%} noise)",
        is_log=True,
    )
    _title(sheet, facts, f"{metric.name} against validation trajectories (bars: 95 % intervals)")


def _curves(
    sheet: Sheet,
    facts: ModelFacts,
    metric: Metric,
    *,
    x_of: Callable[[Setting], float],
    is_kept: Callable[[Setting], bool],
    label: str,
    is_log: bool = False,
) -> None:
    """A line a method against something that was varied, a panel an environment."""
    parts = facts.claims.methods
    names = (
        parts.learned,
        parts.uniform,
        parts.permuted,
        facts.best.get(metric.name, ""),
        parts.oracle,
    )
    settings = [setting for setting in facts.settings if is_kept(setting)]
    places = sorted({x_of(setting) for setting in settings})
    panels = _panels(sheet, facts, label)
    for axes, environment in panels:
        if is_log:
            axes.set_xscale("log")
        for at, (name, (colour, mark, line)) in enumerate(zip(names, _STYLES, strict=True)):
            shift = (at - 2) * _APART
            points: list[tuple[float, Level]] = []
            for setting in settings:
                if setting.environment == environment and name in facts.methods:
                    found = facts.level(name, metric.path, where=setting.__eq__)
                    if found is not None:
                        points.append((_moved(x_of(setting), places, shift, is_log), found))
            points.sort(key=lambda point: point[0])
            if not points:
                continue
            for x, found in points:
                if found.interval is not None:
                    ends = [found.interval.low, found.interval.high]
                    axes.plot([x, x], ends, color=colour, linewidth=1.0)
            axes.plot(
                [x for x, _ in points],
                [found.mean for _, found in points],
                color=colour,
                linestyle=line,
                linewidth=1.5,
                marker=mark,
                markersize=5,
                markerfacecolor=colour if at == 0 else "white",
                label=name,
            )
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
    sheet.supylabel(f"{metric.name}, {metric.unit}", fontsize=10)
    _legend(sheet, [axes for axes, _ in panels])


def _runs(sheet: Sheet, facts: ModelFacts, metric: Metric) -> None:
    """A dot a run and a bar at the mean, a panel an environment."""
    names = [name for name in reversed(facts.methods) if facts.runs(name, metric.path)]
    label = f"{metric.name}, {metric.unit}"
    for at, (axes, environment) in enumerate(_panels(sheet, facts, label)):
        for height, name in enumerate(names):
            runs = facts.runs(name, metric.path, where=facts.inside(environment))
            spread = {
                seed: _SPREAD * ((place + 0.5) / len(facts.seeds) - 0.5)
                for place, seed in enumerate(facts.seeds)
            }
            axes.plot(
                [run.value for run in runs.values()],
                [height + spread[seed] for _, seed in runs],
                linestyle="none",
                marker="o",
                markersize=2.4,
                color=COLOURS["quiet"],
                alpha=0.55,
                markeredgewidth=0.0,
            )
            if runs:
                mean = sum(run.value for run in runs.values()) / len(runs)
                axes.plot([mean, mean], [height - 0.36, height + 0.36], color="#000000", lw=2.0)
        axes.set_yticks(
            range(len(names)), names if at % _shape(facts)[1] == 0 else [""] * len(names)
        )
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.tick_params(axis="y", length=0)
    _title(sheet, facts, f"{metric.name} of every run (bar: mean)")


def _areas(sheet: Sheet, facts: ModelFacts) -> None:
    """AUROC by method and kind, as a map in grey with its numbers."""
    areas, whole = facts.kinds("auroc_by_kind"), "all kinds"
    kinds = [whole, *sorted({kind for values in areas.values() for kind in values})]
    axes = sheet.add_subplot()
    grid = []
    for row, (method, values) in enumerate(areas.items()):
        level = facts.level(method, "weights.auroc")
        known = values | ({} if level is None else {whole: level.mean})
        grid.append([known.get(kind, math.nan) for kind in kinds])
        for column, kind in enumerate(kinds):
            if kind in known:
                dark = known[kind] <= _LIGHT
                axes.text(
                    column,
                    row,
                    f"{known[kind]:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "black",
                )
    image = axes.imshow(grid, cmap="gray", vmin=0.0, vmax=1.0, aspect="auto")
    sheet.colorbar(image, ax=axes, label="AUROC, 0.5 is luck", pad=0.02)
    axes.set_xticks(range(len(kinds)), kinds, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(areas)), list(areas))
    axes.grid(visible=False)
    axes.set_xlabel("kind of bad row")
    _title(sheet, facts, "AUROC of the weights by kind")


def _shape(facts: ModelFacts) -> tuple[int, int]:
    """Lines and columns of panels, one for each environment."""
    n = len(facts.environments)
    n_lines = math.ceil(n / _MOST_COLUMNS)
    return n_lines, math.ceil(n / n_lines)


def _panels(sheet: Sheet, facts: ModelFacts, label: str) -> list[tuple[Axes, str]]:
    """Axes for each environment, with the label of x below the lowest of each column."""
    n_lines, n_columns = _shape(facts)
    panels = []
    for at, environment in enumerate(facts.environments):
        axes = sheet.add_subplot(n_lines, n_columns, at + 1)
        axes.set_title(environment, fontsize=10)
        if at + n_columns >= len(facts.environments):
            axes.set_xlabel(label, fontsize=9)
        panels.append((axes, environment))
    return panels


def _moved(x: float, places: list[float], part: float, is_log: bool) -> float:
    """A place moved by a part of the whole axis, so that series do not cover each other."""
    if is_log:
        return float(x * (places[-1] / places[0]) ** part)
    return x + (places[-1] - places[0]) * part


def _legend(sheet: Sheet, panels: list[Axes]) -> None:
    """One legend for all panels, outside, where it never covers a mark."""
    shown: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    sheet.legend(
        list(shown.values()),
        list(shown),
        loc="outside lower center",
        frameon=False,
        ncols=len(shown),
        fontsize=9,
        handlelength=3.5,
    )


def _title(sheet: Sheet, facts: ModelFacts, text: str) -> None:
    sheet.suptitle(f"{facts.model}: {text}", x=0.01, ha="left", fontsize=11, fontweight="bold")
