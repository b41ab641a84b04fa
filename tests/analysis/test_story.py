from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.runs import make_run, row
from trajweight.analysis.report import build_report

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

LEARNT = {"selected": "head"}


def world(
    folder: Path, *, weigh: Any, near: bool = True, n: int = 160, labelled: bool = True
) -> Run:
    """Good and bad rows of any length, four a task; ``weigh`` gives a row's weight.

    It is called with whether the row is good, its number of turns, and a random number.
    """
    rng = np.random.default_rng(4)
    rows, weights, embeddings = [], {}, {}
    for i in range(n):
        good, turns = bool(rng.random() < 0.5), int(rng.integers(1, 30))
        name = f"s{i:03}"
        label: dict[str, Any] = {"success": good} if labelled else {}
        made = row(name, source="good" if good else "bad", task_id=f"t{i // 4}", **label)
        made["messages"] = made["messages"] * turns
        rows.append(made)
        weights[name] = max(float(weigh(good, turns, rng.random())), 0.01)
        far = 0.0 if good == near else 2.0
        embeddings[name] = rng.normal(far, 1, 3).tolist()
    for i in range(60):
        rows.append(row(f"r{i}", source="real", text=f"real {i}"))
        embeddings[f"r{i}"] = rng.normal(0, 1, 3).tolist()
    splits = {f"r{i}": "dev" for i in range(60)}
    return make_run(folder, rows, weights, splits=splits, embeddings=embeddings)


def told(run: Run, **learning: Any) -> dict[str, str]:
    return {one["about"]: one["text"] for one in build_report(run, LEARNT | learning)["story"]}


def test_weights_that_see_quality_are_praised_for_it_and_length_is_cleared(tmp_path: Path) -> None:
    story = told(world(tmp_path, weigh=lambda good, _, noise: 1 + good + 1.2 * noise))

    assert story["sources"].startswith("Heavier than average: good (")
    assert "; lighter: bad (" in story["sources"]
    assert story["length"].startswith("Length is not the cause: ")
    assert story["quality"].startswith("Heavy rows are the better rows: by success, ")
    assert "AUROC 0.9" in story["quality"]
    assert story["distance"].startswith("Nearer to the real set than weights dealt at random, by ")
    assert "energy distance (" in story["distance"]


def test_weights_that_see_length_alone_are_found_out(tmp_path: Path) -> None:
    story = told(world(tmp_path, weigh=lambda _, turns, noise: turns + noise))

    assert story["length"].startswith("Length may be the cause: ")
    assert story["quality"].startswith("Heavy rows are not the better rows beyond noise")
    assert story["distance"].startswith("No nearer to the real set than weights dealt at random")


def test_weights_that_prefer_bad_rows_are_called_by_their_name(tmp_path: Path) -> None:
    story = told(world(tmp_path, weigh=lambda good, _, noise: 2 - good + 1.2 * noise))

    assert story["quality"].startswith("Heavy rows are the worse rows")
    assert story["distance"].startswith("Further from the real set than weights dealt at random")


def test_length_that_only_follows_the_source_is_said_to(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, weights = [], {}
    for i in range(200):
        good = i % 2 == 0
        made = row(f"s{i}", source="good" if good else "bad")
        made["messages"] = made["messages"] * int((20 if good else 2) + rng.integers(0, 3))
        rows.append(made)
        weights[f"s{i}"] = 3.0 * good + rng.random()

    story = told(make_run(tmp_path, rows, weights))

    assert story["length"].startswith("Length goes with the weights only as sources differ in it")


def test_a_shortcut_that_does_as_well_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, weights = [], {}
    for i in range(120):
        turns = int(rng.integers(1, 20))
        made = row(f"s{i}", success=turns > 10, task_id=f"t{i}")
        made["messages"] = made["messages"] * turns
        rows.append(made)
        weights[f"s{i}"] = turns + 3 * rng.random()

    quality = told(make_run(tmp_path, rows, weights))["quality"]

    assert quality.startswith("Heavy rows are the better rows, but a shortcut finds them as well")
    assert "the best shortcut (more turns) with 1.00" in quality


def test_returns_that_were_given_are_no_test(tmp_path: Path) -> None:
    run = world(tmp_path, weigh=lambda good, _, noise: 1 + good + noise)

    given = told(run, returns={"prior": "rwr"})["quality"]
    not_given = told(run, returns={"objective": "successful"})["quality"]

    assert given.endswith("Returns were given to the learning, so this is no test of it.")
    assert "no test" not in not_given


def test_where_all_weigh_the_same_nothing_is_explained(tmp_path: Path) -> None:
    story = told(world(tmp_path, weigh=lambda *_: 1.0))

    assert set(story) == {"distance", "size", "bound"}
    assert story["distance"].startswith("No nearer")
    assert story["size"].startswith("160 rows count as 160, their 40 tasks as 40;")


def test_what_is_not_known_is_not_spoken_of(tmp_path: Path) -> None:
    rows = [row(f"s{i}") for i in range(5)]
    run = make_run(tmp_path, rows, {f"s{i}": i + 1.0 for i in range(5)})

    assert set(told(run)) == {"size"}


def test_a_chance_finding_of_one_measure_among_three_is_noise(tmp_path: Path) -> None:
    facts = build_report(world(tmp_path, weigh=lambda *_, noise=1.0: noise), LEARNT)
    from trajweight.analysis.story import story

    energy = facts["alignment"]["distributions"]["embeddings"]["energy"]
    for p_value, said in ((0.02, "No nearer"), (0.01, "Nearer to the real set")):
        energy |= {"verdict": "nearer", "p_value": p_value}
        sentence = next(one["text"] for one in story(facts) if one["about"] == "distance")
        assert sentence.startswith(said)


@pytest.mark.parametrize("about", ["sources", "size"])
def test_the_numbers_of_the_story_are_those_of_the_facts(tmp_path: Path, about: str) -> None:
    facts = build_report(world(tmp_path, weigh=lambda good, _, noise: 1 + good + noise), LEARNT)
    text = next(one["text"] for one in facts["story"] if one["about"] == about)

    good = next(one for one in facts["weights"]["sources"] if one["source"] == "good")
    size = facts["effective_size"]["overall"]
    wanted = {"sources": f"good ({good['mean']:.2f})", "size": f"count as {size['kish']:.0f},"}
    assert wanted[about] in text
