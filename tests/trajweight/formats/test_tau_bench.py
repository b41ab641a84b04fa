"""Laws of tau-bench results: a run is a row, its trials a group, its reward an outcome."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from tests.trajweight.formats.rows import (
    ASK,
    REPLY,
    SAMPLES,
    broken,
    detected,
    form_of,
    given_back,
    hold,
    reason,
    told,
)
from trajweight.formats.tau_bench import TauBench
from trajweight.reading import original_row, read_trajectories

FORM = TauBench()
ROWS = json.loads((SAMPLES / "tau_bench.json").read_text("utf-8"))


def test_every_run_is_known():
    assert detected(ROWS) == "tau-bench"
    assert {form_of(row).name for row in ROWS} == {"tau-bench"}


def test_the_conversation_is_that_of_traj():
    found = told(ROWS[0])

    assert [turn["role"] for turn in found.messages] == [turn["role"] for turn in ROWS[0]["traj"]]
    assert found.messages[2] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "call_1", "name": "find_crossing", "arguments": {"guest": "nora_1"}}],
    }
    assert found.messages[3]["tool_call_id"] == "call_1"


def test_task_and_trial_name_a_run_and_a_reward_of_one_is_success():
    said = [told(row).said for row in ROWS]

    assert [one["id"][0] for one in said] == ["0:0", "0:1", "1:0"]
    assert [one["success"][0] for one in said] == [True, False, True]


@pytest.mark.parametrize(
    ("reward", "success"), [(1, True), (0.9999999, True), (0.5, False), (0, False)]
)
def test_success_is_a_reward_of_one_up_to_rounding(reward, success):
    assert told({"traj": [ASK, REPLY], "reward": reward}).said["success"][0] is success


@pytest.mark.parametrize("reward", [None, "1", True, [1]])
def test_a_reward_that_is_no_number_says_nothing_of_success(reward):
    assert "success" not in told({"traj": [ASK, REPLY], "reward": reward}).said


def test_a_run_that_ended_in_an_error_says_so():
    row = {"task_id": 1, "reward": 0.0, "info": {"error": "no answer"}, "traj": [], "trial": 0}

    assert reason(row) == "traj is empty: the run ended in an error: no answer"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_given_back_whole(row):
    assert given_back(row) == row


def test_the_sample_file_is_read_and_given_back():
    reading = read_trajectories([SAMPLES / "tau_bench.json"])

    assert reading.table["traj_id"].to_list() == ["0:0", "0:1", "1:0"]
    assert reading.table["task_id"].to_list() == reading.table["group_id"].to_list()
    assert reading.table["reward"].to_list() == [1.0, 0.0, 1.0]
    assert reading.table["success"].to_list() == [True, False, True]
    assert [original_row(row) for row in reading.table.iter_rows(named=True)] == ROWS


@given(broken(ROWS))
def test_a_broken_row_is_told_or_refused(row):
    hold(FORM, row)
