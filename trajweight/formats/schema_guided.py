"""Schema-Guided Dialogue: a user and a system take turns; the system calls services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.pieces import assembled, assistant_turn, objects, tool_turn
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import listed
from trajweight.jsontext import NotJsonError, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROLES: Final = {"USER": "user", "SYSTEM": "assistant"}


class SchemaGuided(Format):
    """Rows with turns; a service is called before the system speaks."""

    name = "schema-guided"
    title = "Schema-Guided Dialogue"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "id": ("dialogue_id",),
        "task": ("dialogue_id",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has turns, its id, and the services that it is about."""
        has = value if isinstance(value, dict) else {}
        return tuple(
            f"a key {key}" for key in ("dialogue_id", "services", "turns") if key not in has
        )

    def canonical(self, item: Item) -> Canonical:
        """The dialogue, calls of services and what they gave back included."""
        turns = listed(item.value["turns"], "turns")
        return assembled([each for n, turn in enumerate(turns, 1) for each in _turns(turn, n)])


def _turns(turn: Any, number: int) -> list[Row]:
    speaker = turn.get("speaker") if isinstance(turn, dict) else None
    text = turn.get("utterance") if isinstance(turn, dict) else None
    role = _ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None or not isinstance(text, str):
        reason = f"turn {number} is {kind_of(turn)} without a speaker of USER or SYSTEM and a text"
        raise UnusableError(reason)
    frames = [frame for frame in objects(turn.get("frames")) if frame.get("service_call")]
    calls = [each for n, frame in enumerate(frames, 1) for each in _called(frame, f"{number}.{n}")]
    return [*calls, {"role": role, "content": text}]


def _called(frame: Row, place: str) -> list[Row]:
    call = frame["service_call"]
    name = call.get("method") if isinstance(call, dict) else None
    if not isinstance(name, str) or not name:
        reason = f"service call {place} has no method"
        raise UnusableError(reason)
    made = {"id": f"call_{place}", "name": name, "arguments": call.get("parameters") or {}}
    try:
        found = encode(frame.get("service_results"))
    except NotJsonError as error:
        reason = f"the results of service call {place} cannot be written: {error}"
        raise UnusableError(reason) from error
    return [assistant_turn("", [made]), tool_turn(found, made["id"])]
