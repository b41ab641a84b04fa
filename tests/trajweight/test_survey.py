"""Laws of looking at files: what is told is what reading finds, and nothing more is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from trajweight.containers import decoding
from trajweight.errors import DataError
from trajweight.reading import read_trajectories
from trajweight.records import Record
from trajweight.rows import Layout
from trajweight.survey import failed, survey

if TYPE_CHECKING:
    from pathlib import Path


def chat(n: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"task {n}"}, {"role": "assistant", "content": "é" * n}]
    return {"id": f"r{n}", "messages": messages * 2, **more}


def acting(n: int) -> dict[str, Any]:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    return {
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "hm"},
            {"role": "tool", "tool_call_id": "1", "content": f"seen {n}"},
        ]
    }


ROWS = [
    *(chat(n, reward=n / 4, success=n > 2, model="m", origin="real") for n in range(1, 6)),
    *(chat(n, source="s") for n in range(1, 4)),
    acting(1),
    acting(2),
    {"no": "row"},
]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def facts_of(path: Path, rows: list[Any] = ROWS, **more: Any) -> dict[str, Any]:
    (found,) = survey(write(path, rows), layout=Layout(), **more)
    assert found.error is None
    return found.facts


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


def test_numbers_are_those_of_the_table_that_reading_makes(path: Path):
    facts = facts_of(path)

    table = read_trajectories([path]).table
    turns = table["n_turns"].to_list()
    rewards = table["reward"].drop_nulls()
    assert facts["rows"] == {
        "seen": 11,
        "are_all": True,
        "usable": table.height,
        "rejected": 1,
        "because": facts["rows"]["because"],
    }
    assert facts["turns"] == {
        "known": 1.0,
        "least": min(turns),
        "median": median(turns),
        "mean": sum(turns) / len(turns),
        "most": max(turns),
    }
    assert facts["rewards"]["known"] == len(rewards) / table.height
    assert (facts["rewards"]["least"], facts["rewards"]["most"]) == (0.25, 1.25)
    assert facts["success"] == {"known": 0.5, "share": 0.6}
    assert facts["copies"] == table.height - table["content_sha256"].n_unique() == 3
    assert facts["origins"] == {"real": 5, "synthetic": 5, "not_said": 5}
    assert facts["sources"] == [
        {"name": "m", "n": 5},
        {"name": "s", "n": 3},
        {"name": "data", "n": 2},
    ]


def test_characters_are_those_of_text_reasoning_and_calls_and_tokens_a_fourth(path: Path):
    facts = facts_of(path, [acting(1)])

    n = len("go") + len("hm") + len("look") + len('{"a":1}') + len("seen 1")
    assert facts["characters"]["total"] == n
    assert facts["tokens"] == {"estimate": round(n / 4), "how": "characters / 4"}
    assert facts["tools"] == [{"name": "look", "n": 1}]


def test_the_format_is_told_with_the_reason(path: Path):
    facts = facts_of(path)

    assert facts["container"] == "JSON lines"
    assert facts["format"] == {
        "name": "messages",
        "title": "OpenAI messages",
        "why": "records have a key messages",
    }
    assert "reward from field reward" in facts["detected"]


def test_the_format_that_was_named_is_told_to_be_that(path: Path):
    write(path, ROWS)

    (found,) = survey(path, layout=Layout.of("messages", []))

    assert found.facts["format"]["why"] == "as --format says"


def test_problems_have_their_number_and_first_place(path: Path):
    user = {"role": "user", "content": "more"}
    cut = [{"messages": [*chat(n)["messages"], user]} for n in range(1, 4)]

    facts = facts_of(path, [chat(1), *cut])

    assert facts["problems"] == [
        {
            "code": "trailing-user-turn",
            "rows": 3,
            "line": 2,
            "detail": "turn 5 is a user turn, and the last",
        }
    ]


def test_reasons_of_rejected_rows_are_told(path: Path):
    (because,) = facts_of(path)["rows"]["because"]

    assert because["line"] == 11
    assert "keys seen: no" in because["reason"]


@pytest.mark.parametrize(
    ("rows", "seen", "are_all"), [(3, 3, False), (11, 11, True), (None, 11, True)]
)
def test_only_the_first_rows_are_looked_at(path: Path, rows: int | None, seen: int, are_all: bool):
    write(path, ROWS)

    (found,) = survey(path, layout=Layout(), rows=rows)

    facts = found.facts["rows"]
    assert (facts["seen"], facts["are_all"]) == (seen, are_all)


def test_five_samples_are_rows_of_the_file_in_their_order(path: Path):
    samples = facts_of(path)["samples"]

    lines = [sample["line"] for sample in samples]
    assert len(set(lines)) == 5
    assert lines == sorted(lines)
    for sample in samples:
        turns = read_trajectories([path]).table.row(sample["line"] - 1, named=True)
        assert sample["source"] == turns["source"]
        assert sample["n_turns"] == turns["n_turns"] == len(sample["roles"])
    acted = next(sample for sample in facts_of(path, [acting(1)])["samples"])
    assert (acted["opens"], acted["answers"]) == ("go", 'look({"a":1})')


def test_samples_are_of_all_rows_seen_and_the_same_each_time(path: Path):
    lines = [
        sample["line"] for n in range(20, 60) for sample in facts_of(path, [chat(1)] * n)["samples"]
    ]

    assert max(lines) > 40
    assert facts_of(path)["samples"] == facts_of(path)["samples"]


def test_of_a_folder_every_file_is_told_and_what_is_not_understood_is_kept_apart(tmp_path: Path):
    write(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "b.jsonl").write_text('{"x": 1}\n')
    (tmp_path / "c.jsonl").write_text("\n\n")

    found = survey(tmp_path, layout=Layout())

    assert [each.path.name for each in found] == ["a.jsonl", "b.jsonl", "c.jsonl"]
    assert found[0].error is None
    told = {each.path.name: each.facts or str(each.error) for each in found[1:]}
    assert told["b.jsonl"]["rows"]["rejected"] == 1  # type: ignore[index]
    assert "nothing to read" in str(told["c.jsonl"])
    assert failed(found) == [found[2].error]


def test_a_file_of_no_known_format_is_told_with_what_helps(path: Path):
    (found,) = survey(write(path, [{"chat": {"turns": []}}]), layout=Layout())

    assert found.error is not None
    assert "keys seen: chat; nearest: " in found.error.message
    assert "--map messages=chat.turns" in found.error.hint


def test_a_name_that_stands_for_nothing_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        survey(tmp_path / "none.jsonl", layout=Layout())


def test_looking_at_json_loads_no_library_that_takes_long(path: Path):
    write(path, ROWS)
    program = (
        "import sys\n"
        "from trajweight.cli.main import app\n"
        f"try: app(['inspect', {str(path)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'polars', 'numpy', 'pyarrow', 'torch', 'transformers', 'datasets'}\n"
        "print('loaded:', *sorted(heavy & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "loaded:"


def test_looking_at_all_rows_holds_none_of_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading follows each record into its rows; looking does not, or it would hold them all."""
    most = 0

    class Counted(Record):
        alive = 0

        def __init__(self, *given: Any, **named: Any) -> None:
            nonlocal most
            super().__init__(*given, **named)
            Counted.alive += 1
            most = max(most, Counted.alive)

        def __del__(self) -> None:
            Counted.alive -= 1

    monkeypatch.setattr(decoding, "Record", Counted)

    written = write(path, [chat(1 + n % 7) for n in range(500)])
    (found,) = survey(written, layout=Layout(), rows=None)

    assert found.facts["rows"]["seen"] == 500
    assert 0 < most <= 40  # those that the format is told by are held together
