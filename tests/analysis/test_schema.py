from __future__ import annotations

import copy
import json
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from tests.analysis.test_report import HEAD, a_run
from tests.commands import call
from tests.runs import make_run, row
from trajweight.analysis.report import build_report, report_schema

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

SCHEMA: dict[str, Any] = json.loads(report_schema())


def strict(schema: Any) -> Any:
    """The same schema, but for an object nothing that is not named; the published one is open."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(item) for key, item in schema.items()}
    if "properties" in closed and "type" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def wrong(schema: dict[str, Any], value: Any, *, part: str = "") -> list[str]:
    """What a schema has against a value."""
    whole = schema
    if part:
        whole = {"$defs": schema["$defs"], "$ref": f"#/$defs/{part}"}
    errors = Draft202012Validator(whole).iter_errors(value)
    return [f"{'/'.join(map(str, error.path))}: {error.message[:200]}" for error in errors]


def rich_run(folder: Path) -> Run:
    """A run with tasks, rewards and successes."""
    rng = np.random.default_rng(1)
    rows = []
    for i in range(80):
        good = bool(rng.random() < 0.5)
        more = {"task_id": f"t{i // 4}", "reward": float(good) + rng.random(), "success": good}
        text = "word " * int(rng.integers(1, 30))
        rows.append(row(f"s{i}", source=("good" if good else "bad"), text=text, **more))
    rows += [row(f"r{i}", source="real", text=f"real {i}") for i in range(50)]
    weights = {
        one["id"]: float(rng.random() + one["success"]) for one in rows if one["source"] != "real"
    }
    splits = {f"r{i}": ("validation", "dev")[i % 2] for i in range(50)}
    embeddings = {one["id"]: rng.normal(size=4).tolist() for one in rows}
    run = make_run(folder, rows, weights, splits=splits, embeddings=embeddings)
    run.save_rows("trace", [{"step": step, "ess_fraction": 1 / step} for step in (1, 2, 3)])
    return run


def poor_run(folder: Path) -> Run:
    """Two rows without anything."""
    return make_run(folder, [row("a"), row("b")], {"a": 1.0, "b": 2.0})


def real_rows_alone(folder: Path) -> Run:
    """A run without a row to weigh."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the mean of no weights
        return make_run(folder, [row(f"r{i}", source="real") for i in range(3)], {})


LEARNT = {
    **HEAD,
    "why_uniform": "too few",
    "tradeoff": [{"temperature": None, "ess_fraction": 1.0, "loss": 2.0}],
    "seconds": {"report": 0.5},
}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator.check_schema(strict(SCHEMA))


@pytest.mark.parametrize("make", [rich_run, a_run, poor_run, real_rows_alone])
@pytest.mark.parametrize("learning", [{}, HEAD, LEARNT], ids=["nothing", "head", "much"])
def test_real_reports_hold_to_the_schema_and_name_nothing_else(
    tmp_path: Path, make, learning
) -> None:
    facts = build_report(make(tmp_path), learning)

    assert not wrong(SCHEMA, facts, part="report")
    assert not wrong(strict(SCHEMA), facts, part="report")


def test_what_the_command_prints_holds_to_the_schema(tmp_path: Path) -> None:
    run = rich_run(tmp_path)
    run.save_report(build_report(run, HEAD))

    good = call("report", run.folder, "--json").object
    gated = call("report", run.folder, "--json", "--fail-under-ess", 1).object

    assert not wrong(strict(SCHEMA), good)
    assert not wrong(strict(SCHEMA), gated)


def test_a_report_that_lacks_a_part_or_has_another_type_is_refused(tmp_path: Path) -> None:
    facts = build_report(rich_run(tmp_path), HEAD)
    for key in facts:
        lacking = {name: value for name, value in facts.items() if name != key}
        assert wrong(SCHEMA, lacking, part="report"), key

    other = copy.deepcopy(facts)
    other["concentration"]["gini"] = "much"
    other["bound"]["weighted"]["terms"][0]["status"] = "promise"
    assert len(wrong(SCHEMA, other, part="report")) == 2


def test_the_published_schema_lets_newer_keys_pass_and_the_strict_one_does_not(
    tmp_path: Path,
) -> None:
    facts = {**build_report(poor_run(tmp_path), {}), "newer": 1}

    assert not wrong(SCHEMA, facts, part="report")
    assert wrong(strict(SCHEMA), facts, part="report")


def test_the_command_prints_the_schema_without_a_run() -> None:
    assert call("report", "--schema").object == SCHEMA
