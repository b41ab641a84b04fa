"""Which device and which precision to compute in."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import torch

from trajweight.errors import ConfigError
from trajweight.processes import ALONE, Processes

if TYPE_CHECKING:
    from trajweight.progress import Progress

_DTYPES: Final = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
}

#: What torch calls the instructions with which a processor multiplies bfloat16 by itself.
_NATIVE_BF16: Final = ("amx_bf16", "avx512_bf16", "sve_bf16")

#: bfloat16 must be faster by this much, so that the choice does not hang on the noise of a timing.
_CLEARLY_FASTER: Final = 1.3


def choose_device(device: str, processes: Processes = ALONE) -> torch.device:
    """The torch device for a name; ``auto`` takes CUDA, else MPS, else the CPU.

    One of several processes takes the device that it was given when they met.

    Raises:
        ConfigError: If there is no such device here.
    """
    if device == "auto":
        if processes.device:
            return torch.device(processes.device)
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        why = f"--device {device}: not a device"
        raise ConfigError(why, hint="Pass auto, cpu, cuda, cuda:1 or mps.") from error
    here = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    if (chosen.index or 0) >= here.get(chosen.type, 0):
        why = f"--device {device}: this machine (or this build of torch) has no such device"
        raise ConfigError(why, hint="Pass --device auto, which takes what is there.")
    return torch.device(processes.device) if processes.device else chosen


def choose_dtype(
    dtype: str, device: torch.device, progress: Progress, processes: Processes = ALONE
) -> torch.dtype:
    """The precision for a name; ``auto`` takes bfloat16 where it is native and faster.

    On a CPU without native bfloat16 the answer is float32 without any timing, so it is the same
    in every run; with it, a short comparison decides, that of the first of several processes.

    Raises:
        ConfigError: If the name is not known.
    """
    if dtype != "auto":
        if dtype.lower() not in _DTYPES:
            why = f"--dtype {dtype}: known are auto, float32 and bfloat16"
            raise ConfigError(why, hint="float16 is left out: training in it overflows.")
        return _DTYPES[dtype.lower()]
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    if device.type != "cpu":
        return torch.float32
    able = torch.cpu.get_capabilities()
    if not any(able.get(name) for name in _NATIVE_BF16):
        progress.say("computing in float32: this processor has no bfloat16 of its own")
        return torch.float32
    ratio = _matmul_seconds(torch.float32) / _matmul_seconds(torch.bfloat16)
    ratio = processes.agreed(ratio)
    is_faster = ratio >= _CLEARLY_FASTER
    chosen = torch.bfloat16 if is_faster else torch.float32
    name = str(chosen).removeprefix("torch.")
    progress.say(f"computing in {name}: bfloat16 is {ratio:.1f} times as fast as float32 here")
    return chosen


def _matmul_seconds(dtype: torch.dtype) -> float:
    """Best of some matrix products of the size the default model makes."""
    x, weight = torch.ones(512, 576, dtype=dtype), torch.ones(576, 1536, dtype=dtype)
    best = float("inf")
    with torch.inference_mode():
        for _ in range(8):
            begun = time.perf_counter()
            x @ weight
            best = min(best, time.perf_counter() - begun)
    return best
