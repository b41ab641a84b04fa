"""What the benchmarks have in common: the machine, the sample data as a problem, the results."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trajweight.config import DataConfig, ModelConfig, RunConfig
from trajweight.ground import problem_of
from trajweight.inner import InnerLevel
from trajweight.job import Job
from trajweight.manifest import version_of
from trajweight.preparing import material_of, tokenise
from trajweight.progress import Progress
from trajweight.student import Student

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from trajweight.material import Material
    from trajweight.models import LoadedModel
    from trajweight.problem import Problem

HERE = Path(__file__).parent
SAMPLE = [str(HERE.parent / "sample_data" / name) for name in ("real.jsonl", "synthetic.jsonl")]


@dataclass
class Bench:
    """The sample data under a model with an adapter that has made some steps."""

    material: Material
    student: Student
    problem: Problem
    inner: InnerLevel

    @classmethod
    def start(cls, config: RunConfig, *, warm_steps: int, rows: int | None = None) -> Bench:
        """Read, split, tokenise, freeze, adapt, and make uniform steps on all training rows.

        Args:
            config: Of the run; its data are set to the sample data.
            warm_steps: Steps of the inner level before anything is measured.
            rows: Training and validation rows kept of each kind; all by default.
        """
        loaded, material = sample(config)
        if rows is not None:
            material = replace(
                material,
                synthetic=material.synthetic[:rows],
                validation=material.validation[:rows],
            )
        student = Student(loaded, config.model, material.encoded, Progress())
        frozen = student.freeze(Progress())
        student.add_adapter(config.model, frozen, seed=config.seed)
        problem = problem_of(student, material)
        inner = InnerLevel(problem, config.inner, seed=config.seed)
        for _ in range(warm_steps):
            batch = inner.next_batch(problem.training, size=config.inner.batch_size)
            inner.step(batch, torch.ones(len(batch)))
        return cls(material, student, problem, inner)


def sample(config: RunConfig) -> tuple[LoadedModel, Material]:
    """The sample data as `score` would see it."""
    config = replace(config, data=DataConfig(paths=tuple(SAMPLE)))
    with tempfile.TemporaryDirectory() as folder:
        job = Job.begin(config, Path(folder) / "run", force=True, progress=Progress(), argv=[])
        job.read()
        job.split()
        loaded, encoded = tokenise(job)
        return loaded, material_of(job, encoded, config.returns, floor=config.outer.w_min)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options by which every benchmark of the engine runs unchanged on any machine."""
    parser.add_argument("--model", default=ModelConfig().model)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--adapter-layers", type=int, default=None)


def config_of(options: argparse.Namespace, *, seed: int = 0) -> RunConfig:
    """The settings that the options of `add_model_options` ask for."""
    model = ModelConfig(
        model=options.model,
        device=options.device,
        dtype=options.dtype,
        adapter_layers=options.adapter_layers,
    )
    return RunConfig(model=model, seed=seed)


class Bf16Products(TorchDispatchMode):
    """Matrix products of bf16 by way of fp32, rounded once: what a bf16 unit computes.

    A processor without such a unit multiplies bf16 some thirty times slower than fp32, and this is
    for it alone: sums are kept in fp32 and the result is rounded, as hardware does it.
    """

    _PRODUCTS: ClassVar = {
        torch.ops.aten.mm.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.bmm.default,
        torch.ops.aten.baddbmm.default,
    }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in self._PRODUCTS or args[0].dtype != torch.bfloat16:
            return func(*args, **(kwargs or {}))
        wide = [each.float() if isinstance(each, Tensor) else each for each in args]
        return func(*wide, **(kwargs or {})).bfloat16()


def bf16_as_hardware_does() -> AbstractContextManager[object]:
    """A context for bf16 work: nothing special where the machine has units for it."""
    if torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return nullcontext()
    return Bf16Products()


def machine() -> dict[str, Any]:
    """What a figure depends on, without a name of any machine."""
    found = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("torch", "transformers", "peft")},
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def write(name: str, results: dict[str, Any]) -> None:
    """Write the results beside the scripts, with the machine they were measured on."""
    text = json.dumps({"machine": machine(), **results}, indent=1) + "\n"
    (HERE / f"{name}.json").write_text(text, encoding="utf-8")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def synchronise() -> None:
    """Wait for the device, so that a clock read afterwards tells the truth."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
