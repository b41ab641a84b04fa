"""LangSmith runs: one a record, in a list, or each with its child runs inside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.lookup import look_up
from trajweight.formats.message_parts import opened
from trajweight.formats.pieces import objects
from trajweight.formats.prompts import talk_of, tools_in
from trajweight.formats.scores import Score
from trajweight.formats.traces import AROUND, CALL, NOTHING, Span, Traces

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from trajweight.formats.protocol import Row

#: Where a run says which model it called, and which tools the model had.
_MODELS: Final = (
    "extra.metadata.ls_model_name",
    "extra.invocation_params.model",
    "extra.invocation_params.model_name",
    "inputs.model",
)
_TOOLS: Final = "extra.invocation_params.tools"
#: Runs inside runs inside runs; what is deeper is kept and not read.
_DEEPEST: Final = 64


class LangSmith(Traces):
    """Runs, joined by their trace."""

    name = "langsmith"
    title = "LangSmith runs"
    call_name = "run of run_type llm"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A run has a run_type and an id; a list of runs has one such run."""
        if isinstance(value, dict):
            if _is_run(value) or any(map(_is_run, objects(value.get("runs")))):
                return ()
            if value.get("id") or value.get("run_id"):
                return ("a key run_type",)
        return ("a key run_type", "a key run_id")

    def spans(self, value: Any) -> list[Span]:
        """The runs, each before its child runs."""
        return [_span(run, trace) for top in _tops(value) for run, trace in _below(top)]

    def restricted(self, value: Any, kept: Collection[int]) -> Any:
        """The trees that hold a run that is kept; inputs and outputs of the others are null."""
        runs, first = [], 0
        for top in _tops(value):
            n_runs = sum(1 for _ in _below(top))
            if any(first <= number < first + n_runs for number in kept):
                numbers = iter(range(first, first + n_runs))
                runs.append(_pruned(top, kept, numbers))
            first += n_runs
        return {**value, "runs": runs} if not _is_run(value) else runs[0]


def _is_run(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("run_type"), str):
        return False
    return isinstance(value.get("id") or value.get("run_id"), str)


def _tops(value: Row) -> list[Row]:
    return [value] if _is_run(value) else objects(value.get("runs"))


def _below(run: Row, trace: str = "", depth: int = 0) -> Iterator[tuple[Row, str]]:
    """The run and all runs inside it, each with the trace that they are of."""
    trace = trace or _text(run, "trace_id")
    if not trace and not run.get("parent_run_id"):
        trace = _text(run, "id") or _text(run, "run_id")  # the root's own
    yield run, trace
    if depth < _DEEPEST:
        for child in objects(run.get("child_runs")):
            yield from _below(child, trace, depth + 1)


def _pruned(run: Row, kept: Collection[int], numbers: Iterator[int], depth: int = 0) -> Row:
    """A copy of a tree of runs; those that are not kept lose what they took and gave."""
    is_kept = next(numbers) in kept
    copy = dict(run) if is_kept else {**run, **dict.fromkeys({"inputs", "outputs"} & set(run))}
    children = run.get("child_runs")
    if depth < _DEEPEST and isinstance(children, list):
        copy["child_runs"] = [
            _pruned(child, kept, numbers, depth + 1) if isinstance(child, dict) else child
            for child in children
        ]
    return copy


def _span(run: Row, trace: str) -> Span:
    inputs, outputs = run.get("inputs"), run.get("outputs")
    is_around = not run.get("parent_run_id") and inputs and outputs
    is_call = run.get("run_type") == "llm" and (inputs is not None or outputs is not None)
    whole = {**run, "extra": opened(run.get("extra")), "inputs": opened(inputs)}
    model = next((m for path in _MODELS if isinstance(m := look_up(whole, path), str) and m), "")
    return Span(
        trace=trace,
        started=_text(run, "dotted_order") or _text(run, "start_time") or None,
        kind=CALL if is_call else AROUND if is_around else NOTHING,
        talk=partial(talk_of, inputs, outputs),
        tools=look_up(whole, _TOOLS) or tools_in(inputs),
        model=model,
        scores=_scores(run),
    )


def _scores(run: Row) -> tuple[Score, ...]:
    """Feedback, as its statistics by name or one by one."""
    stats = opened(run.get("feedback_stats"))
    if isinstance(stats, dict):
        pairs = ((name, each) for name, each in stats.items() if isinstance(each, dict))
        return tuple(Score(name, each.get("avg")) for name, each in pairs)
    feedback = objects(opened(run.get("feedback")))
    return tuple(Score(_text(each, "key") or "score", each.get("score")) for each in feedback)


def _text(value: Row, key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""
