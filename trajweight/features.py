"""What the head sees of a trajectory, computed once from the frozen model.

An embedding (mean last hidden state over the assistant tokens, reduced to its principal
components), length and turns, the mean loss of all, first and later replies under the base model,
and how much higher it is under an adapter trained on real rows, which is below zero where the row
became likelier. With these the head can express every cheap score - length, perplexity, likelihood
ratio - and is free to reverse it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trajweight.encoded import Encoded
from trajweight.layout import Layout, forests, padded
from trajweight.losses import OutputLayer, ReplyLosses, layouts, reply_means
from trajweight.processes import ALONE, Processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.backbone import Backbone
    from trajweight.progress import Progress

#: Mean losses of all, first and later replies, under the base model and after real rows.
LOSSES = (
    *("base_nll", "base_nll_first", "base_nll_later"),
    *("real_nll", "real_nll_first", "real_nll_later"),
)
#: Loss after real rows less loss before, of the same replies: minus the log likelihood ratio a
#: token. The losses differ far more between rows than they differ from each other, so a head that
#: read both, each standardised, would find their difference last.
RATIOS = ("ratio", "ratio_first", "ratio_later")
SCALARS = ("log_tokens", "log_turns", *LOSSES[:3], *RATIOS)


@dataclass(frozen=True, slots=True)
class Frozen:
    """What one pass of the frozen model leaves.

    Attributes:
        cached: Trunk activations of each trajectory, shape (t, d), with none of those that another
            process computes; None where there is no trunk.
        embeddings: Mean last hidden state over the assistant tokens. Shape (n, d).
        losses: Under the base model, over its whole vocabulary.
    """

    cached: list[Tensor] | None
    embeddings: Tensor
    losses: ReplyLosses


@torch.no_grad()
def frozen_pass(
    backbone: Backbone,
    encoded: Sequence[Encoded],
    *,
    pad_id: int,
    forest_tokens: int,
    progress: Progress,
    processes: Processes = ALONE,
) -> Frozen:
    """Run the whole model once over every trajectory; shared prefixes run once.

    Args:
        backbone: A model without an adapter.
        encoded: The trajectories.
        pad_id: Fills the cells after a trajectory's end.
        forest_tokens: Cells of one forest at most; 0 when the model cannot take forests.
        progress: Told of every trajectory.
        processes: Those that share the trajectories; each keeps the activations of its own.
    """
    output = OutputLayer(backbone)
    n, width = len(encoded), backbone.model.config.get_text_config().hidden_size
    embeddings = torch.zeros(n, width)
    losses = ReplyLosses.zeros(n)
    cached: list[Tensor] = [torch.empty(0)] * n
    mine = processes.mine([len(row.input_ids) for row in encoded])
    progress.start("frozen model", len(mine))
    for layout in layouts(
        [encoded[row] for row in mine],
        pad_id=pad_id,
        forest_tokens=forest_tokens,
        padded_tokens=8192,
    ):
        layout.members[:] = [mine[member] for member in layout.members]
        hidden, trunk = _both_halves(backbone, layout)
        there = layout.to(backbone.device)
        tokens = output.losses(hidden[there.target_cell], there.target_id).cpu()
        losses.put(layout.members, reply_means(tokens, layout))
        for member, place in zip(layout.members, there.places, strict=True):
            said = torch.tensor(encoded[member].assistant_mask, device=hidden.device)
            embeddings[member] = hidden[place][said].float().mean(0).cpu()
            if trunk is not None:
                cached[member] = trunk[place].clone()
        progress.advance(len(layout.members))
    processes.add_up([embeddings, losses.all, losses.first, losses.later])
    progress.finish()
    return Frozen(cached if backbone.depth else None, embeddings, losses)


def _both_halves(backbone: Backbone, layout: Layout) -> tuple[Tensor, Tensor | None]:
    """Last hidden states and trunk activations of every cell: (cells, d) each."""
    there = layout.to(backbone.device)
    with backbone.watch_trunk() as seen:
        hidden = backbone.hidden(there.input_ids, there.attention, positions=there.positions)
    return hidden.flatten(0, 1), seen[0].flatten(0, 1) if backbone.depth else None


@torch.no_grad()
def forest_obstacle(backbone: Backbone, row: Encoded, *, pad_id: int) -> str:
    """Why the model does not give rows in a forest the states they have side by side, or "".

    Tried on the beginning of a row and on the same beginning with another end. A model whose
    layers look at a window of tokens only is refused unseen: a forest's mask would widen it.
    """
    config = backbone.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    if getattr(config, "sliding_window", None) and (not kinds or "sliding_attention" in kinds):
        return "its layers look at a window of tokens only"
    pair = _branching(row)
    aside = padded(pair, pad_id=pad_id)
    try:
        forest = next(forests(pair, max_tokens=10_000))
        expected, _ = _both_halves(backbone, aside)
        found, _ = _both_halves(backbone, forest)
    except torch.OutOfMemoryError:
        raise  # says nothing about forests
    except (ValueError, RuntimeError, TypeError) as error:
        return f"it fails on one: {type(error).__name__}: {error}".partition("\n")[0]
    left = torch.cat([expected[place] for place in aside.places]).float()
    right = torch.cat([found[place] for place in forest.places]).float()
    tolerance = 1e-3 if backbone.model.dtype == torch.float32 else 5e-2
    if (left - right).norm() <= tolerance * left.norm():
        return ""
    return "its states differ there"


def _branching(row: Encoded) -> list[Encoded]:
    """Two short rows that surely part ways: the second ends in the first's tokens reversed."""
    ids = row.input_ids[:48]
    stem, end = ids[: len(ids) // 3], ids[len(ids) // 3 :]
    mask, turns = [False] * (len(ids) + 1), [-1] * (len(ids) + 1)
    # One more token on each, of which the two differ even where the end is a palindrome.
    ends = ([*end, ids[0]], [*reversed(end), next((each for each in ids if each != ids[0]), 0)])
    return [Encoded([*stem, *tail], mask, turns) for tail in ends]


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """How embeddings and scalars become the head's features; fitted on training rows alone.

    Attributes:
        centre: Mean embedding. Shape (d,).
        components: Principal components, unit rows. Shape (k, d).
    """

    centre: Tensor
    components: Tensor

    @classmethod
    def fit(cls, embeddings: Tensor, *, components: int) -> FeatureMap:
        """Principal components of the rows given: (n, d); fewer than asked when n or d is less."""
        centre = embeddings.mean(0)
        _, _, basis = torch.linalg.svd((embeddings - centre).double(), full_matrices=False)
        basis = basis[: min(components, max(len(embeddings) - 1, 0))]
        # A component's sign is arbitrary; fix it, so that the same rows give the same features.
        largest = basis.gather(1, basis.abs().argmax(1, keepdim=True))
        return cls(centre, (basis * largest.sign()).float())

    @property
    def names(self) -> list[str]:
        """Name of every feature, in order."""
        return [*(f"component_{i}" for i in range(len(self.components))), *SCALARS]

    def features(
        self,
        embeddings: Tensor,
        *,
        n_tokens: Tensor,
        n_turns: Tensor,
        base: ReplyLosses,
        real: ReplyLosses,
    ) -> Tensor:
        """Features of trajectories: embeddings (n, d) and scalars (n,) to (n, k + 8)."""
        projected = (embeddings - self.centre) @ self.components.T
        lengths = torch.stack([n_tokens.float().log(), n_turns.float().log()], dim=1)
        before, after = base.stacked(), real.stacked()
        return torch.cat([projected, lengths, before, after - before], dim=1)


def losses_among(features: Tensor) -> Tensor:
    """The losses that features tell of, in the order of ``LOSSES``: (n, f) to (n, 6)."""
    before, ratios = features[:, -2 * len(RATIOS) :].double().split(len(RATIOS), dim=1)
    return torch.cat([before, before + ratios], dim=1)


def adapter_tensors(linears: Sequence[nn.Linear]) -> list[Tensor]:
    """A copy of an adapter's weights."""
    return [linear.weight.detach().clone() for linear in linears]


@torch.no_grad()
def set_adapter(linears: Sequence[nn.Linear], tensors: Sequence[Tensor]) -> None:
    """Put weights back into an adapter."""
    for linear, tensor in zip(linears, tensors, strict=True):
        linear.weight.copy_(tensor)
