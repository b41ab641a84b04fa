"""What is held of every row of a run: numbers and codes, some thirty bytes, and no text.

The tables of a run are read in pieces. A run writes the rows of its tables in one order, so that
pieces of two tables can be matched as they come. Tables in other orders, which somebody must have
made by hand, are matched as wholes, and are in memory for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import polars as pl

from trajweight.errors import RunError
from trajweight.trajectory import SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from trajweight.run import Run

_CODE: Final = pl.Categorical
_KEYS: Final = ("traj_id", "content_sha256")
#: Where a row stands in the piece that it was matched from.
_AT: Final = "at"


class _OutOfStepError(Exception):
    """Two tables do not have their rows in one order."""


def row_facts(
    run: Run, *, refuses: pl.Expr | None = None, with_source: bool = False, are_ranked: bool = False
) -> pl.DataFrame:
    """The rows of a run in their order: ``origin``, ``split``, ``weight``, ``n_chars``.

    Args:
        run: The run.
        refuses: Why a target cannot read a row, over the trajectory table; then in ``refusal``.
        with_source: Give ``source`` too.
        are_ranked: Give ``traj_id`` too: not the id, but its place among all in their order.

    Raises:
        RunError: If weights and rows do not belong together.
        DataError: If the weights break one of their laws.
    """
    of_row = [pl.col("origin").cast(_CODE), pl.col("n_chars")]
    read = {*_KEYS, "origin", "n_chars"}
    if with_source:
        of_row.append(pl.col("source").cast(_CODE))
        read.add("source")
    if refuses is not None:
        of_row.append(refuses.cast(_CODE).alias("refusal"))
        read |= set(refuses.meta.root_names())
    of_weight = [pl.col("split").cast(pl.Enum(SPLITS)), pl.col("weight")]

    def rows() -> Iterator[pl.DataFrame]:
        for piece in run.pieces("trajectories", *sorted(read)):
            yield piece.select(*_KEYS, *of_row)

    def weights() -> Iterator[pl.DataFrame]:
        for piece in run.weight_pieces():
            yield piece.select(*_KEYS, *of_weight)

    found, n_weights = beside(rows, weights, _KEYS)
    n_matched = found.height - found["split"].null_count()
    if not n_matched == found.height == n_weights:
        message = (
            f"weights.parquet ({n_weights} rows) and trajectories.parquet ({found.height} rows) "
            f"agree in {n_matched} rows only"
        )
        raise RunError(message, path=run.folder, hint="Run it again into this folder with --force.")
    if are_ranked:
        names = run.columns("trajectories", "traj_id")["traj_id"]
        found = found.with_columns(names.rank("ordinal"))
    return found


def trained_tokens(run: Run) -> pl.Series | None:
    """Of each row of a run, how many tokens are trained on; null where they were never counted.

    None where no row's were.
    """
    if not run.has("features.parquet"):
        return None
    columns = ("traj_id", "n_assistant_tokens")
    found, _ = beside(
        lambda: run.pieces("trajectories", "traj_id"),
        lambda: run.pieces("features", *columns),  # not the embeddings, which are long
        columns[:1],
    )
    return found["n_assistant_tokens"]


def beside(
    rows: Callable[[], Iterable[pl.DataFrame]],
    others: Callable[[], Iterable[pl.DataFrame]],
    keys: Sequence[str],
) -> tuple[pl.DataFrame, int]:
    """Every row of one table with what another says of it, null where it says nothing.

    Args:
        rows: Gives the pieces of the one.
        others: Gives those of the other.
        keys: What they are matched by; not in the result.

    Returns:
        The rows in their order, and how many the other table has.
    """
    try:
        matched = pl.concat(piece.drop(keys) for piece in _in_step(rows(), others(), keys))
    except _OutOfStepError:
        one, other = pl.concat(rows()), pl.concat(others())
        joined = one.join(other, on=keys, how="left", maintain_order="left").drop(keys)
        return joined, other.height
    return matched.drop(_AT).rechunk(), matched.height - matched[_AT].null_count()


def _in_step(
    rows: Iterable[pl.DataFrame], others: Iterable[pl.DataFrame], keys: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """The pieces of one table, each row with what another says of it, as both are read.

    Raises:
        _OutOfStepError: If rows of the other are not among those of the one in the same order.
    """
    coming = iter(others)
    waiting = next(coming)
    for piece in rows:
        while waiting.height < piece.height and (more := next(coming, None)) is not None:
            waiting = pl.concat([waiting, more])
        # so many at most can be theirs, if each stands in both tables in its turn
        window = waiting[: piece.height].with_row_index(_AT)
        joined = piece.join(window, on=keys, how="left", maintain_order="left")
        places = joined[_AT].drop_nulls()
        if joined.height != piece.height or not places.equals(window[_AT][: places.len()]):
            raise _OutOfStepError
        yield joined
        waiting = waiting[places.len() :]
    if waiting.height or any(more.height for more in coming):
        raise _OutOfStepError
