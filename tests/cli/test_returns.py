from __future__ import annotations

import json
import random
from functools import cache
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.commands import Said, call, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Score = Callable[..., tuple[Path, Said]]

#: A random model learns in seconds which letters the rows use, and nothing else.
SETTINGS = """
[model]
model = "tiny"
[inner]
real_steps = 1
warmup_steps = 4
learning_rate = 0.01
[estimator]
every = 1
[outer]
min_steps = 10
max_steps = 10
contest_steps = 2
"""
#: What the rows of either kind are written with.
LETTERS = {"plain": "aeioubdgkl", "odd": "yzwxvcpqhj"}


def babble(name: str, kind: str, *, origin: str = "synthetic", **more: Any) -> dict[str, Any]:
    rng = random.Random(name)

    def words(letters: str) -> str:
        return " ".join("".join(rng.choices(letters, k=5)) for _ in range(8))

    messages = [
        {"role": "user", "content": words("mnrstf")},
        {"role": "assistant", "content": words(LETTERS[kind])},
    ]
    source = "real" if origin == "real" else kind
    return {"id": name, "source": source, "origin": origin, "messages": messages, **more}


def real(kinds_rewarded: str | None) -> list[dict[str, Any]]:
    """Sixty tasks, each solved once in either kind of letters; one kind succeeded."""
    rows = []
    for task in range(60):
        for kind in LETTERS:
            row = babble(f"r{task}-{kind}", kind, origin="real", task_id=f"t{task}")
            if kinds_rewarded:
                row["reward"] = float(kind == kinds_rewarded)
            rows.append(row)
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("returns")
    for kind in LETTERS:
        write_rows(folder / f"{kind}.jsonl", real(kind))
    write_rows(folder / "unknown.jsonl", real(None))
    rows = [
        babble(f"s{task}-{kind}", kind, task_id=f"u{task}", reward=float(kind == "odd"))
        for task in range(12)
        for kind in LETTERS
    ]
    write_rows(folder / "synthetic.jsonl", rows)
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def score(files: Path) -> Score:
    """Learn from the real rows of one of the files, once for the same arguments."""

    @cache
    def learned(name: str, *args: str) -> tuple[Path, Said]:
        out = files / "-".join(["run", name, *args])
        paths = (files / f"{name}.jsonl", files / "synthetic.jsonl")
        said = call("score", *paths, "--out", out, "--config", files / "settings.toml", *args)
        assert said.code == 0, said.err
        return out, said

    return learned


def learning(run: Path) -> dict[str, Any]:
    found = json.loads((run / "report.json").read_text())["learning"]
    assert isinstance(found, dict)
    return found


def mean(run: Path, column: str, kind: str) -> float:
    """Of the synthetic rows of a kind."""
    rows = pl.read_parquet(run / "weights.parquet").filter(pl.col("source") == kind)
    found = rows[column].mean()
    assert isinstance(found, float)
    return found


@pytest.mark.slow
def test_under_successful_the_synthetic_rows_like_the_successful_real_ones_weigh_more(
    score: Score,
) -> None:
    plain, _ = score("plain", "--objective", "successful")
    odd, _ = score("odd", "--objective", "successful")

    assert mean(plain, "score", "plain") > mean(plain, "score", "odd")
    assert mean(odd, "score", "plain") < mean(odd, "score", "odd")
    assert learning(odd)["objective"].startswith("imitate the successful real validation")
    assert learning(odd)["returns"] == {
        "objective": "successful",
        "validation": 48,
        "validation_with_return": 48,
        "validation_counted": 24,
    }


@pytest.mark.slow
def test_to_imitate_looks_at_no_reward_and_gives_other_weights_than_successful(
    score: Score,
) -> None:
    plain, _ = score("plain")
    odd, _ = score("odd")
    successful, said = score("odd", "--objective", "successful")

    assert (plain / "trace.jsonl").read_bytes() == (odd / "trace.jsonl").read_bytes()
    assert (odd / "trace.jsonl").read_bytes() != (successful / "trace.jsonl").read_bytes()
    assert mean(odd, "score", "odd") != mean(successful, "score", "odd")
    assert learning(odd)["objective"].startswith("imitate the real validation trajectories")
    assert "returns" not in learning(odd)
    assert "Objective: imitate the successful real validation trajectories" in said.out
    assert "48 of 48 real validation rows have a return; 24 take part" in said.out


@pytest.mark.slow
def test_an_objective_without_rewards_falls_back_to_imitate_and_says_so(score: Score) -> None:
    run, said = score("unknown", "--objective", "return-weighted")

    assert "warning: the objective return-weighted cannot be had" in said.err
    assert learning(run)["objective"].startswith("imitate the real validation trajectories (")
    assert learning(run)["returns"]["objective"] == "imitate"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["objective"] == learning(run)["objective"]
    assert manifest["arguments"]["returns"]["objective"] == "return-weighted"


@pytest.mark.slow
def test_a_prior_stays_in_the_weights_and_goes_with_the_head_to_new_rows(
    files: Path, score: Score
) -> None:
    run, said = score("unknown", "--prior", "rwr")
    head = json.loads((run / "head.json").read_text())
    applied = files / "applied"

    again = call("score", files / "synthetic.jsonl", "--run", run, "--out", applied)

    # Of a task with rewards 0 and 1 the factors are exp(-1) and exp(1); the head is near its start.
    assert mean(run, "weight", "odd") > 3 * mean(run, "weight", "plain")
    assert learning(run)["selected"] in ("head", "returns")
    assert learning(run)["returns"]["synthetic_with_return"] == 24
    assert "24 of 24 synthetic training rows have a return; returns alone leave ESS/n" in said.out
    assert "returns alone" in said.out
    assert (head["returns"]["prior"], head["objective"]) == ("rwr", learning(run)["objective"])
    assert again.code == 0, again.err
    assert mean(applied, "weight", "odd") == pytest.approx(mean(run, "weight", "odd"), abs=1e-5)


@pytest.mark.slow
def test_too_few_successes_to_learn_from_leave_what_returns_say_of_the_synthetic_rows(
    files: Path,
) -> None:
    few = files / "few.jsonl"
    write_rows(few, [row | {"success": row["task_id"] == "t3"} for row in real(None)])
    out = files / "run-few"

    said = call(
        *("score", few, files / "synthetic.jsonl", "--val", few, "--out", out),
        *("--config", files / "settings.toml", "--objective", "successful", "--prior", "rwr"),
    )

    assert said.code == 0, said.err
    assert "2 real validation trajectories that count for the objective successful" in said.err
    assert "returns alone give the weights" in said.err
    assert learning(out)["selected"] == "returns"
    e = 2.718281828459045
    assert mean(out, "weight", "odd") == pytest.approx(2 * e / (e + 1 / e))
    assert mean(out, "weight", "plain") == pytest.approx(2 / e / (e + 1 / e))
