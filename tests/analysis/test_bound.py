from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from trajweight.analysis.bound import (
    Reckoning,
    bounds_from_real_rows,
    classifier_hint,
    clipped,
    mmd_hint,
    real_risk_bound,
    shift_over_adapters,
    weighted_terms,
)
from trajweight.analysis.inequalities import kl_upper
from trajweight.analysis.weighing import FixedWeights, HeadFromOtherRows, PluggedIn
from trajweight.errors import ConfigError, DataError

DELTA = 0.05


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(31)


def limit(runs, delta=DELTA) -> float:
    """What a rate of ``delta`` stays below but once in a thousand."""
    return delta + 3.1 * math.sqrt(delta * (1 - delta) / runs)


def test_bounds_from_real_rows_are_the_inversion_and_hoeffding() -> None:
    losses = np.arange(200) % 10 == 0

    by_kl, by_hoeffding = bounds_from_real_rows(losses * 1.0, is_untouched=True)

    assert by_kl.value == pytest.approx(kl_upper(0.1, math.log(20) / 200))
    assert by_hoeffding.value == pytest.approx(0.1 + 0.0865, abs=1e-4)
    assert by_kl.value < by_hoeffding.value
    assert {each.status for each in (by_kl, by_hoeffding)} == {"certificate"}
    assert by_kl.delta == DELTA


def test_the_inversion_is_never_far_above_the_exact_binomial_bound() -> None:
    """Clopper and Pearson's upper limit is the exact one for losses of zero and one."""
    for errors in (0, 3, 20, 60):
        losses = (np.arange(120) < errors).astype(float)

        found = bounds_from_real_rows(losses, is_untouched=True)[0].value

        exact = stats.beta.ppf(1 - DELTA, errors + 1, 120 - errors)
        assert exact <= found < exact + 0.04


@pytest.mark.parametrize("risk", [0.02, 0.3, 0.9])
def test_bounds_from_real_rows_fail_no_more_often_than_said(rng, risk) -> None:
    runs, missed = 1500, np.zeros(2)
    for _ in range(runs):
        losses = (rng.uniform(size=80) < risk).astype(float)
        missed += [risk > each.value for each in bounds_from_real_rows(losses, is_untouched=True)]

    assert (missed / runs < limit(runs)).all()


def test_tasks_of_unequal_size_are_covered_and_rows_alone_are_not(rng) -> None:
    tasks = np.repeat(np.arange(30), rng.integers(1, 25, size=30))
    runs, missed = 1000, {"tasks": np.zeros(2), "rows": np.zeros(2)}
    for _ in range(runs):
        losses = rng.integers(0, 2, size=30)[tasks].astype(float)
        for name, given in (("tasks", tasks), ("rows", None)):
            bounds = bounds_from_real_rows(losses, tasks=given, is_untouched=True)
            missed[name] += [bound.value < 0.5 for bound in bounds]

    assert (missed["tasks"] / runs < limit(runs)).all()
    assert (missed["rows"] / runs > 0.2).all()


def test_a_model_chosen_on_the_rows_breaks_the_bound_and_gets_an_estimate(rng) -> None:
    runs, missed = 300, 0
    for _ in range(runs):
        losses = rng.integers(0, 2, size=(500, 100)).astype(float)  # models that only guess
        best = losses[losses.mean(axis=1).argmin()]
        bound = bounds_from_real_rows(best, is_untouched=False)[0]
        missed += bound.value < 0.5
        assert bound.status == "estimate"
        assert "ertified" not in bound.sentence

    assert missed / runs > 0.9


def test_bounds_are_in_units_of_the_loss(rng) -> None:
    losses = rng.uniform(size=60)

    one = bounds_from_real_rows(losses, is_untouched=True)
    four = bounds_from_real_rows(4 * losses, is_untouched=True, loss_range=4.0)

    for small, large in zip(one, four, strict=True):
        assert large.value == pytest.approx(4 * small.value)
        assert large.terms[0].loss_range == 4.0


def test_few_real_rows_are_vacuous_and_say_so() -> None:
    by_kl, by_hoeffding = bounds_from_real_rows(np.ones(3), is_untouched=True)

    assert by_kl.sentence.startswith("Vacuous")
    assert by_hoeffding.sentence.startswith("Vacuous")


def test_losses_without_a_range_are_refused_with_the_way_out() -> None:
    losses = np.array([0.3, 2.7, 9.0])

    with pytest.raises(DataError, match=r"from 0\.3 to 9") as refusal:
        bounds_from_real_rows(losses, is_untouched=True)
    assert "clipped" in refusal.value.hint
    assert clipped(losses, 4.0) == pytest.approx([0.075, 0.675, 1.0])
    with pytest.raises(ConfigError, match="above 0"):
        clipped(losses, 0.0)


def test_weighted_terms_are_the_empirical_risk_and_the_width(rng) -> None:
    losses, weights = rng.uniform(size=90), rng.exponential(size=90)
    tasks = np.arange(90) // 3

    empirical, complexity = weighted_terms(
        losses, weights, FixedWeights(), tasks=tasks, kl=3.0, delta=0.1
    )

    by_task = weights.reshape(30, 3).sum(axis=1) / weights.sum()
    n_eff = 1 / (by_task**2).sum()
    assert empirical.value == pytest.approx(weights @ losses / weights.sum())
    assert empirical.delta == 0.0
    assert complexity.n_eff == pytest.approx(n_eff)
    wanted = math.sqrt((3.0 + math.log(math.sqrt(n_eff) / 0.1)) / (2 * (n_eff - 1)))
    assert complexity.value == pytest.approx(wanted)
    assert any("prior was fixed" in need for need in complexity.needs)


def test_half_of_delta_goes_to_the_models_drawn(rng) -> None:
    losses = rng.uniform(0, 0.3, size=200)

    terms = weighted_terms(losses, np.ones(200), FixedWeights(), kl=2.0, draws=100, delta=0.04)

    assert [term.name for term in terms][2] == "models drawn"
    assert terms[2].value == pytest.approx(math.sqrt(math.log(2 / 0.02) / 200))
    assert [term.delta for term in terms] == [0.0, 0.02, 0.02]


def test_plugged_in_weights_give_an_estimate_down_to_the_sum(rng) -> None:
    terms = weighted_terms(rng.uniform(size=500), np.ones(500), PluggedIn(), kl=1.0, draws=400)
    shift = shift_over_adapters(
        np.zeros((2, 400)), np.zeros((2, 500)), np.ones(500), FixedWeights(), is_chosen_apart=True
    )

    bound = real_risk_bound(terms, shift, is_one_of_them=True)

    assert [term.status for term in bound.terms] == [
        "certificate",
        "estimate",
        "estimate",
        "certificate",
    ]
    assert (bound.status, bound.delta) == ("estimate", None)
    assert "certif" not in bound.sentence.lower()


def test_the_shift_over_adapters_is_the_formula_of_the_method_report(rng) -> None:
    real, synthetic = rng.uniform(size=(6, 40)), rng.uniform(size=(6, 90))
    weights = rng.exponential(size=90)

    term = shift_over_adapters(real, synthetic, weights, FixedWeights(), is_chosen_apart=True)

    n_eff = weights.sum() ** 2 / (weights**2).sum()
    gaps = np.abs(real.mean(axis=1) - synthetic @ weights / weights.sum())
    errors = math.sqrt(math.log(4 * 6 / DELTA) / 2) * (1 / math.sqrt(40) + 1 / math.sqrt(n_eff))
    assert term.value == pytest.approx(gaps.max() + errors)
    assert (term.status, term.delta) == ("certificate", DELTA)
    assert "6" in term.name


@pytest.mark.parametrize("looks", [False, True])
def test_the_shift_over_adapters_is_larger_than_the_true_one_as_often_as_said(rng, looks) -> None:
    """Eight adapters with risks of their own on either side, by two kinds of synthetic rows."""
    on_real = rng.uniform(0.2, 0.8, size=8)
    on_kinds = rng.uniform(0.2, 0.8, size=(8, 2))
    weight_of = np.array([1.0, 0.3])
    weighing = HeadFromOtherRows(1.0, 0.3) if looks else FixedWeights()
    fixed = rng.integers(0, 2, size=120)
    runs, missed = 400, 0
    for _ in range(runs):
        kinds = rng.integers(0, 2, size=120) if looks else fixed
        weights = weight_of[kinds]
        share = np.array([0.5, 0.5]) if looks else np.bincount(kinds) / 120
        truth = np.abs(on_real - on_kinds @ (share * weight_of) / (share @ weight_of)).max()
        term = shift_over_adapters(
            (rng.uniform(size=(8, 60)) < on_real[:, None]).astype(float),
            (rng.uniform(size=(8, 120)) < on_kinds[:, kinds]).astype(float),
            weights,
            weighing,
            is_chosen_apart=True,
            delta=0.2,
        )
        missed += truth > term.value

    assert missed / runs < limit(runs, 0.2)


def test_an_adapter_that_learned_the_rows_by_heart_proves_nothing() -> None:
    """It guesses on fresh real rows (risk 0.5) and is right on all rows that it has seen."""
    seen = np.zeros((1, 200)), np.zeros((1, 200)), np.ones(200), FixedWeights()

    term = shift_over_adapters(*seen, is_chosen_apart=False)

    assert term.value < 0.5
    assert (term.status, term.delta) == ("estimate", None)


def shift_term(value=0.1):
    return shift_over_adapters(
        np.full((1, 9000), value), np.zeros((1, 9000)), np.ones(9000), FixedWeights(),
        is_chosen_apart=True,
    )  # fmt: skip


def test_a_shift_proved_for_other_adapters_is_an_estimate_for_this_one(rng) -> None:
    terms = weighted_terms(rng.uniform(0, 0.2, size=5000), np.ones(5000), FixedWeights(), kl=1.0)

    other = real_risk_bound(terms, shift_term(), is_one_of_them=False)
    same = real_risk_bound(terms, shift_term(), is_one_of_them=True)

    assert (other.status, same.status) == ("estimate", "certificate")
    assert other.value == same.value
    assert same.sentence.startswith("Certified with confidence 0.9:")


def test_only_the_synthetic_share_of_the_mass_is_shifted(rng) -> None:
    terms = weighted_terms(rng.uniform(0, 0.2, size=5000), np.ones(5000), FixedWeights(), kl=1.0)

    whole, some, none = (
        real_risk_bound(terms, shift_term(), synthetic_share=share, is_one_of_them=False)
        for share in (1.0, 0.25, 0.0)
    )

    base = sum(term.value for term in terms)
    assert some.value - base == pytest.approx((whole.value - base) / 4)
    assert none.value == pytest.approx(base)
    assert none.status == "certificate"  # with real rows alone nothing is shifted
    with pytest.raises(ConfigError, match="from 0 to 1"):
        real_risk_bound(terms, shift_term(), synthetic_share=1.5, is_one_of_them=True)


@pytest.mark.slow
def test_the_whole_bound_holds_and_without_its_shift_it_does_not(rng) -> None:
    """One fixed model that errs more often on real rows than on synthetic ones."""
    runs, missed, without = 1000, 0, 0
    weights = np.exp(0.5 * rng.normal(size=300))
    for _ in range(runs):
        losses = (rng.uniform(size=300) < 0.2).astype(float)
        real = (rng.uniform(size=(1, 100)) < 0.5).astype(float)
        terms = weighted_terms(losses, weights, FixedWeights(), kl=None, delta=DELTA / 2)
        shift = shift_over_adapters(
            real, losses[None], weights, FixedWeights(), is_chosen_apart=True, delta=DELTA / 2
        )
        missed += real_risk_bound(terms, shift, is_one_of_them=True).value < 0.5
        without += sum(term.value for term in terms) < 0.5

    assert missed / runs < limit(runs)
    assert without / runs > 0.9


def test_hints_are_estimates_in_units_of_the_loss() -> None:
    seen, mmd = classifier_hint(1.2, loss_range=4.0), mmd_hint(0.09)

    assert [seen.value, mmd.value] == pytest.approx([2.4, 0.3])
    assert {seen.status, mmd.status} == {"estimate"}
    assert classifier_hint(-0.3).value == mmd_hint(-0.01).value == 0.0


def test_a_reckoning_puts_the_surest_first_and_is_json(rng) -> None:
    terms = weighted_terms(rng.uniform(size=90), np.ones(90), PluggedIn(), kl=11_250.0)
    reckoning = Reckoning(
        test_set=bounds_from_real_rows(rng.uniform(size=90), is_untouched=True),
        weighted=real_risk_bound(terms, shift_term(), is_one_of_them=False),
        hints=(classifier_hint(0.4), mmd_hint(0.02)),
    )

    facts = reckoning.as_dict()

    assert list(facts) == ["test_set", "weighted", "hints"]
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["test_set"][0]["sentence"].startswith("Certified")
    assert facts["weighted"]["sentence"].startswith("Vacuous")
