from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from trajweight.config import DataConfig, InnerConfig, ModelConfig, OuterConfig, RunConfig
from trajweight.errors import ConfigError, DataError, DivergenceError, RunError
from trajweight.job import ingest
from trajweight.pipeline import curate, score_with
from trajweight.progress import Progress
from trajweight.run import load_run

SAMPLE = Path(__file__).parents[2] / "sample_data"
QUICK: dict[str, Any] = {
    "model": ModelConfig(model="tiny"),
    "inner": InnerConfig(real_steps=3, warmup_steps=2),
    "outer": OuterConfig(max_steps=4, min_steps=4, contest_steps=1),
}


def lines(name: str, *, every: int = 1) -> list[dict]:
    text = (SAMPLE / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()[::every]]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    real = write(tmp_path / "real.jsonl", lines("real"))
    synthetic = write(tmp_path / "synthetic.jsonl", lines("synthetic", every=5))
    return DataConfig(paths=(real, synthetic))


def run(data: DataConfig, out: Path, **changes):
    config = replace(RunConfig(data=data, **QUICK), **changes)
    return curate(config, out, force=False, progress=Progress())


def learned(found) -> pl.DataFrame:
    return found.table("weights").filter(
        (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    )


def test_the_same_seed_gives_the_same_bytes(data, tmp_path) -> None:
    first, again = (run(data, tmp_path / name) for name in ("first", "again"))
    other = run(data, tmp_path / "other", seed=1)

    def written(found) -> bytes:
        return found.path_of("weights.parquet").read_bytes()

    assert written(first) == written(again)
    assert written(first) != written(other)


def test_the_true_quality_is_never_read(data, tmp_path) -> None:
    before = run(data, tmp_path / "before")
    for path in data.paths:
        rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
        qualities = [row["quality"] for row in rows]
        random.Random(0).shuffle(qualities)
        write(Path(path), [row | {"quality": q} for row, q in zip(rows, qualities, strict=True)])

    after = run(data, tmp_path / "after")

    assert before.table("weights").equals(after.table("weights"))
    assert not before.trajectories("extra_json").equals(after.trajectories("extra_json"))


def test_the_table_of_weights_keeps_its_laws(data, tmp_path) -> None:
    found = run(data, tmp_path / "run")
    table, counts = found.table("weights"), found.manifest()["counts"]

    assert table.height == counts["kept"] == counts["read"] - counts["rejected"]
    assert learned(found)["weight"].mean() == pytest.approx(1, abs=1e-6)
    assert table.filter(pl.col("split") != "train")["weight"].null_count() == (
        table.filter(pl.col("split") != "train").height
    )
    real = table.filter((pl.col("split") == "train") & (pl.col("origin") == "real"))
    assert real["weight"].unique().to_list() == [1.0]


def test_real_rows_keep_the_share_they_are_given(data, tmp_path) -> None:
    found = run(replace(data, real_share=0.5), tmp_path / "run")
    train = found.table("weights").filter(pl.col("split") == "train")

    mass = train.group_by("origin").agg(pl.col("weight").sum())

    assert mass["weight"][0] == pytest.approx(mass["weight"][1])


def test_real_rows_get_the_share_that_trainings_find(data, tmp_path) -> None:
    plain = run(data, tmp_path / "plain")
    found = run(replace(data, real_share="auto"), tmp_path / "run")
    report = found.report()
    told = report["learning"]["real_share"]
    train = found.table("weights").filter(pl.col("split") == "train")
    mass = dict(train.group_by("origin").agg(pl.col("weight").sum()).iter_rows())

    assert learned(found)["weight"].equals(learned(plain)["weight"])
    assert mass["real"] / (mass["real"] + mass["synthetic"]) == pytest.approx(told["share"])
    assert report["weights"]["real_train"]["weight"] == pytest.approx(told["weight"])
    assert {row["share"] for row in told["tried"]} >= {told["before"], told["share"], 1.0}
    assert "real share" in {one["about"] for one in report["story"]}
    assert found.manifest()["seconds"]["share of real rows"] > 0


def test_without_real_training_rows_there_is_no_share_to_find(data, tmp_path) -> None:
    [real, synthetic] = data.paths
    held_out = DataConfig(paths=(synthetic,), validation_paths=(real,), real_share="auto")
    found = run(held_out, tmp_path / "run")

    assert "there is no share of theirs to find" in " ".join(found.manifest()["warnings"])
    assert "real_share" not in found.report()["learning"]


def test_a_share_is_not_looked_for_where_nothing_is_learned(data, tmp_path) -> None:
    few = replace(data, real_share="auto", limit=12)
    found = run(few, tmp_path / "run")

    warned = " ".join(found.manifest()["warnings"])
    assert "no share of real rows was looked for, since nothing was learned" in warned


def test_trainings_that_diverge_cost_no_weights(data, tmp_path, monkeypatch) -> None:
    def failing(*args, **more):
        message = "losses are not finite"
        raise DivergenceError(message)

    monkeypatch.setattr("trajweight.pipeline.choose_real_share", failing)
    found = run(replace(data, real_share="auto"), tmp_path / "run")

    assert found.report()["weights"]["real_train"]["weight"] == 1.0
    assert "no share of real rows was found" in " ".join(found.manifest()["warnings"])


def test_a_trained_head_finds_no_share(data, tmp_path) -> None:
    trained = run(data, tmp_path / "trained")
    config = RunConfig(data=replace(data, real_share="auto"), **QUICK)

    with pytest.raises(ConfigError, match="a trained head is only applied"):
        score_with(trained, config, tmp_path / "out", force=False, progress=Progress())


def test_no_task_of_real_rows_stands_in_two_splits(data, tmp_path) -> None:
    table = run(data, tmp_path / "run").table("weights")
    held = table.filter((pl.col("origin") == "real") & (pl.col("split") != "excluded"))

    per_task = held.group_by("task_id").agg(pl.col("split").n_unique())

    assert per_task["split"].max() == 1


def rewrite_head(found, **changes: str) -> None:
    """Change what a trained head says of itself; whether it won is chance with so few steps."""
    path = found.folder / "head.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_head_that_lost_to_uniform_gives_uniform_weights(data, tmp_path) -> None:
    trained = run(data, tmp_path / "trained")
    rewrite_head(trained, selected="uniform")
    config = RunConfig(data=DataConfig(paths=data.paths[1:]), **QUICK)

    applied = score_with(trained, config, tmp_path / "applied", force=False, progress=Progress())

    assert learned(applied)["weight"].unique().to_list() == [1.0]
    assert "did no better than uniform" in applied.manifest()["warnings"][0]


def test_a_trained_head_scores_its_own_rows_as_in_training(data, tmp_path) -> None:
    trained = run(data, tmp_path / "trained")
    rewrite_head(trained, selected="head")
    config = RunConfig(data=DataConfig(paths=data.paths[1:]), **QUICK)

    applied = score_with(trained, config, tmp_path / "applied", force=False, progress=Progress())

    both = learned(trained).join(learned(applied), on="traj_id", suffix="_again")
    assert both.height == learned(trained).height
    # The rows lie in other forests, so sums run in another order.
    assert (both["score"] - both["score_again"]).abs().max() < 1e-3
    assert learned(applied)["weight"].mean() == pytest.approx(1, abs=1e-6)


def test_a_head_is_not_applied_with_another_model(data, tmp_path) -> None:
    trained = run(data, tmp_path / "trained")
    rewrite_head(trained, selected="head", model_fingerprint="tiny-1")

    with pytest.raises(RunError, match="fingerprint tiny-1"):
        score_with(
            trained,
            RunConfig(data=data, **QUICK),
            tmp_path / "applied",
            force=False,
            progress=Progress(),
        )


def test_copies_of_held_out_rows_get_no_weight_from_a_trained_head(data, tmp_path) -> None:
    trained = run(data, tmp_path / "trained")
    held = trained.table("weights").filter(pl.col("split") == "validation")["traj_id"][0]
    leaked = [row | {"origin": "synthetic"} for row in lines("real") if row["id"] == held]
    mixed = write(tmp_path / "mixed.jsonl", [*leaked, *lines("synthetic", every=20)])

    applied = score_with(
        trained,
        RunConfig(data=DataConfig(paths=(mixed,)), **QUICK),
        tmp_path / "applied",
        force=False,
        progress=Progress(),
    )

    gone = {row["traj_id"]: row["reason"] for row in applied.rows("excluded")}
    assert gone[held] == f"exact copy of validation row {held}, which the trained run held out"


def test_few_validation_rows_give_uniform_weights_and_a_warning(tmp_path) -> None:
    paths = (
        write(tmp_path / "real.jsonl", lines("real")[:12]),
        write(tmp_path / "synthetic.jsonl", lines("synthetic", every=10)),
    )

    found = run(DataConfig(paths=paths), tmp_path / "run")

    assert learned(found)["weight"].unique().to_list() == [1.0]
    assert "12 real validation trajectories are too few" in found.manifest()["warnings"][0]
    assert not found.has("head.safetensors")


def test_force_learns_from_few_validation_rows(tmp_path) -> None:
    paths = (
        write(tmp_path / "real.jsonl", lines("real")[:12]),
        write(tmp_path / "synthetic.jsonl", lines("synthetic", every=10)),
    )

    found = run(DataConfig(paths=paths, force=True), tmp_path / "run")

    assert found.has("head.safetensors")


def test_rows_of_a_validation_file_are_real_and_held_out(tmp_path) -> None:
    bare = [{"messages": row["messages"], "task_id": row["task_id"]} for row in lines("real")]
    held = write(tmp_path / "held.jsonl", bare)
    data = DataConfig(
        paths=(write(tmp_path / "synthetic.jsonl", lines("synthetic", every=5)),),
        validation_paths=(held,),
    )

    table = run(data, tmp_path / "run").table("weights").filter(pl.col("origin") == "real")

    assert table.height == len(bare)
    assert set(table["split"]) <= {"validation", "dev", "test"}


def test_only_real_rows_leave_nothing_to_weigh_but_what_was_read_stays(tmp_path) -> None:
    data = DataConfig(paths=(write(tmp_path / "real.jsonl", lines("real")),))

    with pytest.raises(DataError, match="no synthetic trajectory to weigh"):
        run(data, tmp_path / "run")

    found = load_run(tmp_path / "run")
    assert found.table("trajectories").height == len(lines("real"))
    assert found.manifest()["status"] == "failed"
    assert found.manifest()["counts"]["kept"] == len(lines("real"))


def test_ingest_writes_every_row_and_counts_them(data, tmp_path) -> None:
    with Path(data.paths[0]).open("a", encoding="utf-8") as stream:
        stream.write('{"messages": [{"role": "agent", "content": "hi"}]}\n')

    found = ingest(data, tmp_path / "in", force=False, progress=Progress())

    counts = found.manifest()["counts"]
    assert counts["rejected"] == len(found.rows("rejected")) == 1
    assert counts["kept"] == found.table("trajectories").height == counts["read"] - 1


def test_a_missing_input_leaves_an_old_run_untouched(data, tmp_path) -> None:
    old = ingest(data, tmp_path / "run", force=False, progress=Progress())
    before = old.manifest()

    with pytest.raises(DataError, match="no such file"):
        ingest(
            DataConfig(paths=("absent.jsonl",)), tmp_path / "run", force=True, progress=Progress()
        )

    assert old.manifest() == before


def test_inputs_inside_the_run_folder_are_refused(data, tmp_path) -> None:
    with pytest.raises(ConfigError, match="lies in the run folder"):
        ingest(data, tmp_path, force=True, progress=Progress())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_learns_too_at_full_depth(data, tmp_path) -> None:
    found = run(data, tmp_path / "run", model=ModelConfig(model="tiny", device="cuda"))

    assert found.report()["learning"]["trunk_layers"] == 0
    assert learned(found)["weight"].mean() == pytest.approx(1, abs=1e-6)
