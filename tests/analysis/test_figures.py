from __future__ import annotations

import itertools
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.analysis.hostile import hostile_run
from trajweight.analysis import figures as made
from trajweight.analysis.figures import figures
from trajweight.analysis.html_figures import drawn, legend
from trajweight.analysis.marks import Axis, Boxes, Dots, Figure, Line, ticks
from trajweight.analysis.report import build_report

PATH: list[dict[str, Any]] = [
    {"temperature": 1.0, "ess_fraction": 0.5, "loss": 2.0},
    {"temperature": 2.0, "ess_fraction": 0.8, "loss": 2.2},
    {"temperature": None, "ess_fraction": 1.0, "loss": 2.5},
]
LEARNING = {"selected": "head", "temperature": 1.0, "tradeoff": PATH, "uniform_dev_loss": 2.5}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    run = hostile_run(tmp_path_factory.mktemp("figures"))
    for step in range(5):
        run.append_trace({"step": step + 1, "ess_fraction": 1.0 - step / 10})
    return build_report(run, LEARNING)


def comparison(**values):
    band = {"null_low": 2.0, "null_median": 3.0, "null_high": 5.0}
    return {"before": 3.0, "after": 3.0, "verdict": "noise", **band, **values}


def aligned(**measures):
    return {"alignment": {"distributions": {"embeddings": measures}}}


def dots(figure, role) -> list[tuple[float, float]]:
    marks = [mark for mark in figure.marks if isinstance(mark, Dots) and mark.role == role]
    return [point for mark in marks for point in mark.points]


def test_a_run_has_every_figure_it_has_facts_for_and_each_has_another_name(facts) -> None:
    found = figures(facts)

    names = ["weights-by-source", "alignment", "quality", "tradeoff", "three-ways", "lorenz"]
    assert [each.name for each in found] == [*names, "training"]
    for name in ("weights", "alignment", "quality", "tradeoff", "concentration"):
        fewer = figures({key: value for key, value in facts.items() if key != name})
        assert len(fewer) == len(found) - 1
    assert figures({}) == []


def test_every_mark_lies_inside_of_the_axes(facts) -> None:
    for figure in figures(facts):
        for x, y in (spot for mark in figure.marks for spot in spots(mark)):
            assert figure.x.low - 1e-9 <= x <= figure.x.high + 1e-9, figure.name
            assert figure.y.low - 1e-9 <= y <= figure.y.high + 1e-9, figure.name


def spots(mark) -> list[tuple[float, float]]:
    if isinstance(mark, Boxes):
        return [spot for a, b, c, d in mark.boxes for spot in ((a, c), (b, d))]
    return list(mark.points)


def test_bars_of_a_source_are_as_high_as_their_rows_are_many() -> None:
    counts = {"n": 6, "counts": [1, 3, 2]}
    sources = [{"source": "a", "mean": 0.3, **counts}, {"source": "b", "mean": 0.1, **counts}]
    found = made.weights_by_source({"weights": {"sources": sources, "bin_edges": [0, 0.2, 0.4]}})

    (bars,) = [mark for mark in found.marks if isinstance(mark, Boxes)]
    heights = [high - low for _, _, low, high in bars.boxes]
    assert heights == pytest.approx([0.8 / 3, 0.8, 1.6 / 3] * 2)
    assert found.title == "a weighs most (mean 0.30), b least (0.10)"
    assert [name for _, name in found.y.ticks] == ["a (6)", "b (6)"]


def test_of_very_many_sources_both_ends_are_drawn_and_the_rest_counted() -> None:
    sources = [
        {"source": f"s{at}", "n": 1, "counts": [1, 0], "mean": 2 - at / 20} for at in range(40)
    ]
    found = made.weights_by_source({"weights": {"sources": sources, "bin_edges": [0, 0.2]}})

    assert len(found.y.ticks) == 14
    assert found.y.ticks[0][1] == "s0 (1)"
    assert found.y.ticks[-1][1] == "s39 (1)"
    assert "26 sources of middling mean are not drawn" in found.note


@pytest.mark.parametrize(
    ("selected", "losses", "title"),
    [
        ("head", (2.0, 2.5), "Weights lower the dev loss by 0.5000 at ESS/n 0.50"),
        ("head", (2.7, 2.5), "Weights raise the dev loss by 0.2000 at ESS/n 0.50"),
        ("uniform", (2.7, 2.5), "Uniform weights have the lowest dev loss"),
        ("uniform", (2.4, 2.5), "Weights lower the dev loss by 0.1000 at ESS/n 0.50"),
    ],
)
def test_the_tradeoff_says_what_the_weights_that_were_taken_did(selected, losses, title) -> None:
    path = [dict(PATH[0], loss=losses[0]), dict(PATH[2], loss=losses[1])]
    learning = {**LEARNING, "selected": selected, "tradeoff": path}

    found = made.tradeoff({"learning": learning})

    assert found.title == title
    assert dots(found, "other") == ([(0.5, losses[0])] if selected == "head" else [])


@pytest.mark.parametrize(
    ("mean", "weighted", "title"),
    [
        (0.5, 0.75, "Weighting raises mean reward from 0.50 to 0.75"),
        (0.5, 0.25, "Weighting lowers mean reward from 0.50 to 0.25"),
        (0.5, 0.505, "Weighting leaves mean reward where it was, at 0.50"),
    ],
)
def test_quality_is_told_by_what_weighting_does_to_its_mean(mean, weighted, title) -> None:
    tenths = [
        {"decile": at, "mean_quality": at / 10, "interval": {"low": 0.0, "high": 1.0}}
        for at in (1, 10)
    ]
    one = {"label": "reward", "mean_quality": mean, "weighted_mean_quality": weighted}

    found = made.quality(
        {"quality": [{"label": "success", "deciles": []}, {**one, "deciles": tenths}]}
    )

    assert found.title == title
    assert dots(found, "main") == [(1.0, 0.1), (10.0, 1.0)]


def test_a_distance_is_placed_in_its_band_the_ends_at_one_and_the_median_at_none() -> None:
    nearer = comparison(after=2.0, before=5.0, verdict="nearer")
    found = made.alignment(aligned(energy=nearer, mmd=comparison(after=4.0)))

    assert dots(found, "good") == [(-1.0, 0.0)]
    assert dots(found, "main") == [(0.5, -1.0)]
    assert dots(found, "quiet") == [(1.0, 0.0), (0.0, -1.0)]
    assert [name for _, name in found.y.ticks] == ["energy distance", "kernel distance (MMD)"]


def test_a_distance_far_out_stands_at_the_border_also_where_the_band_has_no_width() -> None:
    flat = {"null_low": 3.0, "null_high": 3.0}
    found = made.alignment(
        aligned(energy=comparison(after=-90.0), mmd=comparison(after=3.5, **flat))
    )

    assert dots(found, "main") == [(-made.FAR, 0.0), (made.FAR, -1.0)]


@pytest.mark.parametrize(
    ("verdicts", "title"),
    [
        (
            ("nearer", "noise"),
            "1 of 2 distances from the real set are shorter than dealt weights give",
        ),
        (
            ("further", "further"),
            "2 of 2 distances from the real set are longer than dealt weights give",
        ),
        (
            ("nearer", "further"),
            "1 of 2 distances from the real set are shorter than dealt weights give, 1 longer",
        ),
        (("noise", "noise"), "No distance from the real set is other than dealt weights give"),
    ],
)
def test_the_alignment_is_told_by_the_verdicts(verdicts, title) -> None:
    one, two = (comparison(verdict=verdict) for verdict in verdicts)

    assert made.alignment(aligned(energy=one, mmd=two)).title == title


@pytest.mark.parametrize("low", [-3.0, 0.0, 4.52])
@pytest.mark.parametrize("width", [0.0007, 0.3, 1.0, 17.0, 12345.0])
def test_ticks_are_four_to_eleven_even_steps_with_words_that_differ(low, width) -> None:
    found = ticks(low, low + width)

    values, words = zip(*found, strict=True)
    steps = [two - one for one, two in itertools.pairwise(values)]
    assert 4 <= len(found) <= 11
    assert steps == pytest.approx([steps[0]] * len(steps))
    assert len(set(words)) == len(words)
    assert list(map(float, words)) == pytest.approx(list(values), abs=1e-9 + steps[0] / 100)


def test_a_drawing_is_well_formed_and_its_boxes_are_to_scale(facts) -> None:
    for figure in figures(facts):
        root = ElementTree.fromstring(drawn(figure))
        if legend(figure):
            ElementTree.fromstring(legend(figure))
        assert root.get("aria-label") == figure.title
        _, _, width, height = map(float, root.get("viewBox").split())
        for rect in root.iter("rect"):
            x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x <= x + w <= width
            assert 0 <= y <= y + h <= height
        marks = [mark for mark in figure.marks if isinstance(mark, Line)]
        paths = [path for path in root.iter("path") if path.get("class") != "grid"]
        drawn_points = [len(re.findall("[ML]", path.attrib["d"])) for path in paths]
        assert drawn_points == [len(mark.points) for mark in marks]


def test_dots_stand_on_the_lines_of_their_ticks_inside_of_the_drawing() -> None:
    x = Axis("x", 0.0, 10.0, ((0.0, "0"), (2.5, "2.5"), (10.0, "10")))
    y = Axis("y", -1.0, 1.0, ((-1.0, "-1"), (0.5, "0.5"), (1.0, "1")))
    points = ((0.0, -1.0), (2.5, 0.5), (10.0, 1.0))

    root = ElementTree.fromstring(drawn(Figure("n", "t", "", x, y, (Dots("main", points),))))

    _, _, width, height = map(float, root.attrib["viewBox"].split())
    lines = [path.attrib["d"] for path in root.iter("path")]
    across = [float(line[1:].split(" ")[0]) for line in lines if "V" in line]
    along = [float(line.split(" ")[1].split("H")[0]) for line in lines if "H" in line]
    found = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle")]
    assert found == list(zip(across, along, strict=True))
    assert all(5 < at < width - 5 and 5 < up < height - 5 for at, up in found)
    # a quarter of the way along x, three quarters of the way up y
    assert found[1][0] - found[0][0] == pytest.approx(0.25 * (found[2][0] - found[0][0]), abs=0.1)
    assert found[1][1] - found[0][1] == pytest.approx(0.75 * (found[2][1] - found[0][1]), abs=0.1)
