"""The parts of a page that are text and numbers: key figures, the story, and tables to unfold.

All text that came with the data goes through `html_text.text_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.html_text import text_of
from trajweight.analysis.shares import share_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Facts = Mapping[str, Any]

_STAGES: Final = (
    ("base", "base model"),
    ("uniform", "uniform weights"),
    ("returns", "returns alone"),
    ("weighted", "learned weights"),
)
#: Of a method that was compared: what is shown, and how.
_METHOD_COLUMNS: Final = (
    *(("loss", ".4f"), ("gain", "+.4f"), ("gain_se", ".4f")),
    *(("ess_fraction", ".2f"), ("rank_correlation", "+.2f")),
)


def listed(texts: Iterable[object], *, kind: str, item: str = "") -> str:
    """Texts one below the other; nothing where there is none."""
    items = "".join(f'<li class="{item}">{text_of(text)}</li>' for text in texts)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def story(facts: Facts) -> str:
    """A sentence or two a question."""
    told = "".join(
        f"<dt>{text_of(one['about'])}</dt><dd>{text_of(one['text'])}</dd>"
        for one in facts.get("story") or ()
    )
    return f'<dl class="story">{told}</dl>' if told else ""


def tiles(facts: Facts) -> str:
    """The key figures: what each is, the number, and what it means."""
    shown = (
        f'<div><dt>{text_of(name)}</dt><dd class="value">{text_of(value)}</dd>'
        f'<dd class="told">{text_of(told)}</dd></div>'
        for name, value, told in _key_figures(facts)
    )
    return "".join(shown)


def _key_figures(facts: Facts) -> list[tuple[str, str, str]]:
    weights, learning = facts.get("weights") or {}, facts.get("learning") or {}
    whole, found = weights.get("overall") or {}, []
    if whole.get("n"):
        worth = f"{whole['n']:,} synthetic rows count as {whole['ess']:,.0f}"
        found.append(("ESS/n", f"{whole['ess_fraction']:.2f}", worth))
    size = (facts.get("effective_size") or {}).get("overall") or {}
    if size.get("n_tasks") and size["n_tasks"] < size["n"]:
        worth = f"{size['n_tasks']:,} tasks; with equal weights {size['kish_tasks_uniform']:,.0f}"
        found.append(("Effective tasks", f"{size['kish_tasks']:,.0f}", worth))
    if learning.get("dev_gain") is not None:
        judges = "dev" if learning.get("uniform_dev_loss") is not None else "validation"
        error = learning.get("dev_gain_se")
        noise = "noise unknown" if error is None else f"standard error {error:.4f} over tasks"
        steps = learning.get("contest_steps")
        after = f", trainings of {steps} steps" if steps else ""
        told = f"nats a token; {noise}{after}"
        found.append((f"Gain on {judges}", f"{learning['dev_gain']:+.4f}", told))
    if whole.get("n") and whole.get("top_tenth_mass") is not None:
        most = "" if whole.get("max") is None else f"the highest weight is {whole['max']:.2f}"
        found.append(("Held by the heaviest tenth", f"{whole['top_tenth_mass']:.0%}", most))
    if whole.get("n_zero"):
        found.append(("Of weight zero", f"{whole['n_zero']:,}", "rows that train nothing"))
    if learning.get("n_validation") is not None:
        counts = f"and {learning.get('n_dev', 0):,} dev, {learning.get('n_test', 0):,} test rows"
        found.append(("Real validation rows", f"{learning['n_validation']:,}", counts))
    return found


def tables(facts: Facts) -> str:
    """What the story and the figures rest on, each table closed at first."""
    made = (_sources, _explained, _qualities, _bound, _losses, _real_share, _methods, _read, _notes)
    return "".join(make(facts) for make in made)


def _sources(facts: Facts) -> str:
    """A line a source."""
    rows = [
        (
            row["source"],
            *(f"{row['n']:,}", f"{row['mean']:.2f}", f"{row['mass_share']:.0%}"),
            *(f"{row['ess']:,.0f}", f"{row['ess_fraction']:.2f}"),
        )
        for row in (facts.get("weights") or {}).get("sources") or []
    ]
    heads = ("source", "rows", "mean weight", "share of weight", "ESS", "ESS/n")
    return _folded("Weights by source", _table(heads, rows)) if rows else ""


def _explained(facts: Facts) -> str:
    """What part of the variance each column explains, and how each goes with the weight."""
    found = facts.get("explained") or {}
    rhos = {row["column"]: row["rho"] for row in facts.get("correlations") or ()}
    rows = [
        (
            part["column"],
            *(_number(part[key], ".0%") for key in ("alone", "own", "by_luck")),
            _number(rhos.get(part["column"]), "+.2f"),
        )
        for part in found.get("parts") or ()
    ]
    if not rows or found.get("together") is None:
        return ""
    heads = ("share of the weights' variance", "alone", "its own", "by luck", "rank correlation")
    return _folded("What explains the weights", _table(heads, rows))


def _qualities(facts: Facts) -> str:
    """The weights beside the shortcuts, a table a label."""
    made = []
    for one in facts.get("quality") or ():
        if one["comparison"] is None:
            continue
        shortcuts = sorted(one["comparison"]["shortcuts"], key=lambda row: -row["auroc"])
        rows = [
            (
                row["score"],
                _number(row["auroc"], ".2f"),
                _between(row["auroc_interval"]),
                _number(row["average_precision"], ".2f"),
                _number(row["within_task"], ".2f"),
            )
            for row in (one["comparison"]["weights"], *shortcuts)
        ]
        heads = ("found by", "AUROC", "95%", "average precision", "in one task")
        made.append(_folded(f"Good rows by {one['label']}", _table(heads, rows)))
    return "".join(made)


def _bound(facts: Facts) -> str:
    """The terms of the bound, each with the label it has earned."""
    found = facts.get("bound") or {}
    if not found.get("measured"):
        return ""
    rows = [
        (
            term["name"],
            "no limit" if term["value"] is None else f"{term['value']:.3f}",
            term["label"],
        )
        for term in (*found["weighted"]["terms"], *found["hints"])
    ]
    said = [*(one["sentence"] for one in found["test_set"]), found["weighted"]["sentence"]]
    about = f"Of {found['model']}. Loss: {found['loss']}."
    inside = listed([*said, about], kind="said-of-it") + _table(("term", "value", "label"), rows)
    return _folded("What can be promised", inside)


def _losses(facts: Facts) -> str:
    """Losses on real tasks before and after."""
    learning = facts.get("learning") or {}
    rows = []
    for key, name in _STAGES:
        losses = [learning.get(f"{key}_{split}_loss") for split in ("outer", "dev")]
        if any(loss is not None for loss in losses):
            rows.append((name, *(_number(loss, ".4f") for loss in losses)))
    heads = ("loss, nats a token", "validation", "dev")
    return _folded("Losses on real tasks", _table(heads, rows)) if rows else ""


def _real_share(facts: Facts) -> str:
    """Trainings with other shares of the mass for real rows."""
    heads, rows = share_table((facts.get("learning") or {}).get("real_share") or {})
    return _folded("Share of real rows", _table(heads, rows)) if rows else ""


def _methods(facts: Facts) -> str:
    """All methods that were compared, the lowest loss first."""
    found = (facts.get("learning") or {}).get("methods") or ()
    rows = [
        (
            row["method"] + " (taken)" * row["is_chosen"],
            *(_number(row.get(key), spec) for key, spec in _METHOD_COLUMNS),
            row.get("why_not", ""),
        )
        for row in found
    ]
    heads = ("method", "dev loss", "gain", "SE", "ESS/n", "like learned", "")
    return _folded("All methods side by side", _table(heads, rows)) if rows else ""


def _read(facts: Facts) -> str:
    """What came in and where it went."""
    read = facts.get("read") or {}
    if "kept" not in read:
        return ""
    rows = [
        (f"{row['origin']}, {row['split']}", f"{row['n']:,}")
        for row in read.get("by_origin_and_split") or []
    ]
    rows += [
        (f"{verb}: {row['reason']}", f"{row['n']:,}")
        for verb in ("rejected", "excluded")
        for row in read.get(f"{verb}_because") or []
    ]
    told = f"{read['read']:,} rows read: {read['kept']:,} kept, {read['rejected']:,} rejected"
    return _folded(told, _table(("rows", "number"), rows))


def _notes(facts: Facts) -> str:
    notes = (facts.get("learning") or {}).get("notes") or ()
    return _folded(f"{len(notes)} notes", listed(notes, kind="notes")) if notes else ""


def _folded(title: str, inside: str) -> str:
    """A part of the page that is closed at first."""
    return f'<details class="plain"><summary>{text_of(title)}</summary>{inside}</details>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is names and all others numbers."""
    kinds = ["", *([' class="number"'] * (len(heads) - 1))]
    head = "".join(
        f"<th{kind}>{text_of(text)}</th>" for kind, text in zip(kinds, heads, strict=True)
    )
    lines = (
        "".join(f"<td{kind}>{text_of(text)}</td>" for kind, text in zip(kinds, row, strict=True))
        for row in rows
    )
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _between(interval: Facts | None) -> str:
    return "" if interval is None else f"{interval['low']:.2f} to {interval['high']:.2f}"
