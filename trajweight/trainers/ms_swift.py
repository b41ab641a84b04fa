"""ms-swift: a float ``loss_scale`` on each reply, which acts once the config says it is no flag."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, ClassVar

from trajweight.formats import UnusableError
from trajweight.jsontext import NotJsonError, decode
from trajweight.trainers.protocol import Mode, Plan, Refusal, Row, Target, Told

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trajweight.trainers.protocol import Example

_PLUGIN = "ms_swift_weights.py"

_CONFIG = """\
# Fine-tunes with ms-swift 4.6: swift sft train.yaml, from inside this folder.
model: {model}
use_hf: true  # false: the model comes from ModelScope
torch_dtype: bfloat16

tuner_type: lora  # full: every parameter
lora_rank: 16
lora_alpha: 32
target_modules: all-linear

dataset: {data}
{mixture}{weights}max_length: 8192
truncation_strategy: delete  # a longer trajectory is left out, its weight too
load_from_cache_file: false  # a cached copy may hold weights of an earlier export

num_train_epochs: {epochs}
per_device_train_batch_size: 1
gradient_accumulation_steps: 16  # weights act among the trajectories of one step
learning_rate: 1.0e-4
lr_scheduler_type: cosine
warmup_ratio: 0.05
gradient_checkpointing: true
logging_steps: 5
save_strategy: epoch
output_dir: output
seed: {seed}
"""

_WEIGHTS = f"""\
loss_scale: default  # replies are trained on, and loss_scale of a message is their weight
is_binary_loss_scale: false  # without this line every weight above zero is one
external_plugins: [{_PLUGIN}]  # the token that ends a turn weighs as its turn does
"""


class MsSwift(Target):
    """Rows of messages in ms-swift's own roles; a reply's weight in its ``loss_scale``."""

    name = "ms-swift"
    title = "ms-swift"
    checked = ("ms-swift 4.6.0",)
    modes = ("native", "resample", "buckets", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "adapter": Refusal(
            "ms-swift has a weight of its own on every message; mode native fills it, and loads a "
            "small plugin of ours for the token that ends a turn.",
            "native",
        ),
        "tokenized": Refusal(
            "ms-swift renders messages by its own templates and takes no labels from a file.",
            "native",
        ),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = {"native": (_PLUGIN,)}
    probe = "ms_swift"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, with ``loss`` on every reply, and tools as JSON text.

        Every message of a kind has the same keys, and ``tools`` stands in every row: the library
        that reads the file takes its columns from the first ten megabytes.
        """
        weight = {"loss_scale": example.token_weight} if mode == "native" else {}
        messages: list[Row] = []
        for message, is_trained in _in_call_order(example.messages, example.trained):
            mark = {"loss": is_trained, **weight}
            messages += _written(message, mark)
        _refuse_what_is_dropped(messages)
        return {"messages": messages, "tools": json.dumps(example.tools or [], ensure_ascii=False)}

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The config that ``swift sft`` reads."""
        mixture = ""
        if plan.mode == "buckets":
            total = math.fsum(file.rate for file in plan.data)
            rates = [file.rate / total for file in plan.data]  # numpy wants one to eight places
            drawn = max(
                math.ceil(file.n_rows / rate) for file, rate in zip(plan.data, rates, strict=True)
            )
            mixture = (
                f"interleave_prob: {json.dumps(rates)}  # how often each file is drawn from\n"
                "stopping_strategy: all_exhausted  # each row is seen, heavy ones again and again\n"
                f"# An epoch draws about {drawn} rows of {plan.n_examples}; max_steps ends it.\n"
            )
        elif plan.mode == "resample":
            mixture = (
                "# A file an epoch, in the order they were drawn, copies apart.\n"
                "dataset_shuffle: false\n"
                "train_dataloader_shuffle: false\n"
            )
        text = _CONFIG.format(
            model=json.dumps(plan.model),
            data=json.dumps([file.name for file in plan.data]),
            mixture=mixture,
            weights=_WEIGHTS if plan.mode == "native" else "loss_scale: default\n",
            epochs=1 if plan.mode in ("resample", "buckets") else 2,
            seed=plan.seed,
        )
        return {"train.yaml": text}

    def told(self, plan: Plan) -> Told:
        """How weights act, by mode."""
        traps = [
            "`template_backend: jinja` trains on the whole text, prompts too, with weight one.",
            "An optimiser step over one trajectory blunts its weight: AdamW does not see the size "
            "of a gradient. Keep several trajectories a step.",
        ]
        if plan.mode == "native":
            acts = (
                "`loss_scale` of every reply is the trajectory's weight, times mean length over "
                "its length in trained tokens, as the run counted them: ms-swift sums the weighted "
                "losses of all tokens of a step and divides by their unweighted number."
            )
            traps = [
                "Without `is_binary_loss_scale: false` every weight above zero becomes one, "
                "without a word.",
                f"`{_PLUGIN}` gives the end of each turn the weight of the turn. Without it those "
                "tokens weigh one: in replies of ten tokens weights of 0.2 and 1.2 acted as 0.205 "
                "and 1.189.",
                *traps,
            ]
            if plan.n_untrained:
                traps.append(
                    "Where the last reply of a trajectory is not trained on, ms-swift trains on "
                    "the token that ends it all the same."
                )
            return Told(acts, _COMMAND, _INSTALL, tuple(traps))
        acts = {
            "resample": "A trajectory stands in the file of an epoch as often as was drawn for it; "
            "rows have no weight. Losses are a mean over the tokens of a step, and copies make "
            "up for the length of a trajectory as well.",
            "buckets": "Files hold trajectories of like weight, and `interleave_prob` draws from "
            "them as their weights add up; within a file all count alike.",
        }.get(plan.mode, "Kept trajectories count alike; rows have no weight.")
        return Told(acts, _COMMAND, _INSTALL, tuple(traps), is_exact=False)


_COMMAND = "swift sft train.yaml"
_INSTALL = "pip install ms-swift==4.6.0"


def _in_call_order(messages: Sequence[Row], trained: Sequence[bool]) -> Iterator[tuple[Row, bool]]:
    """Messages with their marks, results in the order of their calls: ms-swift drops call ids."""
    places: list[int] = []
    end = 0
    for start, message in enumerate(messages):
        if start < end:
            continue
        places.append(start)
        end = start + 1
        order = [call["id"] for call in message.get("tool_calls", ())]
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        results = list(range(start + 1, end))
        answered = [messages[place].get("tool_call_id") for place in results]
        if len(set(order)) == len(order) and sorted(map(str, answered)) == sorted(order):
            results.sort(key=lambda place: order.index(messages[place]["tool_call_id"]))
        places += results
    return ((messages[place], trained[place]) for place in places)


def _written(message: Row, mark: Row) -> list[Row]:
    """A message in ms-swift's roles; a reply with calls is several."""
    role, content = message["role"], message["content"] or ""
    if role != "assistant":
        return [{"role": role, "content": content}]
    calls = [
        {"role": "tool_call", "content": _call_text(call["function"]), **mark}
        for call in message.get("tool_calls", ())
    ]
    if message.get("reasoning_content"):
        content = f"<think>\n{message['reasoning_content']}\n</think>\n\n{content}"
    spoken = [{"role": role, "content": content, **mark}] if content or not calls else []
    return spoken + calls


def _call_text(function: Mapping[str, Any]) -> str:
    """A call as JSON text with its arguments decoded, where they are JSON."""
    try:
        arguments = decode(function["arguments"])
    except NotJsonError:
        arguments = function["arguments"]
    return json.dumps({"name": function["name"], "arguments": arguments}, ensure_ascii=False)


def _refuse_what_is_dropped(messages: Sequence[Row]) -> None:
    """Raise for what ms-swift would leave out of the data with a note in its log.

    Raises:
        UnusableError: If it would.
    """
    roles = [message["role"] for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    if "system" in spoken:
        reason = "a system message stands after another message; ms-swift takes it first only"
        raise UnusableError(reason)
    if spoken[:1] == ["tool"]:
        reason = "it begins with a tool result; ms-swift wants a user message or a reply before it"
        raise UnusableError(reason)
