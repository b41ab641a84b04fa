"""Harbor ATIF: one document a run, its steps by a system, a user or an agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.pieces import (
    assembled,
    assistant_turn,
    function_tools,
    listing,
    objects,
    run_of,
    shown,
    text_of,
    tool_turn,
)
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import canonical_call, listed
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record

_PREFIX: Final = "ATIF-v"
_KNOWN: Final = frozenset(f"ATIF-v1.{minor}" for minor in range(9))
_ROLES: Final[dict[str, str]] = {"system": "system", "user": "user", "agent": "assistant"}
_SUBAGENTS: Final = "subagent_trajectories"
#: What an item of a document with sub-agents is told by `Atif.read`: the name of the run.
_RUN: Final = "atif_run"


class Atif(Format):
    """Documents with steps; the trajectories of sub-agents inside them are rows too."""

    name = "atif"
    title = "Harbor ATIF"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "id": ("trajectory_id", "session_id"),
        "source": ("agent.model_name", "agent.name"),
        "group": ("session_id",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A document names its version and has steps."""
        if not isinstance(value, dict):
            return ("a schema_version ATIF-v1.x", "a list steps")
        version = value.get("schema_version")
        wanted: tuple[str, ...] = ()
        if not isinstance(version, str) or not version.startswith(_PREFIX):
            wanted = ("a schema_version ATIF-v1.x",)
        return wanted if isinstance(value.get("steps"), list) else (*wanted, "a list steps")

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """A row a document, and one for each sub-agent inside it, however deep."""
        for record in records:
            document = record.value
            if not isinstance(document, dict) or not objects(document.get(_SUBAGENTS)):
                yield Item(document, record.number, record, hints=hints)
                continue
            run = {**hints, _RUN: _run_name(document) or run_of(record)}
            yield Item(document, record.number, record, hints=run)
            pending = [document]
            while pending:
                parent = pending.pop(0)
                envelope = {**parent, _SUBAGENTS: None}
                for part in objects(parent[_SUBAGENTS]):
                    yield Item(part, record.number, record, envelope=envelope, hints=run)
                    if isinstance(part.get(_SUBAGENTS), list):
                        pending.append(part)

    def canonical(self, item: Item) -> Canonical:
        """The steps as turns; those copied from another document are shown and not trained on."""
        row = item.value
        if not isinstance(row.get("steps"), list):
            reason = f"steps is {kind_of(row.get('steps'))}, not a list"
            raise UnusableError(reason)
        steps = _Steps()
        for number, step in enumerate(listed(row["steps"], "steps"), start=1):
            steps.add(step, number)
        agent = row.get("agent") if isinstance(row.get("agent"), dict) else {}
        tools, remarks = function_tools(agent.get("tool_definitions"), "tool_definitions")
        said: dict[str, tuple[Any, str]] = {}
        if _RUN in item.hints:
            said["group"] = (item.hints[_RUN], "the run")
        model = next((name for name in steps.models if isinstance(name, str) and name), None)
        if model and not agent.get("model_name"):
            said["source"] = (model, "model_name of a step")
        remarks = (*steps.remarks(), *remarks, *_about(row, item))
        return assembled(steps.turns, tools=tools, remarks=remarks, said=said)


class _Steps:
    """The turns that steps tell, and what they do not tell; grows step by step."""

    def __init__(self) -> None:
        self.turns: list[Row] = []
        self.models: list[Any] = []
        self.copied: list[int] = []
        self.dispatched: list[int] = []
        self.delegated: list[str] = []

    def add(self, step: Any, number: int) -> None:
        """One step: what is said or called in it, then what came of that.

        Raises:
            UnusableError: If it cannot be understood, or holds more than text.
        """
        place = f"step {number}"
        if not isinstance(step, dict):
            reason = f"{place} is {kind_of(step)}, not an object"
            raise UnusableError(reason)
        source = step.get("source")
        role = _ROLES.get(source) if isinstance(source, str) else None
        if role is None:
            told = repr(shown(source)) if isinstance(source, str) else kind_of(source)
            reason = f"{place} has source {told}; known sources are {', '.join(_ROLES)}"
            raise UnusableError(reason)
        results = _results(step, place)
        text = text_of(step.get("message"), place)
        calls: list[Row] = []
        if role == "assistant":
            calls = _calls(step, place)
            self.turns.append(self._answer(step, text, calls, number))
        elif text or not results:
            self.turns.append({"role": role, "content": text})
        for result in results:
            self._add_result(result, place, is_of_call=bool(calls))

    def remarks(self) -> Iterator[str]:
        """What is shown only, and what stands elsewhere."""
        if self.copied:
            yield f"copied context is shown and not trained on: steps {listing(self.copied)}"
        if self.dispatched:
            yield (
                "a step that no model wrote is shown and not trained on: "
                f"steps {listing(self.dispatched)}"
            )
        if self.delegated:
            yield f"work for sub-agents is handed to {listing(self.delegated)}"

    def _answer(self, step: Row, text: str, calls: list[Row], number: int) -> Row:
        self.models.append(step.get("model_name"))
        reasoning = step.get("reasoning_content")
        turn = assistant_turn(text, calls, reasoning if isinstance(reasoning, str) else "")
        if step.get("is_copied_context") is True:
            self.copied.append(number)
            turn["untrained"] = True
        elif type(step.get("llm_call_count")) is int and step["llm_call_count"] == 0:
            self.dispatched.append(number)
            turn["untrained"] = True
        return turn

    def _add_result(self, result: Row, place: str, *, is_of_call: bool) -> None:
        references = objects(result.get("subagent_trajectory_ref"))
        for reference in references:
            keys = ("trajectory_id", "trajectory_path", "session_id")
            name = next((reference[key] for key in keys if reference.get(key)), "one not named")
            self.delegated.append(str(name) if isinstance(name, str | int) else kind_of(name))
        if references and result.get("content") is None:
            return
        text = text_of(result.get("content"), f"a result of {place}")
        call_id = result.get("source_call_id")
        # An agent that acts by text has no calls; what comes of that is told to it by the user.
        if is_of_call or call_id:
            self.turns.append(tool_turn(text, call_id))
        else:
            self.turns.append({"role": "user", "content": text})


def _calls(step: Row, place: str) -> list[Row]:
    given = step.get("tool_calls")
    if not given:
        return []
    if not isinstance(given, list) or len(objects(given)) < len(given):
        reason = f"{place} has tool_calls that are no list of objects"
        raise UnusableError(reason)
    return [
        canonical_call(
            {
                "id": call.get("tool_call_id"),
                "name": call.get("function_name"),
                "arguments": call.get("arguments"),
            },
            f"{place}, tool call {n}",
        )
        for n, call in enumerate(given, start=1)
    ]


def _results(step: Row, place: str) -> list[Row]:
    observation = step.get("observation")
    if observation is None:
        return []
    results = observation.get("results") if isinstance(observation, dict) else None
    if not isinstance(results, list) or len(objects(results)) < len(results):
        reason = f"{place} has an observation without a list of results"
        raise UnusableError(reason)
    return objects(results)


def _run_name(document: Row) -> str:
    """What names the whole run, where the document says."""
    names = (document.get("session_id"), document.get("trajectory_id"))
    return next((name for name in names if isinstance(name, str) and name), "")


def _about(row: Row, item: Item) -> Iterator[str]:
    """What the document says of itself."""
    version = row.get("schema_version")
    if isinstance(version, str) and version not in _KNOWN:
        yield f"schema_version is {shown(version)}; it is read as ATIF-v1.7"
    rest = row.get("continued_trajectory_ref")
    if isinstance(rest, str) and rest:
        yield f"continued_trajectory_ref is {shown(rest)}: the run goes on in that file"
    parts = row.get(_SUBAGENTS)
    n_parts = len(parts) if isinstance(parts, list) else bool(parts)
    n_read = len(objects(parts)) if _RUN in item.hints else 0
    if n_read < n_parts:
        yield f"{_SUBAGENTS} is kept, but {n_parts - n_read} of it not read as trajectories"
