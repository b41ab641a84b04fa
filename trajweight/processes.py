"""This process among those that do one job together: whose work is whose, and how sums meet.

Every process goes the same way through the program and keeps the same adapter, head and generators.
Only passes of the model are shared out, by rows; what they find is summed over the processes before
anything is decided, so that all decide alike. The first process writes and speaks for all.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trajweight.errors import ConfigError, TrajweightError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: Longest wait for another process; the launcher ends all of them as soon as one has failed.
PATIENCE_MINUTES: Final = 30


@dataclass(frozen=True, slots=True)
class Processes:
    """One process among ``count``.

    Attributes:
        number: Of this process, from zero.
        count: Of all processes.
        device: Where this process computes, and where it sums; empty for one that is alone.
    """

    number: int = 0
    count: int = 1
    device: str = ""

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks for all."""
        return self.number == 0

    def mine(self, sizes: Sequence[int]) -> list[int]:
        """Which pieces of work this process does, ascending.

        The largest piece is dealt first, each to the process that has least to do so far.

        Example:
            >>> [Processes(number, 2).mine([3, 9, 5, 4]) for number in (0, 1)]
            [[0, 1], [2, 3]]
        """
        if self.count == 1:
            return list(range(len(sizes)))
        load, found = [0] * self.count, []
        for piece in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
            owner = load.index(min(load))
            load[owner] += sizes[piece]
            if owner == self.number:
                found.append(piece)
        return sorted(found)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Sum every tensor over the processes, in place, in one message.

        Each process must call this equally often, one that has nothing to add too.

        Raises:
            TrajweightError: If another process has ended.
        """
        if self.count == 1:
            return
        import torch

        flat = torch.cat([each.detach().to(self.device).flatten() for each in tensors])
        parts = self._reduced(flat, "sum").split([each.numel() for each in tensors])
        with torch.no_grad():
            for each, part in zip(tensors, parts, strict=True):
                each.copy_(part.view_as(each))

    def agreed(self, value: float) -> float:
        """The first process's value, for what would differ from one process to another."""
        if self.count == 1:
            return value
        import torch

        told = torch.tensor(value if self.is_main else 0.0, dtype=torch.float64)
        self.add_up([told])
        return float(told)

    def largest(self, value: int) -> int:
        """The largest value that any process has."""
        if self.count == 1:
            return value
        import torch

        return int(self._reduced(torch.tensor(value, device=self.device), "max"))

    def own_folder(self, out: Path, *, resumes: bool = False) -> Path:
        """Where this process writes: the first in ``out``, any other where nobody looks.

        Args:
            out: The folder of the run.
            resumes: Whether the work goes on from what is in ``out``; the others get a copy then,
                taken before anybody goes on.

        Returns:
            ``out``, or a folder that goes when the process ends.
        """
        if self.is_main:
            folder = out
        else:
            above = Path(tempfile.mkdtemp(prefix="trajweight-"))
            atexit.register(shutil.rmtree, above, ignore_errors=True)
            folder = above / out.name
            if resumes and out.is_dir():
                shutil.copytree(out, folder)
        self.largest(0)  # all are here
        return folder

    def _reduced(self, tensor: Tensor, how: str) -> Tensor:
        from accelerate.utils import reduce

        try:
            found: Tensor = reduce(tensor, reduction=how)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            message = f"process {self.number} lost the others: {why}"
            hint = "One of them has ended or does not answer; what it said itself tells why."
            raise TrajweightError(message, hint=hint) from error
        return found


ALONE: Final = Processes()


def launched() -> Processes:
    """What a launcher says in the environment (torchrun, accelerate launch); nothing is joined."""
    count = int(os.environ.get("WORLD_SIZE") or 1)
    return Processes(int(os.environ.get("RANK") or 0), count) if count > 1 else ALONE


def joined(device: str) -> Processes:
    """Meet the other processes that a launcher started; alone where there are none.

    Args:
        device: As in the settings. With several processes ``auto`` and ``cuda`` give each process
            a device of its own, or the processor where there is none.

    Raises:
        ConfigError: If all processes would sit on one device.
    """
    if launched().count == 1:
        return ALONE
    if device not in ("auto", "cpu", "cuda"):
        message = f"--device {device} names one device for {launched().count} processes"
        raise ConfigError(message, hint="Pass --device auto, which gives each process its own.")
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    asks_for_cpu = device == "cpu" or parse_flag_from_env("ACCELERATE_USE_CPU")
    on_cpu = asks_for_cpu or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu, timeout=timedelta(minutes=PATIENCE_MINUTES))
    atexit.register(state.destroy_process_group)
    where = "cpu" if on_cpu else str(state.device)
    return Processes(state.process_index, state.num_processes, where)
