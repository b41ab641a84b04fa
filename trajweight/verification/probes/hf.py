"""Asks transformers: the gradient of one step, by the export's own ``train.py``."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

PACKAGES = ("transformers", "peft", "torch")

#: Files that an export copies, which the next one may bring in another version or not at all.
_COPIED = ("chat_rows", "weighted_trainer", "weighted_sft_trainer")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    import datasets
    from transformers import TrainerCallback

    found: dict[str, torch.Tensor] = {}

    class Reader(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
            for name, parameter in kwargs["model"].named_parameters():
                if parameter.grad is not None:
                    found[name] = parameter.grad.detach().clone()
            raise _MeasuredError

    cache = datasets.config.HF_DATASETS_CACHE
    with _script(export.resolve()) as script, tempfile.TemporaryDirectory() as output:
        arguments = ["--model", model.resolve(), "--output", output, "--full", "--epochs", 1]
        arguments += ["--max-steps", 1, "--batch", micro_batch]
        datasets.config.HF_DATASETS_CACHE = Path(output) / "cache"
        try:
            trainer = script.build(script.options([str(argument) for argument in arguments]))
            trainer.args.gradient_accumulation_steps = len(trainer.train_dataset) // micro_batch
            trainer.args.max_grad_norm = 0.0  # no clipping
            trainer.add_callback(Reader())
            trainer.train()
        except _MeasuredError:
            pass
        finally:
            datasets.config.HF_DATASETS_CACHE = cache
    return found


@contextmanager
def _script(export: Path) -> Iterator[Any]:
    """``train.py`` of the export as a module, and what it imports from beside it."""
    paths, known = list(sys.path), {name: sys.modules.pop(name, None) for name in _COPIED}
    sys.path.insert(0, str(export))
    try:
        spec = importlib.util.spec_from_file_location("train_of_export", export / "train.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:] = paths
        for name, module_before in known.items():
            sys.modules.pop(name, None)
            if module_before is not None:
                sys.modules[name] = module_before
