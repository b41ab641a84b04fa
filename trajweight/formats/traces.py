"""What formats of traces share: spans, found in any order, joined to the conversations they log.

All spans of a file are held until its end, since those of one trace may stand anywhere in it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.branches import Marked, branches_of, with_reasoning
from trajweight.formats.pieces import assembled, function_tools
from trajweight.formats.protocol import Canonical, Format, Item, UnusableError
from trajweight.formats.scores import Score, told_by
from trajweight.jsontext import NotJsonError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from trajweight.formats.dialects import Talk
    from trajweight.formats.protocol import Row
    from trajweight.records import Record

#: Kinds of spans: one that logs no messages; one around others that does; a call of a model.
NOTHING: Final = 0
AROUND: Final = 1
CALL: Final = 2
#: The hint that names the turns of a branch that an earlier branch has as well.
_SHARED: Final = "turns trained in another branch"


@dataclass(frozen=True, slots=True)
class Span:
    """One span, whatever tool logged it.

    Attributes:
        trace: The trace that it is of; empty when it names none.
        conversation: What joins several traces; empty where the tool knows of none.
        started: When it began, as the tool writes it; compared among its like.
        kind: `NOTHING`, `AROUND` or `CALL`.
        talk: Reads its messages; raises `UnusableError`.
        tools: Tool definitions, not yet understood.
        model: The model that was called.
        scores: Its scores.
    """

    trace: str
    started: Any
    kind: int
    talk: Callable[[], Talk]
    conversation: str = ""
    tools: Any = None
    model: str = ""
    scores: tuple[Score, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """A span with its record, its position there, and how many spans there are."""

    span: Span
    record: Record
    number: int = 0
    n_spans: int = 1


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a model: its turns, or why they cannot be read."""

    place: _Place
    talk: Marked
    remarks: tuple[str, ...] = ()
    fault: str = ""


class Traces(Format):
    """A format whose records hold spans; a trajectory is made from the spans of a trace."""

    #: What a call of a model is named, in reasons.
    call_name: ClassVar[str] = "span that calls a model"

    @abstractmethod
    def spans(self, value: Any) -> list[Span]:
        """The spans of a record that lacks nothing, in order. Never raises."""

    @abstractmethod
    def restricted(self, value: Any, kept: Collection[int]) -> Any:
        """A record of several spans, cut to those at these positions."""

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """One row a conversation, then a row for what is none; every span is in one of them."""
        places: list[_Place] = []
        for record in records:
            spans = [] if record.fault or self.lacks(record.value) else self.spans(record.value)
            places += [_Place(span, record, n, len(spans)) for n, span in enumerate(spans)]
            if not spans:
                yield Item(record.value, record.number, record, hints=hints)
        for group in _traces(places):
            yield from self._rows(group, hints)

    def canonical(self, item: Item) -> Canonical:
        """The conversation that the spans of a row hold."""
        values = item.value if item.numbers else [item.value]
        spans = [span for value in values for span in self.spans(value)]
        group = sorted((_Place(span, item.record) for span in spans), key=_time)
        calls = _calls(group)
        whole = [call for call in calls if not call.fault]
        if not calls:
            reason = f"no trajectory here: the trace has no {self.call_name}"
            raise UnusableError(reason)
        if not whole:
            raise UnusableError(calls[0].fault)
        talks = [call.talk for call in whole]
        branches = branches_of(talks)
        if len(branches) > 1:
            reason = f"holds {len(branches)} conversations that do not go on from one another"
            raise UnusableError(reason)
        main = whole[branches[0].main]
        turns = with_reasoning(main.talk, talks)
        for number in item.hints.get(_SHARED, ()):
            turns[number] = {**turns[number], "untrained": True}
        called = [call.place.span for call in whole]
        return _checked(turns, main, called, spans, is_branch=_SHARED in item.hints)

    def _rows(self, group: list[_Place], hints: Mapping[str, Any]) -> Iterator[Item]:
        """The rows of one trace; what is no call of a model goes with the first of them."""
        calls = _calls(group)
        whole = [call for call in calls if not call.fault]
        branches = branches_of([call.talk for call in whole])
        rows = [([whole[n].place for n in each.calls], each.shared) for each in branches]
        rows += [([call.place], ()) for call in calls if call.fault]
        used = {(place.record.number, place.number) for row, _ in rows for place in row}
        rest = [place for place in group if (place.record.number, place.number) not in used]
        if not rows:
            rows.append(([], ()))
        rows[0][0].extend(rest)
        for row, shared in rows:
            yield self._item(row, {**hints, _SHARED: shared} if len(branches) > 1 else hints)

    def _item(self, places: list[_Place], hints: Mapping[str, Any]) -> Item:
        """The row of some spans: their records, each cut to them."""
        by_record: dict[int, list[_Place]] = {}
        for place in sorted(places, key=lambda place: place.record.number):
            by_record.setdefault(place.record.number, []).append(place)
        values = [self._cut(group) for group in by_record.values()]
        first = next(iter(by_record.values()))[0].record
        if len(values) == 1:
            return Item(values[0], first.number, first, hints=hints)
        return Item(values, first.number, first, numbers=tuple(by_record), hints=hints)

    def _cut(self, places: list[_Place]) -> Any:
        """The value of a record that holds these spans, without its others."""
        value = places[0].record.value
        if len(places) == places[0].n_spans:
            return value
        return self.restricted(value, {place.number for place in places})


def _traces(places: list[_Place]) -> list[list[_Place]]:
    """Spans by what they are of, each group in the order of time.

    A span that names no conversation is of the one that another span of its trace names.
    """
    named: dict[str, str] = {}
    for place in places:
        if place.span.conversation and place.span.trace:
            named.setdefault(place.span.trace, place.span.conversation)
    groups: dict[Any, list[_Place]] = {}
    for place in places:
        trace = place.span.trace
        conversation = place.span.conversation or named.get(trace, "")
        alone = (place.record.number, place.number)
        key = ("c", conversation) if conversation else ("t", trace) if trace else alone
        groups.setdefault(key, []).append(place)
    return [sorted(group, key=_time) for group in groups.values()]


def _time(place: _Place) -> tuple[int, float, str]:
    """When a span began, so that those of one tool can be compared."""
    started = place.span.started
    if isinstance(started, str) and started.isdigit() and len(started) < 40:
        return 0, float(started), started.zfill(40)
    if isinstance(started, int | float):
        return (0, float(started), "") if abs(started) < 1e300 else (1, 0.0, "")
    return (1, 0.0, started) if isinstance(started, str) else (2, 0.0, "")


def _calls(group: list[_Place]) -> list[_Call]:
    """The calls of models of a trace; where it logs none, the spans around everything."""
    kind = max((place.span.kind for place in group), default=NOTHING)
    calls = []
    for place in group:
        if place.span.kind == kind != NOTHING:
            call = _read(place)
            if kind == CALL or not call.fault:
                calls.append(call)
    return calls


def _read(place: _Place) -> _Call:
    try:
        talk = place.span.talk()
        marked = Marked.of(talk.turns)
    except (UnusableError, NotJsonError) as error:
        return _Call(place, Marked((), ()), fault=str(error))
    return _Call(place, marked, talk.remarks, "" if talk.turns else "the call logs no messages")


def _checked(
    turns: list[Row], main: _Call, calls: list[Span], spans: list[Span], *, is_branch: bool
) -> Canonical:
    """The canonical form of a conversation.

    Raises:
        UnusableError: If nothing is left to train on.
    """
    spoken = [turn for turn in turns if turn["role"] == "assistant"]
    if spoken and all(turn.get("untrained") for turn in spoken):
        reason = "every assistant turn is trained on in another branch of the trace"
        raise UnusableError(reason)
    defined = next((span.tools for span in (main.place.span, *calls) if span.tools), None)
    tools, remarks = function_tools(defined, "tool definitions")
    scores, score_remarks = told_by([score for span in spans for score in span.scores])
    said: dict[str, tuple[Any, str]] = dict(scores)
    span = main.place.span
    name = span.conversation or span.trace
    if name:
        said["id"] = (name, "conversation id" if span.conversation else "trace id")
    if name and is_branch:
        said["group"] = said["id"]
    if span.model:
        said["source"] = (span.model, "model of the call")
    return assembled(
        turns, tools=tools, remarks=(*main.remarks, *remarks, *score_remarks), said=said
    )
