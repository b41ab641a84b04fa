"""The command line for tests: run it in this process, look at what it said, give it data."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from tests.runs import row
from trajweight.cli.main import app

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import typer

#: Settings with which learning takes a second or two; what it finds is worth nothing.
QUICK = """
[model]
model = "tiny"
[inner]
real_steps = 1
warmup_steps = 2
[estimator]
every = 1
[outer]
min_steps = 1
max_steps = 2
contest_steps = 1
"""


@dataclass(frozen=True)
class Said:
    """What a command said.

    Attributes:
        code: The exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def object(self) -> dict[str, Any]:
        """The one JSON object of stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def call(*args: object, program: typer.Typer = app, env: dict[str, str] | None = None) -> Said:
    """Run a command line and expect it to end in an orderly way."""
    result = CliRunner().invoke(program, [str(arg) for arg in args], env=env)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    return path


def babble(name: str, *, source: str = "good", words: int = 12, **more: Any) -> dict[str, Any]:
    """A row unlike all others, so that none counts as a copy; the same name gives the same row."""
    rng = random.Random(name)
    spoken = ["".join(rng.choices("aeioubdgklmnrst", k=5)) for _ in range(words)]
    asked = " ".join("".join(rng.choices("aeioubdgklmnrst", k=5)) for _ in range(words))
    found = row(name, source=source, text=" ".join(spoken), task_id=name, **more)
    found["messages"][0]["content"] = asked
    return found
