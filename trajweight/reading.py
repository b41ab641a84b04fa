"""Files of trajectories become one table; every row is kept or rejected, and counted.

Each row is read on its own, so a broken one costs one row. Nothing is dropped in silence: a
rejected row keeps its place, its reason and its text, and what was guessed stands in the notes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trajweight import fields
from trajweight.containers import Source, check_readable, open_source
from trajweight.errors import ConfigError, DataError
from trajweight.filefacts import FileFacts
from trajweight.formats import (
    Format,
    Item,
    UnusableError,
    detect,
    format_named,
    format_of_value,
    nearest,
)
from trajweight.identity import Identified, name_rows
from trajweight.jsontext import NonFinite, NotJsonError, encode, kind_of
from trajweight.progress import Progress
from trajweight.records import Sample
from trajweight.table import conversation_columns, original_row, table_schema, trajectory_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
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

#: What ``--map`` can say where to find.
MAPPABLE: Final = (*fields.SHARED_FIELDS, "messages", "tools")
_CHUNK_ROWS: Final = 2000
#: Records by which the format of a file is known.
_SAMPLE: Final = 32
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
class Layout:
    """What the user says of the layout of files, over what is seen in them.

    Attributes:
        form: The format of every file; None to see it from each file's first records.
        mapped: Dotted paths, by what they say: a scalar, messages or tools.
    """

    form: Format | None = None
    mapped: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, mapped: Sequence[str]) -> Layout:
        """The layout that ``--format`` and ``--map`` describe.

        Raises:
            ConfigError: If the format is not known, or a mapping is not ``what=path``.
        """
        pairs = {}
        for text in mapped:
            what, _, path = text.partition("=")
            if what not in MAPPABLE or not path:
                message = f"--map {text}: expected WHAT=PATH, where WHAT is {', '.join(MAPPABLE)}"
                raise ConfigError(message, hint="Such as --map reward=info.score.")
            pairs[what] = path
        return cls(None if name == "auto" else format_named(name), pairs)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that could not become a trajectory.

    Attributes:
        path: The file, as the user gave it.
        line: Its line, or its position from 1.
        reason: Why, in a sentence.
        text: The row as it stood; bytes that are not UTF-8 are written with a backslash and x.
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
    paths: Sequence[Path],
    *,
    labels: OriginLabels | None = None,
    layout: Layout | None = None,
    progress: Progress | None = None,
) -> Reading:
    """Read files of any known container and format.

    Args:
        paths: Files; one given twice is read once.
        labels: What is known of origins. A file of ``real_paths`` is read even if ``paths``
            lacks it.
        layout: What the user said of the format; by default it is seen from the first records.
        progress: Told of every row.

    Returns:
        The table and the rejected rows. The table may be empty if all rows were rejected.

    Raises:
        DataError: If a file is missing, or of no known container or format; or nothing was read
            in all.
        ConfigError: If the layout names a format that is not known.
    """
    labels = labels or OriginLabels()
    progress = progress or Progress()
    files, notes = _files(paths, labels)
    reader = _Reader(labels, layout or Layout())
    progress.start("reading")
    for path, is_real in files:
        source = open_source(path)
        for item, form in reader.items(source):
            reader.take(path, item, form, is_real=is_real)
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

    def __init__(self, labels: OriginLabels, layout: Layout) -> None:
        self.labels, self.layout = labels, layout
        self.paths: dict[str, fields.Paths] = {}
        self.n_read = 0
        self.rejected: list[Rejection] = []
        self.identities: list[Identified] = []
        self.records: list[dict[str, Any]] = []
        self.chunks: list[pl.DataFrame] = [pl.DataFrame(schema=table_schema())]
        self.sources: set[str] = set()
        self.file = FileFacts()

    def items(self, source: Source) -> Iterator[tuple[Item, Format | None]]:
        """The rows of a file, each with the format of the file; None where nothing tells it.

        Raises:
            DataError: If its records can be read, and none of the first is of a known format.
        """
        records = source.records()
        first = list(islice(records, _SAMPLE))
        values = tuple(record.value for record in first if not record.fault)
        form = self.layout.form or _detected(source, values)
        if form is None and values:
            raise _unknown(source, values[0])
        rest = chain(first, records)
        if form is None:
            yield from ((Item(each.value, each.number, each), None) for each in rest)
        else:
            yield from ((item, form) for item in form.read(rest, source.hints))

    def take(self, path: Path, item: Item, form: Format | None, *, is_real: bool) -> None:
        """Keep the row, or reject it."""
        self.n_read += 1
        self.file.n_lines += 1
        try:
            record = self._record(path, item, form, is_real=is_real)
        except (UnusableError, NotJsonError) as error:
            text = item.record.text if item.envelope is None else encode(item.value)
            self.rejected.append(Rejection(str(path), item.number, str(error), text))
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

    def _record(
        self, path: Path, item: Item, form: Format | None, *, is_real: bool
    ) -> dict[str, Any]:
        """The columns of a row, names that need the whole table left out."""
        if item.record.fault:
            raise UnusableError(item.record.fault)
        form = self._format_of(item, form)
        canonical = form.canonical(item)
        non_finite = item.record.non_finite
        told = fields.Teller(
            item.value,
            self._paths_of(form),
            canonical,
            mapped=self.layout.mapped,
            non_finite=frozenset(".".join(map(str, each.path)) for each in non_finite),
        )
        said = told.scalars()
        source = said.source.value or _stem(path)
        origin, origin_said_by = self._origin(told, source, is_real=is_real)
        record = {
            **conversation_columns(item.value, canonical, form),
            "source": source,
            "origin": origin,
            "reward": said.reward.value,
            "success": said.success.value,
            "origin_path": str(path),
            "origin_row": item.number,
            "origin_rows": encode(item.numbers) if item.numbers else None,
        }
        # From here on nothing fails, so a rejected row leaves no trace in what is told.
        self.sources.add(source)
        self.identities.append(
            Identified(
                traj_id=said.traj_id.value or f"{_stem(path)}:{item.number}",
                origin=origin,
                task_id=said.task.value,
                group_id=said.group.value,
                is_child=said.group.field == fields.PARENT_FIELD,
                opening=fields.opening(canonical.messages),
            )
        )
        self.file.kept(form.title, said.used, origin_said_by)
        lost = (_said_of(each, self._paths_of(form)["reward"]) for each in non_finite)
        for remark in (*canonical.remarks, *said.remarks, *lost):
            self.file.remark(item.number, remark)
        return record

    def _format_of(self, item: Item, form: Format | None) -> Format:
        """The format of one row: that of its file, unless it is none of it."""
        value = item.value
        # A part of a document, or several records, are what the format itself made of them.
        if form is not None and (item.envelope is not None or item.numbers):
            return form
        if form is not None and not form.lacks(value):
            return form
        if self.layout.form is not None:
            reason = f"is no row of {self.layout.form.title}: it lacks "
            raise UnusableError(reason + ", ".join(self.layout.form.lacks(value)))
        if not isinstance(value, dict | list):
            reason = f"the row is {kind_of(value)}, not an object"
            raise UnusableError(reason)
        if (other := format_of_value(value)) is None:
            raise UnusableError("no known format: " + _keys_and_nearest(value))
        return other

    def _paths_of(self, form: Format) -> fields.Paths:
        """Where the rows of a format say things."""
        if form.name not in self.paths:
            self.paths[form.name] = fields.paths_of(form.fields, self.layout.mapped)
        return self.paths[form.name]

    def _origin(self, told: fields.Teller, source: str, *, is_real: bool) -> tuple[Origin, str]:
        """The origin of a row, and what said it."""
        if is_real:
            return "real", "the file given as real"
        if source in self.labels.real_sources:
            return "real", "the label of its source"
        if source in self.labels.synthetic_sources:
            return "synthetic", "the label of its source"
        found = told.origin()
        if found.value is not None:
            return found.value, f"field {found.field}"
        return "synthetic", ""


def _detected(source: Source, values: Sequence[Any]) -> Format | None:
    """The format that the first records tell, the earliest of them that tells one."""
    for start in range(len(values)):
        sample = Sample(source.path, source.container, tuple(values[start:]), dict(source.hints))
        if (form := detect(sample)) is not None:
            return form
    return None


def _unknown(source: Source, value: Any) -> DataError:
    """The error for a file that nothing is known to read."""
    message = f"{source.container} of no known format: {_keys_and_nearest(value)}"
    hint = (
        "Name the format with --format, or say where the conversation stands, such as "
        "--map messages=chat.turns; --map reward=info.score says where a reward stands."
    )
    return DataError(message, path=source.path, hint=hint)


def _keys_and_nearest(value: Any) -> str:
    """What keys a record has, and what the nearest formats miss in it."""
    keys = ", ".join(list(value)[:12]) or "none" if isinstance(value, dict) else kind_of(value)
    near = "; ".join(f"{form.title} lacks {' and '.join(lacks)}" for form, lacks in nearest(value))
    return f"keys seen: {keys}; nearest: {near}"


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


def _said_of(number: NonFinite, rewards: tuple[str, ...]) -> str:
    is_reward = ".".join(map(str, number.path)) in rewards
    return f"{number}; read as {'unknown' if is_reward else 'null'}"
