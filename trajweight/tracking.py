"""The numbers of every outer step, sent on to a tracker that the user has installed and asked for.

``trace.jsonl`` has them in any case; a tracker draws them while the work goes on.
"""

from __future__ import annotations

import importlib
import math
from typing import TYPE_CHECKING, Any, Protocol

from trajweight.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trajweight.config import TrackerName


class Tracker(Protocol):
    """What takes the numbers."""

    def log(self, facts: Mapping[str, float]) -> None:
        """Take the numbers of one outer step; those that are not finite are left out."""

    def close(self) -> None:
        """Write what is still held back."""


def tracker_of(name: TrackerName, folder: Path) -> Tracker:
    """The tracker of this name, at work.

    Args:
        name: none, tensorboard (event files in ``folder/tensorboard``) or trackio (the project
            ``trajweight``, a run named after the folder).
        folder: Of the run.

    Raises:
        MissingError: If the package is not installed.
    """
    if name == "tensorboard":
        return _TensorBoard(folder)
    if name == "trackio":
        return _Trackio(folder)
    return _Nothing()


class _Nothing:
    def log(self, facts: Mapping[str, float]) -> None:
        """Nobody asked."""

    def close(self) -> None:
        """Nothing is held back."""


class _TensorBoard:
    def __init__(self, folder: Path) -> None:
        _require("tensorboard")
        module: Any = importlib.import_module("torch.utils.tensorboard")
        self.writer = module.SummaryWriter(str(folder / "tensorboard"))

    def log(self, facts: Mapping[str, float]) -> None:
        member = int(facts.get("member", 0))
        for key, value in _numbers(facts).items():
            tag = f"outer/{key}" + (f"/head {member}" if "member" in facts else "")
            self.writer.add_scalar(tag, value, int(facts["step"]))

    def close(self) -> None:
        self.writer.close()


class _Trackio:
    def __init__(self, folder: Path) -> None:
        self.trackio: Any = _require("trackio")
        self.trackio.init(project="trajweight", name=folder.name, resume="allow", embed=False)
        self.logged = 0

    def log(self, facts: Mapping[str, float]) -> None:
        told = {**_numbers(facts), "outer_step": facts["step"]}
        if "member" in facts:
            told["member"] = facts["member"]
        self.trackio.log(told, step=self.logged)  # heads of an ensemble follow one another
        self.logged += 1

    def close(self) -> None:
        self.trackio.finish()


def _numbers(facts: Mapping[str, float]) -> dict[str, float]:
    return {
        key: value
        for key, value in facts.items()
        if key not in ("step", "member") and math.isfinite(value)
    }


def _require(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        message = f"{package} was asked for and is not installed"
        raise MissingError(message, hint=f"pip install {package}, or leave out --track.") from error
