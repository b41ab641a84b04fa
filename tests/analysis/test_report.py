from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tests.runs import make_run, row
from trajweight.analysis.histograms import BIN_EDGES
from trajweight.analysis.report import build_report, report_facts
from trajweight.errors import RunError
from trajweight.run import Run, create_run

if TYPE_CHECKING:
    from pathlib import Path

HEAD = {
    "selected": "head",
    "uniform_dev_loss": 1.25,
    "weighted_dev_loss": 1.0,
    "dev_gain": 0.25,
    "dev_gain_se": 0.1,
    "contest_steps": 20,
}


def a_run(tmp_path: Path, *, n_validation: int = 24, near: bool = True) -> Run:
    """Thirty good rows near the real ones, thirty bad ones far off, and 2 n_validation real."""
    rng = np.random.default_rng(0)
    synthetic = [row(f"g{i:02}", text=f"move {i}") for i in range(30)]
    synthetic += [row(f"b{i:02}", source="bad", text=f"rant {i}") for i in range(30)]
    real = [row(f"r{i:02}", source="real") for i in range(2 * n_validation)]
    weights = {one["id"]: 3.0 if one["source"] == "good" else 1.0 for one in synthetic}
    weights |= {"g07": 4.0, "b03": 0.5}
    splits = {f"r{i:02}": "validation" if i < n_validation else "dev" for i in range(len(real))}
    at = {"good": 0.0, "real": 0.0, "bad": 3.0} if near else {"good": 3.0, "real": 0.0, "bad": 0.0}
    embeddings = {
        one["id"]: rng.normal(at[one["source"]], 1, size=4).tolist() for one in synthetic + real
    }
    return make_run(tmp_path, synthetic + real, weights, splits=splits, embeddings=embeddings)


@pytest.fixture
def facts(tmp_path: Path) -> dict[str, Any]:
    return build_report(a_run(tmp_path), HEAD)


def test_facts_are_json_and_come_back_from_the_run(tmp_path: Path) -> None:
    run = a_run(tmp_path)

    facts = build_report(run, {**HEAD, "base_dev_loss": float("inf")})
    run.save_report(facts)

    assert json.loads(json.dumps(facts, allow_nan=False)) == facts == report_facts(run)
    assert facts["schema_version"] == "2.0"
    assert facts["learning"]["base_dev_loss"] is None


def test_what_was_read_adds_up(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.save_rows("rejected", [{"reason": "broken"}, {"reason": "odd"}, {"reason": "broken"}])
    run.save_rows("excluded", [{"traj_id": "b00", "reason": "near duplicate"}])

    read = build_report(run, HEAD)["read"]

    assert (read["read"], read["kept"], read["rejected"]) == (111, 108, 3)
    assert sum(place["n"] for place in read["by_origin_and_split"]) == 108
    assert read["rejected_because"] == [{"reason": "broken", "n": 2}, {"reason": "odd", "n": 1}]
    assert read["excluded_because"] == [{"reason": "near duplicate", "n": 1}]


def test_many_reasons_are_summed_up_and_none_is_lost(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.save_rows("rejected", [{"reason": f"reason {chr(97 + i) * 2}"} for i in range(20)])

    told = build_report(run, HEAD)["read"]["rejected_because"]

    assert sum(row["n"] for row in told) == 20
    assert told[-1] == {"reason": "other reasons", "n": 14}


def test_reasons_that_differ_in_numbers_and_named_rows_count_as_one(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.save_rows("rejected", [{"reason": f"turn {i} has no role"} for i in (3, 5, 5)])
    run.save_rows(
        "excluded",
        [{"reason": "exact copy of validation row a b"}, {"reason": "exact copy of dev row c"}]
        + [{"reason": f"near copy of dev row {i} (similarity 0.9)"} for i in range(2)],
    )

    read = build_report(run, HEAD)["read"]

    assert read["rejected_because"] == [{"reason": "turn N has no role", "n": 3}]
    assert read["excluded_because"] == [
        {"reason": "near copy of dev row", "n": 2},
        {"reason": "exact copy of dev row c", "n": 1},
        {"reason": "exact copy of validation row a b", "n": 1},
    ]


def test_sources_share_the_mass_and_the_histogram_counts_every_row(facts) -> None:
    weights = facts["weights"]

    assert [one["source"] for one in weights["sources"]] == ["good", "bad"]
    assert sum(one["mass_share"] for one in weights["sources"]) == pytest.approx(1.0)
    for one in (*weights["sources"], weights["overall"]):
        assert sum(one["counts"]) == one["n"]
        assert len(one["counts"]) == len(weights["bin_edges"]) == len(BIN_EDGES)
    assert weights["overall"]["mean"] == pytest.approx(1.0)
    assert weights["real_train"]["n"] == 0


def test_the_facts_of_all_rows_are_those_of_the_weight_table(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    run.save_rows("trace", [{"step": 1, "ess_fraction": 0.9}, {"step": 2, "ess_fraction": 0.8}])

    facts = build_report(run, HEAD)

    table = run.table("weights").filter(pl.col("weight").is_not_null())
    weights = np.sort(table["weight"].to_numpy())[::-1]
    assert facts["effective_size"]["overall"]["kish"] == pytest.approx(
        weights.sum() ** 2 / (weights**2).sum()
    )
    assert facts["effective_size"]["along_training"][0]["ess_fractions"] == [0.9, 0.8]
    assert facts["concentration"]["top_1"] == pytest.approx(weights[0] / weights.sum())
    assert facts["sampled"] == {"n": 60, "of": 60}
    assert facts["explained"]["variance"] == pytest.approx(weights.var())
    assert facts["alignment"]["distributions"]["n_synthetic"] == 60
    assert facts["bound"]["n_real"] == 48
    assert facts["quality"] == []


def test_two_reports_of_one_run_are_the_same(tmp_path: Path) -> None:
    run = a_run(tmp_path)

    assert build_report(run, HEAD) == build_report(run, HEAD)


def test_a_weight_of_one_stands_in_the_bar_that_begins_at_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, [row(f"s{i}") for i in range(7)], {f"s{i}": 0.1 for i in range(7)})

    counts = build_report(run, {"selected": "uniform"})["weights"]["overall"]["counts"]

    assert counts[BIN_EDGES.index(1.0)] == 7


def test_the_extremes_are_the_extremes_and_never_the_same_row(facts) -> None:
    highest, lowest = facts["highest"], facts["lowest"]

    assert (highest[0]["traj_id"], highest[0]["line"]) == ("g07", "move 7")
    assert (lowest[0]["traj_id"], lowest[0]["line"]) == ("b03", "rant 3")
    assert len(highest) == len(lowest) == 10
    assert not {one["traj_id"] for one in highest} & {one["traj_id"] for one in lowest}


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_rows_are_listed_once_each(tmp_path: Path, n: int) -> None:
    run = make_run(tmp_path, [row(f"s{i}") for i in range(n)], {f"s{i}": i + 1 for i in range(n)})

    facts = build_report(run, {})

    listed = [one["traj_id"] for one in facts["highest"] + facts["lowest"]]
    assert sorted(listed) == [f"s{i}" for i in range(n)]


def test_the_distance_is_measured_from_real_rows_that_did_not_teach(facts) -> None:
    assert facts["alignment"]["against"] == "real dev and test rows"
    assert facts["alignment"]["n_real"] == 24
    assert facts["alignment"]["gain"] > 2 * facts["alignment"]["gain_error"]


def test_with_few_unseen_real_rows_all_of_them_serve(tmp_path: Path) -> None:
    facts = build_report(a_run(tmp_path, n_validation=12), HEAD)

    assert facts["alignment"]["against"] == (
        "real rows, all there are; 12 of them were trained on or taught the weights"
    )
    assert facts["alignment"]["n_real"] == 24


def test_rows_of_a_new_file_are_not_said_to_have_been_trained_on(tmp_path: Path) -> None:
    facts = build_report(a_run(tmp_path, n_validation=12), {"mode": "applied"})

    assert facts["alignment"]["against"] == "real rows, all there are"


def test_weights_that_lead_away_are_a_warning(tmp_path: Path) -> None:
    facts = build_report(a_run(tmp_path, near=False), HEAD)

    assert any("further from the real one" in text for text in facts["warnings"])


def test_a_run_without_features_says_what_it_cannot_measure(tmp_path: Path) -> None:
    facts = build_report(make_run(tmp_path, [row("a"), row("b")], {"a": 1.0, "b": 2.0}), {})

    assert facts["alignment"]["measured"] is False
    assert [one["rho"] for one in facts["correlations"]] == [None, None, None]


def test_a_weight_that_follows_the_base_loss_is_a_warning(facts) -> None:
    rho = {one["column"]: one["rho"] for one in facts["correlations"]}["base_nll"]

    assert rho < -0.5  # rows in file order have rising base loss, and good ones come first
    assert any("follows the loss of the base model" in text for text in facts["warnings"])


def test_the_headline_says_that_weighting_helps_with_both_losses(facts) -> None:
    assert facts["headline"].startswith(
        "Weighting helps: dev loss is 1.0000 with learned weights and 1.2500 with uniform ones "
        "(-20.0%); 60 synthetic trajectories count as "
    )


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.1251, "Learned weights do better on dev, but within noise: 0.2500 nats (SE 0.1251)."),
        (None, "Learned weights do better on dev, noise unknown (gain 0.2500 nats a token)."),
    ],
)
def test_a_gain_within_noise_is_not_called_help(tmp_path: Path, error, said) -> None:
    found = build_report(a_run(tmp_path), {**HEAD, "dev_gain_se": error})

    assert found["headline"] == said
    assert len(said) <= 80


def test_the_headline_admits_that_weighting_does_not_help(tmp_path: Path) -> None:
    run = a_run(tmp_path)

    worse = build_report(run, {**HEAD, "selected": "uniform", "weighted_dev_loss": 1.3})["headline"]
    few = build_report(run, {"selected": "uniform", "why_uniform": "12 rows are too few."})

    assert worse.startswith("Weighting does not help here")
    assert "(1.3000, 1.2500)" in worse
    assert few["headline"] == "Weights were not learned: 12 rows are too few."


def test_with_a_prior_the_headline_compares_with_returns_alone(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    known = {**HEAD, "returns_dev_loss": 1.125, "dev_gain": 0.125, "dev_gain_se": 0.05}

    better = build_report(run, known)["headline"]
    no_better = build_report(run, {**known, "selected": "returns"})["headline"]

    assert better.startswith("Weighting helps: dev loss is 1.0000 with learned weights and 1.1250")
    assert "with returns alone (-11.1%)" in better
    assert no_better.startswith("Learning adds nothing to returns here")


def test_few_validation_rows_are_a_warning_unless_a_trained_head_is_applied(tmp_path) -> None:
    run = a_run(tmp_path, n_validation=19)

    assert build_report(run, HEAD)["warnings"][0].startswith("Only 19 real validation")
    applied = build_report(run, {"mode": "applied"})
    assert not any("validation" in text for text in applied["warnings"])
    assert applied["headline"].startswith("A trained head weighed these trajectories")


def test_a_few_heavy_rows_are_a_warning(tmp_path: Path) -> None:
    weights = {f"s{i:02}": 100.0 if i < 2 else 0.01 for i in range(40)}
    run = make_run(tmp_path, [row(name) for name in weights], weights)

    warnings = build_report(run, {})["warnings"]

    assert any(text.startswith("ESS/n is 0.05: a tenth") for text in warnings)


def test_the_loops_own_warnings_come_first(tmp_path: Path) -> None:
    facts = build_report(a_run(tmp_path), {**HEAD, "warnings": ["mind the gap"]})

    assert facts["warnings"][0] == "mind the gap"


def test_a_run_without_a_report_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no report\.json"):
        report_facts(create_run(tmp_path / "run", force=False))
