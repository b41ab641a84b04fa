"""A run's weights, back in rows that were tokenised again, filtered or mixed elsewhere.

Rows are read by the readers of the project, one at a time, and written as they stood with a root
``weight``. A row that the run does not know, or that it held out of training, has no weight. By
default it stays out of what is written and is counted: a trainer that meets a null takes it for
one, or breaks; a trainer that meets a number always does what was meant.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, get_args

from trajweight.containers import STDIN, sources_of
from trajweight.errors import ConfigError, DataError
from trajweight.files import json_line, write_atomically, write_jsonl
from trajweight.joinedrows import JoinRow, rows_to_join
from trajweight.joinedtable import WEIGHT, Decided, write_joined_table
from trajweight.progress import Progress
from trajweight.rows import Layout, RowMaker, Treatment
from trajweight.trainers.plain import free_name, with_room
from trajweight.weightbook import Answer, By, WeightBook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trajweight.containers import Source
    from trajweight.run import Run

Unmatched = Literal["drop", "keep"]
UNMATCHED: Final[tuple[Unmatched, ...]] = get_args(Unmatched)
#: Why a row has no weight.
_UNKNOWN, _HELD_OUT = "not in the run", "held out by the run"
_NOT_FOUND: Final = "in no data row"
#: Rows named of each kind.
_NAMED: Final = 5
#: Rows between two words on how far it is.
_TOLD_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Joined:
    """What was joined and what was not.

    Attributes:
        path: The file that was written.
        n_read: Rows of the data.
        n_written: Rows written.
        n_matched: By how they were found, see `weightbook.How`, rows that the run knows.
        n_without_weight: By why they have none, rows without a weight.
        n_rejected: Rows that cannot be read, or have no room for a weight.
        n_not_found: Rows of the run that have a weight and that no row of the data is.
        mean_weight: Mean over the weights written; None where there is none.
        examples: A few of the rows of each kind, as ``path:line`` and id, or the id in the run.
        warnings: Sentences the user should not miss.
        notes: Sentences on what else was done.
    """

    path: Path
    n_read: int
    n_written: int
    n_matched: dict[str, int]
    n_without_weight: dict[str, int]
    n_rejected: int
    n_not_found: int
    mean_weight: float | None
    examples: dict[str, list[str]]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def join_weights(
    run: Run,
    paths: Sequence[Path],
    out: Path,
    *,
    by: By = "auto",
    unmatched: Unmatched = "drop",
    layout: Layout | None = None,
    listing: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Joined:
    """Give rows the weights that a run has learned for them.

    Args:
        run: The run.
        paths: Files, folders, patterns, or ``-``, in any container and format that is read. Rows
            of tokens without a conversation are found by their id alone.
        out: Where to write: ``.jsonl`` or ``.jsonl.gz``; or ``.parquet`` where all the data is
            Parquet, whose columns and types then stay as they are.
        by: By id, by content, or by both; see `WeightBook.ask`.
        unmatched: What becomes of rows without a weight: dropped, or kept with null.
        layout: What is said of the format of the data.
        listing: Where to name every row without a weight, every rejected one, and every row of
            the run that was not found, as JSON lines.
        force: Write over what stands at ``out``.
        progress: Told of every row.

    Raises:
        ConfigError: If an option cannot be used, or something is in the way.
        DataError: If the data cannot be read, or none of it is in the run.
        RunError: If the run has no weights.
    """
    sources = _sources(paths)
    _require_free(run, sources, out, listing, force=force)
    joining = _Joining(run, by, unmatched, layout or Layout(), progress or Progress())
    with tempfile.TemporaryFile() as told:
        joining.told = told
        if out.suffix.lower() == ".parquet":
            joining.write_table(out, sources)
        else:
            write_jsonl(out, joining.rows(sources))
        if listing is not None:
            told.seek(0)
            write_atomically(listing, lambda stream: shutil.copyfileobj(told, stream))
    return joining.result(out)


@dataclass(slots=True)
class _Joining:
    """Goes through the data once."""

    run: Run
    by: By
    unmatched: Unmatched
    layout: Layout
    progress: Progress
    told: IO[bytes] | None = None
    n_read: int = 0
    n_written: int = 0
    mass: float = 0.0
    matched: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    renamed: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    n_compared: int = 0
    n_not_found: int = 0
    book: WeightBook = field(init=False)
    maker: RowMaker = field(init=False)

    def __post_init__(self) -> None:
        """Open the run, and read rows as it read them: what it mended is mended here too."""
        self.book = WeightBook.of(self.run)
        data = self.run.manifest().get("arguments", {}).get("data", {})
        treatment = Treatment(repair=bool(data.get("repair")))
        self.maker = RowMaker(layout=self.layout, treatment=treatment)

    def rows(self, sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
        """The rows to write."""
        for source in sources:
            for row, weight in self.decided(source):
                if WEIGHT in row.value:
                    self.renamed[free_name(row.value)] += 1
                made = with_room(row.value)
                made[WEIGHT] = weight
                yield made
        self.end()

    def write_table(self, out: Path, sources: Sequence[Source]) -> None:
        """Write the rows of Parquet files."""

        def decided(source: Source) -> Iterator[Decided]:
            return ((row.number - 1, weight) for row, weight in self.decided(source))

        if renamed := write_joined_table(out, sources, decided, self.end):
            self.renamed[renamed] = self.n_written

    def decided(self, source: Source) -> Iterator[tuple[JoinRow, float | None]]:
        """The rows of one file that are written, each with its weight."""
        self.progress.start(f"joining {source.path}")
        for row in rows_to_join(source, self.maker, self.layout):
            self.n_read += 1
            if self.n_read % _TOLD_ROWS == 0:
                self.progress.advance(_TOLD_ROWS)
            if row.fault or not isinstance(row.value, dict):
                self._reject(row)
                continue
            answer = self._asked(row)
            if answer.weight is not None or self.unmatched == "keep":
                self.n_written += 1
                self.mass += answer.weight or 0.0
                yield row, answer.weight
        self.progress.finish()

    def end(self) -> None:
        """Look back on all that was read; what was written does not yet stand in its place.

        Raises:
            DataError: If nothing was found, or only ids and never what they stand for.
        """
        if not self.matched:
            raise self._strange()
        if self.by == "auto" and self.n_compared and set(self.matched) == {"changed"}:
            message = (
                f"{self.matched['changed']} rows have an id of the run, but not one of them says "
                "what the run's row says: these may be ids of other rows."
            )
            raise DataError(message, hint="--by id joins them all the same.")
        for name in self.book.not_asked_for():
            self.n_not_found += 1
            self._name(_NOT_FOUND, name, {"traj_id": name, "why": _NOT_FOUND})

    def result(self, out: Path) -> Joined:
        """What came of it."""
        n_weighted = self.n_read - sum(self.without.values()) - sum(self.rejected.values())
        mean = self.mass / n_weighted if n_weighted else None
        return Joined(
            path=out,
            n_read=self.n_read,
            n_written=self.n_written,
            n_matched=dict(self.matched),
            n_without_weight=dict(self.without),
            n_rejected=sum(self.rejected.values()),
            n_not_found=self.n_not_found,
            mean_weight=mean,
            examples=self.examples,
            warnings=tuple(self._warnings()),
            notes=tuple(self._notes(mean)),
        )

    def _asked(self, row: JoinRow) -> Answer:
        answer = self.book.ask(row.name, row.content, self.by)
        if answer.how is None:
            self._without(_UNKNOWN, row)
            return answer
        self.matched[answer.how] += 1
        self.n_compared += row.content is not None
        if answer.how == "changed":
            self._name("changed", row.place)
        if answer.weight is None:
            self._without(_HELD_OUT, row)
        return answer

    def _without(self, why: str, row: JoinRow) -> None:
        self.without[why] += 1
        self._name(why, row.place, row.told(why))

    def _reject(self, row: JoinRow) -> None:
        why = row.fault or "is no object, so that it has no room for a weight"
        self.rejected[why] += 1
        self._name("rejected", f"{row.place}: {why}", row.told(why))

    def _name(self, kind: str, text: str, line: dict[str, Any] | None = None) -> None:
        """Keep the first few of a kind, and write all of them down."""
        named = self.examples.setdefault(kind, [])
        if len(named) < _NAMED:
            named.append(text)
        if line is not None and self.told is not None:
            self.told.write(json_line(line))

    def _strange(self) -> DataError:
        """The error for data of which the run knows no row."""
        n_bad = sum(self.rejected.values())
        rejected = f", {n_bad} of them unusable: {next(iter(self.rejected))}" if n_bad else ""
        message = f"none of the {self.n_read} rows is in the run{rejected}."
        hint = {
            "id": "Say where the id stands with --map id=FIELD, or try --by auto.",
            "content": "Rows without a conversation have no content; try --by auto.",
            "auto": "Give the data that the run was made from; --map id=FIELD says where ids are.",
        }
        return DataError(message, hint=hint[self.by])

    def _warnings(self) -> Iterator[str]:
        if n := self.matched["changed"]:
            yield (
                f"{n} rows have an id of the run but say something else; they got the weight of "
                f"that id, such as {self.examples['changed'][0]}."
            )
        if self.matched["content"] and self.book.n_shared:
            yield (
                f"{self.book.n_shared} texts stand in several rows of the run with different "
                "weights; found by content, they get the mean."
            )

    def _notes(self, mean: float | None) -> Iterator[str]:
        for name, count in self.renamed.items():
            yield f"{count} rows had a `weight` of their own; it is now `{name}`."
        if mean is not None and abs(mean - 1.0) > 0.01:
            yield (
                f"The mean of the weights written is {mean:.3g}; a trainer that divides by the "
                "number of rows or tokens takes steps that much "
                f"{'longer' if mean > 1 else 'shorter'}."
            )


def _sources(paths: Sequence[Path]) -> list[Source]:
    """The files of all names, each once."""
    found: dict[Path, Source] = {}
    for path in paths:
        for source in sources_of(path).sources:
            name = source.path if source.path == STDIN else source.path.resolve()
            found.setdefault(name, source)
    return list(found.values())


def _require_free(
    run: Run, sources: Sequence[Source], out: Path, listing: Path | None, *, force: bool
) -> None:
    """Never write over the run or the data; over anything else only with force."""
    if not out.name.lower().endswith((".jsonl", ".jsonl.gz", ".parquet")):
        message = f"--out {out} has an ending that names no format."
        raise ConfigError(message, hint="Use .jsonl, .jsonl.gz or .parquet.")
    folder = Path(os.path.realpath(run.folder))
    read = {Path(os.path.realpath(each.path)) for each in sources if each.path != STDIN}
    for option, path in (("--out", out), ("--list", listing)):
        if path is None:
            continue
        place = Path(os.path.realpath(path))
        if place in read:
            message = f"{option} {path} is a file that the rows are read from."
            raise ConfigError(message, hint="Give another; the data is never written over.")
        if folder in place.parents or place == folder:
            message = f"{option} {path} lies in the folder of the run."
            raise ConfigError(message, hint=f"Give another {option}.")
        if path.is_dir():
            message = f"{option} {path} is a folder; a file is written."
            raise ConfigError(message, hint="Give a file name.")
        if path.is_file() and not force:
            message = f"{option} {path} is already there."
            raise ConfigError(message, hint=f"--force or another {option}")
