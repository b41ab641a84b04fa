"""A run's weights, asked for by what a row is called and by what it says."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trajweight.run import Run

By = Literal["auto", "id", "content"]
#: How a row was found: under its id, by what it says, or under an id whose row said otherwise.
How = Literal["id", "content", "changed"]
BYS: Final[tuple[By, ...]] = get_args(By)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the run knows of a row.

    Attributes:
        how: See `How`; None where it knows nothing.
        weight: The weight; None where the run held the row out, or does not know it.
    """

    how: How | None = None
    weight: float | None = None


_NOTHING: Final = Answer()


@dataclass(slots=True)
class WeightBook:
    """The weights of a run, and which of its rows were asked for.

    Rows of the same content and different weights get the mean of these when they are asked for by
    content: whichever of them is left elsewhere, none is preferred.

    Attributes:
        names: By place in ``weights.parquet`` the id.
        n_shared: Contents that several rows of the run have, with different weights.
    """

    names: list[str]
    n_shared: int = 0
    _weights: array[float] = field(default_factory=lambda: array("d"))  # NaN where there is none
    _contents: list[bytes] = field(default_factory=list)
    _by_name: dict[str, int] = field(default_factory=dict)
    _by_content: dict[bytes, int] = field(default_factory=dict)
    _copies: dict[bytes, list[int]] = field(default_factory=dict)
    _is_found: bytearray = field(default_factory=bytearray)

    @classmethod
    def of(cls, run: Run) -> WeightBook:
        """The weights of a run.

        Raises:
            RunError: If it has none.
        """
        table = run.table("weights").select("traj_id", "content_sha256", "weight")
        book = cls(table["traj_id"].to_list())
        book._weights = array("d", table["weight"].fill_null(math.nan).to_numpy().tobytes())
        book._contents = [bytes.fromhex(each) for each in table["content_sha256"]]
        book._by_name = {name: place for place, name in enumerate(book.names)}
        for place, content in enumerate(book._contents):
            first = book._by_content.setdefault(content, place)
            if first != place:
                book._copies.setdefault(content, [first]).append(place)
        book._is_found = bytearray(len(book.names))
        book.n_shared = sum(
            len({book._weights[place] for place in places if not book._is_held_out(place)}) > 1
            for places in book._copies.values()
        )
        return book

    def ask(self, name: str | None, content: str | None, by: By) -> Answer:
        """What the run knows of a row.

        Asked in both ways, the id comes first, unless the row under it said something else and
        what is said here belongs to another row: an id may be used twice.

        Args:
            name: What the row says it is called; None where it does not say.
            content: SHA-256 over its messages and tools, in hexadecimal; None where it has none.
            by: How to look.
        """
        said = None if content is None else bytes.fromhex(content)
        place = self._by_name.get(name) if name is not None and by != "content" else None
        if place is not None and (said is None or self._contents[place] == said):
            return self._at("id", [place])
        if said is not None and by != "id" and (other := self._by_content.get(said)) is not None:
            return self._at("content", self._copies.get(said, [other]))
        return _NOTHING if place is None else self._at("changed", [place])

    def not_asked_for(self) -> Iterator[str]:
        """Ids of rows that have a weight and that no row asked for."""
        for place, name in enumerate(self.names):
            if not self._is_found[place] and not self._is_held_out(place):
                yield name

    def _at(self, how: How, places: list[int]) -> Answer:
        """The mean of the weights at some places, which have been found herewith."""
        for place in places:
            self._is_found[place] = True
        weights = [self._weights[place] for place in places if not self._is_held_out(place)]
        return Answer(how, math.fsum(weights) / len(weights) if weights else None)

    def _is_held_out(self, place: int) -> bool:
        return math.isnan(self._weights[place])
