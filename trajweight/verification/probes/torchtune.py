"""Asks torchtune: the gradient of one step, by its own ``tune run`` and LoRA recipe, on the CPU.

The export's ``train.sh`` says what ``tune`` is told; it is told so in this process, and stops
before the optimiser moves. The config that the script names stays, with its loss, but for what
belongs to the model: that is a tiny one which torchtune builds itself, and whose texts torchtune's
tokenizer of ChatML models reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

PACKAGES = ("torchtune", "torchao", "torch")

#: Runs the script with a ``tune`` that only says what it was told.
_SAY = r"""tune() { printf '%s\0' "$@"; }; . ./train.sh"""


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook
    from torchtune._cli.tune import main

    found: dict[str, torch.Tensor] = {}

    def read(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [each for group in optimizer.param_groups for each in group["params"]]
        for number, parameter in enumerate(parameters):  # the recipe gives them without names
            if parameter.grad is not None:
                found[f"{number:06}"] = parameter.grad.detach().clone()
        raise _MeasuredError

    model, here = model.resolve(), Path.cwd()
    told = subprocess.run(["sh", "-c", _SAY], cwd=export, capture_output=True, check=True)
    words = told.stdout.decode().split("\0")[:-1]
    n_rows = sum(_rows_in(path) for path in (export / "data").glob("*.jsonl"))
    hook = register_optimizer_step_pre_hook(read)
    with tempfile.TemporaryDirectory() as output:
        words += _of_the_model(model, Path(output))
        words += _of_the_step(n_rows, micro_batch, output)
        os.chdir(export)
        try:
            with (
                patch.object(sys, "argv", ["tune", *words]),
                patch.object(sys, "path", list(sys.path)),
                contextlib.suppress(_MeasuredError),
            ):
                main()
        finally:
            os.chdir(here)
            hook.remove()
    return found


def _of_the_model(model: Path, output: Path) -> list[str]:
    """A tiny Llama in place of the config's model, and torchtune's own reader of its vocabulary."""
    shape = json.loads((model / "config.json").read_text("utf-8"))
    core = json.loads((model / "tokenizer.json").read_text("utf-8"))["model"]
    (output / "vocab.json").write_text(json.dumps(core["vocab"]), "utf-8")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in core["merges"]]
    (output / "merges.txt").write_text("\n".join(merges), "utf-8")
    given = {
        "model": "torchtune.models.llama3_2.lora_llama3_2",
        "model.vocab_size": shape["vocab_size"],
        "model.num_layers": shape["num_hidden_layers"],
        "model.num_heads": shape["num_attention_heads"],
        "model.num_kv_heads": shape["num_key_value_heads"],
        "model.embed_dim": shape["hidden_size"],
        "model.intermediate_dim": shape["intermediate_size"],
        "model.max_seq_len": shape["max_position_embeddings"],
        "model.norm_eps": shape["rms_norm_eps"],
        "model.lora_dropout": 0.0,
        "model.apply_lora_to_output": False,  # which is the embedding again
        "tokenizer": "torchtune.models.qwen2.qwen2_tokenizer",
        "tokenizer.path": output / "vocab.json",
        "tokenizer.merges_file": output / "merges.txt",
        "tokenizer.special_tokens_path": model / "tokenizer.json",
        "checkpointer": "torchtune.training.FullModelHFCheckpointer",
        "checkpointer.checkpoint_dir": model,
        "checkpointer.checkpoint_files": "[model.safetensors]",
        "checkpointer.model_type": "LLAMA3_2",
        "checkpointer.output_dir": output,
    }
    return [f"{name}={value}" for name, value in given.items()]


def _of_the_step(n_rows: int, micro_batch: int, output: str) -> list[str]:
    """One step over all rows, in float32."""
    return [
        f"batch_size={micro_batch}",
        f"gradient_accumulation_steps={n_rows // micro_batch}",
        "epochs=1",
        "max_steps_per_epoch=1",
        "clip_grad_norm=null",
        "seed=0",  # the adapters start alike in every step that is compared
        "device=cpu",
        "dtype=fp32",
        "compile=False",
        "enable_activation_checkpointing=False",
        "enable_activation_offloading=False",
        f"output_dir={output}",
    ]


def _rows_in(path: Path) -> int:
    return sum(bool(line.strip()) for line in path.read_text("utf-8").splitlines())
