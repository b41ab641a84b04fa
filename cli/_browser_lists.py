"""Two widgets that draw only the lines on the screen: all rows of a run, and the lines of one row.

Neither holds a widget or a text a row, so a million rows cost no more than what is seen of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from trajweight.analysis.excerpts import inert
from trajweight.cli._browsing import COLUMNS, Sorting
from trajweight.cli._tables import clipped
from trajweight.cli._trajectory_view import percentile_text, turn_starts

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
    from textual import events
    from textual.binding import BindingType

    from trajweight.cli._browsing import Column
    from trajweight.cli._trajectory_view import Line

#: Columns of the terminal by column of the table; the id has what is left.
_WIDTHS: Final = {
    "weight": 6,
    "percentile": 4,
    "origin": 6,
    "source": 12,
    "split": 10,
    "n_turns": 5,
    "n_tokens": 6,
    "reward": 6,
}
#: Characters of a name that are looked at; the width decides which of them are shown.
_NAME: Final = 300
_LEAST_ID: Final = 8
#: What shows that a row is marked, and the width of its column.
_MARK, _MARK_WIDTH = "*", 2
_SHORT: Final = {"synthetic": "synth"}
_PLAIN, _BOLD = Style.null(), Style(bold=True)
_LOOKS: Final = {
    "title": _BOLD,
    "label": _PLAIN,
    "plain": _PLAIN,
    "turn": Style(bold=True, underline=True),
    "reasoning": Style(italic=True),
    "call": _BOLD,
    "remark": Style(bold=True),
}


class RowList(ScrollView, can_focus=True):
    """The rows that are shown, under a heading that stays; one of them is at the cursor.

    Attributes:
        cursor: Position of that row among those shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "to_end(False)", "First row", show=False),
        Binding("end", "to_end(True)", "Last row", show=False),
    ]
    DEFAULT_CSS = "RowList { overflow-x: hidden; overflow-y: scroll; }"

    cursor: reactive[int] = reactive(0, init=False)

    class Moved(Message):
        """The cursor stands at another row, or the rows have changed."""

    class Opened(Message):
        """The row at the cursor was chosen with the mouse."""

    class HeadingClicked(Message):
        """A heading was clicked.

        Attributes:
            column: Name of the column.
        """

        def __init__(self, column: str) -> None:
            """Keep the name."""
            super().__init__()
            self.column = column

    def __init__(self, rows: pl.DataFrame, marked: Container[str], *, id: str) -> None:
        """Show rows of this table; which, ``show`` says."""
        super().__init__(id=id)
        self._rows = rows
        self._marked = marked
        self._sorting = Sorting()
        self.order: NDArray[np.int64] = rows["place"].to_numpy()[:0]

    @property
    def place(self) -> int | None:
        """The row at the cursor; None where no row is shown."""
        return int(self.order[self.cursor]) if len(self.order) else None

    def show(self, order: NDArray[np.int64], sorting: Sorting, *, at: int) -> None:
        """Show other rows, or the same in another order.

        Args:
            order: Their places.
            sorting: What the headings say of the order.
            at: Position of the cursor.
        """
        self.order, self._sorting = order, sorting
        self.virtual_size = Size(0, len(order) + 1)
        self.set_reactive(RowList.cursor, at)
        self._follow()
        self.refresh()
        self.post_message(self.Moved())

    def validate_cursor(self, cursor: int) -> int:
        """The cursor stays on the rows."""
        return max(0, min(cursor, len(self.order) - 1))

    def watch_cursor(self) -> None:
        """Keep the cursor in sight and say that it moved."""
        self._follow()
        self.refresh()
        self.post_message(self.Moved())

    def action_move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        self.cursor += by

    def action_page(self, by: int) -> None:
        """Move the cursor by so many screens."""
        self.cursor += by * max(self._n_seen - 1, 1)

    def action_to_end(self, is_last: bool) -> None:
        """Move the cursor to the first or the last row."""
        self.cursor = len(self.order) - 1 if is_last else 0

    def on_resize(self) -> None:
        """Keep the cursor in sight."""
        self._follow()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is; twice opens the row, and a heading sorts by it."""
        if event.y == 0:
            self._click_heading(event.x)
            return
        at = round(self.scroll_y) + event.y - 1
        if at < len(self.order):
            self.cursor = at
            if event.chain > 1:
                self.post_message(self.Opened())

    def render_line(self, y: int) -> Strip:
        """A line of the widget, the heading at the top."""
        width = self.scrollable_content_region.width
        base = self.rich_style
        if y == 0:
            return _strip(self._heading(width), width, base + _BOLD)
        at = round(self.scroll_y) + y - 1
        if at >= len(self.order):
            return _strip("" if at or y > 1 else "  No row is shown.", width, base)
        row = self._rows.row(int(self.order[at]), named=True)
        is_marked = row["traj_id"] in self._marked
        text = f"{_MARK if is_marked else '':{_MARK_WIDTH}}{self._cells(row, width)}"
        style = base + _BOLD if is_marked else base
        return _strip(text, width, style + Style(reverse=True) if at == self.cursor else style)

    @property
    def _n_seen(self) -> int:
        """How many rows are on the screen."""
        return max(self.scrollable_content_region.height - 1, 1)

    def _follow(self) -> None:
        """Scroll as little as brings the cursor into sight."""
        top = round(self.scroll_target_y)
        top = min(top, self.cursor, max(len(self.order) - self._n_seen, 0))
        top = max(top, self.cursor - self._n_seen + 1)
        self.scroll_to(y=top, animate=False, force=True)

    def _heading(self, width: int) -> str:
        """The titles; an arrow behind one tells that rows are sorted by it, and which way."""
        text = " " * _MARK_WIDTH
        for column, room in _rooms(width):
            arrow = "▼" if self._sorting.is_descending else "▲"
            is_deciding = column.name == self._sorting.column
            shown = column.title
            if column.name == COLUMNS[-1].name:  # the last one may be cut off at its right
                text += shown + (arrow if is_deciding else "")
            else:
                text += _cell(shown, room, is_right=column.is_number)
                text += arrow if is_deciding else " "
        return text

    def _cells(self, row: dict[str, object], width: int) -> str:
        """The values of one row, each in its column."""
        return " ".join(
            _cell(_shown(column.name, row[column.name], room), room, is_right=column.is_number)
            for column, room in _rooms(width)
        )

    def _click_heading(self, x: int) -> None:
        at = _MARK_WIDTH
        for column, room in _rooms(self.scrollable_content_region.width):
            if at <= x <= at + room:
                self.post_message(self.HeadingClicked(column.name))
                return
            at += room + 1


class Reader(ScrollView, can_focus=True):
    """The lines of one row, broken anew when the width changes."""

    # the bar is always there, so that it takes no width from lines that are broken already
    DEFAULT_CSS = "Reader { overflow-x: hidden; overflow-y: scroll; }"

    def __init__(self, *, id: str) -> None:
        """Show nothing yet."""
        super().__init__(id=id)
        self._lines_of: Callable[[int], list[Line]] | None = None
        self.lines: list[Line] = []

    def show(self, lines_of: Callable[[int], list[Line]]) -> None:
        """Show something from its first line on.

        Args:
            lines_of: Its lines for a width in columns.
        """
        self._lines_of = lines_of
        self._break()
        self.scroll_to(y=0, animate=False, force=True)

    def on_resize(self) -> None:
        """Break the lines anew."""
        self._break()

    def to_turn(self, by: int) -> None:
        """Scroll to the next turn or to the one before."""
        top = round(self.scroll_y)
        starts = turn_starts(self.lines)
        beyond = [start for start in starts if (start > top if by > 0 else start < top)]
        if beyond:
            self.scroll_to(y=beyond[0] if by > 0 else beyond[-1], animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        """A line of the widget."""
        width = self.scrollable_content_region.width
        at = round(self.scroll_y) + y
        if at >= len(self.lines):
            return _strip("", width, self.rich_style)
        line = self.lines[at]
        return _strip(line.text, width, self.rich_style + _LOOKS[line.look])

    def _break(self) -> None:
        width = self.scrollable_content_region.width
        if self._lines_of is not None and width > 0:
            self.lines = self._lines_of(width)
            self.virtual_size = Size(0, len(self.lines))
            self.refresh()


def _rooms(width: int) -> list[tuple[Column, int]]:
    """How wide each column is; on a narrow screen the last ones are cut off."""
    fixed = _MARK_WIDTH + sum(_WIDTHS.values()) + len(_WIDTHS)
    return [(column, _WIDTHS.get(column.name, max(width - fixed, _LEAST_ID))) for column in COLUMNS]


def _cell(text: str, room: int, *, is_right: bool) -> str:
    """A text of exactly so many columns."""
    if is_right:
        return f"{text:>{room}}"
    shown = clipped(inert(text, limit=_NAME), room).plain
    return shown + " " * (room - cell_len(shown))


def _shown(name: str, value: object, room: int) -> str:
    """A value as the list shows it."""
    if value is None:
        return "-"
    if isinstance(value, int | float):
        if name == "percentile":
            return percentile_text(value)
        return number_text(value, room)
    return _SHORT.get(str(value), str(value)) if name == "origin" else str(value)


def number_text(value: float, room: int) -> str:
    """A number as exactly as a few columns can tell it.

    Example:
        >>> [number_text(value, 6) for value in (12, 1.23456, -0.00012, 1234567, -1e-200)]
        ['12', '1.235', '-1e-04', '1e+06', '#']
    """
    if isinstance(value, int) and len(str(value)) <= room:
        return str(value)
    if value == 0:
        return "0"
    usual = [f"{value:.3f}", f"{value:.1f}"] if abs(value) >= 0.001 else []
    return next((text for text in (*usual, f"{value:.0e}") if len(text) <= room), "#")


def _strip(text: str, width: int, style: Style) -> Strip:
    """A line of exactly this width."""
    return Strip([Segment(set_cell_size(text, width), style)], width)
