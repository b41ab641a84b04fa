"""Asks TRL: the gradient of one step, by the export's own ``train.py``, just as `hf` does it."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

PACKAGES = ("trl", "transformers", "peft", "torch")

# A probe stands alone in the trainer's environment, and its neighbour is found by its place.
gradient = run_path(str(Path(__file__).with_name("hf.py")))["gradient"]
