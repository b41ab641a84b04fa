"""How far learning has come, so that it can go on from there after any interruption.

What is cheap or the same every time (reading, splitting, tokens, the frozen pass, features) is not
kept: it is done again. The warm-ups, the finished searches and the one that is open are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trajweight.interruption import Interruption
from trajweight.processes import ALONE, Processes

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.bilevel import Course, Learned, Search
    from trajweight.checkpoint import Checkpoints


@dataclass
class Journal:
    """What has been learned so far; kept in checkpoints where there are any.

    Attributes:
        checkpoints: Where it is kept; None keeps it in memory only.
        interruption: Whether the work was asked to end; the loop ends between two steps.
        every: Outer steps between two checkpoints.
        warm: What each warm-up left, in order. Where a search began is forgotten when it has ended,
            but for the first: the contest begins there too.
        searches: What each finished search left.
        told: The numbers of every outer step, in order.
        processes: Those that do the same work; all end between the same two steps.
    """

    checkpoints: Checkpoints | None = None
    interruption: Interruption = field(default_factory=Interruption)
    every: int = 1
    warm: list[dict[str, Any]] = field(default_factory=list)
    searches: list[dict[str, Any]] = field(default_factory=list)
    told: list[dict[str, float]] = field(default_factory=list)
    processes: Processes = ALONE
    _open: dict[str, Any] | None = None
    _saved_at: int = 0

    def reopen(self, say: Callable[[str], None]) -> None:
        """Go back to the newest checkpoint; without one nothing has been learned yet.

        Args:
            say: Told where the work goes on, and which checkpoints are passed over.

        Raises:
            RunError: If the checkpoint belongs to other settings, inputs or versions.
        """
        found = None if self.checkpoints is None else self.checkpoints.newest(say)
        if found is None:
            return
        self.warm, self.searches = found["warm"], found["searches"]
        self._open, self.told = found["open"], found["told"]
        where = f"outer step {len(self.told)}" if self.told else "the warm-up"
        if self.told and len(self.warm) > max(len(self.searches), 1) and self._open is None:
            where = f"warm-up {len(self.warm)}"
        say(f"going on from the checkpoint after {where}")

    def end_warm_up(self, left: dict[str, Any]) -> None:
        """A warm-up is over; ``left`` is kept."""
        self.warm.append(left)
        self._save(None)

    def resume(self, search: Search) -> None:
        """Bring a search to where it was left, if it was left in its midst."""
        state, self._open = self._open, None
        if state is not None:
            search.restore(state)
        self._saved_at = search.outer.steps

    def tell(self, facts: dict[str, float]) -> None:
        """Keep the numbers of an outer step."""
        self.told.append(facts)

    def between(self, search: Search) -> None:
        """Save the open search when it is time to, and end where that was asked for.

        Raises:
            Interrupted: If it was; the search is saved.
        """
        # Read once: a signal may come at any line, and then waits for the next step.
        asked = self.processes.largest(self.interruption.signal)
        is_due = search.outer.steps >= self._saved_at + self.every
        if asked or (is_due and not search.stopped_because):
            self._saved_at = search.outer.steps
            self._save(search.state())
        if asked:
            self.interruption.signal = asked  # perhaps that of another process
            self.interruption.heed()

    def end_search(self, learned: Learned, course: Course | None = None) -> None:
        """A search is over; its last head is kept, and where it ended if that is given."""
        for left in self.warm[1:]:
            left.pop("start", None)
        self.searches.append(
            {
                "head": dict(learned.head.state_dict()),
                "steps": learned.steps,
                "stopped_because": learned.stopped_because,
                "course": course and {"theta": course.theta, "direction": course.direction},
            }
        )
        self._save(None)

    def _save(self, search: dict[str, Any] | None) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(
                {"warm": self.warm, "searches": self.searches, "open": search, "told": self.told}
            )
