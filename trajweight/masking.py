"""A rendering as token ids, each target token bound to its turn and checked by decoding.

First choice are the ids of the whole text in one go, as at inference. Where a token would reach
over the border of a turn, or where the data holds control tokens as text, the pieces between the
borders are encoded apart: a disguised control token is split into ordinary tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from trajweight.chat_format import RowRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from trajweight.chat_format import ChatFormat
    from trajweight.rendering import Rendering

#: Encoded before a piece and taken off again, where a tokenizer adds a space before every text.
_ANCHOR = "\n"


@dataclass(frozen=True, slots=True)
class Masked:
    """Token ids with the turn that each target token belongs to, -1 for the others.

    Attributes:
        ids: Token ids.
        turn_of_token: As many entries as ``ids``.
        is_joint: The ids are those of the whole text encoded in one go.
    """

    ids: list[int]
    turn_of_token: list[int]
    is_joint: bool


def mask_rendering(
    rendering: Rendering, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat
) -> Masked:
    """Encode a rendering and mask what the model says.

    Raises:
        RowRefused: If the masked tokens of a turn do not spell its span, or all tokens or none
            are masked.
    """
    if not rendering.marker:
        whole = _encode_whole(rendering, tokenizer)
        if not _fault(whole, rendering, tokenizer, chat_format):
            return whole
    apart = _encode_apart(rendering, tokenizer, chat_format)
    if fault := _fault(apart, rendering, tokenizer, chat_format):
        raise RowRefused(fault)
    return apart


def _encode_whole(rendering: Rendering, tokenizer: PreTrainedTokenizerBase) -> Masked:
    """Encode all at once; a token belongs to the turn in whose span it begins."""
    whole = _encode(tokenizer, [rendering.text], return_offsets_mapping=True)
    turns: list[int] = []
    spans = list(rendering.spans)
    for start, _ in whole["offset_mapping"][0]:
        while spans and start >= spans[0].end:
            spans.pop(0)
        turns.append(spans[0].turn if spans and start >= spans[0].start else -1)
    return Masked(whole["input_ids"][0], turns, is_joint=True)


def _encode_apart(
    rendering: Rendering, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat
) -> Masked:
    """Encode the pieces between turn borders and around disguised tokens, one by one."""
    texts: list[str] = []
    turns: list[int] = []
    disguised: list[bool] = []
    for start, end, turn in _segments(rendering):
        for text, is_disguised in rendering.pieces(start, end):
            texts.append(text)
            turns.append(turn)
            disguised.append(is_disguised)
    plain: list[list[int]] = [[] for _ in texts]
    if any(disguised):  # first, since the tokenizer keeps this option until its next call
        plain = _encode_pieces(tokenizer, texts, chat_format, split_special_tokens=True)
    parts = _encode_pieces(tokenizer, texts, chat_format)
    parts = [b if flag else a for a, b, flag in zip(parts, plain, disguised, strict=True)]
    ids = [token for part in parts for token in part]
    turn_of_token = [turn for turn, part in zip(turns, parts, strict=True) for _ in part]
    return Masked(ids, turn_of_token, is_joint=False)


def _segments(rendering: Rendering) -> list[tuple[int, int, int]]:
    """(start, end, turn or -1) of every stretch of text, in order."""
    inside = {(span.start, span.end): span.turn for span in rendering.spans}
    borders = sorted({0, len(rendering.text)}.union(*inside))
    return [(a, b, inside.get((a, b), -1)) for a, b in pairwise(borders)]


def _encode_pieces(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], chat_format: ChatFormat, **options: Any
) -> list[list[int]]:
    if chat_format.cuts_cleanly:
        return cast("list[list[int]]", _encode(tokenizer, texts, **options)["input_ids"])
    anchor, *anchored = _encode(
        tokenizer, [_ANCHOR, *(_ANCHOR + text for text in texts[1:])], **options
    )["input_ids"]
    first = _encode(tokenizer, texts[:1], **options)["input_ids"]
    return [*first, *(part[len(anchor) :] for part in anchored)]


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: Any
) -> dict[str, list[Any]]:
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False, **options)
    return cast("dict[str, list[Any]]", encoded)


def _fault(
    masked: Masked,
    rendering: Rendering,
    tokenizer: PreTrainedTokenizerBase,
    chat_format: ChatFormat,
) -> str:
    """Why the mask is not to be trusted; empty when it is."""
    n_targets = sum(turn >= 0 for turn in masked.turn_of_token)
    if n_targets in (0, len(masked.ids)):
        return f"{n_targets} of {len(masked.ids)} tokens are masked as said by the assistant"
    ids_of: dict[int, list[int]] = {span.turn: [] for span in rendering.spans}
    for token, turn in zip(masked.ids, masked.turn_of_token, strict=True):
        if turn >= 0:
            ids_of[turn].append(token)
    spoken = _decode(tokenizer, [ids_of[span.turn] for span in rendering.spans])
    for span, decoded in zip(rendering.spans, spoken, strict=True):
        text = rendering.plain(span.start, span.end)
        if not _is_same(decoded, text, tokenizer, chat_format):
            return (
                f"turn {span.turn + 1}: its masked tokens spell {_cut(decoded)}, not {_cut(text)}"
            )
    return ""


def _decode(tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]]) -> list[str]:
    return [
        cast(
            "str",
            tokenizer.decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False),
        )
        for row in rows
    ]


def _is_same(
    decoded: str, text: str, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat
) -> bool:
    """Equal, but for what the tokenizer's own normaliser changes before it encodes anything."""
    if decoded == text:
        return True
    if not chat_format.cuts_cleanly:  # such a tokenizer drops a space before what it decodes
        decoded, text = decoded.lstrip(" "), text.lstrip(" ")
    normalizer = getattr(tokenizer, "backend_tokenizer", None) and (
        tokenizer.backend_tokenizer.normalizer
    )
    if normalizer is None:
        return decoded == text
    return bool(normalizer.normalize_str(decoded) == normalizer.normalize_str(text))


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:30]} … {text[-25:]}")
