"""Turns as the messages a chat template understands.

What the template cannot show is folded into text: tool calls as ``<tool_call>`` blocks, tool
results as user messages with ``<tool_response>`` blocks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from trajweight.chat_format import ChatFormat, Message, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.trajectory import ToolCall, Turn


def messages_of(
    turns: Sequence[tuple[int, Turn]], chat_format: ChatFormat
) -> list[tuple[int, Message]]:
    """Messages for the template, each with the index of its turn.

    Neighbouring tool results that are folded share one user message, since a template that knows
    no tools mostly wants user and assistant to take turns.
    """
    names = {call.call_id: call.name for _, turn in turns for call in turn.tool_calls}
    ids = _shown_ids(turns, chat_format)
    messages: list[tuple[int, Message]] = []
    was_folded = False
    for index, turn in turns:
        is_folded = turn.role == "tool" and not chat_format.takes_tool_role
        if turn.role == "tool":
            message = _result(turn, names, ids, chat_format)
        else:
            message = _speech(turn, ids, chat_format)
        if is_folded and was_folded:
            messages[-1][1]["content"] += "\n" + message["content"]
        else:
            messages.append((index, message))
        was_folded = is_folded
    return messages


def tool_definition(tool: dict[str, Any]) -> dict[str, Any]:
    """The definition in the nested form that templates expect."""
    is_bare = "function" not in tool and "name" in tool
    return {"type": "function", "function": tool} if is_bare else tool


def _shown_ids(turns: Sequence[tuple[int, Turn]], chat_format: ChatFormat) -> dict[str, str]:
    """Call ids as the template takes them; an absent id gets one too, since some insist on it."""
    given = dict.fromkeys(call.call_id for _, turn in turns for call in turn.tool_calls)
    given |= dict.fromkeys(turn.tool_call_id for _, turn in turns if turn.role == "tool")
    return {
        call_id: call_id if call_id and not chat_format.renumbers_calls else f"call{place:05d}"
        for place, call_id in enumerate(given)
    }


def _result(
    turn: Turn, names: dict[str, str], ids: dict[str, str], chat_format: ChatFormat
) -> Message:
    if not chat_format.takes_tool_role:
        return say("user", f"<tool_response>\n{turn.content}\n</tool_response>")
    name = names.get(turn.tool_call_id, "tool")
    return {**say("tool", turn.content), "tool_call_id": ids[turn.tool_call_id], "name": name}


def _speech(turn: Turn, ids: dict[str, str], chat_format: ChatFormat) -> Message:
    message = say(turn.role, turn.content)
    if turn.reasoning and chat_format.shows_reasoning:
        message["reasoning_content"] = turn.reasoning
    if not turn.tool_calls:
        return message
    if not chat_format.shows_tool_calls:
        blocks = "\n".join(_folded_call(call) for call in turn.tool_calls)
        return {**message, "content": f"{turn.content}\n{blocks}" if turn.content else blocks}
    message["tool_calls"] = [
        {
            "type": "function",
            "id": ids[call.call_id],
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in turn.tool_calls
    ]
    return message


def _folded_call(call: ToolCall) -> str:
    shown = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
    return f"<tool_call>\n{shown}\n</tool_call>"
