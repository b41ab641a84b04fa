"""What a user may feed the commands by mistake: a clear message or the right result, nothing lost.

Without real rows weights are uniform and no model is loaded, so most of these are quick.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.commands import QUICK, Said, babble, call, write_rows

if TYPE_CHECKING:
    from pathlib import Path

GOOD = [babble(f"s{i}") for i in range(4)]


def ends(path: Path, run: Path, command: str = "score", *args: object) -> Said:
    """Run a command on one file; whatever it finds, every row read is accounted for."""
    said = call(command, path, "--out", run, *args)
    if (run / "manifest.json").exists():
        counts = json.loads((run / "manifest.json").read_text()).get("counts")
        if counts is not None:
            table = run / "trajectories.parquet"
            kept = pl.read_parquet(table).height if table.exists() else 0
            rejected = len(rejections(run))
            assert (counts["kept"], counts["rejected"]) == (kept, rejected)
            assert counts["read"] == kept + rejected
    return said


def rejections(run: Path) -> list[dict[str, Any]]:
    path = run / "rejected.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def text_of(*rows: dict[str, Any] | str) -> str:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.jsonl"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


both = pytest.mark.parametrize("command", ["score", "ingest"])


@both
def test_an_empty_file_is_an_input_error(path: Path, run: Path, command: str) -> None:
    for data in (b"", b"\n\n", b"\xef\xbb\xbf\r\n"):
        path.write_bytes(data)

        said = ends(path, run, command, "--force")

        assert said.code == 3
        assert str(path) in said.err
        assert "nothing to read" in said.err


@both
def test_a_missing_file_is_an_input_error_and_leaves_nothing(
    path: Path, run: Path, command: str
) -> None:
    said = ends(path, run, command)

    assert said.code == 3
    assert f"error: {path}: " in said.err
    assert not run.exists()


@both
def test_a_folder_without_files_to_read_is_an_input_error_that_names_what_it_has(
    tmp_path: Path, run: Path, command: str
) -> None:
    (tmp_path / "notes.md").touch()

    said = ends(tmp_path, run, command)

    assert said.code == 3
    assert f"error: {tmp_path}: holds no file to read" in said.err
    assert "notes.md" in said.err
    assert ".jsonl" in said.err
    assert not run.exists()


@both
def test_a_file_of_a_kind_that_is_not_read_is_an_input_error_and_leaves_nothing(
    path: Path, run: Path, command: str
) -> None:
    for data, name in (("{}".encode("utf-16"), "UTF-16"), (b"PK\x05\x06" + bytes(18), "zip")):
        path.write_bytes(data)

        said = ends(path, run, command)

        assert said.code == 3
        assert f"error: {path}: " in said.err
        assert name in said.err
        assert not run.exists()


def test_without_real_rows_every_weight_is_one_and_a_warning_says_so(path: Path, run: Path) -> None:
    write_rows(path, GOOD)

    said = ends(path, run)

    assert said.code == 0
    assert "warning: 0 real validation trajectories" in said.err
    assert pl.read_parquet(run / "weights.parquet")["weight"].to_list() == [1.0] * 4
    assert "Weights were not learned" in said.out


def test_force_cannot_learn_from_no_real_rows_at_all(path: Path, run: Path) -> None:
    write_rows(path, GOOD)

    assert "warning: 0 real validation" in ends(path, run, "score", "--force").err


def test_only_real_rows_leave_nothing_to_weigh(path: Path, run: Path) -> None:
    write_rows(path, (babble(f"r{i}", source="real") for i in range(4)))

    said = ends(path, run)

    assert said.code == 3
    assert "no synthetic" in said.err
    assert pl.read_parquet(run / "trajectories.parquet").height == 4


@pytest.mark.parametrize(("source", "code"), [("good", 0), ("real", 3)])
def test_one_row_is_weighed_or_there_is_nothing_to_weigh(
    path: Path, run: Path, source: str, code: int
) -> None:
    write_rows(path, [babble("one", source=source)])

    said = ends(path, run)

    assert said.code == code
    assert pl.read_parquet(run / "trajectories.parquet").height == 1
    if not code:
        assert pl.read_parquet(run / "weights.parquet")["weight"].to_list() == [1.0]


@both
def test_broken_json_on_line_3_costs_that_line_and_is_named(
    path: Path, run: Path, command: str
) -> None:
    path.write_text(text_of(GOOD[0], GOOD[1], '{"id": "x", "messages": [', GOOD[2]))

    said = ends(path, run, command)

    assert said.code == 0
    assert f"{path}:3: " in said.err
    [rejected] = rejections(run)
    assert (rejected["line"], rejected["text"]) == (3, '{"id": "x", "messages": [')


@both
def test_a_row_of_10_mb_is_a_row_like_any_other(path: Path, run: Path, command: str) -> None:
    huge = babble("huge")
    huge["messages"][1]["content"] = "wort " * 2_000_000
    write_rows(path, [*GOOD, huge])

    said = ends(path, run, command)

    assert said.code == 0
    table = pl.read_parquet(run / "trajectories.parquet")
    assert table.filter(pl.col("traj_id") == "huge")["n_chars"].item() > 10_000_000


def test_a_reward_that_is_nan_is_unknown_and_said_to_be(path: Path, run: Path) -> None:
    path.write_text(text_of(*GOOD, {**babble("odd"), "reward": math.nan}))

    said = ends(path, run)
    call("export-weights", run, "--out", run.parent / "out.jsonl")

    assert said.code == 0
    assert f"{path}:5: reward is NaN" in said.err
    table = pl.read_parquet(run / "trajectories.parquet")
    assert table["reward"].to_list() == [None] * 5
    last = json.loads((run.parent / "out.jsonl").read_text().splitlines()[-1])
    assert last["reward"] is None  # strict JSON, which every reader takes


@both
def test_an_unknown_role_is_rejected_with_its_name_and_place(
    path: Path, run: Path, command: str
) -> None:
    odd = babble("odd")
    odd["messages"][1]["role"] = "agent\x1b[2J"
    write_rows(path, [*GOOD, odd])

    said = ends(path, run, command)

    assert said.code == 0
    assert f"{path}:5: " in said.err
    assert "\x1b" not in said.err + said.out
    [rejected] = rejections(run)
    assert "agent" in rejected["reason"]
    assert json.loads(rejected["text"]) == odd


@both
def test_an_assistant_turn_with_no_text_is_remarked_or_rejected(
    path: Path, run: Path, command: str
) -> None:
    silent, partly = babble("silent"), babble("partly")
    silent["messages"][1]["content"] = ""
    partly["messages"] += [{"role": "user", "content": "and"}, {"role": "assistant", "content": ""}]
    write_rows(path, [*GOOD, silent, partly])

    said = ends(path, run, command)

    assert said.code == 0
    assert [one["line"] for one in rejections(run)] == [5]
    assert f"{path}:6: " in said.err
    assert "no text" in said.err


@both
def test_windows_line_ends_and_a_byte_order_mark_change_nothing(
    path: Path, run: Path, command: str
) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + text_of(*GOOD).replace("\n", "\r\n").encode())

    said = ends(path, run, command)

    assert said.code == 0
    assert not rejections(run)
    assert pl.read_parquet(run / "trajectories.parquet")["traj_id"].to_list() == [
        one["id"] for one in GOOD
    ]


@both
def test_where_no_row_can_be_used_all_are_kept_apart(path: Path, run: Path, command: str) -> None:
    path.write_text('{"messages": 3}\n{"messages": []}\n')

    said = ends(path, run, command)

    assert said.code == 3
    assert str(run / "rejected.jsonl") in said.err
    assert len(rejections(run)) == 2


@pytest.mark.slow
def test_all_of_it_at_once_among_good_rows_still_learns(tmp_path: Path, run: Path) -> None:
    huge, silent = babble("huge"), babble("silent")
    huge["messages"][1]["content"] = "wort " * 2_000_000
    silent["messages"][1]["content"] = ""
    rows = [babble(f"s{i}") for i in range(8)]
    odd = [{**babble("odd"), "reward": math.nan}, huge, silent, "{", {"messages": 3}, 7]
    text = text_of(*rows, *(one if isinstance(one, dict) else json.dumps(one) for one in odd))
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    real = write_rows(tmp_path / "real.jsonl", (babble(f"r{i}", source="real") for i in range(40)))
    (tmp_path / "quick.toml").write_text(QUICK)

    said = ends(path, run, "score", real, "--config", tmp_path / "quick.toml")

    assert said.code == 0, said.err
    assert "54 rows read = 50 kept + 4 rejected" in said.out
    assert json.loads((run / "report.json").read_text())["learning"]["outer_steps"] >= 1
