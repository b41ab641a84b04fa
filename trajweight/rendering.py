"""Turns rendered by a chat template, with the characters that the model says in each.

A span holds what the model itself produces in a turn: the text, the tool calls, and the token that
ends the turn, but not the header that asks it to speak. Two ways lead to spans:
``{% generation %}`` markers in the template, else prefix rendering: the text that ends with each
reply must open the text of the whole, and so must the last prompt. A template that rewrites history
fails this, and is refused, not masked wrongly.

Control tokens that stand in the data as text are disguised before rendering, so that the text a
template receives never looks like the text a template writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from transformers.utils.chat_template_utils import render_jinja_template

from trajweight.chat_format import REFUSALS, ChatFormat, Message, RowRefused, one_line, render
from trajweight.errors import TemplateError
from trajweight.messages import messages_of, tool_definition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

    from trajweight.trajectory import Turn

T = TypeVar("T")

_PRIVATE_USE = range(0xE000, 0xF8FF)


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` to ``end`` of a rendering, said by the model in turn ``turn``."""

    turn: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Rendering:
    """The text of a conversation with every control token of the data disguised.

    Attributes:
        text: What the template wrote.
        spans: What the model says, in order, one for each assistant turn.
        marker: The character that stands on both sides of a disguised token's number; may be "".
        control_tokens: What the numbers stand for.
    """

    text: str
    spans: tuple[Span, ...]
    marker: str
    control_tokens: tuple[str, ...]

    def pieces(self, start: int, end: int) -> list[tuple[str, bool]]:
        """Text from ``start`` to ``end``, cut at disguises: (text, was it disguised)."""
        part = self.text[start:end]
        if not self.marker:
            return [(part, False)] if part else []
        cuts = re.split(f"{self.marker}([0-9]+){self.marker}", part)
        named = [
            (self.control_tokens[int(cut)] if place % 2 else cut, bool(place % 2))
            for place, cut in enumerate(cuts)
        ]
        return [(cut, plain) for cut, plain in named if cut]

    def plain(self, start: int, end: int) -> str:
        """Text from ``start`` to ``end`` as the data has it."""
        return "".join(cut for cut, _ in self.pieces(start, end))

    @property
    def n_disguised(self) -> int:
        """How many control tokens of the data the text shows."""
        return self.text.count(self.marker) // 2 if self.marker else 0


def render_spans(
    turns: Sequence[tuple[int, Turn]],
    tools: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    chat_format: ChatFormat,
) -> Rendering:
    """Render turns and find what the model says in each assistant turn.

    Args:
        turns: Turns with their index in the trajectory; the last one is the assistant's.
        tools: Tool definitions; left out when the template does not show them.
        tokenizer: Its template renders.
        chat_format: What ``probe`` found for it.

    Raises:
        RowRefused: When the template refuses the conversation.
        TemplateError: When the template rewrites earlier turns.
    """
    indexed = messages_of(turns, chat_format)
    shown_tools = [tool_definition(tool) for tool in tools] if chat_format.shows_tools else []
    marker, (messages, shown_tools) = _disguise(
        ([message for _, message in indexed], shown_tools), chat_format.control_tokens
    )

    def text_of(part: list[Message], *, add_generation_prompt: bool = False) -> str:
        return render(
            tokenizer,
            part,
            extra=chat_format.extra,
            tools=shown_tools,
            add_generation_prompt=add_generation_prompt,
        )

    marked: list[tuple[int, int]] = []
    if chat_format.marks_turns:
        text, marked = _marked(tokenizer, messages, shown_tools, chat_format)
    else:
        text = text_of(messages)
    speakers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if len(marked) == len(speakers):
        bounds = [_tidy(text, start, end, chat_format) for start, end in marked]
    else:
        bounds = _prefix_bounds(text, messages, speakers, text_of, chat_format, indexed)
    spans = tuple(
        Span(indexed[place][0], start, end)
        for place, (start, end) in zip(speakers, bounds, strict=True)
    )
    return Rendering(text, spans, marker, chat_format.control_tokens)


def _marked(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    tools: list[dict[str, Any]],
    chat_format: ChatFormat,
) -> tuple[str, list[tuple[int, int]]]:
    """The text, and the characters that the template's own markers enclose.

    Characters, not the library's token mask: that one spills over when a span ends at token 0 or
    in stripped white space (transformers issue 47325).
    """
    try:
        # annotated as giving one string; it gives the texts and the places
        texts, places = cast("Any", render_jinja_template)(
            conversations=[messages],
            tools=tools or None,
            chat_template=tokenizer.get_chat_template(None, tools or None),
            return_assistant_tokens_mask=True,
            **{**tokenizer.special_tokens_map, **chat_format.extra},
        )
    except REFUSALS as error:
        why = f"the chat template refuses it: {one_line(error)}"
        raise RowRefused(why) from error
    return texts[0], [(int(start), int(end)) for start, end in places[0]]


def _tidy(text: str, start: int, end: int, chat_format: ChatFormat) -> tuple[int, int]:
    """Leave a header and trailing space out of the markers; take in the token that ends a turn."""
    if chat_format.header and text.startswith(chat_format.header, start, end):
        start += len(chat_format.header)
    closed = _end_of_turn(text, start, end, chat_format)
    follower = next((t for t in chat_format.control_tokens if text.startswith(t, end)), "")
    if closed == end and follower and not text[start:end].endswith(chat_format.control_tokens):
        return start, end + len(follower)
    return start, closed


def _end_of_turn(text: str, start: int, end: int, chat_format: ChatFormat) -> int:
    """Where the turn's last control token ends; ``end`` when no control token closes it."""
    kept = text[start:end].rstrip()
    return start + len(kept) if kept.endswith(chat_format.control_tokens) else end


def _prefix_bounds(
    text: str,
    messages: list[Message],
    speakers: list[int],
    text_of: Callable[..., str],
    chat_format: ChatFormat,
    indexed: list[tuple[int, Message]],
) -> list[tuple[int, int]]:
    bounds = []
    for place in speakers:
        is_last = place == speakers[-1]
        turn, message = indexed[place][0], messages[place]
        after = text if is_last else text_of(messages[: place + 1])
        _require_opening(after, text, turn, "rewrites earlier turns when later ones come")
        # the last prompt opens with all history, so checking one prompt checks them all
        start = None if is_last else _start_by_header(after, message, chat_format)
        if start is None:
            before = _prompt(messages[:place], after, text_of, chat_format)
            _require_opening(before, after, turn, "opens a reply otherwise than it writes one")
            start = len(before)
        bounds.append((start, _end_of_turn(after, start, len(after), chat_format)))
    return bounds


def _start_by_header(after: str, message: Message, chat_format: ChatFormat) -> int | None:
    """Where the reply begins, if ``after`` ends in header, content and maybe a control token."""
    if not chat_format.header or not message["content"].strip():
        return None
    body = after.rstrip()
    closer = next((token for token in chat_format.control_tokens if body.endswith(token)), "")
    body = body.removesuffix(closer)
    for content in (message["content"], message["content"].strip()):
        if body.endswith(chat_format.header + content):
            return len(body) - len(content)
    return None


def _prompt(
    before: list[Message], after: str, text_of: Callable[..., str], chat_format: ChatFormat
) -> str:
    if before:
        return text_of(before, add_generation_prompt=True)
    if chat_format.header not in after:
        why = "it begins with an assistant turn, which the chat template does not open"
        raise RowRefused(why)
    return after[: after.index(chat_format.header) + len(chat_format.header)]


def _require_opening(opening: str, longer: str, turn: int, what: str) -> None:
    if not longer.startswith(opening):
        why = f"turn {turn + 1}: the chat template {what}: {_difference(opening, longer)}"
        raise TemplateError(why, hint=_REWRITES)


_REWRITES = (
    "No assistant mask could be trusted. Pass a model whose template keeps history as it was "
    "(such as --model smollm2-135m-instruct), or a copy of the model's folder whose chat template "
    "encloses what the assistant says in {% generation %} and {% endgeneration %}."
)


def _difference(opening: str, longer: str) -> str:
    same = next(
        (i for i, (a, b) in enumerate(zip(opening, longer, strict=False)) if a != b),
        min(len(opening), len(longer)),
    )
    start = max(0, same - 15)
    return f"{opening[start : same + 25]!r} became {longer[start : same + 25]!r}"


def _disguise(data: T, control_tokens: tuple[str, ...]) -> tuple[str, T]:
    """Replace control tokens in every string of ``data`` by their number between two markers."""
    strings = _strings(data)
    pattern = _any_of(control_tokens)
    if not any(pattern.search(string) for string in strings):
        return "", data
    used = set().union(*map(set, strings))
    marker = next((chr(code) for code in _PRIVATE_USE if chr(code) not in used), "")
    if not marker:
        why = "its text holds control tokens and every private-use character"
        raise RowRefused(why)
    numbers = {token: f"{marker}{place}{marker}" for place, token in enumerate(control_tokens)}

    def walk(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub(lambda match: numbers[match[0]], value)
        if isinstance(value, dict):
            return {walk(key): walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(walk(item) for item in value)
        return value

    return marker, cast("T", walk(data))


@lru_cache
def _any_of(control_tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, control_tokens)) or "(?!)")


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for pair in value.items() for item in pair for s in _strings(item)]
    if isinstance(value, list | tuple):
        return [s for item in value for s in _strings(item)]
    return []
