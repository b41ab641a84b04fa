from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from trajweight.cli._console import Surface
from trajweight.cli._stages import Stages


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def surface_on(stream: io.StringIO, *, quiet: bool = False, force_color: bool = False) -> Surface:
    surface = Surface("score", quiet=quiet)
    is_screen = stream.isatty() or force_color
    surface.err = Console(
        file=stream, force_terminal=is_screen, width=80, markup=False, highlight=False
    )
    return surface


def work(surface: Surface, *, stage: str = "reading", total: int | None = 3) -> None:
    stages = Stages(surface)
    stages.start(stage, total)
    for step in range(3):
        stages.advance(1, outer_loss=1.5 + step)
    stages.finish()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("force_color", [False, True])
def test_a_pipe_gets_a_line_at_start_and_end_and_no_animation(force_color: bool) -> None:
    stream = io.StringIO()

    work(surface_on(stream, force_color=force_color))

    assert plain(stream.getvalue()).splitlines() == ["reading (3) ...", "reading (3): 0.0 s"]
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_a_bar_that_leaves_only_the_time_taken() -> None:
    screen = Screen()

    work(surface_on(screen))

    text = plain(screen.getvalue())
    assert "0/3" in text
    assert text.splitlines()[-1].endswith("reading (3): 0.0 s")
    assert "reading (3) ..." not in text


def test_quiet_shows_nothing_at_all() -> None:
    screen = Screen()

    work(surface_on(screen, quiet=True))

    assert not screen.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Screen()])
def test_a_new_stage_closes_one_left_open(stream: io.StringIO) -> None:
    stages = Stages(surface_on(stream))

    stages.start("first")
    stages.start("second")
    stages.stop()
    stages.finish()

    text = plain(stream.getvalue())
    assert "first: 0.0 s" in text
    assert "second: " not in text


def test_work_that_begins_no_stage_is_no_error() -> None:
    stages = Stages(surface_on(Screen()))

    stages.advance()
    stages.finish()
    stages.stop()


def test_what_a_stage_is_called_does_nothing() -> None:
    for stream in (io.StringIO(), Screen()):
        work(surface_on(stream), stage="\x1b]0;owned\x07[red]x[/red]")

        assert "\x07" not in stream.getvalue()
        assert "[red]x[/red]" in stream.getvalue()


def test_facts_stand_beside_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trajweight.cli._stages._INTERVAL", 0.0)
    screen = Screen()

    stages = Stages(surface_on(screen))
    stages.start("learning", 3)
    stages.advance(1, loss=1.23456)
    stages._bars.refresh()
    stages.finish()

    assert "loss 1.235" in plain(screen.getvalue())


def test_sentences_pass_to_the_surface() -> None:
    stream = io.StringIO()
    surface = surface_on(stream)
    stages = Stages(surface)

    stages.say("found 3 tasks")
    stages.warn("only 3 tasks")

    assert stream.getvalue() == "found 3 tasks\nwarning: only 3 tasks\n"
    assert surface.warnings == ["only 3 tasks"]
