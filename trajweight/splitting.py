"""Which rows are learnt from and which judge: splits that share no task and no copy.

Real rows are split by task; synthetic rows are for training. What would let the judging
rows be learnt by heart is taken out of training and named: rows made from a held-out row,
and exact or near copies of one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from trajweight.duplicates import DEFAULT_THRESHOLD
from trajweight.errors import ConfigError
from trajweight.leakage import (
    HELD_OUT,
    Rows,
    copy_reasons,
    family_reasons,
    group_reasons,
    search_notes,
    shared_task_note,
)
from trajweight.trajectory import SPLITS, Split

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

#: Splits are given up in this order when validation would be too small.
_GIVEN_UP: Final[tuple[Split, ...]] = ("test", "dev", "train")


@dataclass(frozen=True, slots=True)
class Fractions:
    """Shares of the real trajectories; shares of splits that are not made are spread over the rest.

    Attributes:
        validation: Share that the weights are learnt on.
        train: Share that is trained on beside the synthetic rows.
        dev: Share that chooses the best head.
        test: Share that is touched once, at the end.
    """

    validation: float = 0.4
    train: float = 0.3
    dev: float = 0.15
    test: float = 0.15

    def __post_init__(self) -> None:
        """Refuse shares that cannot be met.

        Raises:
            ConfigError: If one is negative, validation is zero, or they do not sum to one.
        """
        shares = (self.validation, self.train, self.dev, self.test)
        if min(shares) < 0 or self.validation == 0 or abs(sum(shares) - 1.0) > 1e-6:
            msg = f"split fractions {shares} (validation, train, dev, test) cannot be used"
            hint = "They must sum to 1, none negative, validation above 0."
            raise ConfigError(msg, hint=hint)

    def of(self, split: Split) -> float:
        """The share of a split."""
        shares: dict[Split, float] = {
            "validation": self.validation,
            "train": self.train,
            "dev": self.dev,
            "test": self.test,
        }
        return shares[split]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A row taken out of training.

    Attributes:
        traj_id: The row.
        reason: Why, naming the other row.
    """

    traj_id: str
    reason: str

    def as_dict(self) -> dict[str, str]:
        """The exclusion as one JSON object of ``excluded.jsonl``."""
        return {"traj_id": self.traj_id, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Splitting:
    """A table whose rows know their split.

    Attributes:
        table: The rows in the order given, with a column ``split``.
        exclusions: The rows with split ``excluded``, by ``traj_id``.
        notes: What was decided, in sentences.
        counts: Rows by split, every split named; they sum to the rows of the table.
    """

    table: pl.DataFrame
    exclusions: list[Exclusion]
    notes: list[str]
    counts: dict[str, int]


def split(
    table: pl.DataFrame,
    *,
    seed: int,
    fractions: Fractions | None = None,
    minimum_validation: int = 20,
    validation_paths: frozenset[str] = frozenset(),
    threshold: float = DEFAULT_THRESHOLD,
) -> Splitting:
    """Give every row a split: train, validation, dev, test or excluded.

    Real rows joined by a task or a group go to one split. With m = ``minimum_validation``
    and n real rows: below m all are validation; below 1.5 m validation and dev; below 3 m
    train too; else all four. Validation aims at no fewer than m rows; if whole tasks still
    leave it fewer, test, then dev, then train are given up for it. A single task is all
    validation. Rows are shared out task by task in a random order, each task to the split
    that lacks most rows.

    Synthetic rows are all train, but for those that share a group with a held-out row.
    Train rows that copy a held-out row, exactly or nearly, are excluded.

    Args:
        table: Trajectories; ``traj_id`` must be unique. The order of rows has no influence.
        seed: Of the order of tasks.
        fractions: Shares of the real rows.
        minimum_validation: m above, in trajectories.
        validation_paths: Values of ``origin_path``. If given, real rows of these files are
            held out by the rules above without train, and all other real rows are train;
            one that shares a task or a group with a held-out row is excluded.
        threshold: Least similarity of a near copy, see ``near_duplicates``.

    Returns:
        The table with its splits, and what was excluded. Without real rows nothing is held
        out; whether that, or no synthetic rows, is an error is for the caller to say.

    Raises:
        ConfigError: If the threshold cannot be used.
    """
    rows = Rows.of(table)
    families = _families(rows, rows.with_origin("real"))
    inside = families
    allowed: tuple[Split, ...] = ("validation", "train", "dev", "test")
    if validation_paths:
        # A family may lie partly outside the validation files: that part is excluded below.
        inside = [[i for i in f if rows.paths[i] in validation_paths] for f in families]
        allowed = HELD_OUT
    splits: list[Split] = ["train"] * len(rows.ids)
    fractions = fractions or Fractions()
    held = [family for family in inside if family]
    notes = _share_out(
        held, splits, seed=seed, fractions=fractions, m=minimum_validation, allowed=allowed
    )
    reasons = family_reasons(rows, splits, families) | group_reasons(rows, splits)
    notes += shared_task_note(rows, splits)
    _exclude(splits, reasons)
    n_held = sum(name in HELD_OUT for name in splits)
    notes += search_notes(n_held=n_held, n_train=splits.count("train"), threshold=threshold)
    copies = copy_reasons(rows, splits, threshold)
    _exclude(splits, copies)
    reasons |= copies
    notes += _exclusion_notes(reasons, copies)
    exclusions = [Exclusion(rows.ids[i], reasons[i]) for i in sorted(reasons)]
    return Splitting(_with_splits(table, rows, splits), exclusions, notes, _counts(splits))


def _families(rows: Rows, real: Sequence[int]) -> list[list[int]]:
    """Real rows joined by a shared task or group, directly or over others; each sorted."""
    parent = {i: i for i in real}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[Hashable, int] = {}
    for i in real:
        keys: list[Hashable] = [("task", rows.tasks[i])]
        if rows.groups[i] is not None:
            keys.append(("group", rows.groups[i]))
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    members: dict[int, list[int]] = {}
    for i in real:
        members.setdefault(root(i), []).append(i)
    return sorted(members.values())


def _share_out(
    families: Sequence[Sequence[int]],
    splits: list[Split],
    *,
    seed: int,
    fractions: Fractions,
    m: int,
    allowed: Sequence[Split],
) -> list[str]:
    """Write a split for every row of the families; the notes say which splits there are."""
    n = sum(len(family) for family in families)
    if not n:
        return ["no real rows to hold out"]
    active = [s for s in _splits_for(n, m) if s in allowed and fractions.of(s) > 0]
    notes = [_few_rows_note(n, m, active, allowed)]
    if len(families) == 1:
        active = ["validation"]
        notes = [f"all {n} real rows are of one task; all are validation"]
    targets = _targets(n, m, active, fractions)
    given: Counter[Split] = Counter()
    chosen: list[Split] = ["validation"] * len(families)
    for k in np.random.default_rng(seed).permutation(len(families)):
        chosen[k] = max(active, key=lambda s: targets[s] - given[s])  # ties: the earlier split
        given[chosen[k]] += len(families[k])
    for name in _GIVEN_UP:
        if given["validation"] < min(m, n) and given[name]:
            chosen = ["validation" if s == name else s for s in chosen]
            given["validation"] += given.pop(name)
            notes.append(f"whole tasks left validation below {m} rows; {name} was given up for it")
    for family, name in zip(families, chosen, strict=True):
        for i in family:
            splits[i] = name
    made = ", ".join(f"{given[s]} {s}" for s in SPLITS if given[s])
    return [note for note in notes if note] + [f"real rows by task ({len(families)}): {made}"]


def _splits_for(n: int, m: int) -> tuple[Split, ...]:
    """The splits that n real rows are enough for."""
    if n < m:
        return ("validation",)
    if 2 * n < 3 * m:
        return ("validation", "dev")
    if n < 3 * m:
        return ("validation", "train", "dev")
    return ("validation", "train", "dev", "test")


def _few_rows_note(n: int, m: int, active: Sequence[Split], allowed: Sequence[Split]) -> str:
    if n < m:
        return f"{n} real rows, fewer than {m}: all are validation"
    missing = [s for s in SPLITS if s in allowed and s not in active]
    return f"{n} real rows: no {' and no '.join(missing)} split" if missing else ""


def _targets(
    n: int, m: int, active: Sequence[Split], fractions: Fractions
) -> Mapping[Split, float]:
    """Rows wanted by split: the shares, but validation at least m."""
    total = sum(fractions.of(s) for s in active)
    validation = min(n, max(m, n * fractions.of("validation") / total))
    rest = total - fractions.of("validation")
    targets: dict[Split, float] = {
        s: (n - validation) * fractions.of(s) / rest for s in active if s != "validation"
    }
    targets["validation"] = validation
    return targets


def _exclude(splits: list[Split], reasons: Iterable[int]) -> None:
    for i in reasons:
        splits[i] = "excluded"


def _exclusion_notes(reasons: Mapping[int, str], copies: Mapping[int, str]) -> list[str]:
    kinds = {
        "related to a held-out row": len(reasons) - len(copies),
        "copies of a held-out row": len(copies),
    }
    return [f"{n} rows excluded from training: {kind}" for kind, n in kinds.items() if n]


def _with_splits(table: pl.DataFrame, rows: Rows, splits: Sequence[Split]) -> pl.DataFrame:
    of = dict(zip(rows.ids, splits, strict=True))
    names = [of[traj_id] for traj_id in table["traj_id"].to_list()]
    return table.with_columns(pl.Series("split", names, pl.String))


def _counts(splits: Sequence[Split]) -> dict[str, int]:
    found = Counter(splits)
    return {name: found[name] for name in SPLITS}
