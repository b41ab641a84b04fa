"""Token rows and a tiny adapted model, built in memory for the tests of the maths."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trajweight.backbone import ADAPTER, Backbone
from trajweight.encoded import Encoded
from trajweight.features import Frozen, frozen_pass
from trajweight.losses import OutputLayer, TrajectoryLosses
from trajweight.problem import Problem
from trajweight.processes import ALONE, Processes
from trajweight.progress import Progress
from trajweight.tiny import build_tiny

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

PAD = 0


def token_rows(n: int, *, seed: int = 0, vocabulary: int = 60, shared: int = 5) -> list[Encoded]:
    """Rows of different length that begin alike, with two or three replies each."""
    rng = random.Random(seed)
    opening = [rng.randrange(vocabulary) for _ in range(shared)]
    rows = []
    for _ in range(n):
        ids, mask, turns = list(opening), [False] * shared, [-1] * shared
        for turn in range(rng.randint(2, 3)):
            heard, said = rng.randint(2, 6), rng.randint(1, 5)
            ids += [rng.randrange(vocabulary) for _ in range(heard + said)]
            mask += [False] * heard + [True] * said
            turns += [-1] * heard + [turn] * said
        rows.append(Encoded(ids, mask, turns))
    return rows


@dataclass
class Bench:
    """A tiny adapted model over some rows."""

    backbone: Backbone
    frozen: Frozen
    linears: list[nn.Linear]
    losses: TrajectoryLosses

    def problem(self, *, held_out: int = 3, adapter: str = ADAPTER) -> Problem:
        """The last rows are held out, the first two real; a sibling has a start of its own."""
        linears, losses = self.linears, self.losses
        if adapter != ADAPTER:
            linears = self.backbone.linears_of(adapter)
            linears = linears or _adapter(self.backbone, seed=1, name=adapter)
            losses = losses_of(
                self.backbone,
                losses.encoded,
                self.frozen,
                adapter=adapter,
                processes=losses.processes,
            )
        n = len(losses.encoded) - held_out
        dtype = linears[0].weight.dtype
        return Problem(
            apart=losses.apart,
            accumulate=losses.accumulate,
            evaluate=losses.evaluate,
            linears=linears,
            real=[0, 1],
            synthetic=list(range(2, n)),
            validation=list(range(n, n + held_out)),
            validation_share=torch.full((held_out,), 1 / held_out, dtype=dtype),
            real_weight=1.0,
            sibling=lambda name: self.problem(held_out=held_out, adapter=name),
            passes=losses.passes,
            processes=losses.processes,
        )


def exact_tiny(dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """The tiny model with norms in its own precision; transformers computes them in float32."""
    tiny, _ = build_tiny()
    model: Any = nn.Module.to(tiny, dtype=dtype)

    def norm(x: torch.Tensor, *, weight: torch.Tensor, eps: float) -> torch.Tensor:
        return weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)

    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            module.forward = partial(norm, weight=module.weight, eps=module.variance_epsilon)
    return model


def bench(
    rows: list[Encoded],
    *,
    depth: int = 1,
    forest_tokens: int = 64,
    accumulation: int = 1,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    processes: Processes = ALONE,
) -> Bench:
    """The tiny model cut at ``depth``, with an adapter whose B is not zero."""
    backbone = Backbone(exact_tiny(dtype), depth=depth)
    frozen = frozen_pass(
        backbone,
        rows,
        pad_id=PAD,
        forest_tokens=forest_tokens,
        progress=Progress(),
        processes=processes,
    )
    linears = _adapter(backbone, seed=seed, name=ADAPTER)
    losses = losses_of(
        backbone,
        rows,
        frozen,
        adapter=ADAPTER,
        forest_tokens=forest_tokens,
        accumulation=accumulation,
        processes=processes,
    )
    return Bench(backbone, frozen, linears, losses)


def losses_of(
    backbone: Backbone,
    rows: Sequence[Encoded],
    frozen: Frozen,
    *,
    adapter: str,
    forest_tokens: int = 64,
    accumulation: int = 1,
    processes: Processes = ALONE,
) -> TrajectoryLosses:
    """Losses under one adapter, over the whole vocabulary."""
    return TrajectoryLosses(
        backbone,
        rows,
        frozen.cached,
        output=OutputLayer(backbone),
        pad_id=PAD,
        forest_tokens=forest_tokens,
        adapter=adapter,
        accumulation=accumulation,
        processes=processes,
    )


def _adapter(backbone: Backbone, *, seed: int, name: str) -> list[nn.Linear]:
    """An adapter in the model's own precision, whose B is not zero."""
    linears = backbone.add_adapter(rank=2, alpha=4, seed=seed, name=name)
    dtype = backbone.model.dtype
    nn.Module.to(backbone.model, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for linear in linears:
            linear.weight.add_(
                0.05 * torch.randn(linear.weight.shape, generator=generator, dtype=dtype)
            )
    return linears
