from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.commands import call
from tests.together import work
from trajweight.errors import ConfigError
from trajweight.processes import ALONE, Processes, joined, launched
from trajweight.run import Run, load_run

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).parents[2]

#: Steps enough for weights that differ from one.
SHORT = """
[model]
model = "tiny"
device = "cpu"
[inner]
real_steps = 2
warmup_steps = 2
[outer]
min_steps = 4
max_steps = 4
contest_steps = 1
"""

SIZES = st.lists(st.integers(1, 500), max_size=40)


def together(*args: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a module in two processes that meet on this machine."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", "2", "-m", *map(str, args)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as scratch:  # of the launcher, which leaves its logs there
        environment["TMPDIR"] = scratch if cwd == ROOT else str(cwd)
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@given(SIZES, st.integers(1, 5))
def test_every_piece_of_work_has_exactly_one_owner(sizes, count) -> None:
    shares = [Processes(number, count).mine(sizes) for number in range(count)]

    assert sorted(chain(*shares)) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)


@given(SIZES.filter(bool), st.integers(1, 5))
def test_no_process_has_more_to_do_than_another_by_more_than_one_piece(sizes, count) -> None:
    shares = [Processes(number, count).mine(sizes) for number in range(count)]
    loads = [sum(sizes[piece] for piece in share) for share in shares]

    assert max(loads) - min(loads) <= max(sizes)


def test_one_process_alone_does_all_and_changes_no_bit() -> None:
    values = torch.tensor([0.1, float("nan"), -0.0])
    before = values.numpy().tobytes()

    ALONE.add_up([values])

    assert values.numpy().tobytes() == before
    assert ALONE.mine([3, 1, 2]) == [0, 1, 2]
    assert (ALONE.agreed(0.1), ALONE.largest(15)) == (0.1, 15)


def test_without_a_launcher_a_process_is_alone(monkeypatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)

    assert launched() is ALONE
    assert joined("cuda:1") is ALONE


def test_one_device_for_several_processes_is_refused(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")

    with pytest.raises(ConfigError, match="--device cuda:1 names one device for 2 processes"):
        joined("cuda:1")

    assert launched() == Processes(1, 2)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(tmp_path) -> None:
    """In float64, for every estimator, with and without a trunk, and with a batch of one row."""
    done = together("tests.together", tmp_path)
    assert done.returncode == 0, done.stderr

    first, second = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (0, 1))

    assert first == second  # to the last bit, or their ways would part
    for name, expected in work(ALONE).items():
        # Sums in another order: 1e-9 at most was seen, where a small d is the difference of large
        # numbers. Features stand in float32.
        rtol, atol = (1e-6, 0.0) if "features" in name else (1e-7, 1e-12)
        found = torch.tensor(first[name], dtype=torch.float64)
        alone = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(found, alone, rtol=rtol, atol=atol, msg=name)


@pytest.mark.slow
def test_two_processes_write_one_run_with_the_weights_of_one_process(tmp_path) -> None:
    sample = ROOT / "sample_data"
    lines = (sample / "synthetic.jsonl").read_text(encoding="utf-8").splitlines()
    some = tmp_path / "synthetic.jsonl"
    some.write_text("\n".join(lines[::3]) + "\n", encoding="utf-8")
    settings = tmp_path / "quick.toml"
    settings.write_text(SHORT)
    options = ["score", sample / "real.jsonl", some, "--config", settings, "--json", "--force"]
    aside = tmp_path / "aside"
    aside.mkdir()

    alone = call(*options, "--out", tmp_path / "one")
    done = together("trajweight.cli", *options, "--out", tmp_path / "two", cwd=aside)

    assert (alone.code, done.returncode) == (0, 0), done.stderr
    assert json.loads(done.stdout)["outputs"] == {"run": str(tmp_path / "two")}
    assert done.stderr.count("frozen model (") == 2  # the first process: its start and its end
    assert not list(aside.glob("trajweight-*"))  # what the second wrote is gone
    one, two = (load_run(tmp_path / name) for name in ("one", "two"))
    assert two.manifest()["processes"] == 2
    assert sorted(path.name for path in two.folder.iterdir()) == sorted(
        path.name for path in one.folder.iterdir()
    )
    # float32 leaves 3e-4 of the spread of the scores, but for a shift of all: nothing pulls at the
    # head's last bias but rounding, and Adam makes whole steps out of that. A shift of the scores
    # all but cancels in the weights; 2 % of their spread was seen.
    for column, tolerance in (("score", 3e-3), ("weight", 0.1)):
        found, expected = (weighed(run, column) for run in (two, one))
        gap = (found - found.mean()) - (expected - expected.mean())
        assert abs(gap).max() <= tolerance * expected.std()
    assert weighed(one, "score").std() > 0.05  # there is something to be equal


def weighed(run: Run, column: str) -> np.ndarray:
    """A column of the weight table, of the rows that are weighed."""
    table = run.table("weights").filter(
        (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    )
    return table[column].to_numpy()


@pytest.mark.slow
def test_an_error_of_all_is_told_once_and_ends_all(tmp_path) -> None:
    done = together("trajweight.cli", "score", tmp_path / "none.jsonl", "--device", "cpu")

    assert done.returncode != 0
    assert done.stderr.count("none.jsonl: no such file") == 1
    assert "exitcode  : 3" in done.stderr


@pytest.mark.slow
def test_a_process_whose_partner_has_gone_ends_with_an_error(tmp_path) -> None:
    program = (
        "import os, torch; from trajweight.processes import joined; group = joined('cpu')\n"
        "if group.number: os._exit(9)\n"
        "group.add_up([torch.ones(3)])"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    both = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(n), "LOCAL_RANK": str(n)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in (0, 1)
    ]
    told = [each.communicate(timeout=120)[1] for each in both]

    assert [each.returncode for each in both] == [1, 9]
    assert "process 0 lost the others" in told[0]
