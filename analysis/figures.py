"""The figures of a report, each with its finding as its title, made from the facts.

A figure whose facts a run does not have is left out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.excerpts import inert
from trajweight.analysis.marks import Axis, Boxes, Dots, Figure, Line, Role, ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Facts = Mapping[str, Any]
    Point = tuple[float, float]

#: Sources drawn; of more, the heaviest and the lightest.
MOST_SOURCES: Final = 14
#: How far out of its band a measure is drawn; beyond, it stands at the border.
FAR: Final = 4.0
#: Changes of a share or a quality below this are told as none.
_WORTH_A_WORD: Final = 0.01
#: Where the facts hold the comparisons that are drawn, and what to call them. Of measures that say
#: the same in two ways one is drawn, and none that has a sign: to the left must be nearer.
_MEASURES: Final = (
    ("energy distance", "embeddings", "energy"),
    ("kernel distance (MMD)", "embeddings", "mmd"),
    ("sliced Wasserstein", "embeddings", "sliced_wasserstein"),
    ("told by a classifier", "embeddings", "classifier", "proxy_distance"),
    ("words", "text", "words"),
    ("pairs of words", "text", "pairs"),
)
_FEATURES: Final = {
    "n_turns": "number of turns",
    "n_tokens": "length in tokens",
    "n_chars": "length in characters",
    "n_tool_calls": "tool calls",
    "base_nll": "base loss",
}


def figures(facts: Facts) -> list[Figure]:
    """All figures that these facts suffice for."""
    made = (weights_by_source, alignment, quality, tradeoff, three_ways, lorenz, training)
    return [figure for make in made if (figure := make(facts)) is not None]


def weights_by_source(facts: Facts) -> Figure | None:
    """A histogram a source, one below the other, the heaviest first."""
    found = facts.get("weights") or {}
    sources, edges = found.get("sources") or [], found.get("bin_edges") or []
    sources = [row for row in sources if row.get("n") and len(row.get("counts", ())) == len(edges)]
    if not sources:
        return None
    title = _title_of_sources(sources)
    shown, hidden = sources, len(sources) - MOST_SOURCES
    if hidden > 0:
        half = MOST_SOURCES // 2
        shown = [*sources[:half], *sources[-half:]]
    width = edges[1] - edges[0]
    boxes, means = [], []
    for at, row in enumerate(shown):
        most = max(row["counts"])
        boxes += [
            (edge, edge + width, -at - 0.4, -at - 0.4 + 0.8 * count / most)
            for edge, count in zip(edges, row["counts"], strict=True)
            if count
        ]
        means.append((min(row["mean"], edges[-1] + width), float(-at)))
    names = [f"{_short(row['source'], 18)} ({row['n']})" for row in shown]
    note = (
        "One strip a source, with its number of rows; a bar is the rows of that weight. All "
        "synthetic training rows together have mean 1, the dashed line; the last bar holds all "
        "heavier rows too."
    )
    if hidden > 0:
        note += f" {hidden} sources of middling mean are not drawn."
    return Figure(
        "weights-by-source",
        title,
        note,
        Axis("weight", 0.0, edges[-1] + width, ticks(0.0, edges[-1] + width)),
        _named(names),
        (
            Line("quiet", ((1.0, 0.6), (1.0, 0.5 - len(shown))), is_dashed=True),
            Boxes("main", tuple(boxes), "rows"),
            Dots("other", tuple(means), "mean"),
        ),
        is_named=True,
    )


def lorenz(facts: Facts) -> Figure | None:
    """What part of the mass the lightest part of the rows holds."""
    found = facts.get("concentration") or {}
    curve = found.get("lorenz")
    if not curve:
        return None
    steps = len(curve) - 1
    points = tuple((at / steps, float(held)) for at, held in enumerate(curve))
    title = (
        f"The heaviest tenth of the rows holds {found['top_10_percent']:.0%} of the weight, the "
        f"heaviest row {_percent(found['top_1'])}"
    )
    return Figure(
        "lorenz",
        title,
        "Rows from the lightest to the heaviest against the share of weight they hold. Gini "
        f"{found['gini']:.2f}: 0 is equality.",
        Axis("share of rows, lightest first", 0.0, 1.0, _percents()),
        Axis("share of weight", 0.0, 1.0, _percents()),
        (
            Line("quiet", ((0.0, 0.0), (1.0, 1.0)), "all equal", is_dashed=True),
            Line("main", points, "these weights"),
        ),
    )


def tradeoff(facts: Facts) -> Figure | None:
    """Loss on held-out tasks against the effective share of rows, along the temperatures."""
    learning = facts.get("learning") or {}
    path = [
        point
        for point in learning.get("tradeoff") or []
        if _is_number(point.get("ess_fraction")) and _is_number(point.get("loss"))
    ]
    if len(path) < 2:
        return None
    judges = "dev" if learning.get("uniform_dev_loss") is not None else "validation"
    path.sort(key=lambda point: point["ess_fraction"])
    uniform = next((point for point in path if point.get("temperature") is None), path[-1])
    taken = [
        point
        for point in path
        if learning.get("selected") == "head"
        and point.get("temperature") is not None
        and point["temperature"] == learning.get("temperature")
    ]
    best = min(path, key=lambda point: point["loss"])
    told = taken[0] if taken else best
    gain = uniform["loss"] - told["loss"]
    at = f"at ESS/n {told['ess_fraction']:.2f}"
    if told is uniform:
        title = f"Uniform weights have the lowest {judges} loss"
    elif gain > 0:
        title = f"Weights lower the {judges} loss by {gain:.4f} {at}"
    else:
        title = f"Weights raise the {judges} loss by {-gain:.4f} {at}"
    y = _axis_over((point["loss"] for point in path), f"{judges} loss, nats a token")
    line = tuple((point["ess_fraction"], point["loss"]) for point in path)
    marks: list[Boxes | Line | Dots] = [
        Line("main", line),
        Dots("main", line),
        Dots("quiet", ((uniform["ess_fraction"], uniform["loss"]),), "", ("uniform",)),
    ]
    if taken:
        spot = (taken[0]["ess_fraction"], taken[0]["loss"])
        marks.append(Dots("other", (spot,), "", ("taken",)))
    return Figure(
        "tradeoff",
        title,
        "To the left weights are sharper and fewer rows count; lower is better.",
        Axis("ESS/n, effective share of the rows", 0.0, 1.05, ticks(0.0, 1.0)),
        y,
        tuple(marks),
    )


def three_ways(facts: Facts) -> Figure | None:
    """Diversity against the distance from the real set, each point with what rows are left."""
    found = facts.get("tradeoff") or {}
    points = found.get("points") or []
    if len(points) < 2:
        return None
    names = {None: "uniform", 1: "as they are"}
    by_heat = {point["temperature"]: point for point in points}
    uniform, mine = by_heat.get(None), by_heat.get(1)
    if uniform is None or mine is None:
        return None
    kept = mine["diversity"] / uniform["diversity"] if uniform["diversity"] else 1.0
    title = (
        f"The weights keep {kept:.0%} of the diversity; the distance from the real set goes from "
        f"{uniform['shift']:.3f} to {mine['shift']:.3f}"
    )
    path = tuple((point["shift"], point["diversity"]) for point in points)
    texts = tuple(
        f"{names.get(point['temperature'], 'sharpest' if not at else '')}, ESS/n "
        f"{point['ess_fraction']:.2f}"
        if point["temperature"] in names or not at
        else ""
        for at, point in enumerate(points)
    )
    return Figure(
        "three-ways",
        title,
        "Weights raised to powers, from the sharpest to uniform ones: to the left they are nearer "
        "to the real set, upward more diverse, and each counts as another share of the rows. All "
        "of it is an estimate.",
        _axis_over((x for x, _ in path), "energy distance from the real set"),
        _axis_over((y for _, y in path), "mean distance of two rows"),
        (
            Line("main", path),
            Dots("main", path, "", texts),
            Dots("other", ((mine["shift"], mine["diversity"]),)),
        ),
    )


def training(facts: Facts) -> Figure | None:
    """The effective share of the rows along the outer steps, a line a head."""
    paths = (facts.get("effective_size") or {}).get("along_training") or []
    paths = [path for path in paths if len(path["steps"]) > 1]
    if not paths:
        return None
    last = [path["ess_fractions"][-1] for path in paths]
    n_steps = max(path["steps"][-1] for path in paths)
    ends = f"{last[0]:.2f}" if len(last) == 1 else f"{min(last):.2f} to {max(last):.2f}"
    began = paths[0]["ess_fractions"][0]
    title = f"ESS/n went from {began:.2f} to {ends} in {n_steps} steps"
    target: Any = (facts.get("learning") or {}).get("target_ess")
    marks: list[Boxes | Line | Dots] = []
    if _is_number(target):
        ends_at = ((1.0, float(target)), (float(n_steps), float(target)))
        marks.append(Line("quiet", ends_at, f"asked for: {target:g}", is_dashed=True))
    marks += [
        Line(
            "main",
            tuple(zip(map(float, path["steps"]), path["ess_fractions"], strict=True)),
            "" if at else ("the head" if len(paths) == 1 else "heads of the ensemble"),
        )
        for at, path in enumerate(paths)
    ]
    return Figure(
        "training",
        title,
        "The effective share of the rows while the head learned.",
        Axis("outer step", 0.0, float(n_steps), ticks(0.0, float(n_steps))),
        Axis("ESS/n", 0.0, 1.05, ticks(0.0, 1.0)),
        tuple(marks),
    )


def quality(facts: Facts) -> Figure | None:
    """Mean quality by tenths of the weights, with intervals; of the first label that ranks rows."""
    found = next((one for one in facts.get("quality") or () if len(one["deciles"]) > 1), None)
    if found is None or found["weighted_mean_quality"] is None:
        return None
    label, tenths = _short(found["label"], 24), found["deciles"]
    mean, weighted = found["mean_quality"], found["weighted_mean_quality"]
    if abs(weighted - mean) < _WORTH_A_WORD:
        title = f"Weighting leaves mean {label} where it was, at {mean:.2f}"
    else:
        verb = "raises" if weighted > mean else "lowers"
        title = f"Weighting {verb} mean {label} from {mean:.2f} to {weighted:.2f}"
    points = tuple((float(row["decile"]), row["mean_quality"]) for row in tenths)
    spans = [
        (at, row["interval"]["low"], row["interval"]["high"])
        for (at, _), row in zip(points, tenths, strict=True)
        if row["interval"] is not None
    ]
    values = [*(value for _, value in points), *(end for _, *ends in spans for end in ends)]
    low, high = min(0.0, *values), max(1.0, *values)
    margin = 0.03 * (high - low)
    return Figure(
        "quality",
        title,
        f"Rows in tenths by weight, the lightest first: the mean of {label} in each, with its "
        "interval over tasks.",
        Axis("tenth of the rows by weight", 0.5, 10.5, tuple((i, str(i)) for i in range(1, 11))),
        Axis(f"mean {label}", low - margin, high + margin, ticks(low, high)),
        (
            Line("quiet", ((0.5, mean), (10.5, mean)), "all rows", is_dashed=True),
            Boxes("band", tuple((at - 0.08, at + 0.08, *ends) for at, *ends in spans), "interval"),
            Dots("main", points, "mean of a tenth"),
        ),
    )


def alignment(facts: Facts) -> Figure | None:
    """Each distance after weighting, in its own band of weights dealt at random."""
    found = _comparisons((facts.get("alignment") or {}).get("distributions") or {})
    if not found:
        return None
    n_near = sum(row["verdict"] == "nearer" for _, row in found)
    n_far = sum(row["verdict"] == "further" for _, row in found)
    if n_near and n_far:
        title = f"{n_near} of {len(found)} distances from the real set are shorter than dealt "
        title += f"weights give, {n_far} longer"
    elif n_near or n_far:
        side = "shorter" if n_near else "longer"
        title = f"{n_near or n_far} of {len(found)} distances from the real set are {side} than "
        title += "dealt weights give"
    else:
        title = "No distance from the real set is other than dealt weights give"
    by_role: dict[tuple[Role, str], list[Point]] = {}
    for at, (_, row) in enumerate(found):
        role: tuple[Role, str] = {
            "nearer": ("good", "shorter"),
            "further": ("bad", "longer"),
        }.get(row["verdict"], ("main", "within its band"))  # type: ignore[assignment]
        by_role.setdefault(role, []).append((_in_band(row["after"], row), float(-at)))
    before = tuple((_in_band(row["before"], row), float(-at)) for at, (_, row) in enumerate(found))
    bands = tuple((-1.0, 1.0, -at - 0.3, -at + 0.3) for at in range(len(found)))
    marks: list[Boxes | Line | Dots] = [
        Boxes("band", bands, "nine tenths of the deals"),
        Dots("quiet", before, "every row the same", is_hollow=True),
    ]
    marks += [Dots(role, tuple(at), name) for (role, name), at in by_role.items()]
    return Figure(
        "alignment",
        title,
        "Each distance from the real rows, laid over its own band: what the same weights, dealt to "
        "other rows at random, would give nine times in ten. By luck alone one distance in ten "
        "lies outside of its band.",
        Axis(
            "nearer  <-  half bands  ->  further",
            -FAR - 0.2,
            FAR + 0.2,
            tuple((float(i), f"{i:+d}" if i else "0") for i in range(-int(FAR), int(FAR) + 1)),
        ),
        _named([name for name, _ in found]),
        tuple(marks),
        is_named=True,
    )


def _title_of_sources(sources: Sequence[Facts]) -> str:
    """Which source weighs most and which least."""
    first, last = max(sources, key=_mean_of), min(sources, key=_mean_of)
    if len(sources) == 1:
        return f"All rows are of one source, {_short(first['source'], 24)}"
    if first["mean"] - last["mean"] < 0.005:
        return "All sources weigh the same"
    return (
        f"{_short(first['source'], 24)} weighs most (mean {first['mean']:.2f}), "
        f"{_short(last['source'], 24)} least ({last['mean']:.2f})"
    )


def _mean_of(row: Facts) -> float:
    return float(row["mean"])


def _comparisons(distributions: Facts) -> list[tuple[str, Facts]]:
    """The measures that are drawn, with what to call them."""
    found = []
    for name, *path in _MEASURES:
        one: Any = distributions
        for key in path:
            one = (one or {}).get(key)
        found.append((name, one))
    for shift in (distributions.get("features") or {}).get("measured") or ():
        name = _FEATURES.get(shift["feature"]) or _short(shift["feature"], 20)
        found.append((name, shift["largest_gap"]))
    return [(name, one) for name, one in found if one]


def _in_band(value: float, row: Facts) -> float:
    """Where a value lies when the band is laid from -1 to 1 and its median at 0."""
    off = value - row["null_median"]
    end = row["null_low"] if off < 0 else row["null_high"]
    width = abs(end - row["null_median"])
    if not width:
        return math.copysign(FAR, off) if abs(off) > 1e-12 else 0.0
    return float(max(-FAR, min(FAR, off / width)))


def _named(names: Sequence[str]) -> Axis:
    """An axis of names, from 0 downward."""
    ticks = tuple((float(-at), name) for at, name in enumerate(names))
    return Axis("", 0.6 - len(names) - 0.1, 0.6, ticks)


def _axis_over(values: Iterable[float], label: str) -> Axis:
    """An axis a little wider than some values."""
    held = list(values)
    low, high = min(held), max(held)
    margin = 0.15 * (high - low) or 0.05 * abs(high) or 1.0
    return Axis(label, low - margin, high + margin, ticks(low - margin, high + margin))


def _percents() -> tuple[tuple[float, str], ...]:
    return tuple((at / 4, f"{at / 4:.0%}") for at in range(5))


def _percent(share: float) -> str:
    """A share in percent, with as many places as a small one needs."""
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else "under 0.1%"


def _short(text: str, width: int) -> str:
    """A name with nothing in it that acts, cut in the middle."""
    shown = inert(text)
    if len(shown) <= width:
        return shown
    return f"{shown[: (width - 1) // 2]}...{shown[-(width - 2) // 2 :]}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
