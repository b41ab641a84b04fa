"""Langfuse exports: observations one a record, or whole traces with their observations inside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.message_parts import opened
from trajweight.formats.pieces import objects
from trajweight.formats.prompts import talk_of, tools_in
from trajweight.formats.scores import Score
from trajweight.formats.traces import AROUND, CALL, NOTHING, Span, Traces

if TYPE_CHECKING:
    from collections.abc import Collection

    from trajweight.formats.protocol import Row

_TYPES: Final = frozenset(
    {
        "SPAN",
        "GENERATION",
        "EVENT",
        "AGENT",
        "TOOL",
        "CHAIN",
        "RETRIEVER",
        "EVALUATOR",
        "EMBEDDING",
        "GUARDRAIL",
    }
)
#: Kinds of scores whose value is the number of a category, and no measure.
_NO_MEASURE: Final = frozenset({"CATEGORICAL", "TEXT", "CORRECTION"})


class Langfuse(Traces):
    """Observations, joined by their trace; blob storage and the API name their keys differently."""

    name = "langfuse"
    title = "Langfuse observations"
    call_name = "observation of type GENERATION"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """An observation names its trace and its type; a trace or a page of the API has some."""
        if isinstance(value, dict):
            inside = _inside(value)
            if any(_is_observation(each) for each in inside) or _is_observation(value):
                return ()
            if value.get("observations") == [] and "scores" in value:
                return ()
            if _trace_id(value):
                return ("a type such as GENERATION",)
        return ("observations, or a trace_id", "a type such as GENERATION")

    def spans(self, value: Any) -> list[Span]:
        """The trace where there is one, then its observations."""
        if _is_observation(value):
            return [_span(value, "")]
        trace = value.get("trace") if isinstance(value.get("trace"), dict) else value
        around = [] if _is_page(value) else [_around(trace)]
        named = "" if _is_page(value) else _text(trace, "id")
        return [*around, *(_span(each, named) for each in _inside(value))]

    def restricted(self, value: Any, kept: Collection[int]) -> Any:
        """What is around observations stays; of them, those kept."""
        key = "data" if _is_page(value) else "observations"
        first = 0 if _is_page(value) else 1
        rows = [each for n, each in enumerate(_inside(value), start=first) if n in kept]
        return {**value, key: rows}


def _inside(value: Row) -> list[Row]:
    return objects(value.get("data" if _is_page(value) else "observations"))


def _is_page(value: Row) -> bool:
    """Whether it is what the API answers: observations of any traces."""
    return "observations" not in value and any(map(_is_observation, objects(value.get("data"))))


def _is_observation(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        return False
    return value["type"].upper() in _TYPES and bool(_trace_id(value))


def _trace_id(value: Row) -> str:
    return _text(value, "trace_id") or _text(value, "traceId")


def _text(value: Row, *keys: str) -> str:
    """The first of these keys that holds text."""
    return next((value[key] for key in keys if value.get(key) and isinstance(value[key], str)), "")


def _around(trace: Row) -> Span:
    """The trace itself, which mostly holds the question and the last answer."""
    return Span(
        trace=_text(trace, "id"),
        started=_text(trace, "timestamp", "createdAt") or None,
        kind=AROUND if trace.get("input") and trace.get("output") else NOTHING,
        talk=partial(talk_of, trace.get("input"), trace.get("output")),
        scores=_scores(trace.get("scores")),
    )


def _span(row: Row, trace: str) -> Span:
    is_call = isinstance(row.get("type"), str) and row["type"].upper() == "GENERATION"
    is_root = not (row.get("parent_observation_id") or row.get("parentObservationId"))
    is_around = is_root and row.get("input") and row.get("output")
    return Span(
        trace=trace or _trace_id(row),
        started=_text(row, "start_time", "startTime") or None,
        kind=CALL if is_call else AROUND if is_around else NOTHING,
        talk=partial(talk_of, row.get("input"), row.get("output")),
        tools=tools_in(row.get("input")) or _defined(row),
        model=_text(row, "provided_model_name", "model", "providedModelName"),
        scores=_scores(row.get("scores")),
    )


def _defined(row: Row) -> list[Row] | None:
    """Tool definitions as an export has them: by name, each as JSON text."""
    tools = opened(row.get("tool_definitions") or row.get("toolDefinitions"))
    if not isinstance(tools, dict):
        return None
    read = {name: opened(tool) for name, tool in tools.items()}
    return [{"name": n, **(tool if isinstance(tool, dict) else {})} for n, tool in read.items()]


def _scores(value: Any) -> tuple[Score, ...]:
    """Scores as the API writes them, or by name as tables do, several of one name in a list."""
    if isinstance(value, dict):
        pairs = ((name, v if isinstance(v, list) else [v]) for name, v in value.items())
        return tuple(Score(name, each) for name, values in pairs for each in values)
    return tuple(
        Score(_text(each, "name") or "score", each.get("value"), is_outcome=kind == "BOOLEAN")
        for each in objects(value)
        if (kind := _text(each, "data_type", "dataType")) not in _NO_MEASURE
    )
