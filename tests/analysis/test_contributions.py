from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trajweight.analysis.contributions import (
    GROUPS,
    Contributions,
    RowFeatures,
    contributions,
    score_of,
    shapley,
)
from trajweight.features import FeatureMap
from trajweight.losses import ReplyLosses
from trajweight.reweighting import FeatureHead, HeadShape, new_head

N, D, COMPONENTS = 40, 7, 4
#: Heads compute in float32, contributions in float64.
SINGLE = 1e-5


class World:
    """Training rows at random, and heads of random weights that standardise by them."""

    def __init__(self, kind: Any, *, n_heads: int = 1, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.embeddings = torch.tensor(rng.normal(size=(N, D)), dtype=torch.float32)
        self.n_tokens, self.n_turns = rng.integers(5, 300, N), rng.integers(1, 20, N)
        self.base = rng.uniform(1, 4, (N, 3))
        self.real = [self.base - rng.uniform(0, 1, (N, 3)) for _ in range(n_heads)]
        self.mapped = FeatureMap.fit(self.embeddings, components=COMPONENTS)
        self.features = [self._features(real) for real in self.real]
        self.heads: list[FeatureHead] = []
        for place, features in enumerate(self.features):
            shape = HeadShape(kind, features.shape[1], hidden=8)
            head = new_head(shape, features, seed=seed + place)
            assert isinstance(head, FeatureHead)
            generator = torch.Generator().manual_seed(seed + place)
            with torch.no_grad():
                head.last.weight.normal_(generator=generator)
                head.last.bias.fill_(0.3)
            self.heads.append(head)

    def _features(self, real: np.ndarray) -> torch.Tensor:
        def losses(of: np.ndarray) -> ReplyLosses:
            return ReplyLosses(*torch.tensor(of, dtype=torch.float32).unbind(1))

        return self.mapped.features(
            self.embeddings,
            n_tokens=torch.tensor(self.n_tokens),
            n_turns=torch.tensor(self.n_turns),
            base=losses(self.base),
            real=losses(real),
        )

    def score(self, row: int) -> float:
        pairs = zip(self.heads, self.features, strict=True)
        said = [head(features)[row].item() for head, features in pairs]
        return float(np.mean(said))

    def row(self, row: int) -> RowFeatures:
        return RowFeatures(
            embedding=self.embeddings[row].double().numpy(),
            n_tokens=int(self.n_tokens[row]),
            n_turns=int(self.n_turns[row]),
            base=self.base[row],
            real=np.stack([real[row] for real in self.real]),
        )

    def explained(self, row: RowFeatures) -> Contributions:
        arrays = {"map.centre": self.mapped.centre, "map.components": self.mapped.components}
        for place, head in enumerate(self.heads):
            arrays |= {f"head.{place}.{name}": x for name, x in head.state_dict().items()}
        config = {"adapter_of": list(range(len(self.heads)))}
        config["shape"] = {"w_min": 0.02, "w_max": 1.0}  # type: ignore[assignment]
        return contributions({name: x.numpy() for name, x in arrays.items()}, config, row)


def parts(found: Contributions) -> dict[str, float]:
    return {one.name: one.adds for one in found.parts}


@given(
    seed=st.integers(0, 10_000), row=st.integers(0, N - 1), kind=st.sampled_from(["mlp", "linear"])
)
def test_the_parts_sum_to_the_score_minus_that_of_the_mean_training_row(seed, row, kind) -> None:
    world = World(kind, seed=seed)

    found = world.explained(world.row(row))

    assert set(parts(found)) == set(GROUPS)
    assert sum(parts(found).values()) == pytest.approx(found.score - found.baseline, abs=1e-9)
    assert found.score == pytest.approx(world.score(row), rel=SINGLE, abs=SINGLE * 10)
    [head], [features] = world.heads, world.features
    at_mean = head(features.mean(0, keepdim=True)).item()
    assert found.baseline == pytest.approx(at_mean, rel=SINGLE, abs=SINGLE * 10)


def test_a_linear_head_has_its_closed_form() -> None:
    world = World("linear")
    row, [head], [features] = world.row(3), world.heads, world.features
    slopes = (head.last.weight[0] / head.scale).detach().double().numpy()
    off = (features[3] - head.mean).double().numpy()
    assert abs(off / head.scale.numpy()).max() < 5

    found = parts(world.explained(row))

    base, ratio = slice(-6, -3), slice(-3, None)
    expected = {
        "embedding": slopes[:COMPONENTS] @ off[:COMPONENTS],
        "length": slopes[COMPONENTS] * off[COMPONENTS],
        "turns": slopes[COMPONENTS + 1] * off[COMPONENTS + 1],
        "base_loss": slopes[base] @ off[base],
        "likelihood_ratio": slopes[ratio] @ off[ratio],
    }
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


@given(seed=st.integers(0, 10_000), n=st.integers(1, 5))
def test_shapley_values_are_the_mean_over_all_orders(seed, n) -> None:
    worth = np.random.default_rng(seed).normal(size=2**n)

    nobody, found = shapley(lambda who: worth[who @ 2 ** np.arange(n)], n)

    orders = list(permutations(range(n)))
    slow = np.zeros(n)
    for order in orders:
        taken = 0
        for player in order:
            slow[player] += worth[taken + 2**player] - worth[taken]
            taken += 2**player
    np.testing.assert_allclose(found, slow / len(orders), atol=1e-12)
    assert nobody == worth[0]


def test_the_mean_training_row_owes_nothing_to_any_feature() -> None:
    world = World("mlp")
    mean = world.features[0].double().mean(0).numpy()
    row = RowFeatures(
        embedding=world.embeddings.double().mean(0).numpy(),
        n_tokens=float(np.exp(mean[COMPONENTS])),  # type: ignore[arg-type]
        n_turns=float(np.exp(mean[COMPONENTS + 1])),  # type: ignore[arg-type]
        base=mean[-6:-3],
        real=mean[None, -6:-3] + mean[None, -3:],
    )

    found = world.explained(row)

    assert parts(found) == pytest.approx(dict.fromkeys(GROUPS, 0.0), abs=1e-5)
    assert found.times == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("group", ["embedding", "length", "turns"])
def test_a_feature_that_the_head_ignores_adds_nothing_and_others_keep_theirs(group) -> None:
    world = World("mlp")
    first = {"embedding": 0, "length": COMPONENTS, "turns": COMPONENTS + 1}[group]
    last = COMPONENTS if group == "embedding" else first + 1
    with torch.no_grad():
        hidden = world.heads[0].hidden
        assert hidden is not None
        hidden.weight[:, first:last] = 0

    found = parts(world.explained(world.row(5)))

    assert found[group] == pytest.approx(0, abs=1e-12)
    assert all(abs(found[name]) > 1e-6 for name in GROUPS if name != group)


def test_a_row_far_from_all_others_is_scored_as_the_head_scores_it() -> None:
    world = World("mlp")
    world.embeddings[2] *= 1000
    world.features = [world._features(real) for real in world.real]

    found = world.explained(world.row(2))

    assert found.score == pytest.approx(world.score(2), rel=SINGLE)
    assert sum(parts(found).values()) == pytest.approx(found.score - found.baseline, abs=1e-9)


def test_an_ensemble_is_the_mean_of_its_heads_each_with_features_of_its_own() -> None:
    world = World("mlp", n_heads=3)

    found = world.explained(world.row(7))

    alone = []
    for place in range(3):
        one = World("mlp", n_heads=3)
        one.heads, one.real = [one.heads[place]], [one.real[place]]
        alone.append(parts(one.explained(one.row(7))))
    mean = {name: np.mean([each[name] for each in alone]) for name in GROUPS}
    assert parts(found) == pytest.approx(mean, abs=1e-9)
    assert found.score == pytest.approx(world.score(7), rel=SINGLE, abs=SINGLE * 10)
    assert (found.times, found.n_heads) == (None, 3)


def test_times_is_the_ratio_of_the_bounded_weights() -> None:
    world = World("mlp")
    [head], [features] = world.heads, world.features
    head.temperature.fill_(2.0)

    found = world.explained(world.row(4))

    both = head.bounded(head(torch.stack([features[4], features.mean(0)])))
    assert found.times == pytest.approx((both[0] / both[1]).item(), rel=1e-4)


def test_each_part_tells_the_rows_own_number_and_the_typical_one() -> None:
    world = World("mlp")

    found = {one.name: one for one in world.explained(world.row(9)).parts}

    assert found["embedding"].value is None
    assert found["length"].value == world.n_tokens[9]
    assert found["turns"].value == world.n_turns[9]
    assert found["base_loss"].value == pytest.approx(world.base[9, 0])
    ratios = world.real[0][:, 0] - world.base[:, 0]
    assert found["likelihood_ratio"].value == pytest.approx(ratios[9])
    assert found["likelihood_ratio"].typical == pytest.approx(ratios.mean(), rel=1e-4)
    assert found["length"].typical == pytest.approx(np.exp(np.log(world.n_tokens).mean()), rel=1e-4)


def test_the_strongest_part_comes_first() -> None:
    world = World("mlp")

    sizes = [abs(one.adds) for one in world.explained(world.row(1)).parts]

    assert sizes == sorted(sizes, reverse=True)


def test_scores_of_many_rows_are_those_of_the_head() -> None:
    world = World("mlp")
    [head], [features] = world.heads, world.features
    arrays = {name: x.double().numpy() for name, x in head.state_dict().items()}

    found = score_of(arrays, features.double().numpy())

    np.testing.assert_allclose(found, head(features).detach().numpy(), rtol=1e-4, atol=1e-4)
