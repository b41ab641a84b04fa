"""Token rows and a tiny adapted model, built in memory for the tests of the maths."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from trajweight.backbone import Backbone
from trajweight.encoded import Encoded
from trajweight.features import Frozen, frozen_pass
from trajweight.losses import OutputLayer, TrajectoryLosses
from trajweight.progress import Progress
from trajweight.tiny import build_tiny

if TYPE_CHECKING:
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
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Bench:
    """The tiny model cut at ``depth``, with an adapter whose B is not zero."""
    backbone = Backbone(exact_tiny(dtype), depth=depth)
    frozen = frozen_pass(
        backbone, rows, pad_id=PAD, forest_tokens=forest_tokens, progress=Progress()
    )
    linears = backbone.add_adapter(rank=2, alpha=4, seed=seed)
    nn.Module.to(backbone.model, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for linear in linears:
            linear.weight.add_(
                0.05 * torch.randn(linear.weight.shape, generator=generator, dtype=dtype)
            )
    losses = TrajectoryLosses(
        backbone,
        rows,
        frozen.cached,
        output=OutputLayer(backbone),
        pad_id=PAD,
        forest_tokens=forest_tokens,
    )
    return Bench(backbone, frozen, linears, losses)
