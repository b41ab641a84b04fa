"""What a chat template can show, found by asking it with probe words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from jinja2 import TemplateError as JinjaError

from trajweight.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

Message: TypeAlias = dict[str, Any]

#: Templates that print today's date get this one, so that a run tomorrow sees the same tokens.
FIXED_DATE: Final = "26 Jul 2024"

#: What a template raises on a conversation it was not written for.
REFUSALS: Final = (JinjaError, TypeError, ValueError, KeyError, AttributeError)

_MARKER = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


class RowRefused(Exception):
    """One trajectory cannot be rendered or masked; the sentence says why, the others go on."""


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """What the chat template of a tokenizer can show.

    Attributes:
        marks_turns: The template carries ``{% generation %}`` markers.
        shows_tool_calls: It renders ``tool_calls`` of an assistant message.
        takes_tool_role: It renders messages of role ``tool``.
        shows_tools: It renders tool definitions.
        shows_reasoning: It renders ``reasoning_content`` of an assistant message.
        renumbers_calls: It takes only call ids of nine letters and digits.
        header: What a generation prompt adds, such as ``<|im_start|>assistant`` and a line end.
        control_tokens: Strings the tokenizer reads as special tokens, longest first.
        cuts_cleanly: Pieces of text may be encoded apart without a space being put before each.
        extra: Further template variables, such as a fixed date.
    """

    marks_turns: bool
    shows_tool_calls: bool
    takes_tool_role: bool
    shows_tools: bool
    shows_reasoning: bool
    renumbers_calls: bool
    header: str
    control_tokens: tuple[str, ...]
    cuts_cleanly: bool
    extra: dict[str, str]


def probe(tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
    """Ask the chat template what it shows, with probe words in small conversations.

    Raises:
        TemplateError: If there is no chat template, no fast tokenizer, or the template cannot
            render a user and an assistant turn.
    """
    _require_template(tokenizer)
    extra = {"date_string": FIXED_DATE} if "date_string" in template_of(tokenizer) else {}
    user, reply = say("user", "qzuser"), say("assistant", "qzreply")
    ask = _asker(tokenizer, extra)

    prompt, prompted = ask([user]), ask([user], add_generation_prompt=True)
    header = prompted.removeprefix(prompt) if prompted.startswith(prompt) else ""
    exchange = ask([user, reply])
    if "qzreply" not in exchange:
        why = "the chat template does not show what an assistant turn says"
        raise TemplateError(why, hint=_OTHER_TEMPLATE)
    _require_header(header, exchange[len(prompt) :] if exchange.startswith(prompt) else exchange)

    call_id = next((i for i in ("call_probe", "callprobe") if _shows_calls(ask, i)), "")
    caller = _with_calls(call_id) if call_id else say("assistant", "qzcaller")
    result = {**say("tool", "qzresult"), "tool_call_id": call_id or "callprobe", "name": "qzname"}
    thinker = {**reply, "reasoning_content": "qzthought"}
    return ChatFormat(
        marks_turns=bool(_MARKER.search(template_of(tokenizer))),
        shows_tool_calls=bool(call_id),
        takes_tool_role="qzresult" in _try(ask, [user, caller, result, reply]),
        shows_tools="qztool" in _try(ask, [user, reply], tools=[_PROBE_TOOL]),
        shows_reasoning="qzthought" in _try(ask, [user, thinker]),
        renumbers_calls=call_id == "callprobe",
        header=header,
        control_tokens=_control_tokens(tokenizer),
        cuts_cleanly=_cuts_cleanly(tokenizer),
        extra=extra,
    )


_OTHER_TEMPLATE = (
    "Pass a model with another chat template, for example --model smollm2-135m-instruct."
)
_PROBE_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "qztool",
        "description": "probe",
        "parameters": {"type": "object", "properties": {"qzkey": {"type": "string"}}},
    },
}


def _require_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.chat_template:
        why = "the tokenizer has no chat template, so turns cannot be told apart"
        raise TemplateError(why, hint="Pass an instruct or chat model, whose tokenizer has one.")
    if not tokenizer.is_fast:
        why = "the tokenizer has no fast version, so control tokens in text cannot be kept apart"
        raise TemplateError(why, hint="Pass a model folder with a tokenizer.json.")


def _require_header(header: str, reply: str) -> None:
    """Without a generation prompt, words before the reply would be masked as if said."""
    before = reply[: reply.index("qzreply")] if "qzreply" in reply else ""
    if not header and before.strip():
        why = f"the chat template writes {before!r} before a reply, but has no generation prompt"
        raise TemplateError(why, hint=_OTHER_TEMPLATE)


def _asker(tokenizer: PreTrainedTokenizerBase, extra: dict[str, str]) -> Callable[..., str]:
    def ask(messages: list[Message], **options: Any) -> str:
        try:
            return render(tokenizer, messages, extra=extra, **options)
        except RowRefused as error:
            why = f"the chat template cannot render a plain exchange: {error}"
            raise TemplateError(why, hint=_OTHER_TEMPLATE) from error

    return ask


def _try(ask: Callable[..., str], messages: list[Message], **options: Any) -> str:
    try:
        return ask(messages, **options)
    except TemplateError:
        return ""


def _shows_calls(ask: Callable[..., str], call_id: str) -> bool:
    user, caller = say("user", "qzuser"), _with_calls(call_id)
    result = {**say("tool", "qzresult"), "tool_call_id": call_id, "name": "qzname"}
    for talk in ([user, caller, result, say("assistant", "qzreply")], [user, caller]):
        text = _try(ask, talk)
        if "qzname" in text and "qzvalue" in text:
            return True
    return False


def _with_calls(call_id: str) -> Message:
    function = {"name": "qzname", "arguments": {"qzkey": "qzvalue"}}
    call = {"type": "function", "id": call_id, "function": function}
    return {**say("assistant", ""), "tool_calls": [call]}


def say(role: str, content: str) -> Message:
    """A message of plain text."""
    return {"role": role, "content": content}


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Special tokens only: other added tokens, such as ``<think>``, are words a model may use."""
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    known = {token for token in (*added, *tokenizer.all_special_tokens) if token.strip()}
    return tuple(sorted(known, key=lambda token: (-len(token), token)))


def _cuts_cleanly(tokenizer: PreTrainedTokenizerBase) -> bool:
    whole, *parts = (
        tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("\nx", "\n", "x")
    )
    return bool(whole == [token for part in parts for token in part])


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    *,
    extra: dict[str, str],
    tools: list[dict[str, Any]] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """The text the template makes of messages.

    Raises:
        RowRefused: With the template's own words, when it refuses the conversation.
    """
    try:
        return cast(
            "str",
            tokenizer.apply_chat_template(
                messages,
                tools=cast("Any", tools or None),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **cast("Any", extra),
            ),
        )
    except REFUSALS as error:
        why = f"the chat template refuses it: {one_line(error)}"
        raise RowRefused(why) from error


def one_line(error: BaseException) -> str:
    """The first words of an error, fit for a sentence."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """All text of the tokenizer's chat template, also where it has several."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return "\n".join(str(part) for part in template.values())
    return str(template or "")
