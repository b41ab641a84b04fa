from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from tests.oracles import (
    double_backward_products,
    forward_products,
    inner_product,
    per_sample_products,
)
from tests.tokens import Bench, bench, token_rows
from trajweight.estimators.ghost import ghost_products, trainable_linears

# float64: every way gives the same sums in another order.
RTOL, ATOL = 1e-10, 1e-13

ORDER = [2, 7, 1, 4]


def random_like(linears: list[nn.Linear], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [linear.weight.shape for linear in linears]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def products_of(made: Bench, directions: list[Tensor], order: list[int]) -> Tensor:
    with ghost_products(made.linears, directions, batch_size=len(order)) as products:
        made.losses.apart(order).sum().backward()
    return products


def by_hand(made: Bench, directions: list[Tensor], way: str) -> Tensor:
    parameters = [linear.weight for linear in made.linears]

    def losses() -> Tensor:
        return made.losses.apart(ORDER)

    if way == "one row at a time":
        return per_sample_products(losses, parameters, directions)
    if way == "double backward":
        return double_backward_products(losses, parameters, directions)
    return forward_products(losses, made.linears, directions)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("way", ["one row at a time", "double backward", "forward mode"])
def test_ghost_products_equal_those_of_autograd(depth, way) -> None:
    made = bench(token_rows(8), depth=depth)
    directions = random_like(made.linears)

    found = products_of(made, directions, ORDER)

    torch.testing.assert_close(found, by_hand(made, directions, way), rtol=RTOL, atol=ATOL)


def test_the_products_of_all_rows_add_up_to_that_of_their_gradient() -> None:
    made = bench(token_rows(8))
    directions = random_like(made.linears)

    found = products_of(made, directions, ORDER)

    gradients = [linear.weight.grad for linear in made.linears]
    expected = inner_product([each for each in gradients if each is not None], directions)
    torch.testing.assert_close(found.sum(), expected, rtol=RTOL, atol=ATOL)


def test_weights_in_the_loss_only_scale_the_products() -> None:
    made, order = bench(token_rows(5)), [0, 1, 2, 3]
    directions, weights = random_like(made.linears), torch.tensor([0.02, 1.0, 3.0, 0.5]).double()
    plain = products_of(made, directions, order)

    with ghost_products(made.linears, directions, batch_size=4) as weighted:
        (made.losses.apart(order) * weights).mean().backward()

    torch.testing.assert_close(weighted / (weights / 4), plain, rtol=RTOL, atol=ATOL)


def test_permuting_the_batch_permutes_the_products() -> None:
    made = bench(token_rows(5))
    directions = random_like(made.linears)

    found = products_of(made, directions, [3, 0, 2])

    expected = products_of(made, directions, [0, 2, 3])[[2, 0, 1]]
    torch.testing.assert_close(found, expected, rtol=RTOL, atol=ATOL)


def test_a_product_does_not_depend_on_the_rows_beside_it() -> None:
    made = bench(token_rows(8))
    directions = random_like(made.linears)

    together = products_of(made, directions, ORDER)

    alone = torch.cat([products_of(made, directions, [row]) for row in ORDER])
    torch.testing.assert_close(together, alone, rtol=RTOL, atol=ATOL)


def test_watching_leaves_the_gradients_alone_and_no_hook_behind() -> None:
    made, order = bench(token_rows(4)), [0, 1, 2]
    made.losses.apart(order).sum().backward()
    expected = [linear.weight.grad.clone() for linear in made.linears]
    made.backbone.model.zero_grad()

    products_of(made, random_like(made.linears), order)

    for linear, gradient in zip(made.linears, expected, strict=True):
        torch.testing.assert_close(linear.weight.grad, gradient, rtol=0, atol=0)
        assert not linear._forward_hooks


def test_no_hook_is_left_behind_when_the_pass_fails() -> None:
    made = bench(token_rows(4))

    with (
        pytest.raises(IndexError),
        ghost_products(made.linears, random_like(made.linears), batch_size=1),
    ):
        made.losses.apart([99])

    assert not any(linear._forward_hooks for linear in made.linears)


def checkpointed(made: Bench, *, use_reentrant: bool) -> None:
    """Let the model compute its layers again in the backward pass, as in training."""
    with warnings.catch_warnings():
        # transformers is about to give the method another name.
        warnings.simplefilter("ignore", FutureWarning)
        made.backbone.model.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": use_reentrant}
        )
    made.backbone.model.train()


@pytest.mark.parametrize(("depth", "use_reentrant"), [(0, False), (0, True), (1, False)])
def test_checkpointing_changes_neither_products_nor_gradients(depth, use_reentrant) -> None:
    made = bench(token_rows(8), depth=depth)
    directions = random_like(made.linears)
    expected = products_of(made, directions, ORDER)
    gradients = [linear.weight.grad.clone() for linear in made.linears]
    made.backbone.model.zero_grad()
    checkpointed(made, use_reentrant=use_reentrant)
    passes: list[int] = []
    made.linears[0].register_forward_hook(lambda *_: passes.append(1))

    found = products_of(made, directions, ORDER)

    assert len(passes) == 2  # forward, and again on the way back
    torch.testing.assert_close(found, expected, rtol=RTOL, atol=ATOL)
    for linear, gradient in zip(made.linears, gradients, strict=True):
        torch.testing.assert_close(linear.weight.grad, gradient, rtol=RTOL, atol=ATOL)


def test_reentrant_checkpointing_over_a_cached_trunk_fails_aloud() -> None:
    """It needs inputs that want a gradient, and cached activations are data."""
    made = bench(token_rows(8), depth=1)
    checkpointed(made, use_reentrant=True)

    with (
        pytest.warns(UserWarning, match="None of the inputs have requires_grad"),
        pytest.raises(RuntimeError, match="does not require grad"),
    ):
        products_of(made, random_like(made.linears), ORDER)


def test_a_trained_tensor_outside_a_linear_is_refused_by_name() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.LayerNorm(2))

    with pytest.raises(ValueError, match=r"1\.weight is trained too"):
        trainable_linears(model)


def test_a_trained_bias_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"0\.bias is trained too"):
        trainable_linears(nn.Sequential(nn.Linear(2, 2)))


def test_frozen_linears_are_not_watched() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3, bias=False))
    model[0].requires_grad_(requires_grad=False)

    assert trainable_linears(model) == [model[1]]
