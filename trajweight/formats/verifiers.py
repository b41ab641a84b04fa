"""Prime Intellect's verifiers: rows of results, and traces whose messages are a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.dialects import Talk, turns_of
from trajweight.formats.lookup import look_up
from trajweight.formats.message_parts import opened
from trajweight.formats.pieces import assembled, function_tools, objects
from trajweight.formats.prompts import talk_of
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.scores import as_number, total_of
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record

#: The hint that names the nodes of a branch that an earlier branch has as well.
_SHARED: Final = "nodes trained in another branch"
_TASK_KEYS: Final = ("task.key", "task.hash", "task.data.name", "task.data.idx")


class VerifiersResults(Format):
    """Rows of ``results.jsonl``: a prompt, what the model and the environment went on with."""

    name = "verifiers-results"
    title = "verifiers results"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has the id of its example, a prompt and a completion."""
        keys = ("example_id", "prompt", "completion")
        has = value if isinstance(value, dict) else {}
        return tuple(f"a key {key}" for key in keys if has.get(key) is None)

    def canonical(self, item: Item) -> Canonical:
        """The prompt, whose assistant turns are examples, and the completion."""
        row = item.value
        shown = talk_of(row["prompt"], None)
        talk = talk_of(row["prompt"], row["completion"])
        for turn in talk.turns[: len(shown.turns)]:
            if turn["role"] == "assistant":
                turn["untrained"] = True
        info = opened(row.get("info"))
        info = info if isinstance(info, dict) else {}
        defined = row.get("tool_defs") or info.get("tool_defs") or info.get("oai_tools")
        tools, remarks = function_tools(defined, "the tool definitions")
        said = {"task": (_task_of(row), "task and example_id")}
        return assembled(talk.turns, tools=tools, remarks=(*talk.remarks, *remarks), said=said)


class VerifiersTraces(Format):
    """Rows of ``traces.jsonl``: episodes of traces, or traces; a branch is a trajectory."""

    name = "verifiers"
    title = "verifiers traces"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A trace has nodes, a task and rewards; an episode has traces."""
        has = value if isinstance(value, dict) else {}
        if isinstance(has.get("traces"), list) and ("env" in has or "task" in has):
            return ()
        wanted = {"nodes": list, "task": dict, "rewards": dict}
        return tuple(
            f"a key {key}" for key, kind in wanted.items() if not isinstance(has.get(key), kind)
        )

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """A row each way from the first message of a trace to a last one."""
        for record in records:
            if record.fault or self.lacks(record.value):
                yield Item(record.value, record.number, record, hints=hints)
            elif isinstance(record.value.get("traces"), list):
                yield from self._episode(record, hints)
            else:
                yield from _branches(record.value, record, None, hints)

    def canonical(self, item: Item) -> Canonical:
        """The messages of a branch; those that no model gave back are shown, not trained on."""
        trace, episode = item.value, item.envelope
        if not isinstance(trace, dict) or not isinstance(trace.get("nodes"), list):
            reason = "no trajectory here: the episode has no trace with nodes"
            raise UnusableError(reason)
        paths = _paths(trace["nodes"])
        if len(paths) > 1:
            reason = f"holds {len(paths)} branches where one was expected"
            raise UnusableError(reason)
        if not paths:
            reason = "no trajectory here: the trace has no messages"
            raise UnusableError(reason)
        if look_up(trace, "agent.trainable") is False:
            reason = "is the trace of an agent that is not to be trained (agent.trainable is false)"
            raise UnusableError(reason)
        shared = item.hints.get(_SHARED, ())
        talks = [_turns(trace["nodes"][n], n, is_shared=n in shared) for n in paths[0]]
        turns = [turn for talk in talks for turn in talk.turns]
        spoken = [turn for turn in turns if turn["role"] == "assistant"]
        if spoken and all(turn.get("untrained") for turn in spoken):
            reason = "no assistant turn was sampled from the model, or all are in another branch"
            raise UnusableError(reason)
        tools, tool_remarks = function_tools(trace.get("tools"), "tools")
        said, remarks = _said(trace, episode or {})
        if _SHARED in item.hints and isinstance(trace.get("id"), str):
            said.setdefault("group", (trace["id"], "id of the trace"))
        told = (remark for talk in talks for remark in talk.remarks)
        return assembled(turns, tools=tools, remarks=(*told, *remarks, *tool_remarks), said=said)

    def _episode(self, record: Record, hints: Mapping[str, Any]) -> Iterator[Item]:
        around = {**record.value, "traces": None}
        traces = record.value["traces"]
        for trace in traces:
            if isinstance(trace, dict) and isinstance(trace.get("nodes"), list):
                yield from _branches(trace, record, around, hints)
            else:
                yield Item(trace, record.number, record, envelope=around, hints=hints)
        if not traces:
            yield Item(record.value, record.number, record, hints=hints)


def _branches(
    trace: Row, record: Record, around: Row | None, hints: Mapping[str, Any]
) -> Iterator[Item]:
    """The rows of a trace: all of it, or a branch each with the other branches' nodes null."""
    paths = _paths(trace["nodes"])
    seen: set[int] = set()
    if len(paths) <= 1:
        yield Item(trace, record.number, record, envelope=around, hints=hints)
        return
    for path in paths:
        kept = set(path)
        nodes = [node if n in kept else None for n, node in enumerate(trace["nodes"])]
        more = {**hints, _SHARED: kept & seen}
        value = {**trace, "nodes": nodes}
        yield Item(value, record.number, record, envelope=around, hints=more)
        seen |= kept


def _paths(nodes: list[Any]) -> list[tuple[int, ...]]:
    """The ways from a root to a leaf, in the order of the leaves.

    A parent stands before its children, so a node that names no such parent is a root.
    """
    parents = {n: _parent(node, n) for n, node in enumerate(nodes) if isinstance(node, dict)}
    inner = set(parents.values())
    paths = []
    for leaf in (n for n in parents if n not in inner):
        way: list[int] = []
        at: int | None = leaf
        while at is not None and at in parents:
            way.append(at)
            at = parents[at]
        paths.append(tuple(reversed(way)))
    return paths


def _parent(node: Row, position: int) -> int | None:
    parent = node.get("parent")
    if not isinstance(parent, int) or isinstance(parent, bool):
        return None
    return parent if 0 <= parent < position else None


def _turns(node: Row, number: int, *, is_shared: bool) -> Talk:
    """The turns of a node; trained on is what a model gave back and no earlier branch has."""
    talk = turns_of(node.get("message"), number)
    if is_shared or node.get("sampled", True) is not True:
        for turn in talk.turns:
            if turn["role"] == "assistant":
                turn["untrained"] = True
    return talk


def _said(trace: Row, episode: Row) -> tuple[dict[str, tuple[Any, str]], tuple[str, ...]]:
    """What a trace says of itself: the sum of its weighted rewards, its task, its model."""
    rewards = trace.get("rewards")
    values = [_reward(each) for each in rewards.values()] if isinstance(rewards, dict) else []
    said, remarks = total_of(values, "its weighted rewards")
    tasks = (look_up(holder, key) for holder in (trace, episode) for key in _TASK_KEYS)
    if (task := next((name for name in tasks if _is_name(name)), None)) is not None:
        said["task"] = (task, "task")
    models = [look_up(trace, "agent.config.model")]
    models += [call.get("model") for call in objects(trace.get("calls"))]
    if model := next((m for m in models if isinstance(m, str) and m), ""):
        said["source"] = (model, "model of the agent")
    group = look_up(episode, "group.id")
    if isinstance(group, str) and group:
        said["group"] = (group, "group.id of the episode")
    return said, remarks


def _reward(value: Any) -> Any:
    """The value of a reward: a number, or a score times its weight; null where none was given."""
    if not isinstance(value, dict):
        return value
    score, weight = as_number(value.get("score")), as_number(value.get("weight", 1.0))
    if score is None or weight is None:
        return value.get("score") if score is None else value.get("weight")
    return score * weight


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


def _task_of(row: Row) -> str:
    """An example's name: ids alone are the same in all environments of a group."""
    example, task = row["example_id"], row.get("task")
    if not _is_name(example):
        reason = f"example_id is {kind_of(example)}, not a number or text"
        raise UnusableError(reason)
    return f"{task}/{example}" if isinstance(task, str) and task else str(example)
