"""Laws of ensembles: who judges in each member, and which rows may not train beside them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.toy import INNER, Toy
from tests.trajweight.test_pipeline import QUICK, learned, lines, rewrite_head, write
from trajweight.config import DataConfig, OuterConfig, ReturnsConfig, RunConfig
from trajweight.folding import FEW_REAL_ROWS, folding_of, refolded, resampled_tasks
from trajweight.inner import InnerLevel
from trajweight.job import Job
from trajweight.material import Material
from trajweight.pipeline import curate, score_with
from trajweight.preparing import material_of, tokenise
from trajweight.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

N_SYNTHETIC = 6


def material(
    sizes: list[int],
    n_held: int,
    *,
    failing: frozenset[int] = frozenset(),
    related: dict[int, frozenset[int]] | None = None,
    real_weight: float = 1.0,
) -> Material:
    """Tasks of these sizes, of which the first ``n_held`` judge; then dev, test, synthetic rows.

    Rows in ``failing`` do not count in the outer loss. Dev and test are of a task of one row each.
    """
    tasks = [f"t{place}" for place, size in enumerate(sizes) for _ in range(size)]
    n, m = len(tasks), sum(sizes[:n_held])
    return Material(
        encoded=[],
        n_turns=[],
        tasks=[*tasks, "dev", "test", *["t0"] * N_SYNTHETIC],
        sources=[],
        real=list(range(m, n)),
        synthetic=list(range(n + 2, n + 2 + N_SYNTHETIC)),
        validation=[row for row in range(m) if row not in failing],
        dev=[n],
        real_weight=real_weight,
        within=[float(row not in failing) for row in range(n + 2)] + [0.0] * N_SYNTHETIC,
        objective="",
        prior=None,
        related=related or {},
    )


@st.composite
def materials(draw: st.DrawFn) -> Material:
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=12))
    n_held = draw(st.integers(1, len(sizes) - 1))
    n = sum(sizes)
    # The first row of every task succeeds, so that each can judge.
    firsts = {sum(sizes[:place]) for place in range(len(sizes))}
    failing = draw(st.frozensets(st.integers(0, n - 1))) - firsts
    links = draw(
        st.dictionaries(st.integers(0, n + 1 + N_SYNTHETIC), st.frozensets(st.integers(0, n + 1)))
    )
    return material(sizes, n_held, failing=failing, related=links)


def tasks_of(found: Material, rows: list[int]) -> set[str]:
    return {found.tasks[row] for row in rows}


@given(materials(), st.integers(0, 9))
def test_a_task_judges_whole_or_trains_whole(whole, seed) -> None:
    found = refolded(whole, seed=seed)

    judging = tasks_of(found, found.validation)
    assert not judging & tasks_of(found, found.real)
    of_them = [row for row in [*whole.real, *whole.validation] if whole.tasks[row] in judging]
    assert found.validation == sorted(row for row in of_them if whole.within[row])


@given(materials(), st.integers(0, 9))
def test_real_rows_only_change_places_and_all_other_rows_stay(whole, seed) -> None:
    found = refolded(whole, seed=seed)

    pool = {*whole.real, *whole.validation}
    assert {*found.real, *found.validation} <= pool
    assert not {*found.real} & {*found.validation}
    assert (found.dev, found.synthetic) == (whole.dev, whole.synthetic)
    assert len(set(found.validation)) == len(found.validation) > 0


@given(materials(), st.integers(0, 9))
def test_as_many_rows_judge_as_before_but_for_less_than_a_task(whole, seed) -> None:
    found = refolded(whole, seed=seed)

    counted = [row for row in [*whole.real, *whole.validation] if whole.within[row]]
    sizes = [sum(whole.tasks[row] == task for row in counted) for task in set(whole.tasks)]
    assert abs(len(found.validation) - len(whole.validation)) < max(sizes)
    assert tasks_of(found, found.validation) < tasks_of(whole, counted)


@settings(max_examples=200)
@given(materials(), st.integers(0, 9))
def test_a_row_is_left_out_exactly_where_a_real_row_it_belongs_with_does_not_train(
    whole, seed
) -> None:
    found = refolded(whole, seed=seed)

    judging = tasks_of(found, found.validation)
    pool = [row for row in [*whole.real, *whole.validation] if whole.tasks[row] not in judging]
    open_tasks = {whole.tasks[row] for row in pool}  # neither dev nor test nor judging here

    def may_train(row: int) -> bool:
        return all(whole.tasks[other] in open_tasks for other in whole.related.get(row, ()))

    assert found.real == [row for row in sorted(pool) if may_train(row)]
    assert found.left_out == {row for row in whole.synthetic if not may_train(row)}


def test_the_seed_alone_decides_who_judges() -> None:
    whole = material([3] * 10, 4)

    folds = [tuple(refolded(whole, seed=seed).validation) for seed in range(20)]

    assert folds == [tuple(refolded(whole, seed=seed).validation) for seed in range(20)]
    assert len(set(folds)) > 15
    assert {row for fold in folds for row in fold} == set(range(30))


def test_real_rows_keep_their_share_of_the_mass_in_every_member() -> None:
    copies = {row: frozenset({14}) for row in (20, 21)}
    whole = material([3] * 6, 2, related=copies, real_weight=2.5)

    for seed in range(6):
        found = refolded(whole, seed=seed, real_share=0.4)

        mass = found.real_weight * len(found.real)
        assert mass / (mass + N_SYNTHETIC - len(found.left_out)) == pytest.approx(0.4)
        assert refolded(whole, seed=seed).real_weight == 2.5


def config_with(**data: Any) -> RunConfig:
    return RunConfig(data=DataConfig(**data))


@pytest.mark.parametrize(
    ("whole", "config", "kind", "why"),
    [
        (material([1] * 199, 90), config_with(), "cross-fitted", "199 real .* fewer than 200"),
        (material([1] * 200, 90), config_with(), "resampled", "200 real .* 200 or more"),
        (material([1] * 9, 9), config_with(), "resampled", "no real training row"),
        (
            material([1] * 9, 5),
            config_with(validation_paths=("held.jsonl",)),
            "resampled",
            "validation files",
        ),
    ],
)
def test_few_real_rows_are_cross_fitted_where_they_may_change_places(
    whole, config, kind, why
) -> None:
    found = folding_of(whole, config)

    assert FEW_REAL_ROWS == 200
    assert found.is_crossfitted == (kind == "cross-fitted")
    assert re.match(f"{kind} ensemble: .*{why}", str(found))


def test_tasks_drawn_again_keep_shares_that_sum_to_one() -> None:
    whole = material([1, 2, 3, 4, 5], 4)

    share = resampled_tasks(whole, 3)

    assert float(share.sum()) == pytest.approx(1)
    per_task = {
        task: float(
            sum(
                s
                for s, row in zip(share, whole.validation, strict=True)
                if whole.tasks[row] == task
            )
        )
        for task in tasks_of(whole, whole.validation)
    }
    assert all((4 * mass) == pytest.approx(round(4 * mass)) for mass in per_task.values())


def test_rows_left_out_are_never_drawn_and_keep_their_place_among_the_weights() -> None:
    toy = Toy(n_bad=0)
    left_out = frozenset(toy.synthetic[::3])
    problem = replace(toy.problem(), left_out=left_out)
    inner = InnerLevel(problem, INNER, seed=0)

    drawn = [row for _ in range(40) for row in inner.next_batch(problem.training, size=16)]

    assert problem.synthetic == toy.synthetic
    assert set(drawn) == {*problem.real, *toy.synthetic} - left_out


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Few real rows; synthetic rows of which some copy a real one."""
    folder = tmp_path_factory.mktemp("data")
    real = lines("real")
    copies = [row | {"id": f"copy-{row['id']}", "origin": "synthetic"} for row in real[::4]]
    synthetic = [*lines("synthetic", every=8), *copies]
    return DataConfig(
        paths=(write(folder / "real.jsonl", real), write(folder / "synthetic.jsonl", synthetic))
    )


CONFIG = RunConfig(**{**QUICK, "outer": OuterConfig(max_steps=4, min_steps=4, contest_steps=1)})


def ensemble_of(data: DataConfig, heads: int, **changes: Any) -> RunConfig:
    return replace(CONFIG, data=data, outer=replace(CONFIG.outer, ensemble=heads), **changes)


def material_in(folder: Path, config: RunConfig) -> tuple[Material, pl.DataFrame]:
    """The material of a run with these settings, and its rows in the same order."""
    job = Job.begin(config, folder, force=False, progress=Progress(), argv=())
    job.read()
    job.split()
    _, encoded = tokenise(job)
    found = material_of(job, encoded, config.returns, floor=config.outer.w_min)
    texts = job.run.trajectories("messages_json").select("traj_id", "messages_json")
    rows = job.table.join(texts, on="traj_id", maintain_order="left")
    return found, rows.filter(pl.col("traj_id").is_in(list(encoded)))


class Drawn:
    """What was drawn under each set of rows that judge."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: dict[tuple[int, ...], set[int]] = {}
        self.left_out: dict[tuple[int, ...], frozenset[int]] = {}
        original = InnerLevel.next_batch

        def watched(inner: InnerLevel, rows, *, size: int) -> list[int]:
            batch = original(inner, rows, size=size)
            judging = tuple(inner.problem.validation)
            self.batches.setdefault(judging, set()).update(batch)
            self.left_out[judging] = inner.problem.left_out
            return batch

        monkeypatch.setattr(InnerLevel, "next_batch", watched)


@pytest.fixture(scope="module")
def trained(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Drawn]:
    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        drawn = Drawn(patch)
        found = curate(ensemble_of(data, 3), out, force=False, progress=Progress())
    return found, drawn


@pytest.mark.slow
def test_no_member_trains_on_what_judges_it_or_on_a_copy_of_that(data, trained, tmp_path) -> None:
    _, drawn = trained
    whole, rows = material_in(tmp_path / "again", ensemble_of(data, 3))
    texts = [
        tuple((message["role"], message["content"]) for message in json.loads(text))
        for text in rows["messages_json"]
    ]

    assert next(iter(drawn.batches)) == tuple(whole.validation)
    assert len(drawn.batches) == 3
    held_elsewhere = {*whole.dev}
    for judging, batch in drawn.batches.items():
        assert not batch & {*judging, *drawn.left_out[judging], *held_elsewhere}
        assert not {whole.tasks[r] for r in batch - {*whole.synthetic}} & {
            whole.tasks[r] for r in judging
        }
        assert not {texts[row] for row in batch} & {texts[row] for row in judging}
    assert sum(len(each) for each in drawn.left_out.values()) > 0


def test_a_row_that_comes_to_judge_counts_as_if_it_had_been_held_out(data, tmp_path) -> None:
    real = [row | {"reward": float(place % 2)} for place, row in enumerate(lines("real"))]
    paths = (write(tmp_path / "real.jsonl", real), data.paths[1])
    returns = ReturnsConfig(objective="successful", success_threshold=0.5)

    whole, rows = material_in(
        tmp_path / "run", ensemble_of(DataConfig(paths=paths), 3, returns=returns)
    )

    succeeded = [(reward or 0.0) >= 0.5 for reward in rows["reward"]]
    assert {*(succeeded[row] for row in whole.real)} == {True, False}
    for seed in range(1, 4):
        found = refolded(whole, seed=seed)
        assert all(succeeded[row] for row in found.validation)
        assert {*found.validation} & {*whole.real}


@pytest.mark.slow
def test_a_cross_fitted_ensemble_tells_its_range_and_how_well_it_agrees(trained) -> None:
    found, _ = trained
    table = found.table("ensemble")
    learning = found.report()["learning"]

    assert table.columns == ["traj_id", "weight", "weight_low", "weight_high", "weights"]
    assert set(table["weights"].list.len()) == {3}
    assert set(table["traj_id"]) == set(learned(found)["traj_id"])
    apart = torch.tensor(table["weights"].to_list())
    torch.testing.assert_close(apart.mean(0), torch.ones(3))
    assert (table["weight_low"] <= table["weight_high"]).all()
    assert learning["ensemble_kind"] == "cross-fitted"
    assert -1 <= learning["reliability"] <= 1


@pytest.mark.slow
def test_a_cross_fitted_ensemble_scores_rows_as_in_training(data, trained, tmp_path) -> None:
    found, _ = trained
    rewrite_head(found, selected="head")
    config = RunConfig(data=DataConfig(paths=data.paths[1:]), **QUICK)

    applied = score_with(found, config, tmp_path / "applied", force=False, progress=Progress())

    both = learned(found).join(learned(applied), on="traj_id", suffix="_again")
    assert both.height == learned(found).height
    # The rows lie in other forests, so sums run in another order.
    assert (both["score"] - both["score_again"]).abs().max() < 1e-3
    pairs = found.table("ensemble").join(applied.table("ensemble"), on="traj_id", suffix="_again")
    one, two = (torch.tensor(pairs[name].to_list()) for name in ("weights", "weights_again"))
    assert torch.allclose(one / one.mean(0), two / two.mean(0), atol=1e-3)


@pytest.mark.slow
def test_each_member_has_a_real_adapter_of_its_own(trained) -> None:
    found, _ = trained
    tensors, config = found.head()

    assert config["adapter_of"] == [0, 1, 2]
    firsts = [tensors[f"adapter.{place}.0001"] for place in range(3)]
    assert not any(torch.equal(firsts[i], firsts[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.slow
def test_the_first_member_is_the_head_of_a_run_without_an_ensemble(data, trained, tmp_path) -> None:
    alone = curate(ensemble_of(data, 1), tmp_path / "run", force=False, progress=Progress())
    whole, _ = trained[0].head()
    single, config = alone.head()

    assert "ensemble_kind" not in alone.report()["learning"]
    assert config["adapter_of"] == [0]
    for name, tensor in single.items():
        if not name.endswith("temperature"):
            assert torch.equal(tensor, whole[name]), name
