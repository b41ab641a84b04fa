"""tau2-bench results: one document of simulations, or a folder with a file for each.

Both sides of a simulation may call tools. The agent never sees the calls of the simulated user nor
their results, so they are not in its conversation here either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.lookup import look_up
from trajweight.formats.pieces import (
    assembled,
    assistant_turn,
    calls_of,
    function_tool,
    listing,
    objects,
    shown,
    text_of,
    tool_turn,
)
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.tau_bench import solved
from trajweight.formats.turns import listed
from trajweight.jsontext import kind_of
from trajweight.trajectory import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record

_USER: Final = "user"
#: Reasons to end that say nothing of a fault.
_ORDINARY_ENDS: Final = frozenset({"user_stop", "agent_stop"})
_POLICY: Final = "info.environment_info.policy"
_AGENT_MODEL: Final = "info.agent_info.llm"
_REWARD: Final = "reward_info.reward"
_REASONING: Final = "raw_data.message.reasoning_content"


class Tau2(Format):
    """Documents of info, tasks and simulations, or one simulation by itself."""

    name = "tau2"
    title = "tau2-bench results"
    rows_at = "simulations"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "id": ("id",),
        "task": ("task_id",),
        "group": ("task_id",),
        "reward": (_REWARD,),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A document has simulations beside tasks; a simulation has a task and a reward."""
        if not isinstance(value, dict):
            return ("a list simulations", "a list tasks")
        if _is_simulation(value) or _is_index(value):
            return ()
        has_rows = isinstance(value.get("simulations"), list)
        wanted = () if has_rows else ("a list simulations",)
        has_more = isinstance(value.get("tasks"), list) or isinstance(value.get("info"), dict)
        return wanted if has_more else (*wanted, "a list tasks")

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """The simulations of each document; a record that is one by itself is a row."""
        for record in records:
            rows = record.value.get("simulations") if isinstance(record.value, dict) else None
            if isinstance(rows, list) and rows and not self.lacks(record.value):
                yield from self._parts(record, hints)
            else:
                yield Item(record.value, record.number, record, hints=hints)

    def canonical(self, item: Item) -> Canonical:
        """The conversation as the agent had it: the policy, the user's words, its own tools."""
        row = item.value
        if not isinstance(row, dict):
            reason = f"the simulation is {kind_of(row)}, not an object"
            raise UnusableError(reason)
        if not _is_simulation(row) and "messages" not in row:
            raise UnusableError(_why_none(row))
        if not row.get("messages") and row.get("ticks"):
            reason = "the simulation is full duplex: it has ticks of speech and no turns"
            raise UnusableError(reason)
        around = item.envelope or {}
        side = _AgentSide()
        messages = [turn for each in _flat(row["messages"]) for turn in side.turns(*each)]
        policy = row.get("policy") or look_up(around, _POLICY)
        if isinstance(policy, str) and policy and (not messages or messages[0]["role"] != "system"):
            messages.insert(0, {"role": "system", "content": policy})
        said = solved(look_up(row, _REWARD), _REWARD)
        model = look_up(around, _AGENT_MODEL)
        if isinstance(model, str) and model:
            said["source"] = (model, _AGENT_MODEL)
        remarks = (*side.remarks(), *_end(row))
        return assembled(messages, tools=_tools(around), remarks=remarks, said=said)


class _AgentSide:
    """What the agent sees of the messages, and what it does not; grows message by message."""

    def __init__(self) -> None:
        self.hidden: list[int] = []
        self.errors: list[int] = []

    def turns(self, message: Row, number: int) -> Iterator[Row]:
        """The agent's view of one message: a turn, or none."""
        place = f"message {number}"
        role = message.get("role")
        if role not in ROLES:
            told = repr(shown(role)) if isinstance(role, str) else kind_of(role)
            reason = f"{place} has role {told}; known roles are {', '.join(ROLES)}"
            raise UnusableError(reason)
        if message.get("is_audio") is True:
            reason = f"{place} is speech; only text can be trained on"
            raise UnusableError(reason)
        text = text_of(message.get("content"), place)
        if role == "assistant":
            yield from self._answer(message, text, number)
        elif role == "tool" and message.get("requestor") != _USER:
            if message.get("error") is True:
                self.errors.append(number)
            yield tool_turn(text, message.get("id") or message.get("tool_call_id"))
        elif role == "tool" or (role == "user" and message.get("tool_calls")):
            self.hidden.append(number)
        else:
            yield {"role": role, "content": text}

    def remarks(self) -> Iterator[str]:
        """What the agent did not see, and which of its calls failed."""
        if self.hidden:
            yield (
                "a tool of the simulated user is not seen by the agent and left out: "
                f"messages {listing(self.hidden)}"
            )
        if self.errors:
            yield f"error is set on the results in messages {listing(self.errors)}"

    def _answer(self, message: Row, text: str, number: int) -> Iterator[Row]:
        given = message.get("tool_calls")
        ours = given
        if isinstance(given, list):
            ours = [call for call in given if not _is_of_user(call)]
            if len(ours) < len(given):
                self.hidden.append(number)
                if not ours and not text:
                    return
        reasoning = look_up(message, _REASONING)
        thought = reasoning if isinstance(reasoning, str) else ""
        yield assistant_turn(text, calls_of(ours, f"message {number}"), thought)


def _is_simulation(value: Row) -> bool:
    has_run = "termination_reason" in value or "trial" in value or "seed" in value
    return has_run and all(key in value for key in ("messages", "task_id", "reward_info"))


def _is_index(value: Row) -> bool:
    """Whether it is the ``results.json`` of a folder, whose simulations stand in other files."""
    return isinstance(value.get("simulation_index"), list) and isinstance(value.get("info"), dict)


def _is_of_user(call: Any) -> bool:
    return isinstance(call, dict) and call.get("requestor") == _USER


def _flat(messages: Any) -> Iterator[tuple[Row, int]]:
    """Messages with their numbers; one that holds several results is told as those."""
    for number, message in enumerate(listed(messages, "messages"), start=1):
        if not isinstance(message, dict):
            reason = f"message {number} is {kind_of(message)}, not an object with role and content"
            raise UnusableError(reason)
        several = objects(message.get("tool_messages"))
        yield from ((each, number) for each in several or [message])


def _tools(around: Row) -> list[Row]:
    """The agent's tools, where the document defines them."""
    defined = look_up(around, "info.environment_info.tool_defs")
    if not isinstance(defined, dict):
        return []
    return [
        function_tool(name, tool.get("doc"), tool.get("params"))
        for name, tool in defined.items()
        if isinstance(tool, dict)
    ]


def _end(row: Row) -> Iterator[str]:
    reason = row.get("termination_reason")
    if isinstance(reason, str) and reason not in _ORDINARY_ENDS:
        yield f"termination_reason is {shown(reason)}"


def _why_none(row: Row) -> str:
    """Why there is no conversation in it."""
    if _is_index(row) and not row.get("simulations"):
        return (
            "no trajectories here: this is the index of a results folder; its simulations "
            "stand in the files of its folder simulations"
        )
    if "simulations" in row:
        return "no trajectories here: simulations is empty"
    return "the simulation has no messages"
