"""Where one command speaks: results on stdout, everything else on stderr, data always inert.

With ``--json`` stdout carries one object and nothing else. With ``--quiet`` stderr carries
warnings and errors only.
"""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from trajweight.manifest import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import TextIO


#: Width of text that goes to a file.
FILE_WIDTH: Final = 80


class Surface:
    """What one command may say, and what it has said so far.

    Attributes:
        command: Name of the command; empty for the program itself.
        as_json: Whether stdout carries one JSON object.
        quiet: Whether stderr carries warnings and errors only.
        warnings: What was warned of, in order, each once.
        notes: What was said along the way, in order.
        folder: The run folder being written; names the place when the disk refuses.
        can_resume: Whether the command can go on with that run when it is interrupted.
        is_heard: Whether what is said goes anywhere; of several processes only the first is heard.
    """

    def __init__(
        self, command: str, *, as_json: bool = False, quiet: bool = False, is_heard: bool = True
    ) -> None:
        """Bind to the stdout and stderr of this moment."""
        self.command = command
        self.as_json = as_json
        self.quiet = quiet
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.folder: Path | None = None
        self.can_resume = False
        self.is_heard = is_heard
        self.out = console() if is_heard else console(file=io.StringIO())
        self.err = console(stderr=True) if is_heard else console(file=io.StringIO())

    def say(self, text: str) -> None:
        """A sentence about what was decided or found, on stderr."""
        self.notes.append(text)
        if not self.quiet:
            self._tell(visible(text), style="dim")

    def warn(self, text: str) -> None:
        """A sentence the user should not miss, on stderr."""
        if text not in self.warnings:
            self.warnings.append(text)
            self._tell(visible(text), prefix="warning: ", style="yellow")

    def adopt(self, warnings: Iterable[str]) -> None:
        """Take over warnings that the result itself tells, so that ``--json`` lists them too."""
        self.warnings += [text for text in warnings if text not in self.warnings]

    def stage(self, text: str) -> None:
        """A line on the course of the work, on stderr."""
        if not self.quiet:
            self._tell(visible(text), style="dim")

    def print(self, text: str = "") -> None:
        """A line of the result, on stdout; nothing with ``--json``."""
        if not self.as_json:
            self.out.print(Text(visible(text)), soft_wrap=True)

    def finish(self, **facts: Any) -> None:
        """Print the JSON object of a command that ended well; nothing without ``--json``.

        Args:
            **facts: See `envelope`.
        """
        if self.as_json:
            self.emit(self.envelope("ok", **facts))

    def fail(self, message: str, *, hint: str, code: str, exit_code: int) -> None:
        """Tell an error: red lines on stderr, or the JSON object on stdout."""
        if self.as_json:
            facts = {"code": code, "message": message, "hint": hint, "exit_code": exit_code}
            self.emit(self.envelope("error", **facts))
            return
        self._tell(visible(message), prefix="error: ", style="bold red")
        for line in hint.splitlines():
            self._tell(f"  {visible(line)}")

    def envelope(self, status: str, **facts: Any) -> dict[str, Any]:
        """The one object of ``--json``, with the same keys first for all commands.

        Args:
            status: ok or error.
            **facts: ``inputs`` (a list of paths), ``outputs`` (what was made to its path),
                ``metrics`` (name to number), and what else the command has to tell.
        """
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "status": status,
            "inputs": [],
            "outputs": {},
            "metrics": {},
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            **facts,
        }

    def emit(self, facts: Mapping[str, Any]) -> None:
        """Print an object as JSON, on stdout."""
        self.out.file.write(as_json_text(facts))

    def _tell(self, text: str, *, prefix: str = "", style: str = "") -> None:
        """One line on stderr, above the bar where there is one; only the prefix has a colour."""
        line = Text.assemble((prefix, style), text) if prefix else Text(text, style=style)
        self.err.print(line, soft_wrap=True)


def console(*, stderr: bool = False, file: TextIO | None = None) -> Console:
    """A console that acts upon nothing in what it prints: no markup, no emoji, no guessing."""
    width = FILE_WIDTH if file else None
    return Console(
        stderr=stderr, file=file, width=width, markup=False, emoji=False, highlight=False
    )


def text_file() -> tuple[Console, io.StringIO]:
    """A console whose text goes to a file: no colour, a fixed width."""
    stream = io.StringIO()
    written = Console(
        file=stream, width=FILE_WIDTH, color_system=None, markup=False, emoji=False, highlight=False
    )
    return written, stream


def as_json_text(facts: Mapping[str, Any]) -> str:
    """An object as indented JSON that any terminal, locale and parser can take.

    The standard library writes it because it can escape all that is not ASCII; a control
    character of the data then does nothing. Numbers that are not finite become null, paths text.
    """
    text = json.dumps(_finite(facts), indent=2, ensure_ascii=True, allow_nan=False, default=str)
    return f"{text}\n"


def visible(text: str) -> str:
    r"""Text whose control and invisible characters are written out; spaces stay as they are.

    Example:
        >>> visible("a  b\x1b[31m\n")
        'a  b\\x1b[31m\\n'
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _finite(value: Any) -> Any:
    """The same value with None for every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
