"""What a browser does with the rows of a run: load, sort, filter, search, find; no terminal here.

Only numbers and names of all rows are held. A row is known by its place, which is its number in the
table of the run, from 0 on; what is shown is an array of places in the order they are shown in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from trajweight.analysis.excerpts import inert
from trajweight.errors import RunError
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from numpy.typing import NDArray

    from trajweight.run import Run

    Places = NDArray[np.int64]
    Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that rows are shown and sorted by.

    Attributes:
        name: In the table.
        title: For people.
        is_number: Whether it holds numbers; those are sorted with the highest first.
    """

    name: str
    title: str
    is_number: bool = True


COLUMNS: Final = (
    Column("weight", "weight"),
    Column("percentile", "pct"),
    Column("origin", "origin", is_number=False),
    Column("source", "source", is_number=False),
    Column("split", "split", is_number=False),
    Column("n_turns", "turns"),
    Column("n_tokens", "tokens"),
    Column("reward", "reward"),
    Column("traj_id", "id", is_number=False),
)
BY_NAME: Final = {column.name: column for column in COLUMNS}
_MEASURED: Final = {
    "features.parquet": ("base_nll", "n_assistant_tokens"),
    "ensemble.parquet": ("weight_low", "weight_high"),
}
_AGAIN: Final = "Run it again into the same folder with --force."
#: Columns of few values, of which some can be picked.
PICKED: Final = ("origin", "split", "source")
#: Characters of a filter that are told.
_TOLD: Final = 30


@dataclass(frozen=True, slots=True)
class Sorting:
    """In which order rows are shown.

    Attributes:
        column: Name of the column that decides; rows it says nothing of come last.
        is_descending: Whether the highest comes first. Equal rows stay in the order of the run.
    """

    column: str = "weight"
    is_descending: bool = True


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows are shown: those that pass all of these.

    Attributes:
        words: Must stand in the id or the source, in capitals or not.
        picked: Column and value; of each column that is named, one of its values must be the row's.
        found: What a search found, and what was searched for.
        is_marked: Only rows that are marked.
    """

    words: str = ""
    picked: frozenset[tuple[str, str]] = frozenset()
    found: tuple[str, Places] | None = None
    is_marked: bool = False

    def __bool__(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.words or self.picked or self.found is not None or self.is_marked)


def load_rows(run: Run) -> pl.DataFrame:
    """The columns `COLUMNS` and ``place`` of all rows of a run, in its order.

    ``percentile`` is the share of the synthetic training rows that weigh less, in per cent; of rows
    of the same weight half count. Other rows have none, since their weight was not learned.

    Raises:
        RunError: If the run lacks its rows or their weights, or the two are not of the same rows.
    """
    path = run.path_of("trajectories.parquet")
    known = pl.scan_parquet(path).select("traj_id", "reward").with_row_index("place").collect()
    weights = run.table("weights")
    if not weights["traj_id"].equals(known["traj_id"]):  # rare, and worth no join otherwise
        n_weights = weights.height
        weights = known.select("traj_id").join(
            weights, on="traj_id", how="left", maintain_order="left"
        )
        if weights["split"].null_count() or n_weights != known.height:
            message = "names other rows than the weights of this run"
            raise RunError(message, path=path, hint=_AGAIN)
    rows = weights.with_columns(known["reward"], known["place"])
    learned = (pl.col("origin") == "synthetic") & (pl.col("split") == "train")
    weight = pl.when(learned).then("weight")
    percentile = 100.0 * (weight.rank("average") - 0.5) / learned.sum()
    columns = [each.name for each in COLUMNS]
    return rows.with_columns(percentile=percentile).select(*columns, "place")


def measured(run: Run, name: str) -> dict[str, Any]:
    """What the models said of one row: its base loss, its tokens in the loss, the range of heads.

    Args:
        run: Whose row it is.
        name: Its id.

    Returns:
        ``base_nll`` and ``n_assistant_tokens``, ``weight_low`` and ``weight_high``, where known.
    """
    found: dict[str, Any] = {}
    for file, columns in _MEASURED.items():
        if run.has(file):
            table = pl.scan_parquet(run.path_of(file)).filter(pl.col("traj_id") == name)
            for row in table.select(columns).collect().iter_rows(named=True):
                found |= row
    return found


def sorted_places(rows: pl.DataFrame, sorting: Sorting) -> Places:
    """The places of all rows in an order."""
    order = pl.arg_sort_by(
        sorting.column, descending=sorting.is_descending, nulls_last=True, maintain_order=True
    )
    return rows.select(order).to_series().to_numpy().astype(np.int64)


def is_shown(rows: pl.DataFrame, filters: Filters, marked: Iterable[str] = ()) -> Flags:
    """Which rows pass the filters.

    Args:
        rows: All of them.
        filters: What is asked for.
        marked: Ids of the rows that are marked.
    """
    passed = np.ones(rows.height, bool)
    if filters.words:
        words = f"(?i){pl.escape_regex(filters.words)}"  # much faster than all in small letters
        named = pl.col("traj_id", "source").str.contains(words)
        passed &= rows.select(pl.any_horizontal(named)).to_series().to_numpy()
    for column in {column for column, _ in filters.picked}:
        values = [value for name, value in filters.picked if name == column]
        passed &= rows[column].is_in(values).to_numpy()
    if filters.found is not None:
        found = np.zeros(rows.height, bool)
        found[filters.found[1]] = True
        passed &= found
    if filters.is_marked:
        passed &= rows["traj_id"].is_in(list(marked)).to_numpy()
    return passed


def filters_told(filters: Filters) -> list[str]:
    """What the rows that are shown have in common, in words a terminal does not act upon."""
    told = []
    if filters.words:
        told.append(f"id or source has '{inert(filters.words, limit=_TOLD)}'")
    for column in PICKED:
        values = sorted(value for name, value in filters.picked if name == column)
        if values:
            told.append(f"{column} {inert(', '.join(values), limit=_TOLD)}")
    if filters.found is not None:
        told.append(f"turns say '{inert(filters.found[0], limit=_TOLD)}'")
    if filters.is_marked:
        told.append("marked rows only")
    return told


def values_of(rows: pl.DataFrame, column: str, *, most: int) -> list[tuple[str, int]]:
    """The most frequent values of a column and how many rows have each, most frequent first."""
    counts = rows[column].value_counts(name="n").sort("n", column, descending=[True, False])
    return list(counts.head(most).iter_rows())


def search(
    batches: Iterable[pl.DataFrame], words: str, *, is_ended: Callable[[], bool]
) -> Iterator[tuple[int, list[int]]]:
    """Look for words, in capitals or not, in what the turns of all rows say.

    That is their texts, their reasoning, and the names and arguments of their calls, each by
    itself.

    Args:
        batches: All rows in order, with ``messages_json``.
        words: What to look for.
        is_ended: Asked after each batch; the search ends when it says so.

    Yields:
        How many rows were looked at so far, and at which places words were found since.
    """
    needle = words.casefold()
    # What JSON never escapes stands in the row's text as it is, which is much faster looked at.
    is_plain = needle.isprintable() and not set(needle) & {'"', "\\"}
    first = 0
    for batch in batches:
        found = []
        for place, text in enumerate(batch["messages_json"], start=first):
            if is_plain and needle not in text.casefold():
                continue
            if any(needle in said.casefold() for said in _said(decode(text))):
                found.append(place)
        first += batch.height
        yield first, found
        if is_ended():
            return


def extreme(weights: NDArray[np.float64], order: Places, *, is_heaviest: bool) -> int | None:
    """Where in an order the heaviest or the lightest row stands; None where no row has a weight.

    Args:
        weights: Of all rows; NaN for a row that has none. Shape (n,).
        order: Places of the rows shown. Shape (k,).
        is_heaviest: Which of the two.
    """
    shown = weights[order]
    if not np.isfinite(shown).any():
        return None
    return int(np.nanargmax(shown) if is_heaviest else np.nanargmin(shown))


def position_of(order: Places, place: int | None) -> int | None:
    """Where a row stands in an order; None where it does not."""
    if place is None:
        return None
    found = np.flatnonzero(order == place)
    return int(found[0]) if len(found) else None


def _said(messages: list[dict[str, Any]]) -> Iterator[str]:
    """All that the turns say."""
    for message in messages:
        yield message["content"]
        yield message.get("reasoning", "")
        for call in message.get("tool_calls", ()):
            yield call["name"]
            yield arguments_text(call)


def arguments_text(call: dict[str, Any]) -> str:
    """The arguments of a call as text; what was no JSON is text already."""
    arguments = call["arguments"]
    return arguments if isinstance(arguments, str) else encode(arguments)
