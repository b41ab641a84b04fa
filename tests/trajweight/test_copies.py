"""Laws of the search for copies inside a table: the first is kept, and no row is lost twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.test_duplicates import slow_near_duplicates
from tests.trajweight.test_sketches import families
from trajweight import copies as module
from trajweight.copies import Copies, exact_copies, near_copies
from trajweight.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Copy = tuple[int, int, float]


class Held:
    """Texts in a list."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    def of(self, rows: Sequence[int]) -> Iterator[str]:
        assert list(rows) == sorted(rows)
        return (self.texts[row] for row in rows)


def flags(values: Sequence[bool]) -> np.ndarray:
    return np.array(values, bool)


def triples(copies: Copies) -> list[Copy]:
    arrays = (copies.rows.tolist(), copies.of.tolist(), copies.similarity.tolist())
    return list(zip(*arrays, strict=True))


def exact(keys: Sequence[str], is_real: Sequence[bool]) -> list[Copy]:
    numbers = np.array([ord(key) for key in keys], np.uint64)
    return triples(exact_copies(numbers, flags(is_real)))


def near(texts: Sequence[str], is_real: Sequence[bool], **options) -> list[Copy]:
    return triples(near_copies(Held(texts), flags(is_real), **options))


def slow_copies(likeness: dict[tuple[int, int], float], is_real: list[bool]) -> list[Copy]:
    """Row after row, the real ones first, each compared with all that are kept."""
    kept: list[int] = []
    found = []
    for row in sorted(range(len(is_real)), key=lambda row: (not is_real[row], row)):
        alike = [(likeness.get((of, row), 0.0), -of) for of in kept]
        best, minus_of = max(alike, default=(0.0, 0))
        if best:
            found.append((row, -minus_of, best))
        else:
            kept.append(row)
    return sorted(found)


ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12)


@given(ROWS)
def test_exact_copies_are_those_of_the_slow_twin(rows):
    keys, is_real = [key for key, _ in rows], [real for _, real in rows]
    likeness = {
        (i, j): 1.0 for i, a in enumerate(keys) for j, b in enumerate(keys) if a == b and i != j
    }

    assert exact(keys, is_real) == slow_copies(likeness, is_real)


TEXT = st.lists(st.sampled_from("abcAB"), max_size=9).map(" ".join)


@pytest.mark.parametrize("few_rows", [100, 0], ids=["all pairs", "sketches"])
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(TEXT, st.booleans()), max_size=9))  # too few for boilerplate
def test_near_copies_are_those_of_the_slow_twin(few_rows, rows):
    texts, is_real = [text for text, _ in rows], [real for _, real in rows]
    pairs = slow_near_duplicates(texts, texts, 0.8) if texts else []
    likeness = {(pair.left, pair.right): pair.similarity for pair in pairs}

    found = near(texts, is_real, threshold=0.8, few_rows=few_rows)

    assert found == slow_copies(likeness, is_real)


def test_sketches_find_in_many_rows_what_comparing_all_finds():
    texts = families(3000, seed=4)
    is_real = flags([row % 3 == 0 for row in range(3000)])

    by_sketch = near_copies(Held(texts), is_real, few_rows=0)
    by_all = near_copies(Held(texts), is_real, few_rows=3000)

    assert triples(by_sketch) == triples(by_all)
    assert len(by_all) > 500
    assert "MinHash" in by_sketch.how
    assert "every pair" in by_all.how


@pytest.mark.parametrize("few_rows", [100, 0], ids=["all pairs", "sketches"])
def test_many_rows_that_all_say_the_same_are_copies_of_one(few_rows):
    text = " ".join(f"w{i}" for i in range(50))
    # fewer than half of the rows, since what more than half of them share is boilerplate
    texts = [f"{text} {i}" for i in range(40)] + [f"u{i} " * 9 for i in range(50)]

    found = near(texts, [False] * 90, few_rows=few_rows)

    assert [copy[:2] for copy in found] == [(row, 0) for row in range(1, 40)]


def test_a_real_row_is_kept_before_a_synthetic_one_that_stands_earlier():
    text = "one two three four five six"

    assert exact(["k", "k", "k"], [False, True, False]) == [(0, 1, 1.0), (2, 1, 1.0)]
    assert near([text, text], [False, True]) == [(0, 1, 1.0)]


def test_a_row_far_from_every_kept_row_is_kept_though_a_copy_is_near_it():
    words = [f"w{i}" for i in range(40)]
    chain = [" ".join(words[start : start + 30]) for start in (0, 2, 4, 6)]

    found = near(chain, [False] * 4, threshold=0.8)

    assert [copy[:2] for copy in found] == [(1, 0), (3, 2)]


def test_the_table_of_pairs_counts_each_copy_once():
    found = Copies(np.array([1, 2, 4]), np.array([0, 0, 3]), np.array([1.0, 1.0, 0.9]))

    table = found.by_source(["a", "b"], np.array([0, 1, 1, 0, 0]))

    assert table == [
        {"source": "b", "copies": "a", "n": 2},
        {"source": "a", "copies": "a", "n": 1},
    ]


def test_too_many_rows_without_the_library_is_told_with_the_way_out(monkeypatch):
    monkeypatch.setattr(module, "is_available", lambda: False)
    monkeypatch.setattr(module, "MOST_ROWS", 2)

    with pytest.raises(MissingError, match="3 rows need the package rensa") as caught:
        near(["a"] * 3, [False] * 3)

    assert "--dedup exact" in caught.value.hint
    assert near(["a"] * 2, [False] * 2) == [(1, 0, 1.0)]


def test_no_rows_have_no_copies():
    assert near([], []) == exact([], []) == []
    assert near([], [], few_rows=-1) == []
    assert Copies(*np.empty((3, 0), np.int64)).by_source([], np.empty(0, np.int64)) == []


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="threshold"):
        near(["a"], [False], threshold=2.0)
