"""Checkpoints: a nested state as one safetensors file, written whole, the last two kept.

Tensors are the file's tensors; how they are nested, and every number and word beside them, stands
as JSON in its metadata, with the format's version, what the state belongs to, and a digest of all.
A file that was torn or changed is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from trajweight.errors import RunError
from trajweight.files import PART_SUFFIX, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Of the layout; a reader refuses any other.
FORMAT: Final = "1"
#: The last is what one goes on from, the one before it stands in should the last be damaged.
KEPT: Final = 2
_KEY: Final = "trajweight.checkpoint"
_ENDING = ".safetensors"
_AGAIN: Final = "Start the run over into the same folder with --force."


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they stand; made when the first is saved.
        fingerprint: What a state belongs to, by name: settings, inputs, versions. A state of
            another fingerprint is refused.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, str]) -> None:
        """Nothing is read or written yet."""
        self.folder = folder
        self.fingerprint = dict(fingerprint)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state, and remove what is older than the last two.

        Args:
            state: Of dicts with words or whole numbers for keys, lists, tuples, None, booleans,
                numbers, words and tensors.

        Raises:
            TypeError: If something else is in it.
            TrajweightError: If the system refuses the file.
        """
        paths = self._paths()
        number = int(paths[-1].stem) + 1 if paths else 1
        content = packed(state, self.fingerprint)
        write_atomically(self.folder / f"{number:06d}{_ENDING}", content)
        for old in paths[: len(paths) + 1 - KEPT]:
            old.unlink(missing_ok=True)
        for part in self.folder.glob(f".*{_ENDING}.*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)

    def newest(self, say: Callable[[str], None]) -> dict[str, Any] | None:
        """The state of the newest checkpoint that is whole, or None where there is none.

        Args:
            say: Told of every checkpoint that is passed over.

        Raises:
            RunError: If it belongs to other settings, inputs or versions, or is of a format that
                this version does not know.
        """
        for path in reversed(self._paths()):
            try:
                fingerprint, state = unpacked(path)
            except DamagedError as error:
                say(f"checkpoint {path.name} is passed over: it {error}")
                continue
            self._require_same(fingerprint, path)
            return state
        return None

    def _paths(self) -> list[Path]:
        """Oldest first."""
        found = self.folder.glob(f"*{_ENDING}")
        return sorted((path for path in found if path.stem.isdecimal()), key=lambda p: int(p.stem))

    def _require_same(self, found: Mapping[str, str], path: Path) -> None:
        for name in {**found, **self.fingerprint}:
            was, now = found.get(name), self.fingerprint.get(name)
            if was != now:
                message = f"belongs to another run: {name} was {was} and is {now}"
                raise RunError(message, path=path, hint=_AGAIN)


class DamagedError(Exception):
    """A file that is no whole checkpoint."""


def packed(state: Mapping[str, Any], fingerprint: Mapping[str, str]) -> bytes:
    """A state as the bytes of a safetensors file."""
    tensors: dict[str, Tensor] = {}
    facts = {
        "format": FORMAT,
        "fingerprint": dict(fingerprint),
        "structure": _flattened(dict(state), tensors, "state"),
    }
    # One entry: several come in another order each time.
    text = json.dumps({**facts, "digest": _digest(facts, tensors)})
    return save(tensors, metadata={_KEY: text})


def unpacked(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """The fingerprint and the state of a file.

    Raises:
        DamagedError: If the file is not whole.
        RunError: If its format is one that this version does not know.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})[_KEY])
            # Copies: the tensors of an open file live as long as the file is mapped.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            version, digest = facts["format"], facts.pop("digest")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        message = f"cannot be read: {error}"
        raise DamagedError(message) from error
    if version != FORMAT:
        message = f"is a checkpoint of format {version}; this trajweight reads {FORMAT}"
        raise RunError(message, path=path, hint=f"Use the other version. {_AGAIN}")
    if digest != _digest(facts, tensors):
        message = "was changed after it was written"
        raise DamagedError(message)
    return facts["fingerprint"], _nested(facts["structure"], tensors)


def _digest(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything, in hex."""
    found = hashlib.sha256(f"{json.dumps(facts)}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _flattened(value: Any, tensors: dict[str, Tensor], place: str) -> Any:
    """A value as JSON; its tensors are put among ``tensors``, and their names stand for them.

    None, booleans, whole numbers, words and lists are themselves; all else is an object with one
    key that says what it is. Other numbers are written in hex, which keeps every bit.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, Tensor):
        name = f"{len(tensors):06d}"
        # A copy: two names may not share memory, as the views of one tensor do.
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name, "device": str(value.device)}
    if isinstance(value, list | tuple):
        parts = [_flattened(each, tensors, f"{place}[{i}]") for i, each in enumerate(value)]
        return parts if isinstance(value, list) else {"tuple": parts}
    if isinstance(value, dict) and all(type(key) in (int, str) for key in value):
        return {
            "dict": [
                [key, _flattened(each, tensors, f"{place}[{key!r}]")] for key, each in value.items()
            ]
        }
    message = f"{place} is a {type(value).__name__}, which a checkpoint cannot hold"
    raise TypeError(message)


def _nested(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The reverse of `_flattened`; each tensor comes back to the device where it lay."""
    if isinstance(value, list):
        return [_nested(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]].to(value["device"])
    if "float" in value:
        return float.fromhex(value["float"])
    if "tuple" in value:
        return tuple(_nested(each, tensors) for each in value["tuple"])
    return {key: _nested(each, tensors) for key, each in value["dict"]}
