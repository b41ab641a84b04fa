"""Every error the tool raises on purpose, with the exit code a shell sees.

    TrajweightError            1  something failed while running
    ├── ConfigError            2  an option or a setting cannot be used
    ├── DataError              3  input could not be understood or validated
    │   ├── TemplateError      3  a chat template gives no trustworthy assistant mask
    │   └── RunError           3  a folder is not a run, or a run lacks what was asked of it
    ├── GateError              4  the work was done, but a gate the user set did not hold
    ├── MissingError           5  a model or an optional package is not there
    └── DivergenceError        1  training left the finite numbers

A message says where, what with the value found, and how to mend it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class TrajweightError(Exception):
    """Base of the tree: a sentence on what failed, and a hint that mends it.

    Attributes:
        hint: What the user can do next; may be empty.
        exit_code: The code the command line ends with.
        code: A stable name for scripts, shown in ``--json`` output.
    """

    exit_code: int = 1
    code: str = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Keep the message and the hint apart, so that each surface can lay them out."""
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message, then the hint on a line of its own."""
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class ConfigError(TrajweightError):
    """An option or a setting cannot be used."""

    exit_code = 2
    code = "config"


class DataError(TrajweightError):
    """Input could not be understood; the message begins with ``path:line`` where known."""

    exit_code = 3
    code = "data"

    def __init__(
        self,
        message: str,
        *,
        path: Path | str | None = None,
        line: int | None = None,
        hint: str = "",
    ) -> None:
        """Put the place before the message; ``line`` counts from 1."""
        place = ":".join(str(part) for part in (path, line) if part is not None)
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.path = path
        self.line = line


class TemplateError(DataError):
    """A chat template gives no assistant mask that can be trusted."""

    code = "template"


class RunError(DataError):
    """A folder is not a run, or a run lacks what was asked of it."""

    code = "run"


class GateError(TrajweightError):
    """The work was done, but a gate the user set did not hold."""

    exit_code = 4
    code = "gate"


class MissingError(TrajweightError):
    """A model or an optional package is not there; the hint says how to get it."""

    exit_code = 5
    code = "missing"


class DivergenceError(TrajweightError):
    """Training left the finite numbers.

    Attributes:
        rows: Positions of the rows it happened on.
    """

    code = "divergence"

    def __init__(self, message: str, *, rows: Sequence[int] = (), hint: str = "") -> None:
        """Keep the rows, so that who knows their names can tell them."""
        super().__init__(message, hint=hint)
        self.rows = tuple(rows)
