from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.trajweight.bench.synthetic_cells import cells, write_cells
from trajweight.analysis.resampling import Interval
from trajweight.bench.results import PRIMARY, Planned, document, write_results
from trajweight.bench.results_cells import Setting, read_cells, read_claims
from trajweight.bench.results_facts import facts_of, verdict
from trajweight.bench.results_share import share
from trajweight.bench.results_transfer import transfer
from trajweight.bench.results_why import why
from trajweight.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

CLAIMS = PRIMARY
#: Learned has 0.12 nats less than uniform at 40 % noise, ties with text-knn and loses to dsir.
EFFECTS = {
    "learned": (0.1, -0.1, 0.92),
    "uniform": (0.4, -0.6, 0.5),
    "permuted": (0.42, -0.62, 0.5),
    "text-knn": (0.1, -0.1, 0.7),
    "dsir": (-0.1, 0.3, 0.75),
    "oracle": (-0.2, 0.4, 1.0),
    "rwr": (-0.3, 0.5, 0.99),
}


def fewer_draws(folder: Path) -> Path:
    """The file of claims, with as many resamples as a test needs."""
    path = folder / "primary.toml"
    text = CLAIMS.read_text("utf-8").replace("replicates = 2000", "replicates = 300")
    path.write_text(text, "utf-8")
    return path


def page_of(tmp_path, *parts, planned=None) -> str:
    """The page without figures, which take longest."""
    found = read_cells(write_cells(tmp_path / "cells.jsonl", *parts))
    claims = read_claims(fewer_draws(tmp_path))
    models = facts_of(found, claims)
    pictures: dict[str, set[str]] = {one.model: set() for one in models}
    return document(models, found, claims, planned, pictures).replace("\\", "")


def facts(tmp_path, *parts):
    (found,) = facts_of(
        read_cells(write_cells(tmp_path / "cells.jsonl", *parts)),
        read_claims(fewer_draws(tmp_path)),
    )
    return found


def section(page: str, title: str) -> str:
    return page.split(f"{title}\n", 1)[1].split("\n#", 1)[0]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return page_of(tmp_path_factory.mktemp("results"), cells(EFFECTS))


@pytest.mark.slow
def test_the_page_finds_a_planted_win_a_tie_and_a_loss(page) -> None:
    claimed = section(page, "### small")

    assert re.search(
        r"We claim: lower test NLL than uniform weights: -0\.06\d \(-0\.0\d+ to -0\.0\d+\)", claimed
    )
    assert "We claim: lower test NLL than permuted learned weights" in claimed
    assert "We claim: higher greedy return than uniform weights" in claimed
    assert "It loses: higher test NLL than the best label-free baseline (dsir)" in claimed
    assert "It loses: lower greedy return than the best label-free baseline (dsir)" in claimed
    assert "0 of 2 label-free baselines are beaten" in claimed
    assert "better than learned: dsir; not decided: text-knn" in claimed
    rows = section(page, "### Test NLL: learned less each baseline")
    says = {
        row.split(" | ")[0].strip("| "): row.rstrip(" |").split(" | ")[-1]
        for row in rows.splitlines()
        if "|" in row
    }
    assert says["uniform"] == says["permuted"] == "wins"
    assert (says["text-knn"], says["dsir"]) == ("open", "loses")
    assert "oracle" not in says
    assert "rwr" not in says


@pytest.mark.slow
def test_settings_are_counted_and_named_by_what_their_intervals_say(page) -> None:
    where = section(page, "### Where it wins, ties and loses")

    assert "**Test NLL against uniform** (margin 0.01 nats a token), of 4 settings: wins 2" in where
    named = "babyai-goto, 40% noise, 50 validation; textworld-coin, 40% noise, 50 validation"
    assert f"- wins: {named}\n" in where
    assert f"- loses: {named}\n" in where
    assert "**Test NLL against dsir**" in where
    assert re.search(r"against dsir\*\*.*loses 2", where)


@pytest.mark.slow
def test_tables_and_every_run_hold_the_figures_of_the_cells(page) -> None:
    table = section(page, "### Test NLL by environment")
    order = [row.split(" | ")[0].strip("| ") for row in table.splitlines() if row.startswith("| ")]
    every = section(page, "### Every run")

    assert order[2:5] == ["rwr", "oracle", "dsir"]
    assert order[-1] == "permuted"
    assert every.count("| learned |") == 4 * 8
    cell = cells(EFFECTS)[0]
    values = (cell["nll"]["test"], *(cell["play"]["greedy"][key] for key in ("return", "success")))
    told = " | ".join(f"{value:.3f}" for value in values)
    assert f"| textworld-coin, 0% noise, 50 validation | learned | 0 | {told} |" in every


@pytest.mark.slow
def test_what_is_missing_is_counted_and_named(tmp_path) -> None:
    found = [one for one in cells(EFFECTS) if (one["method"], one["seed"]) != ("dsir", 3)]

    page = page_of(tmp_path, found)

    # ten seeds are planned for this model, and eight occur
    assert f"{len(found)} of {7 * 4 * 10} cells of every method in every setting" in page
    assert "- small, textworld-coin, 40% noise, 50 validation: dsir: seeds 3, 8, 9" in page
    assert "- small, textworld-coin, 40% noise, 50 validation: rwr: seeds 8, 9" in page


@pytest.mark.slow
def test_a_plan_says_what_was_to_be_run(tmp_path) -> None:
    plan = [
        Planned("small", Setting("textworld-coin", 0.0, 50), seed, "learned") for seed in range(20)
    ]

    page = page_of(tmp_path, cells(EFFECTS, environments=["textworld-coin"]), planned=plan)

    assert "8 of 20 cells of the plan are done." in page
    assert "seeds 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19" in page


@pytest.mark.slow
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_from_too_few_seeds_nothing_is_claimed(tmp_path, n_seeds) -> None:
    page = page_of(tmp_path, cells(EFFECTS, seeds=range(n_seeds)))

    claimed = section(page, "### small")
    assert "nothing is claimed" in claimed
    assert "from one seed.**" in claimed if n_seeds == 1 else "3 seeds, fewer than the 5" in claimed
    assert "We claim" not in page
    assert "It loses" not in page
    assert "wins 2" not in page
    assert "nan" not in page
    assert "| wins |" not in section(page, "### Test NLL: learned less each baseline")


@pytest.mark.slow
def test_a_gain_that_permuted_weights_have_too_is_not_called_one_of_knowing_rows(tmp_path) -> None:
    same = EFFECTS | {"permuted": EFFECTS["learned"]}

    page = page_of(tmp_path, cells(same))

    assert "We claim: lower test NLL than uniform weights" in page
    assert "Not claimed: lower test NLL than permuted learned weights" in page
    assert "test NLL: the gain over uniform weights is not shown to come from which rows" in page


@pytest.mark.slow
def test_models_are_told_apart_and_an_ablation_is_held_against_its_own_method(tmp_path) -> None:
    small = cells(EFFECTS)
    big = cells(EFFECTS, seeds=[0], model="big & <new>")
    changed = [
        one | {"ablation": {"estimator": "loss-only"}, "nll": {"test": one["nll"]["test"] + 0.1}}
        for one in small
        if one["method"] == "learned"
    ]

    page = page_of(tmp_path, small, big, changed)

    assert "### big &amp; &lt;new&gt;" in page
    assert "| learned | estimator = loss-only | +0.100 (+0.100 to +0.100) | loses |" in page


@pytest.mark.slow
def test_the_same_cells_in_any_order_give_the_same_page_with_all_its_figures(tmp_path) -> None:
    some = {name: EFFECTS[name] for name in ("learned", "uniform", "dsir")}
    found = cells(some, environments=["coin"], seeds=range(3), validations=(10, 50))
    written = []
    for folder, lines in (("a", found), ("b", found[::-1])):
        path = write_cells(tmp_path / f"{folder}.jsonl", lines)
        written.append(write_results(path, tmp_path / folder, fewer_draws(tmp_path)))

    page = written[0][0].read_text("utf-8")
    shown = {tmp_path / "a" / one for one in re.findall(r"\]\((figures/.*?)\)", page)}
    # differences, noise, validation and runs of two metrics, and one of AUROC
    assert len(shown) == 9
    assert shown | {path.with_suffix(".svg") for path in shown} == set(written[0][1:])
    for one, other in zip(*written, strict=True):
        assert one.read_bytes() == other.read_bytes()
        if one.suffix == ".png":
            assert one.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_cells_without_weights_or_play_make_a_page_too(tmp_path) -> None:
    bare = [
        one | {"weights": None, "play": None, "peak_bytes": None, "seconds": {}}
        for one in cells(EFFECTS)
        if one["method"] != "permuted"
    ]

    page = page_of(tmp_path, bare)

    assert "We claim: lower test NLL than uniform weights" in page
    assert "greedy return: no claim against uniform weights: no runs in common." in page
    assert "test NLL: no claim against permuted learned weights: no runs in common." in page
    assert "AUROC: learned weights have none here." in page
    assert f"greedy return is missing in {len(bare)} of {len(bare)} cells." in page


def test_what_was_to_be_gained_and_who_took_it_is_told_setting_by_setting(tmp_path) -> None:
    own = (0.1, -0.3, 0.92)
    found = cells(EFFECTS | {"learned-ungated": own}, environments=["coin"])
    for one in found:
        if one["method"] == "learned" and one["seed"] < 3:
            one["selected"] = "uniform"

    text = "\n".join(why(facts(tmp_path, found))).replace("\\", "")

    told = re.findall(r"- coin, (?:0|40)% noise, 50 validation: (.*)", text)
    without, loss, _, played = told
    assert without.startswith("Nothing bad was planted. ")
    assert "gain" not in without.partition("Dev took")[0].replace("weights gain is open", "")
    # at 40 %: oracle -0.2, learned 0.1, uniform 0.4, dsir -0.1, each times 0.4
    assert re.match(r"Taking the planted bad rows away gains -0\.2[34]\d \(-0\.2", loss)
    assert re.search(r"Learned weights gain -0\.1[12]\d \(-.*\), (4[89]|5[012])% of that\.", loss)
    assert "Dev took uniform weights in 3 of 8 seeds; there the head's own" in loss
    assert re.search(r"dsir does better: learned less it \+0\.0[78]\d \(\+0", loss)
    # returns: oracle 0.4, learned -0.1, its head -0.3, uniform -0.6, dsir 0.3
    assert re.match(r"Taking the planted bad rows away gains \+0\.[34]", played)
    assert re.search(r"would have changed it by -0\.[01]\d\d in the mean", played)
    assert re.search(r"dsir does better: learned less it -0\.1\d\d \(-0", played)
    assert re.search(r"\| coin, 40% noise, 50 validation .*\| dsir \| 5 of 8 \|", text)


@pytest.mark.parametrize(
    ("oracle", "says"),
    [
        (0.4, "changes nothing beyond the margin"),
        (0.9, "they help here"),
        (0.36, "gains anything is open"),
    ],
)
def test_little_to_gain_is_told_apart_from_not_known(tmp_path, oracle, says) -> None:
    effects = {name: EFFECTS[name] for name in ("learned", "uniform", "dsir")}
    effects["oracle"] = (oracle, 0.4, 1.0)
    sharp = 0.04 if "open" in says else 0.002

    found = facts(tmp_path, cells(effects, noises=[0.4], noise_of_runs=sharp))

    loss = "\n".join(why(found)[:4])
    assert says in loss
    assert "% of that" not in loss


def test_shares_that_dev_chose_are_set_against_the_same_weights_without(tmp_path) -> None:
    effects = {
        **{name: EFFECTS[name] for name in ("learned", "uniform", "dsir")},
        "learned-auto-share": (-0.1, 0.1, 0.92),
        "uniform-auto-share": (0.2, -0.2, 0.5),
        "real-only": (0.5, -0.5, 0.5),
    }
    found = cells(effects, environments=["coin"], noises=[0.4])
    for one in found:
        if one["method"].endswith("auto-share"):
            taken = 0.5 if one["seed"] < 6 else 0.2
            one["real_share"] = {"share": taken, "before": 0.2}

    text = "\n".join(share(facts(tmp_path, found))).replace("\\", "")

    # effects at 40 %: learned 0.1, its auto-share -0.1, uniform's 0.2, each times 0.4
    assert re.search(r"\| learned-auto-share \| learned \| -0\.0[78]\d \(.*, 8 pairs \| wins", text)
    assert re.search(r"\| uniform-auto-share \| uniform \| -0\.0[78]\d \(.*\| wins", text)
    assert re.search(r"\| learned-auto-share \| uniform-auto-share \| -0\.1[12]\d \(", text)
    assert re.search(r"\| learned-auto-share \| real-only \| -0\.2[34]\d \(", text)
    assert "dev took 20% in 2, 50% in 6 of 8 pools, in 2 of them what they had" in text


def test_weights_are_compared_under_the_larger_model_and_under_their_own(tmp_path) -> None:
    effects = {
        **{name: EFFECTS[name] for name in ("learned", "uniform", "oracle")},
        "learned-transferred": (0.2, -0.2, 0.92),
        "uniform-transferred": (0.3, -0.3, 0.5),
        "oracle-transferred": (0.2, -0.2, 1.0),
    }
    found = [
        one | ({"larger": "wide"} if one["method"].endswith("transferred") else {})
        for one in cells(effects, environments=["coin"], noises=[0.0, 0.4, 0.8])
        if one["noise"] == 0.4 or not one["method"].endswith("transferred")
    ]

    known = facts(tmp_path, found)
    text = "\n".join(transfer(known)).replace("\\", "")

    assert "a larger model, wide, was trained on them" in text
    # effects at 40 %: 0.2 and 0.3 under the larger model, 0.1 and 0.4 under its own
    row = r"\| learned \| uniform \| -0\.0[34]\d \(.*, 8 pairs \| wins \| -0\.1[12]\d \("
    assert re.search(row, text)
    assert re.search(r"\| learned \| oracle \| [+-]0\.00\d \(", text)
    assert not {one.method for one in known.cells} & {one.method for one in known.transferred}
    assert transfer(facts(tmp_path, cells(EFFECTS))) == []


def test_shares_are_no_baselines_and_a_page_without_them_says_nothing_of_them(tmp_path) -> None:
    with_them = facts(tmp_path, cells({**EFFECTS, "learned-auto-share": (-9.0, 9.0, 0.92)}))

    assert "learned-auto-share" not in with_them.baselines
    assert share(facts(tmp_path, cells(EFFECTS))) == []


def test_from_few_seeds_or_without_an_oracle_no_reasons_are_given(tmp_path) -> None:
    few = cells(EFFECTS, environments=["coin"], noises=[0.4], seeds=range(4))
    blind = [one for one in cells(EFFECTS, noises=[0.4]) if one["method"] != "oracle"]

    told, untold = ("\n".join(why(facts(tmp_path, lines))) for lines in (few, blind))

    assert "4 seeds, too few to say." in told
    assert "no runs of oracle, learned and uniform weights." in untold
    assert "gain" not in told.partition("- coin")[2]


def test_nothing_lost_without_noise_takes_an_interval_within_the_margin(tmp_path) -> None:
    from trajweight.bench.results_claims import clean

    sure = cells(EFFECTS, noise_of_runs=0.001, n_tasks=1000)
    unsure = cells(EFFECTS, noise_of_runs=0.05)
    worse = [
        one | {"nll": {"test": one["nll"]["test"] + 0.05 * (one["method"] == "learned")}}
        for one in sure
    ]

    told = [clean(facts(tmp_path, lines)) for lines in (sure, unsure, worse)]

    assert "test NLL: nothing beyond the margin of 0.01 is lost" in told[0]
    assert "greedy return: nothing beyond the margin of 0.02 is lost" in told[0]
    assert "test NLL: a loss beyond the margin of 0.01 is not excluded" in told[1]
    assert "test NLL: something is lost (+0.05" in told[2]


def test_the_goal_on_auroc_looks_at_the_worst_setting_too(tmp_path) -> None:
    from trajweight.bench.results_claims import goal

    good = cells(EFFECTS)
    bad = [json.loads(json.dumps(one)) for one in good]
    for one in bad:
        if (one["method"], one["environment"]) == ("text-knn", "babyai-goto"):
            one["weights"]["auroc"] = 0.99

    told = [goal(facts(tmp_path, lines)) for lines in (good, bad)]

    assert "at least the goal of 0.85; in no setting is it more than 0.02 below" in told[0]
    # of the four settings the two without noise have no AUROC of learned weights
    assert "in 1 of 2 settings it is more than 0.02 below" in told[1]
    assert "worst: babyai-goto, 40% noise, 50 validation, -0.0" in told[1]


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (-0.2, -0.1, "wins"),
        (0.1, 0.2, "loses"),
        (-0.005, 0.009, "ties"),
        (0.001, 0.009, "ties"),
        (-0.2, 0.1, "undecided"),
    ],
)
def test_a_verdict_is_read_off_an_interval(low, high, wanted) -> None:
    nll, gain = read_claims(CLAIMS).primary

    assert verdict(Interval(low, high, ""), nll) == wanted
    assert verdict(Interval(-high, -low, ""), gain) == wanted
    assert verdict(None, nll) == "undecided"


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ('{"version": 1, "model": "sm', r"cells.jsonl:2: not JSON.*\n.*cut off"),
        ('{"version": 2}', "cells.jsonl:2: version is 2; this program reads 1"),
        ("[1]", "cells.jsonl:2: a cell is an object, but this line is a list"),
        ("", "cells.jsonl:2: not JSON"),
        ({"seed": "3"}, "cells.jsonl:2: 'seed' is text; a finished cell has a whole number"),
        ({"noise": True}, "cells.jsonl:2: 'noise' is true or false"),
        ({"nll": [0.1]}, "cells.jsonl:2: 'nll' is a list; a finished cell has an object or null"),
        ({}, "cells.jsonl:2: the cell of line 1 stands here again"),
    ],
)
def test_a_line_that_is_no_finished_cell_is_named_by_number(tmp_path, line, wanted) -> None:
    first = cells(EFFECTS, seeds=[0])[0]
    text = json.dumps(first | line) if isinstance(line, dict) else line
    (tmp_path / "cells.jsonl").write_text(f"{json.dumps(first)}\n{text}\n", "utf-8")

    with pytest.raises(DataError, match=wanted):
        read_cells(tmp_path / "cells.jsonl")


def test_a_key_that_is_missing_is_named_too(tmp_path) -> None:
    first = cells(EFFECTS, seeds=[0])[0]
    del first["method"]
    path = write_cells(tmp_path / "cells.jsonl", [first])

    with pytest.raises(DataError, match=r"cells\.jsonl:1: 'method' is not there"):
        read_cells(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_cells(tmp_path / "nothing.jsonl")


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("version = 1", "version = 7", "version is 7; this program reads 1"),
        ("alpha = 0.05", "alfa = 0.05", "a key is missing or unknown"),
        ("margin = 0.01", "", "a key is missing or unknown"),
        ('permuted = "permuted"', "", "a key is missing or unknown"),
        ("alpha = 0.05", "alpha = ", "cannot be read"),
    ],
)
def test_claims_that_are_not_whole_are_refused(tmp_path, before, after, wanted) -> None:
    path = tmp_path / "primary.toml"
    path.write_text(CLAIMS.read_text("utf-8").replace(before, after), "utf-8")

    with pytest.raises(ConfigError, match=wanted):
        read_claims(path)


def test_the_best_baseline_is_the_one_that_is_gained_on_least(tmp_path) -> None:
    found = facts(tmp_path, cells(EFFECTS))

    assert found.best == {"test NLL": "dsir", "greedy return": "dsir"}
    assert set(found.label_free) == {"text-knn", "dsir"}
    assert set(found.baselines) == {"uniform", "permuted", "text-knn", "dsir"}


def test_holm_corrects_over_the_baselines_of_a_metric(tmp_path) -> None:
    found = facts(tmp_path, cells(EFFECTS)).findings["test NLL"]

    raw = sorted(one.difference.p_value for one in found.values())
    assert len(found) == 4
    # eight seeds: the least p-value, which three of the four have
    assert raw[:3] == [2 / 2**8] * 3
    assert found["uniform"].holm == 4 * 2 / 2**8
