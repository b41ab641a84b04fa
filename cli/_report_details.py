"""What the story of a report rests on, a section a metric, for the terminal.

Every function takes one part of the facts and gives back what to print, one below another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from trajweight.analysis.excerpts import inert
from trajweight.cli._tables import bars, clipped, new_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    Facts = Mapping[str, Any]

_NAMES: Final = {
    "n_tokens": "tokens",
    "n_turns": "turns",
    "base_nll": "base loss",
    "n_chars": "characters",
    "n_tool_calls": "tool calls",
}
#: Sources listed.
_MOST_SOURCES: Final = 12


def sizes(found: Facts, held: Facts) -> list[RenderableType]:
    """Rows and tasks that still count, who holds the mass, and how it went in training."""
    if not found["overall"]["n"]:
        return []
    table = new_table(
        ("", "left"),
        ("rows", "right"),
        ("Kish", "right"),
        ("entropy", "right"),
        ("tasks", "right"),
        ("Kish", "right"),
        ("uniform rows", "right"),
    )
    rows = [*found["by_source"][:_MOST_SOURCES], {"source": "all synthetic", **found["overall"]}]
    for row in rows:
        table.add_row(
            clipped(row["source"], 18),
            str(row["n"]),
            f"{row['kish']:.0f}",
            f"{row['perplexity']:.0f}",
            str(row["n_tasks"]),
            f"{row['kish_tasks']:.0f}",
            f"{row['uniform_rows_of_tasks']:.0f} to {row['kish']:.0f}",
        )
    parts: list[RenderableType] = [table]
    if held["top_1"] is not None:
        parts.append(
            Text(
                f"The heaviest row holds {held['top_1']:.1%} of the mass, 1% of rows "
                f"{held['top_1_percent']:.0%}, 10% {held['top_10_percent']:.0%}; "
                f"Gini {held['gini']:.2f}."
            )
        )
    for path in found["along_training"]:
        head = f"Head {path['member'] + 1}: " if len(found["along_training"]) > 1 else ""
        parts.append(
            Text(
                f"{head}ESS/n along training: {path['ess_fractions'][0]:.2f} at first, least "
                f"{path['lowest']:.2f} at step {path['lowest_at']}, {path['last']:.2f} at the end."
            )
        )
    return parts


def explained(found: Facts, sampled: Facts) -> list[RenderableType]:
    """The variance that each column explains alone, and that only it explains."""
    if found["together"] is None:
        return [Text("not measured: all weights are the same")]
    table = new_table(
        ("share of the variance", "left"), ("alone", "right"), ("own", "right"), ("luck", "right")
    )
    for part in found["parts"]:
        name = _NAMES.get(part["column"], part["column"])
        table.add_row(name, *(_share(part[key]) for key in ("alone", "own", "by_luck")))
    table.add_row("all together", _share(found["together"]), "", _share(found["by_luck"]))
    if sampled["n"] == sampled["of"]:
        return [table]
    drawn = f"Of {sampled['n']} of {sampled['of']} rows, in whole tasks drawn at random; so are"
    return [table, Text(f"{drawn} rank correlations and quality.")]


def correlations(found: Sequence[Facts]) -> list[RenderableType]:
    """One line a column, and the same with length held fixed."""
    if all(row["rho"] is None for row in found):
        return [Text("not measured: the weights, or all columns, are constant")]
    table = new_table(
        ("with", "left"),
        ("rho", "right"),
        ("95%", "left"),
        ("length fixed", "right"),
        ("95%", "left"),
        ("", "left"),
    )
    for row in found:
        partial = row["partial"] or {"value": None, "interval": None}
        table.add_row(
            _NAMES.get(row["column"], row["column"]),
            _signed(row["rho"]),
            _range(row["spearman"]["interval"], "+.2f"),
            _signed(partial["value"]),
            _range(partial["interval"], "+.2f"),
            "beyond 0.5" if row["suspicious"] else "",
        )
    return [table]


def quality(found: Facts, *, ascii_only: bool) -> list[RenderableType]:
    """The weights beside the shortcuts, then the mean quality by tenths of the weights."""
    parts: list[RenderableType] = []
    if found["why"]:
        parts.append(Text(inert(found["why"])))
    if found["comparison"]:
        table = new_table(
            ("rows found by", "left"),
            ("AUROC", "right"),
            ("95%", "left"),
            ("avg. precision", "right"),
            ("in one task", "right"),
        )
        comparison = found["comparison"]
        shortcuts = sorted(comparison["shortcuts"], key=lambda one: -one["auroc"])
        for row in (comparison["weights"], *shortcuts):
            within = "-" if row["within_task"] is None else f"{row['within_task']:.2f}"
            table.add_row(
                row["score"],
                f"{row['auroc']:.2f}",
                _range(row["auroc_interval"], ".2f"),
                f"{row['average_precision']:.2f}",
                within,
            )
        parts.append(table)
        parts.append(
            Text(
                f"{found['n_good']} of {found['n']} labelled rows are good, {_percent(found)} of "
                f"their mass; luck gives AUROC 0.50 and precision {found['good_share']:.2f}."
            )
        )
    tenths = [each["mean_quality"] for each in found["deciles"]]
    if len(tenths) > 1 and min(tenths) >= 0:
        drawn = bars(tenths, ascii_only=ascii_only)
        ends = f"{tenths[0]:.2f} to {tenths[-1]:.2f}"
        parts.append(Text(f"Mean by tenths of the weights, lightest first: {drawn} ({ends})."))
    return parts


def distances(found: Facts) -> list[RenderableType]:
    """Each measure before and after, the band of weights dealt at random, and the verdict."""
    parts: list[RenderableType] = []
    measures = _measures(found["distributions"])
    if measures:
        table = new_table(
            ("", "left"),
            ("before", "right"),
            ("after", "right"),
            ("dealt at random", "left"),
            ("", "left"),
        )
        for name, one in measures:
            band = f"{_number(one['null_low'])} to {_number(one['null_high'])}"
            table.add_row(name, _number(one["before"]), _number(one["after"]), band, one["verdict"])
        parts.append(table)
    if not found["measured"]:
        parts.append(Text(inert(f"embeddings not measured: {found['why']}")))
    else:
        parts.append(
            Text(
                f"The {found['measure']} falls by {found['gain']:.4f}, standard error "
                f"{found['gain_error']:.4f} from having {found['n_real']} real rows."
            )
        )
    parts.append(Text(f"Compared with {found['against']}."))
    return parts


def bound(found: Facts) -> list[RenderableType]:
    """The terms of the bound, each labelled, and what they come to."""
    if not found["measured"]:
        return [Text(inert(f"not measured: {found['why']}"))]
    table = new_table(
        (f"of {found['model']}", "left"), ("value", "right"), ("tasks", "right"), ("", "left")
    )
    terms = [*found["weighted"]["terms"], *found["hints"]]
    for term in terms:
        n_eff = "" if term["n_eff"] is None else f"{term['n_eff']:.0f}"
        value = "no limit" if term["value"] is None else f"{term['value']:.3f}"
        table.add_row(term["name"], value, n_eff, term["label"])
    sentences = [*(one["sentence"] for one in found["test_set"]), found["weighted"]["sentence"]]
    loss = f"Loss: {found['loss']}."
    return [*(Text(inert(each)) for each in sentences), table, Text(inert(loss))]


def tradeoff(found: Facts) -> list[RenderableType]:
    """Diversity, shift and sample size along the path of temperatures."""
    if not found["measured"]:
        return []
    table = new_table(
        ("temperature", "left"),
        ("diversity", "right"),
        ("shift", "right"),
        ("ESS/n", "right"),
        ("tasks", "right"),
        ("width", "right"),
    )
    for point in found["points"]:
        heat = point["temperature"]
        name = "uniform" if heat is None else "1 (as they are)" if heat == 1 else f"{heat:g}"
        table.add_row(
            name,
            f"{point['diversity']:.3f}",
            f"{point['shift']:.4f}",
            f"{point['ess_fraction']:.2f}",
            f"{point['n_eff']:.0f}",
            f"{point['width']:.3f}",
        )
    return [table, Text("All of it is an estimate: the weights have seen the rows.")]


def _measures(found: Facts | None) -> list[tuple[str, Facts]]:
    """Names and comparisons, all that were measured."""
    if found is None:
        return []
    measures: list[tuple[str, Facts]] = []
    inside, text = found["embeddings"], found["text"]
    if inside:
        measures += [
            ("energy distance", inside["energy"]),
            ("squared MMD", inside["mmd"]),
            ("sliced Wasserstein", inside["sliced_wasserstein"]),
        ]
        if inside["classifier"]:
            measures.append(("classifier AUC", inside["classifier"]["auc"]))
    if text:
        measures += [("words", text["words"]), ("word pairs", text["pairs"])]
    for one in found["features"]["measured"]:
        name = _NAMES.get(one["feature"], one["feature"])
        measures.append((f"mean {name}", one["mean_difference"]))
    return measures


def _percent(found: Facts) -> str:
    """The good rows' part of the mass."""
    share = found["good_mass_share"]
    return "none" if share is None else f"{share:.0%}"


def _number(value: float) -> str:
    """Four digits behind the point at most, so that columns stay narrow."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _range(interval: Facts | None, form: str) -> str:
    """An interval from end to end; nothing where there is none."""
    if interval is None:
        return ""
    return f"{interval['low']:{form}} to {interval['high']:{form}}"


def methods(found: Sequence[Facts]) -> list[RenderableType]:
    """A line a method that was compared, the lowest loss first, then those that could not be."""
    if not found:
        return []
    table = new_table(
        ("method", "left"),
        ("dev loss", "right"),
        ("gain", "right"),
        ("SE", "right"),
        ("ESS/n", "right"),
        ("like learned", "right"),
        ("", "left"),
    )
    judged = [row for row in found if row.get("loss") is not None]
    for row in judged:
        error, alike = row["gain_se"], row["rank_correlation"]
        table.add_row(
            clipped(row["method"], 22),
            f"{row['loss']:.4f}",
            f"{row['gain']:+.4f}",
            "-" if error is None else f"{error:.4f}",
            f"{row['ess_fraction']:.2f}",
            "-" if alike is None else f"{alike:+.2f}",
            "taken" if row["is_chosen"] else "",
        )
    left = [Text(f"{row['method']}: {inert(row['why_not'])}") for row in found if "why_not" in row]
    told = "Gain against uniform weights, in nats a token; the weights are in methods.parquet."
    return [table, Text(told), *left]
