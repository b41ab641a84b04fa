from __future__ import annotations

import numpy as np
import pytest

from tests.trajweight.scorers.grounds import HEADER, scored, shared_ground
from tests.trajweight.scorers.plain_model import token_losses
from trajweight.encoded import Encoded
from trajweight.scorers.ifd import alone, difficulties, header_length
from trajweight.tiny import build_tiny

#: Two replies, 7 8 and 9, each after a header of 1 2.
ROW = Encoded(
    [5, 1, 2, 7, 8, 6, 1, 2, 9],
    [False, False, False, True, True, False, False, False, True],
    [-1, -1, -1, 0, 0, -1, -1, -1, 1],
)


def test_the_difficulty_is_the_loss_in_the_dialogue_over_that_of_each_reply_alone() -> None:
    model, _ = build_tiny()
    material = shared_ground().material
    expected = []
    for place in material.synthetic:
        row = material.encoded[place]
        inside = token_losses(model, row.input_ids)
        with_context, without = [], []
        for turn in sorted(set(row.turn_of_token) - {-1}):
            said = [at for at, whose in enumerate(row.turn_of_token) if whose == turn]
            reply = [row.input_ids[at] for at in said]
            with_context += [float(inside[at - 1]) for at in said]
            without += token_losses(model, [*HEADER, *reply])[len(HEADER) - 1 :].tolist()
        expected.append(np.mean(with_context) / np.mean(without))

    found = difficulties(shared_ground())

    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert min(expected) < 1 < max(expected)


def test_the_hardest_below_one_come_first_and_what_misleads_comes_last() -> None:
    hard = difficulties(shared_ground()).double().numpy()

    order = hard[np.argsort(-scored("ifd").scores)]

    n_below = int((hard < 1).sum())
    assert order[:n_below].tolist() == sorted(hard[hard < 1], reverse=True)
    assert order[n_below:].tolist() == sorted(hard[hard >= 1])


def test_a_reply_alone_keeps_its_header_and_nothing_else() -> None:
    one, two = alone(ROW, 2)

    assert (one.input_ids, one.assistant_mask) == ([1, 2, 7, 8], [False, False, True, True])
    assert (two.input_ids, two.assistant_mask) == ([1, 2, 9], [False, False, True])


def test_the_header_is_what_stands_before_every_reply_of_every_row() -> None:
    other = Encoded([4, 3, 2, 7], [False, False, False, True], [-1, -1, -1, 0])

    assert header_length(shared_ground().material.encoded) == len(HEADER)
    assert header_length([ROW]) == 2
    assert header_length([ROW, other]) == 1


@pytest.mark.parametrize("before", [3, 8])
def test_without_a_common_header_the_one_token_before_a_reply_is_kept(before) -> None:
    other = Encoded([before, 7], [False, True], [-1, 0])

    assert header_length([ROW, other]) == 1
    assert alone(other, 1)[0].input_ids == [before, 7]


def test_a_header_longer_than_what_stands_before_a_reply_ends_there() -> None:
    short = Encoded([2, 7], [False, True], [-1, 0])

    assert alone(short, 5)[0].input_ids == [2, 7]
