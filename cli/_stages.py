"""The stages of long work on stderr: a bar on a terminal, else a plain line at start and end."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from trajweight.cli._console import visible
from trajweight.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from trajweight.cli._console import Surface

#: Seconds between two updates of the bar; the library may advance once a line of a large file.
_INTERVAL: Final = 0.1


@contextmanager
def watching(surface: Surface, folder: Path, *, can_resume: bool = False) -> Iterator[Progress]:
    """A progress to hand to the library; its bar is gone when the block ends, however.

    Args:
        surface: Where to show it.
        folder: What the work writes; it is named when the disk refuses or the user interrupts.
        can_resume: Whether the command can go on with it after that.
    """
    surface.folder, surface.can_resume = folder, can_resume
    stages = Stages(surface)
    try:
        yield stages
    finally:
        stages.stop()
    surface.folder = None


class Stages(Progress):
    """Shows one stage at a time, and how long each took."""

    def __init__(self, surface: Surface) -> None:
        """Show on the stderr of ``surface``."""
        self._surface = surface
        # FORCE_COLOR makes rich call a pipe a terminal; a bar belongs on a real one only
        is_tty = surface.err.is_interactive and surface.err.file.isatty()
        self._bars = _bars(surface) if is_tty and not surface.quiet else None
        self._task: TaskID | None = None
        self._stage = ""
        self._done = self._unseen = 0
        self._began = self._shown = 0.0

    def start(self, stage: str, total: int | None = None) -> None:
        """A stage begins; one still open is closed."""
        if self._stage:
            self.finish()
        self._stage, self._done, self._unseen = stage, 0, 0
        self._began = self._shown = time.monotonic()
        if self._bars is None:
            self._surface.stage(f"{stage} ..." if total is None else f"{stage} ({total}) ...")
            return
        self._task = self._bars.add_task(visible(stage), total=total, facts="")
        self._bars.start()

    def advance(self, units: int = 1, **facts: float) -> None:
        """Some units are done; facts stand beside the bar."""
        self._done += units
        self._unseen += units
        now = time.monotonic()
        if self._bars is None or self._task is None or now - self._shown < _INTERVAL:
            return
        self._bars.update(self._task, advance=self._unseen)
        if facts:
            told = "  ".join(_told(name, value) for name, value in facts.items())
            self._bars.update(self._task, facts=told)
        self._shown, self._unseen = now, 0

    def finish(self) -> None:
        """The stage is over: its bar goes, its time stays."""
        if not self._stage:
            return
        stage, seconds = self._stage, time.monotonic() - self._began
        self.stop()
        count = f" ({self._done})" if self._done > 1 else ""
        self._surface.stage(f"{stage}{count}: {seconds:.1f} s")

    def stop(self) -> None:
        """Take the bar away, whether the stage is over or was interrupted."""
        self._stage = ""
        if self._bars is not None:
            self._bars.stop()
            if self._task is not None:
                self._bars.remove_task(self._task)
        self._task = None

    def say(self, text: str) -> None:
        """A sentence about what was decided or found."""
        self._surface.say(text)

    def warn(self, text: str) -> None:
        """A sentence the user should not miss."""
        self._surface.warn(text)


def _bars(surface: Surface) -> Bars:
    """The bar with its columns; it is drawn only between start and stop."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    facts = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", markup=False, style="dim", table_column=facts),
        console=surface.err,
        transient=True,
        redirect_stdout=False,  # stdout is for results, and none is printed under a bar
        refresh_per_second=8,
        expand=True,
    )


def _told(name: str, value: float) -> str:
    """A number with its name, short enough to stand beside a bar."""
    return f"{visible(name).replace('_', ' ')} {value:.4g}"
