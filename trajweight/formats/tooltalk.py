"""ToolTalk conversations: an assistant's turn names the APIs that it called before speaking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from trajweight.formats.lookup import look_up
from trajweight.formats.pieces import assembled, assistant_turn, listing, tool_turn
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import listed
from trajweight.jsontext import NotJsonError, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class ToolTalk(Format):
    """Files of one conversation; each call is answered before the next, and before the text."""

    name = "tooltalk"
    title = "ToolTalk conversations"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {"task": ("name",)}

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has a conversation, and the APIs used in it."""
        has = value if isinstance(value, dict) else {}
        return tuple(f"a key {key}" for key in ("conversation", "apis_used") if key not in has)

    def canonical(self, item: Item) -> Canonical:
        """The conversation as it was written down; what a model predicted instead is not read."""
        messages: list[Row] = []
        predicted = []
        for number, turn in enumerate(listed(item.value["conversation"], "conversation"), start=1):
            messages += _turns(turn, number)
            if turn.get("predictions"):
                predicted.append(number)
        told = f"turns {listing(predicted)} have predictions, which are kept, not read"
        return assembled(messages, remarks=(told,) if predicted else ())


def _turns(turn: Any, number: int) -> list[Row]:
    role = turn.get("role") if isinstance(turn, dict) else None
    text = turn.get("text") if isinstance(turn, dict) else None
    if role not in ("user", "assistant") or not isinstance(text, str):
        reason = f"turn {number} is {kind_of(turn)} without a role of user or assistant and a text"
        raise UnusableError(reason)
    apis = turn.get("apis") or []
    if not isinstance(apis, list) or (apis and role == "user"):
        reason = f"turn {number} of the {role} has {kind_of(apis)} as apis"
        raise UnusableError(reason)
    turns = [each for n, api in enumerate(apis, start=1) for each in _called(api, f"{number}.{n}")]
    return [*turns, {"role": role, "content": text}]


def _called(api: Any, place: str) -> list[Row]:
    """A call and what it gave back, or what went wrong."""
    request = look_up(api, "request")
    name = look_up(request, "api_name")
    if not isinstance(name, str) or not name:
        reason = f"call {place} has no request with an api_name"
        raise UnusableError(reason)
    # The data has no ids: the place of a call is its id, so that each result finds its call.
    arguments = look_up(request, "parameters") or {}
    call = {"id": f"call_{place}", "name": name, "arguments": arguments}
    given = api.get("exception") if api.get("exception") is not None else api.get("response")
    try:
        result = given if isinstance(given, str) else encode(given)
    except NotJsonError as error:
        reason = f"the response of call {place} cannot be written: {error}"
        raise UnusableError(reason) from error
    return [assistant_turn("", [call]), tool_turn(result, call["id"])]
