"""``train.py``: one script for the trainers of the transformers family, filled in by each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trajweight.jsontext import decode, encode
from trajweight.trainers.conversations import ending_in_reply, messages_of

if TYPE_CHECKING:
    from trajweight.trainers.protocol import Example, Mode, Plan, Row

NAME: Final = "train.py"
#: What reads conversations; also those that are held out, in mode tokenized.
READER: Final = "chat_rows.py"
#: The adapter that is trained by default.
LORA: Final = 'LoraConfig(r=32, lora_alpha=64, target_modules="all-linear", task_type="CAUSAL_LM")'
#: Modes in which rows carry weights.
WEIGHTED: Final[tuple[Mode, ...]] = ("adapter", "tokenized")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a trainer puts into the script.

    Attributes:
        does: Its first line.
        first_imports: Lines that must stand before all others; may be empty.
        imports: The others.
        build: Body of ``build``: from ``settings``, ``tokenizer``, ``train`` and ``evaluation``
            to a trainer, indented by four.
        load_tokenizer: The lines that make ``tokenizer``, indented by four.
        fallback: An expression: a chat template for where the tokenizer's rewrites earlier turns.
    """

    does: str
    imports: str
    build: str
    first_imports: str = ""
    load_tokenizer: str = (
        "    tokenizer = AutoTokenizer.from_pretrained(settings.model)\n"
        "    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token"
    )
    fallback: str = "None"


def conversation(example: Example, mode: Mode) -> Row:
    """A line of a data file: messages with arguments as objects, tools, and maybe the weight.

    Raises:
        UnusableError: If there is no reply to train on.
    """
    row: Row = {"messages": ending_in_reply(messages_of(example, flags=True))}
    for message in row["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = _as_object(call["function"]["arguments"])
    if example.tools is not None:
        row["tools"] = example.tools
    if mode in WEIGHTED:
        row["weight"] = example.weight
    return row


def training_script(plan: Plan, parts: Parts) -> str:
    """The text of ``train.py`` for an export."""
    is_weighted, is_resampled = plan.mode in WEIGHTED, plan.mode == "resample"
    replaced = {
        "@does@": parts.does,
        "@first imports@": parts.first_imports,
        "@imports@": parts.imports,
        "@model@": encode(plan.model),
        "@data comment@": _ONE_AN_EPOCH if is_resampled else "",
        "@data@": encode([file.name for file in plan.data]).replace('","', '", "'),
        "@seed@": str(plan.seed),
        "@epochs@": _epochs(len(plan.data)) if is_resampled else _PASSES,
        "@weighted options@": _WEIGHTED_OPTIONS if is_weighted else "",
        "@tokenizer@": parts.load_tokenizer,
        "@train@": _train_rows(plan.mode),
        "@fallback@": parts.fallback,
        "@epochs taken@": "1" if is_resampled else "settings.epochs",
        "@sampling@": '"sequential"' if is_resampled else '"random"',
        "@build@": parts.build.rstrip("\n"),
    }
    text = _SCRIPT.replace("@build@", replaced.pop("@build@"))
    for mark, value in replaced.items():
        text = text.replace(f"{mark}\n", f"{value}\n" if value else "").replace(mark, value)
    return text


def acts(mode: Mode, weighted: str, stock: str) -> str:
    """How weights act in the scripts of the transformers family."""
    if mode == "adapter":
        return (
            f"`{weighted}` takes the mean loss of each row over the tokens of it that are trained "
            "on, times its `weight`, sums that over all micro-batches and processes of an "
            "optimiser step, and divides by the number of rows. Evaluation is unweighted. Each "
            "step logs `weight/mean` and `weight/ess_fraction`."
        )
    if mode == "tokenized":
        return (
            f"`{weighted}` multiplies the loss of each token by its `loss_weights`, sums over all "
            "micro-batches and processes of an optimiser step, and divides by the number of "
            "trained tokens. Evaluation is unweighted."
        )
    told = f"The stock {stock} trains, and the rows carry no weight: each counts by its tokens."
    if mode == "resample":
        told += " How often a row stands in the files makes up for its weight and its length."
    return told


def traps(mode: Mode) -> tuple[str, ...]:
    """What would undo weights in the scripts of the transformers family."""
    if mode in WEIGHTED:
        return (
            "Adam divides a gradient by its own size, so that what all rows of a step have in "
            "common hardly shows: take many rows a step. With one row in each, weights are blunt.",
        )
    if mode == "resample":
        return (
            "The script reads one file an epoch, in order. Shuffling them together brings copies "
            "side by side.",
        )
    return ()


def _as_object(arguments: str) -> object:
    """Arguments as templates want them; text that is no JSON stays text."""
    try:
        return decode(arguments)
    except ValueError:
        return arguments


def _train_rows(mode: Mode) -> str:
    if mode == "tokenized":
        return (
            "    files = [str(HERE / name) for name in TRAIN]\n"
            '    kind = "parquet" if files[0].endswith(".parquet") else "json"\n'
            '    train = load_dataset(kind, data_files=files, split="train")'
        )
    names = "TRAIN[: settings.epochs]" if mode == "resample" else "TRAIN"
    return (
        f"    files = [HERE / name for name in {names}]\n"
        "    train = conversations(files, tokenizer, **reading)"
    )


def _epochs(n_files: int) -> str:
    return f"""\
    parser.add_argument(
        "--epochs",
        type=int,
        default={n_files},
        choices=range(1, {n_files + 1}),
        help="how many of the files to train on, each once",
    )"""


_PASSES: Final = (
    '    parser.add_argument("--epochs", type=int, default=3, help="passes over the rows")'
)

_ONE_AN_EPOCH: Final = (
    "# A file for each epoch, drawn anew; copies of a row never stand side by side."
)

_WEIGHTED_OPTIONS: Final = """\
    parser.add_argument(
        "--objective",
        choices=["sequence-mean", "token-weighted"],
        default="sequence-mean",
        help="sequence-mean: a row counts by its weight, as it was learned; token-weighted: by "
        "its weight times its length",
    )
    parser.add_argument(
        "--unweighted",
        action="store_true",
        help="train with the stock trainer, which knows no weights, for comparison",
    )"""

_SCRIPT: Final = '''\
"""@does@

    python train.py
    torchrun --nproc-per-node 8 train.py

Model, data and seed are set below, all else by options: python train.py --help.
"""

import argparse
import logging
from pathlib import Path

@first imports@
import torch
@imports@

HERE = Path(__file__).resolve().parent
MODEL = @model@
@data comment@
TRAIN = @data@
SEED = @seed@


def options(arguments=None):
    """The settings of a training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=MODEL, help="hub id or folder of the base model")
    parser.add_argument("--output", default="model", help="folder to write the result to")
    parser.add_argument("--eval", help="JSON lines of conversations that are held out")
@epochs@
    parser.add_argument("--max-steps", type=int, default=-1, help="optimiser steps; goes before")
    parser.add_argument("--batch", type=int, default=4, help="rows a process takes at once")
    parser.add_argument(
        "--accumulation",
        type=int,
        default=8,
        help="batches of an optimiser step; weights act between the rows of one step",
    )
    parser.add_argument("--lr", type=float, default=1e-4, help="learning rate; 1e-5 with --full")
    parser.add_argument("--full", action="store_true", help="train all parameters, without LoRA")
    parser.add_argument("--max-length", type=int, default=4096, help="tokens; longer rows are cut")
    parser.add_argument("--seed", type=int, default=SEED)
@weighted options@
    return parser.parse_args(arguments)


def build(settings):
    """The trainer, ready to train."""
@tokenizer@
    reading = {"max_length": settings.max_length, "fallback_template": @fallback@}
@train@
    evaluation = None
    if settings.eval:
        evaluation = conversations([settings.eval], tokenizer, **reading)
    has_gpu = torch.cuda.is_available()
@build@


def main():
    """Train, and write the result."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    trainer = build(options())
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
'''
