from __future__ import annotations

import math
import time

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajweight.errors import ConfigError
from trajweight.selection import Filters, Quota, quotas_of, reasons_left_out

SOURCES = ["web", "model=x", "tools"]

row = st.fixed_dictionaries(
    {
        "source": st.sampled_from(SOURCES),
        "origin": st.sampled_from(["synthetic", "synthetic", "synthetic", "real"]),
        "split": st.sampled_from(["train", "train", "train", "validation"]),
        # few distinct weights, so that there are ties, all sums of them exact
        "weight": st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 8.0]),
    }
)
some_rows = st.lists(row, min_size=1, max_size=40)
some_filters = st.fixed_dictionaries(
    {
        "min_weight": st.one_of(st.none(), st.sampled_from([0.5, 1.0])),
        "quota": st.dictionaries(
            st.sampled_from(SOURCES),
            st.one_of(
                st.builds(Quota, rows=st.integers(0, 12)),
                st.builds(Quota, share=st.sampled_from([0.0, 0.07, 0.3, 0.5, 1.0])),
            ),
        ),
        "top": st.one_of(
            st.just({}),
            st.fixed_dictionaries({"top_k": st.integers(1, 30)}),
            st.fixed_dictionaries({"top_fraction": st.sampled_from([0.07, 0.3, 1.0])}),
            st.fixed_dictionaries({"top_p": st.sampled_from([0.125, 0.5, 0.75, 1.0])}),
        ),
    }
)


def table(rows: list[dict]) -> pl.DataFrame:
    """Rows with ids in no order, and no weight outside of split "train"."""
    names = np.random.default_rng(len(rows)).permutation(len(rows))
    found = [
        {
            **one,
            "traj_id": f"t{name:02d}",
            "weight": one["weight"] if one["split"] == "train" else None,
        }
        for one, name in zip(rows, names, strict=True)
    ]
    schema = {"traj_id": pl.String, "source": pl.String, "origin": pl.String, "split": pl.String}
    return pl.DataFrame(found, schema={**schema, "weight": pl.Float64})


def weights(*values: float, source: str = "web") -> pl.DataFrame:
    """Synthetic training rows of one source, named a, b, c and so on."""
    return pl.DataFrame(
        {
            "traj_id": [chr(ord("a") + place) for place in range(len(values))],
            "source": source,
            "origin": "synthetic",
            "split": "train",
            "weight": values,
        }
    )


def taken(rows: pl.DataFrame, filters: Filters) -> list[str]:
    return rows.filter(reasons_left_out(rows, filters).is_null())["traj_id"].to_list()


def slowly(rows: pl.DataFrame, filters: Filters) -> set[str]:
    """The rows that go out, picked one by one, the heaviest first."""
    everything = rows.rows(named=True)
    learned = [r for r in everything if (r["origin"], r["split"]) == ("synthetic", "train")]
    sizes = {name: sum(r["source"] == name for r in learned) for name in SOURCES}
    mass = sum(r["weight"] for r in learned)
    count: float = math.inf if filters.top_k is None else filters.top_k
    if filters.top_fraction is not None:
        count = math.ceil(round(filters.top_fraction * len(learned), 9))
    wanted = math.inf if filters.top_p is None else filters.top_p * mass
    found: list[dict] = []
    for r in sorted(learned, key=lambda one: (-one["weight"], one["traj_id"])):
        quota = filters.quotas.get(r["source"])
        of_source = sum(one["source"] == r["source"] for one in found)
        if quota and of_source >= (
            quota.rows
            if quota.share is None
            else math.ceil(round(quota.share * sizes[r["source"]], 9))
        ):
            continue
        if len(found) < count and sum(one["weight"] for one in found) < wanted:
            found.append(r)
    found += [r for r in everything if (r["origin"], r["split"]) == ("real", "train")]
    least = filters.min_weight or 0.0
    return {
        r["traj_id"]
        for r in found
        if r["weight"] > 0 and (r["origin"] == "real" or r["weight"] >= least)
    }


@given(rows=some_rows, asked=some_filters)
def test_the_rows_taken_are_those_that_a_slow_pick_takes(rows, asked) -> None:
    frame = table(rows)
    learned = frame.filter((pl.col("split") == "train") & (pl.col("origin") == "synthetic"))
    sources = set(learned["source"])
    quotas = {name: quota for name, quota in asked["quota"].items() if name in sources}
    filters = Filters(min_weight=asked["min_weight"], quotas=quotas, **asked["top"])

    found = taken(frame, filters)

    assert set(found) == slowly(frame, filters)


@given(rows=some_rows, asked=some_filters, seed=st.integers(0, 99))
def test_the_order_of_the_table_does_not_count(rows, asked, seed) -> None:
    frame = table(rows)
    mixed = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    filters = Filters(min_weight=asked["min_weight"], **asked["top"])

    assert set(taken(frame, filters)) == set(taken(mixed, filters))


def test_every_row_left_out_has_its_first_reason() -> None:
    frame = pl.DataFrame(
        {
            "traj_id": list("abcdefgh"),
            "source": ["web", "web", "web", "x", "x", "x", "real", "x"],
            "origin": ["synthetic"] * 6 + ["real", "synthetic"],
            "split": ["train"] * 7 + ["test"],
            "weight": [3.0, 2.0, 0.1, 1.0, 0.8, 0.0, 0.01, None],
        }
    )

    reasons = reasons_left_out(frame, Filters(min_weight=0.5, top_k=2, quotas={"web": Quota(1)}))

    assert reasons.to_list() == [
        *(None, "over the quota of source web", "below weight 0.5", None, "outside the top 2"),
        *("of weight zero", None, "in split test"),
    ]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.01, "a"),
        (0.5, "a"),
        (0.51, "ab"),
        (0.75, "ab"),
        (0.8, "abc"),
        (0.9, "abcd"),
        (1.0, "abcd"),
    ],
)
def test_top_p_takes_as_few_rows_as_hold_the_share(top_p, expected) -> None:
    assert "".join(taken(weights(4.0, 2.0, 1.0, 1.0), Filters(top_p=top_p))) == expected


def test_top_p_is_not_misled_by_rounded_sums() -> None:
    five = weights(*[0.3] * 5)

    assert taken(five, Filters(top_p=0.2)) == ["a"]  # a fifth of the sum is a little above 0.3
    assert taken(five, Filters(top_p=0.6)) == ["a", "b", "c"]


def test_a_share_of_rows_is_not_misled_by_rounding() -> None:
    assert len(taken(weights(*[1.0] * 100), Filters(top_fraction=0.07))) == 7  # 0.07 * 100 > 7
    assert Quota(share=0.07).of(100) == 7


def test_the_whole_mass_includes_the_lightest_row() -> None:
    assert taken(weights(1e9, 1e-9, 0.0), Filters(top_p=1.0)) == ["a", "b"]


def test_top_p_says_what_is_outside() -> None:
    reasons = reasons_left_out(weights(3.0, 1.0), Filters(top_p=0.7))

    assert reasons.to_list() == [None, "outside the top 70 % of the mass"]


def test_where_quotas_leave_less_than_the_mass_all_they_leave_is_taken() -> None:
    both = pl.concat(
        [
            weights(8.0, 4.0),
            weights(1.0, 1.0, source="x").with_columns(traj_id="x" + pl.col("traj_id")),
        ]
    )

    assert taken(both, Filters(top_p=0.9, quotas={"web": Quota(1)})) == ["a", "xa", "xb"]
    assert taken(both, Filters(top_k=2, quotas={"web": Quota(1)})) == ["a", "xa"]


def test_quotas_leave_real_rows_and_other_splits_alone() -> None:
    frame = weights(1.0, 2.0, 3.0).with_columns(
        origin=pl.Series(["real", "synthetic", "synthetic"]), split=pl.Series(["train"] * 3)
    )

    assert taken(frame, Filters(quotas={"web": Quota(0)})) == ["a"]


def test_quotas_are_read_from_text() -> None:
    assert quotas_of(["web=500", "a=b=30%", "x=0", "half=12.5 %"]) == {
        "web": Quota(rows=500),
        "a=b": Quota(share=0.3),
        "x": Quota(rows=0),
        "half": Quota(share=0.125),
    }
    assert quotas_of([]) == {}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["web"], "--quota 'web' names no source"),
        (["=5"], "--quota '=5' names no source"),
        (["web="], "--quota 'web=': '' is neither a number of rows nor a percentage"),
        (["web=many"], "'many' is neither"),
        (["web=1.5"], r"'1\.5' is neither"),
        (["web=%"], "'%' is neither"),
        (["web=-1"], "--quota 'web=-1': a quota is -1 rows; it must be at least 0"),
        (["web=130%"], "--quota 'web=130%': a quota is 130 %; it must be from 0 to 100 %"),
        (["web=nan%"], "a quota is nan %"),
        (["web=5", "web=6"], "--quota is given twice for the source 'web'"),
    ],
)
def test_a_quota_that_cannot_be_understood_is_refused_with_its_text(texts, message) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        quotas_of(texts)

    assert caught.value.hint


@pytest.mark.parametrize("options", [{}, {"rows": 1, "share": 0.5}])
def test_a_quota_is_either_rows_or_a_share(options) -> None:
    with pytest.raises(ConfigError, match="either a number of rows or a share"):
        Quota(**options)


def test_a_quota_for_a_source_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--quota is for the source 'wbe', .* that have are web"):
        reasons_left_out(weights(1.0), Filters(quotas={"wbe": Quota(1)}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_p": 0.0}, "--top-p is 0"),
        ({"top_p": 1.01}, r"--top-p is 1\.01"),
        ({"top_p": math.nan}, "--top-p is nan"),
        ({"top_k": 1, "top_p": 0.5}, "--top-k and --top-p both say"),
        ({"top_fraction": 0.1, "top_p": 0.5}, "--top-fraction and --top-p both say"),
        ({"top_k": 1, "top_fraction": 0.1, "top_p": 0.5}, "all say"),
    ],
)
def test_at_most_one_top_is_given_and_it_is_a_share(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Filters(**options)


@pytest.mark.slow
def test_a_million_rows_take_seconds() -> None:
    n, rng = 1_000_000, np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "traj_id": [f"t{name:07d}" for name in rng.permutation(n)],
            "source": rng.choice(["a", "b", "c"], n),
            "origin": rng.choice(["synthetic", "real"], n, p=[0.9, 0.1]),
            "split": "train",
            "weight": rng.lognormal(0, 1, n).round(2),
        }
    )

    start = time.perf_counter()
    reasons = reasons_left_out(rows, Filters(top_p=0.5, quotas=quotas_of(["a=1000", "b=30%"])))
    seconds = time.perf_counter() - start

    out = rows.filter(reasons.is_null() & (pl.col("origin") == "synthetic"))
    assert out.filter(pl.col("source") == "a").height == 1000
    assert seconds < 10  # about 0.7 when this was written
