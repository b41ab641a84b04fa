"""Ways to make the passes of a batch smaller; none may change what comes out."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import pytest
import torch
from torch import nn

from tests.tokens import bench, token_rows
from trajweight.config import InnerConfig
from trajweight.estimators import Ghost
from trajweight.estimators.ghost import watched
from trajweight.inner import InnerLevel
from trajweight.processes import Processes

# float64: sums in another order.
RTOL, ATOL = 1e-9, 1e-13
ORDER = [3, 9, 0, 6, 1, 3]


def gradient_of(made, order, coefficients):
    """Losses and the gradient, by the training pass that computes shared prefixes once."""
    made.backbone.model.zero_grad()
    losses = made.losses.accumulate(order, coefficients)
    return [losses, *(linear.weight.grad.clone() for linear in made.linears)]


def products_of(made, order, coefficients, **changes):
    """Losses, ghost products and the gradient, by the watched pass."""
    made.backbone.model.zero_grad()
    directions = [
        torch.linspace(-1, 1, linear.weight.numel()).double().view_as(linear.weight)
        for linear in made.linears
    ]
    found = watched(replace(made.problem(), **changes), order, coefficients, directions)
    return [*found, *(linear.weight.grad.clone() for linear in made.linears)]


def assert_equal(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=RTOL, atol=ATOL)


@pytest.mark.parametrize("forest_tokens", [0, 64])
@pytest.mark.parametrize("parts", [2, 4, 50])
@pytest.mark.parametrize("passes", [gradient_of, products_of])
def test_a_batch_in_parts_gives_the_losses_and_gradients_of_the_whole(
    passes, parts, forest_tokens
) -> None:
    coefficients = torch.linspace(0.1, 2.0, len(ORDER)).double()
    whole = bench(token_rows(10), forest_tokens=forest_tokens)
    cut = bench(token_rows(10), forest_tokens=forest_tokens, accumulation=parts)

    assert_equal(passes(cut, ORDER, coefficients), passes(whole, ORDER, coefficients))


def test_a_batch_in_parts_passes_in_that_many_parts() -> None:
    rows = token_rows(12)
    made = bench(rows, accumulation=3)

    parts = made.losses.passes(range(12))

    assert len(parts) >= 3
    assert max(map(len, parts)) <= 4
    assert sorted(chain(*parts)) == list(range(12))


def test_rows_of_unlike_lengths_pass_apart_and_give_the_same_products() -> None:
    made = bench(token_rows(10))
    coefficients = torch.linspace(0.1, 2.0, 10).double()
    found = products_of(made, range(10), coefficients)

    expected = products_of(made, range(10), coefficients, passes=lambda rows: [[*range(len(rows))]])

    assert len(made.losses.passes(range(10))) > 1
    assert_equal(found, expected)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("passes", [gradient_of, products_of])
def test_layers_computed_again_give_the_same_gradients(passes, depth) -> None:
    coefficients = torch.linspace(0.1, 2.0, len(ORDER)).double()
    plain, again = (bench(token_rows(10), depth=depth) for _ in range(2))
    again.backbone.compute_again_in_backward()

    assert_equal(passes(again, ORDER, coefficients), passes(plain, ORDER, coefficients))


def test_layers_really_are_computed_again_and_only_for_a_gradient() -> None:
    made, seen = bench(token_rows(4)), []
    inside = made.backbone.layers[-1].mlp
    inside.register_forward_pre_hook(lambda *_: seen.append(1))

    def passes_of(work) -> int:
        seen.clear()
        work()
        return len(seen)

    plain = passes_of(lambda: made.losses.apart([0, 1]).sum().backward())
    made.backbone.compute_again_in_backward()

    assert (plain, passes_of(lambda: made.losses.apart([0, 1]).sum().backward())) == (1, 2)
    assert passes_of(lambda: made.losses.evaluate([0, 1])) == 1


def test_nothing_is_dropped_in_layers_that_are_computed_again() -> None:
    made = bench(token_rows(4))
    for layer in made.backbone.layers:
        vars(layer)["dropout"] = 0.5  # as some models keep it, for a function that asks `training`
    made.backbone.compute_again_in_backward()
    made.backbone.add_adapter(rank=2, alpha=4, seed=1, name="another")

    training = [module for module in made.backbone.model.modules() if module.training]

    assert training == list(made.backbone.layers)
    assert not any(layer.dropout for layer in made.backbone.layers)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_shares_of_two_processes_add_up_to_the_whole(depth, accumulation) -> None:
    """Both shares in one process, one after the other; their real meeting is tested elsewhere."""
    rows, coefficients = token_rows(10), torch.linspace(0.1, 2.0, len(ORDER)).double()
    whole = bench(rows, depth=depth)
    shares = []
    for number in (0, 1):
        made = bench(rows, depth=depth, accumulation=accumulation)
        made.losses.processes = Processes(number, 2)
        if made.losses.held is not None:
            made.losses.held = set(Processes(number, 2).mine([len(r.input_ids) for r in rows]))
        shares.append(gradient_of(made, ORDER, coefficients))

    expected = gradient_of(whole, ORDER, coefficients)

    assert_equal([sum(pair) for pair in zip(*shares, strict=True)], expected)
    assert all((share[0] == 0).any() for share in shares)


def test_a_step_in_parts_leaves_the_adapter_where_a_whole_one_does() -> None:
    adapters = []
    for accumulation in (1, 3):
        made = bench(token_rows(10), accumulation=accumulation)
        inner = InnerLevel(made.problem(), InnerConfig(), seed=0)
        running = Ghost().begin(inner)
        for order in ([2, 3, 4, 5], [6, 5, 2]):
            running.step(order, torch.ones(len(order), dtype=torch.float64))
        adapters.append(nn.utils.parameters_to_vector(inner.parameters).detach())

    torch.testing.assert_close(adapters[1], adapters[0], rtol=RTOL, atol=ATOL)
