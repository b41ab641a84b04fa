"""The files that a run was made from, written again from what the run kept of them.

Every row stands where it stood: rows that were kept as they were read, rejected rows as text, and
documents around their rows. The values are equal as JSON; white space and the spelling of numbers
are not, and NaN, which is no JSON, comes back as null.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Any, Final

import polars as pl

from trajweight.errors import ConfigError, RunError
from trajweight.files import write_atomically
from trajweight.jsontext import decode, encode
from trajweight.remains import RowNumbers
from trajweight.table import original_row
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trajweight.progress import Progress
    from trajweight.run import Run

#: Containers that are written as they were; all others become JSON lines.
_LINES, _ARRAY, _DOCUMENT = _JSON = "JSON lines", "JSON array", "JSON document"
_ENDING: Final = ".jsonl"
#: Endings of packed files that are written unpacked.
_UNPACKED: Final = frozenset({".zst", ".bz2", ".xz"})


@dataclass(frozen=True, slots=True)
class RowBack:
    """A row as it goes back into its file.

    Attributes:
        row: Its number among all rows of the file, from 0, kept or rejected.
        number: What named its place: its line, or its position from 1.
        numbers: Of a row made of several records, all their numbers; empty otherwise.
        text: Its JSON text; of a rejected row what stood there, be it JSON or not.
    """

    row: int
    number: int
    numbers: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class FileBack:
    """One file that was written.

    Attributes:
        source: The file that was read.
        path: The file that was written.
        container: What it was.
        n_records: Records written.
        n_rejected: Rejected rows among its rows; they stand as they were kept.
        is_same_kind: Whether it is the same container; else it is JSON lines.
    """

    source: str
    path: Path
    container: str
    n_records: int
    n_rejected: int
    is_same_kind: bool


@dataclass(frozen=True, slots=True)
class Originals:
    """All files of a run, written again.

    Attributes:
        files: In the order they were read.
        notes: What is otherwise than it was, in sentences.
    """

    files: list[FileBack]
    notes: list[str]


def write_originals(run: Run, out: Path, *, force: bool, progress: Progress) -> Originals:
    """Write every file that a run has read into a folder.

    Args:
        run: The run; whatever else it did, it has read files.
        out: The folder; the files stand to each other in it as they stood.
        force: Write over files that are there.
        progress: Told of every file.

    Raises:
        ConfigError: If something is in the way.
        RunError: If the run has not kept what is needed.
    """
    run.path_of("trajectories.parquet")
    lines: dict[str, list[dict[str, Any]]] = {}
    containers: dict[str, str] = {}
    for line in run.storage.envelopes():
        if "container" in line:
            containers[line["path"]] = line["container"]
        else:
            lines.setdefault(line["path"], []).append(line)
    if not containers:
        message = "has not kept what its files were"
        raise RunError(message, path=run.folder, hint="Ingest the files again with this version.")
    targets = _targets(containers, out)
    _require_free(targets, run, force=force)
    kept = _Kept(run)
    files = []
    progress.start("writing", len(containers))
    for source, container in containers.items():
        own = lines.get(source, [])
        is_plain = not own and kept.are_records(source)
        records = records_back(kept.rows(source), own, is_plain=is_plain)
        n = write_records(targets[source], records, container)
        n_rejected = len(kept.rejected.get(source, ()))
        is_same = container in _JSON
        files.append(FileBack(source, targets[source], container, n, n_rejected, is_same))
        progress.advance()
    progress.finish()
    return Originals(files, _notes(files, run.manifest()))


class _Kept:
    """What a run kept of the rows of its files."""

    def __init__(self, run: Run) -> None:
        self._storage = run.storage
        self.rejected: dict[str, list[dict[str, Any]]] = {}
        for each in run.storage.rejected():
            self.rejected.setdefault(each["path"], []).append(each)
        for some in self.rejected.values():
            some.sort(key=lambda each: int(each["row"]))
        spans = [
            frame.select("origin_path", pl.col("origin_rows").is_not_null())
            for frame in run.storage.rows()
        ]
        self._of_several = set(pl.concat(spans).filter("origin_rows")["origin_path"].unique())
        self._frames = _Frames(run)

    def are_records(self, source: str) -> bool:
        """Whether no row of a file was made of several records."""
        return source not in self._of_several and not any(
            "rows" in each for each in self.rejected.get(source, ())
        )

    def rows(self, source: str) -> Iterator[RowBack]:
        """All rows of a file, in order; each file is asked for once, in the order of reading."""
        rejected = iter(self.rejected.get(source, ()))
        waiting = next(rejected, None)
        numbers = RowNumbers.of(self.rejected.get(source, ()))
        for row in self._frames.of(source):
            number = numbers.next(source)
            while waiting is not None and waiting["row"] < number:
                yield _rejected_back(waiting)
                waiting = next(rejected, None)
            yield _kept_back(row, number)
        while waiting is not None:
            yield _rejected_back(waiting)
            waiting = next(rejected, None)


class _Frames:
    """The kept rows file by file, the table being gone through once."""

    def __init__(self, run: Run) -> None:
        self._rows = _each_row(run)
        self._next = next(self._rows, None)

    def of(self, source: str) -> Iterator[dict[str, Any]]:
        """The rows of the next file; a file may have none."""
        while self._next is not None and self._next["origin_path"] == source:
            yield self._next
            self._next = next(self._rows, None)


def _each_row(run: Run) -> Iterator[dict[str, Any]]:
    for frame in run.trajectory_batches(*TEXT_COLUMNS):
        yield from frame.iter_rows(named=True)


def _kept_back(row: Mapping[str, Any], number: int) -> RowBack:
    numbers = tuple(decode(row["origin_rows"])) if row["origin_rows"] is not None else ()
    return RowBack(number, row["origin_row"], numbers, encode(original_row(row)))


def _rejected_back(row: Mapping[str, Any]) -> RowBack:
    return RowBack(row["row"], row["line"], tuple(row.get("rows", ())), row["text"])


def _targets(containers: Mapping[str, str], out: Path) -> dict[str, Path]:
    """Where each file goes; of two that would go to one place the later one is named in full."""
    targets: dict[str, Path] = {}
    for source, container in containers.items():
        target = out / target_of(source, list(containers), container)
        while target in targets.values():
            target = target.with_name(f"{target.name}{_ENDING}")
        targets[source] = target
    return targets


def _require_free(targets: Mapping[str, Path], run: Run, *, force: bool) -> None:
    own = run.folder.resolve()
    for source, target in targets.items():
        real = target.resolve()
        if real == own or own in real.parents:
            message = f"--out lies in the run folder {run.folder}"
        elif source != "-" and real == Path(source).resolve():
            message = f"{target} is the file that the run was read from"
        elif target.exists() and (not force or not target.is_file()):
            message = f"{target} is already there"
        else:
            continue
        hint = "Give another --out." if "already" not in message else "--force or another --out"
        raise ConfigError(message, hint=hint)


def _notes(files: Sequence[FileBack], manifest: Mapping[str, Any]) -> list[str]:
    """What is otherwise than it was."""
    notes = [
        f"{file.path}: JSON lines, since {file.source} was {file.container}, which is not written"
        for file in files
        if not file.is_same_kind
    ]
    if n := sum(file.n_rejected for file in files):
        notes.append(f"{n} rejected rows are given back as they were kept in rejected.jsonl")
    if n := manifest["counts"].get("non_finite", 0):
        notes.append(f"{n} numbers that JSON does not know, such as NaN, are null")
    if limit := manifest["arguments"]["data"].get("limit"):
        notes.append(f"the run read {limit} rows of each file at most, so no more are given back")
    return notes


def records_back(
    rows: Iterable[RowBack], lines: Iterable[Mapping[str, Any]], *, is_plain: bool
) -> Iterator[str]:
    """The records of a file, as text and in their order.

    Args:
        rows: All its rows, in order.
        lines: What is kept of it beside them, see `remains.Remains`, the first line left out.
        is_plain: Whether every row is a record, and in its place; then one is held at a time.
    """
    if is_plain:
        return (row.text for row in rows)
    records = _Records()
    for line in lines:
        records.tell(line)
    for row in rows:
        records.take(row)
    return records.in_order()


@dataclass(slots=True)
class _Records:
    """Puts the records of one file together from its rows and from what was kept beside them."""

    told: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    inside: set[int] = field(default_factory=set)
    found: dict[int, str] = field(default_factory=dict)
    held: dict[int, str] = field(default_factory=dict)

    def tell(self, line: Mapping[str, Any]) -> None:
        """What is known of a record."""
        self.inside.update(line.get("parts", ()))
        self.inside.update(row for row, _ in line.get("rows", ()))
        if "row" in line:
            self.inside.add(line["row"])
        if not {"row", "envelope_json", "text"}.isdisjoint(line):
            self.told[line["record"]] = line

    def take(self, row: RowBack) -> None:
        """The next row."""
        if row.numbers:
            for number, value in zip(row.numbers, decode(row.text), strict=True):
                self.found.setdefault(number, encode(value))
        elif row.row in self.inside:
            self.held[row.row] = row.text
        else:
            self.found[row.number] = row.text

    def in_order(self) -> Iterator[str]:
        """All records."""
        for number in sorted({*self.found, *self.told}):
            yield self._of(self.told[number]) if number in self.told else self.found[number]

    def _of(self, line: Mapping[str, Any]) -> str:
        if "text" in line:
            return str(line["text"])
        if "row" in line:
            return self.held[line["row"]]
        whole = {"": decode(line["envelope_json"])}  # held, so that the record itself is a place
        for row, path in line.get("rows", ()):
            holder: Any = whole
            for key in ("", *path[:-1]) if path else ():
                holder = holder[key]
            holder[path[-1] if path else ""] = decode(self.held[row])
        return encode(whole[""])


def target_of(source: str, sources: Sequence[str], container: str) -> PurePath:
    """Where a file is written, below the folder of all of them.

    The files stand to each other as they stood; what is no JSON, or packed otherwise than by gzip,
    gets another ending.

    Args:
        source: The file.
        sources: All files.
        container: What the file was.
    """
    if source == "-":
        return PurePath("standard-input.jsonl")
    whole = {each: _absolute(each) for each in sources if each != "-"}
    common = os.path.commonpath([path.parent for path in whole.values()])
    path = whole[source].relative_to(common)
    if path.suffix.lower() in _UNPACKED:
        path = path.with_suffix("")
    return path if container in _JSON else path.with_name(path.name + _ENDING)


def _absolute(name: str) -> PurePath:
    """A path from the root, with no step back in it."""
    return PurePath(os.path.normpath(Path(name).absolute()))


def write_records(path: Path, records: Iterable[str], container: str) -> int:
    """Write records in their container; gives back how many there were.

    The ending ``.gz`` packs the file.
    """
    count = 0

    def parts() -> Iterator[str]:
        nonlocal count
        yield "[\n" if container == _ARRAY else ""
        for record in records:
            yield (",\n" if container == _ARRAY and count else "") + record
            yield "" if container == _ARRAY else "\n"
            count += 1
        yield "\n]\n" if container == _ARRAY else ""

    def plain(stream: IO[bytes] | gzip.GzipFile) -> None:
        for part in parts():
            stream.write(part.encode(errors="backslashreplace"))

    def packed(stream: IO[bytes]) -> None:
        with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as zipped:
            plain(zipped)

    write_atomically(path, packed if path.suffix.lower() == ".gz" else plain)
    return count
