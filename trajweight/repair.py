"""What ``--repair`` does to a conversation; the row as it stood stays in ``extra_json``.

Only what has one plain remedy is mended, and nothing is made up: no result is invented for a call
that has none. What stays wrong stays flagged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trajweight.problems import CODES, Code, empty_turns, links_of, repeated_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trajweight.formats.protocol import Row

#: What is done about a problem, by its code; the others stay as they are.
REPAIRS: Final[dict[Code, str]] = {
    "orphan-result": "the tool turn becomes a user turn with the same text",
    "duplicate-call-id": "the later call and its result get a suffix to their id",
    "empty-turn": "the turn is removed",
    "trailing-user-turn": "user and system turns at the end are cut off",
    "roles-not-alternating": "turns of one speaker that follow each other become one, a blank "
    "line between their texts",
}


@dataclass(frozen=True, slots=True)
class Repaired:
    """A conversation after repair.

    Attributes:
        messages: Canonical messages.
        codes: What was mended, in the order of ``problems.CODES``; empty when nothing was.
    """

    messages: list[Row]
    codes: tuple[Code, ...]


def repaired(messages: Sequence[Row]) -> Repaired:
    """Mend what can be mended; doing it twice changes nothing more.

    Args:
        messages: Canonical messages; they are left as they are.
    """
    now = list(messages)
    mended: set[Code] = set()
    # In this order, since a result that becomes a user turn may be empty, and a turn that goes
    # may leave two of one speaker side by side.
    for code, mend in _MENDS:
        after = mend(now)
        if after != now:
            mended.add(code)
        now = after
    return Repaired(now, tuple(code for code in CODES if code in mended))


def _with_orphans_as_user_turns(messages: list[Row]) -> list[Row]:
    orphans = set(links_of(messages).orphans)
    return [
        {"role": "user", "content": message["content"]} if turn in orphans else message
        for turn, message in enumerate(messages)
    ]


def _with_own_ids(messages: list[Row]) -> list[Row]:
    repeated = repeated_ids(messages)
    if not repeated:
        return messages
    taken = {call["id"] for message in messages for call in message.get("tool_calls", ())}
    new_ids: dict[tuple[int, int], str] = {}
    counts: dict[str, int] = {}
    for call in repeated:
        name = call.call_id
        while name in taken:
            counts[call.call_id] = counts.get(call.call_id, 1) + 1
            name = f"{call.call_id}-{counts[call.call_id]}"
        taken.add(name)
        new_ids[call.turn, call.place] = name
    answers = {
        turn: new_ids.get((call.turn, call.place))
        for turn, call in links_of(messages).answers.items()
    }
    return [
        _renamed(message, turn, new_ids, answers.get(turn)) for turn, message in enumerate(messages)
    ]


def _renamed(
    message: Row, turn: int, new_ids: dict[tuple[int, int], str], answered: str | None
) -> Row:
    if answered and "tool_call_id" in message:
        message = {**message, "tool_call_id": answered}
    calls = message.get("tool_calls", ())
    if any((turn, place) in new_ids for place in range(len(calls))):
        renamed = [
            {**call, "id": new_ids.get((turn, place), call["id"])}
            for place, call in enumerate(calls)
        ]
        message = {**message, "tool_calls": renamed}
    return message


def _without_empty_turns(messages: list[Row]) -> list[Row]:
    empty = set(empty_turns(messages))
    return [message for turn, message in enumerate(messages) if turn not in empty]


def _without_trailing_turns(messages: list[Row]) -> list[Row]:
    speaking = [n for n, message in enumerate(messages) if message["role"] in ("assistant", "tool")]
    return messages[: speaking[-1] + 1] if speaking else messages


def _with_turns_joined(messages: list[Row]) -> list[Row]:
    groups: list[list[Row]] = []
    for message in messages:
        if groups and _are_one(groups[-1][-1], message):
            groups[-1].append(message)
        else:
            groups.append([message])
    return [group[0] if len(group) == 1 else _joined(group) for group in groups]


def _are_one(first: Row, second: Row) -> bool:
    """Whether two turns that follow each other can be told as one, with nothing moved."""
    is_same = first["role"] == second["role"] and first["role"] in ("user", "assistant")
    is_alike = first.get("untrained") == second.get("untrained")
    return is_same and is_alike and not first.get("tool_calls") and not second.get("reasoning")


def _joined(group: list[Row]) -> Row:
    text = "\n\n".join(message["content"] for message in group if message["content"])
    return {**group[0], **group[-1], "content": text}


_MENDS: Final[tuple[tuple[Code, Callable[[list[Row]], list[Row]]], ...]] = (
    ("orphan-result", _with_orphans_as_user_turns),
    ("duplicate-call-id", _with_own_ids),
    ("empty-turn", _without_empty_turns),
    ("trailing-user-turn", _without_trailing_turns),
    ("roles-not-alternating", _with_turns_joined),
)
