"""Negative log-likelihood of trajectories: the mean over their assistant tokens, in nats a token.

Each trajectory counts by its own mean, however long it is; both levels use the same loss, so
length alone makes no trajectory useful.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trajweight.errors import ConfigError
from trajweight.layout import Layout, alike, forests, padded
from trajweight.processes import ALONE, Processes

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
        cached: Trunk activations of each, shape (t, d), with none of the rows that another
            process computes; None where there is no trunk.
        output: The output layer.
        pad_id: Fills the cells after a trajectory's end.
        forest_tokens: Cells of one forest at most; 0 when the model cannot take forests.
        padded_tokens: Cells of one padded pass at most.
        adapter: The adapter whose losses these are; empty for the model without one.
        accumulation: Parts of a batch that pass one after another for its gradient.
        processes: Those that share the rows of every batch.
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
        accumulation: int = 1,
        processes: Processes = ALONE,
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
        self.accumulation = accumulation
        self.processes = processes
        #: Rows whose activations are here; with a trunk no other row can be computed.
        self.held: set[int] | None = None
        if cached is not None:
            self.held = {row for row, activations in enumerate(cached) if len(activations)}

    def apart(self, rows: Sequence[int]) -> Tensor:
        """Loss of each row, every row in cells of its own, differentiable: (b,)."""
        layout = padded([self.encoded[row] for row in rows], pad_id=self.pad_id)
        return _means(
            self._tokens(layout, rows), layout.target_member.to(self.backbone.device), len(rows)
        )

    def passes(self, rows: Sequence[int]) -> list[list[int]]:
        """Places of the rows that this process computes, by passes of ``apart`` without waste."""
        found = []
        for places in self._micro_batches(rows):
            lengths = [self._length(rows[place]) for place in places]
            parts = alike(lengths, max_cells=self.padded_tokens)
            found += [[places[index] for index in part] for part in parts]
        return found

    def accumulate(self, rows: Sequence[int], coefficients: Tensor) -> Tensor:
        """Add the gradient of this process's part of sum_i c_i l_i to the parameters.

        Gives back the losses, zero for the rows of other processes: (b,).
        """
        losses = torch.zeros(len(rows), dtype=self.dtype)
        for places in self._micro_batches(rows):
            for layout in self._layouts(rows, places):
                part = self._member_losses(layout, rows)
                (part * coefficients[layout.members].to(part.device)).sum().backward()
                losses[layout.members] = part.detach().cpu().to(self.dtype)
        return losses

    @torch.no_grad()
    def evaluate(self, rows: Sequence[int]) -> Tensor:
        """Loss of each row, without gradients: (b,)."""
        losses = torch.zeros(len(rows), dtype=self.dtype)
        for layout in self._layouts(rows, self._mine(rows)):
            losses[layout.members] = self._member_losses(layout, rows).cpu().to(self.dtype)
        self.processes.add_up([losses])
        return losses

    @torch.no_grad()
    def replies(self, rows: Sequence[int]) -> ReplyLosses:
        """Losses of each row over all, first and later replies, without gradients."""
        parts = ReplyLosses.zeros(len(rows))
        for layout in self._layouts(rows, self._mine(rows)):
            parts.put(layout.members, reply_means(self._tokens(layout, rows).cpu(), layout))
        self.processes.add_up([parts.all, parts.first, parts.later])
        return parts

    def by_turn(self, row: int) -> tuple[list[int], list[int], Tensor]:
        """What each assistant turn adds to a row's loss, differentiable; the parts sum to it.

        Returns:
            The turns that hold targets, ascending, how many targets each holds, and their parts.
            Shape (turns,) each.
        """
        layout = padded([self.encoded[row]], pad_id=self.pad_id)
        turns, place, counts = layout.target_turn.unique(return_inverse=True, return_counts=True)
        tokens = self._tokens(layout, [row])
        zeros = torch.zeros(len(turns), dtype=tokens.dtype, device=tokens.device)
        parts = zeros.index_add(0, place.to(tokens.device), tokens) / len(tokens)
        return turns.tolist(), counts.tolist(), parts

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

    def _mine(self, rows: Sequence[int]) -> list[int]:
        """Places of the rows that this process computes, ascending.

        With a trunk it is the rows whose activations are here, so that a process computes and
        keeps those of its own rows only; without one every batch is dealt out evenly.
        """
        if self.processes.count == 1 or self.held is None:
            return self.processes.mine([self._length(row) for row in rows])
        return [place for place, row in enumerate(rows) if row in self.held]

    def _micro_batches(self, rows: Sequence[int]) -> list[list[int]]:
        """The same places in ``accumulation`` parts of like size and like lengths."""
        mine = self._mine(rows)
        if self.accumulation == 1:
            return [mine]
        mine.sort(key=lambda place: self._length(rows[place]))
        cuts = [len(mine) * part // self.accumulation for part in range(self.accumulation + 1)]
        return [sorted(mine[begin:end]) for begin, end in pairwise(cuts) if begin < end]

    def _length(self, row: int) -> int:
        return len(self.encoded[row].input_ids)

    def _layouts(self, rows: Sequence[int], places: Sequence[int]) -> Iterator[Layout]:
        """Layouts that hold every row at these places once; members index ``rows``."""
        for layout in layouts(
            [self.encoded[rows[place]] for place in places],
            pad_id=self.pad_id,
            forest_tokens=self.forest_tokens,
            padded_tokens=self.padded_tokens,
        ):
            layout.members[:] = [places[member] for member in layout.members]
            yield layout


def layouts(
    encoded: Sequence[Encoded], *, pad_id: int, forest_tokens: int, padded_tokens: int
) -> Iterator[Layout]:
    """Forests where the model takes them, else padded batches of like lengths."""
    if forest_tokens:
        yield from forests(encoded, max_tokens=forest_tokens)
        return
    for taken in alike([len(row.input_ids) for row in encoded], max_cells=padded_tokens):
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
