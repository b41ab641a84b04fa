"""How the outer loss moves when one trajectory of the batch counts a little more.

One inner step is theta' = theta - U((1/B) sum_i w_i grad l_i). Differentiating the outer loss
through it gives one number a trajectory,

    d_i = dL_val / dw_i = -(1/B) <grad l_i, J v>,    v = grad L_val,

with J the derivative of the optimiser's update. The ghost product gets every d_i out of the
training pass itself: for a linear y = W x the gradient of l_i is sum_t g_t x_t^T, so its product
with a direction V is sum_t g_t . (V x_t), two thin products that need no gradient per trajectory.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


def trainable_linears(model: nn.Module) -> list[nn.Linear]:
    """The linears that hold every trainable tensor of a model.

    Raises:
        ValueError: If a trainable tensor is outside a linear without bias; the message names it.
    """
    linears = [
        module
        for module in model.modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad
    ]
    covered = {id(module.weight) for module in linears}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in covered:
            message = f"the ghost product covers weights of linears only; {name} is trained too"
            raise ValueError(message)
    return linears


@contextmanager
def ghost_products(
    linears: Sequence[nn.Linear], directions: Sequence[Tensor], *, batch_size: int
) -> Iterator[Tensor]:
    """Collect <grad of the backward loss due to row i, direction> for every row of a batch.

    Inside the block, run one forward on a batch of ``batch_size`` rows and one backward of
    sum_i c_i l_i; afterwards the tensor holds c_i <grad l_i, V> for every row.

    Args:
        linears: Trainable linears; each sees inputs of shape (b, ..., in).
        directions: A direction for each weight, of the weight's shape (out, in).
        batch_size: Rows of the batch, one trajectory each.

    Yields:
        The products, filled in by the backward pass. Shape (b,).
    """
    weight = linears[0].weight
    products = torch.zeros(batch_size, dtype=torch.promote_types(weight.dtype, torch.float32),
                           device=weight.device)  # fmt: skip

    def add(projected: Tensor, gradient: Tensor) -> None:
        products.add_((gradient * projected).flatten(1).sum(1))

    def watch(
        _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor, *, direction: Tensor
    ) -> None:
        if output.requires_grad:
            with torch.no_grad():
                projected = nn.functional.linear(inputs[0].to(direction.dtype), direction)
            output.register_hook(partial(add, projected))

    handles = [
        linear.register_forward_hook(partial(watch, direction=direction))
        for linear, direction in zip(linears, directions, strict=True)
    ]
    try:
        yield products
    finally:
        for handle in handles:
            handle.remove()


def adam_derivative(optimizer: torch.optim.Optimizer, parameters: Iterable[Tensor]) -> list[Tensor]:
    """Elementwise derivative of the next Adam update by its gradient, second moment held fixed.

    J = lr (1 - b1) / (c1 (sqrt(v / c2) + eps)) with the bias corrections c1, c2 of the state as
    it stands. Left out are the part through the second moment and that through clipping, since
    both need the batch gradient that the pass is about to compute. With b2 = 0.99 and noisy
    gradients the first is a quarter of J's norm after 34 steps and a tenth after 100.

    Args:
        optimizer: Adam or AdamW that has made at least one step.
        parameters: The tensors it updates.

    Returns:
        One tensor a parameter, of its shape.
    """
    settings: dict[str, Any] = optimizer.param_groups[0]
    rate, eps = settings["lr"], settings["eps"]
    beta1, beta2 = settings["betas"]
    derivatives = []
    for parameter in parameters:
        state = optimizer.state[parameter]
        step = float(state["step"])
        corrected = (state["exp_avg_sq"] / (1 - beta2**step)).sqrt()
        derivatives.append(rate * (1 - beta1) / (1 - beta1**step) / (corrected + eps))
    return derivatives
