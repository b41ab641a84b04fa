"""Asks OpenRLHF: the gradient of one step, by its own program, trainer and DeepSpeed, on the CPU.

The export's ``train.sh`` says which program runs with which flags; it is run in this process, and
stops before the optimiser moves. OpenRLHF imports flash-attn, which no CPU has: its names are there
and raise when called, which only packed samples would do. Its strategy asks for a device mesh of
CUDA and for half precision; here the mesh is of the CPU and all is float32. Loss, its scaling and
accumulation are those of OpenRLHF and DeepSpeed.
"""

from __future__ import annotations

import importlib.machinery
import os
import runpy
import shlex
import socket
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn
from unittest.mock import patch

if TYPE_CHECKING:
    import torch

PACKAGES = ("openrlhf", "transformers", "deepspeed")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    _stand_on_the_cpu()
    import openrlhf.utils
    import openrlhf.utils.deepspeed.deepspeed as strategies
    import openrlhf.utils.utils as utilities
    import torch
    from deepspeed.comm.torch import TorchBackend

    found: dict[str, torch.Tensor] = {}

    class Strategy(strategies.DeepspeedStrategy):
        """Reads the gradient where the optimiser would move."""

        def get_ds_train_config(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            config: dict[str, Any] = super().get_ds_train_config(*args, **kwargs)
            config["zero_optimization"] = {"stage": 0}
            if "optimizer" in config:  # DeepSpeed's own would be compiled first
                config["optimizer"]["params"]["torch_adam"] = True
            return config

        def optimizer_step(self, optimizer: Any, model: Any, *args: Any, **kwargs: Any) -> None:
            if model.model.is_gradient_accumulation_boundary():
                for name, parameter in model.model.module.named_parameters():
                    if parameter.grad is not None:
                        found[name] = parameter.grad.clone()
                raise _MeasuredError
            super().optimizer_step(optimizer, model, *args, **kwargs)

    def strategy_of(args: Any) -> Strategy:
        args.ds.param_dtype = "fp32"
        return Strategy(
            max_norm=args.max_norm,
            micro_train_batch_size=args.train.micro_batch_size,
            train_batch_size=args.train.batch_size,
            zero_stage=args.ds.zero_stage,
            args=args,
        )

    def mesh_of(_: str, *args: Any, **kwargs: Any) -> Any:
        return torch.distributed.device_mesh.init_device_mesh("cpu", *args, **kwargs)

    here = Path.cwd()
    with tempfile.TemporaryDirectory() as output:
        program, flags = _call_in(export.resolve() / "train.sh")
        flags += _overriding(export.resolve(), model.resolve(), micro_batch, output)
        os.chdir(export)
        try:
            with (
                patch.object(sys, "argv", [program, *flags]),
                patch.object(sys, "path", list(sys.path)),
                # shared memory between processes, which would be compiled first
                patch.dict(TorchBackend.__init__.__globals__, build_shm_op=lambda: None),
                patch.object(openrlhf.utils, "get_strategy", strategy_of),
                patch.object(strategies, "init_device_mesh", mesh_of),
                patch.object(torch.cuda, "set_device", lambda _: None),
                patch.object(torch.cuda, "current_device", lambda: "cpu"),
                patch.object(utilities, "convert_to_torch_dtype", lambda _: torch.float32),
            ):
                if program.endswith(".py"):
                    runpy.run_path(program, run_name="__main__")
                else:
                    runpy.run_module(program, run_name="__main__")
        except _MeasuredError:
            pass
        finally:
            os.chdir(here)
            sys.modules.pop("openrlhf_sft", None)  # the next export brings its own
    return found


def _call_in(script: Path) -> tuple[str, list[str]]:
    """The program that a script gives to ``deepspeed``, and its flags."""
    text = script.read_text("utf-8").replace("\\\n", " ")
    words = shlex.split(text, comments=True)
    words = words[words.index("deepspeed") + 1 :]
    if words[0] == "--module":
        del words[0]
    return words[0], words[1:]


def _overriding(export: Path, model: Path, micro_batch: int, output: str) -> list[str]:
    """What is not the export's to say; of a flag that is given twice the last one counts."""
    import pyarrow.parquet as pq

    files = sorted((export / "data").glob("*.parquet"))
    n_rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    given = {
        "--model.model_name_or_path": model,
        "--data.dataset": ",".join(map(str, files)),
        "--train.batch_size": n_rows,
        "--train.micro_batch_size": micro_batch,
        "--train.max_epochs": 1,
        "--lr_warmup_ratio": 0,
        "--ds.lora.rank": 0,
        "--ds.attn_implementation": "eager",
        "--ckpt.output_dir": output,
        "--ckpt.path": output,
    }
    return [str(part) for flag in given.items() for part in flag]


def _stand_on_the_cpu() -> None:
    """Names in place of flash-attn, DeepSpeed for the CPU, and a group of one process; once."""
    import torch

    if torch.distributed.is_initialized():
        return
    os.environ["DS_ACCELERATOR"] = "cpu"
    wanted = {
        "flash_attn": (),
        "flash_attn.bert_padding": ("index_first_axis", "pad_input", "rearrange", "unpad_input"),
        "flash_attn.utils": (),
        "flash_attn.utils.distributed": ("all_gather",),
    }
    for name, members in wanted.items():
        module = ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
        module.__path__ = []
        for member in members:
            setattr(module, member, _refuse)
        sys.modules[name] = module
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {**alone, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo")


def _refuse(*_: Any, **__: Any) -> NoReturn:
    message = "flash-attn is not installed here, and packed samples need it"
    raise RuntimeError(message)
