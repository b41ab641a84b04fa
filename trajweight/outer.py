"""The outer level: the head, moved against d under control of the effective sample size.

The head's surrogate is sum_i d_i w_i(phi) with d_i held fixed, plus mu (n/ESS - 1). The coefficient
mu rises while ESS/n is below its target and falls back when it is above, never below the penalty
that is always on: dual ascent on the constraint n/ESS - 1 <= 1/target - 1. With a prior, ESS is
relative to it, so that the penalty does not take back what the prior decided.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.config import OuterConfig
    from trajweight.reweighting import Prior, ReweightingHead

#: How fast the coefficient of the penalty answers to a constraint that is not met, and how high.
ASCENT, MOST_PENALTY = 0.05, 10.0


class OuterLevel:
    """The head, its optimiser, its running average and the multiplier of the ESS constraint.

    Args:
        head: Changed in place.
        inputs: Of the synthetic training rows, what the head takes. Shape (n, ...).
        lengths: Assistant tokens of the same rows. Shape (n,).
        config: Of the outer level.
        prior: What the weights of these rows are before the head says anything.
    """

    def __init__(
        self,
        head: ReweightingHead,
        inputs: Tensor,
        lengths: Tensor,
        config: OuterConfig,
        *,
        prior: Prior | None = None,
    ) -> None:
        """The average starts at the head itself."""
        self.head, self.inputs, self.config, self.prior = head, inputs, config, prior
        self.average = copy.deepcopy(head).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        # A short row's loss is a mean over few tokens, so its d is noisy and believed less.
        trust = lengths / (lengths + lengths.float().median())
        self.trust = trust if config.length_shrinkage else torch.ones(len(lengths))
        self.scale = 0.0
        self.multiplier = config.ess_penalty
        self.steps = 0

    @torch.no_grad()
    def weights(self) -> Tensor:
        """Weights of all synthetic training rows, mean one: (n,)."""
        return self.head.weights(self.head(self.inputs), self.prior)

    @torch.no_grad()
    def averaged_weights(self) -> Tensor:
        """The same under the running average of the heads."""
        return self.average.weights(self.average(self.inputs), self.prior)

    def step(self, drawn: Sequence[int], d: Tensor, w: Tensor) -> None:
        """Move the head against d: places in the data set, d and weights of the rows drawn.

        d is centred, because mean-one weights cannot answer to what all rows have in common, and
        scaled by its running size, so that the penalty's coefficient means the same on any data.
        """
        places = torch.tensor(drawn)
        centred = (d - (d * w).sum() / w.sum()) * self.trust[places]
        size = float(centred.square().mean().sqrt())
        self.scale = size if self.steps == 0 else 0.9 * self.scale + 0.1 * size
        self.steps += 1
        weights = self.head.weights(self.head(self.inputs), self.prior)
        # The head answers for what it takes away, not for what the prior took before it.
        concentration = (
            weights.square().mean() / weights.mean().square() - 1
            if self.prior is None
            else 1 / self.prior.kept(weights) - 1
        )
        surrogate = (centred / max(self.scale, 1e-30) * weights[places]).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (surrogate + self.multiplier * concentration).backward()
        nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self.optimizer.step()
        self._ascend(float(concentration.detach()))
        self._follow()

    def _ascend(self, concentration: float) -> None:
        gap = concentration - (1 / self.config.target_ess - 1)
        raised = self.multiplier + ASCENT * gap
        self.multiplier = min(max(raised, self.config.ess_penalty), MOST_PENALTY)

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the average follow; its memory is short at first, so that the start is forgotten."""
        keep = min(self.config.average, self.steps / (self.steps + 9))
        for mine, theirs in zip(self.average.parameters(), self.head.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)

    def facts(self) -> dict[str, float]:
        """Numbers of the step just made."""
        weights = self.averaged_weights()
        return {
            "ess_fraction": float(effective_sample_size(weights)) / len(weights),
            "max_weight": float(weights.max()),
            "d_scale": self.scale,
            "ess_multiplier": self.multiplier,
        }

    def state(self) -> dict[str, Any]:
        """Everything that a later `restore` needs to go on from here."""
        return {
            "head": copy.deepcopy(self.head.state_dict()),
            "average": copy.deepcopy(self.average.state_dict()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "scale": self.scale,
            "multiplier": self.multiplier,
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.head.load_state_dict(state["head"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.scale, self.multiplier = state["scale"], state["multiplier"]
        self.steps = state["steps"]
