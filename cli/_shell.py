"""The one place where whatever ends a command becomes lines on stderr and an exit code.

0 ok, 1 failed, 2 usage, 3 input, 4 gate, 5 missing model or package, 130 and 143 interrupted by
SIGINT (Ctrl-C) and SIGTERM. A traceback is shown only with ``--debug`` or TRAJWEIGHT_DEBUG=1, and
never with the values of variables, which may be private data.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

from trajweight.analysis.excerpts import inert
from trajweight.cli._console import Surface
from trajweight.cli._signals import heeding_signals
from trajweight.errors import TrajweightError
from trajweight.interruption import Interrupted
from trajweight.processes import launched

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED: Final = 130
EXIT_CODES: Final = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 input could not be used, 4 a gate did not hold, "
    "5 a model or package is missing, 130 or 143 interrupted by SIGINT (Ctrl-C) or SIGTERM."
)
#: Keys under which a command finds what it needs in the context.
ARGV, SURFACE = "trajweight.argv", "trajweight.surface"
INTERRUPTION = "trajweight.interruption"
#: Codes of errors that one of several processes can have while the others have none.
_ONES_OWN: Final = ("internal", "memory", "system")
#: Time for the first of several processes to tell an error that all of them have.
_LAST_WORD_S: Final = 2.0


class Shell(TyperGroup):
    """The program: as typer runs it, but with our own ends."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit; without ``standalone_mode`` as typer does it."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        typed = sys.argv[1:] if args is None else list(args)
        if args is None and not sys.warnoptions and not _is_debugging(typed):
            warnings.simplefilter("ignore")  # ours go through Progress; others' name their code
        shared: dict[str, Any] = {ARGV: ("trajweight", *typed)}
        try:
            with heeding_signals() as shared[INTERRUPTION]:
                ended = super().main(
                    args, prog_name, complete_var, False, windows_expand_args, obj=shared, **extra
                )
                sys.stdout and sys.stdout.flush()
            if ended == INTERRUPTED:  # what typer makes of Ctrl-C
                raise KeyboardInterrupt
        except (Exception, KeyboardInterrupt, Interrupted) as error:  # noqa: BLE001 - the last stop
            if isinstance(error, BrokenPipeError):
                _silence_stdout()
                sys.exit(1)
            surface = shared.get(SURFACE) or _surface_of(typed, tuple(self.commands))
            sys.exit(_tell(error, surface, is_debugging=_is_debugging(typed)))
        sys.exit(ended if isinstance(ended, int) else 0)


@dataclass(frozen=True, slots=True)
class _End:
    """How an error is told.

    Attributes:
        message: What failed.
        hint: What to do next; may be empty.
        code: The stable name.
        exit_code: What the shell sees.
    """

    message: str
    hint: str
    code: str
    exit_code: int


def _tell(error: BaseException, surface: Surface, *, is_debugging: bool) -> int:
    """Show an error; gives back the exit code.

    Of several processes the first speaks; another tells what befell it alone.
    """
    end = _end_of(error, surface)
    if not surface.is_heard and end.code in _ONES_OWN:
        end = replace(end, message=f"process {launched().number}: {end.message}")
        surface = Surface(surface.command)
    elif not surface.is_heard:
        time.sleep(_LAST_WORD_S)  # a launcher ends the others as soon as one has ended
    if is_debugging:
        surface.err.file.write("".join(traceback.format_exception(error)))
    surface.fail(end.message, hint=end.hint, code=end.code, exit_code=end.exit_code)
    try:
        surface.out.file.flush()
    except BrokenPipeError:
        _silence_stdout()
    return end.exit_code


def _end_of(error: BaseException, surface: Surface) -> _End:
    """The sentence, the hint and the codes of an error."""
    match error:
        case TrajweightError():
            return _End(error.message, error.hint, error.code, error.exit_code)
        case Interrupted():
            return _End("interrupted", _left(surface), "interrupted", error.exit_code)
        case KeyboardInterrupt() | typer.Abort():
            return _End("interrupted", _left(surface), "interrupted", INTERRUPTED)
        case typer.TyperException():
            return _End(error.format_message(), _usage_hint(error), "usage", error.exit_code)
        case OSError():
            return _End(_refusal(error, surface), "", "system", 1)
        case MemoryError():
            return _out_of_memory("the machine has no memory left")
    if type(error).__name__ == "OutOfMemoryError":  # torch's; torch is not imported here
        return _out_of_memory("the device has no memory left")
    message = f"internal error: {type(error).__name__}: {inert(str(error), limit=400)}"
    hint = "This is a fault in trajweight. Run the same command with --debug and report the text."
    return _End(message, hint, "internal", 1)


def _left(surface: Surface) -> str:
    """What to do about the run folder of a command that was interrupted."""
    if surface.folder is None or not (surface.folder / "manifest.json").is_file():
        return ""  # nothing has begun there
    if surface.can_resume:
        folder = shlex.quote(str(surface.folder))
        return f"Go on with: trajweight {surface.command} --resume {folder}"
    return f"{surface.folder} is not finished; --force starts it over."


def _out_of_memory(message: str) -> _End:
    """What helps against too little memory."""
    return _End(message, "Try a lower --max-tokens or --batch-size.", "memory", 1)


def _refusal(error: OSError, surface: Surface) -> str:
    """What the system refused, with the path; a full disk names none, then the run folder is it."""
    place = error.filename if error.filename is not None else surface.folder
    why = error.strerror or str(error) or type(error).__name__
    if isinstance(place, bytes):
        place = os.fsdecode(place)
    return why if place is None else f"{place}: {why}"


def _usage_hint(error: typer.TyperException) -> str:
    """Which help to read."""
    context = getattr(error, "ctx", None)
    path = "trajweight" if context is None else context.command_path
    return f"Try '{path} --help'."


def _surface_of(typed: Sequence[str], commands: Sequence[str]) -> Surface:
    """Where to speak when the command line could not be read."""
    words = list(takewhile(lambda word: word != "--", typed))
    command = next((word for word in words if word in commands), "")
    is_heard = launched().is_main
    return Surface(command, as_json="--json" in words, quiet="--quiet" in words, is_heard=is_heard)


def _is_debugging(typed: Sequence[str]) -> bool:
    """Whether tracebacks are wanted."""
    words = takewhile(lambda word: word != "--", typed)
    return "--debug" in words or os.environ.get("TRAJWEIGHT_DEBUG", "0") not in ("", "0")


def _silence_stdout() -> None:
    """Nobody reads stdout any more; what is still buffered must not fail at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):  # no real stdout
        return
    finally:
        os.close(nowhere)
