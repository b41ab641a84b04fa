"""Asks a trainer, in its own Python environment, what an export's weights do to a gradient.

A few rows are exported as the export in question was, with its own configs and adapters. The
trainer's own code reads them, and the gradients of its optimiser steps come back: of steps over
single rows, and of steps over all rows in micro-batches of one and of all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trajweight.encoded import Encoded
from trajweight.errors import ConfigError, MissingError, TrajweightError
from trajweight.export.facts import MANIFEST, plan_of, read_facts
from trajweight.quiet import quiet_libraries
from trajweight.table import trajectory_of
from trajweight.tiny import build_tiny
from trajweight.tokenization import encode
from trajweight.trainers import target_named
from trajweight.verification.probes.runner import MISSING
from trajweight.verification.trial import (
    COPIES,
    N_ALIKE,
    WEIGHTED,
    WEIGHTS,
    Trial,
    TrialRow,
    copied,
    trial_rows,
)
from trajweight.verification.verdict import Verdict, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from trajweight.progress import Progress
    from trajweight.trainers import Example, Plan, Row, Target

#: Seconds after which a trainer that does not answer is given up.
PATIENCE_S: Final = 1_800
_MAX_TOKENS: Final = 2_048
_LOG_LINES: Final = 40


def verify_export(
    path: Path, *, to: str | None = None, python: Path | None = None, progress: Progress
) -> Verdict:
    """Let the trainer of an export say what its weights do.

    Args:
        path: The folder of an export.
        to: Its target, where the manifest shall not say; another than that is an error.
        python: The interpreter of the environment in which the trainer is installed; by default
            this one.
        progress: Told what runs.

    Raises:
        ConfigError: If there is no export, it is of another target, or there is no such Python.
        TrajweightError: If the trainer fails; what it said is in the error's notes.
    """
    facts = read_facts(path)
    name = facts["target"]
    if to is not None and to != name:
        message = f"--to {to}: {path / MANIFEST} says that this export is for {name}."
        raise ConfigError(message, hint="Leave out --to, or export again.")
    target, plan = target_named(name), plan_of(facts)
    _require_data(path, facts)
    if reason := _why_not(target, plan):
        return Verdict("SKIPPED", reason)
    interpreter = _interpreter(python)
    with tempfile.TemporaryDirectory(prefix="trajweight-") as scratch:
        question = _Question(target, plan, path, Path(scratch))
        question.write()
        progress.start(f"asking {target.title}")
        answer = question.ask(interpreter)
        progress.finish()
    return answer


def _why_not(target: Target, plan: Plan) -> str:
    """Why nothing can be measured; empty where it can."""
    if target.is_plain:
        return "a file has no loss; what its weights do is up to the program that reads it."
    if not target.probe:
        return f"{target.title} cannot be run here; its README says what was read of it."
    if plan.mode == "buckets":
        return "files are mixed at random while training, which no one step shows."
    return ""


class _Question:
    """What is put to the trainer."""

    def __init__(self, target: Target, plan: Plan, export: Path, scratch: Path) -> None:
        self.target, self.plan, self.export, self.scratch = target, plan, export, scratch
        own_files = _changed_files(export, target, plan)
        model, self.tokenizer = build_tiny()
        with quiet_libraries():
            model.save_pretrained(scratch / "model")
            self.tokenizer.save_pretrained(scratch / "model")
        self.trial = Trial(target, plan.mode, plan, own_files, self._encode())
        rows = trial_rows(self._tokens)
        # A changed config keeps numbers of its own data, and a longer row may suffer from these.
        self.rows = rows[:N_ALIKE] if own_files or plan.mode == "filter" else rows
        self.trials: dict[str, dict[str, Any]] = {}

    @property
    def wanted(self) -> NDArray[np.float64]:
        """What the rows should count, mean one."""
        if self.plan.mode in WEIGHTED:
            found = np.array(WEIGHTS[: len(self.rows)])
        else:
            found = np.array([1.0] * len(self.rows))
            if self.plan.mode == "resample":
                found = np.array(COPIES[: len(self.rows)], dtype=np.float64)
            if not self.target.averages_rows:  # a longer row counts more, which copies make up for
                found *= [row.tokens for row in self.rows]
        wanted: NDArray[np.float64] = found / found.mean()
        return wanted

    def write(self) -> None:
        """Write all small exports."""
        for number, row in enumerate(self.rows):
            self._add(f"row-{number}", [row], [1.0], [1])
        rows, weights = list(self.rows), self.wanted.tolist()
        if self.plan.mode == "resample":
            rows = copied(self.rows)
            weights = [1.0] * len(rows)
        # A loss that averages rows does so where a micro-batch holds one, as its config says.
        is_one_only = self.plan.mode not in WEIGHTED and self.target.averages_rows
        self._add("all", rows, weights, [1] if is_one_only else [1, len(rows)])

    def _add(
        self, name: str, rows: list[TrialRow], weights: list[float], micro_batches: list[int]
    ) -> None:
        for size in micro_batches:
            folder = self.scratch / f"{name}-{size}"  # trainers keep caches beside their data
            self.trial.write(folder, rows, weights)
            self.trials[folder.name] = {"export": str(folder), "micro_batch": size}

    def ask(self, python: Path) -> Verdict:
        """Put it, and judge what comes back."""
        probe = resources.files("trajweight.verification.probes")
        request, gradients = self.scratch / "request.json", self.scratch / "gradients.safetensors"
        versions = self.scratch / "versions.json"
        with (
            resources.as_file(probe.joinpath("runner.py")) as runner,
            resources.as_file(probe.joinpath(f"{self.target.probe}.py")) as file,
        ):
            asked = {
                "probe": str(file),
                "model": str(self.scratch / "model"),
                "trials": self.trials,
                "gradients": str(gradients),
                "versions": str(versions),
            }
            request.write_text(json.dumps(asked), "utf-8")
            done = _run([str(python), str(runner), str(request)], self.scratch)
        told = json.loads(versions.read_text("utf-8")) if versions.is_file() else {}
        named = tuple(
            f"{package} {version or 'not installed'}" for package, version in told.items()
        )
        if done.returncode == MISSING and not all(told.values()):
            absent = ", ".join(package for package, version in told.items() if version is None)
            said = f"not installed for {python}: {absent}; nothing was measured."
            return Verdict("SKIPPED", said, versions=named)
        if done.returncode or not gradients.is_file():
            raise _failure(self.target, done)
        return self._judge(gradients, named)

    def _judge(self, gradients: Path, versions: tuple[str, ...]) -> Verdict:
        from safetensors.numpy import load_file

        found = {name: row.astype(np.float64) for name, row in load_file(gradients).items()}
        single = np.stack([found[f"row-{number}-1"] for number in range(len(self.rows))])
        wholes = {
            self.trials[name]["micro_batch"]: row
            for name, row in found.items()
            if name.startswith("all-")
        }
        word, said, measured = judged(self.wanted, wholes, single, N_ALIKE)
        wanted = tuple(self.wanted.tolist())
        return Verdict(word, said, wanted, N_ALIKE, measured, versions)

    def _tokens(self, row: Mapping[str, Any]) -> int:
        found = encode(trajectory_of(row), self.tokenizer, max_tokens=_MAX_TOKENS)
        assert isinstance(found, Encoded)
        return sum(found.assistant_mask)

    def _encode(self) -> Callable[[Example], Row] | None:
        if self.plan.mode != "tokenized":
            return None
        from trajweight.export.tokenized import tokenizing

        def encoded(example: Example) -> Row:
            mean_tokens = example.token_weight / example.weight * self._tokens(example.row)
            return tokenizing(self.tokenizer, _MAX_TOKENS, mean_tokens)(example)

        return encoded


def _changed_files(export: Path, target: Target, plan: Plan) -> dict[str, str]:
    """Configs and adapters that are no longer as they were written."""
    written = dict(target.files(plan))
    for name in target.adapters.get(plan.mode, ()):
        written[name] = resources.files("trajweight.adapters").joinpath(name).read_text("utf-8")
    changed = {}
    for name, text in written.items():
        try:
            found = (export / name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            message = f"{export / name}: cannot be read: {error}"
            raise ConfigError(message, hint="The export is not whole; write it again.") from error
        if found != text:
            changed[name] = found
    return changed


def _require_data(export: Path, facts: Mapping[str, Any]) -> None:
    """That the data files are there."""
    absent = [each["name"] for each in facts["data"] if not (export / each["name"]).exists()]
    if absent:
        message = f"{export / absent[0]}: no such file, though {MANIFEST} names it."
        raise ConfigError(message, hint="The export is not whole; write it again.")


def _interpreter(python: Path | None) -> Path:
    if python is None:
        return Path(sys.executable)
    if not python.is_file() or not os.access(python, os.X_OK):
        message = f"--python {python}: no such program."
        hint = "Give the python of the environment that has the trainer, such as venv/bin/python."
        raise ConfigError(message, hint=hint)
    return python.absolute()  # not resolved: a link in an environment is what makes it one


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run without network and without a GPU."""
    off = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    environment = {**os.environ, **off, "HF_HOME": str(folder / "cache")}
    environment.pop("PYTHONPATH", None)
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=folder,
            env=environment,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        message = f"the trainer gave no gradient in {PATIENCE_S // 60} minutes."
        raise TrajweightError(message, hint="Is the machine busy? Try again.") from error
    except OSError as error:
        message = f"{command[0]} cannot be run: {error}"
        raise MissingError(message, hint="Give another --python.") from error


def _failure(target: Target, done: subprocess.CompletedProcess[str]) -> TrajweightError:
    """What a trainer that failed said last."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else f"exit code {done.returncode}"
    message = f"{target.title} gave no gradient: {last}"
    hint = "Nothing is known of the weights. --debug shows the rest of what it said."
    error = TrajweightError(message, hint=hint)
    error.add_note("\n".join(lines[-_LOG_LINES:]))
    return error
