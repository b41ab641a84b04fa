"""Asks LLaMA-Factory: the gradient of one step, by its own loader, template, collator and trainer.

``run_sft`` gets the arguments of the export's ``train.yaml``; model, template, batches, device and
output are overridden, and training is stopped before the optimiser moves.
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
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    import yaml
    from llamafactory.hparams import get_train_args
    from llamafactory.train.sft import run_sft
    from transformers import TrainerCallback

    found: dict[str, torch.Tensor] = {}

    class Reader(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
            for name, parameter in kwargs["model"].named_parameters():
                if parameter.grad is not None:
                    found[name] = parameter.grad.detach().clone()
            raise _MeasuredError

    export, model, here = export.resolve(), model.resolve(), Path.cwd()
    settings = yaml.safe_load((export / "train.yaml").read_text("utf-8"))
    for name in [name for name in settings if name.startswith("lora_")]:
        del settings[name]
    n_rows = sum(_rows_in(path) for path in (export / "data").glob("*.jsonl"))
    with tempfile.TemporaryDirectory() as output:
        os.chdir(export)
        try:
            settings |= {
                "model_name_or_path": str(model),
                "template": "qwen3_nothink",  # ChatML, as the model's own
                "finetuning_type": "full",
                "pure_bf16": False,
                "bf16": False,
                "use_cpu": True,
                "disable_gradient_checkpointing": True,
                "preprocessing_num_workers": 1,
                "dataloader_num_workers": 0,
                "per_device_train_batch_size": micro_batch,
                "gradient_accumulation_steps": n_rows // micro_batch,
                "max_steps": 1,
                "max_grad_norm": 0.0,  # no clipping
                "save_strategy": "no",
                "output_dir": output,
                "overwrite_output_dir": True,
            }
            with contextlib.suppress(_MeasuredError):
                run_sft(*get_train_args(settings), callbacks=[Reader()])
        finally:
            os.chdir(here)
    return found


def _rows_in(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())
