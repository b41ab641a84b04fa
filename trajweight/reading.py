"""Files of trajectories become one table, in memory or on disk, whatever its size.

What is read is cut into batches as it comes; see `rowreader`. When all is read, each row gets the
names that need the whole table; see `identity`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trajweight.containers import STDIN, Source, facts_of, sources_of
from trajweight.errors import DataError
from trajweight.identity import name_rows
from trajweight.progress import Progress
from trajweight.rowreader import Rejection, RowReader
from trajweight.rows import Layout, OriginLabels, Treatment
from trajweight.table import original_row, table_schema, trajectory_of
from trajweight.workers import done_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from trajweight.storage import Storage

__all__ = [
    "Account",
    "Layout",
    "OriginLabels",
    "Reading",
    "Rejection",
    "original_row",
    "read_into",
    "read_trajectories",
    "table_schema",
    "trajectory_of",
]

#: Files are read together, in one process, until they have so many bytes.
_GROUP_BYTES: Final = 64 << 20
#: A process more is worth its start where it has so many bytes to read.
_PROCESS_BYTES: Final = 128 << 20
#: Sources named where one that is labelled was not seen.
_SOURCES_NAMED: Final = 20
#: Files named where none of them holds anything.
_FILES_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was read.

    Attributes:
        table: The trajectories in the order read, columns as ``TRAJECTORY_COLUMNS``.
        rejected: The lines that could not be used.
        notes: What was detected and guessed, in sentences.
        n_read: Lines that are not blank; always ``len(table) + len(rejected)``.
        inputs: Name, size and SHA-256 of every file that was read, indexes of folders first.
    """

    table: pl.DataFrame
    rejected: list[Rejection]
    notes: list[str]
    n_read: int
    inputs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Account:
    """What was read into a folder.

    Attributes:
        n_read: Lines that are not blank.
        n_kept: Those that are in the table.
        n_rejected: The others; always ``n_read - n_kept``.
        first_rejected: The first of these; None where there is none.
        notes: What was detected and guessed, in sentences.
        inputs: Name, size and SHA-256 of every file that was read, indexes of folders first.
        repaired: Rows that were mended, by the code of what was wrong.
        n_non_finite: Numbers that JSON does not know and that were read as null.
    """

    n_read: int
    n_kept: int
    n_rejected: int
    first_rejected: Rejection | None
    notes: list[str]
    inputs: list[dict[str, Any]]
    repaired: Counter[str]
    n_non_finite: int


def read_trajectories(
    paths: Sequence[Path],
    *,
    labels: OriginLabels | None = None,
    layout: Layout | None = None,
    treatment: Treatment | None = None,
    progress: Progress | None = None,
) -> Reading:
    """Read files of any known container and format.

    Args:
        paths: Files, folders, patterns, or ``-`` for standard input; a file given twice is read
            once.
        labels: What is known of origins. The files of ``real_paths``, which may be folders and
            patterns too, are read even if ``paths`` lacks them.
        layout: What the user said of the format; by default it is seen from the first records.
        treatment: What is done with rows on the way; by default nothing.
        progress: Told of every row.

    Returns:
        The table and the rejected rows. The table may be empty if all rows were rejected.

    Raises:
        DataError: If a file is missing, or of no known container or format; or nothing was read
            in all.
        ConfigError: If the layout names a format that is not known.
    """
    labels, progress = labels or OriginLabels(), progress or Progress()
    files, notes, indexes = _files(paths, labels)
    reader = RowReader(labels, layout or Layout(), treatment)
    progress.start("reading")
    batches = list(reader.batches(files, progress))
    progress.finish()
    _require_rows(reader.n_read, files)
    frames = [batch.rows for batch in batches]
    seen = _Sources(labels)
    named = name_rows(lambda: frames)
    table = pl.concat(seen.among(named.over(frames)))
    rejected = [Rejection(**row) for batch in batches for row in batch.rejected]
    notes += [*reader.notes, *named.notes, *seen.notes()]
    table = table.select(table_schema().names())
    return Reading(table, rejected, notes, reader.n_read, [*indexes, *reader.inputs])


def read_into(
    storage: Storage,
    paths: Sequence[Path],
    *,
    labels: OriginLabels,
    layout: Layout,
    treatment: Treatment | None = None,
    progress: Progress,
    jobs: int = 1,
) -> Account:
    """Read files into the folder of a run; what is held in memory does not grow with them.

    Args:
        storage: Where the rows go. What went there is removed again if reading fails.
        paths: See ``read_trajectories``, as for the next three.
        labels: See there.
        layout: See there.
        treatment: See there.
        progress: See there.
        jobs: Processes that read at once, see ``workers``, or fewer where there is little to read;
            what is written does not depend on it.

    Raises:
        DataError: See ``read_trajectories``.
        ConfigError: See there.
        TrajweightError: If the folder cannot be written, or a process is gone.
    """
    files, notes, indexes = _files(paths, labels)
    jobs = max(1, min(jobs, sum(_size_of(source) for source, _ in files) // _PROCESS_BYTES))
    if any(source.comes_once for source, _ in files):
        jobs = 1  # no other process has this one's standard input
    progress.start("reading")
    try:
        work = partial(_read_group, storage, labels, layout, treatment)
        groups = done_in_order(work, _groups(files), jobs=jobs, progress=progress)
        n_read = sum(each.n_read for each in groups)
        _require_rows(n_read, files)
        named = name_rows(storage.waiting)
        seen = _Sources(labels)
        n_kept = storage.settle(seen.among(named.over(storage.waiting())))
    except BaseException:  # Ctrl-C too must leave no texts without their table
        storage.clear()
        raise
    progress.finish()
    return Account(
        n_read,
        n_kept,
        sum(each.n_rejected for each in groups),
        next((each.first_rejected for each in groups if each.first_rejected), None),
        [*notes, *(note for each in groups for note in each.notes), *named.notes, *seen.notes()],
        [*indexes, *(facts for each in groups for facts in each.inputs)],
        sum((each.repaired for each in groups), Counter()),
        sum(each.n_non_finite for each in groups),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """Files that are read together; their number tells the place of their rows."""

    number: int
    files: Sequence[tuple[Source, bool]]


def _groups(files: Sequence[tuple[Source, bool]]) -> list[_Group]:
    """Files one after another until they are large enough to be worth a process."""
    groups: list[list[tuple[Source, bool]]] = []
    n_bytes = _GROUP_BYTES
    for source, is_real in files:
        if n_bytes >= _GROUP_BYTES:
            groups.append([])
            n_bytes = 0
        groups[-1].append((source, is_real))
        n_bytes += _size_of(source)
    return [_Group(number, each) for number, each in enumerate(groups)]


def _size_of(source: Source) -> int:
    """Bytes of a file before it is read; 0 where nobody knows."""
    return source.facts()["bytes"] or 0


def _read_group(
    storage: Storage,
    labels: OriginLabels,
    layout: Layout,
    treatment: Treatment | None,
    group: _Group,
    progress: Progress,
) -> Account:
    """Read some files into the storage; it may run in a process of its own."""
    reader = RowReader(labels, layout, treatment)
    n_kept = storage.take(group.number, reader.batches(group.files, progress))
    return Account(
        reader.n_read,
        n_kept,
        reader.n_rejected,
        reader.first_rejected,
        reader.notes,
        reader.inputs,
        reader.maker.repaired,
        reader.maker.n_non_finite,
    )


def _require_rows(n_read: int, files: Sequence[tuple[Source, bool]]) -> None:
    if not n_read:
        names = ", ".join(str(source.path) for source, _ in files[:_FILES_NAMED])
        if len(files) > _FILES_NAMED:
            names += f" and {len(files) - _FILES_NAMED} more files"
        msg = f"nothing to read: no line that is not blank in {names}"
        raise DataError(msg, hint="Each line should hold one JSON object with messages.")


class _Sources:
    """Watches for sources that were labelled and that no row has."""

    def __init__(self, labels: OriginLabels) -> None:
        self._unseen = set(labels.real_sources | labels.synthetic_sources)
        self._some: dict[str, None] = {}

    def among(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The same frames, looked at in passing."""
        is_wanted = bool(self._unseen)
        for frame in frames:
            if is_wanted:
                here = frame["source"].unique(maintain_order=True).to_list()
                self._unseen.difference_update(here)
                for source in here[:_SOURCES_NAMED]:
                    if len(self._some) < _SOURCES_NAMED:
                        self._some.setdefault(source)
            yield frame

    def notes(self) -> list[str]:
        """What to tell of those that were not seen."""
        return [
            f"source {source!r} is labelled, but no row has it; sources seen: "
            f"{', '.join(sorted(self._some)) or 'none'}"
            for source in sorted(self._unseen)
        ]


def _files(
    paths: Sequence[Path], labels: OriginLabels
) -> tuple[list[tuple[Source, bool]], list[str], list[dict[str, Any]]]:
    """The files to read, each once, and whether all its rows are real; notes, and the indexes."""
    given = [sources_of(path) for path in dict.fromkeys(paths)]
    real = [sources_of(path) for path in dict.fromkeys(labels.real_paths)]
    of_real = {_identity(source) for each in real for source in each.sources}
    files: dict[Path, tuple[Source, bool]] = {}
    notes = [f"{path}: given more than once; read once" for path in _repeated(paths)]
    for source in (source for each in given for source in each.sources):
        name = _identity(source)
        if name in files:
            notes.append(f"{source.path}: given more than once; read once")
        files.setdefault(name, (source, name in of_real))
    for source in (source for each in real for source in each.sources):
        files.setdefault(_identity(source), (source, True))
    if not files:
        msg = "no files given"
        raise DataError(msg, hint="Name at least one file, or a folder of files.")
    every = [*given, *real]
    notes += dict.fromkeys(note for each in every for note in each.notes)
    indexes = dict.fromkeys(index for each in every for index in each.indexes)
    return list(files.values()), notes, [facts_of(index) for index in indexes]


def _identity(source: Source) -> Path:
    """What tells a file from others, however it is named."""
    return source.path if source.path == STDIN else source.path.resolve()


def _repeated(paths: Sequence[Path]) -> list[Path]:
    return [path for path, count in Counter(paths).items() if count > 1]
