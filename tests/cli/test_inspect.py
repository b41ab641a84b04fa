"""What ``inspect`` says of files, and that it does nothing of what the data say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.commands import babble, call, write_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl", (babble(f"s{n}", reward=n / 10) for n in range(8)))


def test_a_file_is_told_on_stdout_and_nothing_is_written(path: Path) -> None:
    said = call("inspect", path)

    assert said.code == 0
    text = " ".join(said.out.split())
    whole = "".join(said.out.split())  # a path that is longer than a line breaks anywhere
    assert whole.startswith(f"{path}format")
    for told in (
        "format JSON lines, OpenAI messages (messages): records have a key messages",
        "rows 8 seen = 8 usable + 0 rejected",
        "origins synthetic 8",
        "sources good 8",
        "reward 0 to 0.7, median 0.35, mean 0.35",
        "turns 2 each",
        "estimated as characters / 4",
        "Samples",
    ):
        assert told in text
    assert not said.err
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_json_is_one_object_with_all_facts(path: Path) -> None:
    found = call("inspect", path, "--json").object

    assert found["command"] == "inspect"
    assert found["inputs"] == [str(path)]
    assert found["metrics"] == {"files": 1, "files_not_understood": 0, "rows": 8}
    (file,) = found["files"]
    assert file["format"]["name"] == "messages"
    assert len(file["samples"]) == 5
    assert file["tokens"]["how"] == "characters / 4"


def test_only_the_first_thousand_rows_are_looked_at_unless_all_are_asked_for(path: Path) -> None:
    write_rows(path, (babble(f"s{n}") for n in range(1001)))

    first, whole = call("inspect", path, "--json"), call("inspect", path, "--json", "--all")

    rows = first.object["files"][0]["rows"]
    assert (rows["seen"], rows["are_all"]) == (1000, False)
    rows = whole.object["files"][0]["rows"]
    assert (rows["seen"], rows["are_all"]) == (1001, True)
    assert "1,000 seen = 1,000 usable + 0 rejected, and more follow" in call("inspect", path).out


def test_a_file_of_no_known_format_is_an_input_error_with_the_way_on(path: Path) -> None:
    path.write_text('{"chat": [1], "score": 2}\n')

    said = call("inspect", path)

    assert said.code == 3
    assert "keys seen: chat, score; nearest: " in said.err
    assert "--map messages=chat.turns" in said.err
    assert call("inspect", path, "--json").object["exit_code"] == 3


def test_a_mapping_makes_it_known(path: Path) -> None:
    chat = babble("s")["messages"]
    path.write_text(json.dumps({"talk": {"turns": chat}, "info": {"score": 0.5}}) + "\n")

    said = call("inspect", path, "--map", "messages=talk.turns", "--map", "reward=info.score")

    assert said.code == 0
    assert "reward from field info.score" in " ".join(said.out.split())


@pytest.mark.parametrize("args", [("--format", "nope"), ("--map", "colour=x")])
def test_a_format_or_mapping_that_is_none_is_a_usage_error(
    path: Path, args: tuple[str, str]
) -> None:
    said = call("inspect", path, *args)

    assert said.code == 2
    assert args[1] in said.err


def test_of_several_files_those_understood_are_told_and_the_others_named(path: Path) -> None:
    other = path.with_name("other.jsonl")
    other.write_text('{"x": 1}\n')

    said, found = call("inspect", path, other), call("inspect", path, other, "--json")

    assert said.code == found.code == 3
    assert "8 seen = 8 usable" in said.out
    assert f"warning: {other}: JSON lines of no known format" in said.err
    good, bad = found.object["files"]
    assert good["rows"]["seen"] == 8
    assert bad["error"]["code"] == "data"
    assert found.object["metrics"]["files_not_understood"] == 1


def test_a_missing_file_is_an_input_error(tmp_path: Path) -> None:
    said = call("inspect", tmp_path / "none.jsonl")

    assert said.code == 3
    assert "no such file" in said.err


def test_what_the_data_say_is_shown_and_never_acted_upon(path: Path) -> None:
    evil = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] \u202eback"
    row = babble("s", source=evil)
    row["messages"][1]["content"] = evil
    row["messages"][0]["tool_calls"] = [{"id": "1", "function": {"name": evil, "arguments": "{}"}}]
    write_rows(path, [row, {evil: 1}])

    said, found = call("inspect", path), call("inspect", path, "--json")

    for text in (said.out, said.err, found.out):
        assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "\\x1b[31mred" in said.out
    assert "[bold]x[/bold]" in said.out


def test_it_is_written_to_a_file_but_over_nothing_unasked(path: Path) -> None:
    out = path.with_name("found.json")

    said = call("inspect", path, "--out", out, "--json")

    assert said.object["outputs"] == {"survey": str(out)}
    assert json.loads(out.read_text())["files"] == said.object["files"]
    assert call("inspect", path, "--out", out).code == 2
    assert call("inspect", path, "--out", path.parent).code == 2
    assert call("inspect", path, "--out", out, "--force").code == 0
    assert "8 seen = 8 usable" in out.read_text()


@pytest.mark.parametrize("width", [60, 80])
def test_it_fits_the_terminal(path: Path, width: int) -> None:
    said = call("inspect", path, env={"COLUMNS": str(width)})

    lines = said.out.replace(str(path), "FILE").splitlines()
    assert max(map(len, lines)) <= width
