from __future__ import annotations

import io
import json
import re
import shutil
from typing import TYPE_CHECKING

import polars as pl
import pytest
from rich.console import Console

from tests.analysis.hostile import ATTACKS, hostile_run
from tests.commands import call
from tests.learned import learn
from tests.runs import make_run, row
from trajweight.analysis.why import explain
from trajweight.cli._console import text_file
from trajweight.cli._explain_view import render

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(f"s{i}", text=f"reply s{i}") for i in range(4)]
    rows += [row("r0", source="real", text="a real one")]
    embeddings = {f"s{i}": [float(i), 1.0] for i in range(4)} | {"r0": [2.0, 3.0]}
    weights = {f"s{i}": 1.0 + i for i in range(4)}
    return make_run(tmp_path / "made", rows, weights, embeddings=embeddings)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return learn(tmp_path_factory.mktemp("learned"))


def test_the_explanation_is_all_of_stdout(run) -> None:
    said = call("explain", run.folder, "s3")

    assert said.code == 0
    assert said.out.startswith("It weighs 1.60: rank 1 of 4")
    assert "Nearest real rows" in said.out
    assert "a real one" in said.out
    assert not said.err


def test_nothing_is_wider_than_a_terminal(run) -> None:
    lines = call("explain", run.folder, "s3").out.splitlines()

    assert max(map(len, lines)) <= 80


def test_json_holds_the_facts_and_the_numbers(run) -> None:
    found = call("explain", run.folder, "s3", "--json").object

    assert found["command"] == "explain"
    assert found["metrics"] == {"weight": 1.6, "score": None, "rank": 1, "percentile": 87.5}
    assert found["explanation"]["traj_id"] == "s3"
    assert len(found["explanation"]["neighbours"]["synthetic"]["rows"]) == 3


def test_as_many_neighbours_as_asked_for(run) -> None:
    found = call("explain", run.folder, "s3", "--neighbours", 2, "--json").object

    assert len(found["explanation"]["neighbours"]["synthetic"]["rows"]) == 2
    assert call("explain", run.folder, "s3", "--neighbours", 0).code == 2


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ("s9", 3, "no trajectory 's9'"),
        ("s", 2, "4 trajectories begin with 's': s0, s1, s2, s3."),
        ("", 3, "Its ids are s0, s1, s2, s3, r0."),
    ],
)
def test_ids_that_mean_nothing_or_too_much_are_refused(run, asked, code, words) -> None:
    said = call("explain", run.folder, asked)

    assert (said.code, said.out) == (code, "")
    assert words in said.err


def test_the_nearest_ids_are_named_also_in_json(run) -> None:
    found = call("explain", run.folder, "r1", "--json")

    assert found.code == found.object["exit_code"] == 3
    assert found.object["hint"].startswith("The nearest are r0")


def test_what_is_no_run_is_an_input_error(tmp_path) -> None:
    said = call("explain", tmp_path / "none", "s1")

    assert (said.code, said.out) == (3, "")
    assert str(tmp_path / "none") in said.err


def test_out_writes_the_same_text_to_a_file_but_over_nothing(run, tmp_path) -> None:
    out = tmp_path / "new" / "why.txt"
    said = call("explain", run.folder, "s3", "--out", out)

    assert said.out == f"{out}\n"
    assert out.read_text() == call("explain", run.folder, "s3").out
    assert call("explain", run.folder, "s2", "--out", out).code == 2
    assert call("explain", run.folder, "s2", "--out", out, "--force").code == 0
    assert out.read_text().startswith("It weighs 1.20")
    as_json = call("explain", run.folder, "s2", "--out", tmp_path / "w.json", "--json")
    assert json.loads((tmp_path / "w.json").read_text()) == as_json.object


@pytest.mark.parametrize("name", ["weights.parquet", "direction.safetensors", "."])
def test_the_run_itself_is_never_written_over(run, name) -> None:
    before = (run.folder / "weights.parquet").read_bytes()

    assert call("explain", run.folder, "s3", "--out", run.folder / name, "--force").code == 2
    assert (run.folder / "weights.parquet").read_bytes() == before
    assert not (run.folder / "direction.safetensors").exists()


def test_a_run_of_before_says_why_it_has_no_turns_and_shows_the_rest(run) -> None:
    said = call("explain", run.folder, "s3", "--turns")

    assert said.code == 0
    assert "no direction.safetensors" in said.err
    assert "no direction.safetensors" in said.out
    assert said.out.startswith("It weighs 1.60")
    assert "Nearest real rows" in said.out


@pytest.mark.slow
def test_each_feature_and_each_turn_has_a_line_and_they_sum_up(learned) -> None:
    said = call("explain", learned.folder, "s3", "--turns")
    assert said.code == 0, said.err
    facts = call("explain", learned.folder, "s3", "--turns", "--json").object["explanation"]

    parts, turns = facts["contributions"], facts["turns"]
    total = sum(one["adds"] for one in parts["parts"])
    assert total == pytest.approx(parts["score"] - parts["baseline"], abs=1e-9)
    assert [one["turn"] for one in turns["turns"]] == [2, 4, 6, 8]
    # single precision
    assert sum(one["d"] for one in turns["turns"]) == pytest.approx(turns["d"], rel=1e-4, abs=1e-9)
    assert len(turns["others"]) == 8
    for name in ("embedding", "length", "turns", "base loss", "real - base loss", "score"):
        assert re.search(rf"^  {name} .*[+-]\d\.\d{{3}}", said.out, re.MULTILINE), name
    for one in turns["turns"]:
        cells = [str(one["turn"]), str(one["n_tokens"]), f"{one['d']:+.2e}"]
        assert re.search("^ +" + " +".join(map(re.escape, cells)), said.out, re.MULTILINE), cells
    assert max(map(len, said.out.splitlines())) <= 80


@pytest.mark.slow
def test_the_same_question_gets_the_same_answer(learned) -> None:
    asked = ("explain", learned.folder, "s3", "--turns", "--json")

    assert call(*asked).object["explanation"] == call(*asked).object["explanation"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "before", "after", "words"),
    [
        ("head.json", '"tiny-0"', '"tiny-1"', "fingerprint"),
        ("head.json", '"model": "tiny"', '"model": "/nowhere/model"', "no such folder"),
        ("direction.safetensors", None, None, "no safetensors file"),
    ],
)
def test_without_the_model_all_else_is_shown_and_the_reason_said(
    learned, tmp_path, name, before, after, words
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(learned.folder, folder)
    path = folder / name
    if before is None:
        path.write_bytes(b"torn")
    else:
        path.write_text(path.read_text().replace(before, after))

    said = call("explain", folder, "s3", "--turns", "--json")

    assert said.code == 0
    facts = said.object["explanation"]
    assert words in facts["turns"]["missing"]
    assert facts["turns"]["missing"] in said.object["warnings"]
    assert facts["contributions"]["missing"] is None
    assert len(facts["neighbours"]["real"]["rows"]) == 5
    shown = call("explain", folder, "s3", "--turns", "--quiet")
    assert words in " ".join(shown.out.split())


@pytest.mark.slow
def test_two_runs_of_one_seed_keep_the_same_direction(learned, tmp_path) -> None:
    again = learn(tmp_path)

    for name in ("direction.safetensors", "features.parquet"):
        assert (again.folder / name).read_bytes() == (learned.folder / name).read_bytes()


def test_text_of_the_data_is_shown_and_never_acted_upon(tmp_path) -> None:
    run = hostile_run(tmp_path)

    for at in range(len(ATTACKS)):
        said = call("explain", run.folder, f"h{at} ")

        assert said.code == 0
        assert all(each.isprintable() or each == "\n" for each in said.out)
    assert "\\x1b[31mred" in call("explain", run.folder, "h4 ").out


def test_a_pipe_without_unicode_gets_plain_characters(tmp_path) -> None:
    rows = [row("a", text="größer"), row("b")]
    facts = explain(make_run(tmp_path, rows, {"a": 1.0, "b": 2.0}), "a")
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    render(facts, Console(file=stream, width=80))

    stream.flush()
    assert b"gr??er" in raw.getvalue()


def test_the_bar_of_a_turn_that_helps_stands_to_the_right_of_one_that_hurts(tmp_path) -> None:
    facts = explain(make_run(tmp_path, [row("a"), row("b", text="no")], {"a": 1.0, "b": 2.0}), "a")
    turns = [{"turn": at, "n_tokens": 3, "d": d, "line": "x"} for at, d in ((2, -0.5), (4, 0.25))]
    facts["turns"] = {"missing": None, "d": -0.25, "turns": turns, "others": [], "told": []}
    written, stream = text_file()

    render(facts, written)

    helps, hurts, whole = stream.getvalue().splitlines()[-3:]
    assert helps.split() == ["2", "3", "-5.00e-01", "++++++++++", "x"]
    assert hurts.split() == ["4", "3", "+2.50e-01", "-----", "x"]
    assert helps.index("++") == hurts.index("-----") + 5
    assert whole.split() == ["all", "6", "-2.50e-01"]


def test_the_heads_of_an_ensemble_are_told_with_their_range(run) -> None:
    interval = {"low": [0.5], "high": [2.5], "weights": [[0.5, 2.5]]}
    run.save_table(
        "ensemble",
        pl.DataFrame({"traj_id": ["s3"], "weight_low": interval["low"],
                      "weight_high": interval["high"], "weights": interval["weights"]}),
    )  # fmt: skip

    told = " ".join(call("explain", run.folder, "s3").out.split())

    assert "0.50 to 2.50 across the heads of the ensemble (0.50, 2.50)" in told
