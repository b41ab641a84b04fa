from __future__ import annotations

import copy

import numpy as np
import torch

from tests.oracles import inner_product
from tests.toy import INNER, Bent
from tests.trajweight.scorers.grounds import pool_on, scored, shared_ground
from trajweight.inner import InnerLevel
from trajweight.scorers.grounds import warmed
from trajweight.scorers.less import adam_steps, agreement, task_gradients


def slow_cosine(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    lengths = inner_product(one, one).sqrt() * inner_product(other, other).sqrt()
    return float(inner_product(one, other) / lengths)


def test_scores_are_the_best_cosine_of_real_adam_steps_with_task_gradients() -> None:
    ground = shared_ground()

    found = scored("less").scores

    with warmed(pool_on(ground), "less") as warm:
        inner, problem = warm.inner, warm.inner.problem
        tasks: dict[str, list[int]] = {}
        for row in problem.validation:
            tasks.setdefault(ground.material.tasks[row], []).append(row)
        targets = [
            list(torch.autograd.grad(problem.apart(rows).mean(), inner.parameters))
            for rows in tasks.values()
        ]
        start, expected = inner.state(), []
        for row in problem.synthetic:
            inner.restore(start)
            gradients = torch.autograd.grad(problem.apart([row])[0], inner.parameters)
            for parameter, gradient in zip(inner.parameters, gradients, strict=True):
                parameter.grad = gradient
            inner.optimizer.step()
            pairs = zip(start["parameters"], inner.parameters, strict=True)
            step = [before - after.detach() for before, after in pairs]
            expected.append(max(slow_cosine(step, target) for target in targets))
    assert len(targets) == 6
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_steps_are_those_of_torch_and_nothing_moves() -> None:
    inner = InnerLevel(Bent().problem(), INNER, seed=0)
    for _ in range(3):
        inner.step(list(range(8)), torch.ones(8, dtype=torch.float64))
    _, gradients = inner.gradient([9], torch.ones(1, dtype=torch.float64))
    gradients = [each.clone() for each in gradients]
    state = copy.deepcopy(inner.state())

    found = adam_steps(inner.optimizer, gradients)

    assert all(map(torch.equal, state["parameters"], inner.state()["parameters"]))
    for parameter, gradient in zip(inner.parameters, gradients, strict=True):
        parameter.grad = gradient
    inner.optimizer.step()
    for before, after, step in zip(state["parameters"], inner.parameters, found, strict=True):
        torch.testing.assert_close(before - INNER.learning_rate * step, after.detach())


def test_before_any_step_the_moments_are_zero() -> None:
    inner = InnerLevel(Bent().problem(), INNER, seed=0)
    gradients = [torch.full_like(each, -0.5) for each in inner.parameters]

    found = adam_steps(inner.optimizer, gradients)

    assert all(bool((step + 1).abs().max() < 1e-6) for step in found)


def test_a_row_counts_by_the_task_that_it_helps_most() -> None:
    inner = InnerLevel(Bent().problem(), INNER, seed=0)
    inner.step(list(range(8)), torch.ones(8, dtype=torch.float64))
    targets = task_gradients(inner, [f"task {place % 3}" for place in range(8)])

    together = agreement(inner, range(4, 12), targets)

    by_task = [agreement(inner, range(4, 12), target[None]) for target in targets]
    torch.testing.assert_close(together, torch.stack(by_task).amax(0))
    torch.testing.assert_close(targets.norm(dim=1), torch.ones(3, dtype=torch.float64))
