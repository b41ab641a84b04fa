from __future__ import annotations

import json

import pytest

from tests.runs import make_run, row
from trajweight.analysis.html_rows import rows_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [row(f"s{at:02}", text=f"words {at}") for at in range(40)]
    rows += [row(f"r{at}", source="real") for at in range(10)]
    splits = {f"r{at}": "dev" for at in range(5)}
    weights = {f"s{at:02}": 1.0 + at for at in range(40)}
    return make_run(tmp_path_factory.mktemp("rows"), rows, weights, splits=splits)


def test_a_small_run_is_shown_whole_with_the_heaviest_first_and_no_weight_last(run) -> None:
    shown = rows_of(run)

    weights = [each["weight"] for each in shown.rows]
    known = [weight for weight in weights if weight is not None]
    assert len(shown.rows) == 50
    assert known == sorted(known, reverse=True)
    assert weights[len(known) :] == [None] * 5
    assert shown.told == "All 50 trajectories of the run."


def test_of_a_large_run_both_ends_are_shown_and_a_sample_that_the_seed_decides(run) -> None:
    shown = rows_of(run, most=20, seed=3)
    names = [each["id"] for each in shown.rows]

    assert len(set(names)) == 20
    assert set(names) >= {f"s{at:02}" for at in (*range(5), *range(35, 40))}
    assert names == [each["id"] for each in rows_of(run, most=20, seed=3).rows]
    assert names != [each["id"] for each in rows_of(run, most=20, seed=4).rows]
    assert shown.told == (
        "20 of the run's 50 trajectories: the 5 heaviest and the 5 lightest synthetic training "
        "rows, and 10 others drawn at random (seed 3)."
    )


def test_every_row_stands_beside_its_own_words(run) -> None:
    for each in rows_of(run).rows:
        if each["origin"] == "synthetic":
            assert each["line"] == f"words {int(each['id'][1:])}"
            assert [turn["role"] for turn in each["turns"]] == ["user", "assistant"]


def test_what_is_cut_and_what_is_shown_add_up(tmp_path) -> None:
    call = {"name": "look", "arguments": json.dumps({"at": "y" * 50})}
    messages = [
        {"role": "user", "content": "u" * 30},
        {"role": "assistant", "content": "a" * 40, "tool_calls": [{"function": call}]},
        {"role": "tool", "content": "t" * 500},
        {"role": "assistant", "content": "the end"},
    ]
    made = make_run(tmp_path, [row("s", messages=messages), row("z")], {"s": 1.0, "z": 1.0})
    whole = rows_of(made).rows[0]
    n_whole = _characters(whole)

    for limit in (0, 10, 30, 69, 100, 300, 1000):
        cut = rows_of(made, characters=limit).rows[0]
        assert _characters(cut) + cut["n_cut"] == n_whole
        assert _characters(cut) == min(limit, n_whole)
        assert len(cut["turns"]) <= len(whole["turns"])
    assert whole["n_cut"] == 0


def test_turns_that_are_copied_are_told_apart_from_those_trained_on(tmp_path) -> None:
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "copied", "weight": 0},
        {"role": "assistant", "content": "mine", "reasoning_content": "I thought"},
    ]
    made = make_run(tmp_path, [row("s", messages=messages), row("z")], {"s": 1.0, "z": 1.0})

    turns = rows_of(made).rows[0]["turns"]

    assert [turn.get("trained") for turn in turns] == [None, False, True]
    assert turns[2]["reasoning"] == "I thought"


def _characters(row) -> int:
    texts = [turn.get(name, "") for turn in row["turns"] for name in ("text", "reasoning")] + [
        call["arguments"] for turn in row["turns"] for call in turn.get("calls", [])
    ]
    return sum(map(len, texts))
