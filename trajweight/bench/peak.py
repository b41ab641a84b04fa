"""The most memory that a stretch of work held: of the device, or of the process."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Linux forgets the highest mark of a process when a 5 is written here.
_FORGET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_MARK: Final = "VmHWM:"


@dataclass
class Peak:
    """What was held at most.

    Attributes:
        bytes: None until the block has ended, and where the system does not tell.
    """

    bytes: int | None = None


@contextmanager
def peak_of(device: torch.device) -> Iterator[Peak]:
    """Watch a block: the memory of tensors on a GPU, the resident memory of the process elsewhere.

    Args:
        device: Where the work is done.
    """
    found = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield found
        found.bytes = torch.cuda.max_memory_allocated(device)
        return
    can_forget = _forget()
    yield found
    found.bytes = _highest() if can_forget else None


def _forget() -> bool:
    """Begin anew; whether the system can."""
    try:
        _FORGET.write_text("5")
    except OSError:
        return False
    return True


def _highest() -> int | None:
    """The highest mark since then, in bytes."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith(_MARK):
            return int(line.removeprefix(_MARK).split()[0]) * 1024
    return None
