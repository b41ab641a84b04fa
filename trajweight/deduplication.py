"""Copies among the rows of a run: counted always, and taken out where that was asked for.

What is taken out is rejected with the row that it copies named, so rows read are still rows kept
plus rows rejected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import polars as pl

from trajweight.copies import Copies, exact_copies, near_copies
from trajweight.duplicates import DEFAULT_THRESHOLD, comparable_text
from trajweight.jsontext import decode, encode
from trajweight.remains import RowNumbers
from trajweight.table import original_row
from trajweight.trajectory import TEXT_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trajweight.config import DedupName
    from trajweight.copies import Flags, Places
    from trajweight.storage import Storage

#: Pairs of sources that a note names.
_PAIRS_TOLD: Final = 5


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The copies among the rows of a run.

    Attributes:
        exact: Rows whose messages and tools are those of another row.
        near: Other rows that are like another one; None where they were not searched.
        sources: Names of sources.
        source_of: For each row the place of its source among them.
    """

    exact: Copies
    near: Copies | None
    sources: list[str]
    source_of: Places

    def facts(self, dedup: DedupName) -> dict[str, Any]:
        """Numbers and pairs of sources, for the manifest and for people."""
        facts: dict[str, Any] = {
            "exact": len(self.exact),
            "exact_by_source": self.exact.by_source(self.sources, self.source_of),
            "near": None,
            "removed": len(self.gone(dedup)),
        }
        if self.near is not None:
            facts |= {
                "near": len(self.near),
                "near_by_source": self.near.by_source(self.sources, self.source_of),
                "threshold": DEFAULT_THRESHOLD,
                "searched": self.near.how,
            }
        return facts

    def notes(self, dedup: DedupName) -> list[str]:
        """Sentences on what was found."""
        facts = self.facts(dedup)
        notes = []
        if facts["exact"]:
            done = "rejected" if dedup != "none" else "kept; --dedup exact rejects them"
            told = f"{facts['exact']} rows say word for word what another one says, {done}"
            notes.append(f"duplicates: {told}: {_pairs(facts['exact_by_source'])}")
        if facts["near"] is not None:
            told = f"{facts['near']} rows nearly say what another one says"
            pairs = f", rejected: {_pairs(facts['near_by_source'])}" if facts["near"] else ""
            notes.append(f"duplicates: {told} ({facts['searched']}){pairs}")
        return notes

    def gone(self, dedup: DedupName) -> dict[int, Gone]:
        """The rows to take out, by their positions; none copies another that is taken out."""
        gone: dict[int, Gone] = {}
        if dedup == "near" and self.near is not None:
            gone = {row: Gone(*found, "near") for row, found in _found(self.near)}
        for row, (of, similarity) in _found(self.exact) if dedup != "none" else ():
            gone[row] = gone.get(of, Gone(of, similarity, "exact"))
        return gone


class Gone(NamedTuple):
    """Why a row is taken out.

    Attributes:
        of: The row that it copies.
        similarity: How alike they are.
        kind: exact or near.
    """

    of: int
    similarity: float
    kind: str


def find_duplicates(storage: Storage, *, near: bool) -> Duplicates:
    """Search the rows of a run for copies, inside and across sources.

    Two unlike rows count as exact copies if 64 bits of their hashes agree, with a chance of about
    n^2 / 2^65: 3 in 10^8 for a million rows.

    Args:
        storage: The rows, all of them written.
        near: Whether to search near copies too.

    Raises:
        MissingError: If that needs a package that is not installed.
    """
    keys, is_real, sources = [np.empty(0, np.uint64)], [np.empty(0, bool)], [np.empty(0, np.int64)]
    names: dict[str, int] = {}
    for frame in storage.rows():
        key = pl.col("content_sha256").str.head(16).str.to_integer(base=16, dtype=pl.UInt64)
        keys.append(frame.select(key).to_series().to_numpy())
        is_real.append((frame["origin"] == "real").to_numpy())
        codes = [names.setdefault(name, len(names)) for name in frame["source"].to_list()]
        sources.append(np.array(codes, np.int64))
    real = np.concatenate(is_real)
    exact = exact_copies(np.concatenate(keys), real)
    found = _near(storage, real, exact) if near else None
    return Duplicates(exact, found, list(names), np.concatenate(sources))


def take_out(storage: Storage, gone: Mapping[int, Gone]) -> None:
    """Reject rows that copy others.

    Args:
        storage: The rows; they are written anew.
        gone: See ``Duplicates.gone``.
    """
    if not gone:
        return
    is_gone = np.zeros(1 + max(gone), bool)
    is_gone[list(gone)] = True
    storage.take_out(is_gone, _rejections(storage, gone))


def _near(storage: Storage, is_real: Flags, exact: Copies) -> Copies:
    """Near copies among the rows that are no exact ones."""
    rows = np.setdiff1d(np.arange(len(is_real)), exact.rows)
    found = near_copies(_StoredTexts(storage, rows), is_real[rows])
    return Copies(rows[found.rows], rows[found.of], found.similarity, found.how)


class _StoredTexts:
    """What some rows of a run say, read from the disk whenever it is asked for."""

    def __init__(self, storage: Storage, rows: Places) -> None:
        self._storage, self._rows = storage, rows

    def __len__(self) -> int:
        return len(self._rows)

    def of(self, rows: Sequence[int]) -> Iterator[str]:
        wanted, first = self._rows[np.asarray(rows, np.int64)], 0
        for frame in self._storage.batches("messages_json"):
            left, right = np.searchsorted(wanted, (first, first + frame.height)).tolist()
            messages = frame["messages_json"]
            for place in wanted[left:right] - first:
                yield comparable_text(messages[int(place)])
            first += frame.height


def _rejections(storage: Storage, gone: Mapping[int, Gone]) -> Iterator[dict[str, Any]]:
    """The rows as objects of ``rejected.jsonl``."""
    named = _named(storage, {each.of for each in gone.values()})
    numbers = RowNumbers.of(storage.rejected())
    first = 0
    for frame in storage.batches(*TEXT_COLUMNS):
        own = [numbers.next(path) for path in frame["origin_path"]]
        places = [place for place in range(frame.height) if first + place in gone]
        for place, row in zip(places, frame[places].iter_rows(named=True), strict=True):
            why = gone[first + place]
            yield {
                "path": row["origin_path"],
                "line": row["origin_row"],
                "reason": _reason(why, named[why.of]),
                "text": encode(original_row(row)),
                "row": own[place],
                **({"rows": decode(row["origin_rows"])} if row["origin_rows"] else {}),
            }
        first += frame.height


def _reason(why: Gone, name: str) -> str:
    likeness = "" if why.kind == "exact" else f" (similarity {why.similarity:.2f})"
    return f"{why.kind} copy of row {name}{likeness}"


def _named(storage: Storage, rows: set[int]) -> dict[int, str]:
    """What some rows are called, with their places."""
    names, first = {}, 0
    ordered = np.array(sorted(rows), np.int64)
    for frame in storage.rows():
        left, right = np.searchsorted(ordered, (first, first + frame.height)).tolist()
        for row in ordered[left:right].tolist():
            one = frame.row(row - first, named=True)
            names[row] = f"{one['traj_id']} at {one['origin_path']}:{one['origin_row']}"
        first += frame.height
    return names


def _found(copies: Copies) -> Iterator[tuple[int, tuple[int, float]]]:
    """Each copy with the row it copies and how alike they are."""
    pairs = zip(copies.of.tolist(), copies.similarity.tolist(), strict=True)
    return zip(copies.rows.tolist(), pairs, strict=True)


def _pairs(table: Sequence[Mapping[str, Any]]) -> str:
    """The most frequent pairs of sources, in words."""
    told = [f"{one['n']} of {one['source']} copy {one['copies']}" for one in table[:_PAIRS_TOLD]]
    rest = sum(int(one["n"]) for one in table[_PAIRS_TOLD:])
    return ", ".join(told) + (f", and {rest} of other pairs" if rest else "")
