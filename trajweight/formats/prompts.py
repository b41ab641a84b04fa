"""What a call of a model was given and gave back, found in the objects that tools log around it."""

from __future__ import annotations

from typing import Any, Final

from trajweight.formats.dialects import Talk, is_message, is_pair, is_part, turns_of_all
from trajweight.formats.message_parts import opened
from trajweight.formats.pieces import listing
from trajweight.formats.protocol import Row, UnusableError
from trajweight.jsontext import kind_of

#: Where a prompt or an answer stands in an object around it, in the order they are asked.
_PROMPTS: Final = ("messages", "input", "inputs", "prompts", "prompt")
_ANSWERS: Final = (
    "generations",
    "choices",
    "messages",
    "message",
    "output",
    "outputs",
    "response",
    "completion",
    "text",
)
_SYSTEM: Final = ("system", "instructions")
#: Objects around objects; more than this is no log of a call.
_DEEPEST: Final = 6


def talk_of(prompt: Any, answer: Any) -> Talk:
    """The conversation of one call, from what was logged as its input and its output.

    An output that begins with the input, as the state of a graph does, stands for both.

    Raises:
        UnusableError: If either is no text and holds no messages.
    """
    asked = _asked(prompt)
    answers, n_choices = _answered(answer)
    before = turns_of_all(asked)
    after = turns_of_all(answers, first=len(asked) + 1)
    is_whole = bool(before.turns) and after.turns[: len(before.turns)] == before.turns
    turns = after.turns if is_whole else before.turns + after.turns
    told = (f"the model gave {n_choices} choices; the first is read",) if n_choices > 1 else ()
    return Talk(turns, (*before.remarks, *after.remarks, *told))


def tools_in(prompt: Any) -> Any:
    """The tool definitions that stand beside a prompt's messages; None where there are none."""
    prompt = opened(prompt)
    if not isinstance(prompt, dict):
        return None
    return next((prompt[key] for key in ("tools", "functions") if prompt.get(key)), None)


def _asked(value: Any) -> list[Any]:
    """The messages of a prompt, not yet understood."""
    system: list[Any] = []
    for _ in range(_DEEPEST):
        value = opened(value)
        if value is None or value == "":
            return system
        if isinstance(value, str):
            return [*system, {"role": "user", "content": value}]
        if isinstance(value, list):
            return [*system, *_of_batch(value, "input")]
        if not isinstance(value, dict):
            break
        if is_message(value):
            return [*system, value]
        system += [{"role": "system", "content": value[k]} for k in _SYSTEM if value.get(k)]
        key = next((key for key in _PROMPTS if value.get(key)), None)
        if key is None:
            break
        # A list of prompts is a batch, where a list of texts elsewhere is one conversation.
        value = [[text] for text in value[key]] if _is_batch_of_texts(key, value) else value[key]
    reason = f"the input of the call is {_described(value)}, which holds no messages"
    raise UnusableError(reason)


def _answered(value: Any) -> tuple[list[Any], int]:
    """The messages of an answer, not yet understood, and how many choices there were."""
    n_choices = 1
    for _ in range(_DEEPEST):
        value = opened(value)
        if value is None or value in ("", [], {}):
            return [], n_choices
        if isinstance(value, str):
            return [{"role": "assistant", "content": value}], n_choices
        if isinstance(value, list):
            messages = _of_batch(value, "output")
            whole = {"role": "assistant", "content": messages}
            return ([whole] if all(map(is_part, messages)) else messages), n_choices
        if not isinstance(value, dict):
            break
        if is_message(value) or "role" in value:
            return [value], n_choices
        key = next((key for key in _ANSWERS if value.get(key)), None)
        if key is None and value.get("content"):
            return [{**value, "role": "assistant"}], n_choices
        if key is None:
            break
        value = value[key]
        if key in ("generations", "choices") and isinstance(value, list) and value:
            choices = value[0] if isinstance(value[0], list) and value[0] else value
            n_choices, value = len(choices), choices[0]
    reason = f"the output of the call is {_described(value)}, which holds no message"
    raise UnusableError(reason)


def _of_batch(messages: list[Any], what: str) -> list[Any]:
    """The messages of a list; of a list of lists, which is a batch, those of its only one."""
    is_batch = all(isinstance(each, list) and not is_pair(each) for each in messages)
    if not is_batch or not messages:
        return messages
    if len(messages) > 1:
        reason = f"the {what} of the call is a batch of {len(messages)} conversations"
        raise UnusableError(reason)
    only: list[Any] = messages[0]
    return only


def _is_batch_of_texts(key: str, value: Row) -> bool:
    texts = value[key]
    return key == "prompts" and isinstance(texts, list) and all(isinstance(t, str) for t in texts)


def _described(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with {listing(list(value)) or 'nothing in it'}"
    return kind_of(value)
