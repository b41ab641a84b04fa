from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from trajweight.cli._console import Surface, as_json_text, visible

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


@given(st.text(st.characters()))
def test_visible_text_holds_only_what_prints(text: str) -> None:
    shown = visible(text)

    assert shown.isprintable()
    assert visible(shown) == shown


@given(st.text(st.characters(categories=["L", "N", "P"])))
def test_text_that_prints_stays_as_it_is(text: str) -> None:
    assert visible(f"a  {text}") == f"a  {text}"


@given(st.dictionaries(st.text(), st.floats() | st.text(st.characters()) | st.none()))
def test_json_is_ascii_on_any_terminal_and_reads_back(facts: dict[str, object]) -> None:
    text = as_json_text(facts)

    assert text.replace("\n", "").isprintable()
    assert text.isascii()
    found = json.loads(text)
    assert set(found) == set(facts)


def test_numbers_that_are_not_finite_become_null() -> None:
    assert json.loads(as_json_text({"a": [float("nan"), (float("inf"), 1.5)]})) == {
        "a": [None, [None, 1.5]]
    }


def test_results_go_to_stdout_and_the_rest_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    surface = Surface("score")

    surface.say("a note")
    surface.warn("a warning")
    surface.print("a result [bold]as it is[/bold] :smile:")
    surface.finish()

    said = capsys.readouterr()
    assert said.out == "a result [bold]as it is[/bold] :smile:\n"
    assert said.err == "a note\nwarning: a warning\n"


def test_json_is_all_that_stdout_carries(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    surface = Surface("score", as_json=True)

    surface.say("a note")
    surface.warn("a warning")
    surface.print("a result")
    surface.finish(inputs=[tmp_path], outputs={"run": tmp_path}, metrics={"ess": 2.5}, more=[1])

    found = json.loads(capsys.readouterr().out)
    assert found == {
        "schema_version": "2.0",
        "command": "score",
        "status": "ok",
        "inputs": [str(tmp_path)],
        "outputs": {"run": str(tmp_path)},
        "metrics": {"ess": 2.5},
        "warnings": ["a warning"],
        "notes": ["a note"],
        "more": [1],
    }


def test_quiet_leaves_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    surface = Surface("score", quiet=True)

    surface.say("a note")
    surface.stage("reading")
    surface.warn("a warning")
    surface.print("a result")

    said = capsys.readouterr()
    assert (said.out, said.err) == ("a result\n", "warning: a warning\n")


def test_a_warning_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    surface = Surface("score")

    surface.warn("the same")
    surface.adopt(["the same", "told by the report"])
    surface.warn("the same")
    surface.warn("told by the report")

    assert surface.warnings == ["the same", "told by the report"]
    assert capsys.readouterr().err == "warning: the same\n"
