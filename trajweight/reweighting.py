"""The reweighting head: features of a trajectory in, one bounded weight out.

    s = head(x),  a = w_min + (w_max - w_min) sigmoid(s),  w = a / mean(a)

The mean is over the whole data set, never over a batch, so a weight does not depend on its
neighbours; no weight exceeds another by more than ``w_max / w_min``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

#: A feature further from the mean than this many standard deviations counts as this far, so that
#: a row unlike any training row cannot drive the head to where it never was.
FARTHEST: Final = 5.0


@dataclass(frozen=True, slots=True)
class HeadShape:
    """What is needed to build a head again.

    Attributes:
        inputs: Number of features.
        hidden: Width of the hidden layer.
        w_min: Lower bound of a weight before normalisation.
        w_max: Upper bound of a weight before normalisation.
    """

    inputs: int
    hidden: int = 64
    w_min: float = 0.02
    w_max: float = 1.0


class ReweightingHead(nn.Module):
    """A small network that standardises its features itself, so that it can be applied anywhere.

    The last layer starts at zero: every weight is exactly one before the first outer step.

    Args:
        shape: Sizes and bounds.
        mean: Mean of each feature over the training rows. Shape (d,).
        scale: Standard deviation of each feature over the training rows. Shape (d,).
        generator: Draws the first layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, shape: HeadShape, *, mean: Tensor, scale: Tensor, generator: torch.Generator
    ) -> None:
        """Draw the first layer from ``generator``, so the global generator is left alone."""
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", mean.float())
        # A feature that is constant in training teaches nothing, so it says nothing elsewhere.
        is_constant = scale <= 1e-6 * mean.abs().clamp_min(1e-3)
        self.register_buffer("scale", scale.float().masked_fill(is_constant, torch.inf))
        self.hidden = nn.utils.skip_init(nn.Linear, shape.inputs, shape.hidden)
        self.last = nn.utils.skip_init(nn.Linear, shape.hidden, 1)
        with torch.no_grad():
            bound = shape.inputs**-0.5
            self.hidden.weight.uniform_(-bound, bound, generator=generator)
            self.hidden.bias.zero_()
            self.last.weight.zero_()
            self.last.bias.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Scores s of the rows: features (n, d) to (n,)."""
        x = ((features.float() - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)
        scores: Tensor = self.last(nn.functional.gelu(self.hidden(x))).squeeze(-1)
        return scores

    def weights(self, scores: Tensor) -> Tensor:
        """Bounded weights with mean one over the rows given: (n,) to (n,)."""
        return mean_one(self.bounded(scores))

    def bounded(self, scores: Tensor) -> Tensor:
        """Weights before normalisation, each in (w_min, w_max): (n,) to (n,)."""
        return self.shape.w_min + (self.shape.w_max - self.shape.w_min) * torch.sigmoid(scores)


def mean_one(positive: Tensor) -> Tensor:
    """Divide by the mean; equal inputs give exactly one."""
    if bool((positive == positive[0]).all()) and not positive.requires_grad:
        return torch.ones_like(positive)
    return positive / positive.mean()
