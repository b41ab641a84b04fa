"""Files of trajectories, one after another: every row is kept or rejected, and counted.

Each row is read on its own, so a broken one costs one row. Nothing is dropped in silence: a
rejected row keeps its place, its reason and its text, and what was guessed stands in the notes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trajweight.formats import UnusableError
from trajweight.jsontext import NotJsonError, encode
from trajweight.remains import is_record
from trajweight.rows import Layout, OriginLabels, RowMaker, Treatment
from trajweight.storage import Batch
from trajweight.table import table_schema
from trajweight.trajectory import IDENTITY_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trajweight.containers import Source
    from trajweight.formats import Item
    from trajweight.progress import Progress

#: A batch ends with the row that brings it to one of these.
_BATCH_ROWS: Final = 4096
_BATCH_BYTES: Final = 4 << 20
#: Rows between two words on how far reading is.
_TOLD_ROWS: Final = 64


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that could not become a trajectory.

    Attributes:
        path: The file, as the user gave it.
        line: Its line, or its position from 1.
        reason: Why, in a sentence.
        text: The row as it stood; bytes that are not UTF-8 are written with a backslash and x.
        row: Its number among all rows of the file, from 0.
        rows: Of a row made of several records, all their numbers; empty otherwise.
    """

    path: str
    line: int
    reason: str
    text: str
    row: int
    rows: Sequence[int] = ()

    def as_dict(self) -> dict[str, Any]:
        """The rejection as one JSON object of ``rejected.jsonl``."""
        told = {name: getattr(self, name) for name in ("path", "line", "reason", "text", "row")}
        return {**told, "rows": list(self.rows)} if self.rows else told


class RowReader:
    """Reads files row by row, and gives the rows in batches as they fill.

    What it holds does not grow with the files.

    Attributes:
        n_read: Rows seen so far, kept or rejected.
        n_rejected: Those of them that could not be used.
        first_rejected: The first of these.
        notes: What was detected and guessed in the files read to their end.
        inputs: Name, size and SHA-256 of these files, see `Source.facts`.
        maker: Makes the rows.
    """

    def __init__(
        self, labels: OriginLabels, layout: Layout, treatment: Treatment | None = None
    ) -> None:
        """Read by what the user says of origins, of the layout, and of what to do with rows."""
        self.maker = RowMaker(labels, layout, treatment)
        self.n_read = self.n_rejected = 0
        self.first_rejected: Rejection | None = None
        self.notes: list[str] = []
        self.inputs: list[dict[str, Any]] = []
        self._schema = _schema()
        self._kept: list[dict[str, Any]] = []
        self._rejected: list[Rejection] = []
        self._envelopes: list[Mapping[str, Any]] = []
        self._n_bytes = 0

    def batches(self, files: Iterable[tuple[Source, bool]], progress: Progress) -> Iterator[Batch]:
        """All rows of some files, in order; one batch at least, which may be empty.

        The columns are those of the trajectory table and of ``identity``; names that need the
        whole table are left as the row gives them.

        Args:
            files: Each with whether all its rows are real.
            progress: Told of every row.

        Raises:
            DataError: If a file cannot be read, or holds nothing that is known.
        """
        for source, is_real in files:
            before = self.n_read
            for item in self.maker.opened(source, is_real=is_real, keeps_remains=True):
                self._take(item)
                if self.n_read % _TOLD_ROWS == 0:
                    progress.advance(self.n_read - before)
                    before = self.n_read
                n_waiting = len(self._kept) + len(self._rejected)
                if n_waiting >= _BATCH_ROWS or self._n_bytes >= _BATCH_BYTES:
                    self._envelopes += self.maker.file.remains.lines()
                    yield self._cut()
            progress.advance(self.n_read - before)
            self.notes += self.maker.file.facts.notes(source.path)
            self.inputs.append(source.facts())
            self._envelopes += self.maker.last_lines()
        yield self._cut()

    def _take(self, item: Item) -> None:
        """Keep the row, or reject it."""
        file = self.maker.file
        number = file.facts.n_lines
        self.n_read += 1
        file.facts.n_lines += 1
        try:
            row = self.maker.made(item)
        except (UnusableError, NotJsonError) as error:
            text = _text_of(item)
            file.remains.take(item, number, is_written=text is not None)
            told = (file.path, item.number, str(error), text or "")
            self._reject(Rejection(*told, number, item.numbers))
            return
        file.remains.take(item, number)
        self._kept.append(row)
        self._n_bytes += len(row["messages_json"]) + len(row["extra_json"])
        self._n_bytes += len(row["tools_json"] or "")

    def _reject(self, rejection: Rejection) -> None:
        self._rejected.append(rejection)
        self._n_bytes += len(rejection.text)
        self.maker.file.facts.n_rejected += 1
        self.n_rejected += 1
        self.first_rejected = self.first_rejected or rejection

    def _cut(self) -> Batch:
        """What was read since the last cut."""
        columns = zip(*(row.values() for row in self._kept), strict=True)
        rows = pl.DataFrame(dict(zip(self._schema, columns, strict=False)), schema=self._schema)
        rejected = [each.as_dict() for each in self._rejected]
        batch = Batch(rows, rejected, self._n_bytes, self._envelopes)
        self._kept, self._rejected, self._envelopes, self._n_bytes = [], [], [], 0
        return batch


def _text_of(item: Item) -> str | None:
    """What a row that cannot be used said; None where it cannot be written."""
    try:
        return item.record.text if is_record(item) else encode(item.value)
    except NotJsonError:
        return None


def _schema() -> dict[str, pl.DataType]:
    own = {name: getattr(pl, kind)() for name, kind in IDENTITY_COLUMNS.items()}
    return {**table_schema(), **own}
