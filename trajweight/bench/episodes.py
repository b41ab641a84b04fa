"""An episode that was played, and the row of a data file that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Episode:
    """One game, played to its end or broken off.

    Attributes:
        environment: Name of the environment.
        task: Id of the task.
        instruction: The system message.
        observations: What the player was told, the first before any reply; one more than the
            replies unless nobody answered the last.
        replies: What the player said.
        score: The return, from 0 to 1.
        succeeded: Whether the goal was reached.
        n_invalid: Replies without an action, or with one that the environment did not offer where
            it lists them.
    """

    environment: str
    task: str
    instruction: str
    observations: tuple[str, ...]
    replies: tuple[str, ...]
    score: float
    succeeded: bool
    n_invalid: int = 0

    @property
    def messages(self) -> list[dict[str, str]]:
        """As chat messages, ending with the player's last reply."""
        found = [{"role": "system", "content": self.instruction}]
        for observation, reply in zip(self.observations, self.replies, strict=False):
            found.append({"role": "user", "content": observation})
            found.append({"role": "assistant", "content": reply})
        return found


@dataclass(frozen=True, slots=True)
class Planted:
    """A row of the pool, with the truth that training never reads.

    Attributes:
        traj_id: Unique in the pool.
        kind: Of the trajectory: expert, or the name of a corruption.
        origin: real or synthetic.
        is_good: Whether it is worth imitating; None where that can be answered in two ways, as for
            an episode cut half way.
        reward: What the row claims as its return; None where it claims nothing.
        task: Id of the task.
        messages: The chat.
        source: Who is said to have made it; makers mix kinds, so it tells something and not all.
    """

    traj_id: str
    kind: str
    origin: str
    is_good: bool | None
    reward: float | None
    task: str
    messages: tuple[dict[str, str], ...]
    source: str = ""

    def as_row(self) -> dict[str, Any]:
        """The line of a data file; ``quality`` and ``kind`` are for the judge alone."""
        return {
            "id": self.traj_id,
            "source": self.source or self.kind,
            "origin": self.origin,
            "task_id": self.task,
            "reward": self.reward,
            "quality": None if self.is_good is None else float(self.is_good),
            "kind": self.kind,
            "messages": list(self.messages),
        }
