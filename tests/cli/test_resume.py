from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.commands import babble, call, write_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
#: A loop of some seconds, so that a signal falls into it.
SETTINGS = """
[model]
model = "tiny"
[inner]
real_steps = 1
warmup_steps = 1
[outer]
min_steps = 60
max_steps = 60
contest_steps = 1
checkpoint_every = 10
"""
SAME = (
    *("weights.parquet", "head.safetensors", "head.json", "trace.jsonl"),
    "direction.safetensors",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real and synthetic rows, settings, and an undisturbed run over them."""
    folder = tmp_path_factory.mktemp("files")
    write_rows(folder / "real.jsonl", (babble(f"r{i}", source="real") for i in range(40)))
    write_rows(folder / "synthetic.jsonl", (babble(f"s{i}") for i in range(10)))
    (folder / "settings.toml").write_text(SETTINGS)
    said = call("score", *given(folder), "--out", folder / "run")
    assert said.code == 0, said.err
    return folder


def given(files: Path) -> list[Path | str]:
    return [files / "real.jsonl", files / "synthetic.jsonl", "--config", files / "settings.toml"]


@pytest.fixture
def heeded() -> Iterator[None]:
    """Where tests run in the background SIGINT may be ignored, and children would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def signalled(
    files: Path, out: Path, number: int, *, when: Callable[[str], bool]
) -> tuple[int, str]:
    """Start a run in a process of its own and send a signal when stderr allows it."""
    command = [sys.executable, "-m", "trajweight.cli", "score", *map(str, given(files))]
    told = out.with_suffix(".txt")
    with told.open("w") as stream:
        process = subprocess.Popen(
            [*command, "--out", str(out)],
            stdout=subprocess.DEVNULL,
            stderr=stream,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        end = time.monotonic() + 120
        while not when(told.read_text()):
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < end, told.read_text()
            time.sleep(0.01)
        process.send_signal(number)
        code = process.wait(timeout=60)
    return code, told.read_text()


def status(run: Path) -> str:
    return str(json.loads((run / "manifest.json").read_text())["status"])


@pytest.mark.slow
@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_loop_saves_the_step_and_tells_how_to_go_on(
    files: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "run"
    trace = out / "trace.jsonl"

    ended, err = signalled(files, out, number, when=lambda _: trace.is_file())

    assert ended == code
    assert err.endswith(f"error: interrupted\n  Go on with: trajweight score --resume {out}\n")
    assert status(out) == "interrupted"
    made = len(trace.read_text().splitlines())
    assert 0 < made < 60

    said = call("score", "--resume", out)

    assert said.code == 0, said.err
    assert f"going on from the checkpoint after outer step {made}" in said.err
    assert said.out.splitlines()[-1] == f"Run: {out}"
    assert status(out) == "finished"
    for name in SAME:
        assert (out / name).read_bytes() == (files / "run" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("heeded")
def test_a_signal_before_the_loop_ends_at_once_and_leaves_a_run_to_go_on_with(
    files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"

    ended, err = signalled(files, out, signal.SIGTERM, when=lambda text: "reading" in text)

    assert ended == 143
    assert f"trajweight score --resume {out}" in err
    assert status(out) == "interrupted"
    assert call("train-bilevel", "--resume", out).code == 0
    assert (out / "weights.parquet").read_bytes() == (files / "run/weights.parquet").read_bytes()


@pytest.mark.slow
def test_a_run_killed_by_the_system_goes_on_to_the_same_bytes(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    benchmark = importlib.import_module("interruptions")

    found = benchmark.measure(
        [str(each) for each in given(files)], tmp_path, kills=2, most_in_a_row=2, seed=1
    )

    assert found["same_bytes"], found
    assert found["kills"] == 2
    assert benchmark.differing(files / "run", tmp_path / "whole") == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "train-bilevel"])
def test_a_finished_run_says_so_and_shows_its_report(files: Path, command: str) -> None:
    before = (files / "run" / "manifest.json").read_bytes()

    said = call(command, "--resume", files / "run")
    as_json = call(command, "--resume", files / "run", "--json").object

    assert said.code == 0
    assert "is finished already; nothing was done" in said.err
    assert said.out.splitlines()[-1] == f"Run: {files / 'run'}"
    assert as_json["inputs"] == [str(files / "real.jsonl"), str(files / "synthetic.jsonl")]
    assert (files / "run" / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("command", ["score", "train-bilevel"])
@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("a.jsonl",), "PATHS"),
        (("--max-steps", 3), "--max-steps"),
        (("--config", "a.toml"), "--config"),
        (("--seed", 1), "--seed"),
        (("--force",), "--force"),
        (("--out", "there"), "--out"),
        (("--print-config",), "--print-config"),
    ],
)
def test_what_the_run_has_decided_cannot_be_given_again(command, args, named) -> None:
    said = call(command, *args, "--resume", "here")

    assert said.code == 2
    assert f"error: {named} cannot be given with --resume" in said.err


def test_a_trained_run_cannot_be_given_with_one_to_go_on_with() -> None:
    said = call("score", "--run", "there", "--resume", "here")

    assert said.code == 2
    assert "error: --run cannot be given with --resume" in said.err


def test_what_is_no_run_cannot_be_gone_on_with(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        said = call("score", "--resume", path)

        assert said.code == 3
        assert str(path) in said.err
