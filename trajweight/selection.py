"""Which rows of a run go out, and for each of the others the reason why it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from trajweight.errors import ConfigError
from trajweight.trajectory import ORIGINS, SPLITS, Origin, Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

_QUOTA_HINT: Final = "Write SOURCE=500 for rows, or SOURCE=30% for a share of the source's rows."
#: Shares of a mass are sums of many weights, so a share met to within this counts as met.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Quota:
    """At most how many synthetic training rows of one source go out; one of the two is given.

    Attributes:
        rows: A number of rows.
        share: A share of the source's synthetic training rows, 0 to 1, rounded up to whole rows.
    """

    rows: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if (self.rows is None) == (self.share is None):
            message = "a quota needs either a number of rows or a share."
            raise ConfigError(message, hint=_QUOTA_HINT)
        if self.rows is not None and self.rows < 0:
            message = f"a quota is {self.rows} rows; it must be at least 0."
            raise ConfigError(message, hint=_QUOTA_HINT)
        if self.share is not None and not 0 <= self.share <= 1:
            message = f"a quota is {100 * self.share:g} %; it must be from 0 to 100 %."
            raise ConfigError(message, hint=_QUOTA_HINT)

    def of(self, n: int) -> int:
        """The number of rows it allows to a source of ``n`` rows."""
        if self.share is not None:
            return _part_of(n, self.share)
        return n if self.rows is None else min(n, self.rows)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows go out. Weights filter synthetic rows only; real training rows stay.

    The heaviest rows are those of the run's synthetic training rows, ties by ``traj_id``. Quotas
    come first: the heaviest of the rows within them are taken, so ``top_k`` rows go out wherever
    the quotas leave as many. At most one of the three ``top_`` is given.

    Attributes:
        splits: Splits to take; rows outside of "train" have no weight, and get null.
        origins: Origins to take.
        min_weight: Least weight of a synthetic row.
        top_k: How many synthetic rows to take, the heaviest first.
        top_fraction: The same as a share of the run's synthetic training rows, rounded up.
        top_p: The same by mass: as few rows as hold this share of the run's learned mass. Where
            quotas leave less than that, all that they leave.
        quotas: By source, at most how many of its synthetic training rows to take.
    """

    splits: tuple[Split, ...] = ("train",)
    origins: tuple[Origin, ...] = ORIGINS
    min_weight: float | None = None
    top_k: int | None = None
    top_fraction: float | None = None
    top_p: float | None = None
    quotas: Mapping[str, Quota] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for option, names, known in (
            ("--split", self.splits, SPLITS),
            ("--origin", self.origins, ORIGINS),
        ):
            strange = [name for name in names if name not in known]
            if strange or not names:
                message = f"{option} is {', '.join(strange) or 'empty'}; it must be among {known}."
                raise ConfigError(message)
        if self.min_weight is not None and not 0 <= self.min_weight < math.inf:
            message = f"--min-weight is {self.min_weight}; it must be a number of at least 0."
            raise ConfigError(message)
        if self.top_k is not None and self.top_k < 1:
            message = f"--top-k is {self.top_k}; it must be at least 1."
            raise ConfigError(message)
        for option, share in (("--top-fraction", self.top_fraction), ("--top-p", self.top_p)):
            if share is not None and not 0 < share <= 1:
                message = f"{option} is {share}; it must be above 0 and at most 1."
                raise ConfigError(message)
        tops = {"--top-k": self.top_k, "--top-fraction": self.top_fraction, "--top-p": self.top_p}
        given = [option for option, value in tops.items() if value is not None]
        if len(given) > 1:
            message = (
                f"{' and '.join(given)} {'both' if len(given) == 2 else 'all'} say how many rows "
                "to take."
            )
            raise ConfigError(message, hint="Give one of them.")

    @property
    def are_by_weight(self) -> bool:
        """Whether a row's weight has a say in whether it goes out."""
        return self.ranks or self.min_weight is not None

    @property
    def ranks(self) -> bool:
        """Whether rows must be ranked, by weight and where these are alike by ``traj_id``."""
        asked = (self.top_k, self.top_fraction, self.top_p)
        return bool(self.quotas) or any(each is not None for each in asked)


def quotas_of(texts: Iterable[str]) -> dict[str, Quota]:
    """Quotas by source, from texts like ``SOURCE=500`` or ``SOURCE=30%``.

    The last equals sign counts, so a source may have some in its name.

    Raises:
        ConfigError: If a text cannot be understood, or a source comes twice.

    Example:
        >>> quotas_of(["web=500", "a=b=30%"])
        {'web': Quota(rows=500, share=None), 'a=b': Quota(rows=None, share=0.3)}
    """
    found: dict[str, Quota] = {}
    for text in texts:
        source, _, amount = text.rpartition("=")
        if not source:
            message = f"--quota {text!r} names no source."
            raise ConfigError(message, hint=_QUOTA_HINT)
        if source in found:
            message = f"--quota is given twice for the source {source!r}."
            raise ConfigError(message, hint="Give one quota for each source.")
        try:
            if amount.endswith("%"):
                found[source] = Quota(share=float(amount.removesuffix("%")) / 100)
            else:
                found[source] = Quota(rows=int(amount))
        except ValueError:
            message = f"--quota {text!r}: {amount!r} is neither a number of rows nor a percentage."
            raise ConfigError(message, hint=_QUOTA_HINT) from None
        except ConfigError as error:
            message = f"--quota {text!r}: {error.message}"
            raise ConfigError(message, hint=error.hint) from None
    return found


def reasons_left_out(rows: pl.DataFrame, filters: Filters) -> pl.Series:
    """For each row why it is left out, or null where it is taken; the first reason counts.

    Rows of weight zero train nothing and are never taken.

    Args:
        rows: With ``origin``, ``split`` and ``weight``; for quotas also ``source``, and where
            ``filters.ranks`` also ``traj_id``, or numbers in the same order.
        filters: What was asked for.

    Returns:
        Text, a code a row, or null; in the order of ``rows``.

    Raises:
        ConfigError: If a quota is for a source without synthetic training rows.
    """
    texts: list[str] = []
    code_of_row = np.zeros(rows.height, dtype=np.uint32)
    for text, has_it in _reasons(rows, filters):
        texts.append(text)
        code_of_row[has_it & (code_of_row == 0)] = len(texts)
    known = pl.Series("reason", [None, *texts], dtype=pl.Enum(texts))
    return known.gather(pl.Series(code_of_row))


def _reasons(rows: pl.DataFrame, filters: Filters) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Each reason, and which rows have it; a row's first is the one that counts."""

    def where(told: pl.Expr) -> NDArray[np.bool_]:
        return rows.select(told.fill_null(value=False)).to_series().to_numpy()

    for column, wanted, how in (
        ("split", filters.splits, "in split"),
        ("origin", filters.origins, "of origin"),
    ):
        for value in sorted(set(rows[column].unique().drop_nulls()) - set(wanted)):
            yield f"{how} {value}", where(pl.col(column) == value)
    yield "of weight zero", where(pl.col("weight") == 0)
    if filters.min_weight is not None:
        light = (pl.col("origin") == "synthetic") & (pl.col("weight") < filters.min_weight)
        yield f"below weight {filters.min_weight:g}", where(light)
    if not filters.ranks:
        return
    is_learned = (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
    columns = [*(["source"] if filters.quotas else []), "traj_id", "weight"]
    learned = (
        rows.lazy()
        .with_row_index("row")
        .filter(is_learned)
        .select("row", *columns)
        .sort("weight", "traj_id", descending=[True, False])
        .collect()
    )
    within = learned
    if filters.quotas:
        is_over = _over_quota(learned, filters.quotas)
        over, within = learned.filter(is_over), learned.filter(~is_over)
        for (source,), beyond in over.partition_by("source", as_dict=True).items():
            yield f"over the quota of source {source}", _flags(rows, beyond)
    count, told = _top(within, learned, filters)
    if told:
        yield f"outside the top {told}", _flags(rows, within[count:])


def _over_quota(learned: pl.DataFrame, quotas: Mapping[str, Quota]) -> pl.Series:
    """Which rows, the heaviest coming first, are more than their source's quota allows."""
    sizes = dict(learned.group_by("source").len().iter_rows())
    strange = sorted(set(quotas) - set(sizes))
    if strange:
        message = (
            f"--quota is for the source {strange[0]!r}, which has no synthetic training rows; "
            f"sources that have are {', '.join(sorted(sizes))}."
        )
        raise ConfigError(message)
    allowed = {source: quota.of(sizes[source]) for source, quota in quotas.items()}
    limit = pl.col("source").replace_strict(allowed, default=None, return_dtype=pl.Int64)
    place = pl.int_range(pl.len()).over("source")
    return learned.select((place >= limit).fill_null(value=False)).to_series()


def _top(candidates: pl.DataFrame, learned: pl.DataFrame, filters: Filters) -> tuple[int, str]:
    """How many candidates, the heaviest coming first, are in the top, and what the top is called.

    Without a name there is no such filter.
    """
    if filters.top_k is not None:
        return filters.top_k, str(filters.top_k)
    if filters.top_fraction is not None:
        count = _part_of(learned.height, filters.top_fraction)
        return count, str(count)
    if filters.top_p is None:
        return candidates.height, ""
    told = f"{100 * filters.top_p:g} % of the mass"
    if filters.top_p == 1:
        return candidates.height, told
    held = candidates["weight"].cum_sum().to_numpy()
    wanted = (filters.top_p - _ROUNDING) * float(learned["weight"].sum())
    return int(np.searchsorted(held, wanted)) + 1, told


def _flags(rows: pl.DataFrame, chosen: pl.DataFrame) -> NDArray[np.bool_]:
    """True at the rows that were chosen, which know their place in ``row``."""
    flags = np.zeros(rows.height, dtype=np.bool_)
    flags[chosen["row"].to_numpy()] = True
    return flags


def _part_of(n: int, share: float) -> int:
    """A share of ``n`` rows, rounded up, but first rounded, so that 0.07 of 100 are 7 and not 8."""
    return math.ceil(round(share * n, 9))
