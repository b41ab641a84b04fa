"""Negative log-likelihood of trajectories: the mean over their assistant tokens, in nats a token.

Each trajectory counts by its own mean, however long it is; both levels use the same loss, so
length alone makes no trajectory useful.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trajweight.errors import ConfigError
from trajweight.layout import Layout, forests, padded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.backbone import Backbone
    from trajweight.encoded import Encoded


@dataclass(frozen=True, slots=True)
class ReplyLosses:
    """Mean loss of each trajectory over some of its replies, in nats a token. Shape (n,) each.

    Attributes:
        all: Every assistant token.
        first: Tokens of the first reply.
        later: Tokens of the replies after it; those of all when there is only one.
    """

    all: Tensor
    first: Tensor
    later: Tensor

    @classmethod
    def zeros(cls, n: int) -> ReplyLosses:
        """Losses to be filled in."""
        return cls(torch.zeros(n), torch.zeros(n), torch.zeros(n))

    def put(self, rows: Sequence[int], found: ReplyLosses) -> None:
        """Fill in the losses of some rows."""
        for name in ("all", "first", "later"):
            getattr(self, name)[rows] = getattr(found, name).float()

    def stacked(self) -> Tensor:
        """The three as columns. Shape (n, 3)."""
        return torch.stack([self.all, self.first, self.later], dim=1)


class OutputLayer:
    """From hidden states to token losses, over the whole vocabulary or over some tokens of it.

    Args:
        backbone: The model whose output layer this is.
        tokens: Ids the loss chooses from, ascending; None for the whole vocabulary.
    """

    def __init__(self, backbone: Backbone, *, tokens: Tensor | None = None) -> None:
        """Cut the rows of the output layer that are needed."""
        model = backbone.model
        layer = model.get_output_embeddings()
        config = model.config.get_text_config()
        self.soft_cap = getattr(config, "final_logit_softcapping", None)
        self.factor = getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)
        if tokens is None:
            self.layer, self.place = layer, None
            return
        self.layer = nn.Linear(layer.in_features, len(tokens), bias=layer.bias is not None)
        self.layer.weight = nn.Parameter(layer.weight[tokens].detach(), requires_grad=False)
        if layer.bias is not None:
            self.layer.bias = nn.Parameter(layer.bias[tokens].detach(), requires_grad=False)
        self.place = torch.full((layer.out_features,), -1, device=layer.weight.device)
        self.place[tokens] = torch.arange(len(tokens), device=layer.weight.device)

    def losses(self, hidden: Tensor, ids: Tensor) -> Tensor:
        """Negative log-likelihood of each token given the state before it: (k, d), (k,) to (k,)."""
        targets = ids if self.place is None else self.place[ids]
        return nn.functional.cross_entropy(self.logits(hidden), targets, reduction="none")

    def logits(self, hidden: Tensor) -> Tensor:
        """What the model itself makes of hidden states, in fp32 or better: (k, d) to (k, v)."""
        logits: Tensor = self.layer(hidden.to(self.layer.weight.dtype)) * self.factor
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return logits if self.soft_cap is None else self.soft_cap * (logits / self.soft_cap).tanh()

    def require_faithful(self, backbone: Backbone, row: Encoded) -> None:
        """Compare with the model's own logits on one trajectory.

        Raises:
            ConfigError: If the model does more to its logits than this class knows.
        """
        ids = torch.tensor([row.input_ids[:16]], device=backbone.device)
        with torch.no_grad():
            theirs = backbone.model(input_ids=ids, use_cache=False).logits[0].float()
            ours = self.logits(backbone.hidden(ids, torch.ones_like(ids))[0])
        if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max())):
            message = f"{type(backbone.model).__name__} changes its logits in a way not known here"
            raise ConfigError(message, hint="Choose another --model.")


class TrajectoryLosses:
    """Losses of any of the given trajectories under the model as it stands.

    Args:
        backbone: The model, with or without an adapter.
        encoded: The trajectories.
        cached: Trunk activations of each, shape (t, d); None where there is no trunk.
        output: The output layer.
        pad_id: Fills the cells after a trajectory's end.
        forest_tokens: Cells of one forest at most; 0 when the model cannot take forests.
        padded_tokens: Cells of one padded pass at most, where forests cannot be had.
        adapter: The adapter whose losses these are; empty for the model without one.
    """

    def __init__(
        self,
        backbone: Backbone,
        encoded: Sequence[Encoded],
        cached: Sequence[Tensor] | None,
        *,
        output: OutputLayer,
        pad_id: int,
        forest_tokens: int,
        padded_tokens: int = 8192,
        adapter: str = "",
    ) -> None:
        """Keep what is needed; nothing is computed yet."""
        self.adapter = adapter
        # At least fp32, and fp64 where the model is.
        self.dtype = torch.promote_types(backbone.model.dtype, torch.float32)
        self.backbone = backbone
        self.encoded = encoded
        self.cached = cached
        self.output = output
        self.pad_id = pad_id
        self.forest_tokens = forest_tokens
        self.padded_tokens = padded_tokens

    def apart(self, rows: Sequence[int]) -> Tensor:
        """Loss of each row, every row in cells of its own, differentiable: (b,)."""
        layout = padded([self.encoded[row] for row in rows], pad_id=self.pad_id)
        return _means(
            self._tokens(layout, rows), layout.target_member.to(self.backbone.device), len(rows)
        )

    def accumulate(self, rows: Sequence[int], coefficients: Tensor) -> Tensor:
        """Add the gradient of sum_i c_i l_i to the parameters; gives back the losses: (b,)."""
        losses = torch.zeros(len(rows), dtype=self.dtype)
        for layout in self._layouts(rows):
            part = self._member_losses(layout, rows)
            (part * coefficients[layout.members].to(part.device)).sum().backward()
            losses[layout.members] = part.detach().cpu().to(self.dtype)
        return losses

    @torch.no_grad()
    def evaluate(self, rows: Sequence[int]) -> Tensor:
        """Loss of each row, without gradients: (b,)."""
        losses = torch.zeros(len(rows), dtype=self.dtype)
        for layout in self._layouts(rows):
            losses[layout.members] = self._member_losses(layout, rows).cpu().to(self.dtype)
        return losses

    @torch.no_grad()
    def replies(self, rows: Sequence[int]) -> ReplyLosses:
        """Losses of each row over all, first and later replies, without gradients."""
        parts = ReplyLosses.zeros(len(rows))
        for layout in self._layouts(rows):
            parts.put(layout.members, reply_means(self._tokens(layout, rows).cpu(), layout))
        return parts

    def _member_losses(self, layout: Layout, rows: Sequence[int]) -> Tensor:
        tokens = self._tokens(layout, rows)
        return _means(tokens, layout.target_member.to(tokens.device), len(layout.members))

    def _tokens(self, layout: Layout, rows: Sequence[int]) -> Tensor:
        """Loss of every target token of a layout: (k,)."""
        if self.adapter:
            self.backbone.use(self.adapter)
        cached = None
        if self.cached is not None:
            cached = gather([self.cached[rows[member]] for member in layout.members], layout)
        there = layout.to(self.backbone.device)
        hidden = self.backbone.hidden(
            there.input_ids, there.attention, positions=there.positions, cached=cached
        )
        # Shared cells predict for several rows. What flows back to them must be added in one order,
        # or the same seed gives other bytes: index_select does, indexing with several threads not.
        states = hidden.flatten(0, 1).index_select(0, there.target_cell)
        return self.output.losses(states, there.target_id)

    def _layouts(self, rows: Sequence[int]) -> Iterator[Layout]:
        """Layouts that hold every row once; members index ``rows``."""
        yield from layouts(
            [self.encoded[row] for row in rows],
            pad_id=self.pad_id,
            forest_tokens=self.forest_tokens,
            padded_tokens=self.padded_tokens,
        )


def layouts(
    encoded: Sequence[Encoded], *, pad_id: int, forest_tokens: int, padded_tokens: int
) -> Iterator[Layout]:
    """Forests where the model takes them, else padded batches of like lengths."""
    if forest_tokens:
        yield from forests(encoded, max_tokens=forest_tokens)
        return
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row].input_ids))
    while order:
        size = len(order)
        while size > 1 and size * len(encoded[order[size - 1]].input_ids) > padded_tokens:
            size -= 1
        taken, order = order[:size], order[size:]
        layout = padded([encoded[row] for row in taken], pad_id=pad_id)
        layout.members[:] = taken
        yield layout


def gather(cached: Sequence[Tensor], layout: Layout) -> Tensor:
    """Lay cached activations, (t, d) a member, into the cells of a layout: (b, t, d)."""
    like = cached[0]
    cells = like.new_zeros((layout.input_ids.numel(), like.shape[1]))
    for place, activations in zip(layout.places, cached, strict=True):
        cells[place] = activations
    return cells.view(*layout.input_ids.shape, -1)


def reply_means(tokens: Tensor, layout: Layout) -> ReplyLosses:
    """Means over all, first and later replies of each member: token losses (k,) to (n,) each."""
    n, member, turn = len(layout.members), layout.target_member, layout.target_turn
    everything = _means(tokens, member, n)
    first_turn = torch.full((n,), torch.iinfo(turn.dtype).max).scatter_reduce(
        0, member, turn, "amin"
    )
    is_first = turn == first_turn[member]
    first = _means(tokens[is_first], member[is_first], n)
    counts = torch.bincount(member[~is_first], minlength=n)
    later = torch.where(counts > 0, _means(tokens[~is_first], member[~is_first], n), everything)
    return ReplyLosses(everything, first, later)


def _means(values: Tensor, groups: Tensor, n: int) -> Tensor:
    """Mean of the values of each group; zero for a group without any."""
    sums = torch.zeros(n, dtype=values.dtype, device=values.device).index_add(0, groups, values)
    counts = torch.bincount(groups, minlength=n).clamp_min(1).to(values.dtype)
    return sums / counts
