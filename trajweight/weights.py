"""The weight table and its laws: finite, never negative, mean one over what was learned.

One row stands here for every trajectory that was kept. The synthetic rows of split "train" carry
the learned weights; the real ones of that split share one constant; all others have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
import polars as pl

from trajweight.errors import ConfigError, DataError
from trajweight.trajectory import ORIGINS, SPLITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float64]

#: Column name to polars type name, in the order of ``weights.parquet``.
WEIGHT_COLUMNS: Final[dict[str, str]] = {
    "traj_id": "String",
    "content_sha256": "String",
    "source": "String",
    "origin": "String",
    "split": "String",
    "task_id": "String",
    "weight": "Float64",  # null outside of split "train"
    "score": "Float64",  # what the head said before normalisation; null where it said nothing
    "n_tokens": "Int64",
    "n_turns": "Int64",
}

#: How far the mean of the learned weights may stand from one; float32 sums of 1e5 rows stay within.
MEAN_ONE_TOLERANCE: Final = 1e-5
_IS_LEARNED: Final = (pl.col("split") == "train") & (pl.col("origin") == "synthetic")


@overload
def effective_sample_size(w: Floats) -> float: ...
@overload
def effective_sample_size(w: Tensor) -> Tensor: ...
def effective_sample_size(w: Any) -> Any:
    """How many equally weighted rows are worth as much as these: (sum w)^2 / sum w^2.

    Written with ``sum`` and ``*`` alone, so it takes a numpy array or a tensor and stays
    differentiable. It does not depend on the scale of the weights.

    Args:
        w: Non-negative weights, not all zero. Shape (n,).

    Returns:
        A scalar between 1 and n.

    Reference:
        Kish, Survey Sampling, 1965.

    Example:
        >>> import numpy as np
        >>> float(effective_sample_size(np.array([1.0, 1.0, 0.0, 0.0])))
        2.0
    """
    share = w * (1.0 / w.sum())  # first, so that squares of tiny weights do not underflow
    return 1.0 / (share * share).sum()


def effective_share(weights: Floats) -> float:
    """ESS/n, above 0 and at most 1: what part of the rows counts.

    Args:
        weights: Non-negative weights, not all zero. Shape (n,).

    Example:
        >>> import numpy as np
        >>> effective_share(np.array([1.0, 1.0, 0.0, 0.0]))
        0.5
    """
    return min(float(effective_sample_size(weights)) / len(weights), 1.0)


def mean_one(weights: Floats) -> Floats:
    """The same weights with mean one, as float64: (n,) to (n,).

    Raises:
        DataError: If one is negative or not finite, or none is above zero.
    """
    found = np.asarray(weights, dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(found) & (found >= 0)))
    if len(bad):
        message = f"weight {bad[0]} is {found[bad[0]]}; it must be a finite number of at least 0."
        raise DataError(message)
    most = float(found.max(initial=0.0))
    if most == 0.0:
        message = f"none of {len(found)} weights is above zero; there is nothing to train on."
        raise DataError(message)
    small = found / most  # first, so that no sum overflows
    return small / float(small.mean())


def real_row_weight(n_real_train: int, n_synthetic_train: int, share: float) -> float:
    """The constant weight of each real training row that gives real rows their share of mass.

    Solves ``n_real c / (n_real c + n_synthetic) = share`` for ``c``, the synthetic weights having
    mean one. With no real or no synthetic rows there is nothing to share, and ``c`` is one.

    Args:
        n_real_train: Number of real training rows.
        n_synthetic_train: Number of synthetic training rows.
        share: Wanted share of the whole mass, at least 0 and below 1.

    Raises:
        ConfigError: If ``share`` is outside of [0, 1).

    Example:
        >>> real_row_weight(10, 30, 0.25)
        1.0
    """
    if not 0.0 <= share < 1.0:
        message = f"the real rows' share of mass is {share}; it must be at least 0 and below 1."
        raise ConfigError(message)
    if n_real_train == 0 or n_synthetic_train == 0:
        return 1.0
    return share / (1.0 - share) * n_synthetic_train / n_real_train


def weight_table(
    table: pl.DataFrame,
    *,
    weights: Mapping[str, float],
    real_weight: float,
    scores: Mapping[str, float] | None = None,
    n_tokens: Mapping[str, int] | None = None,
) -> pl.DataFrame:
    """The table of ``weights.parquet``, checked, in the row order of the trajectory table.

    Args:
        table: The trajectory table with a ``split`` column.
        weights: By ``traj_id``, the weight of every synthetic row of split "train".
        real_weight: The weight of every real row of split "train".
        scores: By ``traj_id``, the head's raw output, for any rows.
        n_tokens: By ``traj_id``, the number of tokens, for the rows that were tokenised.

    Raises:
        DataError: If the weights belong to other rows, or break a law of `check_weight_table`.
    """
    is_train = pl.col("split") == "train"
    is_learned = is_train & (pl.col("origin") == "synthetic")
    learned = table.filter(is_learned)["traj_id"].to_list()
    _require_same_rows(learned, weights)
    ids = table["traj_id"].to_list()
    extra = pl.DataFrame(
        {
            "learned": [weights.get(name) for name in ids],
            "score": [(scores or {}).get(name) for name in ids],
            "n_tokens": [(n_tokens or {}).get(name) for name in ids],
        },
        schema={"learned": pl.Float64, "score": pl.Float64, "n_tokens": pl.Int64},
    )
    weight = pl.when(is_learned).then("learned").when(is_train).then(pl.lit(float(real_weight)))
    made = table.drop("score", "n_tokens", strict=False).hstack(extra)
    made = made.with_columns(weight.alias("weight")).select(list(WEIGHT_COLUMNS))
    made = made.cast({name: getattr(pl, kind) for name, kind in WEIGHT_COLUMNS.items()})
    check_weight_table(made)
    return made


def check_weight_table(table: pl.DataFrame) -> None:
    """Hold a weight table to its laws.

    Columns and types are those of `WEIGHT_COLUMNS`; ids are unique; rows of split "train" have
    finite weights of at least zero and the others none; the synthetic training weights have a
    mean within `MEAN_ONE_TOLERANCE` of one.

    Raises:
        DataError: Naming the first law that is broken, with the row and the value.
    """
    _check_rows(table)
    learned = table.filter(_IS_LEARNED)["weight"]
    mean = learned.mean()
    if isinstance(mean, float) and abs(mean - 1.0) > MEAN_ONE_TOLERANCE:
        message = f"the mean weight of the synthetic training rows is {mean:.9g}; it must be 1."
        raise DataError(message, hint="Divide the learned weights by their mean.")


def checked_pieces(
    pieces: Iterable[pl.DataFrame], whole: Callable[[], pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """The pieces of a weight table as they come, held to its laws by the time the last has gone.

    Of each row no more is kept than a hash of its id. Two hashes can be alike where the ids are
    not, and a piece knows nothing of the others; so where a law seems broken, the whole is asked.

    Args:
        pieces: The rows, in order.
        whole: Gives all of them at once.

    Raises:
        DataError: See `check_weight_table`.
    """
    hashes, mass, count = [np.zeros(0, np.uint64)], 0.0, 0
    for piece in pieces:
        try:
            _check_rows(piece)
        except DataError:
            check_weight_table(whole())
            raise
        hashes.append(piece["traj_id"].hash().to_numpy())
        learned = piece.filter(_IS_LEARNED)["weight"]
        mass, count = mass + float(learned.sum()), count + learned.len()
        yield piece
    known = np.concatenate(hashes)
    hashes.clear()
    known.sort()
    if (known[1:] == known[:-1]).any() or abs(mass - count) > MEAN_ONE_TOLERANCE * count:
        check_weight_table(whole())


def _check_rows(table: pl.DataFrame) -> None:
    """Hold a weight table, or a piece of one, to all of its laws but the mean of one."""
    _check_columns(table)
    twice = table.filter(pl.col("traj_id").is_duplicated() | pl.col("traj_id").is_null())
    _refuse(twice, "traj_id", "is missing or stands twice; every row needs an id of its own")
    for column, known in (("origin", ORIGINS), ("split", SPLITS)):
        strange = table.filter(~pl.col(column).is_in(list(known)).fill_null(value=False))
        _refuse(strange, column, f"is not one of {', '.join(known)}")
    trained = pl.col("split") == "train"
    weight = pl.col("weight")
    bad = trained & (weight.is_null() | ~weight.is_finite() | (weight < 0))
    _refuse(table.filter(bad), "weight", "must be a finite number of at least 0 in split train")
    _refuse(
        table.filter(~trained & weight.is_not_null()), "weight", "must be null outside of train"
    )


def _check_columns(table: pl.DataFrame) -> None:
    """Names, order and types are part of the promise to whoever reads the file."""
    wanted = {name: getattr(pl, kind) for name, kind in WEIGHT_COLUMNS.items()}
    found = dict(table.schema)
    if list(found.items()) != list(wanted.items()):
        message = f"the weight table has the columns {found}; they must be {wanted}."
        raise DataError(message)


def _refuse(rows: pl.DataFrame, column: str, law: str) -> None:
    """Raise about the first of ``rows``, if there is one."""
    if rows.height:
        first = rows.row(0, named=True)
        others = f" ({rows.height} rows in all)" if rows.height > 1 else ""
        message = (
            f"the weight table's row {first['traj_id']!r} has {column} {first[column]!r}{others}; "
            f"{column} {law}."
        )
        raise DataError(message)


def _require_same_rows(learned: list[str], weights: Mapping[str, float]) -> None:
    """A weight for every synthetic training row, and for no other."""
    missing = [name for name in learned if name not in weights]
    foreign = sorted(set(weights) - set(learned))
    for names, complaint in ((missing, "lacks"), (foreign, "is not in split train but has")):
        if names:
            message = (
                f"{len(names)} of the synthetic rows disagree with the weights: "
                f"{names[0]!r} {complaint} a learned weight."
            )
            raise DataError(message)
