"""Asks NeMo Automodel: the gradient of one step, by its own recipe, on the CPU.

The recipe is the one that the config of the export names: ours, or one of Automodel itself. It gets
that config, and stops where it would clip the gradient. Only the model is loaded by transformers,
since Automodel puts every model on a GPU.
"""

from __future__ import annotations

import os
import runpy
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

PACKAGES = ("nemo-automodel", "transformers")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    import torch
    from nemo_automodel.recipes.llm import train_ft

    found: dict[str, torch.Tensor] = {}

    def read(_: Any, parts: list[torch.nn.Module], **__: Any) -> None:
        for name, parameter in parts[0].named_parameters():
            if parameter.grad is not None:
                gradient = parameter.grad
                if isinstance(gradient, torch.distributed.tensor.DTensor):
                    gradient = gradient.full_tensor()
                found[name] = gradient.clone()
        raise _MeasuredError

    model, here = model.resolve(), Path.cwd()
    with tempfile.TemporaryDirectory() as output:
        os.chdir(export)
        try:
            config = _config(export.resolve(), model, micro_batch, output)
            module, _, name = config.recipe.rpartition(".")
            ours = runpy.run_path(f"{module}.py") if module else {}
            recipe = ours.get(name, train_ft.TrainFinetuneRecipeForNextTokenPrediction)(config)
            with (
                patch.object(torch.cuda, "reset_peak_memory_stats", lambda *_: None),
                patch.object(train_ft, "build_model", lambda *_, **__: _model(model)),
                patch.object(train_ft, "scale_grads_and_clip_grad_norm", read),
            ):
                recipe.setup()
                recipe.run_train_validation_loop()
        except _MeasuredError:
            pass
        finally:
            os.chdir(here)
    return found


def _model(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )


def _config(export: Path, model: Path, micro_batch: int, output: str) -> Any:
    """The export's config; a tiny model in float32, in one step over all rows."""
    from nemo_automodel.components.config.loader import load_yaml_config

    config = load_yaml_config("automodel_sft.yaml")
    files = sorted((export / "data").glob("*.jsonl"))
    n_rows = sum(bool(line.strip()) for file in files for line in file.open("rb"))
    config.__dict__.pop("peft", None)
    given = {
        "step_scheduler.global_batch_size": n_rows,
        "step_scheduler.local_batch_size": micro_batch,
        "step_scheduler.num_epochs": 1,
        "dist_env.backend": "gloo",
        "model.pretrained_model_name_or_path": str(model),
        "dataset.path_or_dataset_id": [str(file) for file in files],
        "checkpoint.enabled": False,
        "checkpoint.checkpoint_dir": output,
    }
    for name, value in given.items():
        config.set_by_dotted(name, value)
    return config
