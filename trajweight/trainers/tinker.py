"""Tinker: a float weight for every token, multiplied in after the cookbook has rendered the row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from trajweight.formats import UnusableError
from trajweight.jsontext import encode
from trajweight.trainers.conversations import ending_in_reply, messages_of
from trajweight.trainers.protocol import Refusal, Target, Told
from trajweight.trainers.services import function_tools

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Example, Mode, Plan, Row

#: Makes datums of rows, and runs in the user's process.
_DATUMS: Final = "tinker_datums.py"
_SCRIPT: Final = '''\
"""Train on the rows at Tinker, each token with its weight.

    TINKER_API_KEY=... python train.py
"""

import argparse
import json
import random
from pathlib import Path

import tinker
from tinker_cookbook import model_info, renderers
from tinker_cookbook.tokenizer_utils import get_tokenizer

from tinker_datums import datums_of

HERE = Path(__file__).resolve().parent
MODEL = @model@
FILES = @files@@comment@
MEAN_TOKENS = @mean@  # trained tokens of a row
SEED = @seed@


def options(arguments=None):
    """The settings of a training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="name of the base model at Tinker")
    parser.add_argument("--renderer", help="of the cookbook; default the one for the model")
    parser.add_argument("--epochs", type=int, default=@epochs@)
    parser.add_argument(
        "--batch", type=int, default=32, help="rows of a step; weights act between these"
    )
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate, falling to 0")
    parser.add_argument("--rank", type=int, default=32, help="of the LoRA adapter")
    parser.add_argument("--max-length", type=int, default=8192, help="tokens; the rest is cut off")
    parser.add_argument(
        "--objective", choices=["sequence-mean", "token-weighted"], default="@objective@"
    )
    return parser.parse_args(arguments)


def rows_of_epoch(epoch):
    """The rows of an epoch, in the order they are taken."""
    name = FILES[epoch % len(FILES)]
    with open(HERE / name, encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
@shuffle@    return rows


def batches(settings, renderer):
    """The datums of each step, over all epochs."""
    for epoch in range(settings.epochs):
        rows = rows_of_epoch(epoch)
        for start in range(0, len(rows), settings.batch):
            batch = [
                datum
                for row in rows[start : start + settings.batch]
                for datum in datums_of(
                    row,
                    renderer,
                    mean_tokens=MEAN_TOKENS,
                    max_length=settings.max_length,
                    objective=settings.objective,
                )
            ]
            if batch:
                yield batch


def main():
    """Train, and keep the weights at Tinker."""
    settings = options()
    name = settings.renderer or model_info.get_recommended_renderer_name(settings.model)
    renderer = renderers.get_renderer(name, get_tokenizer(settings.model))
    sizes = [len(rows_of_epoch(epoch)) for epoch in range(settings.epochs)]
    n_steps = sum(-(-size // settings.batch) for size in sizes)
    client = tinker.ServiceClient().create_lora_training_client(
        base_model=settings.model, rank=settings.rank
    )
    for step, batch in enumerate(batches(settings, renderer)):
        rate = settings.lr * (1 - step / n_steps)
        done = client.forward_backward(batch, loss_fn="cross_entropy")
        stepped = client.optim_step(
            tinker.AdamParams(learning_rate=rate, beta1=0.9, beta2=0.95, eps=1e-8)
        )
        outputs = done.result().loss_fn_outputs
        stepped.result()
        told = sum(
            -sum(p * w for p, w in zip(out["logprobs"].data, datum.loss_fn_inputs["weights"].data))
            for out, datum in zip(outputs, batch)
        )
        mass = sum(sum(datum.loss_fn_inputs["weights"].data) for datum in batch)
        print(f"step {step + 1} of {n_steps}: weighted loss {told / mass:.4f}")
    print(client.save_weights_for_sampler(name="trajweight").result().path)


if __name__ == "__main__":
    main()
'''


class Tinker(Target):
    """Tinker: exact, since every token takes a weight and the loss is their plain sum."""

    name = "tinker"
    title = "Tinker"
    checked = (
        "tinker 0.38.0 and tinker-cookbook 0.5.8 (datums were built; the loss is computed by the "
        "service and was not run)",
    )
    modes: ClassVar[tuple[Mode, ...]] = ("native", "resample", "filter")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "adapter": Refusal("Native is that already: train.py builds the datums.", "native"),
        "buckets": Refusal(
            "The script reads rows with their weights; no mixture is needed.", "native"
        ),
        "tokenized": Refusal(
            "Renderers of the cookbook write the tokens that the service's models were trained "
            "with; rows in tokens of another template would not match them.",
            "native",
        ),
    }
    keeps_turn_flags = True
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = dict.fromkeys(modes, (_DATUMS,))

    def row(self, example: Example, mode: Mode) -> Row:
        """Messages, tools and the weight.

        Raises:
            UnusableError: If there is no reply to train on, or a tool has no name.
        """
        if not any(example.trained):
            message = "no reply to train on"
            raise UnusableError(message)
        row: Row = {"messages": ending_in_reply(messages_of(example, flags=True))}
        if example.tools is not None:
            row["tools"] = function_tools(example.tools)
        if mode == "native":
            row["weight"] = example.weight
        return row

    def files(self, plan: Plan) -> Mapping[str, str]:
        """The script that trains."""
        is_resampled = plan.mode == "resample"
        shuffle = "" if is_resampled else "    random.Random(SEED + epoch).shuffle(rows)\n"
        comment = "  # one an epoch, in order" if is_resampled else ""
        replaced = {
            "@model@": encode(plan.model),
            "@files@": encode([file.name for file in plan.data]).replace('","', '", "'),
            "@comment@": comment,
            "@mean@": repr(plan.mean_tokens),
            "@seed@": str(plan.seed),
            "@epochs@": str(len(plan.data) if is_resampled else 3),
            "@shuffle@": shuffle,
            "@objective@": "sequence-mean" if plan.mode == "native" else "token-weighted",
            "import random\n": "" if is_resampled else "import random\n",
        }
        text = _SCRIPT
        for mark, value in replaced.items():
            text = text.replace(mark, value)
        return {"train.py": text}

    def told(self, plan: Plan) -> Told:
        """What was verified, and what only the service knows."""
        if plan.mode == "native":
            acts = (
                "Tinker's cross_entropy is the sum of -logprob times `weights` over the tokens of "
                "a request, as documented. `tinker_datums.py` gives each trained token of a row "
                "w_i mean(T) / T_i, T_i counted in the datum itself. That the datums carry these "
                "numbers was checked against the cookbook; the service was not run."
            )
        else:
            acts = (
                "The rows carry no weight, and each token counts one: how often a row is read "
                "makes up for its weight and its length."
            )
        return Told(
            acts=acts,
            command="python train.py",
            install="pip install tinker tinker-cookbook",
            traps=(
                "The cookbook's conversation_to_datum brings the weights of every datum to sum "
                "one, and its dataset builders use it: a trajectory weight given before that is "
                "gone. Build datums with datums_of.",
                "Adam takes out any constant factor, so weights act between the rows of a step: "
                "take many rows a step.",
            ),
            is_exact=plan.mode == "native",
        )
