from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trajweight.prefixes import packs

sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=12)


@given(sequences, st.integers(4, 40))
def test_every_sequence_is_in_one_pack_and_reads_back(rows, max_tokens) -> None:
    found = {}
    for pack in packs(rows, max_tokens=max_tokens):
        for row, nodes in pack.nodes.items():
            assert row not in found
            found[row] = pack.tokens[nodes].tolist()

    assert found == dict(enumerate(rows))


@given(sequences)
def test_a_token_sees_its_own_prefix_and_nothing_else(rows) -> None:
    for pack in packs(rows, max_tokens=40):
        visible = pack.visible()
        for nodes in pack.nodes.values():
            for depth, node in enumerate(nodes):
                assert pack.depths[node] == depth
                assert set(np.flatnonzero(visible[node])) == set(nodes[: depth + 1].tolist())


@given(sequences)
def test_a_shared_prefix_stands_once(rows) -> None:
    (pack,) = packs(rows, max_tokens=10_000)

    prefixes = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}

    assert len(pack.tokens) == len(prefixes)


def test_packs_close_before_the_limit_and_a_longer_sequence_stands_alone() -> None:
    rows = [[0, 1, 2], [1, 1, 1], [2] * 9, [3, 3]]

    sizes = [len(pack.tokens) for pack in packs(rows, max_tokens=6)]

    assert sizes == [6, 9, 2]
