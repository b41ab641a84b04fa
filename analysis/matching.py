"""Which row of one table is which row of another: the same words first, then the same name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from trajweight.analysis.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What rows are matched by; `matched` says what comes first.
KEYS: Final = ("content_sha256", "traj_id")
#: What a run says of a row beside its split.
LABELS: Final = ("source", "origin", "task_id")


@dataclass(frozen=True, slots=True)
class SplitChange(Facts):
    """Rows of both runs that stand in another split in the second.

    Attributes:
        origin: Real or synthetic, as the first run says.
        split_a: Their split in the first run.
        split_b: Their split in the second.
        n: How many.
        ids: The first of them, by their ids in the first run.
    """

    origin: str
    split_a: str
    split_b: str
    n: int
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rows(Facts):
    """Which rows the runs have in common.

    Attributes:
        n_a: Rows of the first run.
        n_b: Rows of the second.
        n_both: Rows that stand in both.
        n_by_content: Of these, those with the same messages and tools.
        n_by_id: The others, which have the same id and other content.
        n_only_a: Rows that the second run lacks.
        n_only_b: Rows that the first lacks.
        n_relabelled: Rows of both with another source, origin or task.
        n_resplit: Rows of both that stand in another split.
        splits: These by where they went, the most first.
    """

    n_a: int
    n_b: int
    n_both: int
    n_by_content: int
    n_by_id: int
    n_only_a: int
    n_only_b: int
    n_relabelled: int
    n_resplit: int
    splits: tuple[SplitChange, ...]

    @property
    def are_same(self) -> bool:
        """Whether both runs are of the same rows, in the same splits and under the same names."""
        alone = self.n_only_a + self.n_only_b
        return not (alone + self.n_by_id + self.n_relabelled + self.n_resplit)


def matched(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    """The rows that stand in both tables, each once.

    Of rows with the same content those of the same id belong together, and what copies are left
    the first to the first. Rows that are alone by then belong together if their ids are the same;
    the content of these is not.

    Args:
        a: With the columns of ``KEYS``; ids are unique.
        b: The same, with the same columns.

    Returns:
        All columns of both, ``NAME_a`` and ``NAME_b``, in the order of ``a``, and ``is_same``:
        whether the content is.
    """
    left, right = _numbered(a), _numbered(b)
    found = []
    for is_same, keys in (
        (True, ["content_sha256", "traj_id"]),
        (True, ["content_sha256", "copy"]),
        (False, ["traj_id"]),
    ):
        if "copy" in keys:
            left, right = _counted(left), _counted(right)
        pairs = left.join(right, on=keys, suffix="_b").select("row", "row_b")
        found.append(pairs.with_columns(is_same=pl.lit(is_same)))
        left, right = _without(left, pairs["row"]), _without(right, pairs["row_b"])
    pairs = pl.concat(found).sort("row")
    sides = (_taken(a, pairs["row"], "_a"), _taken(b, pairs["row_b"], "_b"))
    return pl.concat([*sides, pairs.select("is_same")], how="horizontal")


def rows_in_both(a: pl.DataFrame, b: pl.DataFrame, both: pl.DataFrame, *, top: int) -> Rows:
    """Counts of what is matched, and where rows went.

    Args:
        a: With the columns of ``KEYS`` and ``LABELS``, and ``split``.
        b: The same.
        both: From `matched`.
        top: Ids told of each change of split.
    """
    by_content = int(both["is_same"].sum())
    labels = pl.any_horizontal(
        pl.col(f"{name}_a").ne_missing(pl.col(f"{name}_b")) for name in LABELS
    )
    gone = both.filter(pl.col("split_a") != pl.col("split_b"))
    ways = (
        gone.group_by(origin="origin_a", split_a="split_a", split_b="split_b")
        .agg(n=pl.len(), ids=pl.col("traj_id_a").head(top))
        .sort("n", "origin", "split_a", "split_b", descending=[True, False, False, False])
    )
    return Rows(
        n_a=a.height,
        n_b=b.height,
        n_both=both.height,
        n_by_content=by_content,
        n_by_id=both.height - by_content,
        n_only_a=a.height - both.height,
        n_only_b=b.height - both.height,
        n_relabelled=both.filter(labels).height,
        n_resplit=gone.height,
        splits=tuple(
            SplitChange(**{**way, "ids": tuple(way["ids"])}) for way in ways.iter_rows(named=True)
        ),
    )


def _numbered(table: pl.DataFrame) -> pl.DataFrame:
    """What rows are matched by, and where they stand."""
    return table.select(KEYS).with_row_index("row")


def _counted(rows: pl.DataFrame) -> pl.DataFrame:
    """Which copy of its content each row is, in the order of the rows."""
    return rows.with_columns(copy=pl.int_range(pl.len()).over("content_sha256"))


def _without(rows: pl.DataFrame, gone: pl.Series) -> pl.DataFrame:
    """The rows that are not matched yet, in their order."""
    return rows.join(gone.to_frame("row"), on="row", how="anti", maintain_order="left")


def _taken(table: pl.DataFrame, rows: Sequence[int] | pl.Series, suffix: str) -> pl.DataFrame:
    """Some rows under names that tell the side."""
    return table[rows].rename(lambda name: name + suffix)
