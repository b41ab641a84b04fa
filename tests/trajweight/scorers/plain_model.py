"""The tiny model with nothing of ours around it: one row at a time, by plain transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence


@torch.no_grad()
def token_losses(model: Any, ids: Sequence[int]) -> Tensor:
    """Loss of each token given those before it, over the whole vocabulary; the first has none."""
    logits = model(input_ids=torch.tensor([ids])).logits[0].double()
    return functional.cross_entropy(logits[:-1], torch.tensor(ids)[1:], reduction="none")


def reply_loss(model: Any, ids: Sequence[int], mask: Sequence[bool]) -> float:
    """Mean loss of the tokens that are marked."""
    return float(token_losses(model, ids)[torch.tensor(mask)[1:]].mean())


@torch.no_grad()
def mean_state(model: Any, ids: Sequence[int], mask: Sequence[bool]) -> Tensor:
    """Mean last hidden state of the tokens that are marked."""
    states = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0].double()
    return states[torch.tensor(mask)].mean(0)
