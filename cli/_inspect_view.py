"""The facts of a survey as calm text for the terminal: 80 columns, no colour needed, pipe-safe.

Whatever data brought along goes through `inert` and into a rich ``Text``, as in `_report_view`.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trajweight.analysis.excerpts import inert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    Facts = Mapping[str, Any]

#: Names listed of each kind.
_NAMES: Final = 8
#: Characters of a line of a sample.
_LINE: Final = 240


def render(path: str, facts: Facts, console: Console) -> None:
    """Print what is in one file.

    Args:
        path: The file.
        facts: See `trajweight.survey.survey`.
        console: Where to; what its encoding lacks becomes "?".
    """
    if not console.options.ascii_only:
        _print(path, facts, console)
        return
    with console.capture() as capture:
        _print(path, facts, console)
    encoding = console.encoding
    console.file.write(capture.get().encode(encoding, "replace").decode(encoding))


def _print(path: str, facts: Facts, console: Console) -> None:
    form = facts["format"]
    console.print(Text(inert(path), style="bold"))
    told = f"{facts['container']}, {form['title']} ({form['name']}): {form['why']}"
    console.print(_indented(_pairs([("format", told), *_facts(facts)])))
    if facts["samples"]:
        console.print()
        console.print(_indented(Text("Samples", style="bold")))
        console.print(_indented(_pairs(_samples(facts["samples"])), by=4))
    console.print()


def _facts(facts: Facts) -> list[tuple[str, str]]:
    """Label and sentence of each kind of fact; what is not there is left out."""
    rows, tokens = facts["rows"], facts["tokens"]
    more = "" if rows["are_all"] else ", and more follow"
    told = [
        (
            "rows",
            f"{rows['seen']:,} seen = {rows['usable']:,} usable + {rows['rejected']:,} "
            f"rejected{more}",
        )
    ]
    told += [("rejected", f"line {one['line']}: {one['reason']}") for one in rows["because"]]
    if not rows["usable"]:
        return told
    told += [
        ("fields", facts["detected"]),
        ("origins", _origins(facts["origins"])),
        ("sources", _named(facts["sources"])),
        ("reward", _spread(facts["rewards"])),
    ]
    if facts["success"]["known"]:
        known, share = facts["success"]["known"], facts["success"]["share"]
        told.append(("success", f"known of {known:.0%} of the rows, {share:.0%} of these solved"))
    told += [
        ("turns", _spread(facts["turns"])),
        ("characters", f"{_spread(facts['characters'])}; {facts['characters']['total']:,} in all"),
        ("tokens", f"about {tokens['estimate']:,} in all, estimated as {tokens['how']}"),
    ]
    if facts["tools"]:
        told.append(("tools", _named(facts["tools"])))
    if facts["copies"]:
        told.append(("copies", f"{facts['copies']:,} rows say word for word what another says"))
    told += [
        ("problem", f"{one['code']} {one['rows']:,}, line {one['line']}: {one['detail']}")
        for one in facts["problems"]
    ]
    return [*told, *(("note", note) for note in facts["notes"])]


def _origins(origins: Facts) -> str:
    """How many rows are real and synthetic, and how many were only taken to be synthetic."""
    told = [f"{name} {n:,}" for name, n in origins.items() if name != "not_said"]
    unsaid = origins["not_said"]
    more = f" ({unsaid:,} do not say it and are read as synthetic)" if unsaid else ""
    return ", ".join(told) + more


def _samples(samples: Iterable[Facts]) -> list[tuple[str, str]]:
    """Three lines a row: what it is, how it opens, what is answered."""
    told = []
    for one in samples:
        reward = "" if one["reward"] is None else f", reward {one['reward']:g}"
        about = f"{one['source']}, {one['origin']}{reward}, {one['n_turns']} turns: "
        told += [
            (f"line {one['line']}", about + _roles(one["roles"], one["n_turns"])),
            ("opens", inert(one["opens"], limit=_LINE)),
            ("answers", inert(one["answers"], limit=_LINE)),
        ]
    return told


def _roles(roles: Sequence[str], n_turns: int) -> str:
    """Roles in order, those that follow each other counted."""
    runs = [(role, len(list(run))) for role, run in groupby(roles)]
    shown = [role if n == 1 else f"{role} x{n}" for role, n in runs[:_NAMES]]
    is_cut = len(runs) > _NAMES or n_turns > len(roles)
    return ", ".join(shown) + (", ..." if is_cut else "")


def _named(ranked: Sequence[Facts]) -> str:
    """Names with their numbers, the most frequent first."""
    names = [one for one in ranked if one["name"] is not None]
    shown = [f"{one['name']} {one['n']:,}" for one in names[:_NAMES]]
    others = len(names) - len(shown[:_NAMES]) + sum(one.get("others", 0) for one in ranked)
    return ", ".join(shown) + (f", and {others:,} others" if others else "")


def _spread(found: Facts) -> str:
    """The range of some numbers, and how many rows have one where not all do."""
    if not found["known"]:
        return "not known of any row"
    known = "" if found["known"] == 1 else f"known of {found['known']:.0%} of the rows, "
    least, most = (f"{found[name]:,.6g}" for name in ("least", "most"))
    if least == most:
        return f"{known}{least} each"
    mean, middle = f"{found['mean']:,.4g}", f"{found['median']:,.6g}"
    return f"{known}{least} to {most}, median {middle}, mean {mean}"


def _pairs(pairs: Iterable[tuple[str, str]]) -> Table:
    """Labels at the left, sentences beside them that wrap inside their own column."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for label, text in pairs:
        grid.add_row(Text(label, style="dim"), Text(inert(text)))
    return grid


def _indented(part: Table | Text, by: int = 2) -> Padding:
    return Padding(part, (0, 0, 0, by), expand=False)
