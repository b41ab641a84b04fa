"""Laws of splitting: no task and no copy on both sides, whatever the order of rows."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.test_duplicates import slow_near_duplicates
from trajweight.duplicates import comparable_text
from trajweight.errors import ConfigError
from trajweight.reading import table_schema
from trajweight.splitting import Fractions, Splitting, split

HELD_OUT = ["validation", "dev", "test"]


def a_row(traj_id: str, origin: str, text: str = "", **columns: Any) -> dict[str, Any]:
    messages = json.dumps([{"role": "assistant", "content": text or unlike(traj_id)}])
    return {
        "traj_id": traj_id,
        "origin": origin,
        "task_id": traj_id,
        "origin_path": "data.jsonl",
        "content_sha256": hashlib.sha256(messages.encode()).hexdigest(),
        "messages_json": messages,
        **columns,
    }


def unlike(traj_id: str) -> str:
    return " ".join(f"{traj_id}-{i}" for i in range(12))


def a_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    schema = table_schema()
    return pl.DataFrame({name: [r.get(name) for r in rows] for name in schema}, schema=schema)


def real(n: int, tasks: int | None = None, **columns: Any) -> list[dict[str, Any]]:
    return [a_row(f"r{i:03}", "real", task_id=f"t{i % (tasks or n)}", **columns) for i in range(n)]


def synthetic(n: int, **columns: Any) -> list[dict[str, Any]]:
    return [a_row(f"s{i:03}", "synthetic", **columns) for i in range(n)]


def run(rows: list[dict[str, Any]], **options: Any) -> Splitting:
    return split(a_table(rows), **{"seed": 0, **options})


def splits_of(splitting: Splitting) -> dict[str, str]:
    return dict(splitting.table.select("traj_id", "split").iter_rows())


def real_counts(splitting: Splitting) -> dict[str, int]:
    rows = splitting.table.filter(pl.col("origin") == "real")
    return dict(rows.group_by("split").len().iter_rows())


@st.composite
def tables(draw):
    rows = []
    n_real = draw(st.integers(0, 70))
    n_tasks = draw(st.integers(1, 70))
    rng = random.Random(draw(st.integers(0, 999)))
    for i in range(n_real + draw(st.integers(0, 20))):
        is_real = i < n_real
        text = " ".join(rng.choice("ab") for _ in range(rng.randint(5, 8)))
        rows.append(
            a_row(
                f"{i:03}",
                "real" if is_real else "synthetic",
                text if rng.random() < 0.3 else "",
                task_id=f"t{rng.randrange(n_tasks)}",
                group_id=f"g{rng.randrange(40)}" if rng.random() < 0.2 else None,
                origin_path=rng.choice(["a", "b"]) if is_real else "a",
            )
        )
    return rows


PATHS = st.sampled_from([frozenset[str](), frozenset({"b"})])


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 5), PATHS)
def test_laws_hold_for_any_table(rows, seed, paths):
    splitting = run(rows, seed=seed, validation_paths=paths)

    assert splitting.table.drop("split").equals(a_table(rows))
    assert sum(splitting.counts.values()) == len(rows)
    found = splits_of(splitting)
    excluded = {e.traj_id: e.reason for e in splitting.exclusions}
    assert excluded.keys() == {name for name, s in found.items() if s == "excluded"}
    assert all(excluded.values())
    for key in ("task_id", "group_id"):
        homes: dict[str, set[str]] = {}
        for r in rows:
            if r["origin"] == "real" and r.get(key) and found[r["traj_id"]] != "excluded":
                homes.setdefault(r[key], set()).add(found[r["traj_id"]])
        assert all(len(home) == 1 for home in homes.values())
    assert all(
        found[r["traj_id"]] in ("train", "excluded") for r in rows if r["origin"] == "synthetic"
    )
    compared = [r for r in rows if "shares" not in excluded.get(r["traj_id"], "")]
    held = [r for r in compared if found[r["traj_id"]] in HELD_OUT]
    others = [r for r in compared if found[r["traj_id"]] not in HELD_OUT]
    held_texts = [comparable_text(r["messages_json"]) for r in held]
    other_texts = [comparable_text(r["messages_json"]) for r in others]
    hashes = {r["content_sha256"] for r in held}
    copies = {
        others[p.right]["traj_id"] for p in slow_near_duplicates(held_texts, other_texts, 0.8)
    }
    copies |= {r["traj_id"] for r in others if r["content_sha256"] in hashes}
    assert copies == {r["traj_id"] for r in others if found[r["traj_id"]] == "excluded"}


@settings(max_examples=30, deadline=None)
@given(tables(), st.randoms(use_true_random=False), PATHS)
def test_order_of_rows_has_no_influence(rows, rng, paths):
    shuffled = rng.sample(rows, len(rows))

    first, second = (run(order, validation_paths=paths) for order in (rows, shuffled))

    assert splits_of(first) == splits_of(second)
    assert (first.exclusions, first.notes) == (second.exclusions, second.notes)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(0, 5))
def test_rows_of_their_own_tasks_always_fill_validation_first(n, seed):
    counts = real_counts(run(real(n), seed=seed))

    assert counts["validation"] >= min(n, 20)


def test_same_seed_same_splits_and_another_seed_others():
    rows = real(80)

    assert splits_of(run(rows)) == splits_of(run(rows))
    assert splits_of(run(rows)) != splits_of(run(rows, seed=1))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, {"validation": 1}),
        (19, {"validation": 19}),
        (20, {"validation": 20}),
        (29, {"validation": 21, "dev": 8}),
        (30, {"validation": 20, "train": 7, "dev": 3}),
        (100, {"validation": 40, "train": 30, "dev": 15, "test": 15}),
    ],
)
def test_few_real_rows_make_fewer_splits(n, expected):
    splitting = run([*real(n), *synthetic(3)])

    assert real_counts(splitting) == expected
    assert splitting.counts["train"] == expected.get("train", 0) + 3


def test_fewer_splits_are_said():
    assert "5 real rows, fewer than 20: all are validation" in run(real(5)).notes
    assert "25 real rows: no train and no test split" in run(real(25)).notes


def test_single_task_is_all_validation_and_said():
    splitting = run(real(100, tasks=1))

    assert real_counts(splitting) == {"validation": 100}
    assert any("one task" in note for note in splitting.notes)


def test_splits_are_given_up_where_tasks_are_too_large_for_validation():
    rows = [a_row(f"r{i:03}", "real", task_id="big" if i < 80 else f"t{i}") for i in range(100)]

    runs = [run(rows, seed=seed) for seed in range(12)]

    assert all(real_counts(splitting)["validation"] >= 20 for splitting in runs)
    assert any("was given up for it" in note for splitting in runs for note in splitting.notes)


def test_tasks_linked_by_a_group_stay_together():
    rows = real(60)
    rows[0]["group_id"] = rows[59]["group_id"] = "g"

    for seed in range(8):
        found = splits_of(run(rows, seed=seed))

        assert found["r000"] == found["r059"]


def test_synthetic_row_made_from_a_held_out_row_is_excluded():
    rows = [*real(5, group_id="g"), *synthetic(2, group_id="g"), *synthetic(3)[2:]]

    splitting = run(rows)

    assert [e.traj_id for e in splitting.exclusions] == ["s000", "s001"]
    assert splitting.exclusions[0].reason == "shares group with validation row r000"


def test_synthetic_row_of_the_same_task_stays_and_is_counted():
    splitting = run([*real(5, tasks=1), *synthetic(4, task_id="t0")])

    assert splitting.counts["train"] == 4
    assert any("4 synthetic rows share a task" in note for note in splitting.notes)


def test_copies_of_held_out_rows_are_excluded_and_named():
    near = unlike("r001") + " end"
    rows = [
        *real(5),
        a_row("exact", "synthetic", unlike("r000")),
        a_row("near", "synthetic", near),
        a_row("own", "synthetic"),
    ]

    splitting = run(rows)

    assert {e.traj_id: e.reason for e in splitting.exclusions} == {
        "exact": "exact copy of validation row r000",
        "near": "near copy of validation row r001 (similarity 0.90)",
    }
    assert splits_of(splitting)["own"] == "train"
    assert any("2 rows excluded" in note for note in splitting.notes)


def test_validation_files_hold_out_their_rows_and_the_other_real_rows_train():
    rows = [*real(30, origin_path="val.jsonl"), a_row("kin", "real", task_id="t0"), *real(40)[30:]]

    splitting = run(rows, validation_paths=frozenset({"val.jsonl"}))

    found = splits_of(splitting)
    assert {found[f"r{i:03}"] for i in range(30)} <= set(HELD_OUT)
    assert {found[f"r{i:03}"] for i in range(30, 40)} == {"train"}
    assert found["kin"] == "excluded"
    assert "shares task or group with" in splitting.exclusions[0].reason


@pytest.mark.parametrize("rows", [[], synthetic(3), real(3)])
def test_one_sided_and_empty_tables_are_no_error(rows):
    splitting = run(rows)

    assert len(splitting.table) == len(rows)
    assert sum(splitting.counts.values()) == len(rows)


@pytest.mark.parametrize("shares", [(0.5, 0.5, 0.5, 0.5), (0, 1, 0, 0), (1.2, -0.2, 0, 0)])
def test_impossible_fractions_are_refused(shares):
    with pytest.raises(ConfigError, match="fractions"):
        Fractions(*shares)


def test_split_with_a_share_of_zero_is_not_made():
    counts = real_counts(run(real(100), fractions=Fractions(0.5, 0.5, 0.0, 0.0)))

    assert counts == {"validation": 50, "train": 50}
