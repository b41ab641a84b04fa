"""Why a trajectory weighs what it weighs, for the terminal: 80 columns, no colour, pipe-safe.

Whatever data brought along goes through `inert` and into a rich ``Text``, as in `_report_view`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.padding import Padding
from rich.text import Text

from trajweight.analysis.excerpts import inert
from trajweight.cli._tables import clipped, new_table, pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    Facts = Mapping[str, Any]

#: Characters of the longest bar, on either side of zero.
_BAR: Final = 10
_GROUPS: Final = {
    "embedding": ("embedding", ""),
    "length": ("length", "tokens"),
    "turns": ("turns", "turns"),
    "base_loss": ("base loss", "nats"),
    "likelihood_ratio": ("real - base loss", "nats"),
}


def render(facts: Facts, console: Console) -> None:
    """Print why one trajectory weighs what it weighs.

    Args:
        facts: From `trajweight.analysis.why.explain`.
        console: Where to; what its encoding lacks becomes "?".
    """
    if not console.options.ascii_only:
        _print(facts, console)
        return
    with console.capture() as capture:
        _print(facts, console)
    encoding = console.encoding
    console.file.write(capture.get().encode(encoding, "replace").decode(encoding))


def _print(facts: Facts, console: Console) -> None:
    console.print(Text(inert(facts["headline"]), style="bold"))
    console.print(_indented(pairs(_about(facts), style="dim")))
    near = facts["neighbours"]
    sections = (
        ("What its features add to the score", _contributions(facts["contributions"])),
        *(
            (f"Nearest {side} rows", _neighbours(near[side]))
            for side in ("real", "synthetic")
            if side in near
        ),
        *((("Nearest rows", [Text(inert(near["missing"]))]),) if near["missing"] else ()),
        ("Alignment by turn", _turns(facts["turns"])),
    )
    for title, parts in sections:
        console.print()
        console.print(Text(title, style="bold"))
        for part in parts:
            console.print(_indented(part))


def _about(facts: Facts) -> list[tuple[str, str]]:
    """What the row is, and what decided its weight."""
    told = [
        ("trajectory", str(facts["traj_id"])),
        ("begins", facts["line"]),
        ("of", f"{facts['source']}, {facts['origin']}, split {facts['split']}"),
        ("task", str(facts["task_id"])),
        ("size", _size(facts)),
    ]
    standing, interval = facts["standing"], facts["interval"]
    if standing is not None:
        told.append(
            (
                "source",
                f"rank {standing['source_rank']:,} of {standing['source_n']:,} rows of "
                f"{facts['source']}, whose mean weight is {standing['source_mean']:.2f}",
            )
        )
    if interval is not None:
        heads = ", ".join(f"{weight:.2f}" for weight in interval["members"])
        span = f"{interval['low']:.2f} to {interval['high']:.2f}"
        told.append(("interval", f"{span} across the heads of the ensemble ({heads})"))
    return [*told, ("because", facts["decision"])]


def _size(facts: Facts) -> str:
    """Turns, tokens, loss and reward, where they are known."""
    told = [f"{facts['n_turns']:,} turns"]
    if facts["n_tokens"] is not None:
        told.append(f"{facts['n_tokens']:,} tokens")
    if facts["base_nll"] is not None:
        told.append(f"base loss {facts['base_nll']:.3f} nats a token")
    if facts["reward"] is not None:
        told.append(f"reward {facts['reward']:g}")
    if facts["success"] is not None:
        told.append("solved" if facts["success"] else "not solved")
    return ", ".join(told)


def _contributions(found: Facts) -> list[RenderableType]:
    """One line a group of features; they sum to the score."""
    if found["missing"]:
        return [Text(inert(found["missing"]))]
    table = new_table(
        ("feature", "left"),
        ("this row", "right"),
        ("mean row", "right"),
        ("", "left"),
        ("adds", "right"),
        ("", "left"),
    )
    most = max((abs(one["adds"]) for one in found["parts"]), default=0.0) or 1.0
    table.add_row("mean training row", "", "", "", f"{found['baseline']:+.3f}", "")
    for one in found["parts"]:
        name, unit = _GROUPS[one["name"]]
        has_value = one["value"] is not None
        numbers = [_number(one[key], unit) if has_value else "" for key in ("value", "typical")]
        table.add_row(name, *numbers, unit, f"{one['adds']:+.3f}", _bar(one["adds"] / most))
    table.add_row("score", "", "", "", f"{found['score']:+.3f}", "")
    parts: list[RenderableType] = [table, Text(found["told"])]
    if found["times"] is not None:
        by = f"By the head alone it counts {found['times']:.2f} times as much"
        parts.append(Text(f"{by} as the mean training row."))
    if found["n_heads"] > 1:
        parts.append(Text(f"Means over {found['n_heads']} heads."))
    return parts


def _number(value: float, unit: str) -> str:
    return f"{value:,.3f}" if unit == "nats" else f"{value:,.0f}"


def _bar(share: float) -> Text:
    """To the left of the middle where it takes away, to the right where it adds."""
    length = round(abs(share) * _BAR)
    if share < 0:
        return Text(" " * (_BAR - length) + "-" * length, style="red")
    return Text(" " * _BAR + "+" * length, style="green")


def _neighbours(found: Facts) -> list[RenderableType]:
    """The nearest first, with their weights."""
    if not found["rows"]:
        return [Text("There are none.")]
    table = new_table(
        ("alike", "right"),
        ("weight", "right"),
        ("source", "left"),
        ("split", "left"),
        ("trajectory", "left"),
        ("begins", "left"),
    )
    table.expand, table.columns[-1].ratio = True, 1  # the text takes what room is left
    for row in found["rows"]:
        table.add_row(
            f"{row['similarity']:+.2f}",
            "-" if row["weight"] is None else f"{row['weight']:.2f}",
            clipped(row["source"], 14),
            row["split"],
            clipped(str(row["traj_id"]), 16),
            Text(inert(row["line"])),
        )
    parts: list[RenderableType] = [table]
    if found["n_searched"] < found["n_candidates"]:
        told = f"Found among {found['n_searched']:,} of {found['n_candidates']:,} rows"
        parts.append(Text(f"{told}, drawn at random."))
    return parts


def _turns(found: Facts) -> list[RenderableType]:
    """One line a trained turn; below zero it helps."""
    if found["missing"]:
        return [Text(inert(found["missing"]))]
    table = new_table(
        ("turn", "right"),
        ("tokens", "right"),
        ("d", "right"),
        ("hurts - 0 + helps", "left"),
        ("begins", "left"),
    )
    table.expand, table.columns[-1].ratio = True, 1
    most = max((abs(one["d"] or 0.0) for one in found["turns"]), default=0.0) or 1.0
    for one in found["turns"]:
        d = "-" if one["d"] is None else f"{one['d']:+.2e}"
        shown = Text(inert(one["line"]))
        bar = _bar(-(one["d"] or 0.0) / most)
        table.add_row(str(one["turn"]), f"{one['n_tokens']:,}", d, bar, shown)
    table.add_row("all", f"{sum(one['n_tokens'] for one in found['turns']):,}", _sum(found), "", "")
    return [table, *(Text(told) for told in _sentences(found["told"]))]


def _sum(found: Facts) -> str:
    return "-" if found["d"] is None else f"{found['d']:+.2e}"


def _sentences(told: Sequence[str]) -> list[str]:
    return [inert(each) for each in told]


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)
