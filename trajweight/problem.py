"""What the inner and the outer level are about: rows, their losses, and the tensors trained.

Rows are numbers and losses are callables here; what they stand for is known elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trajweight.errors import ConfigError
from trajweight.processes import ALONE, Processes

Rows = Sequence[int]


def _no_sibling(name: str) -> Problem:
    message = f"this problem has one adapter only, and a second one, {name}, was asked for"
    raise ConfigError(message)


def _in_one_pass(rows: Rows) -> list[list[int]]:
    return [list(range(len(rows)))]


@dataclass(frozen=True)
class Problem:
    """The inner model as the loop sees it.

    With several processes each computes some rows of a batch, and the loop adds up what they find.

    Attributes:
        apart: Losses of rows, differentiable, each row in cells of its own: rows to (b,).
        accumulate: Adds the gradient of this process's part of sum_i c_i l_i to the parameters;
            gives back the losses, zero for the rows of others: rows, (b,) to (b,).
        evaluate: Losses of rows without gradients, of all rows on every process: rows to (b,).
        linears: The linears that hold every trainable tensor.
        real: Real training rows.
        synthetic: Synthetic training rows; weights come in this order.
        validation: Rows of the outer loss.
        validation_share: Share of each in the outer loss, summing to one. Shape (m,).
        real_weight: What each real training row counts, synthetic rows having mean one.
        sibling: The same problem for a further adapter, by its name, on the same frozen base.
        passes: The passes of ``apart`` that make up a batch: which places of it this process
            computes, and which of them together: rows to a list of places a pass.
        processes: Those that share the work.
        left_out: Synthetic rows that are not drawn, though they have a weight.
    """

    apart: Callable[[Rows], Tensor]
    accumulate: Callable[[Rows, Tensor], Tensor]
    evaluate: Callable[[Rows], Tensor]
    linears: list[nn.Linear]
    real: Rows
    synthetic: Rows
    validation: Rows
    validation_share: Tensor
    real_weight: float
    sibling: Callable[[str], Problem] = field(default=_no_sibling)
    passes: Callable[[Rows], list[list[int]]] = field(default=_in_one_pass)
    processes: Processes = ALONE
    left_out: frozenset[int] = frozenset()

    @property
    def training(self) -> list[int]:
        """All rows that are drawn, real ones first."""
        return [*self.real, *(row for row in self.synthetic if row not in self.left_out)]

    def outer_loss(self) -> float:
        """The outer loss under the model as it stands."""
        return float((self.evaluate(self.validation) * self.validation_share).sum())

    def with_shares(self, share: Tensor) -> Problem:
        """The same problem, and its siblings, with other shares of the validation rows.

        Args:
            share: Summing to one; rows with none leave the outer loss. Shape (m,).
        """
        kept = share.nonzero().flatten().tolist()
        return replace(
            self,
            validation=[self.validation[place] for place in kept],
            validation_share=share[kept],
            sibling=lambda name: self.sibling(name).with_shares(share),
        )

    def with_factors(self, factors: Tensor) -> Problem:
        """The same problem, and its siblings, with the loss of every row multiplied by a factor.

        Args:
            factors: Of all rows, by their numbers. Shape (n,).
        """

        def apart(rows: Rows) -> Tensor:
            losses = self.apart(rows)
            return losses * factors[list(rows)].to(losses)

        def accumulate(rows: Rows, coefficients: Tensor) -> Tensor:
            mine = factors[list(rows)]
            return self.accumulate(rows, coefficients * mine) * mine

        return replace(
            self,
            apart=apart,
            accumulate=accumulate,
            evaluate=lambda rows: self.evaluate(rows) * factors[list(rows)],
            sibling=lambda name: self.sibling(name).with_factors(factors),
        )

    def sample_validation(self, size: int, generator: torch.Generator) -> tuple[list[int], Tensor]:
        """At most ``size`` validation rows, with shares that sum to one."""
        m = len(self.validation)
        if m <= size:
            return list(self.validation), self.validation_share
        chosen = torch.randperm(m, generator=generator)[:size]
        share = self.validation_share[chosen]
        return [self.validation[index] for index in chosen.tolist()], share / share.sum()


class Weighing:
    """Weights of any batch: the head's for synthetic rows, the fixed one for real rows."""

    def __init__(self, problem: Problem) -> None:
        """Note where each synthetic row stands."""
        self.place = {row: index for index, row in enumerate(problem.synthetic)}
        self.real_weight = problem.real_weight

    def of(self, rows: Rows, weights: Tensor) -> Tensor:
        """Weights (n,) of the synthetic rows in their order to those of a batch: (b,)."""
        found = [
            float(weights[self.place[row]]) if row in self.place else self.real_weight
            for row in rows
        ]
        return torch.tensor(found, dtype=weights.dtype)
