"""Sequences that begin alike, laid out so that a causal model reads every shared prefix once.

A pack is a forest of tokens: each token sees its ancestors and nothing else, so a causal model
with this mask gives every sequence the activations it would have alone. Roll-outs of one task
share their system prompt and often their first turns; the saving is what they share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pack:
    """Some sequences as one forest of N tokens, parents before children.

    Attributes:
        tokens: Token ids. Shape (N,).
        parents: Position of the token before; -1 at a root. Shape (N,).
        depths: Tokens before this one in its sequence. Shape (N,).
        nodes: For each sequence of the pack, by its index in the input, the position of each of
            its tokens. Shape (t,) each.
    """

    tokens: NDArray[np.int64]
    parents: NDArray[np.int64]
    depths: NDArray[np.int64]
    nodes: dict[int, NDArray[np.int64]]

    def visible(self) -> NDArray[np.bool_]:
        """Which tokens (columns) each token (row) attends to: itself and its ancestors. (N, N)."""
        seen = np.eye(len(self.tokens), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def packs(sequences: Sequence[Sequence[int]], *, max_tokens: int) -> Iterator[Pack]:
    """Pack sequences, neighbours in lexical order together.

    Args:
        sequences: Token ids; none may be empty.
        max_tokens: A pack closes before it exceeds this; a longer sequence gets its own pack.

    Yields:
        Packs that together hold every sequence once.
    """
    order = sorted(range(len(sequences)), key=lambda row: tuple(sequences[row]))
    builder = _Builder()
    for row in order:
        if builder.size and builder.size + builder.cost(sequences[row]) > max_tokens:
            yield builder.build()
            builder = _Builder()
        builder.add(row, sequences[row])
    if builder.size:
        yield builder.build()


class _Builder:
    """A growing pack; the last sequence added is the only one a new one can share with."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.nodes: dict[int, NDArray[np.int64]] = {}
        self.last: Sequence[int] = ()
        self.last_nodes: list[int] = []

    @property
    def size(self) -> int:
        return len(self.tokens)

    def cost(self, sequence: Sequence[int]) -> int:
        return len(sequence) - _shared(self.last, sequence)

    def add(self, row: int, sequence: Sequence[int]) -> None:
        shared = _shared(self.last, sequence)
        nodes = self.last_nodes[:shared]
        for depth in range(shared, len(sequence)):
            self.parents.append(nodes[-1] if nodes else -1)
            self.depths.append(depth)
            nodes.append(len(self.tokens))
            self.tokens.append(sequence[depth])
        self.last, self.last_nodes = sequence, nodes
        self.nodes[row] = np.array(nodes, dtype=np.int64)

    def build(self) -> Pack:
        columns = (self.tokens, self.parents, self.depths)
        tokens, parents, depths = (np.array(column, dtype=np.int64) for column in columns)
        return Pack(tokens, parents, depths, self.nodes)


def _shared(left: Sequence[int], right: Sequence[int]) -> int:
    """Length of the common prefix."""
    length = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        length += 1
    return length
