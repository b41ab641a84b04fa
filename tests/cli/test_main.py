from __future__ import annotations

import subprocess
import sys

import pytest

from tests.commands import call
from trajweight.cli._options import SETTINGS
from trajweight.config import RunConfig

COMMANDS = ("score", "export-weights", "report", "inspect", "ingest", "train-bilevel")
HEAVY = ("torch", "transformers", "peft", "datasets", "sklearn", "matplotlib", "polars", "numpy")


def help_of(*command: str) -> str:
    """Help on a wide terminal, its boxes taken off."""
    said = call(*command, "--help", env={"COLUMNS": "300", "NO_COLOR": "1"})
    assert said.code == 0
    return said.out


@pytest.mark.parametrize("name", ["help", "version"])
def test_help_and_version_load_nothing_heavy(name: str) -> None:
    code = (
        "import sys; from trajweight.cli.main import app\n"
        f"try: app(['--{name}'])\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_version_is_one_line_on_stdout() -> None:
    said = call("--version")

    assert said.code == 0
    assert said.out.startswith("trajweight ")
    assert len(said.out.splitlines()) == 1
    assert not said.err


def test_h_is_help() -> None:
    assert call("-h").out == call("--help").out
    assert call("report", "-h").code == 0


def test_no_command_shows_help_and_is_a_usage_error() -> None:
    said = call()

    assert said.code == 2
    assert "Usage: trajweight" in said.out


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    text = help_of()

    for name in COMMANDS:
        assert name in text
    for code in (
        *("0 ok", "1 failed", "2 usage", "3 input", "4 a gate", "5 a model or package"),
        "130 or 143 interrupted",
    ):
        assert code in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options(name: str) -> None:
    text = help_of(name)

    for option in ("--seed", "--json", "--quiet", "--out", "--force", "--debug"):
        assert option in text


@pytest.mark.parametrize("option", sorted(SETTINGS))
def test_help_names_the_default_of_the_settings(option: str) -> None:
    section, _, name = SETTINGS[option].partition(".")
    default = getattr(getattr(RunConfig(), section), name)

    text = help_of("score")

    if isinstance(default, str | int | float) and not isinstance(default, bool):
        flag = f"--{option.replace('_', '-')} "
        line = next(line for line in text.splitlines() if flag in line)
        assert f"default {default}" in line


@pytest.mark.parametrize("width", [60, 80])
def test_help_fits_the_terminal(width: int) -> None:
    said = call("score", "--help", env={"COLUMNS": str(width), "NO_COLOR": "1"})

    assert max(map(len, said.out.splitlines())) <= width


def test_help_has_no_escape_sequences_in_a_pipe() -> None:
    assert "\x1b" not in call("--help").out


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trajweight.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith("trajweight ")
