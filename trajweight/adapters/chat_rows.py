"""Conversations from JSON lines as token rows for a trainer: ``input_ids``, ``labels``, ``weight``.

    rows = conversations(["data/train.jsonl"], tokenizer, max_length=4096)

A line holds ``messages`` as the OpenAI API writes them, arguments of tool calls as objects or as
JSON text, and may hold ``tools`` and a ``weight``. Labels are the tokens that the assistant says,
the token that ends its turn included, and -100 elsewhere. Replies with ``"train": false`` are not
trained on. What the assistant says is found by rendering each prompt and each reply with the chat
template, and checked to be part of the whole; a template that rewrites earlier turns must enclose
what the assistant says in ``{% generation %}``, and is refused otherwise.

This file needs datasets and a tokenizer of transformers, and may be copied beside a script.
"""

from __future__ import annotations

import json
import logging
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from datasets.exceptions import DatasetGenerationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Row = dict[str, Any]
Span = tuple[int, int]

IGNORED = -100
_CALL = {"type": "function", "id": "qzidqzidq", "function": {"name": "qzname", "arguments": {}}}

_log = logging.getLogger(__name__)


def conversations(
    paths: Sequence[str | Path],
    tokenizer: Any,
    *,
    max_length: int,
    fallback_template: str | None = None,
) -> Dataset:
    """The rows of JSON lines in tokens, in their order; told what was cut.

    Args:
        paths: Files of JSON lines.
        tokenizer: A fast one, with a chat template.
        max_length: Longest row in tokens; longer ones lose their end.
        fallback_template: A chat template with ``{% generation %}``, to be taken where the
            tokenizer's own rewrites earlier turns.

    Raises:
        ValueError: If a line cannot be rendered, or there is none.
    """
    files = [Path(path).resolve() for path in paths]
    try:
        rows = Dataset.from_generator(
            _rows,
            gen_kwargs={
                "paths": [str(path) for path in files],
                "tokenizer": tokenizer,
                "max_length": max_length,
                "template": fallback_template,
                # datasets keeps what it once made of the same arguments; these change with a file
                "stamps": [(path.stat().st_size, path.stat().st_mtime_ns) for path in files],
            },
        )
    except DatasetGenerationError as error:  # says nothing of its own
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise
    counts = rows.select_columns(["n_tokens", "n_trained"]).with_format("numpy")[:]
    n_cut = int((counts["n_tokens"] > max_length).sum())
    n_mute = int((counts["n_trained"] == 0).sum())
    if n_cut:
        _log.warning("%d of %d rows were cut to %d tokens", n_cut, len(rows), max_length)
    if n_mute:
        _log.warning("%d of %d rows have no reply left and train nothing", n_mute, len(rows))
    return rows


def encoded(row: Row, tokenizer: Any, fallback_template: str | None = None) -> Row:
    """A conversation as ``input_ids`` and ``labels``.

    Raises:
        ValueError: If the chat template cannot show it, or gives no trustworthy labels.
    """
    messages, tools = _fitted(row["messages"], tokenizer), _tools(row)
    render = _renderer(tokenizer, tools)
    text = render(messages)
    spans = _spans(messages, text, render, tokenizer)
    if spans is None and "generation %}" in tokenizer.get_chat_template(None, tools):
        return _marked(messages, tools, tokenizer, None)
    if spans is None and fallback_template is not None:
        return _marked(messages, tools, tokenizer, fallback_template)
    if spans is None:
        message = (
            "the chat template rewrites earlier turns when later ones come, so that what the "
            "assistant says cannot be told. Take a model whose template does not, or one that "
            "encloses it in {% generation %} and {% endgeneration %}."
        )
        raise ValueError(message)
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    labels = [IGNORED] * len(made["input_ids"])
    waiting = list(spans)
    for place, (start, _) in enumerate(made["offset_mapping"]):
        while waiting and start >= waiting[0][1]:
            waiting.pop(0)
        if waiting and start >= waiting[0][0]:
            labels[place] = made["input_ids"][place]
    return {"input_ids": made["input_ids"], "labels": labels}


def _rows(
    paths: list[str], tokenizer: Any, max_length: int, template: str | None, stamps: Any
) -> Iterator[Row]:
    del stamps
    for path in paths:
        with Path(path).open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                try:
                    made = encoded(row, tokenizer, template)
                except ValueError as error:
                    message = f"{path}:{number}: {error}"
                    raise ValueError(message) from error
                n_tokens = len(made["input_ids"])
                made = {key: values[:max_length] for key, values in made.items()}
                made["n_tokens"] = n_tokens
                made["n_trained"] = sum(label != IGNORED for label in made["labels"])
                if row.get("weight") is not None:
                    made["weight"] = float(row["weight"])
                yield made


# --- labels --------------------------------------------------------------------------------------


def _renderer(tokenizer: Any, tools: list[Row] | None) -> Any:
    def render(messages: list[Row], **options: Any) -> str:
        try:
            text: str = tokenizer.apply_chat_template(
                [{k: v for k, v in message.items() if k != "train"} for message in messages],
                tools=tools,
                tokenize=False,
                **options,
            )
        except Exception as error:  # templates raise what they like
            message = f"the chat template refuses it: {error}"
            raise ValueError(message) from error
        return text

    return render


def _spans(messages: list[Row], text: str, render: Any, tokenizer: Any) -> list[Span] | None:
    """What the assistant says and is trained on, as characters; None where history is rewritten."""
    spans = []
    for place, message in enumerate(messages):
        if not _is_trained(message):
            continue
        if not place:
            why = "it begins with a reply, which no prompt asks for"
            raise ValueError(why)
        before = render(messages[:place], add_generation_prompt=True)
        after = text if place == len(messages) - 1 else render(messages[: place + 1])
        if not (text.startswith(after) and after.startswith(before)):
            return None
        said = after.rstrip()
        is_closed = said.endswith(tuple(tokenizer.all_special_tokens))
        spans.append((len(before), len(said) if is_closed else len(after)))
    return spans


def _marked(
    messages: list[Row], tools: list[Row] | None, tokenizer: Any, template: str | None
) -> Row:
    """Labels by the ``{% generation %}`` of a template."""
    made = tokenizer.apply_chat_template(
        messages,
        tools=tools,
        chat_template=template,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    mask, replies = made["assistant_masks"], [m for m in messages if m["role"] == "assistant"]
    runs = [(bool(said), len(list(run))) for said, run in groupby(mask)]
    if sum(said for said, _ in runs) != len(replies):
        message = (
            f"the chat template marks {sum(said for said, _ in runs)} stretches as said by the "
            f"assistant, and there are {len(replies)} replies"
        )
        raise ValueError(message)
    speakers = iter(replies)
    trained = [
        is_trained
        for said, length in runs
        for is_trained in [said and _is_trained(next(speakers))] * length
    ]
    ids = made["input_ids"]
    return {
        "input_ids": ids,
        "labels": [
            i if is_trained else IGNORED for i, is_trained in zip(ids, trained, strict=True)
        ],
    }


def _is_trained(message: Row) -> bool:
    return message["role"] == "assistant" and message.get("train") is not False


# --- messages ------------------------------------------------------------------------------------


def _tools(row: Row) -> list[Row] | None:
    tools = row.get("tools")
    if isinstance(tools, str):
        tools = json.loads(tools)
    return tools or None


def _fitted(messages: list[Row], tokenizer: Any) -> list[Row]:
    """Messages as the template takes them.

    Content is text and arguments are objects. Where the template does not know tools, calls become
    text of the reply and results become messages of the user, neighbours joined.
    """
    uses_tools = any(one["role"] == "tool" or one.get("tool_calls") for one in messages)
    shows_calls, shows_results = _shows_tools(tokenizer) if uses_tools else (True, True)
    made: list[Row] = []
    was_folded = False
    for message in messages:
        one = {**message, "content": message.get("content") or ""}
        if one.get("tool_calls"):
            one["tool_calls"] = [_with_object(call) for call in one["tool_calls"]]
            if not shows_calls:
                blocks = [_block("tool_call", call["function"]) for call in one.pop("tool_calls")]
                one["content"] = "\n".join(filter(None, [one["content"], *blocks]))
        is_folded = one["role"] == "tool" and not shows_results
        if is_folded:
            block = f"<tool_response>\n{one['content']}\n</tool_response>"
            if was_folded:
                made[-1]["content"] += "\n" + block
                continue
            one = {"role": "user", "content": block}
        was_folded = is_folded
        made.append(one)
    return made


def _shows_tools(tokenizer: Any) -> tuple[bool, bool]:
    """Whether the template shows tool calls, and messages of role tool."""
    render = _renderer(tokenizer, None)
    asked = {"role": "user", "content": "qzuser"}
    caller = {"role": "assistant", "content": "", "tool_calls": [_CALL]}
    plain = {"role": "assistant", "content": "qzreply"}
    result = {"role": "tool", "content": "qzresult", "name": "qzname"}
    result["tool_call_id"] = "qzidqzidq"

    def shown(messages: list[Row], word: str) -> bool:
        try:
            return word in render(messages)
        except ValueError:
            return False

    calls = shown([asked, caller, result, plain], "qzname") or shown([asked, caller], "qzname")
    return calls, shown([asked, caller if calls else plain, result, plain], "qzresult")


def _with_object(call: Row) -> Row:
    """A tool call whose arguments are an object, as templates want it."""
    function = dict(call["function"])
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except ValueError:  # then they are text to the template too
            return call
    return {**call, "function": function}


def _block(name: str, function: Row) -> str:
    shown = {"name": function["name"], "arguments": function["arguments"]}
    return f"<{name}>\n{json.dumps(shown, ensure_ascii=False)}\n</{name}>"
