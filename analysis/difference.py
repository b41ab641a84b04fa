"""What changed between two runs: their rows, their weights, and how they were made.

Weights have mean one in each run by itself. So where the rows of two runs differ, a row's weight
may move because its company did; ranks do not, which is why the verdict goes by them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import polars as pl

from trajweight.analysis.agreement import Agreement, Size, agreement, is_weighed, size_of
from trajweight.analysis.ess import spread_by
from trajweight.analysis.excerpts import excerpt
from trajweight.analysis.facts import Facts
from trajweight.analysis.matching import KEYS, LABELS, Rows, matched, rows_in_both
from trajweight.analysis.provenance import Provenance, provenance
from trajweight.analysis.rows import texts_of
from trajweight.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.analysis.ess import Spread
    from trajweight.run import Run

#: A rank correlation from here on is told as agreement.
AGREE: Final = 0.9
#: One from here on is told as agreement in part.
PARTLY: Final = 0.5
#: Shares of effective rows further apart than this are part of the verdict.
SHARPER: Final = 0.1
#: Rows listed at most, where nothing else is asked for.
N_LISTED: Final = 10
#: Names told in the verdict; the rest are counted.
_N_NAMED: Final = 3
_COLUMNS: Final = (*KEYS, *LABELS, "split", "weight")


@dataclass(frozen=True, slots=True)
class SourceChange(Facts):
    """The synthetic training rows of one source in both runs; None where a run has none of it.

    Attributes:
        source: Its name.
        n_a: Rows in the first run.
        n_b: Rows in the second.
        mean_a: Their mean weight in the first run.
        mean_b: In the second.
        mean_change: The second less the first.
        mass_a: Their share of the synthetic mass in the first run, 0 to 1.
        mass_b: In the second.
        mass_change: The second less the first; a source that is not there has none of the mass.
    """

    source: str
    n_a: int
    n_b: int
    mean_a: float | None
    mean_b: float | None
    mean_change: float | None
    mass_a: float | None
    mass_b: float | None
    mass_change: float


@dataclass(frozen=True, slots=True)
class MovedRow(Facts):
    """A row whose weight is another in the second run.

    Attributes:
        id_a: Its id in the first run.
        id_b: Its id in the second.
        source: Who made it, as the first run says.
        weight_a: Its weight in the first run.
        weight_b: In the second.
        log_change: ln(weight_b / weight_a); None where one of them is zero.
        line: How it begins, as the first run has it.
    """

    id_a: str
    id_b: str
    source: str
    weight_a: float
    weight_b: float
    log_change: float | None
    line: str


@dataclass(frozen=True, slots=True)
class Difference(Facts):
    """What changed from one run to another.

    Attributes:
        verdict: The finding in a sentence or two.
        are_same: Whether rows, splits, weights, settings, versions and files are all the same.
        rows: Which rows both have.
        weights: How the weights compare.
        size_a: Effective size of the first run.
        size_b: Of the second.
        sources: Every source, that whose share of the mass changed most first.
        moved: The rows whose weights moved by the greatest factor, the farthest first.
        provenance: What differs in how the runs were made.
    """

    verdict: str
    are_same: bool
    rows: Rows
    weights: Agreement
    size_a: Size
    size_b: Size
    sources: tuple[SourceChange, ...]
    moved: tuple[MovedRow, ...]
    provenance: Provenance


def difference(a: Run, b: Run, *, top: int = N_LISTED, seed: int = 0) -> Difference:
    """What changed from run ``a`` to run ``b``; texts are read of the rows alone that are listed.

    Args:
        a: A finished run.
        b: Another one, or the same.
        top: Rows that are listed at most, of those that moved and of each change of split.
        seed: Of the bootstrap.

    Raises:
        RunError: If one did not finish or has no weights, or if they have no row in common.
    """
    for run in (a, b):
        _require_finished(run)
    table_a, table_b = (run.table("weights").select(_COLUMNS) for run in (a, b))
    both = matched(table_a, table_b)
    if both.is_empty():
        message = f"has no row in common with {a.folder}, neither by content nor by id"
        hint = "Compare runs over the same trajectories; `report` shows each run by itself."
        raise RunError(message, path=b.folder, hint=hint)
    told, rows = provenance(a, b), rows_in_both(table_a, table_b, both, top=top)
    weighed = both.filter(is_weighed("_a") & is_weighed("_b")).with_columns(
        change=pl.when(pl.col("weight_a") == pl.col("weight_b"))
        .then(0.0)
        .otherwise(pl.col("weight_b").log() - pl.col("weight_a").log())
    )
    weights, sizes = agreement(weighed, seed=seed), [size_of(table) for table in (table_a, table_b)]
    is_weighed_alike = both.filter(pl.col("weight_a").ne_missing(pl.col("weight_b"))).is_empty()
    are_same = rows.are_same and is_weighed_alike and told.is_empty
    return Difference(
        verdict=_verdict(rows, weights, sizes, told, are_same=are_same),
        are_same=are_same,
        rows=rows,
        weights=weights,
        size_a=sizes[0],
        size_b=sizes[1],
        sources=_sources(table_a, table_b),
        moved=_moved(a, weighed, top),
        provenance=told,
    )


def _require_finished(run: Run) -> None:
    """Weights of a run that broke off may be those of other rows."""
    told = run.manifest()
    if told.get("status") != "finished":
        message = f"this run did not finish; its manifest says {told.get('status')!r}"
        go_on = f"Go on with it: trajweight score --resume {run.folder}\nOr: "
        again = "Run it again into the same folder with --force."
        hint = go_on * (told.get("kind") == "learned") + again
        raise RunError(message, path=run.folder, hint=hint)


def _sources(a: pl.DataFrame, b: pl.DataFrame) -> tuple[SourceChange, ...]:
    """Every source of either run."""
    told_a, told_b = (spread_by(table.filter(is_weighed()), "source") for table in (a, b))
    found = [_source(name, told_a.get(name), told_b.get(name)) for name in {**told_a, **told_b}]
    return tuple(sorted(found, key=lambda one: (-abs(one.mass_change), one.source)))


def _source(name: str, a: Spread | None, b: Spread | None) -> SourceChange:
    """One source, whose rows may be in one run only."""
    return SourceChange(
        source=name,
        n_a=a.n if a else 0,
        n_b=b.n if b else 0,
        mean_a=a.mean if a else None,
        mean_b=b.mean if b else None,
        mean_change=b.mean - a.mean if a and b else None,
        mass_a=a.mass_share if a else None,
        mass_b=b.mass_share if b else None,
        mass_change=(b.mass_share if b else 0.0) - (a.mass_share if a else 0.0),
    )


def _moved(run: Run, weighed: pl.DataFrame, top: int) -> tuple[MovedRow, ...]:
    """The rows that moved farthest, with how they begin."""
    rows = weighed.filter(pl.col("change") != 0)
    rows = rows.sort(-pl.col("change").abs(), pl.col("traj_id_a")).head(top)
    if rows.is_empty():
        return ()
    texts = texts_of(run, rows["traj_id_a"])
    lines = {row["traj_id"]: excerpt(row["messages_json"]) for row in texts.iter_rows(named=True)}
    return tuple(
        MovedRow(
            id_a=row["traj_id_a"],
            id_b=row["traj_id_b"],
            source=row["source_a"],
            weight_a=row["weight_a"],
            weight_b=row["weight_b"],
            log_change=row["change"] if math.isfinite(row["change"]) else None,
            line=lines[row["traj_id_a"]],
        )
        for row in rows.iter_rows(named=True)
    )


def _verdict(
    rows: Rows, weights: Agreement, sizes: Sequence[Size], told: Provenance, *, are_same: bool
) -> str:
    """What a reader should take away: an honest word on whether the runs can be compared."""
    if are_same:
        n = f"{rows.n_both} rows, {weights.n} of them weighed"
        return f"The runs are the same: rows, splits, weights, settings, versions and files ({n})."
    found = _agreement(weights, sizes)
    found = f"{_data(rows)}; {found}."
    causes = _causes(told)
    if causes:
        return f"{found} {causes}"
    if rows.are_same and weights.n_same < weights.n:
        return f"{found} Nothing else that is recorded differs."
    return found


def _agreement(weights: Agreement, sizes: Sequence[Size]) -> str:
    """How the weights compare, as a clause."""
    if not weights.n:
        return "no synthetic row was weighed in both runs"
    if weights.n_same == weights.n:
        clause = f"the weights of all {weights.n} synthetic rows in both are equal"
        real_a, real_b = (size.real_weight for size in sizes)
        if real_a is None or real_b is None or real_a == real_b:
            return clause
        return f"{clause}, but real rows weigh {real_b:.4g} after {real_a:.4g}"
    value, interval = weights.spearman.value, weights.spearman.interval or weights.spearman.fisher
    over = f"over {weights.n} synthetic rows"
    if value is None:
        clause = f"ranks of the weights cannot be compared {over}: too few, or all equal in one run"
    else:
        word = "agree" if value >= AGREE else "agree in part" if value >= PARTLY else "do not agree"
        about = f" [{interval.low:.2f}, {interval.high:.2f}]" if interval else ""
        clause = f"the weights {word}: Spearman {value:.2f}{about} {over}"
    share_a, share_b = (size.synthetic.ess_fraction for size in sizes)
    if abs(share_a - share_b) > SHARPER:
        word = "sharper" if share_b < share_a else "flatter"
        clause += f", but {word} in the second run: ESS/n {share_b:.2f} after {share_a:.2f}"
    return clause


def _data(rows: Rows) -> str:
    """Whether the data are the same, and in what they differ, as a clause."""
    if rows.are_same:
        return "The rows are the same"
    counts = {
        "only in the first run": rows.n_only_a,
        "only in the second": rows.n_only_b,
        "with other content": rows.n_by_id,
        "with another source, origin or task": rows.n_relabelled,
    }
    told = ", ".join(f"{what}: {n}" for what, n in counts.items() if n)
    found = f"The data differ (rows {told})" if told else "The rows are the same"
    if rows.n_resplit:
        is_or_are = "is" if rows.n_resplit == 1 else "are"
        found += f", {'and' if told else 'but'} {rows.n_resplit} {is_or_are} in another split"
    return f"{found}, so weights may differ for that alone"


def _causes(told: Provenance) -> str:
    """What differs in how the runs were made, as a sentence; empty where nothing does."""
    named = {
        "settings": [change.name for change in told.settings],
        "made with": [change.name for change in told.made_with],
        "files": [change.path for change in told.inputs],
    }
    parts = [f"{what} ({_some(names)})" for what, names in named.items() if names]
    return f"What differs in the making: {', '.join(parts)}." if parts else ""


def _some(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else ""
    return ", ".join(names[:_N_NAMED]) + more
