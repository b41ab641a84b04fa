"""LLaMA-Factory's new trainer, v1: a float ``loss_weight`` that a micro-batch divides out again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.jsontext import NotJsonError, decode
from trajweight.trainers.conversations import ending_in_reply
from trajweight.trainers.protocol import Mode, Plan, Refusal, Row, Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajweight.trainers.protocol import Example

_CONFIG = """\
# Fine-tunes with LLaMA-Factory 0.9, v1: {command}, from inside this folder.
model: {model}
template: {template}  # ChatML; v1 knows chatml (no tools), qwen3 and qwen3_nothink
peft_config:
  name: lora  # without peft_config: every parameter, in float32
  r: 16
  lora_alpha: 32
  target_modules: all

train_dataset: datasets.yaml
cutoff_len: 8192

num_train_epochs: {epochs}
micro_batch_size: {micro}{why}
global_batch_size: 16
learning_rate: 1.0e-4
bf16: true
batching_workers: 4
logging_steps: 5
output_dir: output
seed: {seed}
"""


class LlamaFactoryV1(Target):
    """Messages in content parts, ``loss_weight`` one on what is trained and zero elsewhere."""

    name = "llama-factory-v1"
    title = "LLaMA-Factory v1 (USE_V1=1)"
    checked = ("llamafactory 0.9.5",)
    modes = ("resample", "buckets", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "native": Refusal(
            "LLaMA-Factory v1 divides the loss of a micro-batch by the sum of its weights, so that "
            "the weight of a trajectory cancels where micro_batch_size is 1, and is blunted where "
            "it is larger.",
            "resample",
            can_be_forced=True,
        ),
        "adapter": Refusal(
            "LLaMA-Factory v1 names its trainer in its own source; one of ours has no way in.",
            "resample",
        ),
        "tokenized": Refusal("LLaMA-Factory v1 renders messages itself.", "resample"),
    }
    keeps_turn_flags = True
    probe = "llama_factory_v1"

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages with a ``loss_weight`` each, tools as JSON text or an empty text.

        Raises:
            UnusableError: If v1 could not render them.
        """
        weight = example.token_weight if mode == "native" else 1.0
        shown = ending_in_reply(example.messages)
        messages = [
            {"role": m["role"], "content": _parts(m), "loss_weight": weight if trained else 0.0}
            for m, trained in zip(shown, example.trained[: len(shown)], strict=True)
        ]
        tools = json.dumps(example.tools, ensure_ascii=False) if example.tools else ""
        return {"messages": messages, "tools": tools}

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The list of data files, and the config."""
        is_native = plan.mode == "native"
        text = _CONFIG.format(
            command=_COMMAND,
            model=json.dumps(plan.model),
            template=_template(plan.model),
            epochs=1 if plan.mode in ("resample", "buckets") else 2,
            micro=16 if is_native else 1,
            why="  # weights act inside a micro-batch only: keep all of a step in one"
            if is_native
            else "",
            seed=plan.seed,
        )
        return {"datasets.yaml": _datasets(plan), "train.yaml": text}

    def told(self, plan: Plan) -> Told:
        """How weights act, by mode."""
        acts = {
            "native": "`loss_weight` of every reply is the trajectory's weight, times mean length "
            "over its length in trained tokens. A micro-batch divides by the sum of its weights: "
            "weights act among the trajectories of one micro-batch, and not between them.",
            "resample": "A trajectory stands in the file of an epoch as often as was drawn for it; "
            "rows have no weight, and equal rows are not merged.",
            "buckets": "Files hold trajectories of like weight; `weight` of a file is how often "
            "its rows are drawn, with replacement, as it begins. Within a file all count alike.",
        }.get(plan.mode, "Kept trajectories count alike; rows have no weight.")
        if plan.mode == "filter":
            acts += (
                " The loss is a mean over the trained tokens of a step: they count by their length."
            )
        elif plan.mode != "native":
            acts += (
                " The loss is a mean over the trained tokens of a step; copies and rates make up "
                "for the length of a trajectory as well."
            )
        traps = [
            "`loss_weight` also trains on the head of a turn, `<|im_start|>assistant`, which is "
            "how v1 renders.",
            "v1 renders ChatML whatever the model is; take a model that speaks it.",
            "v1 shuffles, across files too: copies of a row may fall into one step.",
        ]
        if plan.mode == "native":
            traps = [
                "With `micro_batch_size: 1` every weight cancels: the gradient is the unweighted "
                "one. Several processes have a micro-batch each.",
                "A weight of 1e-6 or less masks the reply.",
                *traps,
            ]
        return Told(acts, _COMMAND, _INSTALL, tuple(traps), is_exact=False)


_COMMAND: Final = "USE_V1=1 llamafactory-cli sft train.yaml"
_INSTALL: Final = "pip install llamafactory==0.9.5"


def _template(model: str) -> str:
    """Qwen3 where the model thinks, else the one ChatML template that shows tools."""
    name = model.lower()
    return "qwen3" if "qwen3" in name and "instruct" not in name else "qwen3_nothink"


def _parts(message: Row) -> list[Row]:
    """The content of a message as parts of a kind each.

    Raises:
        UnusableError: If a call has arguments that are no object.
    """
    parts = []
    if message.get("reasoning_content"):
        parts.append({"type": "reasoning", "value": message["reasoning_content"]})
    calls: Sequence[Row] = message.get("tool_calls", ())
    if message["content"] or not (calls or parts):
        parts.append({"type": "text", "value": message["content"] or ""})
    return parts + [{"type": "tool_call", "value": _call_text(c["function"])} for c in calls]


def _call_text(function: Mapping[str, Any]) -> str:
    """A call as JSON text with its arguments decoded.

    Raises:
        UnusableError: If the name would break out of the JSON that v1 writes around it.
    """
    name = function["name"]
    if json.dumps(name, ensure_ascii=False) != f'"{name}"':
        reason = f"a tool is called {name!r}, which LLaMA-Factory v1 writes into JSON as it is"
        raise UnusableError(reason)
    try:
        arguments = decode(function["arguments"])
    except NotJsonError:
        arguments = function["arguments"]
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def _datasets(plan: Plan) -> str:
    """An entry a file; JSON is YAML."""
    total = sum(file.n_rows for file in plan.data)
    entries = []
    for file in plan.data:
        name = file.name.rpartition("/")[2].rpartition(".")[0].replace("-", "_")
        entry = f"{name}:\n  path: {json.dumps(file.name)}\n  source: local\n"
        if plan.mode == "buckets":
            times = file.rate * total / file.n_rows
            entry += f"  weight: {times:.6f}  # draws, over the rows of the file\n"
        entries.append(entry)
    return "".join(entries)
