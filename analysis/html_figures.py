"""A figure as SVG in the colours of the page around it, light or dark with it."""

from __future__ import annotations

from typing import Final

from trajweight.analysis.html_text import escaped
from trajweight.analysis.marks import Axis, Boxes, Dots, Figure, Line

#: In units of the drawing, which scales with the page.
WIDTH: Final = 480
_HEIGHT: Final = 300
_STRIP: Final = 26
_TOP, _BOTTOM, _RIGHT = 8, 40, 22
#: Room left of the drawing for numbers, and for each character of a name.
_NUMBERS: Final = 74
_CHARACTER: Final = 8.2
_RADIUS: Final = 4.5


def drawn(figure: Figure) -> str:
    """The figure as an SVG element; its title and note are for the page to show.

    All text in it is escaped.
    """
    longest = max(len(text) for _, text in figure.y.ticks)
    left = 12 + _CHARACTER * longest if figure.is_named else _NUMBERS
    rows = figure.y.high - figure.y.low
    height = _TOP + _BOTTOM + rows * _STRIP if figure.is_named else _HEIGHT
    frame = _Frame(figure, left, height)
    marks = "".join(frame.mark(mark) for mark in figure.marks)
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escaped(figure.title)}">{frame.axes()}{marks}</svg>'
    )


def legend(figure: Figure) -> str:
    """The marks that have a name, each with its name, as an HTML list; empty where there is none.

    A list wraps on a narrow screen, and a legend inside the drawing would cover it.
    """
    items = []
    for mark in figure.marks:
        if mark.name:
            kind = _kind(mark)
            key = {
                "box": '<rect x="2" y="3" width="14" height="8"/>',
                "line": '<path d="M1 7H17"/>',
                "dot": f'<circle cx="9" cy="7" r="{_RADIUS}"/>',
            }[kind]
            sign = f'<svg viewBox="0 0 18 14" aria-hidden="true"><g class="{_classes(mark)}">{key}'
            items.append(f"<li>{sign}</g></svg>{escaped(mark.name)}</li>")
    return f'<ul class="legend">{"".join(items)}</ul>' if len(items) > 1 else ""


class _Frame:
    """Where the data of one figure come to lie in its drawing."""

    def __init__(self, figure: Figure, left: float, height: float) -> None:
        self.figure, self.left, self.height = figure, left, height

    def x(self, value: float) -> float:
        return _between(value, self.figure.x, self.left, WIDTH - _RIGHT)

    def y(self, value: float) -> float:
        return _between(value, self.figure.y, self.height - _BOTTOM, _TOP)

    def axes(self) -> str:
        """Thin lines at the ticks, with their words, and what the axes measure."""
        parts, x, y = [], self.figure.x, self.figure.y
        low, right = self.height - _BOTTOM, WIDTH - _RIGHT
        for value, text in x.ticks:
            at = self.x(value)
            parts.append(f'<path class="grid" d="M{at:.1f} {_TOP}V{low:.1f}"/>')
            parts.append(_text(at, low + 15, text, "middle"))
        for value, text in y.ticks:
            at = self.y(value)
            if not self.figure.is_named:
                parts.append(f'<path class="grid" d="M{self.left} {at:.1f}H{right}"/>')
            parts.append(_text(self.left - 8, at + 4, text, "end"))
        parts.append(_text((self.left + right) / 2, self.height - 6, x.label, "middle", "label"))
        if y.label:
            middle = (_TOP + low) / 2
            parts.append(
                f'<text class="label" text-anchor="middle" '
                f'transform="translate(13 {middle:.1f}) rotate(-90)">{escaped(y.label)}</text>'
            )
        return "".join(parts)

    def mark(self, mark: Boxes | Line | Dots) -> str:
        if isinstance(mark, Boxes):
            shapes = "".join(self._box(*box) for box in mark.boxes)
        elif isinstance(mark, Line):
            spots = (f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in mark.points)
            shapes = f'<path d="M{"L".join(spots)}"/>'
        else:
            shapes = "".join(
                f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{_RADIUS}"/>'
                for x, y in mark.points
            )
            for (x, y), text in zip(mark.points, mark.texts, strict=False):
                # toward the middle of the drawing, where there is room
                is_right = self.x(x) > (self.left + WIDTH) / 2
                is_low = self.y(y) > self.height / 2
                at, line = (-8 if is_right else 8), (17 if is_low else -9)
                anchor = "end" if is_right else "start"
                shapes += _text(self.x(x) + at, self.y(y) + line, text, anchor, "said")
        return f'<g class="{_classes(mark)}">{shapes}</g>'

    def _box(self, left: float, right: float, low: float, high: float) -> str:
        x, y = self.x(left), self.y(high)
        width, height = self.x(right) - x, self.y(low) - y
        gap = 1.0 if width > 6 else 0.0
        return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - gap:.1f}" height="{height:.1f}"/>'


def _between(value: float, axis: Axis, start: float, end: float) -> float:
    return start + (value - axis.low) / (axis.high - axis.low) * (end - start)


def _kind(mark: Boxes | Line | Dots) -> str:
    return "box" if isinstance(mark, Boxes) else "line" if isinstance(mark, Line) else "dot"


def _classes(mark: Boxes | Line | Dots) -> str:
    dashed = " dashed" if isinstance(mark, Line) and mark.is_dashed else ""
    hollow = " hollow" if isinstance(mark, Dots) and mark.is_hollow else ""
    return f"{_kind(mark)} {mark.role}{dashed}{hollow}"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text class="{kind}" {place} text-anchor="{anchor}">{escaped(text)}</text>'
