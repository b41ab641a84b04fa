"""CaSiNo dialogues: two people share out camping supplies; the one who answers is learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from trajweight.formats.lookup import look_up
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_conversation, listed
from trajweight.jsontext import NotJsonError, encode

if TYPE_CHECKING:
    from collections.abc import Mapping


class Casino(Format):
    """Rows with the log of a chat; the reward is the points of the one who answers."""

    name = "casino"
    title = "CaSiNo dialogues"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "id": ("dialogue_id",),
        "task": ("dialogue_id",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has the log of a chat, and its participants."""
        has = value if isinstance(value, dict) else {}
        keys = ("chat_logs", "participant_info")
        return tuple(f"a key {key}" for key in keys if key not in has)

    def canonical(self, item: Item) -> Canonical:
        """The dialogue: the one who opens it is the user, the other the assistant."""
        logs = listed(item.value["chat_logs"], "chat_logs")
        found = canonical_conversation({}, [_turn(each, n, logs[0]) for n, each in enumerate(logs)])
        answering = next(each["id"] for each in logs if each["id"] != logs[0]["id"])
        people = item.value["participant_info"]
        person = people.get(answering) if isinstance(people, dict) else None
        points = look_up(person, "outcomes.points_scored")
        said = {} if points is None else {"reward": (points, "the points of the one who answers")}
        return Canonical(found.messages, [], found.remarks, said)


def _turn(said: Any, position: int, first: Any) -> Row:
    """A turn; what is decided in it, such as the shares of a deal, is written after its text."""
    text = said.get("text") if isinstance(said, dict) else None
    who = said.get("id") if isinstance(said, dict) else None
    if not isinstance(text, str) or not isinstance(who, str):
        reason = f"turn {position + 1} has no text and id of who says it"
        raise UnusableError(reason)
    decided = said.get("task_data")
    try:
        content = f"{text}\n{encode(decided)}" if decided else text
    except NotJsonError as error:
        reason = f"turn {position + 1} has task_data that cannot be written: {error}"
        raise UnusableError(reason) from error
    return {"role": "user" if who == first["id"] else "assistant", "content": content}
