from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch

from tests.oracles import true_d
from tests.toy import INNER, N_SYNTHETIC, Bent, Toy
from tests.trajweight.scorers.grounds import gap, pool_on, scored, shared_ground
from trajweight.errors import ConfigError
from trajweight.estimators import Ghost
from trajweight.inner import InnerLevel
from trajweight.scorers import scorer
from trajweight.scorers.grounds import warmed
from trajweight.scorers.learning_to_reweight import reweighted
from trajweight.scorers.one_step import foreseen, visits

ROWS = list(range(4, 20))


def warm(problem, *, size: int = len(ROWS)) -> InnerLevel:
    inner = InnerLevel(problem, replace(INNER, batch_size=size), seed=0)
    for rows in islice(inner.batches(problem.synthetic, size=size), 10):
        inner.step(rows, torch.ones(len(rows)))
    return inner


def test_a_batch_weighs_itself_by_what_a_step_does_when_no_row_counts_yet() -> None:
    inner, again = warm(Bent().problem()), warm(Bent().problem())
    zeros = torch.zeros(len(ROWS), dtype=torch.float64)
    (d,), _ = true_d(inner, [(ROWS, zeros)], at="theta")

    found = reweighted(inner, ROWS, times=1, validation_size=64)

    gains = (-d).clamp_min(0)
    expected = gains / gains.sum() * len(ROWS)
    assert 0 < int((gains == 0).sum()) < len(ROWS)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    again.step(ROWS, expected)
    for one, other in zip(inner.parameters, again.parameters, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_rows_with_wrong_labels_count_less() -> None:
    toy = Toy(60)
    inner = warm(toy.problem(), size=16)

    found = reweighted(inner, toy.synthetic, times=3, validation_size=64)

    assert found[60:].mean() > 2 * found[:60].mean()
    assert bool((found >= 0).all())
    assert found.mean() == pytest.approx(1.0, abs=0.1)
    assert len(found) == N_SYNTHETIC


@pytest.mark.parametrize(("n", "size"), [(20, 8), (5, 8), (16, 16), (7, 2)])
def test_every_row_is_visited_as_often_as_was_asked(n, size) -> None:
    inner = warm(Bent().problem(), size=size)
    rows = list(range(4, 4 + n))

    drawn = [row for batch in visits(inner, rows, 3) for row in batch]

    assert all(drawn.count(row) >= 3 for row in rows)
    assert len(drawn) < 3 * n + size


def test_where_no_row_helps_it_says_so() -> None:
    ground = shared_ground()
    with warmed(pool_on(ground), "") as begun:
        running = Ghost(fused=False, validation_size=64).begin(begun.inner)
        rows = ground.material.synthetic
        seen = foreseen(begun.inner, running, rows, torch.zeros(len(rows)))
    assert seen is not None
    harmful = [row for row, slope in zip(rows, seen.d.tolist(), strict=True) if slope > 0]
    material = replace(ground.material, synthetic=harmful)

    with pytest.raises(ConfigError, match="a step on none of the rows lowers"):
        scorer("learning-to-reweight").score(pool_on(replace(ground, material=material)))


def test_a_step_that_is_only_foreseen_leaves_all_but_the_stream_of_batches() -> None:
    inner = warm(Bent().problem())
    before = inner.state()

    found = foreseen(inner, Ghost(fused=False).begin(inner), ROWS, torch.ones(len(ROWS)))

    assert found is not None
    after = inner.state()
    assert all(map(torch.equal, after["parameters"], before["parameters"]))
    for one, other in zip(
        after["optimizer"]["state"].values(), before["optimizer"]["state"].values(), strict=True
    ):
        assert all(
            torch.equal(one[name], other[name]) for name in ("step", "exp_avg", "exp_avg_sq")
        )


def test_weights_are_the_scores() -> None:
    found = scored("learning-to-reweight")

    assert found.weights is not None
    assert found.weights.tolist() == found.scores.tolist()
    assert gap(found.weights) > 0.8
