"""Trajectories as token ids with a mask of what the model says, verified row by row.

The ids are those the tokenizer gives for the whole conversation, the same as at inference. Only
where that would merge a header with the text after it, or read text of the data as control tokens,
the conversation is encoded in pieces. Whichever way, the masked tokens of each turn are decoded
again and must spell what the turn says.

A trajectory that is too long loses whole turns after its opening (everything before the first
reply, which states the task). The first reply after the gap stays as context but is no target: it
answers something that is no longer there. Nor is a reply that may not be trained on, such as a
copied one, which stays as context too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from trajweight.chat_format import FIXED_DATE, ChatFormat, RowRefused, probe
from trajweight.encoded import Encoded, Unusable
from trajweight.errors import TemplateError
from trajweight.masking import Masked, mask_rendering
from trajweight.rendering import Rendering, render_spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

    from trajweight.progress import Progress
    from trajweight.trajectory import Trajectory, Turn

__all__ = ["Encoded", "Encoding", "Unusable", "encode", "encode_all"]

_Turns: TypeAlias = "list[tuple[int, Turn]]"

#: A token rarely spells more characters, and a turn rarely takes fewer tokens beside its text.
_CHARS_PER_TOKEN = 32
_TOKENS_PER_TURN = 2


@dataclass(frozen=True, slots=True)
class Encoding:
    """Many trajectories in tokens.

    Attributes:
        rows: One entry for each trajectory, in order.
        strategy: How the mask was found.
        notes: Sentences on what was folded, left out or encoded otherwise, with counts.
        n_truncated: Trajectories that lost turns.
        n_dropped_turns: Turns they lost.
        n_unusable: Rows that are ``Unusable``.
    """

    rows: list[Encoded | Unusable]
    strategy: str
    notes: list[str]
    n_truncated: int
    n_dropped_turns: int
    n_unusable: int


def encode_all(
    trajectories: Sequence[Trajectory],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    progress: Progress,
) -> Encoding:
    """Encode trajectories, and say what happened to them.

    Args:
        trajectories: What to encode.
        tokenizer: A fast tokenizer with a chat template.
        max_tokens: Longest row, in tokens.
        progress: Told one unit a trajectory.

    Raises:
        TemplateError: If the chat template gives no mask that can be trusted.
    """
    chat_format = probe(tokenizer)
    rows: list[Encoded | Unusable] = []
    progress.start("tokenising", len(trajectories))
    for trajectory in trajectories:
        rows.append(encode(trajectory, tokenizer, max_tokens=max_tokens, chat_format=chat_format))
        progress.advance()
    progress.finish()
    encoded = [row for row in rows if isinstance(row, Encoded)]
    return Encoding(
        rows=rows,
        strategy="generation markers" if chat_format.marks_turns else "prefix rendering",
        notes=_notes(trajectories, rows, chat_format, max_tokens),
        n_truncated=sum(row.n_dropped_turns > 0 for row in encoded),
        n_dropped_turns=sum(row.n_dropped_turns for row in encoded),
        n_unusable=len(rows) - len(encoded),
    )


def encode(
    trajectory: Trajectory,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    chat_format: ChatFormat | None = None,
) -> Encoded | Unusable:
    """Encode one trajectory, with a verified mask, in at most ``max_tokens`` tokens.

    Args:
        trajectory: What to encode.
        tokenizer: A fast tokenizer with a chat template.
        max_tokens: Longest result, in tokens.
        chat_format: What ``probe`` found for the tokenizer; asked anew when absent.

    Returns:
        The tokens, or the reason why there are none.

    Raises:
        TemplateError: If the chat template gives no mask that can be trusted.
    """
    chat_format = chat_format or probe(tokenizer)
    if reason := _nothing_to_learn(trajectory.turns):
        return Unusable(reason)
    trained = [place for place, turn in enumerate(trajectory.turns) if _is_target(turn)]
    turns = list(enumerate(trajectory.turns))[: trained[-1] + 1]
    replies = [place for place, turn in turns if turn.role == "assistant"]
    untrained = frozenset(replies).difference(trained)

    def look(some: _Turns) -> _Window:
        _require_unicode(some)
        rendering = render_spans(some, trajectory.tools, tokenizer, chat_format)
        n_hidden = _count_hidden(rendering, trajectory, chat_format)
        masked = mask_rendering(rendering, tokenizer, chat_format)
        return _Window(rendering, masked, n_hidden, untrained)

    try:
        row = _within(look, turns, replies, max_tokens)
    except RowRefused as error:
        return Unusable(str(error))
    except TemplateError as error:
        why = f"trajectory {trajectory.traj_id}: {error.message}"
        raise TemplateError(why, hint=error.hint) from error
    return replace(row, n_trailing_turns=len(trajectory.turns) - len(turns))


# --- length --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Window:
    """Some turns of a trajectory, rendered and masked.

    Attributes:
        rendering: Their text.
        masked: Their tokens; every reply has its own.
        n_hidden: Turns whose text is not shown.
        untrained: Replies that may not be trained on.
    """

    rendering: Rendering
    masked: Masked
    n_hidden: int
    untrained: frozenset[int]

    def __len__(self) -> int:
        return len(self.masked.ids)

    def length_from(self, start: int) -> int:
        """About how many tokens remain of the opening and everything from reply ``start`` on."""
        turns = self.masked.turn_of_token
        first = self.rendering.spans[0].turn
        return len(self) - (turns.index(start) - turns.index(first))

    def encoded(self, *, context_only: int = -1, n_dropped_turns: int = 0) -> Encoded:
        """As a result, with the tokens of turn ``context_only`` no targets."""
        context = self.untrained | {context_only}
        turns = [-1 if turn in context else turn for turn in self.masked.turn_of_token]
        return Encoded(
            input_ids=self.masked.ids,
            assistant_mask=[turn >= 0 for turn in turns],
            turn_of_token=turns,
            n_dropped_turns=n_dropped_turns,
            n_control_strings=self.rendering.n_disguised,
            n_hidden_texts=self.n_hidden,
            is_joint=self.masked.is_joint,
        )


def _within(
    look: Callable[[_Turns], _Window], turns: _Turns, replies: list[int], max_tokens: int
) -> Encoded:
    """Drop as few whole turns as make the row fit.

    Raises:
        RowRefused: If even the last reply and what it answers are too long.
    """
    first = replies[0]
    window: _Window | None = None
    for start in (first, *replies[1:-1]):
        kept = turns[:first] + turns[start:]
        if _least_tokens(kept) > max_tokens:  # not worth rendering
            continue
        if window and window.length_from(start) > max_tokens:
            continue
        window = look(kept)
        if len(window) <= max_tokens:
            n_dropped = start - first
            return window.encoded(
                context_only=start if n_dropped else -1, n_dropped_turns=n_dropped
            )
    kept = _last_exchange(turns)
    if len(kept) < len(turns) and _least_tokens(kept) <= max_tokens:
        window = look(kept)
        if len(window) <= max_tokens:
            return window.encoded(n_dropped_turns=len(turns) - len(kept))
    found = f"{len(window)} tokens" if window else f"at least {_least_tokens(kept)} tokens"
    why = f"{found} with the fewest turns that make sense, more than {max_tokens} tokens"
    raise RowRefused(why)


def _last_exchange(turns: _Turns) -> _Turns:
    """The opening system turns, and everything from the last user turn on."""
    opening = next((n for n, (_, turn) in enumerate(turns) if turn.role != "system"), 0)
    asked = [place for place, (_, turn) in enumerate(turns) if turn.role == "user"]
    return turns[:opening] + turns[max(opening, asked[-1] if asked else 0) :]


def _least_tokens(turns: _Turns) -> int:
    n_chars = sum(len(turn.content) for _, turn in turns)
    return n_chars // _CHARS_PER_TOKEN + _TOKENS_PER_TURN * len(turns)


def _require_unicode(turns: _Turns) -> None:
    for index, turn in turns:
        try:
            f"{turn.content}{turn.reasoning}{turn.tool_calls}".encode()
        except UnicodeEncodeError as error:
            why = f"turn {index + 1}: half a character (a lone surrogate) stands in its text"
            raise RowRefused(why) from error


def _count_hidden(rendering: Rendering, trajectory: Trajectory, chat_format: ChatFormat) -> int:
    """Turns whose text is not in their span, as where a template shows calls instead of it.

    Raises:
        RowRefused: If a turn without calls is shown otherwise than it stands.
    """
    n_hidden = 0
    for span in rendering.spans:
        turn = trajectory.turns[span.turn]
        if turn.content.strip() in rendering.plain(span.start, span.end):
            continue
        if not (turn.tool_calls and chat_format.shows_tool_calls):
            why = f"turn {span.turn + 1}: the chat template does not show its text as it stands"
            raise RowRefused(why)
        n_hidden += 1
    return n_hidden


def _nothing_to_learn(turns: Sequence[Turn]) -> str:
    """Why a trajectory has no target; empty when it has one."""
    said = [turn for turn in turns if turn.role == "assistant"]
    if not said:
        return "no assistant turn"
    if not any(map(_says_something, said)):
        return "no assistant turn says anything"
    if not any(_is_target(turn) and _says_something(turn) for turn in said):
        return "no assistant turn that may be trained on says anything"
    return ""


def _is_target(turn: Turn) -> bool:
    return turn.role == "assistant" and turn.is_trained


def _says_something(turn: Turn) -> bool:
    return bool(turn.content.strip() or turn.tool_calls or turn.reasoning.strip())


# --- what was seen -------------------------------------------------------------------------------


def _notes(
    trajectories: Sequence[Trajectory],
    rows: Sequence[Encoded | Unusable],
    chat_format: ChatFormat,
    max_tokens: int,
) -> list[str]:
    """What was folded, left out or encoded otherwise, each with the number of trajectories."""
    turns = [trajectory.turns for trajectory in trajectories]
    encoded = [row for row in rows if isinstance(row, Encoded)]
    lost = [row.n_dropped_turns for row in encoded if row.n_dropped_turns]
    counted = {
        "the template shows no tool calls: written as <tool_call> blocks into the text": sum(
            any(turn.tool_calls for turn in row)
            for row in turns
            if not chat_format.shows_tool_calls
        ),
        "the template takes no tool turns: shown as user turns in <tool_response> blocks": sum(
            any(turn.role == "tool" for turn in row)
            for row in turns
            if not chat_format.takes_tool_role
        ),
        "the template does not show tool definitions: left out": sum(
            bool(trajectory.tools) for trajectory in trajectories if not chat_format.shows_tools
        ),
        "the template does not show reasoning: left out": sum(
            any(turn.reasoning for turn in row) for row in turns if not chat_format.shows_reasoning
        ),
        "the template shows tool calls instead of the text beside them: text left out": sum(
            row.n_hidden_texts > 0 for row in encoded
        ),
        "control tokens in the text: encoded as plain text": sum(
            row.n_control_strings > 0 for row in encoded
        ),
        "a token would reach over the border of a turn: encoded turn by turn": sum(
            not row.is_joint and not row.n_control_strings for row in encoded
        ),
        "turns after the last reply: left out": sum(row.n_trailing_turns > 0 for row in encoded),
        "replies that may not be trained on: context only": sum(
            any(turn.role == "assistant" and not turn.is_trained for turn in row) for row in turns
        ),
        f"longer than {max_tokens} tokens: {sum(lost)} whole turns left out after the opening": len(
            lost
        ),
    }
    notes = [
        f"{what} ({count} of {len(rows)} trajectories)" for what, count in counted.items() if count
    ]
    if chat_format.extra:
        notes.append(f"the template prints a date: {FIXED_DATE}, whatever the day")
    return notes
