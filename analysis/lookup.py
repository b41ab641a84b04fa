"""The trajectory that an id, or the beginning of one, means."""

from __future__ import annotations

import difflib
from itertools import islice
from typing import TYPE_CHECKING, Final

from trajweight.analysis.excerpts import inert
from trajweight.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import polars as pl

    from trajweight.run import Run

#: Ids named in an error.
_NAMED: Final = 5
#: Ids that are compared letter by letter; comparing a million takes minutes.
_COMPARED: Final = 5_000
_ALIKE: Final = 0.5
#: Letters shown of an id.
_LETTERS: Final = 80


def traj_id_of(run: Run, asked: str) -> str:
    """The id that was meant: the same, else the only one that begins so.

    Args:
        run: Whose trajectory it is.
        asked: An id or the beginning of one.

    Raises:
        RunError: If no id is or begins so; the nearest are named.
        ConfigError: If several ids begin so.
    """
    ids = run.table("weights")["traj_id"]
    if (ids == asked).any():
        return asked
    begin = ids.filter(ids.str.starts_with(asked)) if asked else ids.head(0)
    if len(begin) == 1:
        return str(begin[0])
    if len(begin):
        message = f"{len(begin):,} trajectories begin with {asked!r}: {_listed(begin)}."
        raise ConfigError(message, hint="Give more of the id.")
    near = nearest_ids(ids, asked)
    hint = f"The nearest are {_listed(near)}." if near else f"Its ids are {_listed(ids)}."
    message = f"the run has no trajectory {asked!r}"
    raise RunError(message, path=run.folder, hint=hint)


def nearest_ids(ids: pl.Series, asked: str) -> list[str]:
    """Those that hold what was asked for, then those spelled alike, the nearest first.

    Among many ids only those are compared by spelling that begin most alike.

    Args:
        ids: All there are.
        asked: What was typed.
    """
    small = asked.lower()
    if not small:
        return []
    holding = ids.filter(ids.str.to_lowercase().str.contains(small, literal=True))
    found = holding.head(_NAMED).to_list()
    some = ids.to_list()
    if len(some) > _COMPARED:
        some = sorted(some, key=lambda name: -_shared(name.lower(), small))[:_COMPARED]
    by_letters = {name.lower(): name for name in reversed(some)}
    alike = difflib.get_close_matches(small, list(by_letters), n=4 * _NAMED, cutoff=_ALIKE)
    # Of those as much alike, the ones that begin alike: typing goes wrong towards the end.
    alike.sort(key=lambda name: (-_likeness(name, small), -_shared(name, small)))
    found += [by_letters[name] for name in alike if by_letters[name] not in found]
    return found[:_NAMED]


def _likeness(left: str, right: str) -> float:
    """How much two names are spelled alike, 0 to 1."""
    return difflib.SequenceMatcher(None, left, right).ratio()


def _shared(left: str, right: str) -> int:
    """Letters that two names begin with alike."""
    differ = (
        place for place, pair in enumerate(zip(left, right, strict=False)) if len({*pair}) > 1
    )
    return next(differ, min(len(left), len(right)))


def _listed(names: Iterable[str]) -> str:
    """A few names, and whether there are more."""
    some = list(islice(names, _NAMED + 1))
    more = " and more" if len(some) > _NAMED else ""
    return ", ".join(inert(name, limit=_LETTERS) for name in some[:_NAMED]) + more
