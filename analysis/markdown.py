"""The facts of a report as a Markdown document, for a pull request or a model card.

Text of the data stands in it as text: control characters are written out, and whatever Markdown
or HTML could act upon is escaped.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.excerpts import inert
from trajweight.analysis.shares import share_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Facts = Mapping[str, Any]

#: What could begin something other than text; an entity that stands there already is left alone.
_ACTIVE: Final = re.compile(r"&#64;|[\\`*_\[\]|~#!$^{}]")
#: What HTML could act upon, and what many renderers turn into a link by themselves.
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_LINKS: Final = re.compile(r"(?i)\b(www)\.|(:)(?=//)|(mailto|xmpp):")


def document(facts: Facts) -> str:
    """The report as Markdown (CommonMark with tables).

    Args:
        facts: From `report.report_facts`.
    """
    parts = [
        "# trajweight report",
        f"**{escaped(facts['headline'])}**",
        "\n".join(f"> Warning: {escaped(text)}\n" for text in facts["warnings"]),
        "\n".join(f"- **{one['about']}**: {escaped(one['text'])}" for one in facts["story"]),
        *_section("Weights by source", _sources(facts)),
        *_section("What explains the weights", _explained(facts)),
        *_section("Distance from the real set", _distances(facts["alignment"])),
        *(
            part
            for one in facts["quality"]
            for part in _section(f"Quality by {one['label']}", _quality(one))
        ),
        *_section("All methods side by side", _methods(facts["learning"].get("methods") or [])),
        *_section("Share of real rows", _real_share(facts["learning"])),
        *_section("What can be promised", _bound(facts["bound"])),
        *_section("Highest weights", _listed(facts["highest"])),
        *_section("Lowest weights", _listed(facts["lowest"])),
    ]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def escaped(text: str) -> str:
    r"""Text on one line that Markdown shows as it is.

    Example:
        >>> escaped("*a* <b>")
        '\\*a\\* &lt;b&gt;'
    """
    shown = "".join(_ENTITIES.get(each, each) for each in inert(text))
    return _LINKS.sub(_unlinked, _ACTIVE.sub(_escape, shown))


def _escape(found: re.Match[str]) -> str:
    """A sign with a backslash before it; an entity as it is."""
    return found[0] if found[0].startswith("&") else f"\\{found[0]}"


def _unlinked(found: re.Match[str]) -> str:
    """The part of a link that makes it one, with its point or colon written as an entity."""
    return f"{found[0][:-1]}&#{ord(found[0][-1])};"


def _section(title: str, below: str) -> list[str]:
    """A title and what stands below it; nothing where there is nothing."""
    return [f"## {title}", below] if below else []


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; all columns but the first are numbers and stand at the right.

    Args:
        heads: Of the columns.
        rows: Cells, in which whatever Markdown could act upon is escaped already.
    """
    if not rows:
        return ""
    marks = [":--", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def _sources(facts: Facts) -> str:
    sizes = {one["source"]: one for one in facts["effective_size"]["by_source"]}
    whole = {"source": "all synthetic", **facts["weights"]["overall"]}
    rows = []
    for row in (*facts["weights"]["sources"], whole):
        size = sizes.get(row["source"], facts["effective_size"]["overall"])
        rows.append(
            [
                escaped(row["source"]),
                str(row["n"]),
                f"{row['mean']:.2f}",
                f"{row['mass_share']:.0%}",
                f"{row['ess']:.0f}",
                f"{row['ess_fraction']:.2f}",
                f"{size['kish_tasks']:.0f} of {size['n_tasks']}",
            ]
        )
    heads = ("source", "rows", "mean weight", "mass", "ESS", "ESS/n", "effective tasks")
    return table(heads, rows)


def _explained(facts: Facts) -> str:
    rho = {one["column"]: one["rho"] for one in facts["correlations"]}
    if facts["explained"]["together"] is None:
        return ""
    rows = [
        [
            escaped(part["column"]),
            _number(part["alone"], ".0%"),
            _number(part["own"], ".0%"),
            _number(part["by_luck"], ".0%"),
            _number(rho.get(part["column"]), "+.2f"),
        ]
        for part in facts["explained"]["parts"]
    ]
    heads = ("column", "variance alone", "its own", "by luck", "rank correlation")
    return table(heads, rows)


def _distances(aligned: Facts) -> str:
    found = aligned["distributions"]
    if found is None:
        return ""
    inside, text = found["embeddings"], found["text"]
    measures = [(name, inside[name]) for name in ("energy", "mmd", "sliced_wasserstein") if inside]
    if inside and inside["classifier"]:
        measures.append(("classifier AUC", inside["classifier"]["auc"]))
    if text:
        measures.append(("words and pairs", text["together"]))
    measures += [(one["feature"], one["mean_difference"]) for one in found["features"]["measured"]]
    rows = [
        [
            escaped(name),
            f"{one['before']:.4g}",
            f"{one['after']:.4g}",
            f"{one['null_low']:.4g} to {one['null_high']:.4g}",
            one["verdict"],
        ]
        for name, one in measures
    ]
    return table(("measure", "before", "after", "dealt at random", "verdict"), rows)


def _quality(found: Facts) -> str:
    comparison = found["comparison"]
    if comparison is None:
        return escaped(found["why"] or "")
    rows = [
        [
            row["score"],
            f"{row['auroc']:.3f}",
            _number((row["auroc_interval"] or {}).get("low"), ".3f"),
            _number((row["auroc_interval"] or {}).get("high"), ".3f"),
            f"{row['average_precision']:.3f}",
            _number(row["within_task"], ".3f"),
        ]
        for row in (comparison["weights"], *comparison["shortcuts"])
    ]
    heads = ("rows found by", "AUROC", "from", "to", "average precision", "within a task")
    return table(heads, rows)


def _methods(found: Sequence[Facts]) -> str:
    """A line a method that was compared; those that could not be used have no numbers."""
    rows = [
        [
            escaped(row["method"]) + " (taken)" * row["is_chosen"],
            _number(row.get("loss"), ".4f"),
            _number(row.get("gain"), "+.4f"),
            _number(row.get("gain_se"), ".4f"),
            _number(row.get("ess_fraction"), ".2f"),
            _number(row.get("rank_correlation"), "+.2f"),
        ]
        for row in found
    ]
    return table(("method", "dev loss", "gain", "SE", "ESS/n", "like learned"), rows)


def _real_share(learning: Facts) -> str:
    """A line a training with another share of the mass for real rows."""
    return table(*share_table(learning.get("real_share") or {}))


def _bound(bound: Facts) -> str:
    if not bound["measured"]:
        return ""
    terms = [*bound["weighted"]["terms"], *bound["hints"]]
    rows = [
        [escaped(term["name"]), _number(term["value"], ".3f"), escaped(term["label"])]
        for term in terms
    ]
    return table((f"of {bound['model']}", "value", "status"), rows)


def _listed(rows: Sequence[Facts]) -> str:
    told = [
        [
            escaped(str(row["traj_id"])),
            f"{row['weight']:.2f}",
            escaped(row["source"]),
            escaped(row["line"]),
        ]
        for row in rows
    ]
    return table(("trajectory", "weight", "source", "begins"), told)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"
