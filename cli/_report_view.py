"""The facts of a report as calm tables for the terminal: 80 columns, no colour needed, pipe-safe.

What was found comes first and fits one screen; then what it rests on.

Everything a row of data brought along (sources, ids, reasons, excerpts) goes through `inert` and
into a rich ``Text``, so neither markup nor escape sequences are ever acted upon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.padding import Padding
from rich.text import Text

from trajweight.analysis.excerpts import inert
from trajweight.analysis.shares import share_table
from trajweight.cli import _report_details as details
from trajweight.cli._tables import bars, clipped, new_table, pairs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, RenderableType

    Facts = Mapping[str, Any]

#: Sources listed; with more, half of these from either end.
_MOST_SOURCES: Final = 30
_SPLITS: Final = ("train", "validation", "dev", "test", "excluded")


def render(facts: Facts, console: Console) -> None:
    """Print a report.

    Args:
        facts: From `trajweight.analysis.report.report_facts`.
        console: Where to; its width is respected, and what its encoding lacks becomes "?".
    """
    if not console.options.ascii_only:
        _print(facts, console)
        return
    with console.capture() as capture:
        _print(facts, console)
    encoding = console.encoding
    console.file.write(capture.get().encode(encoding, "replace").decode(encoding))


def _print(facts: Facts, console: Console) -> None:
    """The headline, the warnings and the story, then a section for each kind of fact."""
    ascii_only = console.options.ascii_only
    console.print(Text(inert(facts["headline"]), style="bold"))
    if facts["warnings"]:
        console.print(pairs([("Warning:", text) for text in facts["warnings"]], style="yellow"))
    sections = (
        ("What was found", _story(facts["story"])),
        (
            "Weights by source (synthetic training rows)",
            _weights(facts["weights"], ascii_only=ascii_only),
        ),
        ("Effective sample size", details.sizes(facts["effective_size"], facts["concentration"])),
        ("What explains the weights", details.explained(facts["explained"], facts["sampled"])),
        ("Rank correlation of the weight", details.correlations(facts["correlations"])),
        *(
            (f"Quality by {one['label']}", details.quality(one, ascii_only=ascii_only))
            for one in facts["quality"]
        ),
        ("Distance from the real set", details.distances(facts["alignment"])),
        ("What can be promised", details.bound(facts["bound"])),
        ("Sharper or flatter weights", details.tradeoff(facts["tradeoff"])),
        ("Learning", _learning(facts["learning"])),
        ("All methods side by side", details.methods(facts["learning"].get("methods") or [])),
        ("What was read", _read(facts["read"])),
        ("Highest weights", _listed(facts["highest"])),
        ("Lowest weights", _listed(facts["lowest"])),
    )
    for title, parts in sections:
        if parts:
            console.print()
            console.print(Text(title, style="bold"))
            for part in parts:
                console.print(Padding(part, (0, 0, 0, 2), expand=False))


def _story(told: Sequence[Facts]) -> list[RenderableType]:
    """A sentence a question."""
    return [pairs([(one["about"], one["text"]) for one in told], style="dim")] if told else []


def _read(read: Facts) -> list[RenderableType]:
    """Counts that add up, then where the kept rows stand, then why others do not."""
    told = f"{read['read']} rows read = {read['kept']} kept + {read['rejected']} rejected"
    places = {(row["origin"], row["split"]): row["n"] for row in read["by_origin_and_split"]}
    splits = [name for name in _SPLITS if any(split == name for _, split in places)]
    table = new_table(("", "left"), *((name, "right") for name in splits))
    for origin in ("real", "synthetic"):
        counts = [places.get((origin, split), 0) for split in splits]
        table.add_row(origin, *(str(count) if count else "-" for count in counts))
    parts: list[RenderableType] = [Text(told), table]
    reasons = [
        (f"{row['n']} {verb}:", row["reason"])
        for verb in ("rejected", "excluded")
        for row in read[f"{verb}_because"]
    ]
    if reasons:
        parts.append(pairs(reasons))
    return parts


def _weights(weights: Facts, *, ascii_only: bool) -> list[RenderableType]:
    """One line a source with its histogram, the heaviest first, and the whole set at the end."""
    edges = weights["bin_edges"]
    table = new_table(
        ("source", "left"),
        ("n", "right"),
        ("mean", "right"),
        ("mass", "right"),
        ("ESS", "right"),
        ("ESS/n", "right"),
        (_axis(edges), "left"),
    )
    whole = {"source": "all synthetic", **weights["overall"]}
    shown = list(weights["sources"])
    n_hidden = max(0, len(shown) - _MOST_SOURCES)
    if n_hidden:
        shown = shown[: _MOST_SOURCES // 2] + shown[-_MOST_SOURCES // 2 :]
    for row in [*shown, whole]:
        table.add_row(
            clipped(row["source"], 18),
            str(row["n"]),
            f"{row['mean']:.2f}",
            f"{row['mass_share']:.0%}",
            f"{row['ess']:.0f}",
            f"{row['ess_fraction']:.2f}",
            Text(bars(row["counts"], ascii_only=ascii_only), style="cyan"),
        )
    parts: list[RenderableType] = [table]
    if n_hidden:
        parts.append(Text(f"{n_hidden} sources of middling mean are not shown; --json has all."))
    if weights["overall"]["n"]:
        heaviest = (
            f"The heaviest tenth holds {weights['overall']['top_tenth_mass']:.0%} of the mass; the "
            f"highest weight is {weights['overall']['max']:.2f}."
        )
        zero = weights["overall"]["n_zero"]
        parts.append(Text(heaviest + (f" {zero} have weight zero." if zero else "")))
    real = weights["real_train"]
    if real["n"]:
        told = f"{real['n']} real training rows carry weight {real['weight']:.2f} each"
        parts.append(Text(f"{told}, {real['mass_share']:.0%} of all training mass."))
    return parts


def _learning(learning: Facts) -> list[RenderableType]:
    """Outer losses before and after, then how the loop went."""
    stages = (
        ("base", "base model"),
        ("uniform", "uniform weights"),
        ("returns", "returns alone"),
        ("weighted", "learned weights"),
    )
    rows = [
        (name, *(learning.get(f"{key}_{split}_loss") for split in ("outer", "dev")))
        for key, name in stages
    ]
    parts: list[RenderableType] = []
    if learning.get("objective"):
        parts.append(Text(inert(f"Objective: {learning['objective']}.")))
    parts += [Text(told) for told in _returns(learning.get("returns") or {})]
    if any(loss is not None for row in rows for loss in row[1:]):
        table = new_table(
            ("outer loss, nats a token", "left"), ("validation", "right"), ("dev", "right")
        )
        for name, *losses in rows:
            if any(loss is not None for loss in losses):
                table.add_row(name, *("-" if loss is None else f"{loss:.4f}" for loss in losses))
        parts.append(table)
    if learning.get("dev_gain") is not None:
        error = learning.get("dev_gain_se")
        noise = "unknown, with one task" if error is None else f"{error:.4f} over tasks"
        has_dev = learning.get("uniform_dev_loss") is not None
        judges = "dev" if has_dev else "validation, for want of dev rows,"
        steps = learning.get("contest_steps")
        after = f" after trainings of {steps} steps each" if steps else ""
        gain = f"Gain on {judges}{after} {learning['dev_gain']:+.4f}"
        parts.append(Text(f"{gain}, standard error {noise}."))
    parts += _tradeoff(learning)
    parts += _real_share(learning.get("real_share") or {})
    if learning.get("reliability") is not None:
        agree = f"Rank correlation between the heads of the ensemble {learning['reliability']:.2f}"
        parts.append(Text(f"{agree}; ranges of the weights are in ensemble.parquet."))
    if learning.get("retrained"):
        parts.append(Text(inert(_retrained(learning["retrained"]))))
    if "outer_steps" in learning:
        why = (
            f"; stopped because {learning['stopped_because']}"
            if learning.get("stopped_because")
            else ""
        )
        parts.append(Text(inert(f"{learning['outer_steps']} outer steps{why}.")))
    if learning.get("seconds"):
        spent = ", ".join(f"{stage} {value:.1f} s" for stage, value in learning["seconds"].items())
        parts.append(Text(inert(f"Time: {spent}.")))
    return [*parts, *(Text(inert(note)) for note in learning.get("notes") or ())]


def _tradeoff(learning: Facts) -> list[RenderableType]:
    """Loss against effective sample size, from the sharpest weights to uniform ones."""
    points = learning.get("tradeoff") or []
    if not points:
        return []
    judges = "dev" if learning.get("uniform_dev_loss") is not None else "validation"
    table = new_table(("temperature", "left"), ("ESS/n", "right"), (f"{judges} loss", "right"))
    for point in points:
        heat, chosen = point["temperature"], learning.get("selected") == "head"
        mark = " (taken)" if chosen and heat == learning.get("temperature") else ""
        name = "uniform" if heat is None else f"{heat:.3g}{mark}"
        table.add_row(name, f"{point['ess_fraction']:.2f}", f"{point['loss']:.4f}")
    return [table]


def _real_share(found: Facts) -> list[RenderableType]:
    """Trainings with other shares of the mass for real rows."""
    (first, *others), rows = share_table(found)
    table = new_table((first, "left"), *((head, "right") for head in others))
    for row in rows:
        table.add_row(*row)
    return [table] if rows else []


def _retrained(found: Facts) -> str:
    """How the adapter that the user keeps did."""
    return (
        f"Retrained adapter, {found['steps']} steps: {found['judged_by']} loss "
        f"{found['base_loss']:.4f} -> {found['loss']:.4f}; it is in adapter/."
    )


def _returns(known: Facts) -> list[str]:
    """How many rows had a return, and what was made of it."""
    told = []
    if "validation" in known:
        told.append(
            f"{known['validation_with_return']} of {known['validation']} real validation rows have "
            f"a return; {known['validation_counted']} take part in the outer loss."
        )
    if "synthetic" in known:
        ess = known.get("prior_ess_fraction")
        made = "they change no weight" if ess is None else f"returns alone leave ESS/n {ess:.2f}"
        told.append(
            f"{known['synthetic_with_return']} of {known['synthetic']} synthetic training rows "
            f"have a return; {made}."
        )
    return told


def _listed(rows: Sequence[Facts]) -> list[RenderableType]:
    """Trajectories with a line of text each."""
    if not rows:
        return []
    table = new_table(
        ("weight", "right"), ("source", "left"), ("trajectory", "left"), ("begins", "left")
    )
    table.expand, table.columns[-1].ratio = True, 1  # the text takes what room is left
    for row in rows:
        source, name = clipped(row["source"], 14), clipped(str(row["traj_id"]), 16)
        table.add_row(f"{row['weight']:.2f}", source, name, Text(inert(row["line"])))
    return [table]


def _axis(edges: Sequence[float]) -> str:
    """The histogram's heading: whole numbers over the bars that begin there."""
    marks = [" "] * len(edges)
    for at, edge in enumerate(edges):
        if float(edge).is_integer():
            marks[at] = str(int(edge))
    return "".join(marks) + "+"
