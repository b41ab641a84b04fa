"""Laws of the search for copies: it finds what a comparison of all pairs finds, and no more."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.duplicates import Pair, comparable_text, exact_duplicates, near_duplicates
from trajweight.errors import ConfigError


def slow_near_duplicates(left: list[str], right: list[str], threshold: float) -> list[Pair]:
    """Every pair compared, with plain sets of tuples of words."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.lower().split()
        if len(words) < 5:
            return {tuple(words)} if words else set()
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    sets = [shingles(text) for text in left + right]
    counts = Counter(shingle for one in sets for shingle in one)
    if len(sets) >= 20:
        sets = [{s for s in one if counts[s] * 2 <= len(sets)} for one in sets]
    pairs = []
    for i, a in enumerate(sets[: len(left)]):
        for j, b in enumerate(sets[len(left) :]):
            if a & b and len(a & b) / len(a | b) >= threshold:
                pairs.append(Pair(i, j, len(a & b) / len(a | b)))
    return pairs


TEXT = st.lists(st.sampled_from("abcAB"), max_size=9).map(" ".join)


@settings(deadline=None)
@given(st.lists(TEXT, max_size=14), st.lists(TEXT, max_size=14), st.floats(0.05, 1.0))
def test_pairs_are_those_of_the_slow_twin(left, right, threshold):
    expected = slow_near_duplicates(left, right, threshold)

    assert near_duplicates(left, right, threshold=threshold) == expected


def test_long_copies_with_a_few_words_changed_are_found():
    words = [f"w{i}" for i in range(400)]
    changed = [*words[:200], "other", *words[201:]]

    (pair,) = near_duplicates([" ".join(words)], ["far away", " ".join(changed)])

    assert (pair.left, pair.right) == (0, 1)
    assert pair.similarity == pytest.approx(391 / 401)


def test_shared_system_prompt_makes_no_copies():
    prompt = " ".join(f"rule{i}" for i in range(100))
    rows = [f"{prompt} " + " ".join(f"row{k}word{i}" for i in range(10)) for k in range(20)]

    assert near_duplicates(rows[:10], rows[10:]) == []
    assert near_duplicates(rows[:2], rows[2:4])  # too few rows to tell boilerplate


@pytest.mark.parametrize(("n_sharing", "is_found"), [(10, True), (11, False)])
def test_boilerplate_stands_in_more_than_half_of_the_texts(n_sharing, is_found):
    texts = ["the very same five words"] * n_sharing + [f"u{i}" for i in range(20 - n_sharing)]

    assert bool(near_duplicates(texts[:2], texts[2:])) == is_found


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ConfigError, match="threshold"):
        near_duplicates(["a"], ["a"], threshold=threshold)


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_exact_copies_are_the_equal_keys(left, right):
    expected = [Pair(i, j, 1.0) for i, a in enumerate(left) for j, b in enumerate(right) if a == b]

    assert exact_duplicates(left, right) == expected


def test_comparable_text_tells_roles_and_calls():
    messages = (
        '[{"role":"user","content":"go"},{"role":"assistant","content":"",'
        '"tool_calls":[{"id":"9","name":"f","arguments":{"b":1,"a":2}}]}]'
    )

    words = comparable_text(messages).split()

    assert words == ["<user>", "go", "<assistant>", "f", '{"a":2,"b":1}']
