from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.commands import QUICK, Said, babble, call, write_rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real and synthetic rows, enough to learn from, and settings that take a second."""
    folder = tmp_path_factory.mktemp("files")
    write_rows(folder / "real.jsonl", (babble(f"r{i}", source="real") for i in range(40)))
    sources = ("good", "bad")
    rows = [babble(f"s{i}", source=sources[i % 2], own=i) for i in range(10)]
    write_rows(folder / "synthetic.jsonl", rows)
    (folder / "quick.toml").write_text(QUICK)
    return folder


@pytest.fixture(scope="module")
def scored(files: Path) -> tuple[Path, Said]:
    """A run learned from the files, and what was said while it was."""
    out = files / "run"
    said = score(files, files / "real.jsonl", files / "synthetic.jsonl", "--out", out)
    assert said.code == 0, said.err
    return out, said


def score(files: Path, *args: object) -> Said:
    return call("score", *args, "--config", files / "quick.toml")


def manifest(run: Path) -> dict[str, Any]:
    found = json.loads((run / "manifest.json").read_text())
    assert isinstance(found, dict)
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_score_tells_what_it_found_and_leaves_a_finished_run(scored: tuple[Path, Said]) -> None:
    run, said = scored

    assert "50 rows read = 50 kept + 0 rejected" in said.out
    assert said.out.splitlines()[-1] == f"Run: {run}"
    assert manifest(run)["status"] == "finished"
    assert manifest(run)["argv"][:2] == ["trajweight", "score"]
    assert pl.read_parquet(run / "weights.parquet").height == 50


@pytest.mark.slow
def test_report_shows_again_what_score_printed(scored: tuple[Path, Said]) -> None:
    run, said = scored

    assert said.out == f"{call('report', run).out}\nRun: {run}\n"


@pytest.mark.slow
def test_export_gives_every_synthetic_row_back_with_its_weight(
    scored: tuple[Path, Said], tmp_path: Path
) -> None:
    run, _ = scored

    call("export-weights", run, "--out", tmp_path / "train.jsonl", "--origin", "synthetic")

    rows = {row["id"]: row for row in lines(tmp_path / "train.jsonl")}
    assert set(rows) == {f"s{i}" for i in range(10)}
    assert sum(row["weight"] for row in rows.values()) == pytest.approx(10)
    original = {key: value for key, value in rows["s3"].items() if key != "weight"}
    assert original == babble("s3", source="bad", own=3)


@pytest.mark.slow
def test_a_trained_head_weighs_new_rows(scored: tuple[Path, Said], tmp_path: Path) -> None:
    run, _ = scored
    new = write_rows(tmp_path / "new.jsonl", (babble(f"n{i}") for i in range(4)))

    said = call("score", new, "--run", run, "--out", tmp_path / "again", "--json")

    assert said.code == 0, said.out
    assert said.object["report"]["learning"]["mode"] == "applied"
    weights = pl.read_parquet(tmp_path / "again" / "weights.parquet")["weight"]
    assert len(weights) == 4
    assert weights.mean() == pytest.approx(1)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(
    files: Path, scored: tuple[Path, Said], tmp_path: Path
) -> None:
    run, _ = scored

    score(files, files / "real.jsonl", files / "synthetic.jsonl", "--out", tmp_path / "run")

    again = (tmp_path / "run" / "weights.parquet").read_bytes()
    assert again == (run / "weights.parquet").read_bytes()


@pytest.mark.slow
def test_a_run_is_written_over_only_with_force(scored: tuple[Path, Said], files: Path) -> None:
    run, _ = scored
    before = (run / "manifest.json").read_bytes()

    said = score(files, files / "real.jsonl", "--out", run)

    assert said.code == 2
    assert "--force" in said.err
    assert (run / "manifest.json").read_bytes() == before
