from __future__ import annotations

import errno
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from tests.commands import Said, call
from trajweight import errors
from trajweight.cli._command import Typed, add_command
from trajweight.cli._options import Common
from trajweight.cli._shell import Shell
from trajweight.cli._signals import heeding_signals
from trajweight.interruption import Interrupted

if TYPE_CHECKING:
    from trajweight.cli._console import Surface

EVIL = "\x1b[2J[red]x[/red]\u202e\nerror: forged"


def ending_in(
    error: BaseException | None,
    *args: str,
    env: dict[str, str] | None = None,
    folder: str = "runs/here",
    can_resume: bool = False,
) -> Said:
    """A command that warns, prints a line and ends in ``error``."""

    def body(_chosen: Common, surface: Surface, _typed: Typed) -> None:
        secret = "a private value"  # noqa: F841 - no traceback may show it
        surface.warn("something to know")
        surface.folder, surface.can_resume = Path(folder), can_resume
        if error is not None:
            raise error
        surface.print("done")
        surface.finish(metrics={"n": 1})

    app = typer.Typer(name="trajweight", cls=Shell, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    add_command(app, "work", Common, body)
    return call("work", *args, program=app, env=env)


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (errors.TrajweightError("no"), 1, "failed"),
        (errors.DivergenceError("no"), 1, "divergence"),
        (errors.ConfigError("no"), 2, "config"),
        (errors.DataError("no"), 3, "data"),
        (errors.TemplateError("no"), 3, "template"),
        (errors.RunError("no"), 3, "run"),
        (errors.GateError("no"), 4, "gate"),
        (errors.MissingError("no"), 5, "missing"),
        (OSError(errno.EACCES, "no"), 1, "system"),
        (MemoryError(), 1, "memory"),
        (ValueError("no"), 1, "internal"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (Interrupted(signal.SIGINT), 130, "interrupted"),
        (Interrupted(signal.SIGTERM), 143, "interrupted"),
    ],
)
def test_every_error_has_its_exit_code_with_and_without_json(
    error: BaseException, code: int, name: str
) -> None:
    plain, as_json = ending_in(error), ending_in(error, "--json")

    assert plain.code == as_json.code == as_json.object["exit_code"] == code
    assert as_json.object["code"] == name
    assert as_json.object["status"] == "error"
    assert not plain.out


def test_an_error_is_its_message_then_its_hint_on_stderr() -> None:
    error = errors.DataError("turn 3 is odd", path="a.jsonl", line=7, hint="Mend it.\nOr drop it.")

    said = ending_in(error)

    assert said.err.splitlines() == [
        "warning: something to know",
        "error: a.jsonl:7: turn 3 is odd",
        "  Mend it.",
        "  Or drop it.",
    ]


def test_the_json_error_carries_message_hint_command_and_warnings() -> None:
    said = ending_in(errors.ConfigError("bad", hint="Mend it."), "--json")

    found = said.object
    assert (found["message"], found["hint"]) == ("bad", "Mend it.")
    assert found["command"] == "work"
    assert found["warnings"] == ["something to know"]
    assert found["schema_version"]


def test_only_the_word_error_is_red_and_only_with_colour() -> None:
    error = errors.DataError("bad")

    assert "\x1b[1;31merror: \x1b[0mbad" in ending_in(error, env={"FORCE_COLOR": "1"}).err
    assert "\x1b" not in ending_in(error).err


def test_a_long_error_is_not_wrapped_in_a_pipe() -> None:
    assert "word " * 60 + "end" in ending_in(errors.DataError("word " * 60 + "end")).err


def test_data_in_an_error_does_nothing() -> None:
    for error in (errors.DataError(EVIL, hint=EVIL), ValueError(EVIL), OSError(1, EVIL, EVIL)):
        said = ending_in(error)

        assert "\x1b" not in said.err
        assert "\u202e" not in said.err
        assert not [line for line in said.err.splitlines() if line.startswith("error: forged")]
        assert "[red]x[/red]" in said.err


def test_json_keeps_the_very_text_but_prints_only_ascii() -> None:
    said = ending_in(errors.DataError(EVIL), "--json")

    assert said.object["message"] == EVIL
    assert said.out.isascii()
    assert "\x1b" not in said.out


def test_an_unexpected_error_shows_no_traceback_and_no_values() -> None:
    said = ending_in(ValueError("odd"))

    assert "error: internal error: ValueError: odd" in said.err
    assert "--debug" in said.err
    assert "Traceback" not in said.err
    assert "private" not in said.err


@pytest.mark.parametrize(("args", "env"), [(["--debug"], {}), ([], {"TRAJWEIGHT_DEBUG": "1"})])
def test_debug_shows_the_traceback_and_no_values(args: list[str], env: dict[str, str]) -> None:
    said = ending_in(errors.DataError("odd"), *args, env=env)

    assert said.code == 3
    assert "Traceback" in said.err
    assert said.err.splitlines()[-1] == "error: odd"
    assert "private value" not in said.err.replace('secret = "a private value"', "")


def test_the_system_names_the_path_it_refused() -> None:
    said = ending_in(PermissionError(errno.EACCES, "Permission denied", "/data/x.jsonl"))

    assert said.code == 1
    assert "error: /data/x.jsonl: Permission denied" in said.err


def test_a_full_disk_names_the_run_folder() -> None:
    said = ending_in(OSError(errno.ENOSPC, "No space left on device"))

    assert f"error: {Path('runs/here')}: No space left on device" in said.err


def begun(folder: Path) -> str:
    """A run folder in which something has begun."""
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    return str(folder)


def test_an_interrupted_command_says_so_and_how_to_start_over(tmp_path: Path) -> None:
    said = ending_in(KeyboardInterrupt(), folder=begun(tmp_path / "run"))

    assert "error: interrupted" in said.err
    assert "--force" in said.err


def test_an_interrupted_command_that_can_go_on_says_how_on_one_line(tmp_path: Path) -> None:
    folder = begun(tmp_path / "it's here")

    said = ending_in(Interrupted(signal.SIGINT), folder=folder, can_resume=True)

    assert said.err.splitlines()[1] == "error: interrupted"
    told = said.err.splitlines()[2].strip()
    assert told.startswith("Go on with: trajweight work --resume ")
    assert shlex.split(told)[-1] == folder
    assert len(said.err.splitlines()) == 3


def test_a_command_that_was_interrupted_before_it_began_leaves_nothing_to_go_on_with() -> None:
    said = ending_in(Interrupted(signal.SIGINT), can_resume=True)

    assert said.err.splitlines()[1:] == ["error: interrupted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_at_once_and_the_handler_before_comes_back(number) -> None:
    # The tests may themselves run where the signal is ignored, as in the background of a shell.
    inherited = signal.signal(number, signal.default_int_handler)
    before, reached = signal.getsignal(number), []

    def body(_chosen: Common, _surface: Surface, _typed: Typed) -> None:
        signal.raise_signal(number)
        reached.append("the next line")

    app = typer.Typer(name="trajweight", cls=Shell, pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    add_command(app, "work", Common, body)

    try:
        said = call("work", program=app)
        after = signal.getsignal(number)
    finally:
        signal.signal(number, inherited)

    assert said.code == 128 + number
    assert not reached
    assert after is before


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with heeding_signals() as interruption:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert interruption.signal == 0


def test_quiet_still_shows_warnings_and_errors() -> None:
    assert ending_in(errors.DataError("odd"), "--quiet").err.splitlines() == [
        "warning: something to know",
        "error: odd",
    ]


def test_a_command_that_ends_well_exits_with_zero() -> None:
    plain, as_json = ending_in(None), ending_in(None, "--json")

    assert (plain.code, plain.out) == (0, "done\n")
    assert as_json.object["status"] == "ok"
    assert as_json.object["metrics"] == {"n": 1}


@pytest.mark.parametrize(
    "args",
    [["--nonsense"], ["--seed", "x"], ["extra"]],
)
def test_usage_errors_exit_with_two_and_point_to_help(args: list[str]) -> None:
    plain, as_json = ending_in(None, *args), ending_in(None, *args, "--json")

    assert plain.code == as_json.code == 2
    assert plain.err.startswith("error: ")
    assert "Try 'trajweight work --help'." in plain.err
    assert as_json.object["code"] == "usage"
    assert as_json.object["command"] == "work"


def test_a_misspelt_command_is_told_the_nearest() -> None:
    said = call("scroe")

    assert said.code == 2
    assert "Did you mean 'score'?" in said.err


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = (
        "import sys, typer\n"
        "from trajweight.cli._shell import Shell\n"
        "app = typer.Typer(cls=Shell)\n"
        "app.callback()(lambda: None)\n"
        "app.command('work')(lambda: sys.stdout.write('x' * 100_000))\n"
        "app(['work'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None

    process.stdout.close()

    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1
