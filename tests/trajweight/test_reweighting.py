from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajweight.reweighting import (
    FARTHEST,
    FeatureHead,
    HeadEnsemble,
    HeadKind,
    HeadShape,
    Prior,
    ReweightingHead,
    TableHead,
    capped,
    mean_one,
    new_head,
    restored_head,
)


def head(inputs: int = 4, **shape) -> FeatureHead:
    return FeatureHead(
        HeadShape("mlp", inputs, **shape),
        mean=torch.zeros(inputs),
        scale=torch.ones(inputs),
        generator=torch.Generator().manual_seed(0),
    )


KINDS: tuple[HeadKind, ...] = ("mlp", "linear", "table", "group")


def inputs(kind: HeadKind) -> torch.Tensor:
    """Seven rows as a head of this kind takes them."""
    if kind == "table":
        return torch.arange(7)
    if kind == "group":
        return torch.tensor([0, 1, 1, 2, 3, 0, 2])
    return torch.randn(7, 4, generator=torch.Generator().manual_seed(0))


def trained(kind: HeadKind, seed: int = 0) -> ReweightingHead:
    """A head whose scores differ from row to row."""
    made = new_head(HeadShape(kind, 7 if kind == "table" else 4), inputs(kind), seed=seed)
    last = made.scores if isinstance(made, TableHead) else made.last.weight
    with torch.no_grad():
        last.normal_(generator=torch.Generator().manual_seed(seed))
    return made.requires_grad_(False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_comes_back_from_its_tensors(kind) -> None:
    made = trained(kind)

    again = restored_head(made.shape, made.state_dict())

    assert torch.equal(again(inputs(kind)), made(inputs(kind)))


def test_rows_of_one_group_share_a_weight_and_an_unknown_group_gets_the_mean_score() -> None:
    made = trained("group")

    scores = made(torch.tensor([1, 1, 3, -1]))

    assert scores[0] == scores[1] != scores[2]
    assert scores[3] == made.scores.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_temperature_flattens_the_weights_and_keeps_their_order(kind) -> None:
    made = trained(kind)
    scores = made(inputs(kind))

    sharp = made.weights(scores)
    made.temperature.fill_(4.0)
    flat = made.weights(scores)

    assert flat.square().mean() < sharp.square().mean()
    assert torch.equal(flat.argsort(), sharp.argsort())


def test_an_ensemble_gives_the_mean_of_its_heads_weights() -> None:
    heads = [trained("mlp", seed) for seed in (0, 1, 2)]
    together = HeadEnsemble(heads)

    weights = together.weights(together([inputs("mlp")] * 3))

    each = torch.stack([head.weights(head(inputs("mlp"))) for head in heads])
    torch.testing.assert_close(weights, each.mean(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_gives_every_row_weight_one_exactly(kind) -> None:
    made = new_head(HeadShape(kind, 7 if kind == "table" else 4), inputs(kind), seed=0)

    with torch.no_grad():
        weights = made.weights(made(inputs(kind)))

    assert torch.equal(weights, torch.ones(7))


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=40))
def test_weights_have_mean_one_and_a_bounded_ratio(scores) -> None:
    weights = head(w_min=0.02).weights(torch.tensor(scores, dtype=torch.float64))

    assert abs(float(weights.mean()) - 1) < 1e-9
    assert float(weights.max() / weights.min()) <= 50 * (1 + 1e-9)


def test_a_prior_adds_to_the_weights_in_the_log() -> None:
    """Reward-weighted regression by hand: w = a exp(z / beta) / Z."""
    made, z, beta = trained("mlp"), torch.tensor([1.2, -0.3, 0.0, -0.9, 0.4, -1.1, 0.7]), 0.5
    scores = made(inputs("mlp"))
    prior = Prior((z / beta).exp(), cap=1e6)

    weights = made.weights(scores, prior)

    log = made.weights(scores).log() + z / beta
    torch.testing.assert_close(weights, log.exp() / log.exp().mean())
    torch.testing.assert_close(HeadEnsemble([made]).weights(scores[:, None], prior), weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_that_knows_nothing_changes_no_bit(kind) -> None:
    made = trained(kind)
    scores = made(inputs(kind))

    assert torch.equal(made.weights(scores, Prior(torch.ones(7), 20.0)), made.weights(scores))


def test_a_head_at_its_start_gives_the_prior_alone() -> None:
    made = new_head(HeadShape("mlp", 4), inputs("mlp"), seed=0)
    prior = Prior(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0]), cap=3.0)

    with torch.no_grad():
        weights = made.weights(made(inputs("mlp")), prior)

    torch.testing.assert_close(weights, prior.weights)
    assert prior.ess_fraction == pytest.approx(float(1 / weights.square().mean()))


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=30),
    st.floats(1.01, 30.0),
)
def test_no_weight_exceeds_its_cap_and_the_others_keep_their_ratios(positive, cap) -> None:
    weights = mean_one(torch.tensor(positive, dtype=torch.float64))

    found = capped(weights, cap)

    assert float(found.max()) <= cap * (1 + 1e-9)
    assert float(found.mean()) == pytest.approx(1)
    below = found < cap * (1 - 1e-9)
    grown = (found / weights)[below]
    assert bool((grown >= 1 - 1e-9).all())
    torch.testing.assert_close(grown, grown[:1].expand_as(grown), rtol=1e-9, atol=0)


def test_the_slope_of_capped_weights_is_that_of_finite_differences() -> None:
    scores = torch.tensor([2.0, -1.0, 0.5, 0.1, -2.0], dtype=torch.float64, requires_grad=True)
    factors = torch.tensor([40.0, 1.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    prior = Prior(factors, cap=2.5)
    made = head().double()

    assert float(made.weights(scores.detach(), prior).detach().max()) == 2.5
    assert torch.autograd.gradcheck(lambda s: made.weights(s, prior), scores)


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
    made = FeatureHead(
        HeadShape("mlp", 2),
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
