"""Datums for Tinker whose token weights carry the weight of their trajectory.

Tinker's cross-entropy is the plain sum of ``-logprob * weights`` over all tokens of a request. The
cookbook's own ``conversation_to_datum`` brings the weights of each datum to sum one, which would
take a trajectory weight out again; so the weight is multiplied in here, after everything else.

A renderer that writes earlier turns otherwise than the last one (it strips their reasoning) cannot
show a whole trajectory in one sequence. Then there is a datum for each trained reply, each after
the context it was sampled from, and T counts the trained tokens of all of them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import tinker
from tinker_cookbook.renderers import Message, ToolCall, TrainOnWhat
from tinker_cookbook.supervised.common import datum_from_model_input_weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from tinker_cookbook.renderers import Renderer

Objective = Literal["sequence-mean", "token-weighted"]


def datums_of(
    row: dict[str, Any],
    renderer: Renderer,
    *,
    mean_tokens: float,
    max_length: int | None = None,
    objective: Objective = "sequence-mean",
) -> list[tinker.Datum]:
    """The datums of one row of the export.

    Args:
        row: With ``messages``, and maybe ``tools`` and ``weight``; without a weight it counts one.
        renderer: The cookbook's, for the model.
        mean_tokens: Mean number of trained tokens of a row, which keeps the steps as long as
            without weights.
        max_length: Longest sequence, in tokens; what is beyond is cut off.
        objective: What a row counts by: its weight alone, so that a token gets
            ``weight * mean_tokens / T``; or its weight times its length.

    Returns:
        None at all if no trained token is left within ``max_length``.
    """
    parts = [
        datum_from_model_input_weights(tokens, weights, max_length, reduction="none")
        for tokens, weights in _rendered(row, renderer)
    ]
    masks = [[float(value) for value in each.loss_fn_inputs["weights"].data] for each in parts]
    n_trained = sum(map(sum, masks))
    if not n_trained:
        return []
    scale = float(row.get("weight", 1.0))
    if objective == "sequence-mean":
        scale *= mean_tokens / n_trained
    return [
        _weighted(part, [scale * value for value in mask])
        for part, mask in zip(parts, masks, strict=True)
        if any(mask)
    ]


def _rendered(
    row: dict[str, Any], renderer: Renderer
) -> Iterator[tuple[tinker.ModelInput, torch.Tensor]]:
    """Tokens and which of them are trained on, one pair for each sequence that is needed."""
    messages, trained = _conversation(row, renderer)
    if not renderer.has_extension_property:
        for place, is_trained in enumerate(trained):
            if is_trained:
                yield renderer.build_supervised_example(
                    messages[: place + 1], train_on_what=TrainOnWhat.LAST_ASSISTANT_MESSAGE
                )
        return
    for message, is_trained in zip(messages, trained, strict=True):
        message["trainable"] = is_trained
    yield renderer.build_supervised_example(messages, train_on_what=TrainOnWhat.CUSTOMIZED)


def _conversation(row: dict[str, Any], renderer: Renderer) -> tuple[list[Message], list[bool]]:
    """The messages with the tools before them, and by message whether it is trained on."""
    told = row["messages"]
    start: list[Message] = []
    if row.get("tools"):
        system = told[0]["content"] if told[0]["role"] == "system" else ""
        told = told[1:] if told[0]["role"] == "system" else told
        specs = [tool.get("function", tool) for tool in row["tools"]]
        start = renderer.create_conversation_prefix_with_tools(specs, system)
    trained = [message["role"] == "assistant" and message.get("train", True) for message in told]
    return [*start, *map(_message, told)], [*[False] * len(start), *trained]


def _message(told: dict[str, Any]) -> Message:
    """A message as the cookbook has it."""
    made: Message = {"role": told["role"], "content": told["content"] or ""}
    if told.get("reasoning_content"):
        made["content"] = [
            {"type": "thinking", "thinking": told["reasoning_content"]},
            {"type": "text", "text": told["content"] or ""},
        ]
    if told.get("tool_calls"):
        made["tool_calls"] = [
            ToolCall(
                id=call["id"] or None,
                function=ToolCall.FunctionBody(
                    name=call["function"]["name"], arguments=_text(call["function"]["arguments"])
                ),
            )
            for call in told["tool_calls"]
        ]
    for key in ("tool_call_id", "name"):
        if told.get(key):
            made[key] = told[key]
    return made


def _text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _weighted(datum: tinker.Datum, weights: list[float]) -> tinker.Datum:
    """The same datum with other weights."""
    told = tinker.TensorData(data=weights, dtype="float32", shape=[len(weights)])
    inputs = {**datum.loss_fn_inputs, "weights": told}
    return tinker.Datum(model_input=datum.model_input, loss_fn_inputs=inputs)
