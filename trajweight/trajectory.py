"""The one type that travels from door to door: a trajectory, and the table of many.

A table row keeps the canonical messages as JSON text, because tool arguments of different
shapes share no column type. ``extra_json`` is the original row with every value that the
canonical columns already give back replaced by null, so nothing of a row is ever lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

Origin = Literal["real", "synthetic"]
Role = Literal["system", "user", "assistant", "tool"]
Split = Literal["train", "validation", "dev", "test", "excluded"]

ROLES: Final[tuple[Role, ...]] = ("system", "user", "assistant", "tool")
ORIGINS: Final[tuple[Origin, ...]] = ("real", "synthetic")
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "dev", "test", "excluded")

#: Column name to polars type name; `reading` and `run` build the polars schema from it.
TRAJECTORY_COLUMNS: Final[dict[str, str]] = {
    "traj_id": "String",  # unique in the table; from the row's id, else source and place
    "content_sha256": "String",  # over canonical JSON of messages and tools
    "source": "String",  # who made the trajectory: a model, a simulator, "real"
    "origin": "String",  # real | synthetic
    "task_id": "String",  # rows of one task never stand in two splits
    "group_id": "String",  # rows made from the same seed; null when unknown
    "reward": "Float64",  # null when unknown or not finite
    "success": "Boolean",  # null when unknown
    "n_turns": "Int64",
    "n_assistant_turns": "Int64",
    "n_tool_calls": "Int64",
    "n_chars": "Int64",  # characters of all contents
    "problems": "String",  # codes of what is odd, see `problems`, with commas; null when nothing is
    "origin_format": "String",  # the name of a format, see `formats`
    "origin_path": "String",  # as the user gave it
    "origin_row": "Int64",  # its line, or its position from 1
    "origin_rows": "String",  # JSON list of lines, where a row was made of several; else null
    "messages_json": "String",  # canonical: a list of {role, content, tool_calls?, ...}
    "tools_json": "String",  # null when the row has none
    "extra_json": "String",
}

#: What a row says of itself besides, before it is compared with the others, see `identity`: whether
#: ``group_id`` is the id of the row it was made from, and a hash of its first user turn.
IDENTITY_COLUMNS: Final[dict[str, str]] = {"is_child": "Boolean", "opening": "String"}

#: Those columns that are long: a run keeps them apart, see `storage`.
TEXT_COLUMNS: Final = ("messages_json", "tools_json", "extra_json")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the assistant made.

    Attributes:
        name: Name of the function.
        arguments: Decoded arguments; a string when the row's text is not JSON.
        call_id: Links the call to its result; empty when the row gives none.
    """

    name: str
    arguments: Any
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message.

    Attributes:
        role: Who speaks.
        content: The text; empty when there is none.
        tool_calls: Calls made in this turn, in order.
        tool_call_id: The call that a tool turn answers; empty otherwise.
        reasoning: Reasoning text kept apart from the content; empty when there is none.
        is_trained: Whether an assistant turn may be trained on; a copied one may not.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""
    is_trained: bool = True


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A multi-turn trajectory with what is needed to tokenise it.

    Attributes:
        traj_id: Unique name of the row.
        turns: The messages in order.
        tools: Tool definitions as the row gives them.
    """

    traj_id: str
    turns: tuple[Turn, ...]
    tools: tuple[dict[str, Any], ...] = ()
