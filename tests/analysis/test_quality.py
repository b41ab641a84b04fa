from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from trajweight.analysis.quality import even_threshold, quality
from trajweight.analysis.shortcuts import MEASURES


def world(rng, n_tasks: int = 60, *, insight: float = 1.0, most_rows: int = 8) -> pl.DataFrame:
    """Rows in tasks; good ones are shorter, and the weights see them more or less clearly."""
    task = np.repeat(np.arange(n_tasks), rng.integers(1, most_rows + 1, size=n_tasks))
    n = len(task)

    def noise():
        return np.sqrt(0.3) * rng.normal(size=n_tasks)[task] + np.sqrt(0.7) * rng.normal(size=n)

    worth = noise()
    return pl.DataFrame(
        {
            "weight": np.exp(insight * worth + 0.7 * noise()),
            "n_tokens": np.round(np.exp(6 - 0.5 * worth + noise())).astype(int),
            "n_turns": rng.integers(2, 9, size=n),
            "base_nll": 2 + 0.1 * worth + noise(),
            "reward": (worth > 0.2).astype(float),
            "graded": np.round(worth, 1),
            "task_id": [f"task {one}" for one in task],
        }
    )


@pytest.fixture
def table() -> pl.DataFrame:
    return world(np.random.default_rng(0))


def test_weights_and_shortcuts_are_measured_as_scikit_learn_does(table) -> None:
    good = table["reward"].to_numpy() == 1
    scores = {
        "weights": table["weight"],
        "longer": table["n_tokens"],
        "shorter": -table["n_tokens"],
        "more turns": table["n_turns"],
        "fewer turns": -table["n_turns"],
        "high base loss": table["base_nll"],
        "low base loss": -table["base_nll"],
    }

    found = quality(table, "reward").comparison

    rankings = {one.score: one for one in (found.weights, *found.shortcuts)}
    assert list(rankings) == list(scores)
    for name, score in scores.items():
        areas, n_pairs = [], []
        for _, mine in table.with_columns(score=score).group_by("task_id"):
            labels = mine["reward"].to_numpy()
            if 0 < labels.sum() < len(labels):
                areas.append(roc_auc_score(labels, mine["score"]))
                n_pairs.append(labels.sum() * (len(labels) - labels.sum()))
        one = rankings[name]
        assert one.auroc == pytest.approx(roc_auc_score(good, score))
        assert one.average_precision == pytest.approx(average_precision_score(good, score))
        assert one.within_task == pytest.approx(np.mean(areas))
        assert one.pairwise_accuracy == pytest.approx(np.average(areas, weights=n_pairs))
        assert one.auroc_interval.low < one.auroc < one.auroc_interval.high


def test_counts_and_shares_are_those_of_the_table(table) -> None:
    found = quality(table, "reward")

    good, weight = table["reward"].to_numpy() == 1, table["weight"].to_numpy()
    kinds = table.group_by("task_id").agg(pl.col("reward").n_unique())["reward"]
    assert (found.n, found.n_good, found.n_tasks) == (table.height, good.sum(), 60)
    assert found.n_mixed_tasks == (kinds == 2).sum()
    assert (found.n_unlabelled, found.n_left_out, found.threshold, found.why) == (0, 0, 1.0, None)
    assert found.good_share == found.mean_quality == pytest.approx(good.mean())
    assert found.good_mass_share == pytest.approx(weight[good].sum() / weight.sum())
    assert found.weighted_mean_quality == pytest.approx(found.good_mass_share)
    assert sum(one.n for one in found.deciles) == table.height
    assert found.deciles[-1].mean_quality > found.deciles[0].mean_quality


def test_the_lead_is_over_the_best_shortcut_of_each_measure(table) -> None:
    found = quality(table, "reward").comparison

    assert [lead.measure for lead in found.leads] == list(MEASURES)
    for lead in found.leads:
        values = {one.score: getattr(one, lead.measure) for one in found.shortcuts}
        best = max(values, key=lambda name: values[name])
        mine = getattr(found.weights, lead.measure)
        assert lead.shortcut == best
        assert lead.difference == pytest.approx(mine - values[best])
        assert lead.interval.low < lead.difference < lead.interval.high
    assert found.leads[0].is_ahead is True


def test_an_interval_of_a_lead_knows_that_both_scores_saw_the_same_rows(table) -> None:
    # the weights are the shortcut but for a little noise, so the difference varies little
    noise = np.random.default_rng(1).normal(size=table.height)
    near = table.with_columns(weight=np.exp(-np.log(table["n_tokens"]) + 0.1 * noise))

    lead = quality(near, "reward").comparison.leads[0]
    mine = quality(near, "reward").comparison.weights.auroc_interval

    assert lead.shortcut == "shorter"
    assert lead.interval.high - lead.interval.low < 0.4 * (mine.high - mine.low)


def test_weights_that_only_see_length_are_not_ahead(table) -> None:
    by_length = table.with_columns(weight=1e4 / pl.col("n_tokens"))

    lead = quality(by_length, "reward").comparison.leads[0]

    assert (lead.shortcut, lead.difference, lead.interval) == ("shorter", 0.0, None)
    assert lead.is_ahead is False


def test_few_tasks_with_both_kinds_give_no_interval_inside_tasks(table) -> None:
    number = pl.col("task_id").str.slice(5).cast(int)
    pure = table.with_columns(reward=pl.when(number < 9).then("reward").otherwise(number % 2))

    found = quality(pure, "reward")

    assert 0 < found.n_mixed_tasks < 10
    assert found.comparison.weights.within_task is not None
    assert found.comparison.weights.within_task_interval is None
    assert found.comparison.weights.auroc_interval is not None
    assert found.comparison.leads[2].interval is None


def test_unknown_rewards_do_not_count_and_are_told(table) -> None:
    place = pl.int_range(pl.len())
    gaps = table.with_columns(
        reward=pl.when(place % 3 == 0)
        .then(None)
        .when(place % 7 == 0)
        .then(float("nan"))
        .otherwise(pl.col("reward"))
    )
    known = gaps.filter(pl.col("reward").is_not_null() & pl.col("reward").is_not_nan())

    found, wanted = quality(gaps, "reward"), quality(known, "reward")

    assert found.n_unlabelled == gaps.height - known.height
    assert found.comparison == wanted.comparison
    assert found.deciles == wanted.deciles


def test_rows_without_a_weight_are_not_there(table) -> None:
    gaps = table.with_columns(
        weight=pl.when(pl.int_range(pl.len()) % 4 == 0).then(None).otherwise(pl.col("weight"))
    )

    assert quality(gaps, "reward") == quality(gaps.drop_nulls("weight"), "reward")


def test_a_shortcut_that_few_rows_have_is_left_out_and_named(table) -> None:
    place = pl.int_range(pl.len())
    gaps = table.drop("n_turns").with_columns(
        n_tokens=pl.when(place % 20 == 0).then(None).otherwise(pl.col("n_tokens")),
        base_nll=pl.when(place % 2 == 0).then(None).otherwise(pl.col("base_nll")),
    )

    found = quality(gaps, "reward")

    assert found.missing_shortcuts == ("n_turns", "base_nll")
    assert found.n_left_out == gaps["n_tokens"].null_count()
    assert found.n == gaps["n_tokens"].count()
    assert [one.score for one in found.comparison.shortcuts] == ["longer", "shorter"]


def test_without_any_shortcut_there_is_a_ranking_and_no_lead(table) -> None:
    found = quality(table.select("weight", "reward"), "reward")

    assert found.comparison.weights.auroc == quality(table, "reward").comparison.weights.auroc
    assert found.comparison.shortcuts == found.comparison.leads == ()
    assert found.comparison.weights.within_task is None  # each row is its own task
    assert found.comparison.weights.auroc_interval is not None


def test_labels_of_one_kind_rank_nothing_and_say_why(table) -> None:
    constant = quality(table.with_columns(reward=pl.lit(0.5)), "reward")
    unknown = quality(table.with_columns(reward=pl.lit(None, dtype=pl.Float64)), "reward")
    beyond = quality(table, "graded", threshold=99.0)

    assert constant.why == f"All {table.height} labelled rows have the quality 0.5."
    assert constant.threshold is constant.good_share is None
    assert constant.comparison is None
    assert constant.mean_quality == constant.weighted_mean_quality == pytest.approx(0.5)
    assert unknown.why == "No row has both a weight and a label."
    assert (unknown.n, unknown.mean_quality, unknown.deciles) == (0, None, ())
    assert "count as bad; the threshold lies beyond them" in beyond.why
    assert beyond.good_share == 0.0


def test_weights_of_zero_are_ties_and_no_mass_has_no_share(table) -> None:
    zeros = quality(table.with_columns(weight=pl.lit(0.0)), "reward")
    some = quality(
        table.with_columns(weight=pl.when(pl.col("reward") == 1).then("weight").otherwise(0.0)),
        "reward",
    )

    assert (zeros.comparison.weights.auroc, zeros.comparison.weights.within_task) == (0.5, 0.5)
    assert zeros.comparison.weights.average_precision == pytest.approx(zeros.good_share)
    assert zeros.comparison.weights.auroc_interval is zeros.good_mass_share is None
    assert zeros.comparison.leads[0].is_ahead is False
    assert len(zeros.deciles) == 1
    assert (some.comparison.weights.auroc, some.good_mass_share) == (1.0, 1.0)


def test_truth_values_are_a_label_too(table) -> None:
    told = table.with_columns(success=pl.col("reward") == 1)

    assert quality(told, "success").comparison == quality(told, "reward").comparison


def test_graded_labels_are_parted_evenly_or_where_one_says(table) -> None:
    even = quality(table, "graded")
    strict = quality(table, "graded", threshold=1.0)

    assert 0.4 < even.good_share < 0.6
    assert (strict.threshold, strict.n_good) == (1.0, (table["graded"] >= 1.0).sum())


@given(st.lists(st.integers(-3, 3).map(float)))
def test_no_threshold_parts_values_more_evenly(values) -> None:
    found = even_threshold(np.array(values))

    if len(set(values)) < 2:
        assert found is None
        return
    uneven = {t: abs(sum(2 * (v >= t) - 1 for v in values)) for t in sorted(set(values))[1:]}
    assert uneven[found] == min(uneven.values())


def test_neither_the_order_of_rows_nor_the_scale_of_weights_matters(table) -> None:
    moved = table.with_columns(pl.col("weight") * 2).sample(fraction=1.0, shuffle=True, seed=1)

    plain, other = (quality(one, "reward").comparison for one in (table, moved))

    assert other.weights.as_dict() == {
        **plain.weights.as_dict(),
        **{
            name: pytest.approx(value)
            for name, value in plain.weights.as_dict().items()
            if name != "score"
        },
    }


def test_the_seed_decides(table) -> None:
    once, again, other = (quality(table, "reward", seed=seed) for seed in (1, 1, 2))

    assert once == again
    assert once.comparison.leads[0].interval != other.comparison.leads[0].interval
    assert once.comparison.resampling.seed == 1


tiny_rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.just(0.0), st.floats(0.01, 9.0)),
        st.one_of(st.none(), st.sampled_from([0.0, 1.0, 0.5, float("nan")])),
        st.one_of(st.none(), st.integers(1, 50)),
        st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True)),
        st.one_of(st.none(), st.sampled_from(["a", "b", "c"])),
    ),
    max_size=15,
)
TINY = {
    "weight": pl.Float64,
    "reward": pl.Float64,
    "n_tokens": pl.Int64,
    "base_nll": pl.Float64,
    "task_id": pl.String,
}


@given(tiny_rows)
def test_whatever_a_tiny_table_holds_the_facts_are_json(rows) -> None:
    found = quality(pl.DataFrame(rows, schema=TINY, orient="row"), "reward").as_dict()

    json.dumps(found, allow_nan=False)
    assert (found["why"] is None) == (found["comparison"] is not None)


@pytest.mark.slow
def test_a_large_table_is_resampled_in_part_and_says_so() -> None:
    table = world(np.random.default_rng(3), 3000, most_rows=7)

    found = quality(table, "reward").comparison

    about = found.resampling
    assert about.n_rows == table.height > 11_000
    assert 5_500 < about.n_rows_used < 6_500
    # half as many tasks give an interval wider by the root of two
    half = table.filter(pl.col("task_id").str.slice(5).cast(int) < 1500)
    wide = quality(half, "reward").comparison.weights.auroc_interval
    narrow = found.weights.auroc_interval
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(2**0.5, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("n_tasks", [25, 60])
def test_intervals_hold_the_truth_as_often_as_they_say(n_tasks) -> None:
    """150 tables; the share of a true 0.95 has a standard error of 0.018."""
    rng = np.random.default_rng(7)
    truth = quality(world(rng, 30_000), "reward").comparison
    true_areas = {one.score: one.auroc for one in truth.shortcuts}
    held: dict[str, list[bool]] = {name: [] for name in (*MEASURES, "lead")}

    for _ in range(150):
        found = quality(world(rng, n_tasks), "reward").comparison
        for name in MEASURES:
            interval = getattr(found.weights, f"{name}_interval")
            if interval is not None:
                held[name].append(interval.low <= getattr(truth.weights, name) <= interval.high)
        lead = found.leads[0]
        if lead.shortcut == "shorter":  # the best one in truth
            true_lead = truth.weights.auroc - true_areas["shorter"]
            held["lead"].append(lead.interval.low <= true_lead <= lead.interval.high)

    assert min(len(hits) for hits in held.values()) > 110
    assert {name: 0.91 <= np.mean(hits) <= 0.995 for name, hits in held.items()} == dict.fromkeys(
        held, True
    )
