from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runs import make_run, row
from trajweight.analysis.provenance import input_changes, provenance
from trajweight.config import RunConfig
from trajweight.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run


def run_in(folder: Path, config: str, *, learning: dict | None = None, **manifest: object) -> Run:
    run = make_run(folder, [row("s0"), row("s1", text="other")], {"s0": 1.0, "s1": 3.0})
    run.save_config(config)
    run.save_manifest(manifest)
    if learning is not None:
        run.save_report({"schema_version": "2.0", "learning": learning})
    return run


def file(path: str, digest: str) -> dict[str, object]:
    return {"path": path, "bytes": 1, "sha256": digest}


def told(a: list[dict[str, object]], b: list[dict[str, object]]) -> list[tuple]:
    return [(each.path, each.sha256_a, each.sha256_b) for each in input_changes(a, b)]


def test_settings_are_told_by_full_name_with_both_values(tmp_path: Path) -> None:
    a = run_in(tmp_path / "a", RunConfig().to_toml())
    other = RunConfig(seed=7).to_toml().replace('head = "mlp"', 'head = "linear"')
    b = run_in(tmp_path / "b", other + '\n[new]\nthing = [1, "x"]\n')

    found = provenance(a, b)

    assert [(each.name, each.a, each.b) for each in found.settings] == [
        ("seed", 0, 7),
        ("outer.head", "mlp", "linear"),
        ("new.thing", None, [1, "x"]),
    ]
    assert not found.is_empty


def test_versions_model_and_objective_are_told_where_they_differ(tmp_path: Path) -> None:
    a = run_in(tmp_path / "a", "", model="one", objective="imitate", device="cpu")
    b = run_in(tmp_path / "b", "", model="two", objective="success", device="cpu")
    b.save_manifest({"model": "two", "packages": {**a.manifest()["packages"], "torch": "9.9"}})

    found = {each.name: (each.a, each.b) for each in provenance(a, b).made_with}

    torch = a.manifest()["packages"]["torch"]
    assert found["model"] == ("one", "two")
    assert found["objective"] == ("imitate", None)
    assert found["torch"] == (torch, "9.9")
    assert set(found) == {"model", "objective", "device", "torch"}


def test_what_the_learning_ended_with_is_no_cause(tmp_path: Path) -> None:
    a = run_in(tmp_path / "a", "", learning={"selected": "head", "temperature": 1.0})
    b = run_in(tmp_path / "b", "", learning={"selected": "uniform", "temperature": 1.0})

    found = provenance(a, b)

    assert [(each.name, each.a, each.b) for each in found.learned] == [
        ("selected", "head", "uniform")
    ]
    assert found.is_empty


def test_a_file_is_known_by_its_content() -> None:
    a = [file("x", "1"), file("y", "2"), file("z", "3")]
    b = [file("moved", "1"), file("y", "9"), file("new", "4")]

    assert told(a, b) == [("y", "2", "9"), ("z", "3", None), ("new", None, "4")]
    assert not told(a, a[::-1])


def test_of_two_files_with_one_content_that_of_the_same_name_stays() -> None:
    assert told([file("x", "1"), file("y", "1")], [file("y", "1")]) == [("x", "1", None)]


def test_settings_that_are_no_toml_are_refused_with_their_path(tmp_path: Path) -> None:
    a, b = run_in(tmp_path / "a", "seed = 0"), run_in(tmp_path / "b", "seed = = 0")

    with pytest.raises(RunError, match=r"config\.toml: is not TOML"):
        provenance(a, b)
