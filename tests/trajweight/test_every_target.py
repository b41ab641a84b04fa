"""Laws that hold of the exports of every target: counts, mass, and the way back."""

from __future__ import annotations

import ast
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runs import make_run, row
from trajweight.export import ExportRequest, export_weights
from trajweight.export.facts import read_facts
from trajweight.formats import UnusableError
from trajweight.progress import Progress
from trajweight.reading import OriginLabels, read_trajectories
from trajweight.selection import Filters
from trajweight.trainers import TARGETS, Example, target_named, targets

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run
    from trajweight.trainers import Mode, Target

CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"at": [1, {"deep": "é"}]}'},
}
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {"at": {"type": "array"}}},
    },
}
USER, REPLY = {"role": "user", "content": "go"}, {"role": "assistant", "content": "gone"}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "plain": [USER, REPLY],
    "odd": [USER, {"role": "assistant", "content": 'é <|im_end|> "q" \\n {{x}}'}],
    "system": [{"role": "system", "content": "Be brief."}, USER, REPLY],
    "tools": [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "seen"},
        REPLY,
    ],
    "reasoning": [USER, {**REPLY, "reasoning_content": "hm \n why"}],
    "turns": [USER, REPLY, {"role": "user", "content": "again"}, {**REPLY, "content": "ok"}],
}
#: Two whose canonical form another trainer's rows do not give back to the letter: it writes calls
#: without ids, or reasoning inside the text. Nothing they say may be lost all the same.
SAID_OTHERWISE = {
    "llama-factory": {"tools", "reasoning"},
    "llama-factory-v1": {"reasoning"},
    "ms-swift": {"tools", "reasoning"},
    "torchtune": {"reasoning"},
    "openai": {"reasoning"},
}
CASES = [
    pytest.param(name, mode, id=f"{name}-{mode}")
    for name in TARGETS
    for mode in target_named(name).modes
    if mode != "tokenized" and not target_named(name).is_plain
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    rows = [row(name, source=f"by-{name}") for name in CONVERSATIONS]
    for one, messages in zip(rows, CONVERSATIONS.values(), strict=True):
        one["messages"] = messages
    rows[3]["tools"] = [TOOL]
    weights = {name: number + 1.0 for number, name in enumerate(CONVERSATIONS)}
    return make_run(tmp_path_factory.mktemp("made"), rows, weights)


def exported(run: Run, out: Path, name: str, mode: Mode) -> dict[str, Any]:
    filters = Filters(top_k=len(CONVERSATIONS)) if mode == "filter" else Filters()
    epochs = 2 if mode == "resample" else None
    asked = ExportRequest(to=name, mode=mode, filters=filters, epochs=epochs)
    export_weights(run, out, asked)
    return read_facts(out)


def texts_of(folder: Path, facts: dict[str, Any]) -> list[str]:
    """Every row that was written, as JSON text."""
    found: list[str] = []
    for file in facts["data"]:
        path = folder / file["name"]
        if path.suffix == ".parquet":
            found += [
                json.dumps(one, ensure_ascii=False, default=str)
                for one in pl.read_parquet(path).iter_rows(named=True)
            ]
        else:
            found += path.read_text("utf-8").split("\n")[:-1]
    return found


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_every_row_is_exported_or_left_out_and_all_mass_is_there(
    run: Run, tmp_path: Path, name: str, mode: Mode
) -> None:
    facts = exported(run, tmp_path / "out", name, mode)

    counts, table = facts["rows"], pl.read_parquet(tmp_path / "out/rows.parquet")
    lines = texts_of(tmp_path / "out", facts)
    assert counts["exported"] + sum(counts["left_out"].values()) == counts["in_run"]
    assert counts["exported"] == table.height
    assert counts["written"] == len(lines) == sum(each["n_rows"] for each in facts["data"])
    assert table["weight"].mean() == pytest.approx(1)
    if mode == "resample":
        copies = np.array(table["copies"].to_list())
        assert copies.sum(axis=0).tolist() == [each["n_rows"] for each in facts["data"]]
    else:
        assert len(lines) == table.height
    assert sum(each["rate"] for each in facts["data"]) == pytest.approx(
        1 if mode == "buckets" else len(facts["data"])
    )


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_what_a_trainer_is_given_says_the_same_conversations(
    run: Run, tmp_path: Path, name: str, mode: Mode
) -> None:
    facts = exported(run, tmp_path / "out", name, mode)

    files = [tmp_path / "out" / each["name"] for each in facts["data"]]
    back = read_trajectories(files, labels=OriginLabels(), progress=Progress())
    wanted = dict(run.trajectories().select("content_sha256", "traj_id").iter_rows())
    strange = set(back.table["content_sha256"]) - set(wanted)
    written = "\n".join(texts_of(tmp_path / "out", facts))
    assert not back.rejected
    assert len(strange) <= len(SAID_OTHERWISE.get(name, ()))
    copies = pl.read_parquet(tmp_path / "out/rows.parquet")
    is_written = copies["copies"].list.sum() > 0 if mode == "resample" else copies["weight"] > 0
    for traj_id in copies.filter(is_written)["traj_id"]:
        for message in CONVERSATIONS[traj_id]:
            said = [message["content"], message.get("reasoning_content", "")]
            for text in filter(None, said):
                shown = json.dumps(text, ensure_ascii=False)[1:-1]
                is_told = any("reasoning" in note for note in facts["notes"])
                twice = json.dumps(shown)[1:-1].replace(
                    "\\u00e9", "é"
                )  # where a column is JSON text
                is_there = shown in written or twice in written
                assert is_there or (text is said[1] and is_told), (traj_id, text)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_configs_and_scripts_are_whole_and_name_the_data(
    run: Run, tmp_path: Path, name: str, mode: Mode
) -> None:
    facts = exported(run, tmp_path / "out", name, mode)

    out = tmp_path / "out"
    configs = [each["name"] for each in facts["files"] if each["role"] in ("config", "adapter")]
    assert configs
    told = ""
    for config in configs:
        text = (out / config).read_text("utf-8")
        told += text
        if config.endswith(".py"):
            tree = ast.parse(text)
            imported = {
                str(node.module if isinstance(node, ast.ImportFrom) else node.names[0].name)
                for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
            }
            # an adapter may name its neighbour by both names it has; nothing else of ours
            ours = {module for module in imported if module.partition(".")[0] == "trajweight"}
            assert all(module.startswith("trajweight.adapters.") for module in ours)
        elif config.endswith((".yaml", ".yml")):
            assert isinstance(yaml.safe_load(text), dict | list)
        elif config.endswith(".json"):
            json.loads(text)
    for file in facts["data"]:
        names = (file["name"], file["name"].removeprefix("data/"))
        assert any(one in told for one in names) or mode == "resample"
    readme = (out / "README.md").read_text("utf-8")
    assert "## How the weights act" in readme
    assert "```sh" in readme


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_a_target_is_described_without_gaps(target: Target) -> None:
    assert target.modes
    assert not set(target.modes) & set(target.refused)
    assert all(refusal.nearest in target.modes for refusal in target.refused.values())
    assert all(refusal.reason.endswith(".") for refusal in target.refused.values())
    assert bool(target.checked) != target.is_plain
    assert target.container != "parquet" or target.schema is not None


plain_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30
)


@pytest.mark.parametrize("name", [name for name in TARGETS if not target_named(name).is_plain])
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    said=st.lists(plain_text.filter(str.strip), min_size=2, max_size=6), weight=st.floats(0.01, 50)
)
def test_any_text_comes_through_as_json(name: str, said: list[str], weight: float) -> None:
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": text}
        for number, text in enumerate(said[: len(said) // 2 * 2])
    ]
    table_row = {
        "traj_id": "t",
        "source": "s",
        "messages_json": json.dumps(messages),
        "tools_json": None,
        "extra_json": json.dumps({"messages": None}),
        "origin_format": "messages",
    }
    target = target_named(name)
    example = Example(table_row, weight, weight)

    try:
        made = target.row(example, target.modes[0])
    except UnusableError:  # for a reason that is told, and nothing else
        return

    assert json.loads(json.dumps(made)) == made
    if isinstance(made.get("messages"), str):
        made["messages"] = json.loads(made["messages"])
    shown = json.dumps(made, ensure_ascii=False)
    assert all(
        json.dumps(text, ensure_ascii=False)[1:-1] in shown for text in said[: len(messages)]
    )
