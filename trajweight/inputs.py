"""The files that a command reads: found before any work, and held to be the same when it goes on.

Their hashes are known when they were read, since they are hashed on the way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trajweight.containers import STDIN, facts_of, sources_of
from trajweight.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trajweight.config import DataConfig

_START_OVER: Final = "Start over into the same folder with --force."


def inputs_of(data: DataConfig) -> list[dict[str, Any]]:
    """Every file to read by its name and size, each once; the hash only of indexes.

    Raises:
        DataError: If a name stands for nothing, or for a file of a kind that is not read.
    """
    facts: dict[Path, dict[str, Any]] = {}
    for name in dict.fromkeys((*data.paths, *data.validation_paths)):
        found = sources_of(Path(name))
        for index in found.indexes:
            facts.setdefault(index.resolve(), facts_of(index))
        for source in found.sources:
            if not source.comes_once:
                _ = source.container  # what is not read is told now, before anything is written
            facts.setdefault(source.path.resolve(), source.facts())
    return list(facts.values())


def require_outside(inputs: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """See that no file to read lies in the folder that is written to.

    Raises:
        ConfigError: If one does.
    """
    for each in inputs:
        path = Path(each["path"])
        if path != STDIN and path.resolve().parent == folder.resolve():
            message = f"the input {path} lies in the run folder {folder}"
            raise ConfigError(message, hint="Give another --out.")


def require_unchanged(told: Sequence[Mapping[str, Any]], data: DataConfig) -> None:
    """See that the files to read are those that a manifest tells of.

    Raises:
        DataError: If one is gone.
        RunError: If one is another than it was, or came and cannot come again.
    """
    for was in told:
        _require_same(was)
    names = {each["path"] for each in told}
    if new := [each["path"] for each in inputs_of(data) if each["path"] not in names]:
        message = "was not there when the run began, and would be read now"
        raise RunError(message, path=new[0], hint=f"Move it away. Or: {_START_OVER}")


def names_of_held(data: DataConfig, inputs: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The names under which the files were read whose rows are held out."""
    held = {
        source.path.resolve()
        for name in dict.fromkeys(data.validation_paths)
        for source in sources_of(Path(name)).sources
    }
    return frozenset(each["path"] for each in inputs if Path(each["path"]).resolve() in held)


def _require_same(was: Mapping[str, Any]) -> None:
    path = Path(was["path"])
    if path == STDIN or (path.exists() and not path.is_file()):
        what = "standard input" if path == STDIN else "a pipe"
        message = (
            f"was read from {what}, which does not come again, so the run cannot be gone on with"
        )
        raise RunError(
            message, path=path, hint=f"Save it to a file and begin with that. {_START_OVER}"
        )
    if not path.is_file():
        hint = "Go on in the working folder where the run was begun, or put the file back."
        message = "does not exist"
        raise DataError(message, path=path, hint=hint)
    # Where it was not read to its end nothing has come of it, and it is read again.
    is_now = facts_of(path)["sha256"] if was["sha256"] else None
    if is_now != was["sha256"]:
        message = (
            f"is not what it was when the run began: its SHA-256 was {was['sha256']} and is "
            f"{is_now}"
        )
        raise RunError(message, path=path, hint=f"Put the old file back. Or: {_START_OVER}")
