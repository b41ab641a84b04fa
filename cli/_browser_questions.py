"""What the browser asks in a window of its own: a column, values of columns; and what keys do."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from trajweight.analysis.excerpts import inert
from trajweight.cli._browsing import COLUMNS, PICKED, values_of

if TYPE_CHECKING:
    import polars as pl
    from textual.app import ComposeResult
    from textual.binding import BindingType

#: Values of a column to pick from; rows of others are found by typing.
MOST_VALUES: Final = 200
_VALUE: Final = 50

_STYLE: Final = """
{name} {{ align: center middle; }}
{name} > Vertical, {name} > VerticalScroll {{
    width: 64; max-width: 100%; height: auto; max-height: 100%;
    border: round $primary; background: $surface; padding: 0 1;
}}
{name} OptionList {{ height: auto; max-height: 16; }}
{name} Static {{ height: auto; }}
"""


class ColumnQuestion(ModalScreen[str | None]):
    """Which column to sort by; None for the one there is."""

    CSS: ClassVar[str] = _STYLE.format(name="ColumnQuestion")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss", "Leave it")]

    def __init__(self, column: str) -> None:
        """Begin at the column that rows are sorted by."""
        super().__init__()
        self._column = column

    def compose(self) -> ComposeResult:
        """The columns, one a line."""
        with Vertical():
            yield Static("Sort by: enter takes one, escape leaves it.", markup=False)
            titles = {"percentile": "percentile of the weight"}
            yield OptionList(
                *(Option(titles.get(each.name, each.title), id=each.name) for each in COLUMNS),
                markup=False,
            )

    def on_mount(self) -> None:
        """Put the highlight on the column there is."""
        asked = self.query_one(OptionList)
        asked.highlighted = asked.get_option_index(self._column)
        asked.focus()

    def on_option_list_option_selected(self, chosen: OptionList.OptionSelected) -> None:
        """Take the column."""
        self.dismiss(chosen.option_id)


class ValuesQuestion(ModalScreen[frozenset[tuple[str, str]] | None]):
    """Which values of columns to show; None to leave it as it is, none of a column for all.

    textual's own list of boxes tells by colour alone which are ticked, so these are written out.
    """

    CSS: ClassVar[str] = _STYLE.format(name="ValuesQuestion")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "tick", "Pick it", priority=True),
        Binding("enter", "take", "Take them", priority=True),
        Binding("escape", "dismiss", "Leave it"),
    ]

    def __init__(self, rows: pl.DataFrame, picked: frozenset[tuple[str, str]]) -> None:
        """Offer the values of these rows.

        Args:
            rows: All rows.
            picked: What is picked already.
        """
        super().__init__()
        self._picked = set(picked)
        self._values = [
            (column, value, n)
            for column in PICKED
            for value, n in values_of(rows, column, most=MOST_VALUES)
        ]
        self._n_more = max(rows["source"].n_unique() - MOST_VALUES, 0)

    def compose(self) -> ComposeResult:
        """The values, one a line."""
        told = "Show rows with: space picks, enter takes them, escape leaves it. Of a column of "
        told += "which nothing is picked all rows are shown."
        if self._n_more:
            told += f" {self._n_more:,} rarer sources are not listed; / finds them."
        with Vertical():
            yield Static(told, markup=False)
            yield OptionList(*map(self._line, range(len(self._values))), markup=False)

    def on_mount(self) -> None:
        """Let keys reach the list."""
        self.query_one(OptionList).focus()

    def on_option_list_option_selected(self, chosen: OptionList.OptionSelected) -> None:
        """Pick with the mouse."""
        self._tick(chosen.option_index)

    def action_tick(self) -> None:
        """Pick the value at the cursor, or no longer."""
        if (at := self.query_one(OptionList).highlighted) is not None:
            self._tick(at)

    def action_take(self) -> None:
        """Take what is picked."""
        self.dismiss(frozenset(self._picked))

    def _tick(self, at: int) -> None:
        column, value, _ = self._values[at]
        self._picked ^= {(column, value)}
        self.query_one(OptionList).replace_option_prompt_at_index(at, self._line(at))

    def _line(self, at: int) -> str:
        column, value, n = self._values[at]
        box = "[x]" if (column, value) in self._picked else "[ ]"
        return f"{box} {column}: {inert(value, limit=_VALUE)} ({n:,})"


class Help(ModalScreen[None]):
    """What every key does."""

    CSS: ClassVar[str] = _STYLE.format(name="Help")
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "Back")]

    def __init__(self, told: str) -> None:
        """Show this text."""
        super().__init__()
        self._told = told

    def compose(self) -> ComposeResult:
        """The text."""
        with VerticalScroll():
            yield Static(self._told, markup=False)

    def on_mount(self) -> None:
        """Let keys scroll it."""
        self.query_one(VerticalScroll).focus()
