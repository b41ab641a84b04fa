"""How long work tells a watcher what it does, without knowing who watches."""

from __future__ import annotations


class Progress:
    """The silent watcher; surfaces such as the command line override what they show.

    One stage runs at a time: ``start``, any number of ``advance``, ``finish``.
    """

    def start(self, stage: str, total: int | None = None) -> None:
        """A stage begins; ``total`` counts the units that ``advance`` will report."""

    def advance(self, units: int = 1, **facts: float) -> None:
        """Some units are done; ``facts`` are numbers worth showing beside the bar."""

    def finish(self) -> None:
        """The stage is over."""

    def say(self, text: str) -> None:
        """A sentence about what was decided or found."""

    def warn(self, text: str) -> None:
        """A sentence the user should not miss; the work goes on."""
