"""The browser driven by its keys, inside textual's own pilot; and the program in a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from textual.widgets import Static
from textual.widgets._footer import FooterKey

from tests.analysis.hostile import ATTACKS, hostile_run
from tests.commands import call
from tests.runs import make_run, row
from trajweight.cli._browser import Browser
from trajweight.cli._browser_keys import ALWAYS, KEYS, keys_told
from trajweight.cli._browser_lists import Reader, RowList, number_text
from trajweight.cli._browsing import load_rows
from trajweight.cli._marks import Marks, load_marks
from trajweight.interruption import Interruption

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from textual.pilot import Pilot

    from trajweight.run import Run

ROOT = Path(__file__).parents[2]
#: Of the run of most tests, the heaviest first.
BY_WEIGHT = ["s3", "s1", "s4", "r0", "s2", "s0", "r1"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    sources = {"s0": "bad", "s1": "good", "s2": "bad", "s3": "good", "s4": "fair"}
    rows = [
        row(name, source=source, text=f"reply {name}", reward=at / 10)
        for at, (name, source) in enumerate(sources.items())
    ]
    rows += [row(f"r{i}", source="real", text=f"real {i}") for i in range(2)]
    weights = {"s0": 0.1, "s1": 1.5, "s2": 0.4, "s3": 1.9, "s4": 1.1}
    return make_run(tmp_path / "made", rows, weights, splits={"r1": "dev"})


def made(run: Run, marks: Marks | None = None, **more: Any) -> Browser:
    marks = marks or Marks(run.folder / "marks.jsonl")
    return Browser(run, load_rows(run), marks, rng=random.Random(1), **more)


def drive(
    app: Browser,
    script: Callable[[Pilot[None]], Awaitable[None]],
    *,
    size: tuple[int, int] = (80, 24),
) -> None:
    """Start the browser, do something with it, and end it."""

    async def go() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await script(pilot)

    asyncio.run(go())


def steps(
    run: Run, *steps: tuple[str, ...], size: tuple[int, int] = (80, 24), marks: Marks | None = None
) -> list[Seen]:
    """What the browser shows after each step, which is some keys, beginning with what it shows
    before any."""
    app = made(run, marks)
    found: list[Seen] = []

    async def script(pilot: Pilot[None]) -> None:
        for keys in ((), *steps):
            for key in keys:
                await pilot.press(key)
                if len(app.workers):  # a search, whose result the next key may be about
                    await app.workers.wait_for_complete()
                    await pilot.pause()
            await pilot.pause()
            found.append(Seen(app))

    drive(app, script, size=size)
    return found


def pressed(
    run: Run, *keys: str, size: tuple[int, int] = (80, 24), marks: Marks | None = None
) -> Seen:
    """What the browser shows after some keys."""
    return steps(run, keys, size=size, marks=marks)[-1]


class Seen:
    """What stands on the screen of a browser."""

    def __init__(self, app: Browser) -> None:
        rows, reader = app.screen_stack[0].query_one(RowList), app.screen_stack[0].query_one(Reader)
        self.rows = lines_of(rows) if rows.display else []
        self.reader = lines_of(reader) if reader.display else []
        self.whole_reader = [line.text for line in reader.lines]
        self.ids = [line.split()[-1] for line in self.rows[1:] if line.strip() and len(rows.order)]
        self.at = "" if rows.place is None else app._rows["traj_id"][rows.place]
        self.head = str(app.screen_stack[0].query_one("#head", Static).content)
        self.bottom = {str(key.description): key.region.right for key in app.query(FooterKey)}
        self.is_running = app.is_running
        self.focus = type(app.focused).__name__
        self.theme = app.theme
        self.question = "\n".join(
            str(each.content) for each in app.screen.query(Static) if each.id != "head"
        )
        self.screen = type(app.screen).__name__
        self.told = [note.message for note in app._notifications]


def lines_of(widget: RowList | Reader) -> list[str]:
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


def test_all_rows_stand_in_a_table_with_the_heaviest_first(run):
    seen = pressed(run)

    assert seen.ids == BY_WEIGHT
    assert seen.rows[0].split() == [
        "weight▼",
        "pct",
        "origin",
        "source",
        "split",
        "turns",
        "tokens",
        "reward",
        "id",
    ]
    assert seen.rows[1].split() == [
        "1.900",
        "90.0",
        "synth",
        "good",
        "train",
        "2",
        "-",
        "0.300",
        "s3",
    ]
    assert seen.rows[7].split() == ["-", "-", "real", "real", "dev", "2", "-", "-", "r1"]
    assert seen.head.startswith("run: 7 of 7 rows by weight, highest first")
    assert seen.at == "s3"


def test_the_cursor_moves_and_stays_on_the_rows(run):
    seen = steps(
        run, ("down", "down"), ("up", "up", "up"), ("end", "down"), ("home",), ("pagedown",)
    )

    assert [each.at for each in seen] == ["s3", "s4", "s3", "r1", "s3", "r1"]


def test_s_sorts_by_the_column_that_is_chosen_and_r_turns_the_order_round(run):
    by_id, turned, by_reward, left = steps(
        run, ("s", "end", "enter"), ("r",), ("s", "up", "enter"), ("s", "home", "escape")
    )[1:]

    assert by_id.ids == sorted(BY_WEIGHT)
    assert by_id.head.startswith("run: 7 of 7 rows by id, first letter first")
    assert "id▲" in by_id.rows[0]
    assert turned.ids == sorted(BY_WEIGHT, reverse=True)
    assert turned.head.startswith("run: 7 of 7 rows by id, last letter first")
    assert by_reward.ids == left.ids == ["s4", "s3", "s2", "s1", "s0", "r0", "r1"]


def test_the_cursor_stays_on_its_row_when_the_order_changes(run):
    assert pressed(run, "down", "r").at == "s1"


def test_words_filter_by_source_and_id_while_they_are_typed(run):
    typed, taken, by_id, left, all_again = steps(
        run,
        ("slash", "B", "A"),
        ("enter", "down"),
        ("slash", "s", "3", "enter"),
        ("slash", "z", "escape"),
        ("slash", "backspace"),
    )[1:]

    assert (typed.ids, typed.focus) == (["s2", "s0"], "Input")
    assert (taken.at, taken.focus) == ("s0", "RowList")
    assert "2 of 7 rows" in taken.head
    assert "id or source has 'BA'" in taken.head
    assert by_id.ids == left.ids == ["s3"]
    assert left.focus == "RowList"
    assert all_again.ids == BY_WEIGHT
    assert pressed(run, "slash", "z").rows[1] == "  No row is shown."


def test_picked_values_filter_by_origin_split_and_source(run):
    # the window lists both origins, both splits, then the sources
    real, dev, unpicked, left, every, source = steps(
        run,
        ("f", "down", "space", "enter"),
        ("f", "down", "down", "down", "space", "enter"),
        ("f", "down", "space", "space", "enter"),
        ("f", "space", "escape"),
        ("u",),
        ("f", "end", "space", "enter"),
    )[1:]

    assert (real.ids, source.ids) == (["r0", "r1"], ["s4"])
    assert "origin real; split dev" in dev.head
    assert dev.ids == unpicked.ids == left.ids == ["r1"]
    assert every.ids == BY_WEIGHT


def test_a_search_shows_the_rows_whose_turns_say_the_words(run):
    found, left, nothing, every, again = steps(
        run,
        ("c", *"REAL", "enter"),
        ("c", *"reply", "escape"),
        ("c", *"assistant", "enter"),  # a role, which no turn says
        ("u",),
        ("c", *"s4", "enter", "c", "backspace", "enter"),
    )[1:]

    assert found.ids == left.ids == ["r0", "r1"]
    assert "turns say 'REAL'" in found.head
    assert "searching" not in found.head
    assert nothing.ids == []
    assert every.ids == again.ids == BY_WEIGHT


def test_a_search_is_told_while_it_goes_on_and_escape_ends_it(run):
    app = made(run)

    async def script(pilot: Pilot[None]) -> None:
        app._search_number, app._search_told = 1, "searching"
        app.post_message(Browser.Searched(1, n_done=3, n_found=2))
        await pilot.pause()
        assert "searching 43%, 2 found, escape ends it" in Seen(app).head
        await pilot.press("escape")
        app.post_message(Browser.Searched(1, n_done=7, n_found=5))
        await pilot.pause()
        assert "searching" not in Seen(app).head
        assert Seen(app).ids == BY_WEIGHT

    drive(app, script)


def test_enter_reads_the_row_and_escape_goes_back_to_it(run):
    reading, back = steps(run, ("down", "enter"), ("escape",))[1:]

    assert reading.rows == []
    assert reading.reader[0] == "id       s1"
    assert "weight   1.5, percentile 70.0 of 5 learned weights" in reading.reader
    assert "source   good, synthetic, split train" in reading.reader
    told = "\n".join(reading.whole_reader)
    assert "\n1 user\n  go\n\n2 assistant - in the loss\n| reply s1\n" in told
    assert (back.at, back.reader, back.focus) == ("s1", [], "RowList")


def test_keys_of_the_reader_go_from_row_to_row_without_leaving_it(run):
    seen = steps(run, ("enter", "n", "n"), ("p", "p", "p"), ("l",), ("h",), ("n", "n"), ("escape",))

    read = [each.reader[0].removeprefix("id       ") for each in seen[1:-1]]
    assert read == ["s4", "s3", "s0", "s3", "s4"]
    assert seen[-1].at == "s4"  # what was read last


def test_j_and_k_scroll_from_turn_to_turn(tmp_path):
    messages = [
        {"role": role, "content": "word " * 400} for role in ("user", "assistant") for _ in (1, 2)
    ]
    run = make_run(tmp_path / "made", [row("s0") | {"messages": messages}], {"s0": 1.0})

    seen = steps(run, ("enter", "j"), ("j", "down"), ("k",), ("k",), ("j", "j"))[1:]

    assert [each.reader[0][:1] for each in seen] == ["1", " ", "2", "1", "3"]


def test_heaviest_lightest_and_random_are_of_the_rows_shown(run):
    drawn = [each.at for each in steps(run, ("end", "h"), ("l",), *[("x",)] * 12)[1:]]
    good, none, empty = steps(
        run,
        ("slash", *"good", "enter", "l"),
        ("slash", *"r1", "enter", "h"),
        ("slash", *"zz", "enter", "x", "l", "h", "space", "o"),
    )[1:]

    assert drawn[:2] == ["s3", "s0"]
    assert len(set(drawn[2:])) > 2
    assert good.at == "s1"
    assert none.told == ["No row that is shown has a weight."]
    assert (empty.ids, empty.head.count("marked"), empty.focus) == ([], 0, "RowList")


def test_marked_rows_are_written_with_weights_and_notes(run):
    marked, written = steps(
        run, ("space", "down", "o", *"why", "enter", "down", "space", "space"), ("w",)
    )[1:]

    path = run.folder / "marks.jsonl"
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"id": "s3", "weight": 1.9},
        {"id": "s1", "weight": 1.5, "note": "why"},
    ]
    assert [line[:1] for line in written.rows[1:4]] == ["*", "*", " "]
    assert "2 marked, not written" in marked.head
    assert "2 marked" in written.head
    assert "not written" not in written.head
    assert written.told == [f"2 marks written to {path}"]


def test_marks_of_the_last_time_are_shown_told_and_gone_on_with(run):
    path = run.folder / "marks.jsonl"
    path.write_text('{"id":"s1","weight":1.5,"note":"old \\u001b[31m"}\n')
    marks = load_marks(path, load_rows(run)["traj_id"])

    reading, only, every, written, none = steps(
        run,
        ("down", "enter"),
        ("escape", "m"),
        ("m",),
        ("o", "end", "!", "enter", "w"),
        ("m", "space"),
        marks=marks,
    )[1:]

    assert r"marked   old \x1b[31m" in reading.reader
    assert only.ids == ["s1"]
    assert "marked rows only" in only.head
    assert every.ids == written.ids == BY_WEIGHT
    assert json.loads(path.read_text())["note"] == r"old \x1b[31m!"
    assert none.ids == []


def test_marks_that_cannot_be_written_say_so_and_the_browser_goes_on(run):
    (run.folder / "marks.jsonl").mkdir()

    seen = pressed(run, "space", "w")

    assert "cannot be written" in seen.told[0]
    assert "not written" in seen.head
    assert seen.is_running


def test_ctrl_c_ends_the_browser_while_something_is_typed(run):
    assert not pressed(run, "slash", "s", "ctrl+c").is_running


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
def test_quitting_asks_once_when_marks_would_be_lost(run, key):
    once, other, written = steps(run, ("space", key), ("down", "space", key), ("w", key))[1:]

    assert once.is_running
    assert once.told == ["Marks are not written: w writes them, q again leaves without."]
    assert other.is_running  # asked anew for a new mark
    assert not written.is_running


def test_quitting_twice_leaves_marks_unwritten(run):
    assert not pressed(run, "q").is_running
    assert not pressed(run, "space", "q", "q").is_running
    assert not (run.folder / "marks.jsonl").exists()


def test_letters_are_text_while_something_is_typed(run):
    typed = pressed(run, "slash", "q", "w", "space", "question_mark", "x")

    assert typed.is_running
    assert typed.screen == "Screen"
    assert "has 'qw ?x'" in typed.head
    assert not (run.folder / "marks.jsonl").exists()


def test_who_goes_elsewhere_has_ended_typing(run):
    seen = pressed(run, "slash", "s", "tab", "down")

    assert (seen.focus, seen.at) == ("RowList", "s1")
    assert "has 's'" in seen.head


def test_every_key_is_told_in_the_help_which_goes_away_again(run):
    keys = ("escape", "q", "question_mark")
    seen = steps(run, *[each for key in keys for each in (("question_mark",), (key,))])

    told = seen[1]
    assert told.screen == "Help"
    assert keys_told() in told.question
    assert all(str(key.tooltip) in told.question for key in KEYS)
    assert [(each.screen, each.is_running) for each in seen[2::2]] == [("Screen", True)] * 3


def test_the_bottom_line_names_the_keys_that_work_and_fits_80_columns(run):
    in_list, in_reader, typing = steps(run, ("enter",), ("escape", "slash"))

    names = ["Read", "Filter", "Pick", "Search", "Sort", "Mark", "Write marks", "Keys", "Quit"]
    assert list(in_list.bottom) == names
    names = ["Back", "Next", "Previous", "Next turn", "Mark", "Write marks", "Keys", "Quit"]
    assert list(in_reader.bottom) == names
    assert list(typing.bottom) == ["Back"]  # all else is text now
    for seen in (in_list, in_reader):
        assert max(seen.bottom.values()) <= 80


def test_every_key_has_something_to_do(run):
    app = made(run)

    for key in (*KEYS, ALWAYS):
        action = key.action.partition("(")[0]
        assert callable(getattr(app, f"action_{action}"))
    assert len({key.key for key in KEYS}) == len(KEYS)


def test_on_a_wide_screen_the_reader_follows_the_list(run):
    following, both = steps(run, ("down", "down"), ("enter",), size=(170, 24))[1:]

    assert (following.reader[0], following.focus) == ("id       s4", "RowList")
    assert both.ids == BY_WEIGHT
    assert (both.reader[0], both.focus) == ("id       s4", "Reader")


def test_the_reader_appears_when_the_screen_becomes_wide(run):
    app = made(run)

    async def script(pilot: Pilot[None]) -> None:
        assert not Seen(app).reader
        await pilot.resize_terminal(170, 24)
        await pilot.pause()
        assert Seen(app).reader[0] == "id       s3"
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert not Seen(app).reader
        assert Seen(app).ids == BY_WEIGHT

    drive(app, script)


def test_a_click_moves_the_cursor_two_read_the_row_and_a_heading_sorts(run):
    app = made(run)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.click(RowList, offset=(10, 3))
        await pilot.pause()
        assert Seen(app).at == "s4"
        await pilot.click(RowList, offset=(66, 0))
        await pilot.pause()
        assert Seen(app).ids == sorted(BY_WEIGHT)
        await pilot.click(RowList, offset=(66, 0))
        await pilot.pause()
        assert Seen(app).ids == sorted(BY_WEIGHT, reverse=True)
        await pilot.click(RowList, offset=(10, 2), times=2)
        await pilot.pause()
        assert Seen(app).reader[0] == "id       s3"

    drive(app, script)


def test_t_takes_other_colours_and_comes_back(run):
    themes = [each.theme for each in steps(run, ("t",), ("t",), ("t",))]

    assert themes == ["ansi-dark", "textual-dark", "textual-light", "ansi-dark"]


@pytest.mark.parametrize("n", range(3))
def test_without_any_colour_the_cursor_the_marks_and_the_loss_can_be_told(run, monkeypatch, n):
    monkeypatch.setenv("NO_COLOR", "1")
    app = made(run)

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press(*["t"] * n, "down", "space")
        rows = app.query_one(RowList)
        styles = [next(iter(rows.render_line(y))).style for y in range(4)]
        assert [bool(style and style.reverse) for style in styles] == [False, False, True, False]
        assert lines_of(rows)[2].startswith("*")
        await pilot.press("f", "space")
        await pilot.pause()
        assert "[x] origin: synthetic (5)" in app.export_screenshot().replace("&#160;", " ")

    drive(app, script)


def test_a_long_list_is_drawn_by_the_line_and_scrolls_with_the_cursor(tmp_path):
    rows = [row(f"s{i:03}") for i in range(300)]
    weights = {one["id"]: 300.0 - at for at, one in enumerate(rows)}
    run = make_run(tmp_path / "made", rows, weights)
    app = made(run)

    async def script(pilot: Pilot[None]) -> None:
        n_seen = app.query_one(RowList).size.height - 1
        assert Seen(app).ids == [f"s{i:03}" for i in range(n_seen)]
        await pilot.press("end")
        await pilot.pause()
        assert Seen(app).ids == [f"s{i:03}" for i in range(300 - n_seen, 300)]
        await pilot.press("pageup")
        await pilot.pause()
        assert app.query_one(RowList).cursor == 299 - (n_seen - 1)
        assert f"s{299 - (n_seen - 1):03}" in Seen(app).ids
        await pilot.press("home")
        await pilot.pause()
        assert Seen(app).ids[0] == "s000"

    drive(app, script)


def test_only_the_row_that_is_read_has_its_texts_read(run, monkeypatch):
    def refuse(*_: object) -> None:
        pytest.fail("the texts of all rows were read")

    monkeypatch.setattr("trajweight.run.Run.trajectories", refuse)
    monkeypatch.setattr("trajweight.run.Run.trajectory_batches", refuse)

    assert pressed(run, "down", "enter").reader[0] == "id       s1"


def test_a_row_whose_texts_are_damaged_is_told_and_the_browser_goes_on(run):
    app = made(run)
    for path in run.storage.conversations.iterdir():
        path.write_bytes(b"broken")

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert "no Parquet file that can be read" in " ".join(Seen(app).reader)
        await pilot.press("escape", "c", "a", "enter")
        await app.workers.wait_for_complete()
        await pilot.pause()
        seen = Seen(app)
        assert "no Parquet file that can be read" in seen.told[-1]
        assert "searching" not in seen.head

    drive(app, script)


def test_a_table_without_any_row_opens(run):
    app = Browser(run, load_rows(run).clear(), Marks(run.folder / "m"), rng=random.Random(1))

    async def script(pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await pilot.pause()
        assert Seen(app).reader[0] == "No row is shown."
        await pilot.press("n", "escape", "down", "end", "f", "enter", "space", "w")
        await pilot.pause()
        assert "0 of 0 rows" in Seen(app).head

    drive(app, script)


def test_a_signal_ends_the_browser(run):
    interruption = Interruption()
    app = made(run, interruption=interruption)

    async def script(pilot: Pilot[None]) -> None:
        interruption.signal = signal.SIGTERM
        await pilot.pause(0.5)
        assert not app.is_running

    drive(app, script)


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (999999, "999999"), (1000000, "1e+06"), (99.9994, "99.999"), (123.456, "123.5")],
)
def test_numbers_fit_their_column_and_say_what_they_can(value, told):
    assert number_text(value, 6) == told


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (170, 40)])
def test_names_and_texts_of_the_data_are_shown_and_never_acted_upon(tmp_path, size):
    run = hostile_run(tmp_path)
    app = made(run)

    async def script(pilot: Pilot[None]) -> None:
        for _ in ATTACKS:
            harmless(app)
            await pilot.press("enter")
            await pilot.pause()
            harmless(app)
            await pilot.press("space", "escape", "down")
        await pilot.press("f")
        await pilot.pause()
        harmless(app)
        await pilot.press(*["down"] * 8, "space", "enter")
        await pilot.pause()
        harmless(app)
        await pilot.press("w", "m", "s", "enter")
        await pilot.pause()
        harmless(app)

    drive(app, script, size=size)


def harmless(app: Browser) -> None:
    """Nothing on the screen is a control character, and nothing was taken for markup."""
    lines = ["".join(each.text for each in line) for line in app.screen._compositor.render_strips()]
    assert all(line.isprintable() for line in lines), lines


def test_square_brackets_in_names_are_no_markup(tmp_path):
    names = ["[red]x[/red]", "[/]", "[@click=app.quit]y[/]", "\\[b]"]
    rows = [row(name, source=name, text=name) for name in names]
    run = make_run(tmp_path / "made", rows, dict.fromkeys(names, 1.0))

    seen = steps(run, *[("slash", *name, "enter") for name in names], size=(200, 30))

    assert seen[0].ids == names
    for name, found in zip(names, seen[1:], strict=True):
        assert found.ids[:1] == [name]
        assert found.reader[0] == f"id       {name}"
        assert f"'{name}'" in found.head


# the command


def test_what_is_no_terminal_is_told_in_words(run):
    said = call("browse", run.folder)

    assert said.code == 2
    assert "browse needs a terminal, and std" in said.err
    assert "trajweight report" in said.err


def test_without_textual_the_line_that_installs_it_is_told(run, monkeypatch):
    monkeypatch.delitem(sys.modules, "trajweight.cli._browser")
    for name in [name for name in sys.modules if name.partition(".")[0] == "textual"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)

    said = call("browse", run.folder)

    assert said.code == 5
    assert "pip install --upgrade 'trajweight[browse]'" in said.err
    assert call("--help").code == 0


def test_a_fault_in_the_browser_is_told_without_the_values_of_variables(run, monkeypatch, capfd):
    def fail(*_: object) -> None:
        secret = "private words of the data"
        raise ValueError(len(secret))

    monkeypatch.setattr(Browser, "action_reverse", fail)
    app = made(run)

    async def press(pilot: Pilot[object]) -> None:
        await pilot.press("r")

    app.run(headless=True, auto_pilot=press)

    assert isinstance(app.failure, ValueError)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo terminals")
class TestInATerminal:
    """The whole program, its screen a pseudo terminal whose bytes are looked at."""

    def test_data_never_reaches_the_terminal_as_an_escape_sequence(self, tmp_path):
        run = hostile_run(tmp_path)

        keys = [b"\r", *[b"n"] * len(ATTACKS), b"\x1b", b"f", b"\r", b"q"]
        ended, drawn, out = in_terminal(["browse", str(run.folder)], keys)

        assert ended == 0
        assert b"right to left" in drawn
        assert b"\x1b]0;title" not in drawn
        assert b"\x1b[31mred" not in drawn
        assert "\u202e".encode() not in drawn
        assert out == b""
        assert drawn.rindex(b"\x1b[?1049l") > drawn.rindex(b"\x1b[?1049h")  # the screen is put back

    def test_marks_are_told_on_stdout_as_json(self, run):
        keys = [b" ", b"w", b"q"]
        ended, _, out = in_terminal(["browse", str(run.folder), "--json"], keys)

        told = json.loads(out)
        assert ended == 0
        assert told["outputs"] == {"marks": str(run.folder / "marks.jsonl")}
        assert told["metrics"] == {"n_rows": 7, "n_marked": 1}
        assert (run.folder / "marks.jsonl").read_text() == '{"id":"s3","weight":1.9}\n'

    def test_a_signal_puts_the_screen_back_and_gives_its_code(self, run):
        ended, drawn, _ = in_terminal(["browse", str(run.folder)], [signal.SIGTERM])

        assert ended == 143
        assert drawn.rindex(b"\x1b[?1049l") > drawn.rindex(b"\x1b[?1049h")
        assert b"interrupted" in drawn

    def test_a_terminal_that_cannot_be_drawn_on_is_told(self, run):
        ended, drawn, _ = in_terminal(["browse", str(run.folder)], [], TERM="dumb")

        assert ended == 2
        assert b"TERM is dumb" in drawn


def in_terminal(
    words: list[str], keys: Sequence[bytes | int], **env: str
) -> tuple[int, bytes, bytes]:
    """Run a command line in a pseudo terminal; gives its code, what it drew, and its stdout."""
    import pty
    import select
    import termios

    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    program = subprocess.Popen(
        [sys.executable, "-m", "trajweight.cli", *words],
        cwd=ROOT,
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", **env},
    )
    os.close(theirs)
    drawn = bytearray()

    def draw(until: Callable[[], bool], *, patience: float) -> None:
        end = time.monotonic() + patience
        while time.monotonic() < end and not until():
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    drawn.extend(os.read(ours, 65536))
                except OSError:  # the other side is closed
                    return

    draw(lambda: b"Quit" in drawn or program.poll() is not None, patience=60)
    for key in keys:
        n = len(drawn)
        if isinstance(key, int):
            program.send_signal(key)
        else:
            os.write(ours, key)
        draw(lambda n=n: len(drawn) > n, patience=5)  # type: ignore[misc]
        draw(lambda: False, patience=0.3)
    draw(lambda: program.poll() is not None, patience=20)
    assert program.stdout is not None
    out = program.stdout.read()
    ended = program.wait(20)
    draw(lambda: False, patience=0.2)
    os.close(ours)
    program.stdout.close()
    return ended, bytes(drawn), out
