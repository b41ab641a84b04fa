from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.oracles import (
    forward_products,
    moved_weight_slopes,
    per_sample_products,
    relative_error,
    true_d,
)
from tests.tokens import bench, token_rows
from tests.toy import Bent, Ridge
from trajweight.adamw import stale_preconditioner
from trajweight.bilevel import Member
from trajweight.config import InnerConfig
from trajweight.errors import ConfigError, DivergenceError
from trajweight.estimators import (
    Estimate,
    Estimator,
    FiniteDifference,
    Ghost,
    Implicit,
    Penalty,
    Unrolled,
)
from trajweight.estimators.finite_difference import RELATIVE_STEPS, same_randomness
from trajweight.estimators.implicit import conjugate_gradients
from trajweight.estimators.pullback import pull_back
from trajweight.inner import MOST_SKIPPED, InnerLevel

# float64. Exact forms differ from autograd by the order of sums alone.
EXACT = 1e-10
# Central differences: truncation and rounding meet at about the precision to the power 2/3.
DIFFERENCE = 1e-6
# Unrolled takes its Hessian products by differences, at a step where 1e-10 of each is lost; they
# are a small part of d, of the order of the learning rate.
UNROLLED = 1e-8

#: Above and below the norm of every gradient in `world`.
LOOSE, TIGHT = 1e3, 0.02
ROWS = [4, 2, 5, 3]
WEIGHTS = torch.tensor([1.0, 0.3, 2.0, 0.7], dtype=torch.float64)

ESTIMATORS: dict[str, Estimator] = {
    "ghost": Ghost(),
    "ghost every 3": Ghost(every=3),
    "exact ghost": Ghost(fused=False),
    "exact ghost after": Ghost(fused=False, at="theta_next"),
    "finite difference": FiniteDifference(),
    "penalty": Penalty(strength=3.0),
    "unrolled 1": Unrolled(steps=1),
    "unrolled 3": Unrolled(steps=3),
    "implicit": Implicit(every=2),
}
every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)


def level(problem, **settings) -> InnerLevel:
    config = InnerConfig(
        **{"learning_rate": 1e-2, "weight_decay": 0.05, "max_grad_norm": LOOSE, **settings}
    )
    return InnerLevel(problem, config, seed=0)


def world(name: str, **settings) -> InnerLevel:
    """A small language model with LoRA, or a bent network, each convex nowhere in particular."""
    problem = bench(token_rows(9)).problem() if name == "language model" else Bent().problem()
    return level(problem, **settings)


def aged(inner: InnerLevel, number: int) -> InnerLevel:
    """Give the optimiser random moments, as if its next step were of this number."""
    generator = torch.Generator().manual_seed(number)
    for parameter in inner.parameters:
        mean, square = (
            torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
            for _ in range(2)
        )
        inner.optimizer.state[parameter] = {
            "step": torch.tensor(float(number - 1)),
            "exp_avg": 0.05 * mean,
            "exp_avg_sq": (0.1 * square).square() + 1e-3,
        }
    return inner


def batches(n: int, *, size: int = 4, seed: int = 0) -> list[tuple[list[int], Tensor]]:
    """Rows of `Bent` with weights of their own."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randperm(40, generator=generator)[:size].tolist(),
            0.2 + 2 * torch.rand(size, generator=generator, dtype=torch.float64),
        )
        for _ in range(n)
    ]


def estimates(estimator: Estimator, inner: InnerLevel, made) -> list[Estimate]:
    running = estimator.begin(inner)
    found = [running.step(rows, weights) for rows, weights in made]
    return [each for each in found if each is not None]


def parameters_of(inner: InnerLevel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in inner.parameters]


def outer_gradient(inner: InnerLevel) -> list[Tensor]:
    problem = inner.problem
    loss = (problem.apart(problem.validation) * problem.validation_share).sum()
    return list(torch.autograd.grad(loss, inner.parameters))


# One step, exactly


@pytest.mark.parametrize("name", ["language model", "bent"])
@pytest.mark.parametrize("at", ["theta", "theta_next"])
@pytest.mark.parametrize("number", [1, 2, 10, 1000])
@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_the_exact_ghost_is_autograd_through_the_clipped_step(name, at, number, max_norm) -> None:
    inner = aged(world(name, max_grad_norm=max_norm), number)
    (expected,), end = true_d(inner, [(ROWS, WEIGHTS)], at=at, clips=max_norm == TIGHT)

    found = Ghost(fused=False, at=at).begin(inner).step(ROWS, WEIGHTS)

    assert relative_error(found.d, expected) < EXACT
    torch.testing.assert_close(parameters_of(inner), end.theta, rtol=EXACT, atol=1e-14)


@pytest.mark.parametrize("name", ["language model", "bent"])
@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_d_is_the_change_of_the_outer_loss_when_a_weight_moves(name, max_norm) -> None:
    inner = aged(world(name, max_grad_norm=max_norm), 10)
    slopes = moved_weight_slopes(inner, ROWS, WEIGHTS)

    found = Ghost(fused=False, at="theta_next").begin(inner).step(ROWS, WEIGHTS)

    assert relative_error(found.d, slopes) < DIFFERENCE


def test_at_a_fresh_first_step_d_is_nothing_beside_that_of_plain_descent() -> None:
    """Adam's first step follows signs: eps over the gradient is left, which is small but for a
    parameter whose gradient is next to nothing.
    """
    inner = world("bent")
    v = outer_gradient(inner)
    plain = per_sample_products(lambda: inner.problem.apart(ROWS), inner.parameters, v)

    found = Ghost(fused=False).begin(inner).step(ROWS, WEIGHTS)

    assert float(found.d.norm() / (1e-2 * plain / 4).norm()) < 1e-3


def test_outer_gradients_before_and_after_the_step_agree_as_the_rate_falls() -> None:
    gaps = []
    for rate in (1e-2, 1e-3, 1e-4):
        before, after = (
            Ghost(fused=False, at=at)
            .begin(aged(world("bent", learning_rate=rate), 10))
            .step(ROWS, WEIGHTS)
            .d
            for at in ("theta", "theta_next")
        )
        gaps.append(relative_error(before, after))

    # They differ by the order of the learning rate: ten times closer at a tenth of it.
    assert math.log10(gaps[0] / gaps[1]) == pytest.approx(1, abs=0.1)
    assert math.log10(gaps[1] / gaps[2]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("name", ["language model", "bent"])
@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_the_fused_ghost_goes_back_through_the_stale_preconditioner(name, max_norm) -> None:
    inner = aged(world(name, max_grad_norm=max_norm), 10)
    scales = stale_preconditioner(inner.optimizer)
    direction = [s * v for s, v in zip(scales, outer_gradient(inner), strict=True)]
    products = per_sample_products(lambda: inner.problem.apart(ROWS), inner.parameters, direction)

    found = Ghost().begin(inner).step(ROWS, WEIGHTS)

    assert relative_error(found.d, -products / len(ROWS)) < EXACT


def test_between_outer_gradients_the_fused_ghost_keeps_its_direction() -> None:
    inner = aged(world("bent"), 10)
    scales = stale_preconditioner(inner.optimizer)
    direction = [s * v for s, v in zip(scales, outer_gradient(inner), strict=True)]
    running = Ghost(every=3).begin(inner)
    running.step(ROWS, WEIGHTS)
    products = per_sample_products(lambda: inner.problem.apart(ROWS), inner.parameters, direction)

    found = running.step(ROWS, WEIGHTS)

    assert relative_error(found.d, -products / len(ROWS)) < EXACT


def test_the_fused_ghost_nears_the_exact_one_as_the_second_moment_gets_longer() -> None:
    """What is left out is 1 - b2 of the second moment."""
    gaps = []
    for beta2 in (0.99, 0.999, 0.9999):
        fused, exact = (
            Ghost(fused=is_fused)
            .begin(aged(world("bent", beta2=beta2), 100_000))
            .step(ROWS, WEIGHTS)
            .d
            for is_fused in (True, False)
        )
        gaps.append(relative_error(fused, exact))

    assert gaps[2] < gaps[1] < gaps[0]
    assert gaps[2] < 1e-2


@pytest.mark.parametrize("is_fused", [True, False])
def test_d_does_not_depend_on_how_a_batch_is_cut_into_passes(is_fused) -> None:
    rows, order = token_rows(12), [7, 2, 0, 5, 8, 3]
    weights = torch.tensor([1.0, 0.3, 2.0, 0.7, 0.1, 1.9], dtype=torch.float64)

    one, two = (
        Ghost(fused=is_fused)
        .begin(aged(level(bench(rows, accumulation=parts).problem()), 10))
        .step(order, weights)
        for parts in (1, 3)
    )

    assert relative_error(two.d, one.d) < EXACT


def test_a_fused_ghost_cannot_look_out_after_the_step() -> None:
    with pytest.raises(ConfigError, match="at theta only"):
        Ghost(at="theta_next")


# Finite differences


@pytest.mark.parametrize("name", ["language model", "bent"])
@pytest.mark.parametrize("at", ["theta", "theta_next"])
def test_finite_differences_equal_the_exact_ghost(name, at) -> None:
    exact = Ghost(fused=False, at=at).begin(aged(world(name), 10)).step(ROWS, WEIGHTS)

    found = FiniteDifference(relative_step=1e-5, at=at).begin(aged(world(name), 10))

    assert relative_error(found.step(ROWS, WEIGHTS).d, exact.d) < DIFFERENCE


@pytest.mark.parametrize("name", ["language model", "bent"])
def test_the_error_of_differences_falls_with_the_square_of_the_step(name) -> None:
    exact = Ghost(fused=False).begin(aged(world(name), 10)).step(ROWS, WEIGHTS).d
    steps = [2.0**-k for k in range(5, 10)]

    errors = [difference_error(aged(world(name), 10), step, exact) for step in steps]

    logs = torch.tensor([steps, errors], dtype=torch.float64).log()
    slope = float(torch.cov(logs)[0, 1] / logs[0].var())
    assert slope == pytest.approx(2, abs=0.1)


def difference_error(inner: InnerLevel, step: float | None, exact: Tensor) -> float:
    found = FiniteDifference(relative_step=step).begin(inner).step(ROWS, WEIGHTS.to(exact.dtype))
    return relative_error(found.d, exact)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_calibration_finds_a_step_near_the_best_of_its_grid(dtype) -> None:
    def inner() -> InnerLevel:
        return aged(level(Bent(dtype=dtype).problem()), 10)

    exact = Ghost(fused=False).begin(inner()).step(ROWS, WEIGHTS.to(dtype)).d
    best = min(difference_error(inner(), step, exact) for step in RELATIVE_STEPS)

    # It judges by agreement with the half step, which is noisy where rounding begins to rule.
    assert difference_error(inner(), None, exact) < 5 * best


def test_parameters_are_restored_bit_for_bit_when_a_pass_fails() -> None:
    inner, twin = aged(world("bent"), 10), aged(world("bent"), 10)
    twin.step(ROWS, WEIGHTS)
    evaluate, passes = inner.problem.evaluate, []

    def failing(rows):
        passes.append(rows)
        if len(passes) == 2:
            raise MemoryError
        return evaluate(rows)

    inner.problem = replace(inner.problem, evaluate=failing)

    with pytest.raises(MemoryError):
        FiniteDifference(relative_step=0.1).begin(inner).step(ROWS, WEIGHTS)

    assert all(map(torch.equal, inner.parameters, twin.parameters))


@every_estimator
def test_one_autocast_block_around_everything_does_not_freeze_the_adapter(estimator) -> None:
    """Autocast keeps low-precision copies of the adapter, which outlive a change of it."""
    made = [(rows, weights.float()) for rows, weights in batches(4)]
    plain = estimates(estimator, aged(level(Bent(dtype=torch.float32).problem()), 10), made)
    inner = aged(level(Bent(dtype=torch.float32).problem()), 10)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = estimates(estimator, inner, made)

    # bf16 keeps three digits of a loss. The penalty's d is a small difference of two such losses,
    # and nothing at first; frozen copies would leave it at nothing for good.
    least = 0.7 if isinstance(estimator, Penalty) else 0.99
    cosines = [
        float(torch.cosine_similarity(one.d, other.d, dim=0))
        for one, other in zip(found, plain, strict=True)
        if bool((other.d != 0).any())
    ]
    assert sum(cosines) / len(cosines) > least


def test_both_passes_of_a_difference_drop_the_same_cells() -> None:
    torch.manual_seed(3)
    bent = Bent(dropout=0.4)
    inner = aged(level(bent.problem()), 10)
    start, before = inner.state(), torch.get_rng_state()
    found = FiniteDifference(relative_step=1e-5).begin(inner).step(ROWS, WEIGHTS)
    after = torch.get_rng_state()

    inner.restore(start)
    torch.set_rng_state(before)
    pulled = pull_back(inner, ROWS, WEIGHTS, at="theta", size=64)
    stepped = torch.get_rng_state()
    inner.restore(start)
    with same_randomness(1):
        slopes = forward_products(
            lambda: bent.losses(ROWS), inner.problem.linears, pulled.direction
        )

    assert relative_error(found.d, slopes / len(ROWS)) < DIFFERENCE
    assert torch.equal(after, stepped)  # the passes left the generator as it was


def test_without_dropout_train_and_eval_mode_give_the_same_differences() -> None:
    found = []
    for is_training in (True, False):
        bent = Bent(dropout=0.0)
        bent.dropout.train(is_training)
        inner = aged(level(bent.problem()), 10)
        found.append(FiniteDifference().begin(inner).step(ROWS, WEIGHTS).d)

    assert torch.equal(*found)


# Several steps


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("max_norm", [LOOSE, TIGHT])
def test_unrolled_is_autograd_through_all_steps(steps, max_norm) -> None:
    inner, made = aged(world("bent", max_grad_norm=max_norm), 5), batches(steps)
    expected, end = true_d(inner, made, clips=max_norm == TIGHT)

    (found,) = estimates(Unrolled(steps=steps), inner, made)

    assert found.rows == [row for rows, _ in made for row in rows]
    for mine, true in zip(found.d.split(4), expected, strict=True):
        assert relative_error(mine, true) < UNROLLED
    torch.testing.assert_close(parameters_of(inner), end.theta, rtol=EXACT, atol=1e-14)


def test_unrolled_is_autograd_through_two_steps_of_a_language_model() -> None:
    inner, made = aged(world("language model"), 5), [(ROWS, WEIGHTS), ([1, 5, 0, 2], WEIGHTS)]
    expected, _ = true_d(inner, made)

    (found,) = estimates(Unrolled(steps=2), inner, made)

    assert relative_error(found.d, torch.cat(expected)) < UNROLLED


def test_the_first_steps_of_a_window_are_not_those_of_one_step_alone() -> None:
    """Else the recursion could be left out, and no test above would tell."""
    made = batches(2)
    whole, _ = true_d(aged(world("bent"), 5), made)
    alone = Ghost(fused=False, at="theta_next").begin(aged(world("bent"), 5)).step(*made[0])

    assert relative_error(alone.d, whole[0]) > 0.05


def test_a_window_of_one_step_is_the_exact_ghost_after_the_step() -> None:
    exact = Ghost(fused=False, at="theta_next").begin(aged(world("bent"), 10))
    unrolled = Unrolled(steps=1).begin(aged(world("bent"), 10))

    assert torch.equal(unrolled.step(ROWS, WEIGHTS).d, exact.step(ROWS, WEIGHTS).d)


def test_windows_follow_each_other_without_overlap() -> None:
    inner, made = aged(world("bent"), 5), batches(4)
    running = Unrolled(steps=2).begin(inner)
    answers = [running.step(*each) for each in made[:2]]
    expected, _ = true_d(inner, made[2:])

    answers += [running.step(*each) for each in made[2:]]

    assert [answer is None for answer in answers] == [True, False, True, False]
    assert relative_error(answers[3].d, torch.cat(expected)) < UNROLLED


# The minimum itself: weighted ridge regression


def at_rest(ridge: Ridge, theta: Tensor, adapter: str = "") -> InnerLevel:
    """An inner level whose parameters are these and hardly move."""
    inner = level(ridge.problem(adapter), learning_rate=1e-14, weight_decay=0.0)
    with torch.no_grad():
        inner.parameters[0].copy_(theta[None])
    return inner


def test_the_closed_form_of_ridge_is_the_slope_of_its_solution_map() -> None:
    ridge, step = Ridge(), 1e-5

    def outer_at(weights: Tensor) -> float:
        return ridge.outer_loss(ridge.minimum(weights))

    slopes = [
        (outer_at(ridge.weights + step * unit) - outer_at(ridge.weights - step * unit)) / (2 * step)
        for unit in torch.eye(len(ridge.rows), dtype=torch.float64)
    ]

    assert relative_error(torch.tensor(slopes).double(), ridge.exact_d(ridge.weights)) < DIFFERENCE


@pytest.mark.parametrize(("more", "tolerance"), [(0, 1e-4), (2, 1e-9)])
def test_conjugate_gradients_with_all_directions_give_the_exact_d(more, tolerance) -> None:
    """As many iterations as dimensions are enough where nothing is rounded.

    Here the Hessian products are differences of gradients, so directions are conjugate to some
    digits only; two iterations more mend it.
    """
    ridge = Ridge()
    inner = at_rest(ridge, ridge.minimum(ridge.weights))
    running = Implicit(iterations=ridge.d + more, damping=0.0).begin(inner)

    found = running.step(ridge.rows, ridge.weights)

    assert relative_error(found.d, ridge.exact_d(ridge.weights)) < tolerance


def test_the_batches_of_a_window_count_as_one() -> None:
    ridge = Ridge()
    inner = at_rest(ridge, ridge.minimum(ridge.weights))
    running = Implicit(every=2, iterations=ridge.d + 2, damping=0.0, window=2).begin(inner)
    half = len(ridge.rows) // 2
    parts = [ridge.rows[half:], ridge.rows[:half], ridge.rows[half:]]

    found = [running.step(rows, ridge.weights[rows]) for rows in parts]

    expected = ridge.exact_d(ridge.weights)[parts[2]]
    assert relative_error(found[2].d, expected) < DIFFERENCE


def test_more_iterations_come_nearer_to_the_exact_d() -> None:
    ridge = Ridge()
    exact = ridge.exact_d(ridge.weights)

    gaps = []
    for iterations in (1, 3, 5):
        inner = at_rest(ridge, ridge.minimum(ridge.weights))
        running = Implicit(iterations=iterations, damping=0.0).begin(inner)
        gaps.append(relative_error(running.step(ridge.rows, ridge.weights).d, exact))

    assert gaps[2] < gaps[1] < gaps[0]


def unrolled_descent(ridge: Ridge, steps: int) -> Tensor:
    """d of K steps of plain gradient descent from the minimum, those of a row added up: (n,).

    AdamW with no memory of the mean, and an eps beside which the root of the square vanishes, is
    gradient descent.
    """
    huge = 1e9
    inner = at_rest(ridge, ridge.minimum(ridge.weights))
    settings = inner.optimizer.param_groups[0]
    rate = 1 / float(torch.linalg.eigvalsh(ridge.hessian(ridge.weights))[-1])
    settings |= {"lr": rate * huge, "eps": huge, "betas": (0.0, settings["betas"][1])}
    running = Unrolled(steps=steps).begin(inner)

    answers = [running.step(ridge.rows, ridge.weights) for _ in range(steps)]

    return answers[-1].d.view(steps, -1).sum(0)


def test_a_longer_unroll_turns_steadily_to_the_exact_d() -> None:
    ridge = Ridge()
    exact = ridge.exact_d(ridge.weights)

    cosines = [
        float(torch.cosine_similarity(unrolled_descent(ridge, steps), exact, dim=0))
        for steps in (1, 2, 5, 20, 100)
    ]

    assert cosines == sorted(cosines)
    assert cosines[0] < 0.99
    assert cosines[-1] > 0.999


def test_conjugate_gradients_solve_what_linear_algebra_solves() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(12, 12, generator=generator, dtype=torch.float64)
    one, right = torch.eye(12, dtype=torch.float64), torch.ones(12, dtype=torch.float64)
    matrix = root @ root.T + 0.5 * one
    shift = 0.1 * float(right @ matrix @ right) / 12

    found = conjugate_gradients(
        lambda x: matrix @ x, right, iterations=40, damping=0.1, tolerance=1e-14
    )

    expected = torch.linalg.solve(matrix + shift * one, right)
    assert relative_error(found, expected) < EXACT


def test_conjugate_gradients_end_where_the_curvature_is_not_positive() -> None:
    matrix = torch.diag(torch.tensor([1.0, 1.0, -0.5]).double())
    right = torch.tensor([1.0, 2.0, 0.1]).double()

    found = conjugate_gradients(lambda x: matrix @ x, right, iterations=10, damping=0.0)

    # The first step, down the gradient: the second direction bends the other way.
    along = float(right @ matrix @ right) / float(right @ right)
    torch.testing.assert_close(found, right / along, rtol=EXACT, atol=0)


def penalty_d(ridge: Ridge, strength: float) -> Tensor:
    """With both inner problems solved in closed form."""
    inner = at_rest(ridge, ridge.minimum(ridge.weights))
    running = Penalty(strength=strength).begin(inner)
    with torch.no_grad():
        pulled = ridge.minimum(ridge.weights, pull=1 / strength)
        running.pulled.parameters[0].copy_(pulled[None])
    return running.step(ridge.rows, ridge.weights).d


def test_the_bias_of_the_penalty_falls_like_one_over_its_strength() -> None:
    ridge = Ridge()
    exact = ridge.exact_d(ridge.weights)

    scaled = [
        strength * float((penalty_d(ridge, strength) - exact).norm())
        for strength in (10.0, 100.0, 1000.0)
    ]

    # Bounded, and settled: the next order of the bias falls with the strength again.
    assert max(scaled) < 2 * min(scaled)
    assert scaled[2] == pytest.approx(scaled[1], rel=0.1)
    assert scaled[2] / 1000 < 0.02 * float(exact.norm())


def test_two_equal_adapters_tell_nothing_even_under_dropout() -> None:
    inner = aged(level(Bent(dropout=0.4).problem()), 10)

    found = Penalty().begin(inner).step(ROWS, WEIGHTS)

    assert torch.equal(found.d, torch.zeros(4).double())


def test_both_adapters_of_the_penalty_stand_on_one_base() -> None:
    """The second step of a language model: both adapters moved, one toward validation."""
    inner = aged(level(bench(token_rows(9)).problem(), weight_decay=0.0), 10)
    start = aged(level(bench(token_rows(9)).problem(), weight_decay=0.0), 10)
    running = Penalty(strength=10.0).begin(inner)
    running.step(ROWS, WEIGHTS)
    start.step(ROWS, WEIGHTS)
    assert all(map(torch.equal, inner.parameters, start.parameters))

    found = running.step(ROWS, WEIGHTS)

    start.step(ROWS, WEIGHTS)
    torch.testing.assert_close(parameters_of(inner), parameters_of(start), rtol=0, atol=0)
    assert running.pulled.problem.outer_loss() < inner.problem.outer_loss()
    assert bool((found.d != 0).all())


# Laws for all


@every_estimator
def test_permuting_the_batch_permutes_d(estimator) -> None:
    made, order = batches(3), [2, 0, 3, 1]
    turned = [([rows[place] for place in order], weights[order]) for rows, weights in made]

    found, other = (estimates(estimator, aged(world("bent"), 10), each) for each in (made, turned))

    assert found
    for one, two in zip(found, other, strict=True):
        # The sums go in another order, which the differences of some estimators enlarge.
        torch.testing.assert_close(
            two.d.view(-1, 4), one.d.view(-1, 4)[:, order], rtol=DIFFERENCE, atol=1e-12
        )
        assert [one.rows[place] for place in order] == list(two.rows[:4])


@every_estimator
def test_the_inner_level_steps_as_it_would_without_being_watched(estimator) -> None:
    watched, plain = aged(world("bent"), 10), aged(world("bent"), 10)
    running = estimator.begin(watched)

    for rows, weights in batches(5):
        running.step(rows, weights)
        plain.step(rows, weights)

        assert all(map(torch.equal, watched.parameters, plain.parameters))


@every_estimator
def test_uniform_weights_are_plain_fine_tuning_bit_for_bit(estimator) -> None:
    inner, bent = world("bent", max_grad_norm=1.0), Bent()
    running = estimator.begin(inner)
    parameters = [linear.weight for linear in bent.network()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.05)

    for rows, _ in batches(5):
        running.step(rows, torch.ones(4, dtype=torch.float64))
        optimizer.zero_grad()
        bent.losses(rows).mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    assert all(map(torch.equal, inner.parameters, parameters))


@every_estimator
def test_a_run_goes_on_from_its_state_bit_for_bit(estimator) -> None:
    estimator = replace(estimator, validation_size=5)  # of eight, so that they are drawn
    made, cut = batches(10), 4
    inner = aged(world("bent"), 10)
    running = estimator.begin(inner)
    for each in made[:cut]:
        running.step(*each)
    kept = inner.state(), running.state()
    expected = [running.step(*each) for each in made[cut:]]

    other = world("bent")
    again = estimator.begin(other)
    other.restore(kept[0])
    again.restore(kept[1])
    found = [again.step(*each) for each in made[cut:]]

    assert any(each is not None for each in found)
    for one, two in zip(found, expected, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            assert torch.equal(one.d, two.d)
            assert one.outer_loss == two.outer_loss
            assert one.rows == two.rows
    assert all(map(torch.equal, inner.parameters, other.parameters))


@every_estimator
def test_a_training_loss_that_is_not_finite_is_skipped_and_forgotten(estimator) -> None:
    bent = Bent()
    bent.x[7] = float("nan")
    inner = aged(level(bent.problem()), 10)
    running = estimator.begin(inner)
    good = [([row for row in rows if row != 7], weights) for rows, weights in batches(6)]
    good = [(rows, weights[: len(rows)]) for rows, weights in good]
    running.step(*good[0])
    before = parameters_of(inner)

    answer = running.step([7, 2, 3], torch.ones(3).double())
    after = parameters_of(inner)

    assert answer is None
    assert all(map(torch.equal, before, after))
    assert inner.skipped == 1
    later = [each for rows in good[1:] if (each := running.step(*rows)) is not None]
    assert later
    assert all(bool(each.d.isfinite().all()) for each in later)


def test_a_skipped_batch_does_not_enter_the_linear_system() -> None:
    bent = Bent()
    bent.x[7] = float("nan")
    running = Implicit(every=1).begin(aged(level(bent.problem()), 10))
    good, bad = (ROWS, WEIGHTS), ([7, 2, 3], torch.ones(3).double())

    answers = [running.step(*each) for each in (good, bad, good)]

    assert [answer is None for answer in answers] == [False, True, False]


@every_estimator
def test_a_d_that_is_not_finite_is_no_estimate(estimator) -> None:
    """Here training goes well, and only what is read for d does not."""
    problem = Bent().problem()
    inner = aged(level(problem), 10)
    inner.problem = replace(
        problem,
        apart=lambda rows: problem.apart(rows) * math.inf,
        evaluate=lambda rows: problem.evaluate(rows) * math.nan,
    )
    running = estimator.begin(inner)

    found = [running.step(*each) for each in batches(MOST_SKIPPED)]

    assert all(each is None or bool(each.d.isfinite().all()) for each in found)
    assert isinstance(estimator, Penalty) or not any(found)  # which reads its training losses


@every_estimator
def test_an_outer_loss_that_is_not_finite_gives_no_d_and_ends_with_its_row_named(estimator) -> None:
    bent = Bent()
    inner = aged(level(bent.problem()), 10)
    running, bad = estimator.begin(inner), inner.problem.validation[1]
    bent.x[bad] = float("nan")

    answers: list[Estimate | None] = []

    def run() -> None:
        answers.extend(running.step(*each) for each in batches(6 * (MOST_SKIPPED + 1)))

    with pytest.raises(DivergenceError, match="outer level") as caught:
        run()

    assert not any(answers)
    assert caught.value.rows == (bad,)
    assert all(bool(each.isfinite().all()) for each in inner.parameters)


@every_estimator
def test_the_scale_of_the_weights_is_nobodys_business(estimator) -> None:
    """AdamW forgets the size of gradients: weights c w train the same model, and w d is as before.

    Only from a first step on, and but for eps, which is made small here. The penalty's strength
    counts in units of the weights. The outer level sees mean-one weights, for which c is one.
    """
    scale, found = 4.0, []
    for factor in (1.0, scale):
        inner = world("bent")
        inner.optimizer.param_groups[0]["eps"] = 1e-20
        knobs = estimator
        if isinstance(knobs, Penalty):
            knobs = replace(knobs, strength=knobs.strength / factor)
        made = [(rows, factor * weights) for rows, weights in batches(6)]
        running = knobs.begin(inner)
        if isinstance(estimator, Penalty):
            running.pulled.optimizer.param_groups[0]["eps"] = 1e-20
        answers = [running.step(*each) for each in made]
        found.append((parameters_of(inner), answers))

    (theta, answers), (other, scaled) = found
    torch.testing.assert_close(other, theta, rtol=1e-9, atol=0)
    # The fused ghost knows no preconditioner before the first step, nor the penalty a difference.
    later = [(one, two) for one, two in zip(answers[3:], scaled[3:], strict=True) if one]
    assert later
    for one, two in later:
        assert relative_error(scale * two.d, one.d) < DIFFERENCE


def test_under_clipping_the_scale_of_one_batch_is_forgotten_at_once() -> None:
    """Then sum_i w_i d_i = 0: Euler, for a function that does not change along w."""
    inner, twin = (aged(world("bent", max_grad_norm=TIGHT), 10) for _ in range(2))
    running, other = (Ghost(fused=False).begin(each) for each in (inner, twin))

    one, two = running.step(ROWS, WEIGHTS), other.step(ROWS, 3 * WEIGHTS)

    # Clipping adds 1e-6 to a norm of about one before it divides.
    torch.testing.assert_close(parameters_of(twin), parameters_of(inner), rtol=1e-5, atol=0)
    assert relative_error(3 * two.d, one.d) < 1e-5
    assert abs(float((WEIGHTS * one.d).sum())) < 1e-5 * float((WEIGHTS * one.d).abs().sum())


@every_estimator
def test_an_adapter_that_goes_back_to_its_start_takes_its_estimator_along(estimator) -> None:
    inner, made = aged(world("bent"), 10), batches(4)
    member = Member.begin(inner, estimator, age=0)
    first = [member.running.step(*each) for each in made]
    member.running.step(*made[0])  # and a window is open

    member.rejuvenate()
    again = [member.running.step(*each) for each in made]

    for one, two in zip(again, first, strict=True):
        assert (one is None) == (two is None)
        if one is not None:
            assert torch.equal(one.d, two.d)
