"""Agent Data Protocol: a list of actions and observations, each naming its class."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.pieces import assembled, assistant_turn, listing, objects, shown, tool_turn
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.scores import total_of
from trajweight.formats.turns import listed
from trajweight.jsontext import NotJsonError, encode, kind_of

#: The calls that run code, by the language they run; others name the language as an argument.
_RUNS: Final = {
    **dict.fromkeys(("bash", "sh", "shell"), ("execute_bash", "command")),
    **dict.fromkeys(("python", "py", "python3"), ("execute_ipython_cell", "code")),
}
_SPEAKERS: Final = {"user": "user", "agent": "assistant"}


class AgentDataProtocol(Format):
    """Rows with classed content; code is told as a call that runs it, as ADP's own tools do."""

    name = "agent-data-protocol"
    title = "Agent Data Protocol"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has content whose items name their class."""
        content = value.get("content") if isinstance(value, dict) else None
        if not isinstance(content, list):
            return ("content, a list", "a key class_ in the items of content")
        has = any("class_" in item for item in objects(content))
        return () if has else ("a key class_ in the items of content",)

    def canonical(self, item: Item) -> Canonical:
        """The trajectory, its reward being the sum of the rewards of its steps."""
        row = item.value
        told = _Told()
        steps = listed(row["content"], "content")
        for number, step in enumerate(steps, start=1):
            told.take(step, number)
        rewards = [step.get("reward") for step in steps]
        said, remarks = total_of(rewards, "the rewards of its steps")
        return assembled(told.turns, remarks=(*told.remarks(), *remarks), said=said)


class _Told:
    """The turns of a trajectory; grows step by step."""

    def __init__(self) -> None:
        self.turns: list[Row] = []
        self.screens: list[int] = []
        self._open: list[str] = []  # ids of calls without a result, in order

    def remarks(self) -> tuple[str, ...]:
        """What the turns cannot tell."""
        if not self.screens:
            return ()
        return (f"pictures of web pages are not told, in steps {listing(self.screens)}",)

    def take(self, step: Any, number: int) -> None:
        """Add a step.

        Raises:
            UnusableError: If it is of no known class, or lacks what its class should have.
        """
        place = f"step {number}"
        if not isinstance(step, dict):
            reason = f"{place} is {kind_of(step)}, not an object with a class_"
            raise UnusableError(reason)
        match step.get("class_"):
            case "message_action":
                texts = (_text(step, "description", place), _text(step, "content", place))
                self._say("\n\n".join(filter(None, texts)), [], step)
            case "api_action":
                name, arguments = step.get("function"), step.get("kwargs")
                self._call(name, {} if arguments is None else arguments, step, place)
            case "code_action":
                self._call(*_running(step, place), step, place)
            case "text_observation":
                self._observe(_text(step, "content", place), step, step.get("source"))
            case "json_observation":
                self._observe(_json(step.get("content"), place), step, step.get("source"))
            case "web_observation":
                if step.get("image_observation"):
                    self.screens.append(number)
                self._observe(_page(step, place), step, "environment")
            case "image_observation":
                reason = f"{place} is an image_observation; only text can be trained on"
                raise UnusableError(reason)
            case other:
                named = repr(shown(other)) if isinstance(other, str) else kind_of(other)
                reason = f"{place} is of class {named}, which is not known"
                raise UnusableError(reason)

    def _say(self, text: str, calls: list[Row], step: Row) -> None:
        reasoning = step.get("reasoning_content")
        reasoning = reasoning if isinstance(reasoning, str) else ""
        last = self.turns[-1] if self.turns else {}
        if calls and not text and not reasoning and last.get("role") == "assistant":
            last["tool_calls"] = [*last.get("tool_calls", ()), *calls]  # calls made at once
        else:
            self.turns.append(assistant_turn(text, calls, reasoning))

    def _call(self, name: Any, arguments: Any, step: Row, place: str) -> None:
        if not isinstance(name, str) or not name:
            reason = f"{place} is a call without a function name"
            raise UnusableError(reason)
        call_id = step.get("tool_call_id")
        call = {
            "id": str(call_id) if isinstance(call_id, str | int) else "",
            "name": name,
            "arguments": arguments,
        }
        self._open.append(call["id"])
        self._say(_text(step, "description", place), [call], step)

    def _observe(self, text: str, step: Row, source: Any) -> None:
        """An observation: the result of a call, or else what somebody says."""
        call_id = step.get("tool_call_id")
        if call_id is None and self._open and self.turns[-1]["role"] != "user":
            call_id = self._open.pop(0)
            self.turns.append(tool_turn(text, call_id))
        elif call_id is not None:
            if call_id in self._open:
                self._open.remove(call_id)
            self.turns.append(tool_turn(text, call_id))
        else:
            role = _SPEAKERS.get(source, "user") if isinstance(source, str) else "user"
            is_system = step.get("name") == "system" and not self.turns
            self.turns.append({"role": "system" if is_system else role, "content": text})


def _running(step: Row, place: str) -> tuple[str, Row]:
    """The name and the arguments of the call that runs a step's code."""
    code, language = _text(step, "content", place), step.get("language")
    if not isinstance(language, str):
        reason = f"{place} is a code_action whose language is {kind_of(language)}"
        raise UnusableError(reason)
    if language.lower() in _RUNS:
        name, argument = _RUNS[language.lower()]
        return name, {argument: code}
    return "execute_code", {"language": language, "content": code}


def _page(step: Row, place: str) -> str:
    """What a page shows: its accessibility tree where there is one, else its source."""
    seen = _text(step, "axtree", place) or _text(step, "html", place)
    url = _text(step, "url", place)
    if not seen and not url:
        reason = f"{place} is a web page without text; only text can be trained on"
        raise UnusableError(reason)
    return "\n".join(filter(None, (f"URL: {url}" if url else "", seen)))


def _text(step: Row, key: str, place: str) -> str:
    text = step.get(key)
    if text is not None and not isinstance(text, str):
        reason = f"{place} has {kind_of(text)} as {key}, not text"
        raise UnusableError(reason)
    return text or ""


def _json(value: Any, place: str) -> str:
    try:
        return encode(value)
    except NotJsonError as error:
        reason = f"{place} has content that cannot be written: {error}"
        raise UnusableError(reason) from error
