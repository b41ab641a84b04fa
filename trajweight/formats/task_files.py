"""Files of tasks, which hold no trajectory: known so that they can be told from broken ones."""

from __future__ import annotations

from typing import Any, NoReturn

from trajweight.formats.protocol import Format, Item, UnusableError


class BfclTasks(Format):
    """Tasks and reference answers of the Berkeley Function Calling Leaderboard."""

    name = "bfcl-tasks"
    title = "BFCL task files"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A task has a question and its setting; a reference has a ground truth and an id."""
        if isinstance(value, dict) and isinstance(value.get("id"), str):
            is_task = "question" in value and {"initial_config", "function"} & value.keys()
            if is_task or value.keys() == {"id", "ground_truth"}:
                return ()
        return ("a question with initial_config or function", "or an id and a ground_truth alone")

    def canonical(self, item: Item) -> NoReturn:
        """Nothing can be made of a task.

        Raises:
            UnusableError: Always.
        """
        what = "reference answers" if "ground_truth" in item.value else "questions"
        reason = (
            f"no trajectories here: a BFCL task file holds {what}, and nothing that a model said; "
            "pass the files that the models wrote"
        )
        raise UnusableError(reason)
