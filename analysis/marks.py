"""A figure as marks on two axes: what to draw, not how.

`html_figures` draws the marks as SVG inside of a page, `plots` by matplotlib; neither computes
anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    Point = tuple[float, float]

#: What a mark stands for; whoever draws it gives each a colour.
Role = Literal["main", "other", "good", "bad", "quiet", "band"]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Filled boxes.

    Attributes:
        role: What they stand for.
        boxes: Each as lower x, upper x, lower y, upper y.
        name: What the legend calls them; empty for none.
    """

    role: Role
    boxes: tuple[tuple[float, float, float, float], ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points.

    Attributes:
        role: What it stands for.
        points: In order.
        name: What the legend calls it; empty for none.
        is_dashed: Drawn in dashes, as something to compare with.
    """

    role: Role
    points: tuple[Point, ...]
    name: str = ""
    is_dashed: bool = False


@dataclass(frozen=True, slots=True)
class Dots:
    """Round marks.

    Attributes:
        role: What they stand for.
        points: Where they are.
        name: What the legend calls them; empty for none.
        texts: A word beside each, or none.
        is_hollow: Drawn as rings.
    """

    role: Role
    points: tuple[Point, ...]
    name: str = ""
    texts: tuple[str, ...] = ()
    is_hollow: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a figure.

    Attributes:
        label: What it measures, with the unit.
        low: Where it begins.
        high: Where it ends.
        ticks: Where it is marked, with the words there.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """Marks on two axes.

    Attributes:
        name: Short and unique; also of its file.
        title: The finding, as a sentence.
        note: How to read it.
        x: To the right.
        y: Upward; an axis of names runs from its first name at 0 downward, in steps of one.
        marks: In the order they are drawn.
        is_named: Whether ``y`` is an axis of names.
    """

    name: str
    title: str
    note: str
    x: Axis
    y: Axis
    marks: tuple[Boxes | Line | Dots, ...]
    is_named: bool = False


def ticks(low: float, high: float) -> tuple[tuple[float, str], ...]:
    """Round numbers between two ends, four to eleven of them, with the words for them.

    Example:
        >>> ticks(0.0, 1.0)
        ((0.0, '0.0'), (0.2, '0.2'), (0.4, '0.4'), (0.6, '0.6'), (0.8, '0.8'), (1.0, '1.0'))
    """
    widest = (high - low) / 4
    scale = 10.0 ** math.floor(math.log10(widest))
    step = scale * max(each for each in (1, 2, 5) if each * scale <= widest * (1.0 + 1e-9))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    steps = (round(at * step, 12) for at in range(first, last + 1))
    return tuple((value, f"{value:.{digits}f}") for value in steps)
