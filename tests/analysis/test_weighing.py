from __future__ import annotations

import math

import numpy as np
import pytest

from trajweight.analysis.inequalities import (
    hoeffding_width,
    kl_bernoulli,
    looking_width,
    posterior_width,
    small_risk_upper,
)
from trajweight.analysis.weighing import (
    FixedWeights,
    HeadFromOtherRows,
    HeadFromSameRows,
    PluggedIn,
    Sample,
    unit_shares,
    width_with_draws,
)
from trajweight.errors import ConfigError, DataError

DELTA = 0.05


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(21)


def sample(losses, weights, tasks=None) -> Sample:
    return Sample.of(np.asarray(losses, float), np.asarray(weights, float), tasks, loss_range=1.0)


def violations(truth, draw, weighing, *, kl=None, delta=DELTA, runs=1500, part=1.0) -> float:
    """How often the true risk lies above the bound, or above a part of its width."""
    missed = 0
    for _ in range(runs):
        rows = draw()
        missed += truth > rows.risk + part * weighing.width(rows, kl=kl, delta=delta)
    return missed / runs


def limit(delta=DELTA, runs=1500) -> float:
    """What a rate of ``delta`` stays below but once in a thousand."""
    return delta + 3.1 * math.sqrt(delta * (1 - delta) / runs)


def test_shares_of_tasks_add_up_their_rows() -> None:
    shares, n_eff = unit_shares(sample(np.zeros(5), [1, 1, 2, 3, 1], np.array([9, 4, 9, 4, 4])))

    assert shares == pytest.approx([5 / 8, 3 / 8])
    assert n_eff == pytest.approx(1 / (25 / 64 + 9 / 64))


def test_five_thousand_rows_of_fifty_tasks_count_as_fifty() -> None:
    rows = sample(np.zeros(5000), np.ones(5000), np.arange(5000) % 50)

    assert FixedWeights().n_eff(rows) == pytest.approx(50)
    assert rows.n_units == 50


def test_for_fixed_weights_the_width_is_theorem_a_or_hoeffding(rng) -> None:
    rows = sample(rng.uniform(size=40), rng.exponential(size=40))
    n_eff = rows.weights.sum() ** 2 / (rows.weights**2).sum()

    assert FixedWeights().width(rows, kl=None, delta=0.1) == pytest.approx(
        hoeffding_width(n_eff, 0.1)
    )
    assert FixedWeights(candidates=5).width(rows, kl=None, delta=0.1) == pytest.approx(
        hoeffding_width(n_eff, 0.02)
    )
    for form in ("two-sided", "one-sided"):
        found = FixedWeights(candidates=5, form=form).width(rows, kl=2.0, delta=0.1)
        assert found == pytest.approx(posterior_width(n_eff, 2.0, 0.1, form=form, candidates=5))


def test_hoeffding_holds_for_fixed_weights_and_little_less_would_not(rng) -> None:
    weights = np.exp(rng.normal(size=120))

    def draw() -> Sample:
        return sample(rng.integers(0, 2, size=120), weights)

    assert violations(0.5, draw, FixedWeights()) < limit()
    assert violations(0.5, draw, FixedWeights(), part=0.5) > limit()


def gibbs_rates(rng, weights, weighing, *, runs, part=1.0) -> float:
    """Violations with 50 hypotheses of risk 0.2 to 0.8 and a posterior fitted to the losses."""
    risks = np.linspace(0.2, 0.8, 50)
    missed = 0
    for _ in range(runs):
        losses = (rng.uniform(size=(len(weights), 50)) < risks).astype(float)
        posterior = np.exp(-30 * (weights @ losses) / weights.sum())
        posterior /= posterior.sum()
        kl = float(posterior @ np.log(50 * posterior))
        rows = sample(losses @ posterior, weights)
        missed += posterior @ risks > rows.risk + part * weighing.width(rows, kl=kl, delta=DELTA)
    return missed / runs


@pytest.mark.parametrize("form", ["two-sided", "one-sided"])
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_theorem_a_holds_for_a_posterior_fitted_to_the_losses(rng, form, scale) -> None:
    weights = np.exp(scale * rng.normal(size=200))

    rate = gibbs_rates(rng, weights, FixedWeights(form=form), runs=600)
    without = gibbs_rates(rng, weights, FixedWeights(form=form), runs=100, part=0.1)

    assert rate < limit(runs=600)
    assert without > 0.5  # the posterior does fit itself to the losses


@pytest.mark.parametrize("kl", [None, 0.0])
def test_the_small_risk_form_holds_for_uneven_weights_and_tasks(rng, kl) -> None:
    tasks = np.repeat(np.arange(150), 2)
    weights = np.exp(0.5 * rng.normal(size=150))[tasks]

    def draw() -> Sample:
        return sample((rng.uniform(size=150) < 0.02)[tasks], weights, tasks)

    assert violations(0.02, draw, FixedWeights(form="small-risk"), kl=kl) < limit()
    assert violations(0.02, draw, FixedWeights(form="small-risk"), kl=kl, part=0.05) > 0.1


def test_the_small_risk_form_is_tighter_where_nothing_goes_wrong_and_costs_its_candidates() -> None:
    rows = sample(np.zeros(300), np.ones(300))

    small, plain = (
        FixedWeights(form=form).width(rows, kl=1.0, delta=0.1)
        for form in ("small-risk", "two-sided")
    )
    many = FixedWeights(form="small-risk", candidates=4).width(rows, kl=1.0, delta=0.1)

    uneven = sample(np.zeros(300), np.linspace(0.5, 1.5, 300))
    counted = FixedWeights(form="small-risk").width(uneven, kl=1.0, delta=0.1)

    assert small < 0.4 * plain
    assert counted == pytest.approx(
        small_risk_upper(0.0, n=300, heaviest=1.5 / 300, kl=1.0, delta=0.1)
    )
    assert many == pytest.approx(
        small_risk_upper(0.0, n=300, heaviest=1 / 300, kl=1.0, delta=0.025)
    )


def test_the_kl_form_with_n_eff_in_place_of_n_does_not_hold() -> None:
    """Two heavy rows that err half the time: seen without error in a quarter of all samples."""
    weights = np.concatenate([[0.1, 0.1], np.full(8000, 0.8 / 8000)])
    n_eff = 1 / (weights**2).sum()
    risk, unseen = 0.1, 0.25  # 2 * 0.1 * 0.5, and (1 - 0.5)^2

    assert n_eff * kl_bernoulli(0.0, risk) > math.log(1 / DELTA)  # so the form rules 0.1 out
    assert unseen > DELTA
    assert small_risk_upper(0.0, n=8002, heaviest=0.1, kl=0.0, delta=DELTA) > risk


def test_rows_of_one_task_counted_as_many_break_the_bound(rng) -> None:
    tasks = np.repeat(np.arange(50), 20)

    def draw(by_task) -> Sample:
        losses = rng.integers(0, 2, size=50)[tasks]
        return sample(losses, np.ones(1000), tasks if by_task else None)

    assert violations(0.5, lambda: draw(by_task=True), FixedWeights()) < limit()
    assert violations(0.5, lambda: draw(by_task=False), FixedWeights()) > 0.2


@pytest.mark.parametrize(("sharpness", "least"), [(0.5, 0.15), (1.0, 0.99), (2.0, 0.999)])
def test_weights_fitted_to_the_same_losses_break_theorem_a(rng, sharpness, least) -> None:
    """Weights proportional to exp(-c loss): what plugging in n_eff promises fails."""

    def draw() -> Sample:
        losses = rng.integers(0, 2, size=200)
        return sample(losses, np.exp(-sharpness * losses))

    assert violations(0.5, draw, PluggedIn(), kl=0.0) > least
    assert PluggedIn().status == "estimate"


def test_a_heavy_row_that_is_rare_breaks_theorem_a_and_not_theorem_b(rng) -> None:
    """A head from other rows gives weight 100 to one row in 500, which has loss one."""
    truth = 0.002 * 100 / (0.002 * 100 + 0.998)

    def draw() -> Sample:
        is_rare = rng.uniform(size=200) < 0.002
        return sample(is_rare, np.where(is_rare, 100.0, 1.0))

    rate = violations(truth, draw, PluggedIn(), kl=0.0)
    assert rate == pytest.approx(0.998**200, abs=0.04)  # 67 % of samples never see it
    covered = HeadFromOtherRows(cap=100.0, floor=1.0)
    assert violations(truth, draw, covered, kl=0.0) == 0.0


@pytest.mark.parametrize("with_fresh", [False, True])
@pytest.mark.parametrize("kl", [None, 0.0])
def test_theorem_b_holds_for_a_head_from_other_rows(rng, with_fresh, kl) -> None:
    """Heavy rows are rare and bad, which is where weights that look at rows do harm."""
    heavy, light, chance = 1.0, 0.1, 0.04
    truth = chance * heavy / (chance * heavy + (1 - chance) * light)

    def draw() -> Sample:
        is_rare = rng.uniform(size=400) < chance
        return sample(is_rare, np.where(is_rare, heavy, light))

    fresh = np.where(rng.uniform(size=5000) < chance, heavy, light) if with_fresh else None
    weighing = HeadFromOtherRows(cap=heavy, floor=light, fresh=fresh)

    assert violations(truth, draw, weighing, kl=kl) < limit()
    assert violations(truth, draw, weighing, kl=kl, part=0.1) > 0.1


def test_theorem_b_is_sharp_to_a_factor_where_the_mean_is_known(rng) -> None:
    """Its inequality alone, for one model: half of the width would not do."""
    chance, second = 0.02, 0.02
    missed = {1.0: 0, 0.5: 0}
    for _ in range(4000):
        mean = float((rng.uniform(size=200) < chance).mean())  # w l of heavy rows alone
        for part in missed:
            missed[part] += chance > mean + part * looking_width(200, second, 0.2)

    assert missed[1.0] / 4000 < limit(0.2, 4000)
    assert missed[0.5] / 4000 > 0.2


def test_theorem_b_counts_tasks(rng) -> None:
    tasks = np.repeat(np.arange(40), 10)
    truth = 0.3 * 1.0 / (0.3 * 1.0 + 0.7 * 0.5)

    def draw(by_task) -> Sample:
        is_bad = (rng.uniform(size=40) < 0.3)[tasks]
        return sample(is_bad, np.where(is_bad, 1.0, 0.5), tasks if by_task else None)

    weighing = HeadFromOtherRows(cap=1.0, floor=0.5)
    assert violations(truth, lambda: draw(by_task=True), weighing) < limit()
    by_row = weighing.width(draw(by_task=False), kl=None, delta=DELTA)
    by_task = weighing.width(draw(by_task=True), kl=None, delta=DELTA)
    assert by_task > 3 * by_row


@pytest.mark.parametrize("kl", [None, 2.0])
def test_the_widths_of_theorems_b_and_c_are_their_formulas(rng, kl) -> None:
    """R <= mean(w l) / m + sqrt(2 (W / m) C / n), m the mean weight bounded from below."""
    losses, weights = rng.uniform(size=400), rng.uniform(0.2, 1.0, size=400)
    rows, moment = sample(losses, weights), math.log(1 + 200)

    for weighing, lost, cost in (
        (
            HeadFromOtherRows(1.0, 0.2),
            0.8 * math.sqrt(math.log(1 / 0.025) / 800),
            math.log(1 / 0.025) + (0 if kl is None else kl + moment),
        ),
        (
            HeadFromSameRows(1.0, 3.0, 0.2),
            0.8 * math.sqrt((3 + math.log((1 + 800) / 0.025)) / 800),
            math.log(1 / 0.025) + 3 + (kl or 0) + moment,
        ),
    ):
        mean = weights.mean() - lost
        bound = (weights * losses).mean() / mean + math.sqrt(2 / mean * cost / 400)
        found = rows.risk + weighing.width(rows, kl=kl, delta=0.05)
        assert found == pytest.approx(bound)


def test_a_fresh_batch_helps_where_the_cap_says_little(rng) -> None:
    weights = np.where(rng.uniform(size=5000) < 0.001, 1.0, 0.1)
    rows = sample(np.zeros(3000), weights[:3000])

    with_cap = HeadFromOtherRows(cap=1.0, floor=0.1).width(rows, kl=1.0, delta=DELTA)
    fresh = HeadFromOtherRows(cap=1.0, floor=0.1, fresh=weights).width(rows, kl=1.0, delta=DELTA)

    assert fresh < 0.7 * with_cap


def test_neither_theorem_b_nor_c_cares_for_the_unit_of_the_weights(rng) -> None:
    losses, weights = rng.uniform(size=300), rng.uniform(0.1, 1.0, size=300)

    for small, large in (
        (HeadFromOtherRows(cap=1.0, floor=0.1), HeadFromOtherRows(cap=7.0, floor=0.7)),
        (HeadFromSameRows(1.0, 2.0, 0.1), HeadFromSameRows(7.0, 2.0, 0.7)),
    ):
        one = small.width(sample(losses, weights), kl=1.0, delta=DELTA)
        assert large.width(sample(losses, 7 * weights), kl=1.0, delta=DELTA) == pytest.approx(one)
        assert small.n_eff(sample(losses, weights)) == pytest.approx(
            large.n_eff(sample(losses, 7 * weights))
        )


def test_a_head_picked_on_the_same_rows_breaks_theorem_a_and_not_theorem_c(rng) -> None:
    """Two thousand heads that know nothing; the one whose weighted loss is least is taken."""
    n_heads, n, runs = 2000, 1500, 40
    missed = {"plugged in": 0, "theorem c": 0}
    covered = HeadFromSameRows(cap=1.0, floor=0.05, kl_head=math.log(n_heads))
    for _ in range(runs):
        is_third = rng.integers(0, 3, size=(n_heads, n), dtype=np.int8) == 0
        is_heavy = is_third.astype(np.float32)
        losses = rng.integers(0, 2, size=n).astype(np.float32)
        mass = 0.05 * n + 0.95 * is_heavy.sum(axis=1)
        risks = (0.05 * losses.sum() + 0.95 * (is_heavy @ losses)) / mass
        rows = sample(losses, np.where(is_heavy[risks.argmin()] > 0, 1.0, 0.05))
        for name, weighing in (("plugged in", PluggedIn()), ("theorem c", covered)):
            bound = rows.risk + weighing.width(rows, kl=None, delta=DELTA)
            missed[name] += bound < 0.5
            assert bound < 0.9

    assert missed["plugged in"] / runs > 0.3
    assert missed["theorem c"] / runs < limit(runs=runs)


def test_theorem_c_pays_for_head_and_model(rng) -> None:
    rows = sample(rng.uniform(size=400), rng.uniform(0.2, 1.0, size=400))

    def width(kl_head, kl) -> float:
        return HeadFromSameRows(cap=1.0, kl_head=kl_head, floor=0.2).width(rows, kl=kl, delta=DELTA)

    assert width(0.0, 5.0) > width(0.0, 0.0)
    assert width(5.0, 0.0) > width(0.0, 5.0)  # the head's is paid in the denominator too


def test_a_table_of_logits_is_vacuous(rng) -> None:
    """A score of its own for every row costs about one nat a row."""
    rows = sample(rng.uniform(size=500), rng.uniform(0.2, 1.0, size=500))

    assert HeadFromSameRows(cap=1.0, kl_head=500.0).width(rows, kl=0.0, delta=DELTA) == math.inf


def test_a_mean_weight_that_may_be_zero_gives_no_bound() -> None:
    rows = sample(np.zeros(20), np.full(20, 0.01))

    assert HeadFromOtherRows(cap=1.0).width(rows, kl=None, delta=DELTA) == math.inf


@pytest.mark.parametrize("form", ["two-sided", "small-risk"])
def test_models_drawn_from_the_posterior_are_covered_and_cannot_be_left_out(rng, form) -> None:
    """Half of the posterior is always right and half always wrong: all luck is in the draws."""
    weighing, missed, without = FixedWeights(form=form), 0, 0
    for _ in range(1000):
        seen = rng.integers(0, 2, size=40).mean()
        rows = sample(np.full(2000, seen), np.ones(2000))
        missed += seen + width_with_draws(weighing, rows, 40, kl=0.0, delta=0.1) < 0.5
        without += seen + weighing.width(rows, kl=0.0, delta=0.1) < 0.5

    assert missed / 1000 < limit(0.2, 1000)
    assert without / 1000 > 0.2


@pytest.mark.parametrize(
    "weighing", [FixedWeights(), HeadFromOtherRows(1.0, 0.2), HeadFromSameRows(1.0, 1.0, 0.2)]
)
def test_means_over_drawn_models_cost_the_error_of_the_draws(rng, weighing) -> None:
    """As if every loss were larger by it, which no true mean loss exceeds."""
    losses, weights = rng.uniform(0, 0.5, size=300), rng.uniform(0.2, 1.0, size=300)
    rows, error = sample(losses, weights), math.sqrt(math.log(2 / DELTA) / 100)

    found = rows.risk + width_with_draws(weighing, rows, 50, kl=1.0, delta=DELTA)

    raised = sample(losses + error, weights)
    assert found == pytest.approx(raised.risk + weighing.width(raised, kl=1.0, delta=DELTA))


def test_every_way_says_what_it_needs() -> None:
    for weighing in (
        FixedWeights(candidates=3),
        HeadFromOtherRows(1.0, fresh=np.ones(4)),
        HeadFromSameRows(1.0, 2.0),
    ):
        assert weighing.status == "certificate"
        assert len(weighing.needs) >= 2
    assert "certif" not in PluggedIn().because


def test_rows_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(DataError, match=r"from -0\.1 to 0"):
        sample([0.0, -0.1], [1, 1])
    with pytest.raises(DataError, match=r"must be in 0 to 1\.0"):
        sample([0.0, 1.4], [1, 1])
    with pytest.raises(DataError, match="losses run from nan"):
        sample([math.nan], [1])
    with pytest.raises(DataError, match="2 losses and 3 weights"):
        sample([0.0, 0.1], [1, 1, 1])
    with pytest.raises(DataError, match="not all 0"):
        sample([0.0, 0.1], [0, 0])
    with pytest.raises(ConfigError, match="outside of 0 to 1"):
        HeadFromOtherRows(cap=1.0).width(sample([0.0, 0.1], [0.5, 1.5]), kl=None, delta=0.1)
