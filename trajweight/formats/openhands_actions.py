"""The older events of OpenHands: an action with its args, or an observation with its content."""

from __future__ import annotations

from typing import Final

from trajweight.formats.lookup import look_up
from trajweight.formats.openhands_told import Told
from trajweight.formats.pieces import (
    assistant_turn,
    calls_in,
    calls_of,
    function_tools,
    listing,
    text_of,
    thinking_of,
    tool_turn,
)
from trajweight.formats.protocol import Row, UnusableError
from trajweight.jsontext import kind_of

#: Actions that are calls of tools. Others may be too, if a call of the model stands with them.
_CALLS: Final = frozenset(
    {
        "browse",
        "browse_interactive",
        "call_tool_mcp",
        "delegate",
        "edit",
        "finish",
        "read",
        "reject",
        "run",
        "run_ipython",
        "task_tracking",
        "think",
        "write",
    }
)
#: Actions and observations of the harness itself: nobody says anything in them.
_HARNESS: Final = frozenset(
    {
        "agent_state_changed",
        "change_agent_state",
        "condensation_request",
        "loop_detection",
        "loop_recovery",
        "null",
        "pause",
        "push",
        "recall",
        "resume",
        "send_pr",
        "start",
        "stop",
    }
)
_CONDENSING: Final = frozenset({"condensation", "condense"})
#: Arguments of an action that the harness adds to those the model gave.
_NOT_OF_MODEL: Final = frozenset(
    {
        "blocking",
        "browsergym_send_msg_to_user",
        "confirmation_state",
        "cwd",
        "hidden",
        "impl_source",
        "include_extra",
        "is_confirmed",
        "is_static",
        "keep_prompt",
        "kernel_init_code",
        "return_axtree",
        "security_risk",
        "thought",
        "translated_ipython_code",
    }
)


def told(events: list[Row]) -> Told:
    """What these events tell.

    Raises:
        UnusableError: If one cannot be understood, or holds more than text.
    """
    telling = _Telling()
    delegated = _delegated(events)
    for number, event in enumerate(events, start=1):
        if number not in delegated:
            telling.add(event, number)
    if delegated:
        telling.told.notes.append(
            f"what a delegated agent did is left out, events: {len(delegated)}"
        )
    return telling.ended()


class _Telling:
    """Turns events into turns, one after another."""

    def __init__(self) -> None:
        self.told = Told()
        self.answers: dict[str, Row] = {}  # by the response of the model that they were
        self.calls: set[str] = set()  # ids of the events that made calls, which are those of calls
        self.open_call: str | None = None  # the last call, while nothing came of it
        self.is_guessed = False
        self.images: list[int] = []

    def add(self, event: Row, number: int) -> None:
        """Tell one event."""
        action, observation = event.get("action"), event.get("observation")
        name = action if isinstance(action, str) else observation
        if not isinstance(name, str):
            self.told.silent["no action or observation"] += 1
        elif name in _CONDENSING:
            self.told.n_condensed += 1
        elif name in _HARNESS and not _has_call(event):
            self.told.silent[name] += 1
        elif isinstance(action, str):
            self._add_action(event, action, number)
        else:
            self._add_observation(event, name, number)

    def ended(self) -> Told:
        """All that was told."""
        if self.is_guessed:
            self.told.notes.append("calls are told from actions: events have no tool_call_metadata")
        if self.images:
            self.told.notes.append(f"an image is left out, in events {listing(self.images)}")
        return self.told

    def _add_action(self, event: Row, action: str, number: int) -> None:
        args = event.get("args", {})
        if not isinstance(args, dict):
            reason = f"event {number} has {kind_of(args)} as args, not an object"
            raise UnusableError(reason)
        if action == "system":
            self._add_system(args, number)
        elif action == "message":
            self._add_message(event, args, number)
        elif event.get("source") == "user":
            command = args.get("command")
            if action == "run" and isinstance(command, str):
                text = f"User executed the command:\n{command}"  # as OpenHands tells the model
                self.told.messages.append({"role": "user", "content": text})
            else:
                self.told.silent[f"{action} by the user"] += 1
        elif action in _CALLS or _has_call(event):
            self._add_call(event, action, args, number)
        else:
            self.told.silent[action] += 1

    def _add_system(self, args: Row, number: int) -> None:
        content = text_of(args.get("content"), f"event {number}")
        self.told.messages.append({"role": "system", "content": content})
        tools, remarks = function_tools(args.get("tools"), "tools of the system event")
        self.told.tools = self.told.tools or tools
        self.told.notes += remarks

    def _add_message(self, event: Row, args: Row, number: int) -> None:
        if args.get("image_urls"):
            reason = f"event {number} has images; only text can be trained on"
            raise UnusableError(reason)
        said = args["content"] if "content" in args else event.get("message")
        content = text_of(said, f"event {number}")
        role = "assistant" if event.get("source") == "agent" else "user"
        self.told.messages.append({"role": role, "content": content})

    def _add_call(self, event: Row, action: str, args: Row, number: int) -> None:
        metadata = event.get("tool_call_metadata")
        if isinstance(metadata, dict):
            self._add_response(metadata, action, args, number)
            return
        self.is_guessed = True
        content = "" if action == "think" else _thought(args)
        call = {"id": _id_of(event), **_call(action, args)}
        self.told.messages.append(assistant_turn(content, [call]))
        self.open_call = call["id"]
        if call["id"]:
            self.calls.add(call["id"])

    def _add_response(self, metadata: Row, action: str, args: Row, number: int) -> None:
        """The response that an action was made from; several actions may share one."""
        response_id = look_up(metadata, "model_response.id")
        key = response_id if isinstance(response_id, str) else ""
        turn = self.answers.get(key) if key else None
        if turn is None:
            message = look_up(metadata, "model_response.choices.0.message")
            message = message if isinstance(message, dict) else {"content": _thought(args)}
            thought = message.get("reasoning_content")
            turn = assistant_turn(
                text_of(message.get("content"), f"event {number}"),
                calls_of(message.get("tool_calls"), f"event {number}"),
                thought
                if isinstance(thought, str)
                else thinking_of(message.get("thinking_blocks")),
            )
            self.told.messages.append(turn)
            model = look_up(metadata, "model_response.model")
            self.told.model = self.told.model or (model if isinstance(model, str) else "")
            if key:
                self.answers[key] = turn
        call_id, name = metadata.get("tool_call_id"), metadata.get("function_name")
        call_id = str(call_id) if isinstance(call_id, str | int) else ""
        if not any(call["id"] == call_id for call in calls_in(turn)):
            call = {"id": call_id, **_call(action, args)}
            if isinstance(name, str) and name:
                call["name"] = name
            turn["tool_calls"] = [*calls_in(turn), call]
        self.open_call = None

    def _add_observation(self, event: Row, name: str, number: int) -> None:
        extras = event.get("extras")
        extras = extras if isinstance(extras, dict) else {}
        if extras.get("image_urls"):
            self.images.append(number)
        content = event["content"] if "content" in event else event.get("message")
        if name == "delegate" and not content:
            content = look_up(extras, "outputs.content")
        text = text_of(content, f"event {number}")
        call_id = look_up(event, "tool_call_metadata.tool_call_id")
        cause = event.get("cause")
        if not isinstance(call_id, str | int):
            is_known = isinstance(cause, str | int) and str(cause) in self.calls
            call_id = cause if is_known else None
            if not is_known and cause in (None, -1) and self.open_call is not None:
                call_id = self.open_call
        if call_id is None:
            self.told.messages.append({"role": "user", "content": text})
        else:
            self.told.messages.append(tool_turn(text, call_id))
            self.open_call = None


def _has_call(event: Row) -> bool:
    """Whether a call of the model stands with it."""
    return "action" in event and isinstance(event.get("tool_call_metadata"), dict)


def _delegated(events: list[Row]) -> set[int]:
    """The numbers of events between handing work to another agent and its result."""
    inside: set[int] = set()
    opened: list[int] = []
    for number, event in enumerate(events, start=1):
        if event.get("action") == "delegate" and event.get("source") != "user":
            opened.append(number)
        elif event.get("observation") == "delegate" and opened:
            inside.update(range(opened.pop() + 1, number))
    return inside


def _call(action: str, args: Row) -> Row:
    """A call by its name and what the model gave to it."""
    if action == "call_tool_mcp" and isinstance(args.get("name"), str) and args["name"]:
        given = args.get("arguments")
        return {"name": args["name"], "arguments": {} if given is None else given}
    kept = {"thought"} if action == "think" else set()
    left_out = _NOT_OF_MODEL - kept
    given = {key: value for key, value in args.items() if key not in left_out and value is not None}
    return {"name": action, "arguments": given}


def _thought(args: Row) -> str:
    """What the agent said before it acted."""
    thought = args.get("thought")
    return thought if isinstance(thought, str) else ""


def _id_of(event: Row) -> str:
    event_id = event.get("id")
    return str(event_id) if isinstance(event_id, str | int) else ""
