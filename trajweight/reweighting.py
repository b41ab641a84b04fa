"""The reweighting heads: what is known of a trajectory in, one bounded weight out.

    s = head(x),  a = w_min + (w_max - w_min) sigmoid(s / T),  w = a / mean(a)

The mean is over the whole data set, never over a batch, so a weight does not depend on its
neighbours; no weight exceeds another by more than ``w_max / w_min``. A temperature T above one
flattens the weights, below one sharpens them. What is known of the rows before any learning, such
as returns, comes in as a factor p: ``w = a p / mean(a p)``, so that ``log w = log a + log p``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch
from torch import Tensor, nn

from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A feature further from the mean than this many standard deviations counts as this far, so that
#: a row unlike any training row cannot drive the head to where it never was.
FARTHEST: Final = 5.0

#: mlp and linear read features; table has a score for every row; group has one for every source.
HeadKind = Literal["mlp", "linear", "table", "group"]


@dataclass(frozen=True, slots=True)
class HeadShape:
    """What is needed to build a head again.

    Attributes:
        kind: Which head.
        inputs: Number of features; for table and group, of rows or sources.
        hidden: Width of the hidden layer, of mlp.
        w_min: Lower bound of a weight before normalisation.
        w_max: Upper bound of a weight before normalisation.
    """

    kind: HeadKind
    inputs: int
    hidden: int = 64
    w_min: float = 0.02
    w_max: float = 1.0


@dataclass(frozen=True, slots=True)
class Prior:
    """What the weights are before a head says anything; it is fixed.

    Attributes:
        factors: What each row's weight is multiplied by, above zero. Shape (n,).
        cap: No weight exceeds the mean by more than this, above one.
    """

    factors: Tensor
    cap: float

    @property
    def weights(self) -> Tensor:
        """The weights under a head that says the same of every row, mean one: (n,)."""
        return capped(mean_one(self.factors), self.cap)

    @property
    def ess_fraction(self) -> float:
        """Their effective sample size over n."""
        return float(effective_sample_size(self.weights)) / len(self.factors)

    def kept(self, weights: Tensor) -> Tensor:
        """The part of it that weights (n,) keep: one at the prior, whatever the prior is.

        (sum w)^2 / (n sum w^2 / p), so that 1 / kept - 1 is the chi-square distance from p.
        """
        return weights.mean().square() / (weights.square() / self.weights).mean()


class ReweightingHead(nn.Module):
    """What all heads have in common: bounds, temperature and normalisation.

    Every weight is exactly one before the first outer step.
    """

    temperature: Tensor

    def __init__(self, shape: HeadShape) -> None:
        """Start at temperature one."""
        super().__init__()
        self.shape = shape
        self.register_buffer("temperature", torch.ones(()))

    def weights(self, scores: Tensor, prior: Prior | None = None) -> Tensor:
        """Bounded weights, times the prior's factors, with mean one: (n,) to (n,)."""
        if prior is None:
            return mean_one(self.bounded(scores))
        return capped(mean_one(self.bounded(scores) * prior.factors), prior.cap)

    def bounded(self, scores: Tensor) -> Tensor:
        """Weights before normalisation, each in (w_min, w_max): (n,) to (n,)."""
        width = self.shape.w_max - self.shape.w_min
        return self.shape.w_min + width * torch.sigmoid(scores / self.temperature)


class FeatureHead(ReweightingHead):
    """A small network that standardises its features itself, so that it can be applied anywhere.

    The last layer starts at zero.

    Args:
        shape: Kind mlp or linear.
        mean: Mean of each feature over the training rows. Shape (f,).
        scale: Standard deviation of each feature over the training rows. Shape (f,).
        generator: Draws the first layer.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, shape: HeadShape, *, mean: Tensor, scale: Tensor, generator: torch.Generator
    ) -> None:
        """Draw the first layer from ``generator``, so the global generator is left alone."""
        super().__init__(shape)
        self.register_buffer("mean", mean.float())
        # A feature that is constant in training teaches nothing, so it says nothing elsewhere.
        is_constant = scale <= 1e-6 * mean.abs().clamp_min(1e-3)
        self.register_buffer("scale", scale.float().masked_fill(is_constant, torch.inf))
        self.hidden: nn.Linear | None = None
        if shape.kind == "mlp":
            self.hidden = nn.utils.skip_init(nn.Linear, shape.inputs, shape.hidden)
        width = shape.hidden if self.hidden else shape.inputs
        self.last = nn.utils.skip_init(nn.Linear, width, 1)
        with torch.no_grad():
            if self.hidden:
                bound = shape.inputs**-0.5
                self.hidden.weight.uniform_(-bound, bound, generator=generator)
                self.hidden.bias.zero_()
            self.last.weight.zero_()
            self.last.bias.zero_()

    def forward(self, features: Tensor) -> Tensor:
        """Scores s of the rows: features (n, f) to (n,)."""
        x = ((features.float() - self.mean) / self.scale).clamp(-FARTHEST, FARTHEST)
        if self.hidden:
            x = nn.functional.gelu(self.hidden(x))
        scores: Tensor = self.last(x).squeeze(-1)
        return scores


class TableHead(ReweightingHead):
    """A score for every row, or for every group of rows; what it never saw gets their mean.

    Args:
        shape: Kind table or group.
    """

    def __init__(self, shape: HeadShape) -> None:
        """All scores start at zero."""
        super().__init__(shape)
        self.scores = nn.Parameter(torch.zeros(shape.inputs))

    def forward(self, entries: Tensor) -> Tensor:
        """Scores of the rows: their entries (n,), -1 for none, to (n,)."""
        known = self.scores[entries.clamp_min(0)]
        return torch.where(entries >= 0, known, self.scores.mean())


class HeadEnsemble(nn.Module):
    """Heads trained apart, whose weights are averaged; one head is an ensemble too.

    Args:
        heads: All of one shape.
    """

    def __init__(self, heads: Sequence[ReweightingHead]) -> None:
        """Hold the heads."""
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Scores of the rows by each head: inputs (n, ...) of each head to (n, k)."""
        paired = zip(self.heads, inputs, strict=True)
        return torch.stack([head(each) for head, each in paired], dim=1)

    def weights_apart(self, scores: Tensor, prior: Prior | None = None) -> Tensor:
        """Weights by each head, each with mean one: (n, k) to (n, k)."""
        columns = [
            head.weights(column, prior)  # type: ignore[operator]
            for head, column in zip(self.heads, scores.unbind(1), strict=True)
        ]
        return torch.stack(columns, dim=1)

    def weights(self, scores: Tensor, prior: Prior | None = None) -> Tensor:
        """Mean weights, with mean one: (n, k) to (n,)."""
        return mean_one(self.weights_apart(scores, prior).mean(1))

    def set_temperature(self, temperature: float) -> None:
        """One temperature for all heads."""
        for head in self.heads:
            head.temperature.fill_(temperature)  # type: ignore[operator]


def new_head(shape: HeadShape, inputs: Tensor, *, seed: int) -> ReweightingHead:
    """A head at its start.

    Args:
        shape: Which, and how large.
        inputs: Of the training rows it standardises by, (n, f); not read by table and group.
        seed: Of the first layer.
    """
    if shape.kind in ("table", "group"):
        return TableHead(shape)
    return FeatureHead(
        shape,
        mean=inputs.mean(0),
        scale=inputs.std(0, unbiased=False),
        generator=torch.Generator().manual_seed(seed),
    )


def restored_head(shape: HeadShape, tensors: dict[str, Tensor]) -> ReweightingHead:
    """A trained head from its tensors."""
    head: ReweightingHead
    if shape.kind in ("table", "group"):
        head = TableHead(shape)
    else:
        head = FeatureHead(
            shape, mean=tensors["mean"], scale=tensors["scale"], generator=torch.Generator()
        )
    head.load_state_dict(tensors)
    return head.requires_grad_(False)


def mean_one(positive: Tensor) -> Tensor:
    """Divide by the mean; equal inputs give exactly one."""
    if bool((positive == positive[0]).all()) and not positive.requires_grad:
        return torch.ones_like(positive)
    return positive / positive.mean()


def capped(weights: Tensor, cap: float) -> Tensor:
    """None above ``cap``, the others scaled up so that the mean stays one: (n,) to (n,).

    Args:
        weights: Above zero, mean one. Shape (n,).
        cap: Above one.
    """
    result, at_cap = weights, torch.zeros_like(weights, dtype=torch.bool)
    while bool(((result > cap) & ~at_cap).any()):
        at_cap = at_cap | (result > cap)
        room = len(weights) - cap * int(at_cap.sum())
        rest = weights.masked_fill(at_cap, 0.0)
        result = torch.where(at_cap, cap, rest * (room / rest.sum()))
    return result
