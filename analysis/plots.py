"""The figures of a report as PNG and SVG files, for a talk or a paper.

Colours are those of Okabe and Ito, which people with any kind of colour vision tell apart. The
same facts give the same bytes of SVG with the same matplotlib.
"""

from __future__ import annotations

import io
import math
import textwrap
from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.figures import figures
from trajweight.analysis.marks import Boxes, Dots, Figure, Line
from trajweight.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

#: Okabe and Ito, Color Universal Design, 2008; grey for what is only there to compare with.
COLOURS: Final = {
    "main": "#0072B2",
    "other": "#D55E00",
    "good": "#009E73",
    "bad": "#D55E00",
    "quiet": "#6B6B6B",
    "band": "#A8CDE5",
}
FORMATS: Final = ("png", "svg")
DPI: Final = 160
#: Characters of a line of a title.
_TITLE: Final = 68
SETTINGS: Final[Any] = {
    "svg.hashsalt": "trajweight",  # ids inside the file are drawn from it
    "svg.fonttype": "path",  # looks the same where the font is not there
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8C8C8C",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "xtick.color": "#404040",
    "ytick.color": "#404040",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.unicode_minus": False,
}


def save_plots(facts: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write every figure that the facts suffice for, as PNG and as SVG.

    Args:
        facts: Those of `report.report_facts`.
        folder: Made where it is not there; files of the same names are replaced.

    Returns:
        The files, in the order of the figures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for figure in figures(facts):
        for kind, content in _files(figure).items():
            path = folder / f"{figure.name}.{kind}"
            write_atomically(path, content)
            paths.append(path)
    return paths


def _files(figure: Figure) -> dict[str, bytes]:
    """The bytes of one figure by ending."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    found = {}
    # the user's own style shall not change what a run's plots look like
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        n_rows = figure.y.high - figure.y.low
        size = (7.0, 1.9 + 0.34 * n_rows) if figure.is_named else (7.0, 4.6)
        sheet = Sheet(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(sheet)
        _draw(sheet, figure)
        for kind in FORMATS:
            stream = io.BytesIO()
            # neither a date nor a version, which would make other bytes of the same figure
            nothing: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
            sheet.savefig(stream, format=kind, metadata=nothing)
            found[kind] = stream.getvalue()
    return found


def _draw(sheet: Sheet, figure: Figure) -> None:
    """All of a figure."""
    axes = sheet.add_subplot()
    axes.set_xlim(figure.x.low, figure.x.high)
    axes.set_ylim(figure.y.low, figure.y.high)
    for mark in figure.marks:
        _DRAWN[type(mark)](axes, mark)
    axes.set_xticks([at for at, _ in figure.x.ticks], [text for _, text in figure.x.ticks])
    axes.set_yticks([at for at, _ in figure.y.ticks], [text for _, text in figure.y.ticks])
    axes.set_xlabel(figure.x.label)
    axes.set_ylabel(figure.y.label)
    if figure.is_named:
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    n_lines = math.ceil(len(figure.title) / _TITLE)
    title = textwrap.wrap(figure.title, math.ceil(len(figure.title) / n_lines) + 6)
    sheet.suptitle("\n".join(title), x=0.01, ha="left", fontsize=12, fontweight="bold")
    if len(axes.get_legend_handles_labels()[0]) > 1:
        # outside, where it never covers a mark
        sheet.legend(loc="outside lower center", frameon=False, ncols=3, fontsize=9)


def _boxes(axes: Axes, mark: Boxes) -> None:
    from matplotlib.collections import PolyCollection

    corners = [[(a, c), (b, c), (b, d), (a, d)] for a, b, c, d in mark.boxes]
    axes.add_collection(
        PolyCollection(
            corners,
            facecolor=COLOURS[mark.role],
            edgecolor="white",
            linewidth=0.5,
            label=mark.name or "_",
        ),
        autolim=False,
    )


def _line(axes: Axes, mark: Line) -> None:
    axes.plot(
        *zip(*mark.points, strict=True),
        color=COLOURS[mark.role],
        linestyle="--" if mark.is_dashed else "-",
        linewidth=1.2 if mark.is_dashed else 2.0,
        label=mark.name or "_",
    )


def _dots(axes: Axes, mark: Dots) -> None:
    colour = COLOURS[mark.role]
    axes.plot(
        *zip(*mark.points, strict=True),
        color=colour,
        linestyle="none",
        marker="o",
        markersize=7,
        markerfacecolor="white" if mark.is_hollow else colour,
        markeredgecolor=colour if mark.is_hollow else "white",
        label=mark.name or "_",
    )
    for point, text in zip(mark.points, mark.texts, strict=False):
        # toward the middle of the drawing, where there is room
        x, y = axes.transLimits.transform(point)
        place, side = (-7 if x > 0.5 else 7, -13 if y < 0.5 else 8), "right" if x > 0.5 else "left"
        axes.annotate(text, point, xytext=place, textcoords="offset points", ha=side)


_DRAWN: Final[dict[type, Any]] = {Boxes: _boxes, Line: _line, Dots: _dots}
