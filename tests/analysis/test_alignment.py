from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy import stats

from trajweight.analysis.alignment import (
    Effort,
    alignment,
    distribution_alignment,
    embeddings_of,
)
from trajweight.analysis.chance import Comparison, share_columns
from trajweight.analysis.discrepancy import distance, pair_discrepancies, standardised
from trajweight.errors import DataError

QUICK = Effort(permutations=39, directions=8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def table(rng, embeddings, *, weights=None, turns=None, words=("go", "take")) -> pl.DataFrame:
    """One row a trajectory, with all columns that are read."""
    n = len(embeddings)
    said = [" ".join(rng.choice(words, size=8)) for _ in range(n)]
    messages = [json.dumps([{"role": "assistant", "content": text}]) for text in said]
    columns = {
        "task_id": [f"t{int(rng.integers(0, 1000))}" for _ in range(n)],
        "messages_json": messages,
        "n_turns": rng.integers(2, 9, size=n) if turns is None else turns,
        "embedding": embeddings.tolist(),
    }
    made = pl.DataFrame(columns, schema_overrides={"embedding": pl.List(pl.Float32)})
    return made if weights is None else made.with_columns(weight=pl.Series(weights))


def comparisons(found) -> dict[str, Comparison]:
    """Every measure by its name."""
    near = found.embeddings
    named = {
        "energy": near.energy,
        "mmd": near.mmd,
        "sliced": near.sliced_wasserstein,
        "auc": near.classifier.auc,
        "proxy": near.classifier.proxy_distance,
        "words": found.text.words,
        "pairs": found.text.pairs,
    }
    for shift in found.features.measured:
        named[f"{shift.feature} mean"] = shift.mean_difference
        named[f"{shift.feature} gap"] = shift.largest_gap
    return named


def test_every_measure_sees_weights_that_select_the_real_kind(rng) -> None:
    near, far = rng.normal(size=(60, 3)), rng.normal(2, 1, size=(60, 3))
    synthetic = pl.concat(
        [
            table(rng, near, weights=np.full(60, 1.8)),
            table(
                rng, far, weights=np.full(60, 0.2), turns=rng.integers(7, 14, 60), words=("x", "y")
            ),
        ]
    )

    found = distribution_alignment(synthetic, table(rng, rng.normal(size=(50, 3))), effort=QUICK)

    for name, measure in comparisons(found).items():
        assert measure.verdict == "nearer", name
        assert abs(measure.after) < abs(measure.before), name
    assert found.embeddings.mmd_p_before == 1 / 40
    assert (found.n_synthetic, found.n_real, found.embeddings.n_real) == (120, 50, 50)


def test_every_measure_sees_weights_that_lead_away(rng) -> None:
    near, far = rng.normal(size=(60, 3)), rng.normal(2, 1, size=(60, 3))
    synthetic = pl.concat(
        [
            table(rng, near, weights=np.full(60, 0.2)),
            table(
                rng, far, weights=np.full(60, 1.8), turns=rng.integers(7, 14, 60), words=("x", "y")
            ),
        ]
    )

    found = distribution_alignment(synthetic, table(rng, rng.normal(size=(50, 3))), effort=QUICK)

    assert {measure.verdict for measure in comparisons(found).values()} == {"further"}


@pytest.mark.slow
def test_the_bands_of_all_measures_hold_nine_tenths_of_meaningless_weights(rng) -> None:
    """Rows that differ from the real ones, and weights that know nothing of them."""
    n_runs = 200
    outside: dict[str, int] = {}
    for run in range(n_runs):
        synthetic = table(rng, rng.normal(0.5, 1, size=(30, 3)), weights=rng.exponential(size=30))
        real = table(rng, rng.normal(size=(20, 3)))
        found = distribution_alignment(
            synthetic, real, features=["n_turns"], seed=run, effort=QUICK
        )
        for name, measure in comparisons(found).items():
            outside[name] = outside.get(name, 0) + (measure.verdict != "noise")

    assert len(outside) == 9
    for name, count in outside.items():
        # ties, of which gaps have many, make a band hold more; nothing may make it hold less
        assert count / n_runs < 0.1 + 3 * np.sqrt(0.09 / n_runs), name
        if "gap" not in name:
            assert count / n_runs > 0.1 - 3 * np.sqrt(0.09 / n_runs), name


def test_the_energy_distance_is_that_of_the_pairs(rng) -> None:
    x, y, weights = rng.normal(size=(40, 3)), rng.normal(size=(30, 3)), rng.exponential(size=40)
    synthetic, real = table(rng, x, weights=weights), table(rng, y)

    found = distribution_alignment(synthetic, real, seed=3, effort=QUICK).embeddings.energy

    shares = share_columns(weights, permutations=39, seed=3)
    rows = standardised(embeddings_of(synthetic), embeddings_of(real))
    (wanted,) = pair_discrepancies(rows[0], shares, rows[1], [distance])
    assert (found.before, found.after) == (wanted[0], wanted[1])


def test_the_facts_are_json(rng) -> None:
    synthetic = table(rng, rng.normal(size=(20, 3)), weights=rng.exponential(size=20))

    facts = distribution_alignment(
        synthetic, table(rng, rng.normal(size=(15, 3))), effort=QUICK
    ).as_dict()

    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["embeddings"]["classifier"]["auc"]["n_permutations"] == 39
    assert facts["features"]["not_measured"]["reward"] == "no such column"


def test_what_the_columns_do_not_allow_is_told(rng) -> None:
    synthetic = pl.DataFrame({"weight": [1.0, 2.0], "n_turns": [3, 4]})
    real = pl.DataFrame({"n_turns": [3, 5, 6]})

    bare = distribution_alignment(synthetic, real, effort=QUICK)
    empty = distribution_alignment(
        table(rng, rng.normal(size=(5, 2)), weights=[0.0, 0, 1, 0, 0]),
        table(rng, rng.normal(size=(5, 2))).with_columns(messages_json=pl.lit("[]")),
        effort=QUICK,
    )

    assert (bare.embeddings, bare.text) == (None, None)
    assert bare.not_measured == {"embeddings": "no embeddings", "text": "no messages"}
    assert len(bare.features.measured) == 1
    assert empty.not_measured == {
        "embeddings": "too few rows with an embedding on one side",
        "text": "no row with two words on one side",
    }


def test_rows_without_an_embedding_or_messages_do_not_count(rng) -> None:
    synthetic = table(rng, rng.normal(size=(20, 3)), weights=rng.exponential(size=20))
    some = pl.int_range(pl.len()) % 2 == 0
    gaps = synthetic.with_columns(
        pl.when(some).then("embedding"), pl.when(some).then("messages_json")
    )
    real = table(rng, rng.normal(size=(15, 3)))

    found = distribution_alignment(gaps, real, effort=QUICK)
    wanted = distribution_alignment(synthetic.filter(some), real, effort=QUICK)

    assert found.embeddings == wanted.embeddings
    assert found.text.words == wanted.text.words


def test_the_cost_is_bounded_and_the_sizes_are_told(rng) -> None:
    synthetic = table(rng, rng.normal(size=(300, 2)), weights=rng.exponential(size=300))
    real = table(rng, rng.normal(size=(200, 2)))
    effort = Effort(embedding_rows=40, feature_rows=50, text_rows=30, permutations=19, directions=4)

    once, again, other = (
        distribution_alignment(synthetic, real, seed=seed, effort=effort) for seed in (1, 1, 2)
    )

    assert (once.embeddings.n_synthetic, once.embeddings.n_real) == (40, 40)
    assert (once.text.n_synthetic, once.text.n_real) == (30, 30)
    assert once.features.measured[0].n_synthetic == 50
    assert (once.n_synthetic, once.n_real) == (300, 200)
    assert once == again
    assert once.embeddings != other.embeddings


def test_weights_can_be_dealt_by_a_column(rng) -> None:
    tasks = np.repeat(np.arange(6), 10)
    synthetic = table(
        rng, rng.normal(size=(6, 3))[tasks], weights=rng.exponential(size=6)[tasks]
    ).with_columns(seed_row=pl.Series([f"s{task}" for task in tasks]))
    real = table(rng, rng.normal(size=(20, 3)))

    by_row = distribution_alignment(synthetic, real, effort=QUICK).embeddings.energy
    by_task = distribution_alignment(
        synthetic, real, dealt_by="seed_row", effort=QUICK
    ).embeddings.energy

    assert by_task.after == by_row.after
    assert by_task.null_high - by_task.null_low > 2 * (by_row.null_high - by_row.null_low)


def test_embeddings_of_different_models_are_refused() -> None:
    rows = pl.DataFrame({"embedding": [[1.0, 2.0], [1.0, 2.0, 3.0]]})

    with pytest.raises(DataError, match="have 2 to 3 numbers"):
        embeddings_of(rows)
    with pytest.raises(DataError, match="1 of 3 rows have no embedding"):
        embeddings_of(pl.DataFrame({"embedding": [[1.0], None, [2.0]]}))
    assert embeddings_of(rows[:1]).tolist() == [[1.0, 2.0]]


def slow_twin(x, w, y) -> float:
    """The formula as a double loop."""
    both = np.concatenate([x, y])
    both = (both - both.mean(0)) / np.where(both.std(0) > 0, both.std(0), 1)
    x, y = both[: len(x)], both[len(x) :]
    p, q = w / w.sum(), np.full(len(y), 1 / len(y))

    def mean_distance(a, s, b, t) -> float:
        return float(
            sum(
                s[i] * t[j] * np.linalg.norm(a[i] - b[j]) / np.sqrt(a.shape[1])
                for i in range(len(a))
                for j in range(len(b))
            )
        )

    inside = mean_distance(x, p, x, p) / (1 - (p**2).sum())
    inside_real = mean_distance(y, q, y, q) / (1 - (q**2).sum())
    return 2 * mean_distance(x, p, y, q) - inside - inside_real


def test_both_distances_are_those_of_a_double_loop(rng) -> None:
    x, y, w = rng.normal(size=(23, 5)), rng.normal(1, 2, size=(17, 5)), rng.uniform(size=23)
    x[:, 4] = y[:, 4] = 3.0

    found = alignment(x, w, y)

    assert found.unweighted == pytest.approx(slow_twin(x, np.ones(23), y), abs=1e-6)
    assert found.weighted == pytest.approx(slow_twin(x, w, y), abs=1e-6)


def test_in_one_dimension_it_is_the_energy_distance_of_scipy(rng) -> None:
    # scipy gives the square root of the biased form; large n makes the bias small
    x, y = rng.normal(size=(3000, 1)), rng.normal(1.0, 1.0, size=(3000, 1))
    deviation = np.concatenate([x, y]).std()

    found = alignment(x, np.ones(3000), y)

    wanted = stats.energy_distance(x[:, 0], y[:, 0]) ** 2 / deviation
    assert found.unweighted == pytest.approx(wanted, rel=0.01)


def test_neither_scale_of_weights_nor_units_of_embeddings_matter(rng) -> None:
    x, y, w = rng.normal(size=(30, 3)), rng.normal(size=(30, 3)), rng.uniform(size=30)
    units, shift = np.array([1e-3, 1.0, 1e4]), np.array([5.0, 0.0, -9.0])

    plain, scaled = alignment(x, w, y), alignment(x * units + shift, 17 * w, y * units + shift)

    assert scaled.weighted == pytest.approx(plain.weighted, abs=1e-6)


def test_weights_that_select_the_real_distribution_bring_the_set_nearer(rng) -> None:
    near, far = rng.normal(0, 1, size=(100, 8)), rng.normal(2, 1, size=(100, 8))
    w = np.concatenate([np.ones(100), np.zeros(100)])

    found = alignment(np.concatenate([near, far]), w, rng.normal(0, 1, size=(80, 8)))

    assert found.gain > 5 * found.gain_error
    assert abs(found.weighted) < 0.02


def test_uneven_weights_are_not_punished_for_being_uneven(rng) -> None:
    """Same distribution on both sides, random weights: the mean gain over draws is about zero."""
    gains = []
    for _ in range(60):
        x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 6))
        gains.append(alignment(x, rng.exponential(size=40) ** 2, y).gain)

    error = np.std(gains) / np.sqrt(len(gains))
    assert abs(np.mean(gains)) < 3 * error


def test_uniform_weights_gain_exactly_nothing(rng) -> None:
    found = alignment(rng.normal(size=(20, 3)), np.full(20, 0.1), rng.normal(size=(20, 3)))

    assert found.gain == pytest.approx(0.0, abs=1e-12)
    assert found.gain_error == pytest.approx(0.0, abs=1e-12)


def test_many_rows_are_subsampled_by_seed(rng) -> None:
    x, y, w = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)), rng.uniform(size=60)

    once, again, other = (alignment(x, w, y, seed=s, max_rows=25) for s in (1, 1, 2))

    assert (once.n_synthetic, once.n_real) == (25, 25)
    assert once == again != other


def test_with_nothing_to_compare_nothing_is_said(rng) -> None:
    x = rng.normal(size=(5, 3))

    assert alignment(x, np.ones(5), x[:1]) is None
    assert alignment(x, np.array([0, 0, 1.0, 0, 0]), x) is None
    assert alignment(x[:0], np.ones(0), x) is None


def test_embeddings_that_do_not_fit_are_refused(rng) -> None:
    x = rng.normal(size=(5, 3))

    with pytest.raises(DataError, match="rows must match"):
        alignment(x, np.ones(5), x[:, :2])
    with pytest.raises(DataError, match="not a finite number"):
        alignment(np.where(x == x[0, 0], np.nan, x), np.ones(5), x)
