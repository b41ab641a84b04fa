"""The events of the OpenHands SDK, each with its kind: messages, actions and what came of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.lookup import look_up
from trajweight.formats.openhands_told import Told
from trajweight.formats.pieces import (
    assistant_turn,
    calls_in,
    calls_of,
    function_tool,
    function_tools,
    objects,
    text_of,
    thinking_of,
    tool_turn,
)
from trajweight.formats.protocol import Row, UnusableError
from trajweight.formats.turns import canonical_call
from trajweight.jsontext import NotJsonError, encode, kind_of
from trajweight.trajectory import ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

#: The kinds that tell something by themselves.
KINDS: Final = frozenset(
    {
        "ActionEvent",
        "AgentErrorEvent",
        "Condensation",
        "CondensationEvent",
        "CondensationRequest",
        "CondensationSummaryEvent",
        "MessageEvent",
        "ObservationEvent",
        "SystemPromptEvent",
        "UserRejectObservation",
    }
)
_ROOT: Final = "__root__"
_WORDS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
#: Where events name the model.
_MODELS: Final = (
    "model_name",
    "value.usage_to_metrics.agent.model_name",
    "value.usage_to_metrics.default.model_name",
    "value.stats.usage_to_metrics.agent.model_name",
    "value.agent.llm.model",
    "value.llm.model",
)


def may_be_kind(name: str) -> bool:
    """Whether a kind may be one of an event, known or not."""
    return name in KINDS or name.endswith("Event")


def told(events: list[Row]) -> Told:
    """What these events tell.

    Raises:
        UnusableError: If one cannot be understood, or holds more than text.
    """
    telling = _Telling()
    left = _on_other_branches(events)
    for number, event in enumerate(events, start=1):
        if number not in left:
            telling.add(event, number)
    if left:
        telling.told.notes.append(f"other branches of the run are left out, events: {len(left)}")
    return telling.told


class _Telling:
    """Turns events into turns, one after another."""

    def __init__(self) -> None:
        self.told = Told()
        self.answers: dict[str, Row] = {}  # by the response of the model that they were
        self.ways: dict[str, Callable[[Row, int], None]] = {
            "SystemPromptEvent": self._add_system,
            "MessageEvent": self._add_message,
            "ActionEvent": self._add_action,
            "ObservationEvent": self._add_observation,
            "UserRejectObservation": self._add_rejection,
            "AgentErrorEvent": self._add_error,
        }

    def add(self, event: Row, number: int) -> None:
        """Tell one event."""
        kind = event.get("kind")
        way = self.ways.get(kind) if isinstance(kind, str) else None
        if way is not None:
            way(event, number)
        elif isinstance(kind, str) and kind.startswith("Condensation"):
            self.told.n_condensed += kind in ("Condensation", "CondensationEvent")
        else:
            self.told.silent[kind if isinstance(kind, str) else "no kind"] += 1
            models = (look_up(event, path) for path in _MODELS)
            found = next((name for name in models if isinstance(name, str) and name), "")
            self.told.model = self.told.model or found

    def _add_system(self, event: Row, number: int) -> None:
        parts = (event.get("system_prompt"), event.get("dynamic_context"))
        texts = [text_of(part, f"event {number}") for part in parts]
        text = "\n".join(text for text in texts if text)
        self.told.messages.append({"role": "system", "content": text})
        tools, remarks = _tools(event.get("tools"))
        self.told.tools = self.told.tools or tools
        self.told.notes += remarks

    def _add_message(self, event: Row, number: int) -> None:
        place = f"event {number}"
        message = event.get("llm_message")
        if not isinstance(message, dict):
            reason = f"{place} has {kind_of(message)} as llm_message, not an object"
            raise UnusableError(reason)
        role = message.get("role") or ("assistant" if event.get("source") == "agent" else "user")
        if role not in ROLES:
            reason = f"{place} has a message whose role is none of {', '.join(ROLES)}"
            raise UnusableError(reason)
        content = text_of(message.get("content"), place, between="\n")
        text = _with(content, event.get("extended_content"), place)
        if role == "assistant":
            calls = calls_of(message.get("tool_calls"), place)
            self.told.messages.append(assistant_turn(text, calls, _reasoning(message)))
        elif role == "tool":
            self.told.messages.append(tool_turn(text, message.get("tool_call_id")))
        else:
            self.told.messages.append({"role": role, "content": text})

    def _add_action(self, event: Row, number: int) -> None:
        """A call; calls of one response are one turn, whatever came between."""
        place = f"event {number}"
        call = _call(event, place)
        response_id = event.get("llm_response_id")
        key = response_id if isinstance(response_id, str) else ""
        turn = self.answers.get(key) if key else None
        thought = text_of(event.get("thought"), place, between="\n")
        if turn is None:
            turn = assistant_turn(thought, [call], _reasoning(event))
            self.told.messages.append(turn)
            if key:
                self.answers[key] = turn
            return
        turn["content"] = "\n".join(text for text in (turn["content"], thought) if text)
        turn["tool_calls"] = [*calls_in(turn), call]

    def _add_observation(self, event: Row, number: int) -> None:
        place = f"event {number}"
        observation = event.get("observation")
        if not isinstance(observation, dict):
            reason = f"{place} has {kind_of(observation)} as observation, not an object"
            raise UnusableError(reason)
        if observation.get("is_error") is True:
            self.told.errors.append(number)
        text = _with(_seen(observation, place), event.get("extended_content"), place)
        self._add_result(text, event)

    def _add_rejection(self, event: Row, number: int) -> None:
        why = text_of(event.get("rejection_reason"), f"event {number}")
        self._add_result(f"Action rejected: {why}", event)  # as OpenHands tells the model

    def _add_error(self, event: Row, number: int) -> None:
        self.told.errors.append(number)
        self._add_result(text_of(event.get("error"), f"event {number}"), event)

    def _add_result(self, text: str, event: Row) -> None:
        self.told.messages.append(tool_turn(text, event.get("tool_call_id")))


def _on_other_branches(events: list[Row]) -> set[int]:
    """The numbers of events that do not lead to the last one, where events name their parents.

    An event that names none follows the one before it.
    """
    if not any(isinstance(event.get("parent_id"), str) for event in events):
        return set()
    places = {
        event["id"]: n for n, event in enumerate(events, 1) if isinstance(event.get("id"), str)
    }
    kept: set[int] = set()
    number = len(events)
    while number and number not in kept:
        kept.add(number)
        parent = events[number - 1].get("parent_id")
        if parent == _ROOT:
            break
        number = places.get(parent, number - 1) if isinstance(parent, str) else number - 1
    return set(range(1, len(events) + 1)) - kept


def _call(event: Row, place: str) -> Row:
    given = event.get("tool_call")
    if not isinstance(given, dict):
        action = event.get("action")
        arguments = (
            {k: v for k, v in action.items() if k != "kind"} if isinstance(action, dict) else {}
        )
        given = {"name": event.get("tool_name"), "arguments": arguments}
    call = canonical_call(given, place)
    if not call["id"] and isinstance(event.get("tool_call_id"), str):
        call["id"] = event["tool_call_id"]
    return call


def _reasoning(said: Row) -> str:
    text = said.get("reasoning_content")
    return text if isinstance(text, str) and text else thinking_of(said.get("thinking_blocks"))


def _with(text: str, extended: Any, place: str) -> str:
    """A text with what the agent's context added to it."""
    added = text_of(extended, place, between="\n")
    return f"{text}\n{added}" if text and added else text or added


def _seen(observation: Row, place: str) -> str:
    """What the model saw of an observation; older ones have no content of their own."""
    for key in ("content", "output", "message"):
        if observation.get(key) is not None:
            return text_of(observation[key], place, between="\n")
    try:
        return encode({key: value for key, value in observation.items() if key != "kind"})
    except NotJsonError as error:
        reason = f"{place} has an observation that cannot be written: {error}"
        raise UnusableError(reason) from error


def _tools(value: Any) -> tuple[list[Row], tuple[str, ...]]:
    """Tool definitions; the SDK's own give no name and no schema, but their class."""
    if not isinstance(value, list) or len(objects(value)) < len(value):
        return function_tools(value, "tools of the system event")
    defined = []
    for tool in objects(value):
        mcp = tool.get("mcp_tool")
        kind = tool.get("kind")
        if isinstance(mcp, dict) and isinstance(mcp.get("name"), str):
            defined.append(
                function_tool(mcp["name"], mcp.get("description"), mcp.get("inputSchema"))
            )
        elif isinstance(kind, str) and "function" not in tool and "name" not in tool:
            name = "_".join(_WORDS.split(kind)).lower().removesuffix("_tool")
            defined.append({"name": name, "description": tool.get("description")})
        else:
            defined.append(tool)
    return function_tools(defined, "tools of the system event")
