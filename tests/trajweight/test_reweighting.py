from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from trajweight.reweighting import FARTHEST, HeadShape, ReweightingHead


def head(inputs: int = 4, **shape) -> ReweightingHead:
    generator = torch.Generator().manual_seed(0)
    return ReweightingHead(
        HeadShape(inputs, **shape),
        mean=torch.zeros(inputs),
        scale=torch.ones(inputs),
        generator=generator,
    )


def test_a_new_head_gives_every_row_weight_one_exactly() -> None:
    made = head()

    with torch.no_grad():
        weights = made.weights(made(torch.randn(7, 4)))

    assert torch.equal(weights, torch.ones(7))


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=40))
def test_weights_have_mean_one_and_a_bounded_ratio(scores) -> None:
    weights = head(w_min=0.02).weights(torch.tensor(scores, dtype=torch.float64))

    assert abs(float(weights.mean()) - 1) < 1e-9
    assert float(weights.max() / weights.min()) <= 50 * (1 + 1e-9)


def test_weights_follow_the_scores() -> None:
    scores = torch.tensor([-2.0, 0.0, 3.0, 1.0])

    assert head().weights(scores).argsort().tolist() == scores.argsort().tolist()


def test_a_feature_far_away_counts_as_far_as_the_farthest() -> None:
    made = head()
    torch.nn.init.normal_(made.last.weight)
    near, far = torch.zeros(2, 4), torch.zeros(2, 4)
    near[0, 1], far[0, 1] = FARTHEST, 1e9

    assert torch.equal(made(near), made(far))


def test_a_feature_that_was_constant_in_training_says_nothing_elsewhere() -> None:
    made = ReweightingHead(
        HeadShape(2),
        mean=torch.tensor([1.0, 5.0]),
        scale=torch.tensor([2.0, 0.0]),
        generator=torch.Generator().manual_seed(0),
    )
    torch.nn.init.normal_(made.last.weight)

    same, other = torch.tensor([[0.3, 5.0]]), torch.tensor([[0.3, 9.0]])

    assert torch.equal(made(same), made(other))


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()

    head()

    assert torch.equal(torch.get_rng_state(), before)
