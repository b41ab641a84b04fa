"""What each kind of feature adds to the head's score of a row, against the mean training row.

The score is a function of groups of features: the embedding, the length, the turns, the loss under
the base model, and the likelihood ratio: how much higher the loss is after training on real rows,
below zero where the row became likelier. A group that is left out has the mean of the training rows
in its place. The Shapley value of a group is what it adds on average over all orders in which the
groups can come in (Shapley 1953; for predictions Strumbelj and Kononenko 2010). With five groups
all 32 subsets are computed, so the values are exact and sum to the score minus that of the mean
training row, whatever the head is.

The numbers of `trajweight.features` and `trajweight.reweighting` are computed again with numpy, so
that a head can be asked without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.special import erf, expit

from trajweight.analysis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GROUPS: Final = ("embedding", "length", "turns", "base_loss", "likelihood_ratio")
#: A standardised feature counts as at most this far from the mean, as in `trajweight.reweighting`.
FARTHEST: Final = 5.0
#: Losses, and ratios, at the end of the features: of all, first and later replies.
_LOSSES: Final = 3


@dataclass(frozen=True, slots=True)
class Contribution(Facts):
    """What one group adds.

    Attributes:
        name: One of `GROUPS`.
        adds: Its part of the score, against the mean training row.
        value: The row's own number: tokens, turns, nats a token; None for the embedding. The
            likelihood ratio is below zero where the row is likelier after training on real rows.
        typical: The same of the mean training row; sizes are geometric means.
    """

    name: str
    adds: float
    value: float | None
    typical: float | None


@dataclass(frozen=True, slots=True)
class Contributions(Facts):
    """Why the head says what it says.

    Attributes:
        score: The head's output, the mean over an ensemble.
        baseline: The same for the mean training row; the parts sum to ``score - baseline``.
        parts: One a group, the strongest first.
        times: How many times as much as the mean training row this one counts before returns come
            in; None for an ensemble, whose weights are a mean.
        n_heads: How many heads there are.
    """

    score: float
    baseline: float
    parts: tuple[Contribution, ...]
    times: float | None
    n_heads: int


@dataclass(frozen=True, slots=True)
class RowFeatures:
    """What the heads read of one row, before their map.

    Attributes:
        embedding: Shape (d,).
        n_tokens: Tokens.
        n_turns: Turns.
        base: Mean loss of all, first and later replies under the base model. Shape (3,).
        real: The same after training on real rows, one a training. Shape (a, 3).
    """

    embedding: Floats
    n_tokens: int
    n_turns: int
    base: Floats
    real: Floats


def contributions(
    arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any], row: RowFeatures
) -> Contributions:
    """The parts of a row's score, by a head of kind mlp or linear.

    Args:
        arrays: The head's tensors, see `trajweight.trained_head`.
        config: From beside them.
        row: What the heads read.
    """
    members = []
    for place, adapter in enumerate(config["adapter_of"]):
        head = {
            name.removeprefix(f"head.{place}."): value.astype(np.float64)
            for name, value in arrays.items()
            if name.startswith(f"head.{place}.")
        }
        members.append(_of_member(head, arrays, row, row.real[adapter]))
    bases, parts, mines, means = (np.mean(each, axis=0) for each in zip(*members, strict=True))
    baseline, score = float(bases), float(bases + parts.sum())
    values = [None, row.n_tokens, row.n_turns, *mines[-2:]]
    typical = [None, *np.exp(means[:2]), *means[-2:]]
    found = [
        Contribution(name, float(adds), *(None if each is None else float(each) for each in pair))
        for name, adds, *pair in zip(GROUPS, parts, values, typical, strict=True)
    ]
    n = len(members)
    times = _times(arrays, config["shape"], score, baseline) if n == 1 else None
    found.sort(key=lambda one: -abs(one.adds))
    return Contributions(score, baseline, tuple(found), times, n)


def score_of(head: Mapping[str, Floats], features: Floats) -> Floats:
    """What a head of kind mlp or linear says of rows: features (n, f) to (n,)."""
    x = np.clip((features - head["mean"]) / head["scale"], -FARTHEST, FARTHEST)
    if "hidden.weight" in head:
        x = x @ head["hidden.weight"].T + head["hidden.bias"]
        x = x * (1 + erf(x / math.sqrt(2))) / 2
    scores: Floats = x @ head["last.weight"][0] + head["last.bias"][0]
    return scores


def shapley(value: Callable[[NDArray[np.bool_]], Floats], n: int) -> tuple[float, Floats]:
    """What each of ``n`` players adds on average over all orders, by all subsets.

    Args:
        value: Worth of sets of players: who is in (k, n) to (k,).
        n: Players; the sets are 2 to the power of it.

    Returns:
        The worth of nobody, and what each adds; together they are the worth of all.

    Example:
        >>> shapley(lambda who: 2.0 * who[:, 0] + 4.0 * (who[:, 0] & who[:, 1]), 2)[1].tolist()
        [4.0, 2.0]
    """
    numbers = np.arange(2**n)
    who = (numbers[:, None] >> np.arange(n)) % 2 == 1
    worth = value(who)
    sizes = who.sum(axis=1)
    # A set comes before a player in as many orders as its members and the others can be put in.
    share = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
    parts = np.empty(n)
    for player in range(n):
        without = numbers[~who[:, player]]
        gains = worth[without + 2**player] - worth[without]
        parts[player] = (share[sizes[without]] * gains).sum()
    return float(worth[0]), parts


def _of_member(
    head: Mapping[str, Floats], arrays: Mapping[str, NDArray[Any]], row: RowFeatures, real: Floats
) -> tuple[float, Floats, Floats, Floats]:
    """One head's baseline and parts, and the scalars of the row and of the mean training row.

    The scalars are the two sizes as logarithms, the base loss and the likelihood ratio.
    """
    components = arrays["map.components"].astype(np.float64)
    projected = (row.embedding - arrays["map.centre"]) @ components.T
    sizes = np.log([row.n_tokens, row.n_turns])
    mine = np.concatenate([projected, sizes, row.base, real - row.base])
    mean = head["mean"]
    group = np.repeat(np.arange(len(GROUPS)), [len(components), 1, 1, _LOSSES, _LOSSES])

    def value(who: NDArray[np.bool_]) -> Floats:
        return score_of(head, np.where(who[:, group], mine, mean))

    baseline, parts = shapley(value, len(GROUPS))
    scalars = [len(components), len(components) + 1, -2 * _LOSSES, -_LOSSES]
    return baseline, parts, mine[scalars], mean[scalars]


def _times(
    arrays: Mapping[str, NDArray[Any]], shape: Mapping[str, Any], score: float, baseline: float
) -> float:
    """The bounded weight of one score over that of another."""
    heat, low = float(arrays["head.0.temperature"]), shape["w_min"]
    mine, other = (low + (shape["w_max"] - low) * expit(each / heat) for each in (score, baseline))
    return float(mine / other)
