"""Flags on a turn that say whether it is trained on, by the names that trainers give them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from trajweight.formats.protocol import Row

#: A number: 0 is not trained on. OpenAI and Fireworks; ms-swift; LLaMA-Factory.
_SCALES: Final = ("weight", "loss_scale", "loss_weight")
#: False is not trained on. AgentGym, AgentTuning and ms-swift; axolotl; Tinker.
_SWITCHES: Final = ("loss", "train", "training", "trainable")
#: True is not trained on. torchtune.
_MASKS: Final = ("masked",)
#: Spans of a turn that are trained on. axolotl.
_SPANS: Final = ("train_detail", "training_detail")
_FLAGS: Final = frozenset((*_SCALES, *_SWITCHES, *_MASKS, *_SPANS))
_TURNS_NAMED: Final = 5


@dataclass(slots=True)
class FlagsSeen:
    """The flags of one row, so that each kind is told once; grows turn by turn.

    Attributes:
        turns: Turns by what is to be told of their flag.
    """

    turns: dict[str, list[int]] = field(default_factory=dict)

    def is_untrained(self, item: Row, role: str, number: int) -> bool:
        """Whether a flag of this turn says that it is shown and never trained on.

        Flags that say so of turns of others than the assistant are nothing new.
        """
        flagged = False
        for name, value in _flags_of(item):
            says = _meaning(name, value)
            if role != "assistant":
                if says is True:
                    self._tell(name, value, f"not followed on a {role} turn", number)
            elif says is False:
                flagged = True
                self._tell(name, value, "read as not to be trained on", number)
            elif says is None:
                self.note(f"the flag {name} is neither 0 nor 1; the turn counts whole", number)
        return flagged

    def remarks(self) -> tuple[str, ...]:
        """A sentence for each kind of flag, with the first turns that have it."""
        return tuple(f"{told} ({_named(turns)})" for told, turns in self.turns.items())

    def _tell(self, name: str, value: Any, how: str, number: int) -> None:
        self.note(f"the flag {name}: {_shown(value)} is {how}", number)

    def note(self, told: str, number: int) -> None:
        """Keep something to be told of a turn, with others that it is true of."""
        self.turns.setdefault(told, []).append(number)


def _flags_of(item: Row) -> list[tuple[str, Any]]:
    """The flags of a turn that say something, those of all its parts as one."""
    flags = []
    if not _FLAGS.isdisjoint(item):
        flags = [(name, item[name]) for name in item if name in _FLAGS and item[name] is not None]
    parts = item.get("content")
    if isinstance(parts, list):
        for name in ("train", "weight"):
            of_parts = [part.get(name) for part in parts if isinstance(part, dict)]
            if any(value is not None for value in of_parts):
                flags.append((name, [True if value is None else value for value in of_parts]))
    return flags


def _meaning(name: str, value: Any) -> bool | None:
    """Whether a flag says to train on its turn; None where it says something between."""
    if isinstance(value, list):  # of the parts that one turn was merged from
        said = [part for part in value if part is not None]
        each = {None if isinstance(part, list) else _meaning(name, part) for part in said} or {True}
        return each.pop() if len(each) == 1 and name not in _SPANS else None
    if not isinstance(value, bool | int | float):
        return None
    if name in _MASKS:
        return not value
    if name in _SWITCHES or isinstance(value, bool):
        return bool(value)
    return bool(value) if value in (0, 1) else None


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)[:20]
    return kind_of(value)


def _named(turns: list[int]) -> str:
    first = ", ".join(str(number) for number in turns[:_TURNS_NAMED])
    more = f" and {len(turns) - _TURNS_NAMED} more" if len(turns) > _TURNS_NAMED else ""
    return f"turn{'s' if len(turns) > 1 else ''} {first}{more}"
