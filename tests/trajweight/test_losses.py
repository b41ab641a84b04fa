from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.tokens import PAD, bench, token_rows
from trajweight.encoded import Encoded
from trajweight.layout import padded
from trajweight.losses import OutputLayer, TrajectoryLosses

# float64 sums in another order.
RTOL = 1e-9


def slow_loss(model, row: Encoded) -> torch.Tensor:
    """One row alone through the whole model, token by token."""
    logits = model(input_ids=torch.tensor([row.input_ids]), use_cache=False).logits[0]
    targets = [place for place, said in enumerate(row.assistant_mask) if said]
    losses = [
        cross_entropy(logits[place - 1], torch.tensor(row.input_ids[place])) for place in targets
    ]
    return torch.stack(losses).mean()


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("forest_tokens", [0, 48, 10_000])
def test_losses_equal_those_of_each_row_alone(depth, forest_tokens) -> None:
    rows = token_rows(7)
    made = bench(rows, depth=depth, forest_tokens=forest_tokens)
    order = [3, 0, 6, 1]

    expected = torch.stack([slow_loss(made.backbone.model, rows[row]) for row in order]).detach()

    torch.testing.assert_close(made.losses.apart(order).detach(), expected, rtol=RTOL, atol=0)
    torch.testing.assert_close(made.losses.evaluate(order), expected, rtol=RTOL, atol=0)


@pytest.mark.parametrize("depth", [0, 1])
def test_gradients_of_a_forest_equal_those_of_padded_rows(depth) -> None:
    rows, order = token_rows(6), [5, 2, 0, 4]
    coefficients = torch.tensor([0.1, 0.7, 0.4, 1.3])
    made = bench(rows, depth=depth, forest_tokens=40)

    (made.losses.apart(order) * coefficients).sum().backward()
    expected = [linear.weight.grad.clone() for linear in made.linears]
    made.backbone.model.zero_grad()
    made.losses.accumulate(order, coefficients)

    for linear, gradient in zip(made.linears, expected, strict=True):
        torch.testing.assert_close(linear.weight.grad, gradient, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("forest_tokens", [0, 64])
def test_the_gradient_of_a_batch_is_the_sum_of_those_of_its_parts(forest_tokens) -> None:
    rows, order = token_rows(8), [5, 2, 0, 4, 7]
    coefficients = torch.tensor([0.1, 0.7, 0.4, 1.3, 0.9], dtype=torch.float64)
    whole, cut, apart = (
        bench(rows, forest_tokens=forest_tokens, accumulation=parts) for parts in (1, 3, 1)
    )

    losses = [made.losses.accumulate(order, coefficients) for made in (whole, cut)]
    for place, row in enumerate(order):  # torch adds to the gradient that lies there
        apart.losses.accumulate([row], coefficients[place : place + 1])

    torch.testing.assert_close(losses[1], losses[0], rtol=RTOL, atol=0)
    for other in (cut, apart):
        for mine, linear in zip(other.linears, whole.linears, strict=True):
            # The prefixes that parts do not share are summed apart.
            torch.testing.assert_close(mine.weight.grad, linear.weight.grad, rtol=1e-6, atol=1e-13)


def test_padding_on_the_left_gives_the_losses_and_gradients_of_padding_on_the_right() -> None:
    """The house pads on the right only; where a model forgets positions or mask, these differ."""
    rows = token_rows(5)
    made = bench(rows, depth=0)
    right = padded(rows, pad_id=PAD)
    n, longest = right.input_ids.shape
    shift = torch.tensor([longest - len(row.input_ids) for row in rows])
    cells = (torch.arange(longest) - shift[:, None]) % longest
    positions = (torch.arange(longest) - shift[:, None]).clamp_min(0)
    left = replace(
        right,
        input_ids=right.input_ids.gather(1, cells),
        attention=right.attention.gather(1, cells),
        positions=positions,
        target_cell=right.target_cell + shift[right.target_member],
    )

    found = []
    for layout in (right, left):
        made.backbone.model.zero_grad()
        hidden = made.backbone.hidden(
            layout.input_ids, layout.attention, positions=layout.positions
        )
        states = hidden.flatten(0, 1)[layout.target_cell]
        tokens = made.losses.output.losses(states, layout.target_id)
        losses = [tokens[layout.target_member == member].mean() for member in range(n)]
        torch.stack(losses).sum().backward()
        gradients = [linear.weight.grad.clone() for linear in made.linears]
        found.append((torch.stack(losses).detach(), gradients))

    torch.testing.assert_close(found[1][0], found[0][0], rtol=RTOL, atol=0)
    torch.testing.assert_close(found[1][1], found[0][1], rtol=1e-6, atol=1e-13)
    torch.testing.assert_close(found[0][0], made.losses.evaluate(range(n)), rtol=RTOL, atol=0)


def test_padding_changes_no_loss() -> None:
    rows = token_rows(5)
    made = bench(rows)

    together = made.losses.apart([0, 1, 2, 3, 4]).detach()
    alone = torch.cat([made.losses.apart([row]).detach() for row in range(5)])

    torch.testing.assert_close(together, alone, rtol=RTOL, atol=0)


def test_seen_tokens_give_the_loss_of_logits_restricted_to_them() -> None:
    rows = token_rows(4)
    made = bench(rows)
    seen = torch.tensor(sorted({token for row in rows for token in row.input_ids}))
    hidden = torch.randn(6, made.frozen.embeddings.shape[1], dtype=torch.float64)
    ids = seen[:6]

    found = OutputLayer(made.backbone, tokens=seen).losses(hidden, ids)

    logits = OutputLayer(made.backbone).logits(hidden)[:, seen]
    torch.testing.assert_close(found, cross_entropy(logits, torch.arange(6), reduction="none"))


def test_first_and_later_replies_make_up_the_whole() -> None:
    rows = token_rows(6)
    made = bench(rows)

    parts = made.losses.replies(range(6))

    for index, row in enumerate(rows):
        first = row.turn_of_token.count(0)
        later = sum(row.assistant_mask) - first
        mean = (parts.first[index] * first + parts.later[index] * later) / (first + later)
        torch.testing.assert_close(parts.all[index], mean, rtol=1e-5, atol=0)


def test_the_only_reply_stands_for_the_later_ones() -> None:
    row = Encoded([1, 2, 3, 4], [False, False, True, True], [-1, -1, 0, 0])
    made = bench([row, *token_rows(2)])

    parts = made.losses.replies([0])

    assert parts.later[0] == parts.all[0] == parts.first[0]


def test_a_trunk_returns_to_its_place_after_an_error() -> None:
    rows = token_rows(3)
    made = bench(rows, depth=1)
    before = list(made.backbone.layers)
    broken = TrajectoryLosses(
        made.backbone,
        rows,
        [activations[:, :3] for activations in made.frozen.cached or []],
        output=OutputLayer(made.backbone),
        pad_id=PAD,
        forest_tokens=0,
    )

    with pytest.raises(RuntimeError):
        broken.apart([0, 1])

    assert list(made.backbone.layers) == before
