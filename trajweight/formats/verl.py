"""Rollouts that verl dumps: rendered text in ``input`` and ``output``, with a score and a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.rendered import take_apart
from trajweight.formats.turns import canonical_conversation
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS: Final = ("input", "output", "score", "step")
_ANSWERS: Final = frozenset({"assistant", "model"})


class VerlRollout(Format):
    """Rows with a rendered prompt, what the policy made of it, and the score of that."""

    name = "verl"
    title = "verl rollouts"
    fields: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "id": ("request_id",),
        "reward": ("score",),
        "success": ("acc",),
    }

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A row has its input, its output, a score and a step."""
        row = value if isinstance(value, dict) else {}
        return tuple(f"a key {name}" for name in _KEYS if name not in row)

    def canonical(self, item: Item) -> Canonical:
        """The turns of the prompt, then those of the rollout, which alone are trained on.

        Tool calls stay the text that they are.
        """
        row = item.value
        for name in ("input", "output"):
            if not isinstance(row[name], str):
                reason = f"{name} is {kind_of(row[name])}, not rendered text"
                raise UnusableError(reason)
        prompt = take_apart(row["input"])
        if not prompt.is_open or prompt.turns[-1].role not in _ANSWERS:
            reason = "input does not end where the assistant begins to speak"
            raise UnusableError(reason)
        whole = take_apart(row["input"] + row["output"])
        turns: list[Row] = [{"role": turn.role, "content": turn.content} for turn in whole.turns]
        told = canonical_conversation({}, turns, n_shown=len(prompt.turns) - 1)
        remarks = list(told.remarks)
        if not prompt.is_marked:
            remarks.append("the text has lost its special tokens; lines with a role part its turns")
        elif whole.is_open:
            remarks.append("the last turn has no end marker; the rollout was cut off there")
        return Canonical(told.messages, told.tools, tuple(remarks))
