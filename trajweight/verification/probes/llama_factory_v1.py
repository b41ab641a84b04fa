"""Asks LLaMA-Factory v1: the gradient of one step, by its own data engine, renderer and trainer.

The parts that ``run_sft`` puts together are put together here from the export's ``train.yaml``;
model, batches, device and output are overridden, and training is stopped before the optimiser
moves.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("llamafactory", "transformers")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    import yaml
    from llamafactory.v1.accelerator.interface import DistributedInterface
    from llamafactory.v1.config import get_args
    from llamafactory.v1.core.data_engine import DataEngine
    from llamafactory.v1.core.model_engine import ModelEngine
    from llamafactory.v1.trainers.sft_trainer import SFTTrainer

    found: dict[str, torch.Tensor] = {}
    export, model, here = export.resolve(), model.resolve(), Path.cwd()
    settings = yaml.safe_load((export / "train.yaml").read_text("utf-8"))
    settings.pop("peft_config", None)
    n_rows = sum(_rows_in(path) for path in (export / "data").glob("*.jsonl"))
    with tempfile.TemporaryDirectory() as output:
        settings |= {
            "model": str(model),
            "bf16": False,
            "batching_workers": 0,
            "enable_activation_checkpointing": False,
            "micro_batch_size": micro_batch,
            "global_batch_size": n_rows,
            "max_steps": 1,
            "max_grad_norm": 1e30,  # no clipping
            "output_dir": output,
        }
        os.chdir(export)
        try:
            model_args, data_args, training_args, _ = get_args(settings)
            DistributedInterface(training_args.dist_config)
            engine = ModelEngine(model_args, is_train=True)
            trainer = SFTTrainer(
                args=training_args,
                model=engine.model,
                renderer=engine.renderer,
                train_dataset=DataEngine(data_args.train_dataset),
            )

            def read(*_: Any) -> None:
                for name, parameter in trainer.model.named_parameters():
                    if parameter.grad is not None:
                        found[name] = parameter.grad.detach().clone()
                raise _MeasuredError

            trainer.optimizer.register_step_pre_hook(read)
            with contextlib.suppress(_MeasuredError):
                trainer.fit()
        finally:
            os.chdir(here)
    return found


def _rows_in(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())
