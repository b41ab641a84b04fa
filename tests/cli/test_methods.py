"""Weights by other methods than learning, from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.commands import QUICK, call, write_rows
from tests.learned import dialogue
from trajweight.scorers import names, scorer
from trajweight.scorers.scorer import weights_of

if TYPE_CHECKING:
    from pathlib import Path


def rows(*, n_real: int = 45) -> list[dict[str, Any]]:
    real = [dialogue(f"r{i}", source="real", turns=1 + i % 3, reward=1.0) for i in range(n_real)]
    made = [
        dialogue(f"s{i}", source=("good", "bad")[i % 2], turns=1 + i % 4, reward=float(i % 5))
        | {"task_id": f"synthetic-{i % 3}"}
        for i in range(14)
    ]
    return [*real, *made]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "data.jsonl", rows())


def weights(run: Path) -> pl.DataFrame:
    table = pl.read_parquet(run / "weights.parquet")
    return table.filter((pl.col("split") == "train") & (pl.col("origin") == "synthetic"))


@pytest.mark.parametrize("method", ["uniform", "shorter", "longer", "dsir", "text-knn", "rwr"])
def test_a_method_that_reads_rows_alone_loads_no_model(
    data: Path, tmp_path: Path, method: str
) -> None:
    run = tmp_path / "run"
    said = call("score", data, "--method", method, "--out", run, "--json")

    assert said.code == 0, said.err
    told = json.loads(said.out)
    found = weights(run)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["model"] is None
    assert manifest["kind"] == "scored"
    assert found.height == 14
    assert found["weight"].mean() == pytest.approx(1.0)
    assert told["report"]["learning"]["method"] == method
    assert method in told["report"]["headline"]


def test_shorter_rows_weigh_more_by_the_method_of_that_name(data: Path, tmp_path: Path) -> None:
    call("score", data, "--method", "shorter", "--out", tmp_path / "run")

    found = weights(tmp_path / "run")
    least, most = found["n_turns"].min(), found["n_turns"].max()
    shortest = found.filter(pl.col("n_turns") == least)["weight"].mean()
    longest = found.filter(pl.col("n_turns") == most)["weight"].mean()
    assert shortest > 1 > longest


def test_the_target_of_the_effective_sample_size_holds(data: Path, tmp_path: Path) -> None:
    call("score", data, "--method", "longer", "--target-ess", "0.8", "--out", tmp_path / "run")

    w = weights(tmp_path / "run")["weight"].to_numpy()
    assert w.sum() ** 2 / (w**2).sum() / len(w) == pytest.approx(0.8, abs=1e-3)


def test_methods_are_listed_with_what_they_need() -> None:
    said = call("score", "--method", "list", "--json")

    assert said.code == 0
    told = json.loads(said.out)
    assert list(told["methods"]) == names()
    assert all(each["sentence"] for each in told["methods"].values())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--method", "dsirr"), "dsir"),
        (("--method", "dsir", "--estimator", "ghost"), "--estimator"),
        (("--method", "dsir", "--model", "tiny"), "--model"),
        (("--method", "base-nll-low", "--max-steps", "3"), "--max-steps"),
    ],
)
def test_what_says_nothing_to_a_method_is_refused(
    data: Path, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    said = call("score", data, *options, "--out", tmp_path / "run")

    assert said.code == 2
    assert named in said.err
    assert not (tmp_path / "run").exists()


def test_a_method_of_the_model_weighs_by_its_losses(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = call("score", data, "--method", "base-nll-low", "--model", "tiny", "--out", run)

    assert said.code == 0, said.err
    assert json.loads((run / "manifest.json").read_text())["model"] == "tiny"
    assert weights(run)["n_tokens"].null_count() == 0
    assert weights(run)["weight"].n_unique() > 1


def test_all_methods_stand_beside_the_learned_weights(data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text(QUICK)
    run = tmp_path / "run"
    said = call("score", data, "--config", settings, "--method", "compare", "--out", run, "--json")

    assert said.code == 0, said.err
    found = json.loads(said.out)["report"]["learning"]
    told = {row["method"]: row for row in found["methods"]}
    table = pl.read_parquet(run / "methods.parquet")
    assert set(told) == {"learned", *names()}
    assert [row["is_chosen"] for row in found["methods"]].count(True) == 1
    judged = [name for name, row in told.items() if row.get("loss") is not None]
    assert set(table.columns) == {"traj_id", *judged}
    assert all(table[name].mean() == pytest.approx(1.0, abs=1e-5) for name in judged)
    assert all("why_not" in told[name] for name in set(told) - set(judged))
    assert told["uniform"]["gain"] == 0
    losses = [row["loss"] for row in found["methods"] if row.get("loss") is not None]
    assert losses == sorted(losses)


def test_scores_of_the_table_are_those_of_the_scorer(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("score", data, "--method", "dsir", "--out", run)

    from trajweight.config import RunConfig
    from trajweight.rivals import pool_of
    from trajweight.run import load_run

    found = load_run(run)
    rows = found.trajectories("messages_json", "tools_json").drop("split", strict=False)
    splits = found.table("weights").select("traj_id", "split")
    rows = rows.join(splits, on="traj_id", maintain_order="left")

    class Known:
        config = RunConfig()

        def with_texts(self, *_: str) -> pl.DataFrame:
            return rows

    scored = scorer("dsir").score(pool_of(Known()))  # type: ignore[arg-type]
    target = RunConfig().outer.target_ess
    assert weights(run)["score"].to_list() == pytest.approx(scored.scores.tolist())
    assert weights(run)["weight"].to_list() == pytest.approx(
        weights_of(scored, target_ess=target).tolist()
    )


@pytest.fixture
def won_by_a_rival(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of compare in which dev is made to choose ``shorter``."""
    from trajweight import rivals

    monkeypatch.setattr(rivals, "_chosen", lambda *_: "shorter")
    settings = tmp_path / "settings.toml"
    settings.write_text(QUICK)
    options = ("--config", settings, "--method", "compare", "--retrain")
    said = call("score", data, *options, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    return tmp_path / "run"


def test_what_a_rival_won_is_reported_explained_exported_and_not_learned_from(
    won_by_a_rival: Path, data: Path, tmp_path: Path
) -> None:
    run = won_by_a_rival
    methods = pl.read_parquet(run / "methods.parquet")
    told = json.loads(call("report", run, "--json").out)["report"]
    why = json.loads(call("explain", run, methods["traj_id"][0], "--json").out)
    applied = call("score", data, "--run", run, "--out", tmp_path / "applied")
    sent = call("export-weights", run, "--out", tmp_path / "train.jsonl")
    same = call("diff", run, run, "--json")

    assert weights(run)["weight"].to_list() == pytest.approx(methods["shorter"].to_list())
    assert told["learning"]["selected"] == "method"
    assert "shorter" in told["headline"]
    assert "shorter" in json.dumps(why)
    assert "no better than shorter" in applied.err
    assert weights(tmp_path / "applied")["weight"].to_list() == [1.0] * 14
    assert sent.code == same.code == 0
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert sum("weight" in row for row in rows) == len(rows) > 14


def test_a_run_by_a_method_is_explained_without_a_head(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    call("score", data, "--method", "dsir", "--out", run)
    why = call("explain", run, weights(run)["traj_id"][0])

    assert why.code == 0, why.err
    assert "dsir" in why.out
    assert call("report", run, "--out", tmp_path / "page.html").code == 0
    assert call("score", data, "--run", run, "--out", tmp_path / "applied").code == 3


def test_one_rival_that_fails_costs_itself_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trajweight.errors import DivergenceError
    from trajweight.scorers.dsir import Dsir

    def fails(*_: object) -> None:
        message = "left the finite numbers"
        raise DivergenceError(message, rows=[0])

    monkeypatch.setattr(Dsir, "score", fails)
    settings = tmp_path / "settings.toml"
    settings.write_text(QUICK)
    options = ("--config", settings, "--method", "compare", "--out", tmp_path / "run", "--json")
    said = call("score", data, *options)

    assert said.code == 0, said.err
    rows = json.loads(said.out)["report"]["learning"]["methods"]
    told = {row["method"]: row for row in rows}
    first = pl.read_parquet(tmp_path / "run" / "trajectories.parquet")["traj_id"][0]
    assert told["dsir"]["why_not"] == f"left the finite numbers; trajectories: {first}"
    assert told["shorter"]["loss"] > 0


@pytest.mark.parametrize(("method", "names"), [("dimp", "; trajectories: "), ("dsir", "")])
def test_a_training_that_diverges_names_the_trajectories(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, names: str
) -> None:
    from trajweight.errors import DivergenceError
    from trajweight.scorers import scorer

    def fails(*_: object) -> None:
        message = "left the finite numbers"
        raise DivergenceError(message, rows=[0, 1])

    monkeypatch.setattr(type(scorer(method)), "score", fails)
    settings = tmp_path / "settings.toml"
    settings.write_text(QUICK)
    run = tmp_path / "run"
    said = call("score", data, "--config", settings, "--method", method, "--out", run)

    assert said.code == 1
    ids = pl.read_parquet(run / "trajectories.parquet")["traj_id"].to_list()
    told = said.err.partition("left the finite numbers")[2].splitlines()[0]
    assert told == (names and names + ", ".join(ids[:2]))


@pytest.mark.parametrize("training", ["learn_weights", "compare", "retrain"])
def test_every_training_of_a_run_names_the_trajectories_too(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: str
) -> None:
    from trajweight import pipeline
    from trajweight.errors import DivergenceError

    def fails(*_: object, **__: object) -> None:
        message = "left the finite numbers"
        raise DivergenceError(message, rows=[1])

    monkeypatch.setattr(pipeline, training, fails)
    settings = tmp_path / "settings.toml"
    settings.write_text(QUICK)
    run = tmp_path / "run"
    options = ("--method", "compare") if training == "compare" else ("--retrain",)
    said = call("score", data, "--config", settings, *options, "--out", run)

    assert said.code == 1
    second = pl.read_parquet(run / "trajectories.parquet")["traj_id"][1]
    assert f"left the finite numbers; trajectories: {second}\n" in said.err


def test_train_bilevel_learns_or_says_that_it_was_told_not_to(data: Path, tmp_path: Path) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text('method = "dsir"\n' + QUICK)
    said = call("train-bilevel", data, "--config", settings, "--out", tmp_path / "run")

    assert said.code == 2
    assert "score --method dsir" in said.err
