from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.runs import make_run, row
from trajweight.analysis.report import build_report
from trajweight.cli._report_view import render

if TYPE_CHECKING:
    from pathlib import Path

EVIL = "\x1b[2J\x1b]0;owned\x07[red]not red[/red] :skull: \u202etxt.exe\r\n next"
LEARNING = {
    "selected": "head",
    "base_outer_loss": 2.4,
    "uniform_outer_loss": 1.3,
    "weighted_outer_loss": 1.1,
    "uniform_dev_loss": 1.25,
    "weighted_dev_loss": 1.0,
    "dev_gain": 0.25,
    "dev_gain_se": 0.0625,
    "outer_steps": 80,
    "stopped_because": "the ranks settled",
    "seconds": {"features": 20.0, "learning": 70.25},
    "notes": ["2 trajectories lost whole turns."],
}


def facts_of(tmp_path: Path, **learning: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    rows = [
        row(f"s{i:02}", source=("good", "bad" * 9)[i % 2], text="word " * 99) for i in range(40)
    ]
    rows += [row(f"evil{EVIL}", source=EVIL, text=EVIL), row("wide", text="長い文" * 40)]
    rows += [row(f"r{i:02}", source="real") for i in range(50)]
    weights = {one["id"]: float(i + 1) for i, one in enumerate(rows) if one["origin"] != "real"}
    splits = {f"r{i:02}": ("train", "validation", "dev", "test")[i % 4] for i in range(50)}
    embeddings = {one["id"]: rng.normal(size=3).tolist() for one in rows}
    run = make_run(tmp_path, rows, weights, splits=splits, embeddings=embeddings)
    run.save_rows("rejected", [{"reason": EVIL, "line": 3}])
    return build_report(run, {**LEARNING, **learning})


def shown(facts: dict[str, Any], *, width: int = 80, color: bool = False) -> str:
    stream = io.StringIO()
    system: Literal["truecolor"] | None = "truecolor" if color else None
    render(facts, Console(file=stream, width=width, color_system=system, force_terminal=color))
    return stream.getvalue()


@pytest.fixture
def facts(tmp_path: Path) -> dict[str, Any]:
    return facts_of(tmp_path)


def test_the_finding_comes_first(facts) -> None:
    assert shown(facts).startswith("Weighting helps: dev loss is 1.0000")


def test_the_story_fits_one_screen_before_any_table(facts) -> None:
    lines = shown(facts).splitlines()

    told = lines[: lines.index("Weights by source (synthetic training rows)")]
    assert len(told) <= 30
    for one in facts["story"]:
        assert any(line.strip().startswith(f"{one['about']} ") for line in told)


def test_no_table_of_metrics_is_cut_at_80_columns(facts) -> None:
    lines = shown(facts).splitlines()
    tables = lines[: lines.index("Highest weights")]

    assert not [line for line in tables if "…" in line]
    assert any("beyond 0.5" in line for line in tables)


def test_a_report_of_a_part_of_the_rows_says_so(facts) -> None:
    assert "in whole tasks drawn at random" not in shown(facts)

    facts["sampled"] = {"n": 5, "of": 42}

    assert "Of 5 of 42 rows, in whole tasks drawn at random" in shown(facts)


def test_every_part_of_the_report_is_there(facts) -> None:
    text = shown(facts)

    for part in (
        "93 rows read = 92 kept + 1 rejected",
        "Weights by source",
        "all synthetic",
        "learned weights",
        "Gain on dev +0.2500, standard error 0.0625 over tasks.",
        "80 outer steps; stopped because the ranks settled.",
        "Time: features 20.0 s, learning 70.2 s.",
        "2 trajectories lost whole turns.",
        "What was found",
        "energy distance",
        "dealt at random",
        "Compared with real dev and test rows.",
        "length fixed",
        "What can be promised",
        "base loss",
        "Highest weights",
        "Lowest weights",
    ):
        assert part in text


def test_a_gain_says_how_long_the_trainings_were(tmp_path: Path) -> None:
    text = shown(facts_of(tmp_path, contest_steps=20))

    assert "Gain on dev after trainings of 20 steps each +0.2500, standard error 0.0625" in text


def test_a_gain_says_when_its_noise_is_not_known(tmp_path: Path) -> None:
    text = shown(facts_of(tmp_path, dev_gain=-0.5, dev_gain_se=None))

    assert "Gain on dev -0.5000, standard error unknown, with one task." in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(facts, width: int) -> None:
    assert max(cell_len(line) for line in shown(facts, width=width).splitlines()) <= width


def test_numbers_are_whole_at_80_columns(facts) -> None:
    lines = shown(facts).splitlines()
    sources = lines[lines.index("Weights by source (synthetic training rows)") + 1 :][:6]

    assert not [line for line in sources if "…" in line]
    whole = next(line for line in sources if "all synthetic" in line).split()
    assert whole[2:5] == ["42", "1.00", "100%"]


def test_malicious_text_shows_and_does_nothing(facts) -> None:
    text = shown(facts)

    assert not [c for c in text if c != "\n" and (ord(c) < 32 or c in "\u202e\x7f\x9b")]
    assert r"\x1b[2J\x1b]0;owned\x07[red]not red[/red] :skull: \u202etxt.exe next" in shown(
        facts, width=200
    )


def test_colour_adds_only_styles_to_the_same_text(facts) -> None:
    import re

    coloured = shown(facts, color=True)

    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == shown(facts)


def test_a_pipe_without_unicode_gets_plain_characters(facts) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    render(facts, Console(file=stream, width=80))

    stream.flush()
    assert b"all synthetic" in raw.getvalue()


def test_a_bar_that_is_not_empty_always_shows(facts) -> None:
    for source in facts["weights"]["sources"]:
        source["counts"] = [1, 0, 1000] + [0] * 13

    assert "▁ █" in shown(facts)


def test_many_sources_are_shown_from_both_ends(facts) -> None:
    one = facts["weights"]["sources"][0]
    facts["weights"]["sources"] = [one | {"source": f"source {i}"} for i in range(100)]

    text = shown(facts)

    assert "source 0 " in text
    assert "source 99 " in text
    assert "source 50 " not in text
    assert "70 sources of middling mean are not shown" in text


def test_the_objective_and_the_rows_with_a_return_are_named(tmp_path: Path) -> None:
    returns = {
        "objective": "successful",
        "validation": 24,
        "validation_with_return": 20,
        "validation_counted": 8,
        "prior": "rwr",
        "synthetic": 42,
        "synthetic_with_return": 30,
        "prior_ess_fraction": 0.625,
    }
    more = {"objective": "imitate the best", "returns": returns, "returns_dev_loss": 1.125}

    text = shown(facts_of(tmp_path, **more), width=200)

    assert "Objective: imitate the best." in text
    assert "20 of 24 real validation rows have a return; 8 take part in the outer loss." in text
    assert "30 of 42 synthetic training rows have a return; returns alone leave ESS/n 0.62." in text
    assert any(line.split() == ["returns", "alone", "-", "1.1250"] for line in text.splitlines())


def test_where_all_weigh_the_same_no_row_is_called_highest(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(4)]
    run = make_run(tmp_path, [row(name) for name in names], dict.fromkeys(names, 1.0))

    text = shown(build_report(run, {"selected": "uniform", "why_uniform": "too few real rows"}))

    assert text.startswith("Weights were not learned: too few real rows.")
    assert "Highest" not in text
    assert "not measured" in text
