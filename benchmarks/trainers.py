"""Whether exports take effect, told by every trainer that installs here: environments and verdicts.

    .venv/bin/python benchmarks/trainers.py --make    # virtual environments, once: some gigabytes
    .venv/bin/python benchmarks/trainers.py           # `trajweight verify-export` for each of them
    .venv/bin/python benchmarks/trainers.py --tell    # only tell the committed results again

Each trainer lives in an environment of its own below ``.trainers/`` and never in ours. Beside the
exports as they are written stand those that were spoilt on purpose, as a user might: they show the
traps. Writes ``trainers.json`` beside this file, and what it says into the README.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from bench import HERE, write

from trajweight.errors import TrajweightError
from trajweight.export import ExportRequest, export_weights
from trajweight.progress import Progress
from trajweight.run import load_run
from trajweight.selection import Filters
from trajweight.trainers import target_named
from trajweight.verification import verify_export

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.run import Run
    from trajweight.trainers import Mode

ROOT = HERE.parent
README = ROOT / "README.md"
START, END = "<!-- verdicts:start -->", "<!-- verdicts:end -->"
NAME = "trainers"
_FILTERS = Filters(top_fraction=0.5)
#: The build for processors, which everything else is then content with.
TORCH = "torch==2.13.0"
#: Its libraries want CUDA, and only importing it is asked for.
HIDE_LIBRARIES = """
import importlib.util, pathlib
found = importlib.util.find_spec("torchaudio")
for path in pathlib.Path(found.origin).parent.joinpath("lib").glob("*.so") if found else ():
    path.rename(path.with_suffix(".so.cuda"))
"""


def _pip(*arguments: str) -> tuple[str, ...]:
    return ("-m", "pip", *arguments)


#: By environment, what its python is told, one after the other.
STEPS: dict[str, tuple[tuple[str, ...], ...]] = {
    "trl": (
        _pip("install", TORCH, "trl==1.16.0", "transformers==5.23.0", "peft==0.21.2", "pytest"),
    ),
    "ms-swift": (_pip("install", TORCH, "ms-swift==4.6.0"),),
    "llamafactory": (
        _pip("install", TORCH, "llamafactory==0.9.5"),
        _pip("uninstall", "--yes", "torchvision"),  # there is no build of it for processors
        ("-c", HIDE_LIBRARIES),
    ),
    "verl": (_pip("install", TORCH, "verl==0.9.1", "uvicorn", "fastapi"),),
    "axolotl": (_pip("install", TORCH, "axolotl==0.19.0"),),
    "openrlhf": (
        _pip("install", TORCH),
        _pip("install", "--no-deps", "openrlhf==0.11.2"),  # it asks for kernels that need CUDA
        _pip(
            "install",
            *("transformers==5.15.0", "accelerate", "datasets", "einops", "peft", "optree"),
            *("packaging", "pylatexenc", "torchdata", "torchmetrics", "tensorboard", "tqdm"),
            *("wandb", "wheel", "setuptools", "jsonlines", "loralib", "pynvml", "ninja"),
            *("py-cpuinfo", "msgpack", "hjson", "aiohttp"),
        ),
        _pip("install", "--no-build-isolation", "--no-deps", "deepspeed==0.19.6"),
    ),
    "automodel": (
        _pip("install", TORCH, "nemo-automodel==0.7.0"),
        _pip("install", "triton==3.7.1"),  # a later one breaks its import
    ),
    "torchtune": (_pip("install", TORCH, "torchtune==0.6.1", "torchao==0.9.0"),),
}
#: Laws of our adapter that need TRL.
LAWS = ("benchmarks/trainer_laws/test_trl.py",)
#: By target the environment that has it.
ENVIRONMENTS = {
    "trl": "trl",
    "hf": "trl",
    "ms-swift": "ms-swift",
    "llama-factory": "llamafactory",
    "llama-factory-v1": "llamafactory",
    "verl": "verl",
    "axolotl": "axolotl",
    "openrlhf": "openrlhf",
    "nemo-automodel": "automodel",
    "torchtune": "torchtune",
}
#: Targets that no environment here can run, and why.
NOT_ASKED = {
    **dict.fromkeys(("unsloth", "nemo-rl", "open-instruct"), "needs a GPU"),
    **dict.fromkeys(("tinker", "fireworks", "together", "openai"), "a service has the loss"),
}


@dataclass(frozen=True)
class Trap:
    """An export that is spoilt on purpose.

    Attributes:
        target: Whose.
        mode: In which mode it is written.
        told: What was done to it.
        edits: By file, what is replaced by what, as regular expressions.
        expected: The verdict that the trap deserves.
    """

    target: str
    mode: Mode
    told: str
    expected: str
    edits: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


TRAPS: tuple[Trap, ...] = (
    Trap(
        "trl",
        "adapter",
        "with the stock SFTTrainer",
        "IGNORED",
        {"train.py": ((r"weighing = WeightedSFTTrainer, \{.*\}", "weighing = SFTTrainer, {}"),)},
    ),
    Trap(
        "hf",
        "adapter",
        "with the stock Trainer",
        "IGNORED",
        {"train.py": ((r"weighing = WeightedTrainer, \{.*\}", "weighing = Trainer, {}"),)},
    ),
    Trap(
        "ms-swift",
        "native",
        "without `is_binary_loss_scale: false`",
        "IGNORED",
        {"train.yaml": ((r"(?m)^is_binary_loss_scale:.*\n", ""),)},
    ),
    Trap(
        "axolotl",
        "adapter",
        "without the plugin",
        "IGNORED",
        {
            "train.yaml": (
                (r"(?m)^plugins:\n.*\n", ""),
                (r"(?m)^trajectory_objective:.*\n", ""),
                (r"axolotl_weights\.load", "chat_template"),
            )
        },
    ),
    Trap(
        "openrlhf",
        "adapter",
        "with its own program",
        "IGNORED",
        {
            "train.sh": (
                (r"deepspeed openrlhf_sft\.py", "deepspeed --module openrlhf.cli.train_sft"),
            )
        },
    ),
    Trap(
        "nemo-automodel",
        "adapter",
        "with its own recipe",
        "IGNORED",
        {
            "automodel_sft.yaml": (
                (
                    r"nemo_automodel_sft\.WeightedRecipe",
                    "TrainFinetuneRecipeForNextTokenPrediction",
                ),
            )
        },
    ),
    Trap("llama-factory-v1", "native", "forced by --allow-unfaithful", "CANCELLED"),
)


def make(folder: Path, names: list[str]) -> None:
    """Make the environments that are not there yet."""
    for name in names:
        place = folder / name
        if (place / "made").exists():
            continue
        print(f"making {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        environment = {**os.environ, "DS_BUILD_OPS": "0"}
        for step in STEPS[name]:
            subprocess.run([place / "bin" / "python", *step], check=True, env=environment)
        (place / "made").touch()


def sample_run(folder: Path) -> Run:
    """A run on the sample data with the model of the tests; what it finds does not matter here."""
    data = [str(ROOT / "sample_data" / name) for name in ("real.jsonl", "synthetic.jsonl")]
    command = [sys.executable, "-m", "trajweight.cli", "score", *data, "--model", "tiny"]
    subprocess.run([*command, "--out", str(folder), "--quiet"], check=True, capture_output=True)
    return load_run(folder)


def measure(run: Run, out: Path, python: Path, target: str, mode: Mode, trap: Trap | None) -> Any:
    """The verdict on one export."""
    asked = ExportRequest(
        to=target,
        mode=mode,
        filters=_FILTERS if mode == "filter" else ExportRequest().filters,
        allow_unfaithful=trap is not None,
    )
    export_weights(run, out, asked)
    for name, edits in (trap.edits if trap else {}).items():
        text = (out / name).read_text()
        for pattern, replacement in edits:
            text, count = re.subn(pattern, replacement, text)
            if not count:
                message = f"{out / name}: nothing there is like {pattern}"
                raise SystemExit(message)
        (out / name).write_text(text)
    cell = {"target": target, "mode": mode, "trap": trap.told if trap else ""}
    try:
        verdict = verify_export(out, python=python, progress=Progress())
    except TrajweightError as error:
        notes = "\n".join(getattr(error, "__notes__", ()))
        print(f"{target} {mode}: {error}\n{notes}", file=sys.stderr)
        return cell | {"verdict": "FAILED", "said": str(error)}
    return cell | {
        "verdict": verdict.word,
        "said": verdict.said,
        "versions": list(verdict.versions),
        "wanted": list(verdict.wanted),
        "effective": {str(one.micro_batch): list(one.effective) for one in verdict.measured},
    }


def main() -> None:
    """Make, measure, write and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--make", action="store_true", help="make the environments, then end")
    parser.add_argument("--laws", action="store_true", help="run the laws of trl alone")
    parser.add_argument("--tell", action="store_true", help="only tell the results again")
    parser.add_argument("--folder", type=Path, default=ROOT / ".trainers")
    parser.add_argument("--only", nargs="+", metavar="TARGET", default=sorted(ENVIRONMENTS))
    options = parser.parse_args()
    if options.make:
        make(options.folder, sorted({ENVIRONMENTS[name] for name in options.only}))
        return
    path = HERE / f"{NAME}.json"
    found = json.loads(path.read_text()) if path.exists() else {"cells": [], "laws": {}}
    known, folder = found["cells"], options.folder.absolute()
    if not options.tell and "trl" in options.only:
        found["laws"] = laws(folder / "trl" / "bin" / "python")
        write(NAME, {"cells": known, "laws": found["laws"]})
    if not options.tell and not options.laws:
        known = _measured(folder, options.only, known, found["laws"])
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{START}\n{told(known)}\n{END}{after}", encoding="utf-8")


def laws(python: Path) -> dict[str, Any]:
    """How many of the laws hold that need TRL, told by pytest in TRL's environment."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "laws.xml"
        command = [python, "-m", "pytest", "-q", f"--junitxml={report}", *LAWS]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=False, cwd=ROOT, env=environment)
        suite = ElementTree.parse(report).getroot().find("testsuite")
    if suite is None:
        message = "pytest told of no laws"
        raise SystemExit(message)
    total, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return {"files": list(LAWS), "passed": total - failed - skipped, "failed": failed}


def _measured(
    folder: Path, names: list[str], known: list[Any], found_laws: dict[str, Any]
) -> list[Any]:
    cells = {(cell["target"], cell["mode"], cell["trap"]): cell for cell in known}
    with tempfile.TemporaryDirectory() as scratch:
        run = sample_run(Path(scratch) / "run")
        for name in names:
            modes = [mode for mode in target_named(name).modes if mode != "buckets"]
            traps = [trap for trap in TRAPS if trap.target == name]
            asked = [*((mode, None) for mode in modes), *((trap.mode, trap) for trap in traps)]
            for number, (mode, trap) in enumerate(asked):
                out = Path(scratch) / f"{name}-{number}"
                python = folder / ENVIRONMENTS[name] / "bin" / "python"
                cell = measure(run, out, python, name, mode, trap)
                cells[cell["target"], cell["mode"], cell["trap"]] = cell
                print(name, mode, cell["trap"], cell["verdict"], cell["said"], file=sys.stderr)
                told_now = [cells[key] for key in sorted(cells)]
                write(NAME, {"cells": told_now, "laws": found_laws})
    return [cells[key] for key in sorted(cells)]


def told(cells: list[Any]) -> str:
    """The verdicts as a table of Markdown, for the README; of the trainers that cannot run, why."""
    lines = ["| trainer | mode | verdict | rows counted / should, one row a micro-batch |"]
    lines.append("| --- | --- | --- | --- |")
    for cell in cells:
        title = target_named(cell["target"]).title
        version = (cell.get("versions") or [""])[0].rpartition(" ")[2]
        ratios = [
            f"{found:.2f}/{wanted:.2f}"
            for found, wanted in zip(
                cell.get("effective", {}).get("1", []), cell.get("wanted", []), strict=True
            )
        ]
        mode = f"`{cell['mode']}`" + (f", {cell['trap']}" if cell["trap"] else "")
        told_ratios = ", ".join(ratios)
        lines.append(f"| {title} {version} | {mode} | {cell['verdict']} | {told_ratios} |")
    lines += [
        f"| {target_named(name).title} | every mode | SKIPPED | {why} |"
        for name, why in sorted(NOT_ASKED.items())
    ]
    lines += [
        "",
        "Three rows are alike but for their weight or number of copies; the fourth, where there is "
        "one, is longer. Of trainers that were skipped the README of an export says what was read "
        "of their source.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
