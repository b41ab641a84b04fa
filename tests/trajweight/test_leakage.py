"""Which rows belong together, judged by comparing every row with every other."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import polars as pl

from tests.trajweight.test_duplicates import slow_near_duplicates
from tests.trajweight.test_splitting import a_row, a_table, real, synthetic, unlike
from trajweight import leakage
from trajweight.duplicates import comparable_text
from trajweight.leakage import relatives
from trajweight.splitting import split

if TYPE_CHECKING:
    import pytest


def test_rows_of_a_group_belong_with_its_real_rows_and_not_with_the_synthetic_ones() -> None:
    rows = [
        *(a_row(name, "real", group_id="g") for name in ("r0", "r1")),
        *(a_row(name, "synthetic", group_id="g") for name in ("s0", "s1")),
        a_row("r2", "real", task_id="r0"),
        a_row("s2", "synthetic", task_id="r0"),
    ]

    found = relatives(a_table(rows))

    assert found == {
        "r0": {"r1"},
        "r1": {"r0"},
        "s0": {"r0", "r1"},
        "s1": {"r0", "r1"},
    }


def test_an_exact_copy_belongs_with_every_row_it_copies() -> None:
    rows = [
        *(a_row(name, "real", "the same") for name in ("r0", "r1")),
        a_row("s0", "synthetic", "the same"),
        *synthetic(3),
    ]

    assert relatives(a_table(rows))["s0"] == {"r0", "r1"}


def test_near_copies_are_found_as_by_comparing_all_pairs() -> None:
    generator = random.Random(0)
    rows = [*real(8), *synthetic(8)]
    for place, row in enumerate(rows[1::2]):
        words = unlike(rows[generator.randrange(8)]["traj_id"]).split()
        words[-1] = f"other-{place}"
        rows[1 + 2 * place] = a_row(row["traj_id"], row["origin"], " ".join(words))
    table = a_table(rows)
    texts = dict(zip(table["traj_id"], map(comparable_text, table["messages_json"]), strict=True))
    names = [row["traj_id"] for row in rows if row["origin"] == "real"]

    found = relatives(table, threshold=0.5)

    for others in (names, [row["traj_id"] for row in rows if row["origin"] == "synthetic"]):
        pairs = slow_near_duplicates(
            [texts[name] for name in names], [texts[name] for name in others], 0.5
        )
        expected = {(others[p.right], names[p.left]) for p in pairs} - {(n, n) for n in names}
        assert {(n, each) for n in others for each in found.get(n, ())} == expected
    assert found


def test_the_order_of_rows_and_their_splits_have_no_influence() -> None:
    rows = [*real(6, tasks=3), *synthetic(3)]
    rows[7] = a_row("s001", "synthetic", unlike("r002"))
    table = a_table(rows)

    shuffled = table.sample(fraction=1, shuffle=True, seed=3).with_columns(split=pl.lit("dev"))

    assert relatives(table) == relatives(shuffled) == {"s001": {"r002"}}


def likened(n: int) -> pl.DataFrame:
    """Real rows, and synthetic ones of which every other one nearly copies one of them."""
    rows = [*real(n), *synthetic(n)]
    for place, row in enumerate(rows[n::2]):
        words = unlike(rows[place]["traj_id"]).split()
        rows[n + 2 * place] = a_row(row["traj_id"], row["origin"], " ".join([*words[:-1], "new"]))
    return a_table(rows)


def test_sketches_exclude_what_the_comparison_of_all_pairs_excludes_and_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = likened(40)
    plain, found = split(table, seed=0, threshold=0.5), relatives(table, threshold=0.5)

    monkeypatch.setattr(leakage, "MOST_PAIRS", 0)
    sketched = split(table, seed=0, threshold=0.5)

    assert [each.as_dict() for each in sketched.exclusions] == [
        each.as_dict() for each in plain.exclusions
    ]
    assert any("near copy of" in each.reason for each in plain.exclusions)
    assert relatives(table, threshold=0.5) == found
    (told,) = set(sketched.notes) - set(plain.notes)
    assert told.startswith("near copies of 27 held-out rows among 53 training rows: found by MinH")


def test_without_the_library_all_pairs_are_compared_and_the_faster_way_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = likened(30)
    plain = split(table, seed=0)

    monkeypatch.setattr(leakage, "MOST_PAIRS", 0)
    monkeypatch.setattr(leakage, "is_available", lambda: False)
    without = split(table, seed=0)

    assert without.exclusions == plain.exclusions
    assert any("pip install 'trajweight[dedup]'" in note for note in without.notes)
