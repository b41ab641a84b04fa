"""Conversations as a run holds them, and plans, for tests of targets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from trajweight.jsontext import encode
from trajweight.trainers import DataFile, Example, Plan

if TYPE_CHECKING:
    from trajweight.trainers import Mode

Message = dict[str, Any]

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def example(messages: list[Message], tools: Any = None, weight: float = 2.0) -> Example:
    """A trajectory of canonical messages; its weight by the token is half as much again."""
    row = {
        "messages_json": encode(messages),
        "tools_json": None if tools is None else encode(tools),
    }
    return Example(row, weight, 1.5 * weight)


def turn(role: str, content: str = "x", **more: Any) -> Message:
    return {"role": role, "content": content, **more}


def plan(mode: Mode, *names: str, rates: tuple[float, ...] = (), **more: Any) -> Plan:
    """A plan for files of a hundred rows each."""
    files = tuple(
        DataFile(name, 100, rate, epoch)
        for epoch, (name, rate) in enumerate(zip(names, rates or [1.0] * len(names), strict=True))
    )
    settings = {"model": "org/Model-1B", "n_examples": 100, "mean_tokens": 20.0, **more}
    return Plan(mode, files, **settings)


def written(row: Any) -> Any:
    """A row as it comes back from a file."""
    return json.loads(json.dumps(row, ensure_ascii=False))


_SAID = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<>"), max_size=9)
_SPOKEN = _SAID.filter(str.strip)  # reading takes a reply of blanks for none
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | _SAID,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_SAID, inner, max_size=2),
    max_leaves=4,
)


@st.composite
def dialogues(draw: st.DrawFn, *, shuffles_results: bool = False) -> list[Message]:
    """Turns by the rules: a user, calls with their results, replies with reasoning and flags."""
    turns = [turn("system", draw(_SPOKEN))] if draw(st.booleans()) else []
    for number in range(draw(st.integers(1, 3))):
        turns.append(turn("user", draw(_SPOKEN)))
        for step in range(draw(st.integers(0, 2))):
            ids = [f"c{number}-{step}-{i}" for i in range(draw(st.integers(1, 3)))]
            made: list[Message] = [
                {"id": i, "name": "f", "arguments": draw(st.dictionaries(_SAID, _VALUES))}
                for i in ids
            ]
            turns.append(_reply(draw, draw(_SAID), tool_calls=made))
            order = draw(st.permutations(ids)) if shuffles_results else ids
            turns += [turn("tool", draw(_SAID), tool_call_id=i) for i in order]
        turns.append(_reply(draw, draw(_SPOKEN)))
    turns[-1].pop("untrained", None)  # something is left to train on
    return turns


def _reply(draw: st.DrawFn, content: str, **more: Any) -> Message:
    reply = turn("assistant", content, **more)
    if draw(st.booleans()):
        reply["reasoning"] = draw(_SPOKEN)
    if draw(st.booleans()):
        reply["untrained"] = True
    return reply
