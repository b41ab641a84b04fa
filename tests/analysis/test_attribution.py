from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from trajweight.analysis.attribution import curve, variance_explained


def r_squared(weights, blocks) -> float:
    """By scikit-learn, on the columns of all blocks side by side."""
    design = np.column_stack(blocks) if blocks else np.zeros((len(weights), 1))
    return LinearRegression().fit(design, weights).score(design, weights)


def dummies(names) -> np.ndarray:
    """One column a name."""
    return np.stack([names == name for name in sorted(set(names))], axis=1).astype(float)


def pieces(values) -> np.ndarray:
    """The curve of the doc, a number at a time: ranks, bends at the quartiles, missing apart."""
    known = [value for value in values if not np.isnan(value)]
    found = []
    for value in values:
        if np.isnan(value):
            found.append([0.0, 0.0, 0.0, 0.0, 1.0])
            continue
        below, equal = sum(v < value for v in known), sum(v == value for v in known)
        u = (below + equal / 2) / len(known)
        found.append([u, max(u - 0.25, 0), max(u - 0.5, 0), max(u - 0.75, 0), 0.0])
    return np.array(found)


@pytest.fixture
def table() -> pl.DataFrame:
    rng = np.random.default_rng(4)
    n = 160
    source = rng.integers(0, 4, size=n)
    tokens = np.exp(rng.normal(size=n) + 0.4 * source)
    turns = rng.integers(1, 6, size=n)
    reward = np.where(rng.uniform(size=n) < 0.4, np.nan, rng.integers(0, 2, size=n))
    weight = np.exp(0.3 * source + 0.2 * np.log(tokens) + 0.1 * turns + rng.normal(size=n) / 2)
    return pl.DataFrame(
        {
            "weight": weight / weight.mean(),
            "source": [f"s{one}" for one in source],
            "n_tokens": tokens,
            "n_turns": turns,
            "reward": reward,
        }
    )


NUMBERS = ("n_tokens", "n_turns", "reward")


def test_alone_together_and_left_out_are_those_of_scikit_learn(table) -> None:
    weights, names = table["weight"].to_numpy(), table["source"].to_numpy()
    blocks = {"source": dummies(names)}
    blocks |= {name: pieces(table[name].cast(float).to_numpy()) for name in NUMBERS}

    found = variance_explained(table, numbers=NUMBERS)

    together = r_squared(weights, list(blocks.values()))
    assert [part.column for part in found.parts] == ["source", *NUMBERS]
    assert found.together == pytest.approx(together, abs=1e-9)
    assert found.variance == pytest.approx(np.var(weights))
    for part in found.parts:
        others = [block for name, block in blocks.items() if name != part.column]
        assert part.alone == pytest.approx(r_squared(weights, [blocks[part.column]]), abs=1e-9)
        assert part.own == pytest.approx(together - r_squared(weights, others), abs=1e-9)
    assert [part.n_missing for part in found.parts] == [0, 0, 0, table["reward"].is_nan().sum()]


def test_the_part_of_a_source_alone_is_eta_squared(table) -> None:
    groups = [group["weight"].to_numpy() for _, group in table.group_by("source")]
    f = stats.f_oneway(*groups).statistic
    between, inside = len(groups) - 1, table.height - len(groups)

    (part,) = variance_explained(table, numbers=[]).parts

    assert part.alone == pytest.approx(f * between / (f * between + inside))
    assert part.alone == part.own
    assert part.by_luck == pytest.approx(between / (table.height - 1))


def test_the_curve_is_the_one_of_the_doc(table) -> None:
    for name in NUMBERS:
        values = table[name].cast(float).to_numpy()

        found = curve(values).T

        assert found == pytest.approx(pieces(values), abs=1e-12)


def test_only_the_order_of_a_column_matters(table) -> None:
    moved = table.with_columns(pl.col("n_tokens").log() * 3 - 7, pl.col("n_turns") ** 5)

    plain, other = (variance_explained(one, numbers=NUMBERS) for one in (table, moved))

    assert other == plain


def test_a_rise_and_fall_is_seen() -> None:
    x = np.linspace(-1, 1, 400)
    table = pl.DataFrame({"weight": 2 - np.abs(x), "n_tokens": x})

    (part,) = variance_explained(table, numbers=["n_tokens"], group=None).parts

    assert abs(stats.pearsonr(x, table["weight"]).statistic) < 1e-9
    assert part.alone == pytest.approx(1.0, abs=1e-9)


def test_of_two_columns_that_say_the_same_none_has_a_part_of_its_own(table) -> None:
    twice = table.with_columns(n_chars=pl.col("n_tokens") * 4)

    found = variance_explained(twice, numbers=["n_tokens", "n_chars"])

    first, second = found.parts[1:]
    assert first.alone == pytest.approx(second.alone)
    assert first.own == pytest.approx(0.0, abs=1e-9)
    assert second.own == pytest.approx(0.0, abs=1e-9)
    assert found.together == pytest.approx(
        variance_explained(table, numbers=["n_tokens"]).together, abs=1e-9
    )


def test_a_column_that_follows_from_the_source_has_no_part_of_its_own(table) -> None:
    worth = {"s0": 5.0, "s1": 1.0, "s2": 9.0, "s3": 2.0}
    told = table.with_columns(base_nll=pl.col("source").replace_strict(worth))

    source, loss = variance_explained(told, numbers=["base_nll"]).parts

    assert loss.own == pytest.approx(0.0, abs=1e-9)
    assert loss.alone > 0.05
    assert source.own == pytest.approx(source.alone - loss.alone, abs=1e-9)


def test_luck_explains_as_much_as_is_said(table) -> None:
    """Mean over 300 shuffles of the weights; the standard error of each mean is below 0.004."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        shuffled = table.with_columns(weight=rng.permutation(table["weight"].to_numpy()))
        found.append(variance_explained(shuffled, numbers=NUMBERS))

    assert np.mean([one.together for one in found]) == pytest.approx(found[0].by_luck, abs=0.012)
    for place, part in enumerate(found[0].parts):
        alone = np.array([one.parts[place].alone for one in found], dtype=float)
        assert np.mean(alone) == pytest.approx(part.by_luck, abs=0.008)


def test_weights_of_one_size_have_nothing_to_explain(table) -> None:
    third = 1 / 3 + np.random.default_rng(0).normal(scale=1e-16, size=table.height)

    found = variance_explained(table.with_columns(weight=third), numbers=NUMBERS)

    assert found.together is found.by_luck is None
    assert {(part.alone, part.own) for part in found.parts} == {(None, None)}


def test_a_single_source_and_constant_or_unknown_columns_explain_nothing(table) -> None:
    dull = table.with_columns(
        source=pl.lit("only"), n_turns=pl.lit(4), reward=pl.lit(None, dtype=pl.Float64)
    )

    found = variance_explained(dull, numbers=NUMBERS)

    assert [part.alone is None for part in found.parts] == [True, False, True, True]
    assert found.together == pytest.approx(found.parts[1].alone)
    assert found.parts[3].n_missing == table.height


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_tiny_tables_give_numbers_or_none(table, n) -> None:
    found = variance_explained(table.head(n), numbers=NUMBERS).as_dict()

    assert found["together"] is None or 0.0 <= found["together"] <= 1.0


def test_rows_without_a_source_are_one_group_more(table) -> None:
    nulls = table.with_columns(
        source=pl.when(pl.col("source") == "s1").then(None).otherwise(pl.col("source"))
    )

    assert variance_explained(nulls, numbers=[]).together == pytest.approx(
        variance_explained(table, numbers=[]).together
    )
    assert variance_explained(nulls, numbers=[]).parts[0].n_missing > 0
