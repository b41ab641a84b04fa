from __future__ import annotations

from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from trajweight.adapters.ms_swift_weights import IGNORED, evened

#: Replies as (weight of the text, tokens of text, tokens of its end), each after a prompt.
REPLIES = st.lists(
    st.tuples(st.floats(0.01, 9), st.integers(1, 4), st.integers(0, 2)), min_size=1, max_size=4
)


def laid(replies: list[tuple[float, int, int]]) -> tuple[list[int], list[float]]:
    """Labels and scales as ms-swift makes them: prompts at zero, ends at one."""
    labels: list[int] = []
    scales: list[float] = []
    for weight, said, end in replies:
        labels += [IGNORED, IGNORED, *range(said + end)]
        scales += [0.0, 0.0, *[weight] * said, *[1.0] * end]
    return labels, scales


@given(REPLIES)
def test_every_trained_token_of_a_turn_weighs_what_its_first_does(
    replies: list[tuple[float, int, int]],
) -> None:
    labels, scales = laid(replies)

    found = evened(labels, scales)

    runs = [
        list(run)
        for is_trained, run in groupby(
            zip(labels, found, strict=True), lambda pair: pair[0] != IGNORED
        )
        if is_trained
    ]
    assert [{scale for _, scale in run} for run in runs] == [{weight} for weight, *_ in replies]
    assert all(scale == 0 for label, scale in zip(labels, found, strict=True) if label == IGNORED)


@given(REPLIES)
def test_weights_of_one_stay_what_they_are(replies: list[tuple[float, int, int]]) -> None:
    labels, scales = laid([(1.0, said, end) for _, said, end in replies])

    assert evened(labels, scales) == scales


def test_what_was_given_is_not_changed() -> None:
    labels, scales = laid([(3.0, 2, 2)])

    evened(labels, scales)

    assert scales == [0.0, 0.0, 3.0, 3.0, 1.0, 1.0]
