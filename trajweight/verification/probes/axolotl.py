"""Asks axolotl: the gradient of one step, by its own loader, collator and trainer.

The parts that ``axolotl train`` puts together are put together here from the export's
``train.yaml``; model, batches, device and output are overridden, and training is stopped before the
optimiser moves.
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

PACKAGES = ("axolotl", "transformers", "trl")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    os.environ["AXOLOTL_DO_NOT_TRACK"] = "1"
    os.environ["AXOLOTL_DATASET_NUM_PROC"] = "0"  # a process of its own for each file takes long
    import yaml
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets
    from axolotl.integrations.base import PluginManager
    from axolotl.train import setup_model_and_trainer
    from axolotl.utils.dict import DictDefault
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
    for name in [name for name in settings if name.startswith("lora_")] + ["adapter"]:
        settings.pop(name, None)
    n_rows = sum(_rows_in(path) for path in (export / "data").glob("*.jsonl"))
    paths, modules = list(sys.path), set(sys.modules)
    with tempfile.TemporaryDirectory() as work:
        settings |= {
            "base_model": str(model),
            "bf16": False,
            "fp16": False,
            "float32": True,
            "tf32": False,
            "use_cpu": True,
            "attn_implementation": "sdpa",
            "gradient_checkpointing": False,
            "micro_batch_size": micro_batch,
            "gradient_accumulation_steps": n_rows // micro_batch,
            "max_steps": 1,
            "max_grad_norm": 0.0,  # no clipping
            "save_strategy": "no",
            "saves_per_epoch": None,
            "dataset_prepared_path": f"{work}/prepared",
            "output_dir": f"{work}/output",
            "dataset_num_proc": 0,
            "dataloader_num_workers": 0,
            "dataloader_pin_memory": False,
            "dataloader_prefetch_factor": None,
        }
        os.chdir(export)
        sys.path.insert(0, str(export))
        try:
            cfg = load_cfg(DictDefault(settings))
            trainer, *_ = setup_model_and_trainer(cfg, load_datasets(cfg=cfg))
            trainer.add_callback(Reader())
            with contextlib.suppress(_MeasuredError):
                trainer.train()
        finally:
            os.chdir(here)
            PluginManager.get_instance().plugins.clear()
            sys.path[:] = paths
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None)
                if file and Path(file).parent == export:
                    del sys.modules[name]  # the next export may bring another plugin
    return found


def _rows_in(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())
