"""Asks ms-swift: the gradient of one step, by its own pipeline, templates and trainer.

``SwiftSft`` reads the export's ``train.yaml`` as ``swift sft`` does; model, template, batches,
device and output are overridden, and training is stopped before the optimiser moves.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("ms-swift", "transformers")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    from swift.cli.main import parse_yaml_args
    from swift.pipelines.train.sft import SwiftSft
    from swift.template import Template
    from transformers import TrainerCallback

    export, model = export.resolve(), model.resolve()
    found: dict[str, torch.Tensor] = {}

    class Reader(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
            for name, parameter in kwargs["model"].named_parameters():
                if parameter.grad is not None:
                    found[name] = parameter.grad.detach().clone()
            raise _MeasuredError

    class Pipeline(SwiftSft):
        def train(self, trainer: Any) -> Any:
            trainer.add_callback(Reader())
            return trainer.train()

    encode, paths, variables = Template.encode, list(sys.path), dict(os.environ)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as output:
        arguments = ["train.yaml"]
        os.chdir(export)
        try:
            parse_yaml_args(arguments)
            overriding = _overriding(export, model, micro_batch, Path(output))
            with contextlib.suppress(_MeasuredError):
                Pipeline([*_without(arguments, overriding), *_flags(overriding)]).main()
        finally:
            os.chdir(here)
            Template.encode = encode
            sys.path[:] = paths
            os.environ.clear()
            os.environ.update(variables)
            for name in [name for name in sys.modules if name.startswith("_swift_external_")]:
                del sys.modules[name]  # the next export may bring another plugin, or none
    return found


def _overriding(export: Path, model: Path, micro_batch: int, output: Path) -> dict[str, Any]:
    """What is not the export's to say: a tiny model in float32 on the CPU, in one step."""
    n_rows = sum(_rows_in(path) for path in _data_of(export))
    return {
        "model": model,
        "model_type": "llama",
        "template": "chatml",
        "torch_dtype": "float32",
        "tuner_type": "full",
        "output_dir": output,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": n_rows // micro_batch,
        "max_grad_norm": 0,  # no clipping
        "max_steps": 1,
        "learning_rate": 0.001,
        "gradient_checkpointing": "false",
        "use_cpu": "true",
        "save_strategy": "no",
        "report_to": "none",
        "check_model": "false",  # asks the hub, over the network
        "dataloader_num_workers": 0,
        "dataset_num_proc": 1,
    }


def _data_of(export: Path) -> list[Path]:
    return sorted((export / "data").glob("*.jsonl"))


def _rows_in(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())


def _without(arguments: list[str], names: dict[str, Any]) -> list[str]:
    """Arguments but for those named, each with all of its values."""
    kept: list[str] = []
    is_kept = True
    for argument in arguments:
        if argument.startswith("--"):
            is_kept = argument[2:] not in names
        if is_kept:
            kept.append(argument)
    return kept


def _flags(values: dict[str, Any]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]
