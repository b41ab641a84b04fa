"""The sample data is what its script makes, and holds what the report's story needs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

SAMPLE = Path(__file__).parent.parent / "sample_data"
FILES = ("real.jsonl", "synthetic.jsonl")


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLE / name).read_text(encoding="utf-8").splitlines()]


@pytest.mark.skipif(
    importlib.util.find_spec("textarena") is None,
    reason="needs the environment: pip install textarena",
)
def test_the_script_makes_the_same_bytes(tmp_path) -> None:
    script = [sys.executable, SAMPLE / "make.py", "--out", tmp_path]

    subprocess.run(script, check=True, capture_output=True)

    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SAMPLE / name).read_bytes()


def test_there_are_real_rows_and_good_and_bad_synthetic_sources() -> None:
    synthetic = rows("synthetic.jsonl")
    qualities = {row["source"]: row["quality"] for row in synthetic}

    assert len(rows("real.jsonl")) + len(synthetic) >= 200
    assert Counter(qualities.values()) == {1.0: 3, 0.0: 4}
    assert {row["origin"] for row in rows("real.jsonl")} == {"real"}
    assert sum((SAMPLE / name).stat().st_size for name in FILES) < 2 * 2**20


def test_length_does_not_tell_good_from_bad() -> None:
    synthetic = rows("synthetic.jsonl")
    lengths = [sum(len(turn["content"]) for turn in row["messages"]) for row in synthetic]

    told = roc_auc_score([row["quality"] for row in synthetic], lengths)

    assert 0.3 < told < 0.7


def test_no_real_secret_is_a_synthetic_one() -> None:
    real = {row["task_id"] for row in rows("real.jsonl")}

    assert not real & {row["task_id"] for row in rows("synthetic.jsonl")}
