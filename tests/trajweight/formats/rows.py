"""What the tests of formats share: rows told, refused, given back, and broken at random."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from trajweight.formats import (
    Format,
    Item,
    UnusableError,
    detect,
    format_of_value,
    formats,
)
from trajweight.records import Record, Sample
from trajweight.table import conversation_columns, original_row
from trajweight.trajectory import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.formats import Canonical

SAMPLES = Path(__file__).parents[3] / "sample_data" / "formats"

ASK = {"role": "user", "content": "Hi"}
REPLY = {"role": "assistant", "content": "Hello"}


def sample(name: str) -> list[Any]:
    """The values of a small file that comes with the project."""
    return [json.loads(line) for line in (SAMPLES / name).read_text("utf-8").splitlines()]


def form_of(row: Any) -> Format:
    """The format that a row by itself is of."""
    found = format_of_value(row)
    assert found is not None
    return found


def detected(values: Sequence[Any], hints: dict[str, Any] | None = None) -> str | None:
    """The name of the format that a file with these records is read as."""
    found = detect(Sample(Path("a.jsonl"), "JSON lines", tuple(values), hints or {}))
    return None if found is None else found.name


def names_of(row: Any) -> list[str]:
    """The names of all formats that take a row for one of theirs."""
    return [form.name for form in formats() if not form.lacks(row)]


def told(row: Any, form: Format | None = None) -> Canonical:
    """The conversation of a row."""
    return (form or form_of(row)).canonical(Item(row, 1, Record(1, row)))


def messages(row: Any, form: Format | None = None) -> list[dict[str, Any]]:
    """The turns of a row."""
    return told(row, form).messages


def reason(row: Any, form: Format | None = None) -> str:
    """Why a row is refused."""
    with pytest.raises(UnusableError) as caught:
        told(row, form)
    return str(caught.value)


def given_back(row: Any, form: Format | None = None) -> Any:
    """What the table gives back of a row."""
    form = form or form_of(row)
    return original_row(conversation_columns(row, told(row, form), form))


def hold(form: Format, value: Any) -> int:
    """Hold a record to what every format promises, whatever it holds.

    Returns:
        How many of its rows are usable.
    """
    usable, refusals = 0, []
    for item in form.read([Record(1, value)], {}):
        if item.envelope is None and form.lacks(item.value):
            continue
        try:
            canonical = form.canonical(item)
        except UnusableError as error:
            refusals.append(str(error))
            continue
        usable += 1
        assert all(_is_canonical(message) for message in canonical.messages)
        assert any(
            message["role"] == "assistant" and "untrained" not in message
            for message in canonical.messages
        )
        assert all(isinstance(tool, dict) for tool in canonical.tools)
        assert all(isinstance(remark, str) for remark in canonical.remarks)
        columns = conversation_columns(item.value, canonical, form)
        assert json.dumps(original_row(columns)) == json.dumps(item.value)
    assert all(refusals)
    return usable


def _is_canonical(message: dict[str, Any]) -> bool:
    optional = {"tool_calls", "tool_call_id", "reasoning", "untrained"}
    return (
        list(message)[:2] == ["role", "content"]
        and message.keys() - {"role", "content"} <= optional
        and message["role"] in ROLES
        and isinstance(message["content"], str)
        and all(
            list(call) == ["id", "name", "arguments"]
            and isinstance(call["id"], str)
            and isinstance(call["name"], str)
            and bool(call["name"])
            for call in message.get("tool_calls", ())
        )
        and all(isinstance(message.get(key, ""), str) for key in ("tool_call_id", "reasoning"))
        and message.get("untrained", True) is True
    )


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, with some words that the formats know."""
    words = st.sampled_from(
        [
            "",
            "user",
            "assistant",
            "tool",
            "system",
            "[]",
            "{}",
            "null",
            '{"name": "f"}',
            "text",
            "x",
        ]
    )
    numbers = st.integers(-2, 2) | st.just(2**70) | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.none() | st.booleans() | numbers | words | st.text(max_size=3)
    keys = st.sampled_from(
        ["role", "content", "type", "text", "name", "arguments", "function", "k"]
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=6,
    )


@st.composite
def broken(draw: st.DrawFn, values: Sequence[Any]) -> Any:
    """One of these values with one to three of its parts changed, removed or put elsewhere."""
    root = [copy.deepcopy(draw(st.sampled_from(values)))]
    for _ in range(draw(st.integers(1, 3))):
        holders = list(_holders(root))
        holder, key = draw(st.sampled_from(holders))
        how = draw(st.sampled_from(["change", "remove", "copy"]))
        if how == "change":
            holder[key] = draw(json_values())
        elif how == "copy":
            other, place = draw(st.sampled_from(holders))
            holder[key] = copy.deepcopy(other[place])
        elif holder is not root:
            del holder[key]
    return root[0]


def _holders(value: Any) -> Any:
    """Every place inside a value, as what holds it and the key or position there."""
    places = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(places):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _holders(inner)
