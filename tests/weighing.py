"""What judges weighted trainers: rows, a slow twin of their loss, and the gradient of one step.

Needs torch and transformers alone, so that it also runs where a trainer is installed and
trajweight is not. As a program it takes one step in each of several processes:

    torchrun --nproc_per_node 2 -m tests.weighing CLASS FOLDER
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from torch.nn import functional
from transformers import Trainer, TrainerCallback

from trajweight.tiny import build_tiny

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

Rows = list[dict[str, Any]]
Gradient = dict[str, Any]

#: Uneven, one above and three below one.
WEIGHTS = (0.1, 3.0, 0.7, 0.2)
#: Of gradients in float32, which are of order one and sum some hundred terms.
RTOL, ATOL = 2e-5, 2e-6


def token_rows(weights: Sequence[float] | None = WEIGHTS, *, seed: int = 0) -> Rows:
    """Rows of different lengths with several stretches of labels, the first token never one."""
    generator = torch.Generator().manual_seed(seed)
    rows: Rows = []
    for place, length in enumerate((9, 23, 14, 6)):
        ids = torch.randint(3, 300, (length,), generator=generator)
        trained = torch.rand(length, generator=generator) < 0.5
        trained[0], trained[-1] = False, True
        labels = torch.where(trained, ids, -100)
        rows.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
        if weights is not None:
            rows[-1]["weight"] = weights[place]
    return rows


def per_token(rows: Rows, objective: str) -> list[list[float]]:
    """What each token of a row counts in a mean over all tokens that are trained on."""
    counts = [sum(label != -100 for label in row["labels"][1:]) for row in rows]
    found = []
    for row, n_trained in zip(rows, counts, strict=True):
        share = row["weight"]
        if objective == "sequence-mean":
            share *= sum(counts) / len(rows) / n_trained
        found.append([share] * len(row["labels"]))
    return found


def slow_loss(model: torch.nn.Module, rows: Rows, weights: list[list[float]]) -> Tensor:
    """The mean of a_it l_it over all tokens that are trained on, one after the other."""
    total, count = torch.zeros(()), 0
    for row, shares in zip(rows, weights, strict=True):
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0]
        for place in range(1, len(row["labels"])):
            label = row["labels"][place]
            if label != -100:
                spoken = functional.log_softmax(logits[place - 1], dim=0)[label]
                total = total - shares[place] * spoken
                count += 1
    return total / count


def slow_gradient(rows: Rows, weights: list[list[float]]) -> tuple[float, Gradient]:
    """The loss of `slow_loss` on a fresh tiny model, and its gradient."""
    model = build_tiny()[0].train()
    loss = slow_loss(model, rows, weights)
    loss.backward()
    return loss.item(), gradients(model)


def gradients(model: torch.nn.Module) -> Gradient:
    """By parameter, a copy of what ``backward`` left."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name.removeprefix("module.")] = parameter.grad.detach().clone()
    return found


class _StepTakenError(Exception):
    """All that was to be seen was seen."""


class _Reader(TrainerCallback):
    """Reads the gradient before the optimiser moves, and stops there."""

    def __init__(self) -> None:
        self.found: Gradient = {}

    def on_pre_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
        self.found = gradients(kwargs["model"])
        raise _StepTakenError


def one_step(trainer: Trainer) -> tuple[float, Gradient]:
    """The loss that a trainer tells of its first step, and the gradient of it."""
    reader, losses = _Reader(), []
    inner = trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> Tensor:
        losses.append(inner(*args, **kwargs))
        return losses[-1]

    setattr(trainer, "training_step", training_step)  # noqa: B010 - mypy takes no plain assignment
    trainer.add_callback(reader)
    with suppress(_StepTakenError):
        trainer.train()
    return float(sum(losses)), reader.found


def settings(folder: Path, *, batch: int = 4, steps: int = 1, **more: Any) -> dict[str, Any]:
    """Arguments of a training that sees every row in one step, unclipped, in order."""
    return {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": batch,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": steps,
        "max_grad_norm": 0.0,
        "learning_rate": 1e-3,
        "train_sampling_strategy": "sequential",
        "max_steps": 1,
        "logging_steps": 1,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **more,
    }


def same(found: Gradient, expected: Gradient) -> None:
    """Gradients agree but for rounding."""
    assert set(found) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=RTOL, atol=ATOL, msg=name)


def built(kind: str, folder: Path, rows: Rows, **more: Any) -> Trainer:
    """A trainer of a class named ``module:class`` over a fresh tiny model.

    Args:
        kind: Such as ``trajweight.adapters.weighted_trainer:WeightedTrainer``.
        folder: To write to.
        rows: To train on.
        **more: Options of `settings`, and of the trainer: those named below.
    """
    module, _, name = kind.partition(":")
    trainer = getattr(importlib.import_module(module), name)
    own = {key: more.pop(key) for key in list(_own(more))}
    model, tokenizer = build_tiny()
    return trainer(
        model=own.pop("model", model),
        args=_arguments(module, folder, more),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        **own,
    )


def _own(options: dict[str, Any]) -> Iterator[str]:
    """Options that are the trainer's own."""
    names = ("model", "objective", "data_collator", "eval_dataset", "compute_loss_func")
    yield from (name for name in names if name in options)


def _arguments(module: str, folder: Path, options: dict[str, Any]) -> Any:
    if "sft" in module or "trl" in module:
        config = importlib.import_module("trl").SFTConfig
        stock = {"bf16": False, "gradient_checkpointing": False, "max_length": None}
        return config(**{**stock, **settings(folder, **options)})
    from transformers import TrainingArguments

    return TrainingArguments(**settings(folder, **options))


if __name__ == "__main__":
    from transformers import DataCollatorForSeq2Seq

    given, out = sys.argv[1], Path(sys.argv[2])
    collating: dict[str, Any] = {}
    if "sft" not in given:
        collating["data_collator"] = DataCollatorForSeq2Seq(build_tiny()[1])
    shared = built(given, out, token_rows(), batch=1, steps=2, ddp_backend="gloo", **collating)
    loss, gradient = one_step(shared)
    torch.save({"loss": loss, **gradient}, out / f"{shared.args.process_index}.pt")
