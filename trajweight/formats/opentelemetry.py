"""OpenTelemetry spans of generative AI, as OTLP in JSON or one span a record.

What a call of a model said stands in attributes named ``gen_ai.*``, in one of several ways: as
messages (semantic conventions 1.37 and later), as events of the span (1.36 and earlier), or one
attribute a message (OpenLLMetry).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.message_parts import opened
from trajweight.formats.pieces import objects
from trajweight.formats.prompts import talk_of
from trajweight.formats.protocol import Row, UnusableError
from trajweight.formats.scores import Score
from trajweight.formats.traces import AROUND, CALL, NOTHING, Span, Traces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from trajweight.formats.dialects import Talk

_PREFIX: Final = "gen_ai."
_INPUT: Final = "gen_ai.input.messages"
_OUTPUT: Final = "gen_ai.output.messages"
_SYSTEM: Final = "gen_ai.system_instructions"
_TOOLS: Final = "gen_ai.tool.definitions"
_OPERATION: Final = "gen_ai.operation.name"
_MODELS: Final = ("gen_ai.response.model", "gen_ai.request.model")
#: An event that holds what could stand in the span's own attributes.
_DETAILS: Final = "gen_ai.client.inference.operation.details"
_EVALUATION: Final = "gen_ai.evaluation.result"
_EVENTS: Final = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CHOICE: Final = "gen_ai.choice"
#: Operations that are calls of models; one without a name is, where it logs messages.
_CALLS: Final = frozenset({"chat", "generate_content", "text_completion", "completion", ""})
#: Operations around such calls, which repeat their first question and last answer.
_AROUND: Final = frozenset({"invoke_agent", "invoke_workflow"})
_TRACE_IDS: Final = ("traceId", "trace_id", "context.trace_id")
_SPAN_IDS: Final = ("spanId", "span_id", "context.span_id")
_STARTED: Final = ("startTimeUnixNano", "start_time_unix_nano", "start_time", "startTime")
#: How deep attribute values may be nested.
_DEEPEST: Final = 100


class OpenTelemetry(Traces):
    """Spans, joined by their conversation or else by their trace."""

    name = "opentelemetry"
    title = "OpenTelemetry GenAI spans"
    call_name = "span with gen_ai messages"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A record has spans inside, or is one: with ids, or with attributes of generative AI."""
        if isinstance(value, dict):
            if isinstance(_batches(value), list):
                return ()
            is_span = any(map(partial(_at, value), _SPAN_IDS))
            if _has_genai(value) or (is_span and any(map(partial(_at, value), _TRACE_IDS))):
                return ()
        return ("resourceSpans, or a traceId and a spanId", "attributes named gen_ai.*")

    def spans(self, value: Any) -> list[Span]:
        """The spans of a batch, or the one that the record is."""
        if _batches(value) is None:
            return [_span(value)]
        return [_span(span) for span in _inside(value)]

    def restricted(self, value: Any, kept: Collection[int]) -> Any:
        """A batch with the resources and scopes of the spans that are kept."""
        key = "resourceSpans" if "resourceSpans" in value else "resource_spans"
        numbers = iter(range(len(self.spans(value))))
        batches = []
        for resource in objects(value[key]):
            inner = _scopes_key(resource)
            scopes = []
            for scope in objects(resource.get(inner)):
                spans = [each for each in objects(scope.get("spans")) if next(numbers) in kept]
                if spans:
                    scopes.append({**scope, "spans": spans})
            if scopes:
                batches.append({**resource, inner: scopes})
        return {**value, key: batches}


def _batches(value: Row) -> Any:
    return value.get("resourceSpans", value.get("resource_spans"))


def _scopes_key(resource: Row) -> str:
    names = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans")
    return next((name for name in names if name in resource), names[0])


def _inside(value: Row) -> Iterator[Row]:
    for resource in objects(_batches(value)):
        for scope in objects(resource.get(_scopes_key(resource))):
            yield from objects(scope.get("spans"))


def _at(value: Row, path: str) -> Any:
    """The value at a path of two keys at most."""
    key, _, rest = path.partition(".")
    inner = value.get(key)
    return inner.get(rest) if rest and isinstance(inner, dict) else None if rest else inner


def _has_genai(value: Row) -> bool:
    own = opened(value.get("attributes"))
    keys = list(own) if isinstance(own, dict) else [each.get("key") for each in objects(own)]
    return any(isinstance(key, str) and _PREFIX in key for key in (*keys, *value))


def _span(span: Row) -> Span:
    attributes = _attributes(span)
    events = [(_name(event), _attributes(event)) for event in objects(opened(span.get("events")))]
    for name, more in events:
        if name == _DETAILS:
            attributes = {**more, **attributes}
    operation = attributes.get(_OPERATION)
    return Span(
        trace=_first(span, _TRACE_IDS),
        started=next((at for path in _STARTED if (at := span.get(path)) is not None), None),
        kind=_kind(operation, attributes, events),
        talk=partial(_talk, attributes, events),
        conversation=_first(attributes, ("gen_ai.conversation.id",)),
        tools=opened(attributes.get(_TOOLS)),
        model=_first(attributes, _MODELS),
        scores=tuple(_score(more) for name, more in events if name == _EVALUATION),
    )


def _kind(operation: Any, attributes: Row, events: list[tuple[str, Row]]) -> int:
    name = operation if isinstance(operation, str) else ""
    if name not in (*_CALLS, *_AROUND):
        return NOTHING
    has_messages = any(key in attributes for key in (_INPUT, _OUTPUT)) or any(
        name in (*_EVENTS, _CHOICE) or "gen_ai.prompt" in more for name, more in events
    )
    has_messages = has_messages or any(key.startswith("gen_ai.prompt") for key in attributes)
    if name in _AROUND:
        return AROUND if has_messages else NOTHING
    is_call = has_messages or (name and any(key in attributes for key in _MODELS))
    return CALL if is_call else NOTHING


def _talk(attributes: Row, events: list[tuple[str, Row]]) -> Talk:
    """The messages of a call, in whichever way they are logged."""
    if _INPUT in attributes or _OUTPUT in attributes:
        return _of_messages(attributes)
    if _is_numbered(attributes):
        asked = _numbered(attributes, "gen_ai.prompt.")
        answered = _numbered(attributes, "gen_ai.completion.")
        return talk_of(asked, answered)
    spoken = [(name, more) for name, more in events if name in (*_EVENTS, _CHOICE)]
    if spoken:
        return _of_events(spoken)
    whole = {**attributes, **{k: v for _, more in events for k, v in more.items()}}
    return talk_of(whole.get("gen_ai.prompt"), whole.get("gen_ai.completion"))


def _of_messages(attributes: Row) -> Talk:
    """Each message of the output is another choice, of which the first is read."""
    asked, answered = opened(attributes.get(_INPUT)), opened(attributes.get(_OUTPUT))
    if not isinstance(asked, list | None) or not isinstance(answered, list | None):
        reason = f"{_INPUT} and {_OUTPUT} should be lists of messages"
        raise UnusableError(reason)
    system = opened(attributes.get(_SYSTEM))
    before = [{"role": "system", "content": system}] if system else []
    choices = [{"message": message} for message in answered or ()]
    return talk_of([*before, *(asked or ())], {"choices": choices} if choices else None)


def _is_numbered(attributes: Row) -> bool:
    return any(key.startswith(("gen_ai.prompt.0.", "gen_ai.completion.0.")) for key in attributes)


def _numbered(attributes: Row, prefix: str) -> list[Row]:
    """Messages of which each field is an attribute: ``gen_ai.prompt.0.tool_calls.1.name``."""
    messages: dict[int, Row] = {}
    calls: dict[tuple[int, int], Row] = {}
    for key, value in attributes.items():
        number, _, field = key.removeprefix(prefix).partition(".")
        if not key.startswith(prefix) or not number.isascii() or not number.isdigit():
            continue
        message = messages.setdefault(int(number[:9]), {"role": "assistant", "content": ""})
        place, _, inner = field.removeprefix("tool_calls.").partition(".")
        if field.startswith("tool_calls.") and place.isascii() and place.isdigit():
            calls.setdefault((int(number[:9]), int(place[:9])), {})[inner] = value
        else:
            message[field] = opened(value) if field == "content" else value
    for (number_, _), call in sorted(calls.items(), key=lambda pair: pair[0]):
        messages[number_].setdefault("tool_calls", []).append(call)
    return [messages[number_] for number_ in sorted(messages)]


def _of_events(spoken: list[tuple[str, Row]]) -> Talk:
    asked = [_message(_body(more), _EVENTS[name]) for name, more in spoken if name != _CHOICE]
    choices = [_body(more) for name, more in spoken if name == _CHOICE]
    answers = [{"message": _message(_said(body), "assistant")} for body in choices]
    return talk_of(asked, {"choices": answers} if answers else None)


def _body(attributes: Row) -> Row:
    """What an event holds: its attributes, and those that are packed into one of them."""
    packed = (opened(attributes.get(key)) for key in ("gen_ai.event.content", "body"))
    inner = {k: v for each in packed if isinstance(each, dict) for k, v in each.items()}
    return {**attributes, **inner}


def _said(body: Row) -> Row:
    message = opened(body.get("message"))
    if isinstance(message, dict):
        return {**body, **message}
    return {**body, "content": message} if isinstance(message, str) else body


def _message(body: Row, role: str) -> Row:
    """A message of an event; the id of a tool's message is that of the call."""
    role = body["role"] if isinstance(body.get("role"), str) and body["role"] != "bot" else role
    message = {"role": role, "content": opened(body.get("content"))}
    if body.get("tool_calls"):
        message["tool_calls"] = opened(body["tool_calls"])
    if role == "tool" and (call_id := body.get("id") or body.get("tool_call_id")):
        message["tool_call_id"] = call_id
    return message


def _score(attributes: Row) -> Score:
    name = attributes.get("gen_ai.evaluation.name")
    value = attributes.get("gen_ai.evaluation.score.value")
    return Score(name if isinstance(name, str) else "evaluation", value)


def _name(event: Row) -> str:
    name = event.get("name")
    return name if isinstance(name, str) else ""


def _first(holder: Row, paths: tuple[str, ...]) -> str:
    """The first of these that holds text."""
    found = (holder.get(path) or _at(holder, path) for path in paths)
    return next((value for value in found if isinstance(value, str) and value), "")


def _attributes(holder: Row) -> Row:
    """Attributes as a mapping, be they one, a list of keys with values, or beside the rest."""
    own = opened(holder.get("attributes"))
    if isinstance(own, list):
        named = [each for each in objects(own) if isinstance(each.get("key"), str)]
        return {each["key"]: _plain(each.get("value")) for each in named}
    beside = {key[key.index(_PREFIX) :]: value for key, value in holder.items() if _PREFIX in key}
    return {**beside, **own} if isinstance(own, dict) else beside


def _plain(value: Any, depth: int = 0) -> Any:
    """A value of OTLP without its wrapper; one that is nested too deeply is null."""
    if not isinstance(value, dict) or depth > _DEEPEST:
        return None
    kind = next(iter(value), "")
    inner = value.get(kind)
    name = kind.replace("_", "").lower()
    if name == "intvalue":
        return _whole(inner)
    if name not in ("arrayvalue", "kvlistvalue"):
        return inner
    values = objects(inner.get("values")) if isinstance(inner, dict) else []
    if name == "arrayvalue":
        return [_plain(each, depth + 1) for each in values]
    named = [each for each in values if isinstance(each.get("key"), str)]
    return {each["key"]: _plain(each.get("value"), depth + 1) for each in named}


def _whole(value: Any) -> Any:
    """A whole number that is written as text, as JSON of 64 bits is."""
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("-")
    return int(value) if digits.isascii() and digits.isdigit() and len(digits) < 20 else value
