"""The engine's own search at two levels, for scorers that change one thing in it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from trajweight.bilevel import Search, learn
from trajweight.outer import OuterLevel
from trajweight.reweighting import new_head
from trajweight.scorers.scorer import Scored
from trajweight.trained_head import HeadInputs

if TYPE_CHECKING:
    from trajweight.config import HeadName
    from trajweight.estimators import Estimator
    from trajweight.scorers.grounds import Warm


def searched(warm: Warm, *, head: HeadName, estimator: Estimator, seed: int) -> Scored:
    """The weights that one search ends with, by one head and one adapter.

    What returns say beforehand is left out: it is another method. So is the contest on dev.

    Args:
        warm: Where it begins.
        head: What gives a weight.
        estimator: Of the hypergradient.
        seed: Of the head.
    """
    ground, material, inner = warm.ground, warm.ground.material, warm.inner
    settings = replace(ground.config.outer, head=head)
    sources = tuple(dict.fromkeys(material.sources[row] for row in material.synthetic))
    reads = HeadInputs(head, ground.mapped, sources)
    inputs = reads.of(warm.beginning.features, material.sources, material.synthetic)
    mine = inputs[material.synthetic]
    shape = reads.shape(mine, hidden=settings.hidden, w_min=settings.w_min)
    lengths = [sum(material.encoded[row].assistant_mask) for row in material.synthetic]
    outer = OuterLevel(new_head(shape, mine, seed=seed), mine, torch.tensor(lengths), settings)
    learn(Search([inner], outer, estimator, settings), watch=lambda _: None)
    weights = outer.averaged_weights().double().numpy()
    return Scored(weights, weights)
