"""Conversations as hosted services take them: OpenAI's chat format, held to the services' rules.

A service refuses a whole file for one bad row, often hours after the upload. So rows are checked
here, by what the services document; a row that breaks a rule stays out and is counted.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from trajweight.formats import UnusableError
from trajweight.jsontext import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.trainers.protocol import Example, Plan, Row

_EPOCHS: Final = 3
_HEAD: Final = '''\
MODEL = @model@
FILES = @files@
EPOCHS = @epochs@  # over all files, which are put together for the job
SEED = @seed@


def one_file():
    """The file of the job."""
    if len(FILES) == 1:
        return Path(FILES[0])
    path = Path("data/all.jsonl")
    with path.open("wb") as whole:
        for name in FILES:
            with open(name, "rb") as part:
                shutil.copyfileobj(part, whole)
    return path
'''
#: Keys of a tool definition under which its parameters may stand.
_PARAMETERS: Final = ("parameters", "input_schema", "inputSchema")


def service_row(example: Example, *, has_reasoning: bool) -> Row:
    """Messages and tools; a reply that may not be trained on has ``"weight": 0``.

    Args:
        example: The trajectory.
        has_reasoning: Whether the service reads ``reasoning_content``; else it is left out.

    Raises:
        UnusableError: If a rule is broken that all services have.
    """
    messages = []
    for message, trained in zip(example.messages, example.trained, strict=True):
        made = {**message, "content": message["content"] or ""}
        if made.get("tool_calls") and not made["content"]:
            del made["content"]  # null in the API, and left out in the services' own examples
        if not has_reasoning:
            made.pop("reasoning_content", None)
        if made["role"] == "assistant" and not trained:
            made["weight"] = 0
        messages.append(made)
    row: Row = {"messages": messages}
    if example.tools is not None:
        row["tools"] = function_tools(example.tools)
    _check(messages, example.trained)
    return row


def drops_reasoning(example: Example) -> bool:
    """Whether a row loses reasoning where the service reads none."""
    return any("reasoning_content" in message for message in example.messages)


def function_tools(tools: Sequence[Row]) -> list[Row]:
    """Tool definitions as OpenAI's API has them.

    Raises:
        UnusableError: If one has no name.
    """
    return [_function_tool(tool, number) for number, tool in enumerate(tools, start=1)]


def check_alternation(messages: Sequence[Row]) -> None:
    """Require that user and assistant take turns; results of tools may follow each other.

    Raises:
        UnusableError: If two turns in a row are of one speaker.
    """
    for before, after in pairwise(messages):
        if before["role"] == after["role"] != "tool":
            message = f"two turns of the {after['role']} in a row"
            raise UnusableError(message)


def check_answers(messages: Sequence[Row]) -> None:
    """Require that every call is answered before anybody else speaks, but for those at the end.

    Raises:
        UnusableError: If one is not.
    """
    open_calls: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            reason = "a tool call without a result"
            raise UnusableError(reason)
        open_calls = {call["id"] for call in message.get("tool_calls", ())}


def size_trap(plan: Plan, *, least: int, most: int | None = None) -> tuple[str, ...]:
    """What to say of an export that has too few or too many rows for the service."""
    n_rows = sum(file.n_rows for file in plan.data)
    if n_rows < least:
        return (f"The service takes no fewer than {least} rows; this export has {n_rows}.",)
    if most is not None and n_rows > most:
        return (f"The service takes no more than {most} rows; this export has {n_rows}.",)
    return ()


def job_script(script: str, plan: Plan) -> str:
    """A script that starts a job, its marks filled in.

    Args:
        script: With the marks ``@head@`` after its imports, and nothing else to fill in.
        plan: Of the export.
    """
    names = encode([file.name for file in plan.data]).replace('","', '", "')
    replaced = {
        "@model@": encode(plan.model),
        "@files@": names,
        "@epochs@": str(epochs(plan)),
        "@seed@": str(plan.seed),
    }
    text = script.replace("@head@", _HEAD)
    for mark, value in replaced.items():
        text = text.replace(mark, value)
    return text


def epochs(plan: Plan) -> int:
    """Passes over the one file of a job, which holds the resampled files of all epochs."""
    return 1 if plan.mode == "resample" else _EPOCHS


def _function_tool(tool: Row, number: int) -> Row:
    told = tool.get("function", tool)
    name = told.get("name") if isinstance(told, dict) else None
    if not isinstance(name, str) or not name:
        message = f"tool {number} has no name"
        raise UnusableError(message)
    if told is not tool:
        return {"type": "function", "function": told}
    made: Row = {"name": name}
    if "description" in tool:
        made["description"] = tool["description"]
    for key in _PARAMETERS:
        if key in tool:
            made["parameters"] = tool[key]
            break
    return {"type": "function", "function": made}


def _check(messages: Sequence[Row], trained: Sequence[bool]) -> None:
    """The rules that all services have."""
    if not any(trained):
        reason = "no reply to train on"
        raise UnusableError(reason)
    calls: set[str] = set()
    for number, message in enumerate(messages):
        match message["role"]:
            case "system" if number:
                reason = "a system turn that is not the first"
                raise UnusableError(reason)
            case "assistant":
                made = message.get("tool_calls", ())
                if not made and not message["content"].strip():
                    reason = "a reply that says nothing"
                    raise UnusableError(reason)
                calls = {call["id"] for call in made}
                if "" in calls or len(calls) < len(made):
                    reason = "tool calls without an id of their own"
                    raise UnusableError(reason)
            case "tool" if message.get("tool_call_id") not in calls:
                reason = "a tool result that answers no call before it"
                raise UnusableError(reason)
            case "user":
                calls = set()
