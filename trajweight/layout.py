"""How trajectories lie in the tensors of one forward pass: side by side, or as a prefix forest.

Side by side (``padded``), every trajectory has its own cells, so what flows back through a cell
belongs to one trajectory. As a forest (``forests``), shared prefixes lie once: cheaper, and the
sums over trajectories are the same, but not their parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trajweight.prefixes import Pack, packs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.encoded import Encoded

#: Cells of padded passes that may hold nothing, of all their cells.
MOST_PADDING = 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """Tensors of one forward pass over some trajectories.

    Attributes:
        members: Which of the given trajectories lie here, in the order of ``places``.
        input_ids: Token ids. Shape (b, t).
        positions: Position of each token in its trajectory. Shape (b, t).
        attention: 1 for tokens and 0 for padding, shape (b, t); in a forest 0 where a token may
            look and minus infinity where it may not, shape (1, 1, t, t).
        places: For each member, the flat cell of each of its tokens.
        target_member: For each target token, its member's place in ``members``. Shape (k,).
        target_cell: The flat cell whose output predicts the target. Shape (k,).
        target_id: The target token. Shape (k,).
        target_turn: Index of the assistant turn it belongs to. Shape (k,).
    """

    members: list[int]
    input_ids: Tensor
    positions: Tensor
    attention: Tensor
    places: list[Tensor]
    target_member: Tensor
    target_cell: Tensor
    target_id: Tensor
    target_turn: Tensor

    def to(self, device: torch.device) -> Layout:
        """The same layout on another device."""
        if device.type == "cpu":
            return self
        moved = {
            name: getattr(self, name).to(device)
            for name in ("input_ids", "positions", "attention", "target_member", "target_cell")
        }
        return replace(
            self,
            **moved,
            target_id=self.target_id.to(device),
            target_turn=self.target_turn.to(device),
            places=[place.to(device) for place in self.places],
        )


def padded(rows: Sequence[Encoded], *, pad_id: int) -> Layout:
    """Every trajectory in a row of its own, padded on the right."""
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), longest), pad_id)
    attention = torch.zeros((len(rows), longest), dtype=torch.int64)
    places = []
    for index, row in enumerate(rows):
        n = len(row.input_ids)
        input_ids[index, :n] = torch.tensor(row.input_ids)
        attention[index, :n] = 1
        places.append(index * longest + torch.arange(n))
    positions = torch.arange(longest).repeat(len(rows), 1)
    members = list(range(len(rows)))
    return Layout(members, input_ids, positions, attention, places, *_targets(rows, places))


def alike(lengths: Sequence[int], *, max_cells: int) -> list[list[int]]:
    """Which trajectories to lay side by side, so that little of the passes is padding.

    Few passes, within two bounds: of the cells of all of them together at most ``MOST_PADDING``
    hold nothing, and a pass has at most ``max_cells`` cells, or one trajectory.

    Args:
        lengths: Tokens of each trajectory.
        max_cells: See above.

    Returns:
        Their places, ascending in each pass; the longest trajectories come first.

    Example:
        >>> alike([5, 100, 96, 6], max_cells=8192)
        [[1, 2], [0, 3]]
    """
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])

    def cut(padding: float) -> list[list[int]]:
        parts = _cut(lengths, order, max_cells=max_cells, most_padding=padding)
        return [sorted(part) for part in parts]

    # A wide pass here may be made good by a narrow one there, so the loosest cut that will do is
    # taken; the last one keeps every pass within the bound.
    for padding in (1.0, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15):
        parts = cut(padding)
        cells = sum(len(part) * max(lengths[place] for place in part) for part in parts)
        if sum(lengths) >= (1 - MOST_PADDING) * cells:
            return parts
    return cut(MOST_PADDING)


def _cut(
    lengths: Sequence[int], order: Sequence[int], *, max_cells: int, most_padding: float
) -> list[list[int]]:
    """Cut an order, the longest first, into passes of which each keeps within the bounds."""
    parts: list[list[int]] = []
    tokens = 0
    for place in order:
        if parts:
            cells = (len(parts[-1]) + 1) * lengths[parts[-1][0]]
            is_full = tokens + lengths[place] < (1 - most_padding) * cells
            if cells <= max_cells and not is_full:
                parts[-1].append(place)
                tokens += lengths[place]
                continue
        parts.append([place])
        tokens = lengths[place]
    return parts


def forests(rows: Sequence[Encoded], *, max_tokens: int) -> Iterator[Layout]:
    """Trajectories as forests of at most ``max_tokens`` cells each, or of one longer trajectory."""
    for pack in packs([row.input_ids for row in rows], max_tokens=max_tokens):
        yield _forest(rows, pack)


def _forest(rows: Sequence[Encoded], pack: Pack) -> Layout:
    members = sorted(pack.nodes)
    places = [torch.from_numpy(pack.nodes[member]) for member in members]
    visible = torch.from_numpy(pack.visible())
    attention = torch.zeros(visible.shape).masked_fill_(~visible, float("-inf"))[None, None]
    return Layout(
        members,
        torch.from_numpy(pack.tokens)[None],
        torch.from_numpy(pack.depths)[None],
        attention,
        places,
        *_targets([rows[member] for member in members], places),
    )


def _targets(
    rows: Sequence[Encoded], places: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Member, predicting cell, id and turn of every target token; a first token has no cell."""
    members, cells, ids, turns = [], [], [], []
    for member, (row, place) in enumerate(zip(rows, places, strict=True)):
        at = torch.tensor(row.assistant_mask).nonzero().squeeze(1)
        at = at[at > 0]
        members.append(torch.full_like(at, member))
        cells.append(place[at - 1])
        ids.append(torch.tensor(row.input_ids)[at])
        turns.append(torch.tensor(row.turn_of_token)[at])
    return torch.cat(members), torch.cat(cells), torch.cat(ids), torch.cat(turns)
