"""From what the user named to the files that are read: files, folders, patterns, standard input.

A folder gives every file of a known ending in it and below it, in the order of their names. What is
left out is told. Some folders are read as one thing, by an index that lies in them:

    state.json + dataset_info.json    a dataset that `datasets` saved
    dataset_dict.json                 several of them, one a split
    dataset_info.json                 a data folder of LLaMA-Factory, with hints for each file
    results.json + simulations/       the results of tau2-bench, one file a simulation
    manifest.json of ours             a run; it is not read
"""

from __future__ import annotations

import glob
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trajweight.errors import DataError
from trajweight.jsontext import NotJsonError, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Standard input, as the user names it.
STDIN: Final = Path("-")
#: Endings by which files of a folder are taken; what they hold is seen from their bytes.
ENDINGS: Final = frozenset(
    {".jsonl", ".ndjson", ".json", ".traj", ".parquet", ".arrow", ".feather", ".ipc", ".eval"}
)
#: Endings of packed files, after another ending.
PACKED_ENDINGS: Final = frozenset({".gz", ".bz2", ".xz", ".zst"})
#: Files that say something of others, and hold no trajectories.
_INDEXES: Final = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
)
_INDEX_LIMIT: Final = 256 << 20
#: So many names are told of a kind of file that is left out.
_NAMES_TOLD: Final = 20
#: Where an entry of LLaMA-Factory may say that its rows are, other than in a file.
_ELSEWHERE: Final = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


@dataclass(frozen=True, slots=True)
class Found:
    """One file to read.

    Attributes:
        path: The file, below what the user named.
        hints: What an index beside the file says of it.
        within: The folder or pattern it was found by; None where the user named it.
        envelope: What goes around its one value, as a document whose list ``simulations`` it is
            the only member of; None for nothing.
    """

    path: Path
    hints: Mapping[str, Any] = field(default_factory=dict)
    within: Path | None = None
    envelope: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Finding:
    """All that one name of the user stands for.

    Attributes:
        files: The files to read, in order.
        indexes: Files that were read to find them.
        notes: What is left out, and why.
    """

    files: list[Found] = field(default_factory=list)
    indexes: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find(path: Path) -> Finding:
    """The files that a name stands for: a file, a folder, a pattern, or standard input.

    Raises:
        DataError: If there is nothing of that name, or nothing in it that can be read.
    """
    if path == STDIN:
        return Finding([Found(path)])
    try:
        return _found(path)
    except OSError as error:  # no permission to look, a name that is too long
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path, hint="Check the path.") from error


def is_run(folder: Path) -> bool:
    """Whether a folder is a run of this tool."""
    index = folder / "manifest.json"
    return index.is_file() and _object_in(index).get("tool") == "trajweight"


def stem_of(path: Path) -> str:
    """What rows of a file are named after where they have no name: its name without endings."""
    if path == STDIN:
        return "stdin"
    while path.suffix in ENDINGS | PACKED_ENDINGS and path.stem:
        path = path.with_suffix("")
    return path.name


def _found(path: Path) -> Finding:
    if path.is_dir():
        search = _Search(path)
        search.root(path)
    elif path.exists():
        search = _Search(None)
        search.file(path)
    elif path.is_symlink():
        message = f"is a link to {path.readlink()}, which does not exist"
        raise DataError(message, path=path, hint="Mend the link, or pass another file.")
    elif glob.has_magic(str(path)):
        search = _Search(path)
        search.pattern(path)
    else:
        message = "no such file"
        hint = "Check the path; it is taken from the current folder."
        raise DataError(message, path=path, hint=hint)
    search.tell_skipped(path)
    finding = search.finding
    if not finding.files:
        message = f"holds no file to read{''.join(f'; {note}' for note in finding.notes)}"
        hint = f"Files of these endings are read: {', '.join(sorted(ENDINGS))}."
        raise DataError(message, path=path, hint=hint)
    return finding


class _Search:
    """Goes through what one name stands for."""

    def __init__(self, within: Path | None) -> None:
        self.finding, self.within = Finding(), within
        self.seen: set[Path] = set()
        self.skipped: dict[str, list[Path]] = {}

    def file(self, path: Path) -> None:
        """A file that the user named, or that a pattern found."""
        if path.name == "dataset_info.json" and (entries := _llama_factory_entries(path)):
            self._llama_factory(path, entries)
        elif path.name == "results.json" and (envelope := _tau2_envelope(path.parent)) is not None:
            self._tau2(path.parent, envelope)
        else:
            self._take(path)

    def root(self, path: Path) -> None:
        """A folder that the user named.

        Raises:
            DataError: If it is a run of ours.
        """
        if is_run(path):
            message = "is a run of trajweight, whose rows were read before"
            raise DataError(message, path=path, hint="Pass the files that the run was made from.")
        self._folder(path)

    def pattern(self, pattern: Path) -> None:
        """What a pattern finds; files of other endings only where it finds no others.

        Raises:
            DataError: If it finds nothing.
        """
        # Path.glob would find hidden files as well.
        names = glob.glob(str(pattern), recursive=True)  # noqa: PTH207
        paths = [Path(name) for name in sorted(names)]
        if not paths:
            message = "no file has a name like this"
            raise DataError(message, path=pattern, hint="Check the pattern and the current folder.")
        has_known = any(_is_known(path) for path in paths)
        for path in paths:
            if path.is_dir():
                self._folder(path)
            elif not path.exists():
                self._skip(path, "links to nowhere")
            elif has_known and not _is_known(path):
                self._skip(path, "of other endings")
            else:
                self.file(path)

    def _folder(self, path: Path) -> None:
        real = path.resolve()
        if real in self.seen:  # links may lead round in a circle
            return
        self.seen.add(real)
        index = path / "dataset_info.json"
        if is_run(path):
            self._skip(path, "runs of trajweight")
        elif (path / "dataset_dict.json").is_file():
            self._dataset_dict(path)
        elif (path / "state.json").is_file() and index.is_file():
            self._dataset(path)
        elif entries := _llama_factory_entries(index):
            self._llama_factory(index, entries)
            self._skip_others(path, "not named in dataset_info.json")
        elif (envelope := _tau2_envelope(path)) is not None:
            self._tau2(path, envelope)
            self._skip_others(path, "not among the simulations")
        else:
            self._plain_folder(path)

    def _plain_folder(self, path: Path) -> None:
        for entry in _entries(path):
            if entry.name.startswith("."):
                self._skip(entry, "hidden")
            elif entry.is_dir():
                self._folder(entry)
            elif not entry.is_file():
                is_link = entry.is_symlink()
                self._skip(entry, "links to nowhere" if is_link else "neither files nor folders")
            elif entry.name in _INDEXES:
                self._skip(entry, "indexes that hold no rows")
            elif not _is_known(entry):
                self._skip(entry, "of other endings")
            else:
                self._take(entry)

    def _take(self, path: Path, **more: Any) -> None:
        real = path.resolve()
        if real in self.seen:
            if more:
                self.finding.notes.append(f"{path}: named more than once; read once")
            return
        self.seen.add(real)
        self.finding.files.append(Found(path, within=self.within, **more))

    def _dataset_dict(self, path: Path) -> None:
        index = path / "dataset_dict.json"
        self.finding.indexes.append(index)
        splits = _object_in(index).get("splits")
        if not isinstance(splits, list) or not all(_is_plain_name(name) for name in splits):
            message = "names no splits"
            raise DataError(message, path=index, hint=_SAVE_AGAIN)
        for name in splits:
            self._dataset(path / name, split=name)

    def _dataset(self, path: Path, split: str | None = None) -> None:
        index = path / "state.json"
        state = _object_in(index)
        self.finding.indexes.append(index)
        if state.get("_indices_files") or state.get("_indices_data_files"):
            message = "is a selection of rows that an old version of datasets saved"
            raise DataError(message, path=path, hint=_SAVE_AGAIN)
        files = state.get("_data_files")
        names = [file.get("filename") if isinstance(file, dict) else None for file in files or ()]
        if not isinstance(files, list) or not all(_is_plain_name(name) for name in names):
            message = "names no files of rows"
            raise DataError(message, path=index, hint=_SAVE_AGAIN)
        split = split or state.get("_split")
        for name in map(str, names):
            if not (path / name).is_file():
                message = f"names the file {name}, which does not exist"
                raise DataError(message, path=index, hint=_SAVE_AGAIN)
            self._take(path / name, hints={"split": split} if isinstance(split, str) else {})

    def _llama_factory(self, index: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self.finding.indexes.append(index)
        for name, entry in entries.items():
            said = entry.get("file_name")
            hints = {"formatting": "alpaca", **entry}  # what LLaMA-Factory takes where none is said
            where = next((key for key in _ELSEWHERE if key in entry), "")
            if not isinstance(said, str) or not said:
                reason = f"its rows are elsewhere ({where})" if where else "it names no file"
                self._leave_out(index, name, reason)
            elif not (path := index.parent / said).exists():
                self._leave_out(index, name, f"{said} does not exist")
            elif not path.resolve().is_relative_to(index.parent.resolve()):
                self._leave_out(index, name, f"{said} lies outside of the folder")
            elif path.is_dir():
                for file in filter(_is_known, _entries(path)):
                    self._take(file, hints={"dataset": name, **hints})
            else:
                self._take(path, hints={"dataset": name, **hints})

    def _leave_out(self, index: Path, name: str, reason: str) -> None:
        self.finding.notes.append(f"{index}: {name} is not read: {reason}")

    def _tau2(self, path: Path, envelope: Mapping[str, Any]) -> None:
        index = path / "results.json"
        self.finding.indexes.append(index)
        files = [file for file in _entries(path / "simulations") if file.suffix == ".json"]
        for file in files:
            self._take(file, envelope=envelope)
        listed = envelope.get("simulation_index")
        names = [one.get("id") for one in listed if isinstance(one, dict)] if listed else []
        if gone := sorted({str(name) for name in names} - {file.stem for file in files}):
            self.finding.notes.append(
                f"{index}: {len(gone)} simulations have no file: {_some(gone)}"
            )

    def _skip(self, path: Path, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(path)

    def _skip_others(self, path: Path, reason: str) -> None:
        """Tell of the files of a folder that its index does not name."""
        indexes = {index.resolve() for index in self.finding.indexes}
        for entry in _entries(path):
            if entry.is_file() and entry.resolve() not in self.seen | indexes:
                self._skip(entry, reason)

    def tell_skipped(self, root: Path) -> None:
        """Note what was left out below what the user named."""
        for reason, files in self.skipped.items():
            inside = [file.relative_to(root) if root in file.parents else file for file in files]
            names = _some([str(file) for file in inside])
            self.finding.notes.append(f"{root}: {len(files)} skipped, {reason}: {names}")


_SAVE_AGAIN: Final = "Save the dataset again with save_to_disk of a newer version of datasets."


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=folder) from error


def _is_known(path: Path) -> bool:
    """Whether a file of a folder is taken, going by its name."""
    if path.suffix.lower() in PACKED_ENDINGS:
        path = path.with_suffix("")
    return path.suffix.lower() in ENDINGS


def _is_plain_name(name: object) -> bool:
    """Whether a name in an index stays in the folder of the index."""
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name


def _llama_factory_entries(index: Path) -> dict[str, dict[str, Any]]:
    """The data sets that an index of LLaMA-Factory names; none where it is no such index."""
    found = _object_in(index) if index.is_file() else {}
    if not all(isinstance(entry, dict) for entry in found.values()):
        return {}
    said = ("file_name", *_ELSEWHERE)
    return found if any(key in entry for entry in found.values() for key in said) else {}


def _tau2_envelope(folder: Path) -> dict[str, Any] | None:
    """What the results of tau2-bench say beside their simulations; None where there are none."""
    index = folder / "results.json"
    if not index.is_file() or not (folder / "simulations").is_dir():
        return None
    found = _object_in(index)
    return None if found.get("simulations") or "tasks" not in found else found


def _object_in(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds; an empty one where it holds none.

    Raises:
        DataError: If the file cannot be opened.
    """
    try:
        with path.open("rb") as stream:
            found = decode(stream.read(_INDEX_LIMIT).decode("utf-8-sig"))
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error
    except (NotJsonError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return ", ".join(names[:_NAMES_TOLD]) + more
