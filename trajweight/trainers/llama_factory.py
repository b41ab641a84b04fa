"""LLaMA-Factory, its default trainer: no weight gets into its loss, so rows are repeated."""

from __future__ import annotations

import json
import math
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.jsontext import NotJsonError, decode
from trajweight.trainers.conversations import ending_in_reply, messages_of
from trajweight.trainers.protocol import Mode, Plan, Refusal, Row, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajweight.trainers.protocol import DataFile, Example

#: What LLaMA-Factory itself joins the results of parallel calls with, for its rows of messages.
_NEXT_RESULT: Final = "\n</tool_response>\n<tool_response>\n"
#: By a part of a model's name, in the order they are asked.
_TEMPLATES: Final[dict[str, str]] = {
    "qwen3.5": "qwen3_5",
    "instruct-2507": "qwen3_nothink",
    "qwen3": "qwen3",
    "qwen2": "qwen",
    "smollm2": "smollm2",
    "deepseek-r1": "deepseekr1",
    "llama-4": "llama4",
    "llama-3": "llama3",
    "gemma-3": "gemma3",
    "gemma-2": "gemma2",
    "granite-4": "granite4",
    "granite-3": "granite3",
    "phi-4": "phi4",
    "glm-4": "glm4",
}

_CONFIG = """\
# Fine-tunes with LLaMA-Factory 0.9: {command}, from inside this folder.
model_name_or_path: {model}
{template}
stage: sft
do_train: true
finetuning_type: lora  # full: every parameter
lora_rank: 16
lora_target: all

dataset_dir: .  # holds dataset_info.json
dataset: {names}
{mixture}cutoff_len: 8192
packing: false  # copies of a trajectory may otherwise be packed together
overwrite_cache: true
preprocessing_num_workers: 4

num_train_epochs: {epochs}
per_device_train_batch_size: 1
gradient_accumulation_steps: 16
learning_rate: 1.0e-4
lr_scheduler_type: cosine
warmup_ratio: 0.05
bf16: true
logging_steps: 5
save_strategy: epoch
output_dir: output
report_to: none
seed: {seed}
"""


class LlamaFactory(Target):
    """ShareGPT turns, since its reader of OpenAI messages loses what is said beside a call."""

    name = "llama-factory"
    title = "LLaMA-Factory"
    checked = ("llamafactory 0.9.5",)
    modes = ("resample", "buckets", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "LLaMA-Factory removes every column that it does not know before it tokenises, and its "
            "loss takes no weights.",
            "resample",
        ),
        "adapter": Refusal(
            "LLaMA-Factory has no place to hang a trainer or a collator of one's own; its source "
            "would have to be patched.",
            "resample",
        ),
        "tokenized": Refusal(
            "LLaMA-Factory reads tokenised rows, but no weights in them.", "resample"
        ),
    }
    probe = "llama_factory"

    def row(self, example: Example, mode: Mode) -> Row:
        """Turns by human, gpt, function_call and observation, system and tools as text.

        Raises:
            UnusableError: If speakers do not alternate: LLaMA-Factory would skip the row.
        """
        del mode
        messages = ending_in_reply(messages_of(example, flags=False))
        system = messages.pop(0)["content"] if messages[0]["role"] == "system" else ""
        turns: list[Row] = []
        for role, together in groupby(messages, key=lambda message: message["role"]):
            turns += _turns(role, list(together))
        _refuse_what_is_skipped(turns)
        tools = json.dumps(example.tools, ensure_ascii=False) if example.tools else ""
        return {"conversations": turns, "system": system, "tools": tools}

    def remark(self, example: Example, mode: Mode) -> str:
        """Parallel results are one turn."""
        del mode
        roles = [message["role"] for message in example.messages]
        if ("tool", "tool") in pairwise(roles):
            return "had results of parallel calls, which are one observation now"
        return ""

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The index of data files, and the config that ``llamafactory-cli train`` reads."""
        names = [_name_of(file) for file in plan.data]
        known = {name: _entry(file) for name, file in zip(names, plan.data, strict=True)}
        template = next((t for part, t in _TEMPLATES.items() if part in plan.model.lower()), None)
        text = _CONFIG.format(
            command=_COMMAND,
            model=json.dumps(plan.model),
            template=f"template: {template}"
            if template
            else "# template: is read from the tokenizer; name one if LLaMA-Factory knows it",
            names=",".join(names),
            mixture=_mixture(plan),
            epochs=2 if plan.mode == "filter" else 1,
            seed=plan.seed,
        )
        return {"dataset_info.json": json.dumps(known, indent=2) + "\n", "train.yaml": text}

    def told(self, plan: Plan) -> Told:
        """How weights act, by mode."""
        acts = {
            "resample": "A trajectory stands in the file of an epoch as often as was drawn for it; "
            "rows have no weight, and equal rows are not merged.",
            "buckets": "Files hold trajectories of like weight, and `interleave_probs` draws from "
            "them as their weights add up; within a file all count alike.",
        }.get(plan.mode, "Kept trajectories count alike; rows have no weight.")
        acts += (
            " The loss is a mean over the trained tokens of a step: kept trajectories count by "
            "their length."
            if plan.mode == "filter"
            else " The loss is a mean over the trained tokens of a step; copies and rates make up "
            "for the length of a trajectory as well."
        )
        traps = [
            "A weight column in the rows would be removed without a word.",
            "`val_size` would put copies of a row into both parts; validate on data of your own.",
            "`template` decides how calls and results look. A template other than ChatML shows "
            "parallel results with `<tool_response>` tags between them.",
            "Reasoning stands in `<think>` tags before the reply.",
        ]
        if plan.n_untrained:
            traps.append("Every reply is trained on: rows cannot say that one is not.")
        return Told(acts, _COMMAND, _INSTALL, tuple(traps), is_exact=False)


_COMMAND: Final = "llamafactory-cli train train.yaml"
_INSTALL: Final = "pip install llamafactory==0.9.5"


def _turns(role: str, together: Sequence[Row]) -> list[Row]:
    """Messages of one role in a row as turns; results are one, others stay apart.

    Raises:
        UnusableError: If a role is unknown here.
    """
    if role == "tool":
        text = _NEXT_RESULT.join(message["content"] for message in together)
        return [{"from": "observation", "value": text}]
    if role == "user":
        return [{"from": "human", "value": message["content"]} for message in together]
    if role == "assistant":
        return [_reply(message) for message in together]
    reason = f"a {role} message stands after another message; LLaMA-Factory takes it first only"
    raise UnusableError(reason)


def _reply(message: Row) -> Row:
    """A reply; calls are a JSON list, in tags if something is said beside them.

    Raises:
        UnusableError: If what is said has the tags in it, so that calls could not be found.
    """
    thought = message.get("reasoning_content")
    said = f"<think>\n{thought}\n</think>\n\n" if thought else ""
    said += message["content"]
    if not message.get("tool_calls"):
        return {"from": "gpt", "value": said}
    calls = json.dumps([_call(call["function"]) for call in message["tool_calls"]])
    if "tool_call>" in said or "tool_call>" in calls:
        reason = "a reply with calls has <tool_call> in its text, which LLaMA-Factory reads as one"
        raise UnusableError(reason)
    return {
        "from": "function_call",
        "value": f"{said}<tool_call>{calls}</tool_call>" if said else calls,
    }


def _call(function: Mapping[str, Any]) -> Row:
    """A call with its arguments decoded, where they are JSON."""
    try:
        arguments = decode(function["arguments"])
    except NotJsonError:
        arguments = function["arguments"]
    return {"name": function["name"], "arguments": arguments}


def _refuse_what_is_skipped(turns: Sequence[Row]) -> None:
    """Raise where speakers do not alternate.

    Raises:
        UnusableError: If they do not.
    """
    for place, turn in enumerate(turns):
        is_reply = turn["from"] in ("gpt", "function_call")
        if is_reply != bool(place % 2):
            wanted = "a reply" if place % 2 else "a user message or a tool result"
            reason = (
                f"turn {place + 1} is from {turn['from']}, where LLaMA-Factory wants {wanted}; "
                "it skips such a row"
            )
            raise UnusableError(reason)


def _name_of(file: DataFile) -> str:
    return file.name.rpartition("/")[2].rpartition(".")[0].replace("-", "_")


def _entry(file: DataFile) -> Row:
    return {
        "file_name": file.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    }


def _mixture(plan: Plan) -> str:
    if plan.mode == "buckets":
        total = math.fsum(file.rate for file in plan.data)
        rates = [file.rate / total for file in plan.data]  # numpy wants one to eight places
        drawn = max(
            math.ceil(file.n_rows / rate) for file, rate in zip(plan.data, rates, strict=True)
        )
        return (
            "mix_strategy: interleave_over  # every row is seen, heavy ones again and again\n"
            f"interleave_probs: {','.join(map(str, rates))}  # how often each file is drawn from\n"
            f"# An epoch draws about {drawn} rows of {plan.n_examples}; max_steps ends it sooner.\n"
        )
    if plan.mode == "resample":
        return (
            "mix_strategy: concat  # a file an epoch, one after the other\n"
            "disable_shuffling: true  # they are shuffled, copies apart\n"
        )
    return ""
