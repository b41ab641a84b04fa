from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from tests.commands import call
from tests.runs import make_run, row
from trajweight.analysis.difference import difference
from trajweight.cli._diff_view import render
from trajweight.config import RunConfig

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

EVIL = "\x1b[2J\x1b]0;owned\x07[red]not red[/red] :skull: \u202etxt.exe\r\n next"
SPLITS = {"r0": "validation", "r1": "dev"}


def finished(folder: Path, weights: list[float], *, seed: int = 0, **splits: str) -> Run:
    names = [f"s{i:02}" for i in range(len(weights))]
    rows = [
        row(name, source=("good", "bad" * 9)[i % 2], text=f"{name} " * 60)
        for i, name in enumerate(names)
    ]
    rows += [row(f"evil{EVIL}", source=EVIL, text=EVIL, task_id=EVIL)]
    rows += [row(f"r{i}", source="real", text=f"real {i}") for i in range(3)]
    gone = SPLITS | splits
    given = dict(zip([*names, rows[len(names)]["id"]], [*weights, 2.0], strict=True))
    kept = {name: weight for name, weight in given.items() if name not in gone}
    run = make_run(folder, rows, kept, splits=gone)
    run.save_config(RunConfig(seed=seed).to_toml())
    run.save_manifest({"model": EVIL if seed else "tiny", "inputs": [_input(EVIL, str(seed))]})
    return run


def _input(path: str, digest: str) -> dict[str, Any]:
    return {"path": path, "bytes": 1, "sha256": digest * 64}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Run, Run]:
    weights = [1.0 + i for i in range(20)]
    more = {"s03": "excluded", "r2": "test"}
    return (
        finished(tmp_path / "a", weights),
        finished(tmp_path / "b", [*weights[10:], *weights[:10]], seed=1, **more),
    )


def shown(runs: tuple[Run, Run], *, width: int = 80) -> str:
    stream = io.StringIO()
    render(difference(*runs).as_dict(), ("RUN_A", EVIL), Console(file=stream, width=width))
    return stream.getvalue()


def test_the_verdict_comes_first_and_all_goes_to_stdout(runs) -> None:
    said = call("diff", *(run.folder for run in runs))

    assert said.code == 0
    assert " ".join(said.out.split()).startswith(difference(*runs).verdict[:90])
    assert not said.err
    for title in ("Rows", "By source", "Settings that differ", "Weights that moved most"):
        assert f"\n{title}" in said.out


def test_a_run_beside_itself_is_the_same_and_shows_no_difference(runs) -> None:
    said = call("diff", runs[0].folder, runs[0].folder)

    assert said.code == 0
    assert said.out.startswith("The runs are the same")
    for title in ("Settings that differ", "Made with", "Files that differ", "moved most"):
        assert title not in said.out


def test_json_is_one_object_with_the_facts_and_the_numbers(runs) -> None:
    found = call("diff", *(run.folder for run in runs), "--json").object

    facts = difference(*runs)
    assert found["status"] == "ok"
    assert found["inputs"] == [str(run.folder) for run in runs]
    assert found["difference"] == json.loads(json.dumps(facts.as_dict()))
    assert found["metrics"]["spearman"] == facts.weights.spearman.value
    assert found["metrics"]["are_same"] is False


@pytest.mark.parametrize("top", [0, 3])
def test_top_says_how_many_rows_are_listed(runs, top: int) -> None:
    folders = [run.folder for run in runs]

    found = call("diff", *folders, "--json", "--top", top).object["difference"]

    assert len(found["moved"]) == top
    assert ("Weights that moved most" in call("diff", *folders, "--top", top).out) == bool(top)
    assert call("diff", *folders, "--top", -1).code == 2


def test_the_seed_is_that_of_the_interval(runs) -> None:
    def drawn(*seed: object) -> dict[str, Any]:
        found = call("diff", *(run.folder for run in runs), "--json", *seed).object
        spearman = found["difference"]["weights"]["spearman"]
        assert isinstance(spearman, dict)
        return spearman

    assert drawn() == drawn("--seed", 0)
    assert drawn("--seed", 5)["resampling"]["seed"] == 5
    assert drawn("--seed", 5)["interval"] != drawn()["interval"]


def lines_of(facts: dict[str, Any]) -> list[str]:
    """What is printed of these facts at 80 columns, a space between words."""
    stream = io.StringIO()
    render(facts, ("A", "B"), Console(file=stream, width=80))
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def test_the_text_tells_rows_splits_settings_and_files(runs) -> None:
    lines = lines_of(difference(*runs).as_dict())

    assert "24 in both: 24 by content, 0 by id with other content." in lines
    assert "0 only in A, 0 only in B." in lines
    assert "2 stand in another split in B, see below." in lines
    assert "synthetic train excluded 1 s03" in lines
    assert "real train test 1 r2" in lines
    assert "seed 0 1" in lines
    assert any(line.endswith("000000000000 111111111111") for line in lines)
    assert any(line.startswith("model tiny ") for line in lines)


def test_rows_edited_renamed_or_alone_are_counted_in_words(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(6)]
    rows = [row(name, text=name) for name in names]
    changed = [row("s0", text="edited"), row("s1", text="s1", source="other"), *rows[2:5]]
    sides = []
    for side, given in (("a", rows), ("b", changed)):
        run = make_run(tmp_path / side, given, {each["id"]: 1.0 for each in given})
        run.save_config("")
        sides.append(run)

    lines = lines_of(difference(*sides).as_dict())

    assert "5 in both: 4 by content, 1 by id with other content." in lines
    assert "1 only in A, 0 only in B." in lines
    assert "1 have another source, origin or task in B." in lines
    assert "other 0 1 - 1.00 - - 20% +20%" in lines


def test_sources_are_told_with_means_and_masses_and_how_far_they_moved(runs) -> None:
    found = []
    for run in runs:
        rows = run.table("weights").filter(split="train", origin="synthetic", source="good")
        of_all = run.table("weights").filter(split="train", origin="synthetic")["weight"].sum()
        mean = rows["weight"].to_numpy().mean()
        found.append((rows.height, mean, rows["weight"].sum() / of_all))
    (n_a, mean_a, mass_a), (n_b, mean_b, mass_b) = found

    (line,) = [each for each in lines_of(difference(*runs).as_dict()) if each.startswith("good ")]

    assert line == (
        f"good {n_a} {n_b} {mean_a:.2f} {mean_b:.2f} {mean_b - mean_a:+.2f} "
        f"{mass_a:.0%} {mass_b:.0%} {mass_b - mass_a:+.0%}"
    )


def test_effective_sizes_and_agreement_are_told_as_the_facts_have_them(runs) -> None:
    facts = difference(*runs)
    lines = lines_of(facts.as_dict())

    for title, key in (("synthetic", "synthetic"), ("with real rows", "training")):
        sides = [getattr(size, key) for size in (facts.size_a, facts.size_b)]
        cells = " ".join(f"{one.n} {one.ess:.0f} {one.ess_fraction:.2f}" for one in sides)
        assert f"{title} {cells}" in lines
    spearman, far = facts.weights.spearman, facts.weights.median_log_change
    assert spearman.value is not None
    assert spearman.interval is not None
    assert far is not None
    ends = f"{spearman.interval.low:.2f} to {spearman.interval.high:.2f} (bootstrap by task)"
    assert f"Spearman {spearman.value:.2f}, 95% interval {ends}." in lines
    assert f"Half of them moved by a factor of {math.exp(far):.2f} or more, up or down." in lines
    assert "20 weighed in both, 0 of them the same." in lines
    assert "Weight of a real training row in A and B: 1.00 and none." in lines


def test_a_row_that_moved_is_told_with_both_weights_the_factor_and_its_id(runs) -> None:
    facts = difference(*runs)
    place, one = next(
        (place, one)
        for place, one in enumerate(facts.moved)
        if one.source == "good" and 0.1 < one.weight_a < one.weight_b
    )

    lines = lines_of(facts.as_dict())

    told = lines[lines.index("Weights that moved most") + 2 + place]
    numbers = f"{one.weight_a:.2f} {one.weight_b:.2f} x{one.weight_b / one.weight_a:.2f}"
    names = f"{one.source} {one.id_a} "
    assert told.startswith(f"{numbers} {names}")
    begins = told.removeprefix(f"{numbers} {names}").removesuffix("…")
    assert len(begins) > 10
    assert one.line.startswith(begins)


def test_a_weight_that_went_to_zero_has_no_factor_and_another_id_is_shown(runs) -> None:
    facts = difference(*runs).as_dict()
    facts["moved"][0] |= {"log_change": None, "weight_b": 0.0, "id_a": "old", "id_b": "new"}

    lines = lines_of(facts)

    assert any(f" 0.00 - {facts['moved'][0]['source']} old -> new " in line for line in lines)


def test_small_weights_and_factors_keep_two_digits(runs) -> None:
    facts = difference(*runs).as_dict()
    facts["moved"][1] |= {"weight_a": 0.50, "weight_b": 0.006150}
    for one, factor in zip(facts["moved"], (0.0999, 0.0123, 4321.0), strict=False):
        one["log_change"] = math.log(factor)

    text = "\n".join(lines_of(facts))

    for shown_so in (" x0.10 ", "0.50 0.0062 x0.012 ", " x4.3e+03 "):
        assert shown_so in text


def test_what_the_learning_ended_with_is_shown_and_long_numbers_are_rounded(runs) -> None:
    facts = difference(*runs).as_dict()
    facts["provenance"]["learned"] = [
        {"name": "weighted_dev_loss", "a": 4.529153823852539, "b": 4.536653995513916},
        {"name": "uniform_dev_loss", "a": 4.5291538, "b": 4.5291539},
        {"name": "selected", "a": None, "b": "head"},
    ]

    lines = lines_of(facts)

    for line in (
        "What the learning ended with",
        "weighted_dev_loss 4.5292 4.5367",
        "uniform_dev_loss 4.5291538 4.5291539",  # rounded they would look the same
        "selected - head",
    ):
        assert line in lines


def test_what_is_not_listed_is_counted(runs) -> None:
    facts = difference(*runs).as_dict()
    facts["sources"] = [{**facts["sources"][0], "source": f"of{i}"} for i in range(33)]
    facts["provenance"]["settings"] = [{"name": f"x{i}", "a": 0, "b": 1} for i in range(45)]

    lines = lines_of(facts)

    assert sum(line.startswith("of") for line in lines) == 30
    assert "3 sources that moved less are not shown; --json has all." in lines
    assert "5 more are not shown; --json has all." in lines


def test_where_no_row_was_weighed_in_both_it_is_said(runs) -> None:
    facts = difference(*runs).as_dict()
    facts["weights"]["n"] = 0

    assert "None was weighed in both." in lines_of(facts)


def test_nothing_that_data_say_acts_on_the_terminal(runs) -> None:
    facts = difference(*runs).as_dict()
    for one in facts["moved"]:  # as if excerpts were not inert by themselves
        one["line"] = EVIL
    stream = io.StringIO()
    console = Console(file=stream, width=80, color_system="truecolor", force_terminal=True)

    render(facts, ("RUN_A", EVIL), console)

    text = stream.getvalue()
    for active in ("\x1b[2J", "\x1b]0", "\x07", "\u202e", "\r"):
        assert active not in text
    assert "[red]" in text
    assert ":skull:" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(runs, width: int) -> None:
    assert max(len(line) for line in shown(runs, width=width).splitlines()) <= width


def test_no_number_is_cut_at_80_columns(runs) -> None:
    lines = shown(runs).splitlines()
    tables = lines[lines.index("Effective sample size") : lines.index("Weights that moved most")]

    assert not [line for line in tables if "…" in line]


def test_counts_of_a_million_rows_are_not_cut_either(runs) -> None:
    facts = difference(*runs).as_dict()
    for one in facts["sources"]:
        one |= {"source": "a-source-of-long-name", "n_a": 1_000_000, "n_b": 999_999}
        one |= {"mean_a": 10.25, "mean_b": 8.5, "mean_change": -1.75}
        one |= {"mass_a": 1.0, "mass_b": 0.0, "mass_change": -1.0}

    lines = lines_of(facts)

    assert "a-sou...g-name 1000000 999999 10.25 8.50 -1.75 100% 0% -100%" in lines


def test_the_command_works_where_the_terminal_knows_ascii_only(runs) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render(difference(*runs).as_dict(), ("è", "B"), Console(file=stream, width=80))
    stream.flush()

    assert "A ?" in raw.getvalue().decode("ascii")


def test_out_writes_the_same_text_or_json_and_overwrites_nothing(runs, tmp_path: Path) -> None:
    folders, out = [run.folder for run in runs], tmp_path / "new" / "diff.txt"

    said = call("diff", *folders, "--out", out)

    assert said.out == f"{out}\n"
    assert out.read_text(encoding="utf-8") == call("diff", *folders).out
    again = call("diff", *folders, "--out", out)
    assert (again.code, "already there" in again.err) == (2, True)
    assert call("diff", *folders, "--out", out, "--force", "--json").code == 0
    assert json.loads(out.read_text(encoding="utf-8"))["outputs"] == {"difference": str(out)}


def test_out_is_never_a_part_of_a_run(runs, tmp_path: Path) -> None:
    folders = [run.folder for run in runs]
    before = (runs[1].folder / "weights.parquet").read_bytes()

    for out in (runs[1].folder / "weights.parquet", tmp_path):
        assert call("diff", *folders, "--out", out, "--force").code == 2
    assert (runs[1].folder / "weights.parquet").read_bytes() == before


def test_what_cannot_be_compared_ends_with_code_3_and_says_why(runs, tmp_path: Path) -> None:
    good = runs[0].folder
    other = make_run(tmp_path / "c", [row("x", text="unlike")], {"x": 1.0})
    other.save_config("")
    broken = finished(tmp_path / "d", [1.0, 2.0])
    broken.save_manifest({"kind": "learned"}, status="failed")
    bare = finished(tmp_path / "e", [1.0, 2.0])
    (bare.folder / "weights.parquet").unlink()
    (tmp_path / "empty").mkdir()

    for folder, why in (
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "empty", "not a run"),
        (other.folder, "no row in common"),
        (broken.folder, "did not finish"),
        (bare.folder, "no weights.parquet"),
    ):
        for pair in ((good, folder), (folder, good)):
            said = call("diff", *pair)
            assert said.code == 3
            assert why in said.err
            assert not said.out
            failed = call("diff", *pair, "--json").object
            assert (failed["status"], failed["code"], failed["exit_code"]) == ("error", "run", 3)


def test_two_runs_are_asked_for(runs) -> None:
    assert call("diff", runs[0].folder).code == 2


def test_help_names_both_runs_and_every_common_option() -> None:
    text = call("diff", "--help", env={"COLUMNS": "300", "NO_COLOR": "1"}).out

    usage = next(line for line in text.splitlines() if "Usage:" in line)
    assert usage.index("RUN_A") < usage.index("RUN_B")
    for option in ("--top", "--seed", "--json", "--quiet", "--out", "--force", "--debug"):
        assert option in text
