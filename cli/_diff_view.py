"""What changed between two runs as calm text for the terminal: 80 columns, pipe-safe.

Whatever data brought along goes through `inert` and into a rich ``Text``, as in `_report_view`.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from rich.padding import Padding
from rich.text import Text

from trajweight.analysis.excerpts import inert
from trajweight.cli._tables import clipped, new_table, pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    Facts = Mapping[str, Any]

#: Sources listed; those that moved most.
_MOST_SOURCES: Final = 30
#: Files and settings listed of each kind.
_MOST_CHANGES: Final = 40
#: Columns of a source's name, and how many of them longer counts of rows take away.
_SOURCE: Final = 16
_ROOM: Final = 6
#: Columns of a value that differs.
_VALUE: Final = 25
#: Characters of a hash that tell two files apart.
_DIGEST: Final = 12
#: Beyond this a factor is no number that a reader wants.
_MOST_LOG: Final = 20.0


def render(facts: Facts, names: tuple[str, str], console: Console) -> None:
    """Print what changed.

    Args:
        facts: From `trajweight.analysis.difference.difference`, as a dictionary.
        names: Of the two runs.
        console: Where to; what its encoding lacks becomes "?".
    """
    if not console.options.ascii_only:
        _print(facts, names, console)
        return
    with console.capture() as capture:
        _print(facts, names, console)
    encoding = console.encoding
    console.file.write(capture.get().encode(encoding, "replace").decode(encoding))


def _print(facts: Facts, names: tuple[str, str], console: Console) -> None:
    """The verdict, the two names, then a section for each kind of fact that there is."""
    console.print(Text(inert(facts["verdict"]), style="bold"))
    console.print(pairs([("A", names[0]), ("B", names[1])], style="dim"))
    making = facts["provenance"]
    sections = (
        ("Rows", _rows(facts["rows"])),
        ("Weights of the rows in both (synthetic training rows)", _weights(facts["weights"])),
        ("Effective sample size", _sizes(facts["size_a"], facts["size_b"])),
        ("By source (synthetic training rows)", _sources(facts["sources"])),
        ("Weights that moved most", _moved(facts["moved"])),
        ("Rows in another split", _splits(facts["rows"]["splits"])),
        ("Settings that differ", _changes(making["settings"])),
        ("Made with", _changes(making["made_with"])),
        ("Files that differ", _inputs(making["inputs"])),
        ("What the learning ended with", _changes(making["learned"])),
    )
    for title, parts in sections:
        if parts:
            console.print()
            console.print(Text(title, style="bold"))
            for part in parts:
                console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _rows(rows: Facts) -> list[RenderableType]:
    """How many rows are in both, and what became of those."""
    told = [
        f"{rows['n_both']} in both: {rows['n_by_content']} by content, {rows['n_by_id']} by id "
        "with other content.",
        f"{rows['n_only_a']} only in A, {rows['n_only_b']} only in B.",
    ]
    if rows["n_relabelled"]:
        told.append(f"{rows['n_relabelled']} have another source, origin or task in B.")
    if rows["n_resplit"]:
        told.append(f"{rows['n_resplit']} stand in another split in B, see below.")
    return [Text(each) for each in told]


def _splits(splits: Sequence[Facts]) -> list[RenderableType]:
    """Where rows went, with the first ids of each way."""
    if not splits:
        return []
    table = new_table(
        *(("origin", "left"), ("in A", "left"), ("in B", "left"), ("n", "right")),
        ("such as", "left"),
    )
    table.expand, table.columns[-1].ratio = True, 1
    for way in splits:
        ids = Text(inert(", ".join(way["ids"])))
        table.add_row(way["origin"], way["split_a"], way["split_b"], str(way["n"]), ids)
    return [table]


def _weights(found: Facts) -> list[RenderableType]:
    """Whether they agree, and how far they moved."""
    if not found["n"]:
        return [Text("None was weighed in both.")]
    told = [f"{found['n']} weighed in both, {found['n_same']} of them the same."]
    about = found["spearman"]
    if about["value"] is not None:
        interval = about["interval"] or about["fisher"]
        ends = ""
        if interval:
            method = inert(interval["method"])
            ends = f", 95% interval {interval['low']:.2f} to {interval['high']:.2f} ({method})"
        told.append(f"Spearman {about['value']:.2f}{ends}.")
    far = found["median_log_change"]
    if far is not None and found["n_same"] < found["n"]:
        told.append(f"Half of them moved by a factor of {_factor(far)} or more, up or down.")
    return [Text(each) for each in told]


def _sizes(a: Facts, b: Facts) -> list[RenderableType]:
    """Effective rows of both runs."""
    table = new_table(
        ("", "left"),
        *((f"{name} {side}", "right") for side in "AB" for name in ("n", "ESS", "ESS/n")),
    )
    for key, title in (("synthetic", "synthetic"), ("training", "with real rows")):
        cells = [
            cell
            for side in (a[key], b[key])
            for cell in (str(side["n"]), f"{side['ess']:.0f}", f"{side['ess_fraction']:.2f}")
        ]
        table.add_row(title, *cells)
    parts: list[RenderableType] = [table]
    real = a["real_weight"], b["real_weight"]
    if real != (None, None):
        shown = " and ".join("none" if each is None else f"{each:.2f}" for each in real)
        parts.append(Text(f"Weight of a real training row in A and B: {shown}."))
    return parts


def _sources(sources: Sequence[Facts]) -> list[RenderableType]:
    """One line a source, that whose share of the mass changed most first."""
    if not sources:
        return []
    table = new_table(
        *(("source", "left"), ("n A", "right"), ("n B", "right")),
        *(("mean A", "right"), ("B", "right"), ("change", "right")),
        *(("mass A", "right"), ("B", "right"), ("change", "right")),
    )
    longest = len(str(max(row[f"n_{side}"] for row in sources for side in "ab")))
    room = _SOURCE - 2 * max(longest - _ROOM, 0)
    for row in sources[:_MOST_SOURCES]:
        table.add_row(
            clipped(row["source"], room),
            *(str(row["n_a"]), str(row["n_b"])),
            *(_number(row["mean_a"]), _number(row["mean_b"])),
            _number(row["mean_change"], signed=True),
            *(_share(row["mass_a"]), _share(row["mass_b"])),
            _share(row["mass_change"], signed=True),
        )
    parts: list[RenderableType] = [table]
    if n_hidden := len(sources) - len(sources[:_MOST_SOURCES]):
        parts.append(Text(f"{n_hidden} sources that moved less are not shown; --json has all."))
    return parts


def _changes(changes: Sequence[Facts]) -> list[RenderableType]:
    """What is said otherwise, both values side by side."""
    if not changes:
        return []
    table = new_table(("", "left"), ("A", "left"), ("B", "left"))
    for change in changes[:_MOST_CHANGES]:
        values = (clipped(each, _VALUE) for each in _values(change["a"], change["b"]))
        table.add_row(clipped(change["name"], 24), *values)
    return [table, *_hidden(changes)]


def _inputs(changes: Sequence[Facts]) -> list[RenderableType]:
    """Files that both did not read with the same content."""
    if not changes:
        return []
    table = new_table(("", "left"), ("SHA-256 in A", "left"), ("in B", "left"))
    for change in changes[:_MOST_CHANGES]:
        digests = (change[f"sha256_{side}"] for side in "ab")
        shown = ("not read" if each is None else f"{each[:_DIGEST]}" for each in digests)
        table.add_row(clipped(change["path"], 44), *(Text(inert(each)) for each in shown))
    return [table, *_hidden(changes)]


def _moved(rows: Sequence[Facts]) -> list[RenderableType]:
    """The rows that moved farthest, with a line of text each."""
    if not rows:
        return []
    table = new_table(
        *(("A", "right"), ("B", "right"), ("factor", "right")),
        *(("source", "left"), ("trajectory", "left"), ("begins", "left")),
    )
    table.expand, table.columns[-1].ratio = True, 1  # the text takes what room is left
    for row in rows:
        factor = "-" if row["log_change"] is None else f"x{_factor(row['log_change'])}"
        name, other = (str(row[f"id_{side}"]) for side in "ab")
        table.add_row(
            *(_weight(row["weight_a"]), _weight(row["weight_b"]), factor),
            clipped(row["source"], 14),
            clipped(name if name == other else f"{name} -> {other}", 22),
            Text(inert(row["line"])),
        )
    return [table]


def _hidden(changes: Sequence[Facts]) -> list[RenderableType]:
    """What is not listed, where it is not."""
    n = len(changes) - _MOST_CHANGES
    return [Text(f"{n} more are not shown; --json has all.")] if n > 0 else []


def _values(a: Any, b: Any) -> tuple[str, str]:
    """Both values, long numbers rounded unless they would look the same."""
    if isinstance(a, float) and isinstance(b, float) and f"{a:.5g}" != f"{b:.5g}":
        return f"{a:.5g}", f"{b:.5g}"
    return _value(a), _value(b)


def _value(value: Any) -> str:
    """A setting as a reader knows it."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _factor(log: float) -> str:
    """A factor from its logarithm."""
    factor = math.exp(min(max(log, -_MOST_LOG), _MOST_LOG))
    return f"{factor:.2f}" if 0.1 <= factor < 100.0 else f"{factor:#.2g}"


def _weight(value: float) -> str:
    """The weight of one row; a small one keeps two digits, since a factor is told beside it."""
    return f"{value:#.2g}" if 0.0 < value < 0.1 else _number(value)


def _number(value: float | None, *, signed: bool = False) -> str:
    """A weight; "-" where there is none."""
    if value is None:
        return "-"
    value = round(value, 2) + 0.0  # no -0.00
    return f"{value:+.2f}" if signed else f"{value:.2f}"


def _share(value: float | None, *, signed: bool = False) -> str:
    """A share in percent; "-" where there is none."""
    if value is None:
        return "-"
    value = round(value, 2) + 0.0  # no -0%
    return f"{value:+.0%}" if signed else f"{value:.0%}"
