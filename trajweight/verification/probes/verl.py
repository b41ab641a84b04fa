"""Asks verl: the gradient of one step, by its own SFT trainer and FSDP engine, on the CPU.

``SFTTrainer`` gets the export's own ``verl_sft.yaml``, composed by Hydra as on the command line, so
that it loads the dataset class which stands there; training stops before the optimiser moves. verl
knows no CPU, so one is told to it by the means it has for new hardware: a platform and an engine
that is registered for it. The engine is verl's own.
"""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("verl", "transformers", "tensordict")


class _MeasuredError(Exception):
    """The gradient is known; there is nothing left to train."""


def gradient(export: Path, model: Path, micro_batch: int) -> dict[str, torch.Tensor]:
    """The gradient by parameter that one optimiser step over all rows of the export sees."""
    _stand_on_the_cpu()
    from verl.trainer.sft_trainer import SFTTrainer

    here = Path.cwd()
    found: dict[str, torch.Tensor] = {}
    with tempfile.TemporaryDirectory() as output:
        os.chdir(export)
        try:
            trainer = SFTTrainer(_config(export.resolve(), model.resolve(), micro_batch, output))

            def read() -> None:
                for name, parameter in trainer.engine.module.named_parameters():
                    if parameter.grad is not None:
                        found[name] = parameter.grad.full_tensor().clone()
                raise _MeasuredError

            trainer.engine.optimizer_step = read
            with suppress(_MeasuredError):
                trainer.fit()
        finally:
            os.chdir(here)
    return found


def _config(export: Path, model: Path, micro_batch: int, output: str) -> Any:
    """The export's config; a tiny model in float32, in one step over all rows."""
    import pyarrow.parquet as pq
    from hydra import compose, initialize_config_dir

    files = sorted((export / "data").glob("*.parquet"))
    n_rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
    overrides = [
        f"data.train_files=[{','.join(map(str, files))}]",
        f"data.train_batch_size={n_rows}",
        f"data.micro_batch_size_per_gpu={micro_batch}",
        "data.use_dynamic_bsz=false",
        "data.num_workers=0",
        f"model.path={model}",
        "model.lora_rank=0",
        "model.enable_gradient_checkpointing=false",
        "+model.override_config.attn_implementation=eager",
        "engine.strategy=fsdp2",
        "engine.use_torch_compile=false",
        "+engine.mixed_precision={param_dtype:fp32,reduce_dtype:fp32,buffer_dtype:fp32}",
        "optim.lr_warmup_steps_ratio=0.0",
        "trainer.device=cpu",
        "trainer.logger=[console]",
        "trainer.total_epochs=1",
        "trainer.save_freq=-1",
        "trainer.resume_mode=disable",
        f"trainer.default_local_dir={output}",
    ]
    with initialize_config_dir(str(export), version_base=None):
        # Where `python -m verl.trainer.sft_trainer --config-dir .` looks as well.
        where = "hydra.searchpath=[pkg://verl.trainer.config]"
        return compose("verl_sft", overrides=[where, *overrides])


def _stand_on_the_cpu() -> None:
    """Tell verl of a platform without accelerators, and open a group of one process; once."""
    import torch

    if torch.distributed.is_initialized():
        return
    from verl.plugin.platform import set_platform
    from verl.plugin.platform.platform_cuda import PlatformCUDA

    nothing = SimpleNamespace(
        is_available=lambda: False,
        current_device=lambda: torch.device("cpu"),
        mem_get_info=lambda *_: (0, 0),
        memory_allocated=lambda *_: 0,
        memory_reserved=lambda *_: 0,
        max_memory_allocated=lambda *_: 0,
        max_memory_reserved=lambda *_: 0,
        reset_peak_memory_stats=lambda *_: None,
        empty_cache=lambda: None,
        synchronize=lambda *_: None,
        manual_seed=torch.manual_seed,
        manual_seed_all=torch.manual_seed,
        get_rng_state=torch.get_rng_state,
        set_rng_state=torch.set_rng_state,
    )

    class Cpu(PlatformCUDA):
        device_name, device_module = "cpu", nothing
        is_available = is_platform_available = lambda *_, **__: False
        current_device = lambda _: torch.device("cpu")  # noqa: E731 - seven methods in seven lines
        device_count = lambda _: 1  # noqa: E731
        set_device = synchronize = lambda *_: None
        manual_seed = manual_seed_all = lambda _, seed: torch.manual_seed(seed)
        empty_cache = lambda _: None  # noqa: E731
        communication_backend_name = lambda _: "gloo"  # noqa: E731

    set_platform(Cpu())
    from verl.workers.engine.base import EngineRegistry
    from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

    registered = EngineRegistry.register("language_model", ["fsdp", "fsdp2"], device="cpu")
    registered(FSDPEngineWithLMHead)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ |= {**alone, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo")
