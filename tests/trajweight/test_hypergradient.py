from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.oracles import adam_update, per_sample_products
from tests.tokens import bench, token_rows
from trajweight.hypergradient import adam_derivative, ghost_products, trainable_linears

# float64: the two ways differ by the order of their sums alone.
RTOL = 1e-10


def random_like(linears, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [linear.weight.shape for linear in linears]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("depth", [0, 1])
def test_ghost_products_equal_per_sample_gradients(depth) -> None:
    made, order = bench(token_rows(8), depth=depth), [2, 7, 1, 4]
    directions = random_like(made.linears)

    with ghost_products(made.linears, directions, batch_size=4) as products:
        made.losses.apart(order).sum().backward()

    expected = per_sample_products(
        lambda: made.losses.apart(order), [linear.weight for linear in made.linears], directions
    )
    torch.testing.assert_close(products, expected, rtol=RTOL, atol=1e-12)


def test_weights_in_the_loss_only_scale_the_products() -> None:
    made, order = bench(token_rows(5)), [0, 1, 2, 3]
    directions, weights = random_like(made.linears), torch.tensor([0.02, 1.0, 3.0, 0.5]).double()

    with ghost_products(made.linears, directions, batch_size=4) as plain:
        made.losses.apart(order).sum().backward()
    with ghost_products(made.linears, directions, batch_size=4) as weighted:
        (made.losses.apart(order) * weights).mean().backward()

    torch.testing.assert_close(weighted / (weights / 4), plain, rtol=RTOL, atol=1e-12)


def test_permuting_the_batch_permutes_the_products() -> None:
    made = bench(token_rows(5))
    directions = random_like(made.linears)

    def products(order: list[int]) -> torch.Tensor:
        with ghost_products(made.linears, directions, batch_size=len(order)) as found:
            made.losses.apart(order).sum().backward()
        return found

    torch.testing.assert_close(
        products([3, 0, 2]), products([0, 2, 3])[[2, 0, 1]], rtol=RTOL, atol=1e-12
    )


def test_watching_leaves_the_gradients_alone_and_no_hook_behind() -> None:
    made, order = bench(token_rows(4)), [0, 1, 2]
    made.losses.apart(order).sum().backward()
    expected = [linear.weight.grad.clone() for linear in made.linears]
    made.backbone.model.zero_grad()

    with ghost_products(made.linears, random_like(made.linears), batch_size=3):
        made.losses.apart(order).sum().backward()

    for linear, gradient in zip(made.linears, expected, strict=True):
        torch.testing.assert_close(linear.weight.grad, gradient, rtol=0, atol=0)
        assert not linear._forward_hooks


def test_d_is_the_change_of_the_outer_loss_when_a_weight_moves() -> None:
    """One SGD step with weights w, then with w_i a little larger: central differences."""
    made, order, held_out, rate = bench(token_rows(9)), [0, 1, 2, 3], [6, 7, 8], 0.05
    parameters = [linear.weight for linear in made.linears]
    start = [parameter.detach().clone() for parameter in parameters]

    def outer_after(weights: torch.Tensor) -> float:
        loss = (made.losses.apart(order) * weights).mean()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(rate * gradient)
            found = float(made.losses.apart(held_out).mean())
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
        return found

    ones, step = torch.ones(4, dtype=torch.float64), 1e-4
    slopes = [
        (outer_after(ones + step * unit) - outer_after(ones - step * unit)) / (2 * step)
        for unit in torch.eye(4, dtype=torch.float64)
    ]

    # v at the parameters after the step, gradients of the rows at those before: the exact form.
    moved = torch.autograd.grad(made.losses.apart(order).mean(), parameters)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, moved, strict=True):
            parameter.sub_(rate * gradient)
    v = torch.autograd.grad(made.losses.apart(held_out).mean(), parameters)
    with torch.no_grad():
        for parameter, value in zip(parameters, start, strict=True):
            parameter.copy_(value)
    with ghost_products(made.linears, [rate * each for each in v], batch_size=4) as products:
        made.losses.apart(order).mean().backward()

    # Central differences: truncation grows and rounding falls with the step; six digits are left.
    torch.testing.assert_close(
        -products, torch.tensor(slopes, dtype=torch.float64), rtol=1e-5, atol=1e-10
    )


@pytest.mark.parametrize(("steps", "tolerance"), [(34, 0.35), (100, 0.15), (1000, 0.12)])
def test_adam_derivative_is_the_true_one_but_for_the_second_moment(steps, tolerance) -> None:
    """Tolerances: the size of the part left out, as the docstring states it."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.zeros(50, dtype=torch.float64))
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    drift = torch.randn(50, dtype=torch.float64)
    for _ in range(steps):
        parameter.grad = 1e-2 * (drift + torch.randn(50, dtype=torch.float64))
        optimizer.step()
    gradient = (1e-2 * (drift + torch.randn(50, dtype=torch.float64))).requires_grad_()
    state = optimizer.state[parameter]

    update = adam_update(gradient, state, rate=1e-3, betas=(0.9, 0.99), eps=1e-8)
    (expected,) = torch.autograd.grad(update.sum(), gradient)
    (found,) = adam_derivative(optimizer, [parameter])

    assert float((found - expected).norm() / expected.norm()) < tolerance


def test_a_trained_tensor_outside_a_linear_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.LayerNorm(2))

    with pytest.raises(ValueError, match=r"1\.weight is trained too"):
        trainable_linears(model)
