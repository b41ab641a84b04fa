"""The browser of a run: a list of rows, a reader beside it or in its place, and the keys of both.

What to show is reckoned in `_browsing` and `_trajectory_view`; here keys become questions to them.
No text of the data reaches a widget that would read markup in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np
from textual import work
from textual.app import App
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Footer, Input, Static
from textual.worker import get_current_worker

from trajweight.analysis.excerpts import inert
from trajweight.cli._browser_keys import ALWAYS, IN_LIST, IN_READER, KEYS, OURS, keys_told
from trajweight.cli._browser_lists import Reader, RowList
from trajweight.cli._browser_questions import ColumnQuestion, Help, ValuesQuestion
from trajweight.cli._browsing import (
    BY_NAME,
    Filters,
    Sorting,
    extreme,
    filters_told,
    is_shown,
    measured,
    position_of,
    search,
    sorted_places,
)
from trajweight.cli._console import visible
from trajweight.cli._trajectory_view import Line, row_facts, trajectory_lines, wrapped
from trajweight.errors import TrajweightError
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    import random

    import polars as pl
    from numpy.typing import NDArray
    from textual import events
    from textual.app import ComposeResult
    from textual.binding import BindingType
    from textual.notifications import SeverityLevel

    from trajweight.cli._marks import Marks
    from trajweight.interruption import Interruption
    from trajweight.run import Run

#: The terminal's own colours first, which suit a dark and a light one.
_THEMES: Final = ("ansi-dark", "textual-dark", "textual-light")
#: From so many columns on the reader stands beside the list.
_WIDE: Final = 160
_WORDS: Final = 30
_HEED_S: Final = 0.2
#: What is asked in the line at the bottom, and how it is put.
_ASKED: Final = {
    "filter": "rows whose id or source has",
    "search": "rows whose turns say",
    "note": "note on the marked row",
}


class Browser(App[None]):
    """Rows of a run by weight, to read and to mark."""

    TITLE = "trajweight browse"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 2; padding: 0 1; }
    #rows, #reader { width: 1fr; height: 1fr; }
    #reader { display: none; }
    #ask { display: none; height: 1; border: none; padding: 0 1; }
    #ask.-asking { display: block; }
    .-wide #reader, .-reading #reader { display: block; }
    .-wide #reader { border-left: solid $primary; }
    .-reading #rows { display: none; }
    .-wide.-reading #rows { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [*KEYS, ALWAYS]

    class Searched(Message):
        """How far a search has come.

        Attributes:
            number: Of the search.
            n_done: Rows looked at.
            found: Places, in order, once it has ended well.
            n_found: How many were found so far.
            trouble: Why it could not go on; empty if it could.
        """

        def __init__(
            self,
            number: int,
            *,
            n_done: int = 0,
            n_found: int = 0,
            found: NDArray[np.int64] | None = None,
            trouble: str = "",
        ) -> None:
            """Keep what is told."""
            super().__init__()
            self.number = number
            self.n_done = n_done
            self.n_found = n_found
            self.found = found
            self.trouble = trouble

    def __init__(
        self,
        run: Run,
        rows: pl.DataFrame,
        marks: Marks,
        *,
        rng: random.Random,
        interruption: Interruption | None = None,
    ) -> None:
        """Show a run.

        Args:
            run: The run, of whose texts those of one row are read at a time.
            rows: From `_browsing.load_rows`.
            marks: Those there are; changed and written as the user wants it.
            rng: Draws the random rows.
            interruption: What to heed while nothing is done.
        """
        super().__init__()
        self._run_shown, self._rows, self._marks, self._rng = run, rows, marks, rng
        self._interruption = interruption
        self._look_up = run.storage.lookup(*TEXT_COLUMNS)
        self._weights = rows["weight"].to_numpy()
        self._n_learned = rows.height - rows["percentile"].null_count()
        self._sorting, self._wanted = Sorting(), Filters()
        self._sorted = sorted_places(rows, self._sorting)
        self._asking = ""
        self._before_asking = self._wanted
        self._search_number = 0
        self._search_words = self._search_told = ""
        self._was_warned = False
        self.has_written = False

    @property
    def failure(self) -> Exception | None:
        """What ended the browser though it should not have."""
        return self._exception

    def compose(self) -> ComposeResult:
        """The head, the list and the reader, the line to type into, the keys."""
        yield Static(id="head", markup=False)
        with Horizontal():
            yield RowList(self._rows, self._marks.notes, id="rows")
            yield Reader(id="reader")
        yield Input(id="ask", compact=True)
        yield Footer(compact=True, show_command_palette=False)

    def on_mount(self) -> None:
        """Show all rows, the heaviest first."""
        self.theme = _THEMES[0]
        self._arrange()
        self._list.focus()
        self.set_interval(_HEED_S, self._heed)

    # what is shown

    @property
    def _list(self) -> RowList:
        return self.query_one(RowList)

    @property
    def _reader(self) -> Reader:
        return self.query_one(Reader)

    @property
    def _is_reading(self) -> bool:
        return self.focused is self._reader

    def _arrange(self) -> None:
        """Show the rows that are asked for, in the order asked for, the cursor on its row."""
        shown = is_shown(self._rows, self._wanted, self._marks.notes)
        order = self._sorted[shown[self._sorted]]
        at = position_of(order, self._list.place)
        self._list.show(order, self._sorting, at=at or 0)
        self._tell_state()

    def _tell_state(self) -> None:
        """Say in the head which rows are shown, and what is marked."""
        column = BY_NAME[self._sorting.column]
        ends = ("highest", "lowest") if column.is_number else ("last letter", "first letter")
        end = ends[0] if self._sorting.is_descending else ends[1]
        n_shown = len(self._list.order)
        first = (
            f"{inert(self._run_shown.folder.name, limit=_WORDS)}: {n_shown:,} of "
            f"{self._rows.height:,} rows by {column.title}, {end} first"
        )
        marked = f"{len(self._marks.notes):,} marked" if self._marks.notes else ""
        if not self._marks.is_written:
            marked = f"{marked or 'marks changed'}, not written"
        second = [self._search_told, *filters_told(self._wanted), marked]
        lines = (first, "; ".join(filter(None, second)))
        self.query_one("#head", Static).update("\n".join(lines))

    def on_row_list_moved(self) -> None:
        """Read the row at the cursor, where the reader is on the screen."""
        if self._reader.display:
            self._show_row()

    def on_row_list_opened(self) -> None:
        """Read a row that was chosen with the mouse."""
        self.action_read()

    def on_row_list_heading_clicked(self, clicked: RowList.HeadingClicked) -> None:
        """Sort by the column that was clicked; the other way round if rows are already."""
        if clicked.column == self._sorting.column:
            self.action_reverse()
        else:
            self._sort_by(clicked.column)

    def on_resize(self, event: events.Resize) -> None:
        """On a wide screen the reader stands beside the list."""
        self.screen_stack[0].set_class(event.size.width >= _WIDE, "-wide")
        self.call_after_refresh(self.on_row_list_moved)

    def _show_row(self) -> None:
        place = self._list.place
        if place is None:
            self._reader.show(lambda _: [Line("No row is shown.")])
            return
        try:
            row = self._look_up(place)
            standing = self._rows.row(place, named=True)
            more = measured(self._run_shown, row["traj_id"])
        except (TrajweightError, ValueError) as error:  # texts that somebody changed
            told = str(error)
            self._reader.show(lambda width: [Line(text) for text in wrapped(told, width)])
            return
        facts = row_facts(row, standing, more, n_learned=self._n_learned)
        if (note := self._marks.notes.get(row["traj_id"])) is not None:
            facts["marked"] = note or "yes"
        self._reader.show(lambda width: trajectory_lines(row, facts, width=width))

    # keys of the list

    def action_read(self) -> None:
        """Open the row at the cursor."""
        self.screen.add_class("-reading")
        self._reader.focus()
        self.call_after_refresh(self._show_row)

    def action_leave(self) -> None:
        """Leave what is typed, the reader, or a search that goes on, whichever is first."""
        if self._asking:
            self._wanted = self._before_asking
            self._end_asking()
            self._arrange()
        elif self._is_reading:
            self.screen.remove_class("-reading")
            self._list.focus()
        elif self._search_told:
            self.workers.cancel_group(self, "search")
            self._search_number += 1
            self._search_told = ""
            self._tell_state()

    def action_sort(self) -> None:
        """Ask for the column to sort by."""

        def take(column: str | None) -> None:
            if column is not None:
                self._sort_by(column)

        self.push_screen(ColumnQuestion(self._sorting.column), take)

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._set_sorting(replace(self._sorting, is_descending=not self._sorting.is_descending))

    def _sort_by(self, column: str) -> None:
        self._set_sorting(Sorting(column, is_descending=BY_NAME[column].is_number))

    def _set_sorting(self, sorting: Sorting) -> None:
        self._sorting, self._sorted = sorting, sorted_places(self._rows, sorting)
        self._arrange()

    def action_pick(self) -> None:
        """Ask for the origins, sources and splits to show."""

        def take(picked: frozenset[tuple[str, str]] | None) -> None:
            if picked is not None:
                self._set_filters(replace(self._wanted, picked=picked))

        self.push_screen(ValuesQuestion(self._rows, self._wanted.picked), take)

    def action_only_marked(self) -> None:
        """Show only the marked rows, or the others again too."""
        self._set_filters(replace(self._wanted, is_marked=not self._wanted.is_marked))

    def action_show_all(self) -> None:
        """Take all filters away."""
        self._set_filters(Filters())

    def _set_filters(self, filters: Filters) -> None:
        self._wanted = filters
        self._arrange()

    # keys of list and reader

    def action_step(self, by: int) -> None:
        """Read the next row, or the one before."""
        self._list.cursor += by

    def action_to_turn(self, by: int) -> None:
        """Scroll to another turn."""
        self._reader.to_turn(by)

    def action_to_extreme(self, is_heaviest: bool) -> None:
        """Put the cursor on the heaviest or the lightest row of those shown."""
        at = extreme(self._weights, self._list.order, is_heaviest=is_heaviest)
        if at is None:
            self._say("No row that is shown has a weight.")
        else:
            self._list.cursor = at

    def action_to_random(self) -> None:
        """Put the cursor on any row of those shown."""
        if len(self._list.order):
            self._list.cursor = self._rng.randrange(len(self._list.order))

    def action_mark(self) -> None:
        """Mark the row at the cursor, or take its mark away."""
        if (name := self._id_at_cursor()) is not None:
            self._marks.toggle(name)
            self._marks_changed()

    def action_write(self) -> None:
        """Write the marked rows to their file."""
        ids = self._rows["traj_id"]
        marked = self._rows.filter(ids.is_in(list(self._marks.notes)))
        try:
            n_lines = self._marks.write(dict(marked.select("traj_id", "weight").iter_rows()))
        except TrajweightError as error:
            self._say(str(error), severity="error")
            return
        self.has_written = True
        self._say(f"{n_lines:,} marks written to {self._marks.path}")
        self._tell_state()

    def action_theme(self) -> None:
        """Take other colours."""
        self.theme = _THEMES[(_THEMES.index(self.theme) + 1) % len(_THEMES)]

    def action_help(self) -> None:
        """Tell what every key does."""
        self.push_screen(Help(keys_told()))

    async def action_quit(self) -> None:
        """End; but say first that marks would be lost."""
        if self._marks.is_written or self._was_warned:
            self.exit()
            return
        self._was_warned = True
        self._say(
            "Marks are not written: w writes them, q again leaves without.", severity="warning"
        )

    async def action_end(self) -> None:
        """The same, by a key that is never text."""
        await self.action_quit()

    def _id_at_cursor(self) -> str | None:
        """The id of the row at the cursor."""
        place = self._list.place
        return None if place is None else str(self._rows["traj_id"][place])

    def _marks_changed(self) -> None:
        self._was_warned = False
        if self._wanted.is_marked:
            self._arrange()
        self._list.refresh()
        self._tell_state()
        self.on_row_list_moved()

    # what is typed

    def action_ask_filter(self) -> None:
        """Let the user type what ids or sources must have."""
        self._before_asking = self._wanted
        self._ask("filter", self._wanted.words)

    def action_ask_search(self) -> None:
        """Let the user type what turns must say."""
        self._before_asking = self._wanted
        self._ask("search", self._wanted.found[0] if self._wanted.found else "")

    def action_ask_note(self) -> None:
        """Let the user type why a row is marked."""
        self._before_asking = self._wanted
        if (name := self._id_at_cursor()) is not None:
            self._ask("note", visible(self._marks.notes.get(name, "")))

    def _ask(self, asking: str, value: str) -> None:
        self._asking = asking
        line = self.query_one(Input)
        with self.prevent(Input.Changed):
            line.value = value
        line.placeholder = f"{_ASKED[asking]} ... (enter takes it, escape leaves it)"
        line.add_class("-asking")
        line.focus()
        self.refresh_bindings()

    def _end_asking(self) -> None:
        self._asking = ""
        self.query_one(Input).remove_class("-asking")
        is_reading = self.screen.has_class("-reading")
        (self._reader if is_reading else self._list).focus()

    def on_input_changed(self, changed: Input.Changed) -> None:
        """Filter while the user types."""
        if self._asking == "filter":
            self._set_filters(replace(self._wanted, words=changed.value))

    def on_input_submitted(self, submitted: Input.Submitted) -> None:
        """Take what was typed."""
        asking, text = self._asking, submitted.value
        self._end_asking()
        if asking == "filter":
            self._set_filters(replace(self._wanted, words=text))
        elif asking == "note" and (name := self._id_at_cursor()) is not None:
            self._marks.note(name, text)
            self._marks_changed()
        elif asking == "search" and text:
            self._search_number += 1
            self._search_words, self._search_told = text, "searching"
            self._tell_state()
            self._search(self._search_number, text)
        elif asking == "search":
            self._set_filters(replace(self._wanted, found=None))

    def on_input_blurred(self) -> None:
        """Who goes elsewhere with the mouse or tab has ended typing."""
        if self._asking and self.app_focus:
            self._end_asking()

    # the search

    @work(thread=True, exclusive=True, group="search")
    def _search(self, number: int, words: str) -> None:
        """Look through all texts, outside the thread that answers keys."""
        worker = get_current_worker()
        places: list[int] = []
        try:
            batches = self._run_shown.trajectory_batches("messages_json")
            for n_done, found in search(batches, words, is_ended=lambda: worker.is_cancelled):
                places += found
                self.post_message(self.Searched(number, n_done=n_done, n_found=len(places)))
        except (TrajweightError, ValueError) as error:  # texts that somebody changed
            self.post_message(self.Searched(number, trouble=str(error)))
            return
        if not worker.is_cancelled:
            self.post_message(self.Searched(number, found=np.array(places, np.int64)))

    def on_browser_searched(self, told: Searched) -> None:
        """Tell how far the search is, or show what it found."""
        if told.number != self._search_number:
            return  # that search was left
        if told.trouble or told.found is not None:
            self._search_told = ""
        if told.trouble:
            self._say(told.trouble, severity="error")
        elif told.found is not None:
            self._set_filters(replace(self._wanted, found=(self._search_words, told.found)))
        else:
            share = told.n_done / max(self._rows.height, 1)
            self._search_told = f"searching {share:.0%}, {told.n_found:,} found, escape ends it"
        self._tell_state()

    # the rest

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Which keys work now, and so stand at the bottom."""
        del parameters
        if action == "leave":
            return bool(self._asking or self._is_reading or self._search_told)
        if self._asking:
            return action not in OURS
        if action in IN_LIST:
            return not self._is_reading
        return self._is_reading if action in IN_READER else True

    def _heed(self) -> None:
        """End when a signal asks for it."""
        if self._interruption is not None and self._interruption.signal:
            self.exit()

    def _say(self, text: str, *, severity: SeverityLevel = "information") -> None:
        """A note in the corner, which soon goes."""
        self.notify(inert(text), severity=severity, markup=False)

    def _fatal_error(self) -> None:
        """End without the traceback that textual prints, which tells the values of variables."""
        self._close_messages_no_wait()
