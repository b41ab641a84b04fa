from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.runs import make_run, row
from trajweight import job as module
from trajweight import leakage
from trajweight.config import DataConfig, ReturnsConfig, RunConfig
from trajweight.errors import DataError
from trajweight.interruption import Interrupted
from trajweight.job import Job
from trajweight.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

SYSTEM = "you are a careful player and you say one legal move at a time and nothing else"


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return str(path)


def begun(tmp_path: Path, rows: list[dict[str, Any]], *, force: bool = False) -> Job:
    data = DataConfig(paths=(written(tmp_path / "new" / "new.jsonl", rows),), force=force)
    return Job.begin(
        RunConfig(data=data), tmp_path / "out", force=False, progress=Progress(), argv=()
    )


def trained_on(tmp_path: Path, held: list[dict[str, Any]], *, n: int = 3) -> Run:
    """A run over ``n`` synthetic rows that held out the given real ones for validation."""
    taught = [row(f"s{i}", text=f"{SYSTEM} {i} {i + 1} {i + 2} {i + 3} {i + 4}") for i in range(n)]
    splits = {one["id"]: "validation" for one in held}
    weights = {one["id"]: 1.0 for one in taught}
    return make_run(tmp_path / "trained", taught + held, weights, splits=splits)


def excluded_from(tmp_path: Path, trained: Run, rows: list[dict[str, Any]]) -> dict[str, str]:
    job = begun(tmp_path, rows)
    job.read()
    job.split_against(trained)
    found = {one["traj_id"]: one["reason"] for one in job.run.rows("excluded")}
    assert job.count("excluded", "real") + job.count("excluded", "synthetic") == len(found)
    assert job.count("train", "synthetic") > 0
    return found


def test_an_exact_copy_of_boilerplate_alone_is_a_copy(tmp_path: Path) -> None:
    trained = trained_on(tmp_path, [row("r", source="real", text=SYSTEM)], n=25)
    new = [row("copy", text=SYSTEM), row("other", text="quite another thing to say here")]

    found = excluded_from(tmp_path, trained, new)

    assert found == {"copy": "exact copy of validation row r, which the trained run held out"}


def test_a_row_of_a_held_out_group_is_excluded_be_it_real_or_not(tmp_path: Path) -> None:
    trained = trained_on(tmp_path, [row("r", source="real", text="one two", group_id="g")])
    new = [
        row("a", text="nothing alike at all", group_id="g"),
        row("b", source="real", text="nor is this one here", group_id="g"),
        row("c", text="free to be weighed by it", group_id="h"),
    ]

    found = excluded_from(tmp_path, trained, new)

    said = "shares group with validation row r, which the trained run held out"
    assert found == {"a": said, "b": said}


def test_what_was_made_from_a_held_out_row_is_excluded_over_generations(tmp_path: Path) -> None:
    trained = trained_on(tmp_path, [row("r", source="real", text="one two")])
    new = [
        row("child", text="nothing alike at all", parent_id="r"),
        row("grandchild", text="nor is this one here", parent_id="child"),
        row("free", text="of a group that has only the name", group_id="r"),
    ]

    found = excluded_from(tmp_path, trained, new)

    said = "made from validation row r, which the trained run held out"
    assert found == {"child": said, "grandchild": said}


def test_a_new_row_with_the_id_of_a_held_out_row_is_judged_by_what_it_says(tmp_path: Path) -> None:
    held = [row("a", source="real", text="one two"), row("b", source="real", text="three four")]
    trained = trained_on(tmp_path, held)
    new = [row("a", text="three four"), row("b", text="something that nobody said before")]

    found = excluded_from(tmp_path, trained, new)

    assert found == {"a": "exact copy of validation row b, which the trained run held out"}


def test_near_copies_are_named_with_their_likeness(tmp_path: Path) -> None:
    text = " ".join(f"word{i}" for i in range(60))
    trained = trained_on(tmp_path, [row("r", source="real", text=text)])

    found = excluded_from(tmp_path, trained, [row("n", text=f"{text} more"), row("o", text="new")])

    assert found["n"].startswith("near copy of validation row r (similarity 0.9")
    assert found["n"].endswith(", which the trained run held out")
    assert list(found) == ["n"]


def test_how_near_copies_are_searched_among_many_rows_is_told(tmp_path: Path, monkeypatch) -> None:
    trained = trained_on(tmp_path, [row("r", source="real", text="one two")])
    monkeypatch.setattr(leakage, "MOST_PAIRS", 0)
    job = begun(tmp_path, [row("a", text="one three"), row("b", text="two")])
    job.read()

    job.split_against(trained)

    (told,) = [note for note in job.notes if "MinHash" in note]
    assert told.startswith("near copies of 1 held-out rows among 2 training rows: found by")


def test_copies_are_rejected_when_asked_and_problems_counted(tmp_path: Path) -> None:
    rows = [row("a", text="one"), row("b", text="one"), row("c", text="<s>two")]
    data = DataConfig(paths=(written(tmp_path / "new" / "new.jsonl", rows),), dedup="exact")

    run = module.ingest(data, tmp_path / "out", force=False, progress=Progress())

    counts = run.manifest()["counts"]
    assert (counts["read"], counts["kept"], counts["rejected"]) == (3, 2, 1)
    assert counts["problems"] == {"control-tokens": 1}
    assert counts["duplicates"]["removed"] == 1
    assert run.rows("rejected")[0]["reason"].startswith("exact copy of row a at ")


def test_what_the_trained_run_trained_on_may_be_weighed_again(tmp_path: Path) -> None:
    trained = trained_on(tmp_path, [row("r", source="real", text="one two")])
    again = [
        json.loads(line)
        for line in (tmp_path / "trained/data.jsonl").read_text().split("\n")
        if '"s' in line[:9]
    ]

    assert excluded_from(tmp_path, trained, again) == {}


def broken(*args: Any, **kwargs: Any) -> Any:
    msg = "the report fell over"
    raise ValueError(msg)


def weighed(tmp_path: Path) -> Job:
    job = begun(tmp_path, [row("a", text="one"), row("b", text="two"), {"messages": 3}])
    job.read()
    job.split()
    job.weigh_without_head("for a test", ReturnsConfig(), floor=0.02)
    return job


def test_a_report_that_fails_makes_the_job_fail_with_its_counts(tmp_path, monkeypatch) -> None:
    job = weighed(tmp_path)
    monkeypatch.setattr("trajweight.analysis.report.build_report", broken)

    with pytest.raises(ValueError, match="fell over"), job.accounted():
        pass

    told = job.run.manifest()
    assert told["status"] == "failed"
    assert told["counts"].items() >= {"read": 3, "kept": 2, "rejected": 1, "train": 2}.items()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DataError("no"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (Interrupted(15), "interrupted"),
    ],
)
def test_the_users_own_error_is_the_one_that_is_told(tmp_path, monkeypatch, error, status) -> None:
    job = weighed(tmp_path)
    monkeypatch.setattr("trajweight.analysis.report.build_report", broken)

    with pytest.raises(type(error)), job.accounted():
        raise error

    assert job.run.manifest()["status"] == status
    assert job.run.manifest()["counts"]["kept"] == 2
    assert not job.run.has("report.json")


def test_not_even_a_manifest_that_fails_hides_the_first_error(tmp_path, monkeypatch) -> None:
    job = weighed(tmp_path)
    monkeypatch.setattr(module, "manifest_facts", broken)

    first = DataError("the first error")
    with pytest.raises(DataError, match="first") as caught, job.accounted():
        raise first

    assert caught.value.__notes__ == ["nor could the manifest be written: the report fell over"]


def test_the_manifest_names_the_inputs_as_they_were_when_the_job_began(tmp_path: Path) -> None:
    path = tmp_path / "new" / "new.jsonl"
    job = weighed(tmp_path)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()

    with job.accounted():
        path.unlink()

    assert job.run.manifest()["status"] == "finished"
    assert job.run.manifest()["inputs"][0]["sha256"] == expected


def test_rows_that_do_not_add_up_fail_the_job(tmp_path: Path) -> None:
    job = weighed(tmp_path)

    with (
        pytest.raises(RuntimeError, match="3 rows were read, but 1 are kept and 1"),
        job.accounted(),
    ):
        job.table = job.table.head(1)

    assert job.run.manifest()["status"] == "failed"
    assert job.run.manifest()["counts"]["rejected"] == 1


def test_the_manifest_says_what_was_computed_on(tmp_path: Path) -> None:
    job = weighed(tmp_path)
    job.facts |= {"device": "cpu", "model": "tiny"}

    with job.accounted():
        pass

    told = job.run.manifest()
    assert (told["device"], told["dtype"], told["model"]) == ("cpu", None, "tiny")


@pytest.mark.parametrize("n", [1, 19])
def test_learning_from_few_rows_by_force_is_a_warning_once(tmp_path: Path, n: int) -> None:
    real = [row(f"r{i}", source="real", text=f"move {i}", task_id=f"t{i}") for i in range(n)]
    job = begun(tmp_path, [row("s", text="two"), *real], force=True)
    job.read()
    job.split()

    assert job.too_few_validation_rows() == job.too_few_validation_rows() == ""

    assert job.warnings == [
        f"{n} real validation trajectories are few (20 is the least that is advised); weights are "
        "learned because of --force"
    ]


def test_enough_rows_are_no_warning_even_with_force(tmp_path: Path) -> None:
    real = [row(f"r{i}", source="real", text=f"move {i}", task_id=f"t{i}") for i in range(20)]
    job = begun(tmp_path, [row("s", text="two"), *real], force=True)
    job.read()
    job.split()

    assert job.too_few_validation_rows() == ""
    assert not job.warnings
