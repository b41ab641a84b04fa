"""SWE-agent trajectories: ``.traj`` files, whose ``history`` is what the model saw and wrote."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.lookup import look_up
from trajweight.formats.pieces import (
    assembled,
    assistant_turn,
    calls_of,
    listing,
    n_redacted,
    objects,
    run_of,
    shown,
    text_of,
    thinking_of,
    tool_turn,
)
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.turns import ROLE_ALIASES, listed
from trajweight.jsontext import NotJsonError, decode, kind_of
from trajweight.trajectory import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record

#: Keys that only the turns of a history have, beside role and content.
_OWN_KEYS: Final = frozenset({"agent", "message_type", "thought", "action", "is_demo"})
#: An environment that is named after the instance, such as ``owner__repository-12``.
_INSTANCE: Final = re.compile(r"[\w.-]+__[\w.-]+-\d+")
_SUBMITTED: Final = "submitted"
#: What an item of a run with several attempts is told by `SweAgent.read`.
_RUN: Final = "swe_agent_run"


class SweAgent(Format):
    """Documents with a history; those of a retry agent have one for each attempt."""

    name = "swe-agent"
    title = "SWE-agent trajectories"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "success": ("info.resolved",),
        "source": ("model_name",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A document has a trajectory beside a history, or a history with its own keys."""
        if not isinstance(value, dict):
            return ("a list history of turns with roles", "a list trajectory")
        if _attempts(value):
            return ()
        turns = objects(value.get("history"))
        if not turns or "role" not in turns[0]:
            return ("a list history of turns with roles", "a list trajectory")
        if isinstance(value.get("trajectory"), list) or any(
            _OWN_KEYS & turn.keys() for turn in turns
        ):
            return ()
        return ("a list trajectory",)

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """A row a document, and one for each attempt that is not the document's own history."""
        for record in records:
            attempts = _attempts(record.value) if isinstance(record.value, dict) else []
            if not attempts:
                yield Item(record.value, record.number, record, hints=hints)
                continue
            told = {**hints, _RUN: run_of(record)}
            if record.value.get("history") is not None:
                yield Item(record.value, record.number, record, hints=told)
            envelope = {**record.value, "attempts": None}
            for attempt in _others(record.value, attempts):
                yield Item(attempt, record.number, record, envelope=envelope, hints=told)

    def canonical(self, item: Item) -> Canonical:
        """The history without its demonstrations."""
        row = item.value
        if not isinstance(row, dict):
            reason = f"the attempt is {kind_of(row)}, not an object with a history"
            raise UnusableError(reason)
        history = _History()
        messages = history.turns(listed(row.get("history"), "history"))
        said = _named(row)
        if _RUN in item.hints:
            said["group"] = said.get("task", (item.hints[_RUN], "attempts"))
        elif _attempts(row):
            history.remarks.append("the attempts beside the history are not read")
        status = look_up(row, "info.exit_status")
        if isinstance(status, str) and status != _SUBMITTED:
            history.remarks.append(f"exit_status is {shown(status)}")
        return assembled(messages, remarks=history.told(), said=said)


class _History:
    """The turns of a history, with what is left out of them; grows turn by turn."""

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self.others: Counter[str] = Counter()
        self.n_demonstrations = 0
        self.hidden: list[int] = []
        self.shared: list[int] = []
        self.agent: str | None = None

    def turns(self, items: list[Any]) -> list[Row]:
        """What the model saw and wrote, in order."""
        found = (self._turn(item, number) for number, item in enumerate(items, start=1))
        return [turn for turn in found if turn is not None]

    def told(self) -> Iterator[str]:
        """What was left out, and what the turns do not tell."""
        if self.n_demonstrations:
            yield f"demonstrations are left out, turns: {self.n_demonstrations}"
        if self.others:
            names = listing([f"{name} {n}" for name, n in self.others.items()])
            yield f"another agent than {shown(str(self.agent))} is left out: {names}"
        if self.hidden:
            yield f"redacted thinking is not told, in turns {listing(self.hidden)}"
        if self.shared:
            yield f"one result is for several calls, in turns {listing(self.shared)}"
        yield from self.remarks

    def _turn(self, item: Any, number: int) -> Row | None:
        place = f"turn {number}"
        if not isinstance(item, dict):
            reason = f"{place} is {kind_of(item)}, not an object with role and content"
            raise UnusableError(reason)
        if item.get("is_demo") is True or item.get("message_type") == "demonstration":
            self.n_demonstrations += 1
            return None
        agent = item.get("agent")
        if isinstance(agent, str):
            self.agent = self.agent or agent
            if agent != self.agent:
                self.others[agent] += 1
                return None
        return self._told(item, _role(item, place), number)

    def _told(self, item: Row, role: str, number: int) -> Row:
        place = f"turn {number}"
        text = text_of(item.get("content"), place)
        if role == "assistant":
            blocks = item.get("thinking_blocks")
            if n_redacted(blocks):
                self.hidden.append(number)
            return assistant_turn(
                text, calls_of(item.get("tool_calls"), place), thinking_of(blocks)
            )
        if role == "tool":
            ids = item.get("tool_call_ids")
            ids = ids if isinstance(ids, list) else [ids]
            if len(ids) > 1:
                self.shared.append(number)
            return tool_turn(text, ids[0] if ids else None)
        return {"role": role, "content": text}


def _attempts(row: Row) -> list[Row]:
    """The attempts of a retry agent that have a history."""
    return [each for each in objects(row.get("attempts")) if "history" in each]


def _others(row: Row, attempts: list[Row]) -> list[Row]:
    """The attempts but for the one whose history is the document's own."""
    best = look_up(row, "info.best_attempt_idx")
    if row.get("history") is None or not isinstance(best, int):
        return attempts
    return [attempt for n, attempt in enumerate(attempts) if n != best]


def _role(item: Row, place: str) -> str:
    said = item.get("role")
    role = ROLE_ALIASES.get(said, said) if isinstance(said, str) else None
    if role not in ROLES:
        told = repr(shown(said)) if isinstance(said, str) else kind_of(said)
        reason = f"{place} has role {told}; known roles are {', '.join(ROLES)}"
        raise UnusableError(reason)
    return str(role)


def _named(row: Row) -> dict[str, tuple[Any, str]]:
    """The instance and the model, which stand in the configuration to replay the run."""
    config = row.get("replay_config")
    if isinstance(config, str):
        try:
            config = decode(config)
        except NotJsonError:
            config = None
    said = {}
    instance = look_up(config, "problem_statement.id")
    place = row.get("environment")
    if isinstance(instance, str) and instance:
        said["task"] = (instance, "replay_config.problem_statement.id")
    elif isinstance(place, str) and _INSTANCE.fullmatch(place):
        said["task"] = (place, "environment")
    for path in ("agent.model.name", "agent.agent_configs.0.model.name"):
        model = look_up(config, path)
        if isinstance(model, str) and model:
            said["source"] = (model, f"replay_config.{path}")
            break
    return said
