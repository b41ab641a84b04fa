from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import polars as pl
import pytest
import torch

from tests.runs import make_run, row
from trajweight.errors import ConfigError, DataError, RunError
from trajweight.manifest import PACKAGES, SCHEMA_VERSION, input_facts, manifest_facts, now
from trajweight.run import RUN_FILES, create_run, load_run, write_parquet

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", force=False)
    table = pl.DataFrame({"traj_id": ["a", "b"], "n": [1, None]})
    tensors = {"linear.weight": torch.arange(6.0).reshape(2, 3).T, "bias": torch.ones(1).bfloat16()}
    run.save_table("features", table)
    run.save_head(tensors, {"width": 3})
    run.save_report({"schema_version": SCHEMA_VERSION, "loss": float("nan")})
    run.save_config("seed = 1\n")
    run.append_trace({"step": 1})
    run.append_trace({"step": 2})
    run.save_manifest({"counts": {"read": 2}, "arguments": {"out": tmp_path}})

    loaded = load_run(tmp_path / "run")

    assert loaded.table("features").equals(table)
    found, config = loaded.head()
    assert config["width"] == 3
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert loaded.report()["loss"] is None
    assert loaded.rows("trace") == [{"step": 1}, {"step": 2}]
    assert loaded.rows("rejected") == []
    assert loaded.manifest()["arguments"] == {"out": str(tmp_path)}
    assert (tmp_path / "run" / "config.toml").read_text() == "seed = 1\n"


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    table = pl.DataFrame({"traj_id": ["a", "b", "c"], "weight": [0.5, 1.5, None]})
    pieces = pl.concat([table[:1], table[1:]], rechunk=False)

    write_parquet(tmp_path / "1.parquet", table)
    write_parquet(tmp_path / "2.parquet", pieces)

    assert pieces.n_chunks() == 2
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    metadata = pl.read_parquet_metadata(tmp_path / "1.parquet")
    assert metadata["trajweight.schema_version"] == SCHEMA_VERSION


def test_the_same_run_twice_gives_the_same_weights_file_and_head(tmp_path: Path) -> None:
    rows, weights = [row("a"), row("b")], {"a": 1.0, "b": 3.0}
    for name in ("1", "2"):
        run = make_run(tmp_path / name, rows, weights)
        run.save_head({"x": torch.ones(2), "y": torch.zeros(1)}, {})

    for name in ("weights.parquet", "head.safetensors", "head.json"):
        first, second = (tmp_path / number / "run" / name for number in ("1", "2"))
        assert first.read_bytes() == second.read_bytes()


def test_the_manifest_says_how_to_run_it_again(tmp_path: Path) -> None:
    data = tmp_path / "in.jsonl"
    data.write_bytes(b"abc")
    run = create_run(tmp_path / "run", force=False)

    run.save_manifest(
        manifest_facts(
            arguments={"steps": 3},
            seeds={"split": 1},
            inputs=[input_facts(data)],
            counts={"read": 1},
            started=now(),
            argv=["score"],
        )
    )

    told = load_run(tmp_path / "run").manifest()
    assert told["status"] == "finished"
    assert told["semantics"] == "sequence-mean"
    assert set(told["packages"]) == set(PACKAGES)
    assert told["packages"]["polars"] == pl.__version__
    assert told["inputs"][0]["sha256"].startswith("ba7816bf")
    assert told["inputs"][0]["bytes"] == 3
    assert told["started"] <= told["finished"]


def test_the_versions_are_learned_without_importing_the_packages() -> None:
    code = "import sys, trajweight.run; print(*sys.modules)"

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"torch", "transformers", "datasets", "peft"} & set(told.stdout.split())


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(ConfigError, match=r"not empty: it holds notes\.txt") as caught:
        create_run(tmp_path, force=False)

    assert caught.value.hint == "--force or another --out"


def test_force_removes_the_files_of_the_old_run_and_no_others(tmp_path: Path) -> None:
    run = create_run(tmp_path, force=False)
    for name in RUN_FILES[1:]:
        (tmp_path / name).write_text("old")
    (tmp_path / ".weights.parquet.0a1b.part").write_text("half")
    (tmp_path / "conversations").mkdir()
    (tmp_path / "conversations" / "00000-00000.parquet").write_text("old")
    (tmp_path / "conversations" / ".00000-00001.parquet.0a1b2c3d.part").write_text("half")
    (tmp_path / ".trajectories.parquet.000000000001.part").write_text("waiting")
    (tmp_path / "notes.txt").write_text("mine")
    run.save_manifest({"old": True})

    create_run(tmp_path, force=True)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.json", "notes.txt"]
    assert "old" not in load_run(tmp_path).manifest()


def test_the_trace_of_a_run_started_over_holds_its_own_steps_alone(tmp_path: Path) -> None:
    create_run(tmp_path, force=False).append_trace({"step": 1, "of": "old"})

    again = create_run(tmp_path, force=True)
    cleared = again.rows("trace")
    again.append_trace({"step": 1})
    again.append_trace({"step": 2})

    assert cleared == []
    assert load_run(tmp_path).rows("trace") == [{"step": 1}, {"step": 2}]


def test_an_input_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: cannot be read"):
        input_facts(tmp_path / "gone")


def test_force_does_not_take_a_file_that_no_run_wrote(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("mine")

    with pytest.raises(ConfigError, match=r"config\.toml, and no run of trajweight"):
        create_run(tmp_path, force=True)

    assert (tmp_path / "config.toml").read_text() == "mine"


def test_force_takes_a_folder_with_foreign_files_only(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    create_run(tmp_path, force=True)

    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_is_no_place_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")

    with pytest.raises(ConfigError, match="is a file"):
        create_run(tmp_path / "a", force=True)


def test_what_is_no_run_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"schema_version": "1.0", "tool": "dvc"}')
    (tmp_path / "empty").mkdir()

    for name, message in (
        ("gone", "no such folder"),
        ("file", "this is a file"),
        ("empty", "has no manifest"),
        ("other", "trajweight did not write"),
    ):
        with pytest.raises(RunError, match=message) as caught:
            load_run(tmp_path / name)
        assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("3.0", "reads up to 2.0"),
        ("1.0", "has the schema version 1.0; this trajweight reads 2.0"),
        ("x", "which is none"),
        (None, "which is none"),
    ],
)
def test_another_or_unknown_schema_is_refused(tmp_path: Path, version, message) -> None:
    run = create_run(tmp_path / "run", force=False)
    manifest = run.manifest() | {"schema_version": version}
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(manifest))

    with pytest.raises(RunError, match=message):
        load_run(tmp_path / "run")


def test_a_newer_minor_schema_is_read(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", force=False)
    run.save_manifest({"schema_version": "2.9"})

    assert load_run(tmp_path / "run").manifest()["schema_version"] == "2.9"


def test_a_run_that_broke_off_says_so(tmp_path: Path) -> None:
    create_run(tmp_path / "run", force=False)

    with pytest.raises(RunError, match=r"no weights\.parquet; the run did not finish"):
        load_run(tmp_path / "run").table("weights")


def test_broken_files_are_named_with_their_place(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", force=False)
    (tmp_path / "run" / "trace.jsonl").write_text('{"step": 1}\n{"ste')
    (tmp_path / "run" / "weights.parquet").write_text("no parquet")
    (tmp_path / "run" / "report.json").write_text("[]")

    with pytest.raises(RunError, match=r"trace\.jsonl:2: is not JSON"):
        run.rows("trace")
    with pytest.raises(RunError, match=r"weights\.parquet: is no Parquet file"):
        run.table("weights")
    with pytest.raises(RunError, match=r"report\.json: is not a JSON object"):
        run.report()


def test_a_head_of_another_run_is_refused(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", force=False)
    run.save_head({"x": torch.ones(1)}, {})
    config = (tmp_path / "run" / "head.json").read_bytes()
    run.save_head({"x": torch.zeros(1)}, {})
    (tmp_path / "run" / "head.json").write_bytes(config)

    with pytest.raises(RunError, match=r"does not belong to head\.json"):
        run.head()


def test_a_weight_table_that_breaks_a_law_is_not_saved(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", force=False)

    with pytest.raises(DataError):
        run.save_table("weights", pl.DataFrame({"traj_id": ["a"]}))

    assert not run.has("weights.parquet")


@pytest.mark.parametrize(
    ("name", "is_owned"),
    [
        ("", True),
        ("weights.parquet", True),
        ("conversations", True),
        ("conversations/00000-00000.parquet", True),
        ("checkpoints/3.safetensors", True),
        ("../link/report.json", True),
        ("marks.jsonl", False),
        ("../other/weights.parquet", False),
    ],
)
def test_a_run_owns_its_folder_and_what_it_keeps_and_nothing_else(
    tmp_path: Path, name: str, is_owned: bool
) -> None:
    run = create_run(tmp_path / "run", force=False)
    (tmp_path / "link").symlink_to(run.folder)

    assert run.owns(run.folder / name) is is_owned
