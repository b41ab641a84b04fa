from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tests.toy import INNER, Toy
from tests.trajweight.scorers.grounds import new_ground
from trajweight.ground import problem_of
from trajweight.inner import InnerLevel

if TYPE_CHECKING:
    from trajweight.problem import Problem

ROWS = [15, 3, 40, 20]
COEFFICIENTS = torch.tensor([0.5, 1.0, 2.0, 0.25], dtype=torch.float64)


def moved(problem: Problem) -> Problem:
    """The same problem away from zero, where no gradient is special."""
    generator = torch.Generator().manual_seed(2)
    weight = problem.linears[0].weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return problem


def plain_and_scaled() -> tuple[Problem, Problem, torch.Tensor]:
    toy = Toy(n_bad=40, dtype=torch.float64)
    problem = moved(toy.problem())
    generator = torch.Generator().manual_seed(1)
    factors = torch.rand(len(toy.x), generator=generator, dtype=torch.float64) + 0.5
    return problem, problem.with_factors(factors), factors


def test_factors_multiply_every_loss_however_it_is_asked_for() -> None:
    plain, scaled, factors = plain_and_scaled()
    wanted = factors[ROWS] * plain.evaluate(ROWS)

    torch.testing.assert_close(scaled.evaluate(ROWS), wanted)
    torch.testing.assert_close(scaled.apart(ROWS).detach(), wanted)
    torch.testing.assert_close(scaled.accumulate(ROWS, COEFFICIENTS), wanted)


def test_the_gradient_of_scaled_losses_is_that_of_scaled_coefficients() -> None:
    plain, scaled, factors = plain_and_scaled()
    inner = InnerLevel(plain, INNER, seed=0)

    _, wanted = inner.gradient(ROWS, COEFFICIENTS * factors[ROWS])
    wanted = [each.clone() for each in wanted]
    _, found = InnerLevel(scaled, INNER, seed=0).gradient(ROWS, COEFFICIENTS)
    inner.optimizer.zero_grad(set_to_none=True)
    (scaled.apart(ROWS) * COEFFICIENTS).sum().backward()

    for one, two, parameter in zip(found, wanted, inner.parameters, strict=True):
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(parameter.grad, two)


def test_the_outer_loss_and_siblings_are_scaled_too() -> None:
    plain, scaled, factors = plain_and_scaled()
    mine = factors[list(plain.validation)]
    wanted = (plain.evaluate(plain.validation) * mine * plain.validation_share).sum()

    assert scaled.outer_loss() == float(wanted)
    other = moved(scaled.sibling("other"))
    torch.testing.assert_close(other.evaluate(ROWS), scaled.evaluate(ROWS))


def test_factors_of_one_change_nothing() -> None:
    plain, _, factors = plain_and_scaled()
    same = plain.with_factors(torch.ones_like(factors))

    assert same.evaluate(ROWS).tolist() == plain.evaluate(ROWS).tolist()
    assert same.outer_loss() == plain.outer_loss()


def test_the_ground_of_a_search_multiplies_its_losses() -> None:
    plain = new_ground()
    factors = torch.linspace(0.5, 2.0, len(plain.material.encoded))
    scaled = plain.again(plain.config, row_factors=factors)
    rows = [*plain.material.synthetic[:3], *plain.material.validation[:3]]

    problem = scaled.begin().inner.problem
    wanted = problem_of(scaled.student, scaled.material).evaluate(rows) * factors[rows]
    torch.testing.assert_close(problem.evaluate(rows), wanted)
    # the warm-up saw it too
    one, two = (each.begin().start["parameters"] for each in (plain, scaled))
    assert any(not torch.equal(left, right) for left, right in zip(one, two, strict=True))
