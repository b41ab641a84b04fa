"""Meta-Weight-Net: a small network that makes a weight of a row's loss, and sees nothing else.

    w_i = V(l_i) / sum of V over the batch,    V = sigmoid of a network 1 - 100 - 1 with ReLU

The network is led by the gradient of the validation loss after one step on the weighted batch, and
the step is then made with the new weights, as in the paper. Training goes on from the warm-up on
synthetic rows alone; the step that is differentiated is the engine's own, of AdamW. At the end each
row weighs what the network makes of its loss there. Since any two rows of one loss weigh the same,
this says how much of learned weights could be had from losses alone.

Reference:
    Shu et al., Meta-Weight-Net: Learning an Explicit Mapping For Sample Weighting, NeurIPS 2019,
    arXiv 1902.07379.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import nn

from trajweight.estimators import Ghost
from trajweight.scorers.grounds import warmed
from trajweight.scorers.one_step import foreseen, visits
from trajweight.scorers.scorer import Scored

if TYPE_CHECKING:
    from torch import Tensor

    from trajweight.inner import InnerLevel
    from trajweight.problem import Rows
    from trajweight.scorers.scorer import Needs, Pool

#: Units of the hidden layer.
WIDTH: Final = 100


@dataclass(frozen=True, slots=True)
class MetaWeightNet:
    """Weights that are a learned function of the loss.

    Attributes:
        times: How often each row is visited, at least.
        learning_rate: Of Adam on the network; the paper's 1e-3 is for trainings of thousands of
            steps, the engine's own heads have this one.
    """

    times: int = 3
    learning_rate: float = 1e-2
    name: str = "meta-weight-net"
    sentence: str = (
        "What a network that sees a row's loss alone, led by the validation loss, makes of it "
        "(Meta-Weight-Net, Shu et al. 2019)."
    )
    needs: Needs = "training"

    def score(self, pool: Pool) -> Scored:
        """The network's weights at the end.

        Raises:
            ConfigError: If there are too few validation rows.
        """
        with warmed(pool, self.name) as warm:
            net, problem = new_net(pool.seed), warm.inner.problem
            teach(
                net,
                warm.inner,
                problem.synthetic,
                times=self.times,
                learning_rate=self.learning_rate,
                validation_size=warm.ground.config.estimator.batch_size,
            )
            with torch.no_grad():
                found = raw_weights(net, problem.evaluate(problem.synthetic))
        weights = found.double().numpy()
        return Scored(weights, weights)


def new_net(seed: int) -> nn.Sequential:
    """The network at its start; it depends on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))


def raw_weights(net: nn.Module, losses: Tensor) -> Tensor:
    """V of losses, each between 0 and 1: (b,) to (b,)."""
    found: Tensor = net(losses.detach().float()[:, None]).squeeze(1)
    return found.sigmoid()


def teach(
    net: nn.Module,
    inner: InnerLevel,
    rows: Rows,
    *,
    times: int,
    learning_rate: float,
    validation_size: int,
) -> None:
    """Train the network and the adapter in turns.

    Args:
        net: Changed in place.
        inner: Trained, from where it stands.
        rows: To weigh.
        times: Visits of each row, at least.
        learning_rate: Of the network.
        validation_size: Validation rows of one gradient, at most.
    """
    running = Ghost(fused=False, at="theta_next", validation_size=validation_size).begin(inner)
    # d is as small as the learning rate inside, and Adam's usual eps would be large beside it.
    optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate, eps=1e-15)
    for batch in visits(inner, rows, times):
        losses = inner.problem.evaluate(batch)
        weights = _shares(net, losses)
        found = foreseen(inner, running, batch, weights.detach())
        if found is None:
            continue
        optimizer.zero_grad()
        (found.d.float() * weights).sum().backward()
        optimizer.step()
        inner.step(batch, _shares(net, losses).detach())


def _shares(net: nn.Module, losses: Tensor) -> Tensor:
    """V over its sum, times the size of the batch, so that the mean is one: (b,) to (b,)."""
    raw = raw_weights(net, losses)
    return raw / raw.mean()
