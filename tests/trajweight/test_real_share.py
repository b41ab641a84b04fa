from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.toy import INNER, N_REAL, N_SYNTHETIC, N_VALIDATION, Toy, material_of
from trajweight.config import RetrainConfig, RunConfig
from trajweight.errors import DivergenceError
from trajweight.features import adapter_tensors
from trajweight.progress import Progress
from trajweight.real_share import SHARES, Choice, Tried, best_of, choose_real_share
from trajweight.retraining import on_real_rows_alone, train_whole
from trajweight.verdict import task_means

CONFIG = RunConfig(inner=INNER, retrain=RetrainConfig(epochs=6.0, learning_rate=0.02))
VALIDATION = list(range(N_REAL + N_SYNTHETIC, N_REAL + N_SYNTHETIC + N_VALIDATION))
UNIFORM = torch.ones(N_SYNTHETIC)


def chosen(
    n_bad: int,
    *,
    dev: list[int] | None = None,
    real_weight: float = 1.0,
    progress: Progress | None = None,
) -> Choice:
    toy = Toy(n_bad=n_bad)
    problem = replace(toy.problem(), real_weight=real_weight)
    return choose_real_share(
        problem,
        UNIFORM,
        material_of(toy, n_tasks=8, dev=dev or []),
        CONFIG,
        untrained=adapter_tensors(problem.linears),
        progress=progress or Progress(),
    )


def test_the_worse_the_synthetic_rows_the_more_real_ones_count() -> None:
    good, half, bad = (chosen(n_bad) for n_bad in (0, N_SYNTHETIC // 2, N_SYNTHETIC))

    assert good.share <= half.share <= bad.share
    assert good.share < bad.share
    assert bad.share == max(SHARES)
    assert bad.is_better_alone
    assert not good.is_better_alone


@pytest.mark.parametrize("n_bad", [0, N_SYNTHETIC // 2, N_SYNTHETIC])
def test_the_weight_gives_real_rows_the_share_that_is_told(n_bad: int) -> None:
    found = chosen(n_bad)
    mass = N_REAL * found.weight

    assert mass / (mass + N_SYNTHETIC) == pytest.approx(found.share)
    assert found.share == best_of(found.before, found.others).share


def test_every_share_is_a_training_of_its_own_from_the_start() -> None:
    """The trainings made by hand, in another order and each on a toy of its own."""
    found = chosen(N_SYNTHETIC // 2)

    def by_hand(share: float) -> Tensor:
        toy = Toy(n_bad=N_SYNTHETIC // 2)
        problem, config = toy.problem(), CONFIG
        if share < 1:
            weight = share * N_SYNTHETIC / ((1 - share) * N_REAL)
            problem = replace(problem, real_weight=weight)
        else:
            problem, config = on_real_rows_alone(problem, config)
        untrained = adapter_tensors(problem.linears)
        train_whole(problem, UNIFORM, config, untrained=untrained, progress=Progress())
        losses = problem.evaluate(VALIDATION)
        return task_means(losses, VALIDATION, material_of(toy, n_tasks=8))

    for tried in reversed([found.before, *found.others, found.alone]):
        torch.testing.assert_close(tried.by_task, by_hand(tried.share), atol=1e-5, rtol=1e-5)


def test_a_share_that_is_nearly_tried_is_not_tried_again() -> None:
    half = N_SYNTHETIC / N_REAL
    found = chosen(0, real_weight=half)

    assert found.before.share == pytest.approx(0.5)
    assert [tried.share for tried in found.others] == [0.25, 0.75, 0.9]


def test_dev_rows_choose_where_there_are_any() -> None:
    dev = VALIDATION[:8]
    with_dev, without = chosen(0, dev=dev), chosen(0)

    assert (with_dev.has_dev, without.has_dev) == (True, False)
    assert with_dev.as_facts()["judged_by"] == "dev"
    assert with_dev.before.by_task.tolist() != without.before.by_task.tolist()


def test_a_gain_within_its_own_error_changes_nothing() -> None:
    before = Tried(0.1, torch.tensor([1.0, 1.0, 1.0, 1.0]))
    noisy = Tried(0.5, torch.tensor([0.0, 0.9, 1.2, 1.1]))
    clear = Tried(0.9, torch.tensor([0.9, 0.95, 0.92, 0.9]))

    assert best_of(before, []) is before
    assert best_of(before, [noisy]) is before
    assert best_of(before, [noisy, clear]) is clear


def test_a_single_task_never_tells() -> None:
    before, better = Tried(0.1, torch.tensor([1.0])), Tried(0.5, torch.tensor([0.5]))

    assert best_of(before, [better]) is before
    assert not better.beats(before)


@pytest.mark.parametrize("place", [0, 1])
def test_a_training_that_failed_is_passed_over_wherever_it_stands(place: int) -> None:
    before = Tried(0.1, torch.tensor([1.0, 1.0, 1.1]))
    others = [Tried(0.75, torch.tensor([0.5, 0.6, 0.5]))]
    others.insert(place, Tried(0.5, None))

    assert best_of(before, others).share == 0.75


def test_real_rows_alone_are_better_only_where_they_beat_every_share() -> None:
    """Half does better than they do, though too unevenly to be taken."""
    before = Tried(0.1, torch.tensor([1.0, 1.0, 1.0, 1.0]))
    half = Tried(0.5, torch.tensor([0.3, 1.1, 0.9, 1.1]))
    alone = Tried(1.0, torch.tensor([0.95, 0.94, 0.96, 0.95]))
    found = Choice(0.1, 1.0, True, 5, before, [half], alone)

    assert best_of(before, [half]) is before
    assert alone.beats(before)
    assert not found.is_better_alone
    assert replace(found, others=[]).is_better_alone


class Diverging(Progress):
    """Breaks the trainings of some stages."""

    def __init__(self, *stages: str) -> None:
        self.stages = stages

    def start(self, stage: str, total: int | None = None) -> None:
        if stage in self.stages:
            message = "losses are not finite"
            raise DivergenceError(message)


def test_a_share_that_diverges_costs_itself_only() -> None:
    whole = chosen(N_SYNTHETIC)
    found = chosen(N_SYNTHETIC, progress=Diverging("real rows at 90%", "real rows alone"))

    assert whole.share == 0.9
    assert found.share == 0.75
    assert not found.is_better_alone
    rows = {row["share"]: row for row in found.as_facts()["tried"]}
    assert rows[0.9] == {"share": 0.9, "loss": None, "gain": None, "gain_se": None}
    assert rows[1.0]["loss"] is None
    with pytest.raises(DivergenceError):
        chosen(N_SYNTHETIC, progress=Diverging("real rows at 7%"))


def test_what_is_told_names_every_training_and_its_gain() -> None:
    found = chosen(N_SYNTHETIC // 2)
    facts = found.as_facts()

    assert [row["share"] for row in facts["tried"]] == sorted(
        [found.before.share, *(tried.share for tried in found.others), 1.0]
    )
    for row in facts["tried"]:
        saved = float(found.before.by_task.mean()) - row["loss"]
        assert row["gain"] == pytest.approx(saved, abs=1e-6)
    assert facts["share"] == found.share
    assert facts["before"] == pytest.approx(N_REAL / (N_REAL + N_SYNTHETIC))
