"""Finished cells on disk, a line each; a run that is cut off loses the cell it was at, no more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from trajweight.bench.results import Planned
from trajweight.bench.results_cells import VERSION, read_cells
from trajweight.files import json_line
from trajweight.jsontext import decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class Ledger:
    """The file of finished cells.

    Attributes:
        path: The file.
        done: The cells in it.
    """

    def __init__(self, path: Path, warn: Callable[[str], None]) -> None:
        """Read what is finished; half a line at the end, of a run that was cut off, is taken away.

        Args:
            path: The file; it need not be there.
            warn: Told of half a line.

        Raises:
            DataError: If another line cannot be read.
        """
        self.path = path
        self.done: set[Planned] = set()
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            return
        with path.open("r+b") as stream:
            text = stream.read()
            whole = text.rfind(b"\n") + 1
            if whole < len(text):
                warn(f"{path}: half a line at the end was taken away; its cell is run again")
                stream.truncate(whole)
        self.done = {
            Planned(cell.model, cell.setting, cell.seed, cell.method, cell.ablation)
            for cell in read_cells(path)
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
            **facts,
        }
        with self.path.open("ab") as stream:
            stream.write(json_line(line))
            stream.flush()
            os.fsync(stream.fileno())
        self.done.add(cell)
