"""What tokenising gives: one trajectory in tokens, or why there is none, and padded batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """A trajectory in tokens; the three lists have one entry a token.

    Attributes:
        input_ids: Token ids.
        assistant_mask: True where the token is a target: said by the assistant, end of turn
            included, header and white space after the turn not.
        turn_of_token: Index of the assistant turn a target belongs to, -1 where there is none.
        n_dropped_turns: Turns left out because the trajectory was too long.
        n_trailing_turns: Turns after the last reply, left out since nothing is learned there.
        n_control_strings: Control tokens of the data that were encoded as plain text.
        n_hidden_texts: Turns whose text the template does not show beside their tool calls.
        is_joint: The ids equal those of the whole text in one go, as at inference.
    """

    input_ids: list[int]
    assistant_mask: list[bool]
    turn_of_token: list[int]
    n_dropped_turns: int = 0
    n_trailing_turns: int = 0
    n_control_strings: int = 0
    n_hidden_texts: int = 0
    is_joint: bool = True


@dataclass(frozen=True, slots=True)
class Unusable:
    """A trajectory that cannot be learned from, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Trajectories padded on the right.

    Attributes:
        input_ids: Token ids, int64. Shape (b, t).
        attention_mask: 1 for tokens, 0 for padding, int64. Shape (b, t).
        assistant_mask: True for targets, bool. Shape (b, t).
    """

    input_ids: Tensor
    attention_mask: Tensor
    assistant_mask: Tensor

    def to(self, device: torch.device | str) -> TokenBatch:
        """The same batch on another device."""
        return TokenBatch(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.assistant_mask.to(device),
        )


def pad(batch: Sequence[Encoded], pad_id: int) -> TokenBatch:
    """Put rows of different length into one batch, padded on the right with ``pad_id``."""
    longest = max((len(row.input_ids) for row in batch), default=0)
    ids = torch.full((len(batch), longest), pad_id, dtype=torch.int64)
    attention = torch.zeros((len(batch), longest), dtype=torch.int64)
    mask = torch.zeros((len(batch), longest), dtype=torch.bool)
    for place, row in enumerate(batch):
        n = len(row.input_ids)
        ids[place, :n] = torch.tensor(row.input_ids, dtype=torch.int64)
        attention[place, :n] = 1
        mask[place, :n] = torch.tensor(row.assistant_mask, dtype=torch.bool)
    return TokenBatch(ids, attention, mask)
