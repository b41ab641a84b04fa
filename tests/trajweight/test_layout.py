from __future__ import annotations

from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tokens import PAD, token_rows
from trajweight.layout import alike, padded

LENGTHS = st.lists(st.integers(1, 3000), min_size=1, max_size=64)


def padding_of(lengths: list[int], passes: list[list[int]]) -> float:
    """Cells that hold nothing over all cells, counted one by one."""
    cells = sum(max(lengths[place] for place in part) for part in passes for _ in part)
    return 1 - sum(lengths) / cells


@given(LENGTHS, st.integers(1, 10_000))
def test_every_trajectory_lies_in_one_pass(lengths, max_cells) -> None:
    passes = alike(lengths, max_cells=max_cells)

    assert sorted(chain(*passes)) == list(range(len(lengths)))
    assert all(part == sorted(part) for part in passes)


@given(LENGTHS, st.integers(1, 10_000))
def test_at_most_a_tenth_of_the_cells_is_padding(lengths, max_cells) -> None:
    passes = alike(lengths, max_cells=max_cells)

    assert padding_of(lengths, passes) <= 0.1 + 1e-12


@given(LENGTHS, st.integers(1, 10_000))
def test_only_a_trajectory_alone_has_more_cells_than_a_pass_may(lengths, max_cells) -> None:
    for part in alike(lengths, max_cells=max_cells):
        cells = len(part) * max(lengths[place] for place in part)
        assert len(part) == 1 or cells <= max_cells


@given(st.integers(1, 64), st.integers(1, 100))
def test_trajectories_of_one_length_need_one_pass(n, length) -> None:
    assert alike([length] * n, max_cells=n * length) == [list(range(n))]


def test_what_is_bounded_is_the_padding_of_the_tensors() -> None:
    rows = token_rows(40, seed=3)
    lengths = [len(row.input_ids) for row in rows]

    layouts = [
        padded([rows[place] for place in part], pad_id=PAD)
        for part in alike(lengths, max_cells=8192)
    ]

    held = torch.cat([layout.attention.flatten() for layout in layouts])
    assert 1 - float(held.double().mean()) <= 0.1
    assert int(held.sum()) == sum(lengths)
