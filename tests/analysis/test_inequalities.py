from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special

from trajweight.analysis.inequalities import (
    draws_width,
    gaussian_kl,
    hoeffding_width,
    kl_bernoulli,
    kl_lower,
    kl_upper,
    looking_width,
    posterior_width,
    prior_scale_cost,
    second_moment_upper,
    small_risk_upper,
)
from trajweight.errors import ConfigError

shares = st.floats(0.0, 1.0)
budgets = st.floats(1e-6, 20.0)


@given(q=shares, p=st.floats(1e-6, 1 - 1e-6))
def test_kl_is_that_of_scipy(q, p) -> None:
    wanted = special.rel_entr(q, p) + special.rel_entr(1 - q, 1 - p)

    assert kl_bernoulli(q, p) == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_kl_at_the_ends() -> None:
    assert kl_bernoulli(0.0, 0.0) == kl_bernoulli(1.0, 1.0) == 0.0
    assert kl_bernoulli(0.5, 0.0) == kl_bernoulli(0.5, 1.0) == math.inf


def slow_upper(q: float, budget: float) -> float:
    """The inversion by scipy's root finder, from both ends of the interval."""

    def excess(p: float) -> float:
        return special.rel_entr(q, p) + special.rel_entr(1 - q, 1 - p) - budget

    top = 1 - 1e-15
    return float(optimize.brentq(excess, q, top, xtol=1e-15)) if excess(top) > 0 else 1.0


@given(q=st.floats(1e-9, 0.999), budget=budgets)
def test_the_inversion_is_that_of_a_root_finder(q, budget) -> None:
    assert kl_upper(q, budget) == pytest.approx(slow_upper(q, budget), abs=1e-9)


@given(budget=budgets)
def test_with_no_loss_seen_the_inversion_has_a_closed_form(budget) -> None:
    assert kl_upper(0.0, budget) == pytest.approx(-math.expm1(-budget), rel=1e-12)
    assert kl_lower(1.0, budget) == pytest.approx(math.exp(-budget), rel=1e-9, abs=1e-15)


@given(q=shares, budget=budgets)
def test_the_inversion_errs_on_the_safe_side_and_beats_pinsker(q, budget) -> None:
    upper, lower = kl_upper(q, budget), kl_lower(q, budget)

    assert 0.0 <= lower <= q <= upper <= 1.0
    assert upper == 1.0 or kl_bernoulli(q, upper) >= budget * (1 - 1e-12)
    assert upper <= q + math.sqrt(budget / 2) + 1e-12


@given(q=shares, budget=budgets)
def test_a_risk_seen_from_below_is_its_complement_seen_from_above(q, budget) -> None:
    assert kl_lower(q, budget) == pytest.approx(1 - kl_upper(1 - q, budget), abs=1e-12)


def test_hoeffding_of_two_hundred_rows_is_the_number_of_the_method_report() -> None:
    assert hoeffding_width(200, 0.05) == pytest.approx(0.087, abs=5e-4)


def test_theorem_a_is_its_formula_in_either_form() -> None:
    two, one = (posterior_width(67, 2.5, 0.05, form=f) for f in ("two-sided", "one-sided"))

    assert two == pytest.approx(math.sqrt((2.5 + math.log(math.sqrt(67) / 0.05)) / (2 * 66)))
    assert one == pytest.approx(math.sqrt((2.5 + math.log((1 + 134) / 0.05)) / 134))


def test_candidates_cost_their_logarithm() -> None:
    for form in ("two-sided", "one-sided"):
        many = posterior_width(50, 1.0, 0.05, form=form, candidates=7)
        assert many == pytest.approx(posterior_width(50, 1.0 + math.log(7), 0.05, form=form))


def test_one_effective_row_supports_no_two_sided_form() -> None:
    assert posterior_width(1.0, 0.0, 0.05) == math.inf
    assert math.isfinite(posterior_width(1.0, 0.0, 0.05, form="one-sided"))


def test_an_adapter_moved_by_three_is_vacuous_as_the_method_report_says() -> None:
    kl = gaussian_kl(np.array([3.0]), 0.02, 0.02)

    assert kl == pytest.approx(11_250)
    assert posterior_width(2000, kl, 0.05) == pytest.approx(1.7, abs=0.05)
    assert posterior_width(2000, 83, 0.05) == pytest.approx(0.15, abs=0.005)


def outcomes(chances) -> tuple[np.ndarray, np.ndarray]:
    """All ways in which independent events can turn out, and how likely each is."""
    happened = np.array(list(itertools.product((0.0, 1.0), repeat=len(chances))))
    return happened, np.where(happened == 1, chances, 1 - np.asarray(chances)).prod(axis=1)


@pytest.mark.parametrize("chance", [0.03, 0.3, 0.5, 0.9])
def test_the_moments_behind_both_forms_of_theorem_a_hold_on_every_outcome(chance) -> None:
    rng = np.random.default_rng(1)
    for scale in (0.0, 0.7, 1.5):
        share = np.exp(scale * rng.normal(size=12))
        share /= share.sum()
        n_eff = 1 / (share**2).sum()
        happened, likely = outcomes(np.full(12, chance))
        gap = chance - happened @ share

        two_sided = likely @ np.exp(2 * (n_eff - 1) * gap**2)
        one_sided = likely @ np.exp(2 * n_eff * np.maximum(gap, 0) ** 2)

        assert two_sided <= math.sqrt(n_eff)
        assert one_sided <= 1 + 2 * n_eff


@pytest.mark.parametrize("chance", [0.02, 0.3, 0.8])
@pytest.mark.parametrize("heavy", [1.0, 5.0, 50.0])
def test_the_moment_behind_theorem_b_holds_on_every_outcome(chance, heavy) -> None:
    """A rare heavy row with loss one among rows of weight one and loss zero."""
    n = 12
    happened, likely = outcomes(np.full(n, chance))
    second = chance * heavy**2 + (1 - chance)
    gap = np.maximum(chance * heavy - heavy * happened.mean(axis=1), 0)

    assert likely @ np.exp(n * gap**2 / (2 * second)) <= 1 + n / 2


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50, 400])
def test_the_moment_of_the_small_risk_form_is_below_two_roots_of_n(n) -> None:
    """E exp(n kl(k/n || p)) of a binomial is the same for all p: a sum that can be added up."""
    k = np.arange(n + 1)
    logs = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    logs += special.xlogy(k, k / n) + special.xlogy(n - k, 1 - k / n)

    assert np.exp(logs).sum() <= 2 * math.sqrt(n) * (1 + 1e-12)


def test_for_equal_shares_the_small_risk_form_is_the_inversion_of_maurers_bound() -> None:
    found = small_risk_upper(0.03, n=500, heaviest=1 / 500, kl=2.0, delta=0.05)

    assert found == pytest.approx(kl_upper(0.03, (2.0 + math.log(2 * math.sqrt(500) / 0.05)) / 500))
    assert found < 0.03 + posterior_width(500, 2.0, 0.05)


def test_a_heavier_row_loosens_the_small_risk_form() -> None:
    found = [
        small_risk_upper(0.03, n=500, heaviest=share, kl=2.0, delta=0.05)
        for share in (1 / 500, 2 / 500, 10 / 500)
    ]

    assert found == sorted(found)
    assert found[0] < found[2]


def test_theorem_b_is_its_formula_and_twice_theorem_a_for_equal_weights() -> None:
    width = looking_width(100, 1.7, 0.05, kl=3.0)

    wanted = math.sqrt(2 * 1.7 * (3.0 + math.log((1 + 50) / 0.05)) / 100)
    assert width == pytest.approx(wanted)
    one_model = looking_width(100, 1.0, 0.05)
    assert one_model == pytest.approx(2 * hoeffding_width(100, 0.05))


def test_the_second_moment_is_bounded_as_often_as_said() -> None:
    rng = np.random.default_rng(2)
    weights = np.where(rng.uniform(size=(3000, 150)) < 0.05, 1.0, 0.1)
    truth = 0.05 + 0.95 * 0.01

    bounds = [second_moment_upper(row, 1.0, 0.1) for row in weights]

    assert np.mean(np.array(bounds) < truth) <= 0.1
    assert np.mean(bounds) < 0.35  # far below the square of the cap
    assert second_moment_upper(weights[0, :2], 1.0, 0.1) == 1.0


def test_draws_cost_what_the_method_report_says() -> None:
    assert draws_width(100, 0.02) == pytest.approx(0.15, abs=0.003)


def test_the_kl_of_gaussians_is_that_of_torch() -> None:
    rng = np.random.default_rng(0)
    moved, scale = rng.normal(size=20), rng.uniform(0.5, 2.0, size=20)

    found = gaussian_kl(moved, scale, 0.7)

    posterior = torch.distributions.Normal(torch.tensor(moved), torch.tensor(scale))
    prior = torch.distributions.Normal(
        torch.zeros(20, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
    )
    wanted = torch.distributions.kl_divergence(posterior, prior).sum().item()
    assert found == pytest.approx(wanted)


def test_the_parts_of_delta_for_a_list_without_end_sum_to_one() -> None:
    parts = [math.exp(-prior_scale_cost(place)) for place in range(100_000)]

    assert math.fsum(parts) == pytest.approx(1.0, abs=1e-5)
    assert math.fsum(parts) < 1.0


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, math.nan])
def test_a_chance_that_is_none_is_refused(delta) -> None:
    with pytest.raises(ConfigError, match="delta is"):
        hoeffding_width(10, delta)
    with pytest.raises(ConfigError, match="delta is"):
        looking_width(10, 1.0, delta)


def test_a_risk_beyond_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"observed risk is 1\.2"):
        kl_upper(1.2, 0.1)
