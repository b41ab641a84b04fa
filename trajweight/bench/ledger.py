"""Finished cells on disk, a line each; a run that is cut off loses the cell it was at, no more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from filelock import FileLock

from trajweight.bench.results import Planned
from trajweight.bench.results_cells import VERSION, read_cells
from trajweight.errors import ConfigError
from trajweight.files import json_line
from trajweight.jsontext import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Why cells were left out, a line each.
LEFT_OUT: Final = "left-out.jsonl"


class Ledger:
    """The file of finished cells.

    Attributes:
        path: The file.
        done: The cells in it.
    """

    def __init__(self, path: Path, setup: Callable[[str], str]) -> None:
        """Read what is finished.

        Half a line at the end, of a run that was cut off, is taken away.

        Args:
            path: The file; it need not be there.
            setup: Of the cells of a method, see `Grid.setup`.

        Raises:
            DataError: If another line cannot be read.
            ConfigError: If a cell was run with another setup.
        """
        self.path, self.setup = path, setup
        self.done: set[Planned] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            _cut_half_a_line(path)
            cells = read_cells(path) if path.exists() else []
        others = {cell.method for cell in cells if cell.at("setup") != setup(cell.method)}
        if others:
            method = min(others)
            found = sorted({str(cell.at("setup")) for cell in cells if cell.method == method})
            message = (
                f"{path}: holds cells of another setup ({method}: {', '.join(found)}; this grid's "
                f"is {setup(method)}): other sizes or settings, another model, or another "
                "trajweight"
            )
            raise ConfigError(message, hint="Give another --out.")
        self.done = {
            Planned(cell.model, cell.setting, cell.seed, cell.method, cell.ablation)
            for cell in cells
        }

    def add(self, cell: Planned, facts: Mapping[str, Any]) -> None:
        """Write a finished cell; it is on disk when this returns."""
        line = {
            "version": VERSION,
            "model": cell.model,
            **cell.setting._asdict(),
            "seed": cell.seed,
            "method": cell.method,
            "ablation": decode(cell.ablation.encode()),
            "setup": self.setup(cell.method),
            **facts,
        }
        with self._alone(), self.path.open("ab") as stream:
            stream.write(json_line(line))
            stream.flush()
            os.fsync(stream.fileno())
        self.done.add(cell)

    def leave_out(self, cell: Planned, why: str) -> None:
        """Write why a cell could not be run, beside the finished ones."""
        line = {"method": cell.method, "seed": cell.seed, **cell.setting._asdict(), "why": why}
        with self._alone(), self.path.with_name(LEFT_OUT).open("ab") as stream:
            stream.write(json_line(line))

    def _alone(self) -> FileLock:
        """Other processes wait that work in the same folder."""
        return FileLock(self.path.with_suffix(".lock"))


def _cut_half_a_line(path: Path) -> None:
    if path.exists():
        with path.open("r+b") as stream:
            stream.truncate(stream.read().rfind(b"\n") + 1)
