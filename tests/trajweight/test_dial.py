from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trajweight.dial import How, clipped, mixed, tempered, turn_dial
from trajweight.errors import ConfigError, DataError
from trajweight.weights import mean_one

WAYS: tuple[How, ...] = ("temper", "clip", "mix")

positive = st.floats(1e-6, 1e6)
some_weights = st.lists(positive, min_size=1, max_size=40).map(np.array)
with_zeros = (
    st.lists(st.one_of(st.just(0.0), positive), min_size=1, max_size=40).filter(any).map(np.array)
)
targets = st.floats(0.0, 1.0, exclude_min=True)
# so uneven that each way has something to do, and how far to go from there towards all equal
uneven = st.lists(st.floats(0.01, 100), max_size=12).map(lambda more: np.array([1.0, 4.0, *more]))
parts = st.floats(0.01, 0.99)


def share(w) -> float:
    """ESS/n by its other formula: one over one plus the squared coefficient of variation."""
    return 1 / (1 + (np.std(w) / np.mean(w)) ** 2)


def cap_by_algebra(w, target: float) -> float:
    """The cap at which ESS/n is the target: with the k heaviest cut, a quadratic equation.

    (A + k c)^2 = n t (B + k c^2), A and B being sums of the others and of their squares.
    """
    rising, n = np.sort(w), len(w)
    found = []
    for k in range(1, n + 1):
        rest = rising[: n - k]
        a, b = rest.sum(), (rest**2).sum()
        roots = np.roots([k * k - n * target * k, 2 * a * k, a * a - n * target * b])
        low, high = (rest[-1] if k < n else 0.0), rising[n - k]
        found += [r.real for r in roots if abs(r.imag) < 1e-12 and low <= r.real <= high]
    return max(found)


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=40)
@given(w=some_weights, target=targets)
def test_the_target_is_met_exactly_and_never_passed(how, w, target) -> None:
    done = turn_dial(w, target, how)

    assert done.is_met
    assert share(done.weights) == pytest.approx(done.ess_after, abs=1e-9)
    if share(w) >= target:
        assert done.ess_after == done.ess_before
    else:
        assert done.ess_after == pytest.approx(target, abs=1e-9)


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=40)
@given(w=with_zeros, target=targets)
def test_a_target_is_met_or_said_to_be_out_of_reach(how, w, target) -> None:
    reach = 1.0 if how == "mix" else np.count_nonzero(w) / len(w)

    done = turn_dial(w, target, how)

    wanted = min(max(target, share(w)), reach)
    assert done.ess_after == pytest.approx(wanted, abs=1e-9)
    assert done.is_met == (done.ess_after >= target - 1e-9)
    assert done.is_met != ("out of reach" in done.said)


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=40)
@given(w=with_zeros, target=targets)
def test_the_order_of_rows_stays_and_the_mean_is_one(how, w, target) -> None:
    made = turn_dial(w, target, how).weights

    assert made.mean() == pytest.approx(1.0, abs=1e-12)
    rising = made[np.argsort(w, kind="stable")]
    assert np.all(np.diff(rising) >= -1e-12 * rising[1:])


@pytest.mark.parametrize("how", WAYS)
@settings(max_examples=40)
@given(w=with_zeros, target=targets, factor=st.floats(1e-100, 1e100))
def test_the_scale_of_the_weights_does_not_count(how, w, target, factor) -> None:
    assume(abs(share(w) - target) > 1e-9)  # on the edge rounding decides whether to turn at all

    one, two = turn_dial(w, target, how), turn_dial(w * factor, target, how)

    np.testing.assert_allclose(one.weights, two.weights, rtol=1e-6)


@pytest.mark.parametrize("how", WAYS)
def test_a_target_that_is_met_already_changes_nothing(how) -> None:
    w = np.array([0.5, 1.5, 1.0])

    done = turn_dial(w, 0.8, how)

    assert done.weights.tolist() == w.tolist()
    assert (done.strength, done.ess_before) == (None, done.ess_after)
    assert done.said == "ESS/n is 0.8571, at least the 0.8 asked for; nothing was changed."


@pytest.mark.parametrize("how", WAYS)
def test_equal_weights_meet_every_target(how) -> None:
    done = turn_dial(np.full(7, 0.3), 1.0, how)

    assert done.strength is None
    assert done.ess_after == 1.0


@given(w=with_zeros)
def test_ess_never_falls_on_the_way_from_learned_to_flat(w) -> None:
    above = mean_one(w)[w > 0]
    ways = [
        [tempered(w, a) for a in np.linspace(1, 0, 23)],
        [clipped(w, c) for c in np.linspace(above.max(), above.min(), 23)],
        [mixed(w, s) for s in np.linspace(0, 1, 23)],
    ]

    for way in ways:
        shares = [share(made) for made in way]
        assert all(after >= before - 1e-9 for before, after in pairwise(shares))
        np.testing.assert_allclose(way[0], mean_one(w), rtol=1e-12)
    assert all(np.ptp(made[w > 0]) < 1e-9 * made.max() for way in ways for made in way[-1:])


@given(w=uneven, part=parts)
def test_mixing_finds_the_share_that_algebra_gives(w, part) -> None:
    target = share(w) + part * (1 - share(w))

    found = turn_dial(w, target, "mix").strength

    # (1 - s)^2 V = 1/t - 1, V being the squared coefficient of variation
    assert found == pytest.approx(1 - math.sqrt((1 / target - 1) / (1 / share(w) - 1)), abs=1e-7)


@given(w=uneven, part=parts)
def test_clipping_finds_the_cap_that_algebra_gives(w, part) -> None:
    learned = w / w.mean()
    target = share(w) + part * (1 - share(w))

    done = turn_dial(w, target, "clip")

    cap = cap_by_algebra(learned, target)
    assert done.strength == pytest.approx(cap, rel=1e-6)
    cut = np.minimum(learned, cap)
    np.testing.assert_allclose(done.weights, cut / cut.mean(), rtol=1e-6)


@given(w=uneven, part=parts)
def test_tempering_takes_the_greatest_exponent_that_meets_the_target(w, part) -> None:
    target = share(w) + part * (1 - share(w))

    done = turn_dial(w, target)

    assert 0 <= done.strength < 1
    np.testing.assert_allclose(done.weights, w**done.strength / (w**done.strength).mean())
    assert share(w ** min(1.0, done.strength + 1e-3)) < target + 1e-12


def test_a_target_that_only_equal_weights_meet_makes_them_equal_to_the_last_bit() -> None:
    for w, target in ((np.array([3.0, 1.0]), 1.0), (np.array([3.0, 1.0, 0.0, 0.0]), 0.5)):
        for how in WAYS[:2]:
            made = turn_dial(w, target, how)

            assert len(set(made.weights[w > 0].tolist())) == 1
            assert made.is_met
    assert turn_dial(np.array([3.0, 0.0]), 1.0, "mix").weights.tolist() == [1.0, 1.0]


def test_zeros_stay_under_temper_and_clip_and_are_lifted_by_mix() -> None:
    w = np.array([0.0, 0.2, 5.0, 0.8])

    temper, clip, mix = (turn_dial(w, 0.7, how) for how in WAYS)

    assert temper.weights[0] == clip.weights[0] == 0.0
    assert mix.weights[0] == pytest.approx(mix.strength)
    assert "Weight zero stays zero (1 row)." in temper.said
    assert "Weight zero stays zero (1 row)." in clip.said
    assert "1 row of weight zero got that much" in mix.said


def test_what_was_done_is_said_in_words() -> None:
    w = np.array([4.0, 1.0, 1.0, 2.0])

    assert turn_dial(w, 0.9).said == (
        "Weights were raised to the power 0.5489 and scaled to mean one. "
        "ESS/n went from 0.7273 to 0.9."
    )
    assert turn_dial(w, 0.9, "clip").said == (
        "Weights above 1 (2 rows) were cut to it, all scaled to mean one. "
        "ESS/n went from 0.7273 to 0.9."
    )
    assert turn_dial(w, 0.9, "mix").said == (
        "Weights were mixed with uniform ones, which count 0.4557 of one. "
        "ESS/n went from 0.7273 to 0.9."
    )
    assert turn_dial(np.array([3.0, 1.0, 0.0, 0.0]), 0.9).said == (
        "Weights were raised to the power 0 and scaled to mean one. Weight zero stays zero "
        "(2 rows). ESS/n went from 0.4 to 0.5. 0.9 is out of reach: only 2 of 4 rows weigh more "
        "than zero, and these are now equal, so 0.5 is the most. Leave rows of weight zero out, "
        "or mix."
    )


@pytest.mark.parametrize("target", [0.0, -0.5, 1.5, math.nan, math.inf])
def test_a_target_outside_of_zero_to_one_is_refused_by_the_name_of_its_option(target) -> None:
    with pytest.raises(ConfigError, match=f"--target-ess is {target}"):
        turn_dial(np.ones(3), target)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ConfigError, match="'sharpen'; it must be among temper, clip, mix"):
        turn_dial(np.ones(3), 0.5, "sharpen")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, -1.0], "weight 1 is -1.0"),
        ([math.nan, 1.0], "weight 0 is nan"),
        ([1.0, 2.0, math.inf], "weight 2 is inf"),
        ([0.0, 0.0], "none of 2 weights is above zero"),
        ([], "none of 0 weights"),
    ],
)
def test_what_is_no_weight_is_named(weights, message) -> None:
    with pytest.raises(DataError, match=message):
        turn_dial(np.array(weights), 0.5)
