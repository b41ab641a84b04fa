from __future__ import annotations

import pytest

from tests.commands import call, write_rows
from tests.runs import row
from trajweight.cli import _shell
from trajweight.cli.score import score
from trajweight.errors import DataError


@pytest.fixture
def second(monkeypatch) -> None:
    """This process is the second of two, and has nothing to wait for."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(_shell, "_LAST_WORD_S", 0.0)


def ending_with(monkeypatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("trajweight.cli.score.resolve", fail)
    assert score.__globals__["resolve"] is fail


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_second_process_leaves_the_errors_of_all_to_the_first(second, monkeypatch, form) -> None:
    ending_with(monkeypatch, DataError("cannot be read"))

    said = call("score", "data.jsonl", *form)

    assert (said.code, said.out, said.err) == (3, "", "")


def test_a_second_process_tells_what_befell_it_alone(second, monkeypatch) -> None:
    ending_with(monkeypatch, MemoryError())

    said = call("score", "data.jsonl", "--json")

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: process 1: the machine has no memory left")


def test_a_second_process_has_nothing_to_do_where_nothing_is_shared(second, tmp_path) -> None:
    data = write_rows(tmp_path / "d.jsonl", [row("a")])

    said = call("ingest", data, "--out", tmp_path / "run")

    assert (said.code, said.out, said.err) == (0, "", "")
    assert not (tmp_path / "run").exists()
