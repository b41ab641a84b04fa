from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import (
    AdamWSettings,
    Adapted,
    functional_adamw,
    inner_product,
    relative_error,
)
from trajweight.adamw import (
    AdamStep,
    Cotangent,
    adamw_step,
    recorded_adamw_step,
    stale_preconditioner,
)

# float64: closed form and autograd differ by the order of a few roundings.
RTOL = 1e-12
# At a fresh first step the derivative is what is left, eps / |g|, of two terms that cancel.
CANCELLED = 1e-14

SHAPES = [(4, 6), (3, 4), (10,)]
RATE, BETAS, EPS, DECAY = 3e-3, (0.9, 0.99), 1e-8, 0.05
#: Far above and below the norm of the gradients of `Case`.
LOOSE, TIGHT = 1e3, 0.05


def normals(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


class Case:
    """Parameters with random moments before step ``number``, and the gradient of that step."""

    def __init__(self, number: int, max_norm: float, *, fresh: bool = False) -> None:
        self.parameters = [nn.Parameter(each) for each in normals(0)]
        self.max_norm = max_norm
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY
        )
        self.gradient = [0.1 * each for each in normals(1)]
        means = [0 * each if fresh else 0.05 * each for each in normals(2)]
        squares = [0 * each if fresh else (0.1 * each).square() + 1e-4 for each in normals(3)]
        self.start = Adapted([p.detach().clone() for p in self.parameters], means, squares)
        self.settings = AdamWSettings(RATE, BETAS, EPS, DECAY, max_norm, number)
        for parameter, mean, square in zip(self.parameters, means, squares, strict=True):
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(number - 1)),
                "exp_avg": mean.clone(),
                "exp_avg_sq": square.clone(),
            }
        for parameter, gradient in zip(self.parameters, self.gradient, strict=True):
            parameter.grad = gradient.clone()

    def recorded(self) -> AdamStep:
        return recorded_adamw_step(self.optimizer, self.max_norm)

    def by_autograd(self, after: Cotangent) -> list[list[Tensor]]:
        """Cotangents of theta, m, v and g before the step."""
        leaves = [self.start.theta, self.start.means, self.start.squares, self.gradient]
        leaves = [[each.detach().clone().requires_grad_() for each in part] for part in leaves]
        clips = self.max_norm == TIGHT
        end = functional_adamw(Adapted(*leaves[:3]), leaves[3], self.settings, clips=clips)
        target = (
            inner_product(end.theta, after.theta)
            + inner_product(end.means, after.mean)
            + inner_product(end.squares, after.square)
        )
        found = torch.autograd.grad(target, [each for part in leaves for each in part])
        n = len(SHAPES)
        return [list(found[place : place + n]) for place in range(0, 4 * n, n)]


@pytest.mark.parametrize("number", [1, 2, 10, 1000])
@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_the_twin_of_the_oracles_steps_as_torch_does(number, max_norm) -> None:
    case = Case(number, max_norm)

    expected = functional_adamw(case.start, case.gradient, case.settings, clips=max_norm == TIGHT)
    adamw_step(case.optimizer, max_norm)

    states = [case.optimizer.state[parameter] for parameter in case.parameters]
    found = Adapted(
        [parameter.detach() for parameter in case.parameters],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
    )
    for name in ("theta", "means", "squares"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), rtol=RTOL, atol=1e-15
        )


@pytest.mark.parametrize("number", [1, 2, 10, 1000])
@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_the_way_back_is_the_derivative_of_the_step(number, max_norm) -> None:
    case = Case(number, max_norm)
    after = Cotangent(normals(4), normals(5), normals(6))

    by_gradient, before = case.recorded().back(after)

    found = [before.theta, before.mean, before.square, by_gradient]
    for mine, expected in zip(found, case.by_autograd(after), strict=True):
        for one, other in zip(mine, expected, strict=True):
            assert relative_error(one, other) < RTOL


@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
@pytest.mark.parametrize("part", ["theta", "mean", "square"])
def test_each_cotangent_goes_back_by_itself(part, max_norm) -> None:
    """Together the largest could hide a fault in the others."""
    case, nothing = Case(3, max_norm), [0 * each for each in normals(4)]
    parts = {"theta": nothing, "mean": nothing, "square": nothing, part: normals(5)}

    by_gradient, before = case.recorded().back(Cotangent(**parts))

    theta, mean, square, gradient = case.by_autograd(Cotangent(**parts))
    torch.testing.assert_close(before.theta, theta, rtol=RTOL, atol=1e-15)
    torch.testing.assert_close(before.mean, mean, rtol=RTOL, atol=1e-15)
    torch.testing.assert_close(before.square, square, rtol=RTOL, atol=1e-15)
    torch.testing.assert_close(by_gradient, gradient, rtol=RTOL, atol=1e-15)


def test_a_fresh_first_step_follows_signs_and_hardly_answers_to_its_gradient() -> None:
    case, after = Case(1, LOOSE, fresh=True), Cotangent.at_end(normals(4))

    by_gradient, _ = case.recorded().back(after)

    *_, expected = case.by_autograd(after)
    for found, true, gradient, a in zip(
        by_gradient, expected, case.gradient, after.theta, strict=True
    ):
        one_term = RATE * a / (gradient.abs() + EPS)
        assert float((found - true).abs().div(one_term.abs()).max()) < CANCELLED
        # eps / |g| is what is left of it
        assert float(found.norm() / one_term.norm()) < 1e-4


@pytest.mark.parametrize("number", [1, 7])
def test_a_parameter_that_no_gradient_ever_reached_has_the_slope_at_zero(number) -> None:
    """lr (1 - b1) / (c1 eps): nothing is divided by its second moment, which is zero."""
    parameter = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = torch.optim.AdamW([parameter], lr=RATE, betas=BETAS, eps=EPS, weight_decay=0.0)
    parameter.grad = torch.zeros_like(parameter)
    steps = [recorded_adamw_step(optimizer, LOOSE) for _ in range(number)]

    (found,), before = steps[-1].back(Cotangent.at_end([torch.ones(3, dtype=torch.float64)]))

    slope = -RATE * (1 - BETAS[0]) / ((1 - BETAS[0] ** number) * EPS)
    torch.testing.assert_close(found, torch.full_like(found, slope), rtol=RTOL, atol=0)
    assert all(bool(each.isfinite().all()) for each in (*before.mean, *before.square))


def test_a_parameter_without_any_gradient_takes_part_as_zeros() -> None:
    """A pass that does not reach a tensor leaves None there, and torch steps without it."""
    reached, other = nn.Parameter(torch.ones(3).double()), nn.Parameter(torch.ones(2).double())
    optimizer = torch.optim.AdamW([reached, other], lr=RATE, weight_decay=0.0)
    reached.grad = torch.ones_like(reached)

    step = recorded_adamw_step(optimizer, LOOSE)
    by_gradient, _ = step.back(Cotangent.at_end([torch.ones(3).double(), torch.ones(2).double()]))

    assert torch.equal(other, torch.ones(2).double())
    assert [each.shape for each in by_gradient] == [reached.shape, other.shape]
    assert all(bool(each.isfinite().all()) for each in by_gradient)


@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_recording_a_step_does_not_change_it(max_norm) -> None:
    plain, recorded = Case(5, max_norm), Case(5, max_norm)

    adamw_step(plain.optimizer, max_norm)
    step = recorded.recorded()

    for one, other in zip(plain.parameters, recorded.parameters, strict=True):
        assert torch.equal(one, other)
    assert step.number == 5
    assert (step.clipping < 1) == (max_norm == TIGHT)
    torch.testing.assert_close(
        [step.clipping * each for each in recorded.gradient], step.gradients, rtol=RTOL, atol=0
    )


def test_a_record_is_not_touched_by_later_steps() -> None:
    case = Case(5, LOOSE)
    step = case.recorded()
    kept = copy.deepcopy(step)

    adamw_step(case.optimizer, TIGHT)

    for name in ("gradients", "means", "squares"):
        assert all(map(torch.equal, getattr(step, name), getattr(kept, name)))


def trained(steps: int) -> tuple[Adapted, AdamWSettings, torch.optim.AdamW, Tensor]:
    """Fifty parameters after steps on gradients that are half drift, half noise, and one more."""
    generator = torch.Generator().manual_seed(0)

    def noise() -> Tensor:
        return torch.randn(50, generator=generator, dtype=torch.float64)

    parameter, drift = nn.Parameter(noise()), noise()
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, betas=BETAS, eps=EPS, weight_decay=0.0)
    for _ in range(steps):
        parameter.grad = 1e-2 * (drift + noise())
        optimizer.step()
    state = optimizer.state[parameter]
    here = Adapted([parameter.detach()], [state["exp_avg"]], [state["exp_avg_sq"]])
    settings = AdamWSettings(1e-3, BETAS, EPS, 0.0, LOOSE, steps + 1)
    return here, settings, optimizer, 1e-2 * (drift + noise())


def true_slopes(here: Adapted, settings: AdamWSettings, gradient: Tensor) -> Tensor:
    """How much less each parameter becomes by its own gradient."""
    gradient = gradient.clone().requires_grad_()
    (theta,) = functional_adamw(here, [gradient], settings).theta
    (found,) = torch.autograd.grad(-theta.sum(), gradient)
    return found


@pytest.mark.parametrize(("steps", "left_out"), [(34, 0.25), (100, 0.1), (1000, 0.1)])
def test_the_stale_preconditioner_leaves_out_what_its_docstring_says(steps, left_out) -> None:
    here, settings, optimizer, gradient = trained(steps)

    (found,) = stale_preconditioner(optimizer)

    gap = relative_error(found, true_slopes(here, settings, gradient))
    # The docstring's sizes are typical ones: another draw of the noise gives up to half more.
    assert left_out / 2 < gap < 1.5 * left_out


def test_the_stale_preconditioner_is_the_derivative_with_the_second_moment_held() -> None:
    here, settings, optimizer, _ = trained(20)

    (found,) = stale_preconditioner(optimizer)

    # lr (1 - b1) / (c1 (root + eps)) with number and moment of the last step made
    c1, c2 = (1 - beta**20 for beta in BETAS)
    expected = settings.rate * (1 - BETAS[0]) / (c1 * ((here.squares[0] / c2).sqrt() + EPS))
    torch.testing.assert_close(found, expected, rtol=RTOL, atol=0)


def test_before_the_first_step_nothing_is_known_of_it() -> None:
    parameter = nn.Parameter(torch.ones(3))

    (found,) = stale_preconditioner(torch.optim.AdamW([parameter]))

    assert torch.equal(found, torch.zeros(3))
