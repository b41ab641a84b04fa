"""Rendered conversations taken apart: text with a chat template's markers, back into turns.

A text is taken apart only where that is exact: the turns, each with what stood around it, are the
text again, and no marker is left inside a turn.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NoReturn

from trajweight.formats.protocol import UnusableError


@dataclass(frozen=True, slots=True)
class Spoken:
    """One turn of a rendered conversation.

    Attributes:
        role: The role as the template writes it.
        before: What stands before the content.
        content: The content.
        after: What stands after it: its end marker first, if it has one.
    """

    role: str
    before: str
    content: str
    after: str


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A text taken apart.

    Attributes:
        template: What people call the template.
        turns: The turns in order, one at least.
        is_open: Whether the text ends inside its last turn.
        is_marked: Whether the markers of the template are there, and not left out.
    """

    template: str
    turns: tuple[Spoken, ...]
    is_open: bool
    is_marked: bool = True

    @property
    def text(self) -> str:
        """The turns rendered again."""
        return "".join(turn.before + turn.content + turn.after for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Markers:
    """How a template marks its turns.

    Attributes:
        template: What people call it.
        opens: What stands before the role.
        named: What stands between the role and the content.
        closes: What may stand after the content.
        between: What may stand between two turns after that.
        fillers: What may stand before the first turn and after the last, any number of times.
    """

    template: str
    opens: str
    named: str
    closes: tuple[str, ...]
    between: str
    fillers: tuple[str, ...]

    def take_apart(self, text: str) -> Dialogue:
        """The turns of a text that holds ``opens``.

        Raises:
            UnusableError: If a turn is without a role or an end, or a marker is inside it.
        """
        filled, *parts = text.split(self.opens)
        if _past(filled, 0, (*self.fillers, *self.closes)) < len(filled):
            self._refuse("text stands before the first turn")
        turns: list[Spoken] = []
        for number, part in enumerate(parts, start=1):
            role, named, body = part.partition(self.named)
            if not named or not role.isidentifier():
                self._refuse(f"turn {number} has no role")
            end = self._end(body, number, is_last=number == len(parts))
            before = ("" if turns else filled) + self.opens + role + named
            turns.append(Spoken(role, before, body[:end], body[end:]))
            if number < len(parts) and not self._is_closed(turns[-1]):
                self._refuse(f"turn {number} has no end marker")
        return Dialogue(self.template, tuple(turns), is_open=not self._is_closed(turns[-1]))

    def _end(self, body: str, number: int, *, is_last: bool) -> int:
        """Where the content of a turn ends: at its end marker, which only fillers may follow."""
        closes = [(body.find(close), close) for close in self.closes if close in body]
        if not closes:
            return _before(body, len(body), self.fillers) if is_last else len(body)
        end, close = min(closes)
        after = end + len(close)
        after += len(self.between) if body.startswith(self.between, after) else 0
        if is_last:
            after = _past(body, after, (*self.fillers, *self.closes))
        if after < len(body):
            self._refuse(f"an end marker stands inside turn {number}")
        return end

    def _is_closed(self, turn: Spoken) -> bool:
        return turn.after.startswith(self.closes)

    def _refuse(self, why: str) -> NoReturn:
        reason = f"the text has the markers of {self.template}, but is not exactly turns: {why}"
        raise UnusableError(reason)


_KNOWN: Final = (
    Markers("ChatML", "<|im_start|>", "\n", ("<|im_end|>",), "\n", ("<|endoftext|>",)),
    Markers(
        "Llama 3",
        "<|start_header_id|>",
        "<|end_header_id|>\n\n",
        ("<|eot_id|>", "<|eom_id|>"),
        "",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>"),
    ),
    Markers(
        "Llama 4",
        "<|header_start|>",
        "<|header_end|>\n\n",
        ("<|eot|>", "<|eom|>"),
        "",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad|>"),
    ),
    Markers(
        "Gemma", "<start_of_turn>", "\n", ("<end_of_turn>",), "\n", ("<bos>", "<eos>", "<pad>")
    ),
)
#: Templates whose turns are not told apart by a marker and a role.
_UNKNOWN: Final = ("[INST]", "<|user|>", "<｜User｜>", "<|start|>", "<|turn>")  # noqa: RUF001
#: A line that holds a role alone: all that is left of ChatML and Gemma without special tokens.
_ROLE_LINE: Final = re.compile(r"(?:\A|\n)(system|user|assistant|model|tool)\n")
_ANSWERS: Final = frozenset({"assistant", "model"})


def take_apart(text: str) -> Dialogue:
    """The turns of a rendered text.

    Where the special tokens were left out, the lines that hold a role alone part the turns, if
    they come in an order in which turns may come.

    Raises:
        UnusableError: If no known template renders exactly this text.
    """
    for markers in _KNOWN:
        if markers.opens in text:
            return markers.take_apart(text)
    for marker in _UNKNOWN:
        if marker in text:
            reason = f"the text has the marker {marker} of a template that is not taken apart"
            raise UnusableError(reason)
    return _by_role_lines(text)


def _by_role_lines(text: str) -> Dialogue:
    found = list(_ROLE_LINE.finditer(text))
    if not found or found[0].start():
        reason = (
            "the text has no marker of a known template: it may have been written without its "
            "special tokens; write it with them, or export messages"
        )
        raise UnusableError(reason)
    ends = [*(match.start() for match in found[1:]), len(text)]
    turns = tuple(
        Spoken(match[1], match[0], text[match.end() : end], "")
        for match, end in zip(found, ends, strict=True)
    )
    roles = [turn.role for turn in turns]
    if roles[0] == "system":
        del roles[0]
    answering = [role in _ANSWERS for role in roles]
    is_in_turn = bool(answering) and answering == [False, True] * (len(answering) // 2)
    if not is_in_turn:
        reason = (
            "the text has no markers, and the lines that hold a role alone do not take turns as "
            "user and assistant: some may be text; write it with its special tokens"
        )
        raise UnusableError(reason)
    template = "a template without its special tokens"
    return Dialogue(template, turns, is_open=True, is_marked=False)


def _past(text: str, at: int, words: tuple[str, ...]) -> int:
    """Where a text goes on, from a place, after any number of these words."""
    while word := next((each for each in words if text.startswith(each, at)), ""):
        at += len(word)
    return at


def _before(text: str, end: int, words: tuple[str, ...]) -> int:
    """Where any number of these words begin that stand before a place of a text."""
    while word := next((each for each in words if text.endswith(each, 0, end)), ""):
        end -= len(word)
    return end
