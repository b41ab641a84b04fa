"""Laws of folders that one process keeps to itself."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.commands import call
from trajweight.claim import LOCK, claimed
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from trajweight.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that keeps ``tmp_path / run``."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_folder_that_another_process_keeps_is_refused(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with (
        pytest.raises(ConfigError, match="another process is at work in"),
        claimed(tmp_path / "run"),
    ):
        pytest.fail("two have it")

    said = call("score", "sample_data/real.jsonl", "--out", tmp_path / "run", "--model", "tiny")

    assert said.code == 2
    assert "another process is at work" in said.err
    assert holder.poll() is None


def test_a_killed_process_keeps_nothing(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    with claimed(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]

    assert list((tmp_path / "run").iterdir()) == []


def test_a_folder_is_free_again_whatever_happens_in_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), claimed(tmp_path):
        _ = 1 / 0
    with pytest.raises(ZeroDivisionError), claimed(tmp_path / "a" / "typo"):
        _ = 1 / 0

    assert not (tmp_path / "a" / "typo").exists()
    (tmp_path / "a").rmdir()

    with claimed(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_folder_is_left_to_others_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with claimed(tmp_path / "file"):
        pass

    assert (tmp_path / "file").read_text() == "mine"
