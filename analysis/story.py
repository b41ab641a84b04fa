"""What a reader should know of a run, a sentence a question; every surface shows the same ones.

Sentences say what was found with the numbers behind it, and say so where nothing was found. They
quote names that came with the data, so a surface must show them as data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.shares import share_sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Known = Mapping[str, Any]

#: Length is held to matter where it explains this much of the variance more than luck would.
_MATTERS: Final = 0.1
#: Mean weights of sources nearer to one than this are not called heavy or light.
_EVEN: Final = 0.1
#: Chance that a sentence on the distance speaks of noise; shared by all measures it looks at.
_CHANCE: Final = 0.05
#: Sources named on either side.
_N_NAMED: Final = 3


def story(facts: Known) -> list[dict[str, str]]:
    """The findings, what matters most first.

    Args:
        facts: Of `report.build_report`, all but the story.

    Returns:
        For each question ``about``, which is a fixed name, and ``text``, a sentence or two.
    """
    if facts["weights"]["overall"]["n"] == 0:
        return []
    told = {
        "sources": _sources(facts),
        "real share": share_sentence(facts["learning"].get("real_share") or {}),
        "length": _length(facts),
        "quality": _quality(facts),
        "distance": _distance(facts["alignment"]),
        "size": _size(facts),
        "bound": _bound(facts["bound"]),
    }
    return [{"about": about, "text": text} for about, text in told.items() if text]


def _sources(facts: Known) -> str:
    """Which sources weigh more than the average row, and which less."""
    sources = facts["weights"]["sources"]
    if len(sources) < 2 or _is_even(facts):
        return ""
    heavy = [one for one in sources if one["mean"] >= 1.0 + _EVEN]
    light = [one for one in reversed(sources) if one["mean"] <= 1.0 - _EVEN]
    if not heavy and not light:
        return (
            "No source weighs much more than another: their mean weights are all within 10% of 1."
        )
    parts = []
    if heavy:
        parts.append(f"Heavier than average: {_named(heavy)}")
    if light:
        parts.append(f"lighter: {_named(light)}" if parts else f"Lighter: {_named(light)}")
    said = "; ".join(parts)
    return f"{said}. {_explained(facts)}".strip()


def _named(sources: Sequence[Known]) -> str:
    """Sources with their mean weights, the first few by name."""
    named = ", ".join(f"{one['source']} ({one['mean']:.2f})" for one in sources[:_N_NAMED])
    more = len(sources) - _N_NAMED
    return f"{named} and {more} more" if more > 0 else named


def _explained(facts: Known) -> str:
    """How much of the variance lies between sources."""
    parts = {one["column"]: one for one in facts["explained"]["parts"]}
    alone = parts["source"]["alone"] if "source" in parts else None
    return "" if alone is None else f"The source explains {alone:.0%} of the weights' variance."


def _length(facts: Known) -> str:
    """Whether length does it, and whether it does so beyond the source."""
    length = facts["explained"]["length"]
    alone, beyond = length["alone"], length["beyond_source"]
    luck = length["by_luck"]
    if _is_even(facts) or alone is None or beyond is None or not luck:  # or of one length all
        return ""
    rho = {one["column"]: one["rho"] for one in facts["correlations"]}.get("n_tokens")
    known = "" if rho is None else f"; rank correlation with tokens {rho:+.2f}"
    numbers = f"tokens and turns explain {alone:.0%} of the variance alone"
    if len(facts["weights"]["sources"]) > 1:
        numbers += f", {beyond:.0%} beyond the source"
    numbers += f" (luck {luck:.0%}){known}"
    if alone - luck < _MATTERS:
        return f"Length is not the cause: {numbers}."
    if beyond - luck < _MATTERS and len(facts["weights"]["sources"]) > 1:
        return f"Length goes with the weights only as sources differ in it: {numbers}."
    return f"Length may be the cause: {numbers}."


def _quality(facts: Known) -> str:
    """How well the weights find the good rows, beside the best shortcut."""
    if _is_even(facts):
        return ""
    for one in facts["quality"]:
        if one["comparison"] is not None:
            return _found(one)
    return ""


def _found(one: Known) -> str:
    """The AUROC of the weights beside that of the best shortcut."""
    comparison = one["comparison"]
    mine = comparison["weights"]
    said = f"by {one['label']}, the weights find the good rows with AUROC {mine['auroc']:.2f}"
    said += _between(mine["auroc_interval"])
    lead = next((each for each in comparison["leads"] if each["measure"] == "auroc"), None)
    if lead is not None:
        other = mine["auroc"] - lead["difference"]
        said += f", the best shortcut ({lead['shortcut']}) with {other:.2f}"
    given = " Returns were given to the learning, so this is no test of it."
    return f"{_verdict_on_quality(mine, lead)}: {said}.{given if one['was_given'] else ''}"


def _verdict_on_quality(mine: Known, lead: Known | None) -> str:
    """What may be claimed of an AUROC and its lead over the shortcuts."""
    interval = mine["auroc_interval"]
    if interval is None:
        return "Heavy rows against good rows, noise unknown"
    if interval["high"] < 0.5:
        return "Heavy rows are the worse rows"
    if interval["low"] <= 0.5:
        return "Heavy rows are not the better rows beyond noise"
    if lead is None or lead["is_ahead"]:
        return "Heavy rows are the better rows"
    return "Heavy rows are the better rows, but a shortcut finds them as well"


def _distance(aligned: Known) -> str:
    """Whether the weighted set is nearer to the real one than the same weights dealt at random."""
    measures = _measures(aligned["distributions"])
    if not measures:
        return ""
    told: dict[str, list[str]] = {"nearer": [], "further": [], "noise": []}
    for name, one in measures:
        # Of several measures one lies outside of its band soon, so each has a part of the chance.
        verdict = one["verdict"] if one["p_value"] <= _CHANCE / len(measures) else "noise"
        shown = f"{name} ({one['before']:.3g} -> {one['after']:.3g})"
        told[verdict].append(name if verdict == "noise" else shown)
    sentences = [
        f"{side} the real set than weights dealt at random, by {_and(told[verdict])}"
        for verdict, side in (("nearer", "Nearer to"), ("further", "Further from"))
        if told[verdict]
    ]
    if not sentences:
        return f"No nearer to the real set than weights dealt at random, by {_and(told['noise'])}."
    if told["noise"]:
        sentences.append(f"no change beyond noise by {_and(told['noise'])}")
    return "; ".join(sentences) + "."


def _measures(distributions: Known | None) -> list[tuple[str, Known]]:
    """The comparisons that carry the verdict: of the embeddings two, of the words one."""
    found = []
    if distributions and distributions["embeddings"]:
        embeddings = distributions["embeddings"]
        found.append(("energy distance", embeddings["energy"]))
        if embeddings["classifier"]:
            found.append(("classifier AUC", embeddings["classifier"]["auc"]))
    if distributions and distributions["text"]:
        found.append(("words", distributions["text"]["together"]))
    return found


def _size(facts: Known) -> str:
    """How much data is left, in rows and in tasks, and who holds it."""
    size, held = facts["effective_size"]["overall"], facts["concentration"]
    if held["top_1"] is None:
        return "No row has any weight."
    said = f"{size['n']} rows count as {size['kish']:.0f}"
    if size["n_tasks"] < size["n"]:
        said += f", their {size['n_tasks']} tasks as {size['kish_tasks']:.0f}"
    return (
        f"{said}; the heaviest row holds {held['top_1']:.1%} of the mass, the heaviest 1% of rows "
        f"{held['top_1_percent']:.0%} (Gini {held['gini']:.2f})."
    )


def _bound(bound: Known) -> str:
    """What can be promised of the model that the rows were read with."""
    if not bound["measured"]:
        return ""
    return f"Of {bound['model']}: {bound['weighted']['sentence']}"


def _is_even(facts: Known) -> bool:
    """Whether all rows weigh the same, so that there is nothing to explain."""
    return facts["explained"]["together"] is None


def _between(interval: Known | None) -> str:
    """An interval in parentheses."""
    return "" if interval is None else f" ({interval['low']:.2f} to {interval['high']:.2f})"


def _and(names: Sequence[str]) -> str:
    """Names as a list of words.

    Example:
        >>> _and(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
