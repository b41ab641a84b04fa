"""One row of a file, made from what its format gave: its columns, or why there are none.

What is odd about the row is told by codes, and mended where that was asked for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from trajweight import fields
from trajweight.containers import Source, stem_of
from trajweight.errors import ConfigError, DataError
from trajweight.filefacts import FileFacts
from trajweight.formats import (
    Canonical,
    Format,
    Item,
    UnusableError,
    detect,
    format_named,
    format_of_value,
    nearest,
)
from trajweight.formats.mapped import mapped_format
from trajweight.jsontext import NonFinite, encode, kind_of
from trajweight.problems import codes_text, problems_of
from trajweight.records import Sample
from trajweight.remains import Remains, is_record
from trajweight.repair import repaired
from trajweight.table import conversation_columns
from trajweight.trajectory import IDENTITY_COLUMNS, TRAJECTORY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trajweight.problems import Problem
    from trajweight.records import Record
    from trajweight.trajectory import Origin

#: What ``--map`` can say where to find.
MAPPABLE: Final = (*fields.SHARED_FIELDS, "messages", "tools")
#: Records by which the format of a file is known.
_SAMPLE: Final = 32
#: Bytes of a character at most.
_WIDEST: Final = 4
_NO_PLACES: Final[frozenset[str]] = frozenset()


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
            ConfigError: If the format is not known, a mapping is not ``what=path``, or two of
                them cannot go together.
        """
        pairs = {}
        for text in mapped:
            what, _, path = text.partition("=")
            if what not in MAPPABLE or not path:
                message = f"--map {text}: expected WHAT=PATH, where WHAT is {', '.join(MAPPABLE)}"
                raise ConfigError(message, hint="Such as --map reward=info.score.")
            pairs[what] = path
        if (own := mapped_format(name, pairs)) is not None:
            return cls(own, pairs)
        return cls(None if name == "auto" else format_named(name), pairs)


@dataclass(frozen=True, slots=True)
class Treatment:
    """What is done with rows on the way.

    Attributes:
        repair: Whether to mend what is odd, see `repair`.
        max_row_bytes: Rows of more bytes are flagged; None for no bound.
        limit: Rows to read of each file; None for all.
    """

    repair: bool = False
    max_row_bytes: int | None = None
    limit: int | None = None


@dataclass(slots=True)
class OpenFile:
    """The file that is being read.

    Attributes:
        path: As the user gave it.
        stem: Its name without what tells the kind of file.
        form: Its format; None where nothing tells it.
        is_real: Whether all its rows are real.
        facts: What was seen in it so far.
        remains: What of its records is in no row.
        record: The record of the last row.
    """

    path: str
    stem: str
    form: Format | None
    is_real: bool = field(kw_only=True)
    remains: Remains = field(kw_only=True)
    facts: FileFacts = field(default_factory=FileFacts, kw_only=True)
    record: Record | None = field(default=None, kw_only=True)


class RowMaker:
    """Makes the rows of one file after another.

    Attributes:
        file: The file that is being read.
        repaired: Rows that were mended so far, by the code of what was wrong.
        n_non_finite: Numbers that JSON does not know and that were read as null.
    """

    file: OpenFile

    def __init__(
        self,
        labels: OriginLabels | None = None,
        layout: Layout | None = None,
        treatment: Treatment | None = None,
    ) -> None:
        """Make them by what the user says of origins, of the layout, and of what to do."""
        self.repaired: Counter[str] = Counter()
        self.n_non_finite = 0
        self._labels, self._layout = labels or OriginLabels(), layout or Layout()
        self._treatment = treatment or Treatment()
        self._paths: dict[str, fields.Paths] = {}
        self._empty = dict.fromkeys((*TRAJECTORY_COLUMNS, *IDENTITY_COLUMNS))

    def opened(
        self, source: Source, *, is_real: bool = False, keeps_remains: bool = False
    ) -> Iterator[Item]:
        """Begin with a file, and give what its rows are made from.

        Args:
            source: The file.
            is_real: Whether all its rows are real.
            keeps_remains: Whether what stands in no row is followed. Then ``file.remains`` must be
                told of every row, or it holds all records until the end.

        Raises:
            DataError: If its records can be read, and none of the first is of a known format; of
                a file that was only found in a folder, each of its records is rejected instead.
        """
        remains = Remains(str(source.path), source.container)
        records = remains.watched(source.records()) if keeps_remains else iter(source.records())
        first = list(islice(records, _SAMPLE))
        values = tuple(record.value for record in first if not record.fault)
        form = self._layout.form or _detected(source, values)
        if form is None and values and source.within is None:
            raise _unknown(source, values[0])
        stem = stem_of(source.path)
        self.file = OpenFile(str(source.path), stem, form, is_real=is_real, remains=remains)
        rest = chain(first, records)
        if form is None:
            items: Iterator[Item] = (Item(each.value, each.number, each) for each in rest)
        else:
            items = iter(form.read(rest, source.hints))
        return islice(items, self._treatment.limit)

    def last_lines(self) -> list[dict[str, Any]]:
        """What is still to be kept of the file beside its rows, when no more of them come."""
        limit = self._treatment.limit
        return self.file.remains.last_lines(
            is_whole=limit is None or self.file.facts.n_lines < limit
        )

    def made(self, item: Item) -> dict[str, Any]:
        """The columns of a row.

        Raises:
            UnusableError: If it cannot be used.
            NotJsonError: If it cannot be written.
        """
        record, file = item.record, self.file
        if record.fault:
            raise UnusableError(record.fault)
        form = self._format_of(item)
        canonical = form.canonical(item)
        paths = self._paths_of(form)
        columns = conversation_columns(item.value, canonical, form)
        problems = self._problems(item, canonical, columns)
        mended: tuple[str, ...] = ()
        if problems and self._treatment.repair:
            now = repaired(canonical.messages)
            if mended := now.codes:
                canonical = replace(canonical, messages=now.messages)
                columns = conversation_columns(item.value, canonical, form)
                problems = self._problems(item, canonical, columns)
        told = fields.Teller(
            item.value,
            paths,
            canonical,
            mapped=self._layout.mapped,
            non_finite=_places(record.non_finite) if record.non_finite else _NO_PLACES,
        )
        said = told.scalars()
        source = said.source.value or file.stem
        origin, origin_said_by = self._origin(told, source)
        row = {
            **self._empty,  # all columns in their order
            **columns,
            "problems": codes_text(problems),
            "traj_id": said.traj_id.value or f"{file.stem}:{item.number}",
            "source": source,
            "origin": origin,
            "task_id": said.task.value,
            "group_id": said.group.value,
            "reward": said.reward.value,
            "success": said.success.value,
            "origin_path": file.path,
            "origin_row": item.number,
            "origin_rows": encode(item.numbers) if item.numbers else None,
            "is_child": said.group.field == fields.PARENT_FIELD,
            "opening": fields.opening(canonical.messages),
        }
        # From here on nothing fails, so a rejected row leaves no trace in what is told.
        file.facts.kept(form.title, said.said_by, origin_said_by)
        remarks = (*canonical.remarks, *said.remarks)
        if record is not file.record:  # of many rows of a document the first tells this
            file.record = record
            rewards = paths.by_use["reward"]
            lost = [_said_of(each, rewards) for each in record.non_finite]
            self.n_non_finite += len(lost)
            remarks = (*record.remarks, *remarks, *lost)
        for remark in remarks:
            file.facts.remark(item.number, remark)
        for problem in problems:
            file.facts.problem(item.number, problem.code, problem.detail)
        for code in mended:
            file.facts.repaired[code] += 1
            self.repaired[code] += 1
        return row

    def _problems(
        self, item: Item, canonical: Canonical, columns: Mapping[str, Any]
    ) -> tuple[Problem, ...]:
        text, bound = columns["messages_json"], self._treatment.max_row_bytes
        n_bytes = 0 if bound is None else _size_of(item, columns, bound)
        return problems_of(canonical.messages, text=text, n_bytes=n_bytes, max_bytes=bound)

    def _format_of(self, item: Item) -> Format:
        """The format of one row: that of its file, unless it is none of it."""
        value, form = item.value, self.file.form
        # A part of a document, or several records, are what the format itself made of them.
        if form is not None and (item.envelope is not None or item.numbers):
            return form
        if form is not None and not form.lacks(value):
            return form
        if self._layout.form is not None:
            reason = f"is no row of {self._layout.form.title}: it lacks "
            raise UnusableError(reason + ", ".join(self._layout.form.lacks(value)))
        if not isinstance(value, dict | list):
            reason = f"the row is {kind_of(value)}, not an object"
            raise UnusableError(reason)
        if (other := format_of_value(value)) is None:
            raise UnusableError("no known format: " + _keys_and_nearest(value))
        return other

    def _paths_of(self, form: Format) -> fields.Paths:
        """Where the rows of a format say things."""
        if form.name not in self._paths:
            self._paths[form.name] = fields.paths_of(form.fields, self._layout.mapped)
        return self._paths[form.name]

    def _origin(self, told: fields.Teller, source: str) -> tuple[Origin, str]:
        """The origin of a row, and what said it."""
        if self.file.is_real:
            return "real", "the file given as real"
        if source in self._labels.real_sources:
            return "real", "the label of its source"
        if source in self._labels.synthetic_sources:
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


def _size_of(item: Item, columns: Mapping[str, Any], bound: int) -> int:
    """Bytes of a row as it stood, or of the longest of its texts where it is no record."""
    raw = item.record.raw if is_record(item) else None
    if isinstance(raw, bytes):
        return len(raw)
    text = raw or max(columns["messages_json"], columns["extra_json"], key=len)
    # Characters are counted at once, bytes only where they matter.
    return len(text.encode()) if len(text) <= bound < _WIDEST * len(text) else len(text)


def _places(numbers: Sequence[NonFinite]) -> frozenset[str]:
    return frozenset(".".join(map(str, each.path)) for each in numbers)


def _said_of(number: NonFinite, rewards: tuple[str, ...]) -> str:
    is_reward = ".".join(map(str, number.path)) in rewards
    return f"{number}; read as {'unknown' if is_reward else 'null'}"
