"""Files of trajectories become one table; every line is kept or rejected, and counted.

Each line is read on its own, so one broken line costs one line. Nothing is dropped in
silence: a rejected line keeps its place, its reason and its text, and what was guessed
stands in the notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trajweight import fields
from trajweight.errors import ConfigError, DataError
from trajweight.filefacts import FileFacts
from trajweight.formats import UnusableError, detect
from trajweight.identity import Identified, name_rows
from trajweight.jsonlines import Line, check_readable, lines
from trajweight.jsontext import NonFinite, NotJsonError, decode_leniently, kind_of
from trajweight.progress import Progress
from trajweight.table import conversation_columns, original_row, table_schema, trajectory_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trajweight.trajectory import Origin

__all__ = [
    "OriginLabels",
    "Reading",
    "Rejection",
    "original_row",
    "read_trajectories",
    "table_schema",
    "trajectory_of",
]

_CHUNK_ROWS: Final = 2000
_SUFFIXES: Final = frozenset({".jsonl", ".ndjson", ".json", ".gz"})


@dataclass(frozen=True, slots=True)
class OriginLabels:
    """What the user says of where rows come from, over what the rows say themselves.

    Attributes:
        real_sources: Sources whose rows are real.
        synthetic_sources: Sources whose rows are synthetic.
        real_paths: Files whose rows are real whatever else is said; they are read too.
    """

    real_sources: frozenset[str] = frozenset()
    synthetic_sources: frozenset[str] = frozenset()
    real_paths: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a source that is said to be both.

        Raises:
            ConfigError: If there is one.
        """
        if both := sorted(self.real_sources & self.synthetic_sources):
            msg = f"source {both[0]!r} is labelled both real and synthetic"
            raise ConfigError(msg, hint="Name it on one side only.")


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that could not become a trajectory.

    Attributes:
        path: The file, as the user gave it.
        line: Line number, from 1.
        reason: Why, in a sentence.
        text: The line as it stood; bytes that are not UTF-8 are written with a backslash and x.
    """

    path: str
    line: int
    reason: str
    text: str

    def as_dict(self) -> dict[str, str | int]:
        """The rejection as one JSON object of ``rejected.jsonl``."""
        return {"path": self.path, "line": self.line, "reason": self.reason, "text": self.text}


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was read.

    Attributes:
        table: The trajectories in the order read, columns as ``TRAJECTORY_COLUMNS``.
        rejected: The lines that could not be used.
        notes: What was detected and guessed, in sentences.
        n_read: Lines that are not blank; always ``len(table) + len(rejected)``.
    """

    table: pl.DataFrame
    rejected: list[Rejection]
    notes: list[str]
    n_read: int


def read_trajectories(
    paths: Sequence[Path], *, labels: OriginLabels | None = None, progress: Progress | None = None
) -> Reading:
    """Read JSONL files, plain or gzip, of any known format.

    Args:
        paths: Files; one given twice is read once.
        labels: What is known of origins. A file of ``real_paths`` is read even if ``paths``
            lacks it.
        progress: Told of every line.

    Returns:
        The table and the rejected lines. The table may be empty if all lines were rejected.

    Raises:
        DataError: If a file is missing, a folder, or no JSON lines; or nothing was read in all.
    """
    labels = labels or OriginLabels()
    progress = progress or Progress()
    files, notes = _files(paths, labels)
    reader = _Reader(labels)
    progress.start("reading")
    for path, is_real in files:
        for line in lines(path):
            reader.take(path, line, is_real=is_real)
            progress.advance()
        notes += reader.end_of_file(path)
    progress.finish()
    if not reader.n_read:
        names = ", ".join(str(path) for path, _ in files)
        msg = f"nothing to read: no line that is not blank in {names}"
        raise DataError(msg, hint="Each line should hold one JSON object with messages.")
    return reader.reading(notes)


class _Reader:
    """Collects rows in column lists, cut into chunks of the table as they grow."""

    def __init__(self, labels: OriginLabels) -> None:
        self.labels = labels
        self.n_read = 0
        self.rejected: list[Rejection] = []
        self.identities: list[Identified] = []
        self.records: list[dict[str, Any]] = []
        self.chunks: list[pl.DataFrame] = [pl.DataFrame(schema=table_schema())]
        self.sources: set[str] = set()
        self.file = FileFacts()

    def take(self, path: Path, line: Line, *, is_real: bool) -> None:
        """Keep the line's row, or reject it."""
        self.n_read += 1
        self.file.n_lines += 1
        try:
            record = self._record(path, line, is_real=is_real)
        except (UnusableError, NotJsonError) as error:
            self.rejected.append(Rejection(str(path), line.number, str(error), line.text))
            self.file.n_rejected += 1
            return
        self.records.append(record)
        if len(self.records) >= _CHUNK_ROWS:
            self._cut()

    def end_of_file(self, path: Path) -> list[str]:
        """The notes on the file just read."""
        notes = self.file.notes(path)
        self.file = FileFacts()
        return notes

    def reading(self, notes: list[str]) -> Reading:
        """The whole table, its names given."""
        self._cut()
        named = name_rows(self.identities)
        table = pl.concat(self.chunks).with_columns(
            pl.Series("traj_id", named.traj_ids, pl.String),
            pl.Series("task_id", named.task_ids, pl.String),
            pl.Series("group_id", named.group_ids, pl.String),
        )
        known = self.labels.real_sources | self.labels.synthetic_sources
        unseen = [
            f"source {source!r} is labelled, but no row has it; sources seen: "
            f"{', '.join(sorted(self.sources)) or 'none'}"
            for source in sorted(known - self.sources)
        ]
        return Reading(table, self.rejected, [*notes, *named.notes, *unseen], self.n_read)

    def _cut(self) -> None:
        schema = table_schema()
        columns = {name: [record.get(name) for record in self.records] for name in schema}
        self.chunks.append(pl.DataFrame(columns, schema=schema))
        self.records = []

    def _record(self, path: Path, line: Line, *, is_real: bool) -> dict[str, Any]:
        """The columns of a line's row, names that need the whole table left out."""
        if line.fault:
            raise UnusableError(line.fault)
        row, non_finite = decode_leniently(line.text)
        if not isinstance(row, dict):
            reason = f"the line is {kind_of(row)}, not an object"
            raise UnusableError(reason)
        form = detect(row)
        canonical = form.canonical(row)
        said = fields.scalars(row, _top_level(non_finite))
        source = said.source.value or _stem(path)
        origin, origin_said_by = self._origin(row, source, is_real=is_real)
        record = {
            **conversation_columns(row, canonical, form),
            "source": source,
            "origin": origin,
            "reward": said.reward.value,
            "success": said.success.value,
            "origin_path": str(path),
            "origin_row": line.number,
        }
        # From here on nothing fails, so a rejected row leaves no trace in what is told.
        self.sources.add(source)
        self.identities.append(
            Identified(
                traj_id=said.traj_id.value or f"{_stem(path)}:{line.number}",
                origin=origin,
                task_id=said.task.value,
                group_id=said.group.value,
                is_child=said.group.field == fields.PARENT_FIELD,
                opening=fields.opening(canonical.messages),
            )
        )
        self.file.kept(form.TITLE, said.used, origin_said_by)
        for remark in (*canonical.remarks, *said.remarks, *map(_said_of, non_finite)):
            self.file.remark(line.number, remark)
        return record

    def _origin(self, row: dict[str, Any], source: str, *, is_real: bool) -> tuple[Origin, str]:
        """The origin of a row, and what said it."""
        if is_real:
            return "real", "the file given as real"
        if source in self.labels.real_sources:
            return "real", "the label of its source"
        if source in self.labels.synthetic_sources:
            return "synthetic", "the label of its source"
        found = fields.origin(row)
        if found.value is not None:
            return found.value, f"field {found.field}"
        return "synthetic", ""


def _files(
    paths: Sequence[Path], labels: OriginLabels
) -> tuple[list[tuple[Path, bool]], list[str]]:
    """The files to read, each once, and whether all its rows are real."""
    real = {path.resolve() for path in labels.real_paths}
    files: dict[Path, tuple[Path, bool]] = {}
    notes: list[str] = []
    for path in paths:
        check_readable(path)
        if path.resolve() in files:
            notes.append(f"{path}: given more than once; read once")
        files.setdefault(path.resolve(), (path, path.resolve() in real))
    for path in labels.real_paths:
        check_readable(path)
        files.setdefault(path.resolve(), (path, True))
    if not files:
        msg = "no files given"
        raise DataError(msg, hint="Name at least one JSONL file.")
    return list(files.values()), notes


def _stem(path: Path) -> str:
    while path.suffix in _SUFFIXES and path.stem:
        path = path.with_suffix("")
    return path.name


def _top_level(non_finite: Sequence[NonFinite]) -> frozenset[str]:
    return frozenset(str(number.path[0]) for number in non_finite if len(number.path) == 1)


def _said_of(number: NonFinite) -> str:
    is_reward = len(number.path) == 1 and number.path[0] in fields.REWARD_FIELDS
    return f"{number}; read as {'unknown' if is_reward else 'null'}"
