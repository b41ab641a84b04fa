from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import trajweight
from tests.commands import call
from tests.runs import make_run, row
from trajweight.analysis.report import build_report

if TYPE_CHECKING:
    from trajweight.run import Run


#: Of a run in whose rows nothing is odd.
COUNTS: dict[str, Any] = {
    "read": 3,
    "kept": 2,
    "rejected": 1,
    "problems": {},
    "repaired": {},
    "non_finite": 0,
    "duplicates": {"exact": 0, "exact_by_source": [], "near": None, "removed": 0},
}


@dataclass
class Library:
    """Stands for the pipeline: remembers how it was called and gives back a finished run."""

    run: Run
    called: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    def _work(self, name: str, args: tuple[Any, ...], more: dict[str, Any]) -> Run:
        self.called.append((name, args, more))
        more["progress"].start("reading", 2)
        more["progress"].say("two rows")
        more["progress"].warn("only two rows")
        more["progress"].finish()
        return self.run

    def module(self) -> SimpleNamespace:
        return SimpleNamespace(
            ingest=lambda *args, **more: self._work("ingest", args, more),
            curate=lambda *args, **more: self._work("curate", args, more),
            score_with=lambda *args, **more: self._work("score_with", args, more),
        )


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    names = ["s0", "s1"]
    rows = [row(name, text=f"reply {name}") for name in names]
    run = make_run(tmp_path / "made", rows, {"s0": 1.0, "s1": 3.0})
    run.save_report(build_report(run, {"selected": "head", "outer_steps": 3}))
    run.save_manifest({"counts": COUNTS})
    library = Library(run)
    stand_in = library.module()
    for name in ("job", "pipeline"):
        monkeypatch.setitem(sys.modules, f"trajweight.{name}", stand_in)
        monkeypatch.setattr(trajweight, name, stand_in, raising=False)
    monkeypatch.chdir(tmp_path)
    return library


def test_score_without_a_run_learns_and_prints_the_report(library: Library) -> None:
    said = call("score", "a.jsonl", "b.jsonl", "--out", "here", "--max-steps", 3, "--seed", 5)

    [(name, (config, out), more)] = library.called
    assert said.code == 0
    assert (name, out) == ("curate", Path("here"))
    assert config.data.paths == ("a.jsonl", "b.jsonl")
    assert (config.outer.max_steps, config.seed) == (3, 5)
    assert not more["force"]
    assert more["argv"][:3] == ("trajweight", "score", "a.jsonl")
    assert said.out.startswith("Weights were learned")
    assert said.out.splitlines()[-1] == f"Run: {library.run.folder}"


def test_progress_and_the_next_step_are_on_stderr(library: Library) -> None:
    said = call("score", "a.jsonl")

    for text in ("reading (2) ...", "two rows", "warning: only two rows", "export-weights"):
        assert text in said.err
        assert text not in said.out


def test_quiet_keeps_the_report_and_the_warnings(library: Library) -> None:
    said = call("score", "a.jsonl", "--quiet")

    assert said.out.startswith("Weights were learned")
    assert said.err == "warning: only two rows\n"


def test_json_is_one_object_with_the_report(library: Library) -> None:
    found = call("score", "a.jsonl", "--val", "v.jsonl", "--json").object

    assert found["command"] == "score"
    assert found["inputs"] == ["a.jsonl", "v.jsonl"]
    assert found["outputs"] == {"run": str(library.run.folder)}
    assert found["report"] == library.run.report()
    assert found["metrics"]["ess"] == pytest.approx(1.6)
    assert found["warnings"] == ["only two rows", *library.run.report()["warnings"]]
    assert found["notes"][0] == "two rows"


def test_score_with_a_run_applies_its_head(library: Library) -> None:
    said = call("score", "a.jsonl", "--run", library.run.folder, "--out", "new", "--force")

    [(name, (trained, config, out), more)] = library.called
    assert said.code == 0
    assert (name, out, trained) == ("score_with", Path("new"), library.run)
    assert config.data.paths == ("a.jsonl",)
    assert more["force"]


@pytest.mark.parametrize(
    "args",
    [
        ("--model", "tiny"),
        ("--max-tokens", 9),
        ("--adapter-layers", 1),
        ("--vocabulary", "full"),
        ("--batch-size", 2),
        ("--max-steps", 2),
        ("--ess-penalty", 0.1),
        ("--objective", "successful"),
        ("--prior", "rwr"),
    ],
)
def test_flags_that_a_trained_run_decides_are_refused(
    library: Library, args: tuple[str, object]
) -> None:
    said = call("score", "a.jsonl", "--run", library.run.folder, *args)

    assert said.code == 2
    assert args[0] in said.err
    assert not library.called


def test_the_same_settings_from_the_environment_are_no_error(library: Library) -> None:
    env = {"TRAJWEIGHT_MODEL": "tiny"}

    assert call("score", "a.jsonl", "--run", library.run.folder, env=env).code == 0


def test_a_run_to_apply_that_is_none_is_an_input_error(library: Library) -> None:
    said = call("score", "a.jsonl", "--run", "none")

    assert said.code == 3
    assert not library.called


def test_a_new_run_has_a_name_of_its_own(library: Library) -> None:
    call("score", "x/chats.jsonl")

    [(_, (_, out), _)] = library.called
    assert out.parts[0] == "runs"
    assert out.name.endswith("Z-chats")


def test_train_bilevel_prints_a_summary_and_the_path(library: Library) -> None:
    said = call("train-bilevel", "a.jsonl", "--out", "here")

    assert [name for name, _, _ in library.called] == ["curate"]
    assert said.out.splitlines() == [
        library.run.report()["headline"],
        f"Run: {library.run.folder}",
    ]
    assert "score NEW.jsonl --run" in said.err
    for text in library.run.report()["warnings"]:
        assert f"warning: {text}" in said.err


def test_train_bilevel_prints_json(library: Library) -> None:
    found = call("train-bilevel", "a.jsonl", "--json").object

    assert found["command"] == "train-bilevel"
    assert found["metrics"]["outer_steps"] == 3


def test_ingest_prints_counts_that_add_up_and_the_path(library: Library) -> None:
    said = call("ingest", "a.jsonl", "--out", "here", "--real", "x")

    [(name, (data, out), _)] = library.called
    assert (name, out, data.real_sources) == ("ingest", Path("here"), ("x",))
    assert said.out.splitlines() == [
        "3 rows read = 2 kept + 1 rejected",
        f"Rejected rows, with line and reason: {library.run.folder / 'rejected.jsonl'}",
        f"Run: {library.run.folder}",
    ]


def test_ingest_prints_json(library: Library) -> None:
    found = call("ingest", "a.jsonl", "--json").object

    assert found["metrics"] == COUNTS
