"""Time and peak memory of a bilevel step against a plain weighted fine-tuning step.

    .venv/bin/pip install --no-deps --ignore-requires-python betty-ml==0.2.1
    .venv/bin/python benchmarks/cost.py

Every estimator makes the same inner steps on the same batches of the sample data, with the same
model and adapters as a plain step: a forward and a backward pass of the padded batch and AdamW.
"inner step" is our own step without any estimator, whose passes hold rows of like length. The
outer gradient is over as many validation rows as a batch has rows. A ratio of times is the median
over interleaved rounds of the ratio within a round; memory is the peak of a process of its own per
estimator. `--only time` or `--only memory` measures one and keeps the other as it was.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from bench import HERE, Bench, add_model_options, config_of, synchronise, table, write
from torch import Tensor, nn

from trajweight.estimators import FiniteDifference, Ghost, Implicit, Penalty, Unrolled
from trajweight.inner import InnerLevel
from trajweight.problem import Rows

#: Inner steps of one round of one estimator: a multiple of every window and every interval.
STEPS = 4
NAME = "cost"
Step = Callable[[Rows, Tensor], object]
Maker = Callable[[InnerLevel, int], Step]


def plain(inner: InnerLevel, _: int) -> Step:
    """A weighted fine-tuning step as any trainer makes it: one padded batch."""

    def step(rows: Rows, weights: Tensor) -> None:
        inner.optimizer.zero_grad(set_to_none=True)
        losses = inner.problem.apart(rows)
        (losses * weights.to(losses.device)).mean().backward()
        inner.apply(rows, losses.detach().cpu())

    return step


def bare(inner: InnerLevel, _: int) -> Step:
    """Our inner step, which the estimators' steps are made of."""
    return inner.step


def ours(make: Callable[[int, int], Any]) -> Maker:
    """One of our estimators, from its interval and the size of a validation batch."""

    def begin(inner: InnerLevel, every: int) -> Step:
        estimator: Any = make(every, inner.config.batch_size)
        found: Step = estimator.begin(inner).step
        return found

    return begin


class AdamW(torch.optim.AdamW):
    """betty-ml 0.2.1 makes optimisers again from their defaults; torch has one more by now."""

    def __init__(self, params: Any, **settings: Any) -> None:
        """Leave out what torch sets itself."""
        settings.pop("decoupled_weight_decay", None)
        super().__init__(params, **settings)


def betty(kind: str) -> Maker:
    """The same problem under betty-ml as its users set it up: a head that reads the loss.

    Its engine owns the loop, so a step here is one iteration of an engine that was told the batch.
    """

    def begin(inner: InnerLevel, every: int) -> Step:
        from betty.configs import Config, EngineConfig
        from betty.engine import Engine
        from betty.problems import ImplicitProblem

        problem, device = inner.problem, inner.parameters[0].device
        size = inner.config.batch_size
        waiting: list[list[int]] = []

        class Batches:
            """Endless batches of row numbers, taken from those asked for."""

            def __init__(self, draw: Callable[[], list[int]]) -> None:
                self.draw = draw

            def __iter__(self) -> Any:
                while True:
                    yield (torch.tensor(self.draw()),)

            def __len__(self) -> int:
                return 1_000_000

        class Finetune(ImplicitProblem):  # type: ignore[misc]
            def training_step(self, batch: tuple[Tensor]) -> Tensor:
                losses = problem.apart(batch[0].tolist())
                weights = self.reweight(losses.detach().unsqueeze(1)).squeeze(1)
                return (weights * losses).mean()

        class Reweight(ImplicitProblem):  # type: ignore[misc]
            def training_step(self, batch: tuple[Tensor]) -> Tensor:
                return problem.apart(batch[0].tolist()).mean()

        head = nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())
        adapter = nn.ModuleList(problem.linears)
        rate = inner.config.learning_rate
        finetune = Finetune(
            name="finetune",
            module=adapter,
            optimizer=AdamW(adapter.parameters(), lr=rate),
            train_data_loader=Batches(lambda: waiting.pop(0)),
            config=Config(type=kind, unroll_steps=every, retain_graph=True),
        )
        reweight = Reweight(
            name="reweight",
            module=head.to(device),
            optimizer=AdamW(head.parameters(), lr=1e-5),
            train_data_loader=Batches(lambda: problem.sample_validation(size, inner.generator)[0]),
            config=Config(type="darts"),
        )
        links = {"l2u": {finetune: [reweight]}, "u2l": {reweight: [finetune]}}
        engine = Engine(
            config=EngineConfig(train_iters=1, valid_step=10**9, logger_type="none"),
            problems=[reweight, finetune],
            dependencies=links,
        )

        def step(rows: Rows, _: Tensor) -> None:
            waiting.append(list(rows))
            engine.global_step += 1
            for leaf in engine.leaves:
                leaf.step(global_step=engine.global_step)

        return step

    return begin


ESTIMATORS: dict[str, tuple[Maker, tuple[int, ...]]] = {
    "ghost": (ours(lambda k, b: Ghost(every=k, validation_size=b)), (1, 4)),
    "ghost-exact": (ours(lambda k, b: Ghost(every=k, fused=False, validation_size=b)), (1, 4)),
    "finite-difference": (
        ours(lambda k, b: FiniteDifference(every=k, relative_step=1 / 256, validation_size=b)),
        (1, 4),
    ),
    "penalty": (ours(lambda _, b: Penalty(validation_size=b)), (1,)),
    "unrolled, 1 step": (ours(lambda _, b: Unrolled(steps=1, validation_size=b)), (1,)),
    "unrolled, 2 steps": (ours(lambda _, b: Unrolled(steps=2, validation_size=b)), (1,)),
    "unrolled, 4 steps": (ours(lambda _, b: Unrolled(steps=4, validation_size=b)), (1,)),
    "implicit": (ours(lambda k, b: Implicit(every=k, validation_size=b)), (1, 4)),
    "betty darts": (betty("darts"), (1, 4)),
    "betty sama": (betty("sama"), (1, 4)),
}
CELLS = {
    "plain": (plain, 1),
    "inner step": (bare, 1),
    **{
        f"{name}|{every}": (maker, every)
        for name, (maker, intervals) in ESTIMATORS.items()
        for every in intervals
    },
}


def prepared(options: argparse.Namespace, *, rows: int = 48) -> Bench:
    """The sample data with an adapter ten steps old."""
    return Bench.start(config_of(options), warm_steps=10, rows=rows)


def batches_of(bench: Bench, n: int) -> list[list[int]]:
    """Batches that every estimator sees alike."""
    size = bench.inner.config.batch_size
    return [bench.inner.next_batch(bench.problem.training, size=size) for _ in range(n)]


def make_steps(step: Step, batches: list[list[int]]) -> None:
    """Steps with weights that differ."""
    generator = torch.Generator().manual_seed(0)
    for rows in batches:
        step(rows, 0.5 + torch.rand(len(rows), generator=generator))


def measure_times(options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of `STEPS` steps of each, a round after the other."""
    bench = prepared(options)
    batches, start = batches_of(bench, STEPS), bench.inner.state()
    times: dict[str, list[float]] = {name: [] for name in CELLS}
    for round_ in range(options.rounds + 1):
        for name, (maker, every) in CELLS.items():
            bench.inner.restore(start)
            step = maker(bench.inner, every)
            synchronise()
            began = time.perf_counter()
            make_steps(step, batches)
            synchronise()
            took = time.perf_counter() - began
            if round_:  # the first round warms caches and allocators
                times[name].append(took)
            print(f"round {round_} {name}: {took:.2f} s", file=sys.stderr)
    return times


def measure_memory(options: argparse.Namespace, name: str) -> dict[str, float]:
    """Peak memory of a few steps of one estimator in this process, in MiB."""
    bench = prepared(options, rows=24)  # of a step, memory depends on its batch alone
    maker, every = CELLS[name]
    batches = batches_of(bench, STEPS)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        make_steps(maker(bench.inner, every), batches)
        return {"peak": torch.cuda.max_memory_allocated() / 2**20}
    clear, before = Path("/proc/self/clear_refs"), _resident()
    if clear.exists():
        clear.write_text("5")  # the peak is counted from here
    make_steps(maker(bench.inner, every), batches)
    return {"peak": _peak(), "at_rest": before}


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _resident() -> float:
    return _status("VmRSS") if Path("/proc/self/status").exists() else 0.0


def _peak() -> float:
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and write, or answer for one process."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("time", "memory"))
    parser.add_argument("--memory-of", help="measure one estimator in this process")
    options = parser.parse_args()
    if options.memory_of:
        print(json.dumps(measure_memory(options, options.memory_of)))
        return
    cells = _known(options.model) if options.only else {}
    if options.only != "memory":
        for name, found in measure_times(options).items():
            cells.setdefault(name, {})["seconds"] = [round(each / STEPS, 4) for each in found]
    if options.only != "time":
        for name, (_, every) in CELLS.items():
            if every == 1:  # seldom estimates need as much as frequent ones, only seldom
                cells.setdefault(name, {})["peak_mib"] = _in_a_process(options, name)["peak"]
                _save(options.model, cells)  # a process that fails costs none of the others
    _save(options.model, cells)
    keys = ("estimator", "every", "time_ratio", "memory_ratio", "peak_mib")
    print(table(keys, [[cell.get(key) for key in keys] for cell in cells.values()]))


def _save(model: str, cells: dict[str, dict[str, Any]]) -> None:
    """Write the cells with their ratios to the plain step."""
    plain_seconds, plain_peak = (cells["plain"].get(key) for key in ("seconds", "peak_mib"))
    for name, cell in cells.items():
        estimator, _, every = name.partition("|")
        cell |= {"estimator": estimator, "every": int(every) if every else None}
        if plain_seconds and "seconds" in cell:
            ratios = [a / b for a, b in zip(cell["seconds"], plain_seconds, strict=True)]
            cell["time_ratio"] = round(statistics.median(ratios), 3)
        if plain_peak and "peak_mib" in cell:
            cell["memory_ratio"] = round(cell["peak_mib"] / plain_peak, 3)
    write(NAME, {"model": model, "cells": cells})


def _known(model: str) -> dict[str, dict[str, Any]]:
    """The cells measured before, of the same model."""
    path = HERE / f"{NAME}.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    cells: dict[str, dict[str, Any]] = known["cells"] if known.get("model") == model else {}
    return {name: cell for name, cell in cells.items() if name in CELLS}


def _in_a_process(options: argparse.Namespace, name: str) -> dict[str, float]:
    passed = ["--model", options.model, "--device", options.device, "--dtype", options.dtype]
    if options.adapter_layers is not None:
        passed += ["--adapter-layers", str(options.adapter_layers)]
    command = [sys.executable, __file__, *passed, "--memory-of", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"memory of {name}: {found}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
