"""Laws of pools: exact shares, no task on two sides, nothing but the truth, the same again."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trajweight.bench.guessing import Guessing
from tests.trajweight.bench.walking import Walking
from trajweight.bench.corruptions import KINDS
from trajweight.bench.episodes import Planted
from trajweight.bench.policies import replay
from trajweight.bench.pools import PlantedPool, PoolPlan, build_pool, write_pool
from trajweight.errors import ConfigError
from trajweight.reading import read_trajectories
from trajweight.splitting import split

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.bench.environment import Environment

WALKING = Walking(turn_limit=20)
ENVIRONMENTS: dict[str, Callable[[], Environment]] = {
    "walking": lambda: WALKING,
    "guessing": Guessing,
}
PARTS = ("validation", "real_train", "dev", "test")
GOOD = {name for name, kind in KINDS.items() if kind.is_good}
SMALL = PoolPlan(
    "guessing", n_validation=10, n_real_train=6, n_dev=5, n_test=7, n_synthetic=40, seed=1
)


def pool_of(plan=SMALL, generated=(), **changes) -> PlantedPool:
    return build_pool(replace(plan, **changes), ENVIRONMENTS, generated)


def rows_of(pool) -> list[Planted]:
    return [row for part in (*PARTS, "synthetic") for row in getattr(pool, part)]


def texts(rows) -> list[str]:
    return [json.dumps(row.messages) for row in rows]


def generated(n, *, good, kind="language-model") -> list[Planted]:
    messages = [
        ({"role": "user", "content": "Guess."}, {"role": "assistant", "content": f"[{kind} {i}]"})
        for i in range(n)
    ]
    tasks = itertools.cycle(Guessing().tasks("train"))
    return [
        Planted(f"lm-{i}", kind, "synthetic", good, 0.5, next(tasks), each)
        for i, each in enumerate(messages)
    ]


@given(
    noise=st.sampled_from([0.0, 0.2, 0.37, 0.4, 0.6, 0.8]),
    n=st.integers(0, 70),
    seed=st.integers(0, 99),
)
@settings(max_examples=15, deadline=None)
def test_the_noise_share_is_exact_and_kinds_share_equally(noise, n, seed) -> None:
    pool = pool_of(noise=noise, n_synthetic=n, seed=seed)

    assert len(pool.synthetic) == n
    noisy = [row for row in pool.synthetic if row.kind not in GOOD]
    assert len(noisy) == round(noise * n)
    for names in (GOOD, set(KINDS) - GOOD):
        counts = [pool.counts.get(name, 0) for name in names]
        assert max(counts) - min(counts) <= 1
    assert not [note for note in pool.notes if "copy" not in note]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_parts_are_as_large_as_planned_and_share_no_task(environment) -> None:
    pool = pool_of(environment=environment)
    played = ENVIRONMENTS[environment]()

    tasks = [{row.task for row in getattr(pool, part)} for part in PARTS]
    assert list(map(len, tasks)) == [10, 6, 5, 7]
    assert [len(getattr(pool, part)) for part in PARTS] == [10, 6, 5, 7]
    assert len(set.union(*tasks)) == 28
    for part, named in zip(PARTS, tasks, strict=True):
        assert named <= set(played.tasks("test" if part == "test" else "dev"))
    own = {row.task for row in pool.synthetic if row.kind != "off-task"}
    assert own <= set(played.tasks("train"))
    (other,) = set(ENVIRONMENTS) - {environment}
    foreign = {row.task for row in pool.synthetic if row.kind == "off-task"}
    assert foreign <= {f"{other}/{task}" for task in ENVIRONMENTS[other]().tasks("train")}
    assert foreign


def test_every_row_knows_its_truth_and_no_words_come_twice() -> None:
    pool = pool_of()
    rows = rows_of(pool)

    assert len(set(texts(rows))) == len(rows)
    assert len({row.traj_id for row in rows}) == len(rows)
    assert all(row.is_good is KINDS[row.kind].is_good for row in pool.synthetic)
    assert all(row.origin == "synthetic" for row in pool.synthetic)
    for part in PARTS:
        assert {(row.kind, row.origin, row.is_good) for row in getattr(pool, part)} == {
            ("expert", "real", True)
        }


def test_where_kinds_share_tasks_still_no_words_come_twice() -> None:
    # Each of the 80 tasks has one bare row, whichever of the two kinds says it.
    pool = pool_of(kinds=("good", "terse-good"), noise=0.0, n_synthetic=110)

    assert len(set(texts(pool.synthetic))) == 110


def test_ids_and_order_tell_nothing_of_the_kind() -> None:
    pool = pool_of(n_synthetic=70)

    assert [row.traj_id for row in pool.synthetic] == [f"synthetic-{i:04}" for i in range(70)]
    neighbours = sum(a.kind == b.kind for a, b in itertools.pairwise(pool.synthetic))
    assert neighbours < 20
    halves = [
        sum(row.kind in GOOD for row in half) for half in (pool.synthetic[:35], pool.synthetic[35:])
    ]
    assert min(halves) >= 12


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_honest_claims_are_what_the_environment_paid(environment) -> None:
    pool = pool_of(environment=environment)
    played = ENVIRONMENTS[environment]()

    for row in rows_of(pool):
        if row.kind in ("off-task", "shuffled"):  # paid for the game as it was played
            assert row.reward == 1.0
            continue
        replies = [each["content"] for each in row.messages if each["role"] == "assistant"]
        game = replay(played, row.task, replies)
        assert row.reward == game.score
        assert list(row.messages) == game.messages


def test_without_claims_the_rows_are_the_same_and_claim_nothing() -> None:
    honest, silent = pool_of(), pool_of(rewards="none")

    assert {row.reward for row in rows_of(silent)} == {None}
    assert texts(rows_of(silent)) == texts(rows_of(honest))


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_tasks(tmp_path) -> None:
    folders = [tmp_path / name for name in ("one", "again", "other")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        write_pool(pool_of(seed=seed), folder)

    one, again, other = (
        {path.name: path.read_bytes() for path in sorted(folder.iterdir())} for folder in folders
    )
    assert one == again
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)
    tasks = [{row.task for row in pool_of(seed=seed).validation} for seed in (1, 2)]
    assert tasks[0] != tasks[1]


def test_noise_changes_no_real_row_and_a_larger_validation_only_adds_to_it() -> None:
    few, many = pool_of(noise=0.0), pool_of(noise=0.8, n_validation=25)

    for part in ("real_train", "dev", "test"):
        assert getattr(few, part) == getattr(many, part)
    assert few.validation == many.validation[:10]


def test_only_the_kinds_asked_for_are_planted() -> None:
    pool = pool_of(kinds=("reworded", "looping", "truncated"), noise=0.5)

    assert pool.counts == {"looping": 10, "reworded": 20, "truncated": 10}


def test_generated_rows_share_as_one_more_kind_on_the_side_of_their_truth() -> None:
    extra = [*generated(30, good=False), *generated(9, good=True, kind="language-model-good")]

    pool = pool_of(generated=extra, noise=0.5, n_synthetic=72, kinds=("good", "looping"))

    assert pool.counts == {
        "good": 27,
        "language-model-good": 9,
        "language-model": 18,
        "looping": 18,
    }
    assert any("language-model-good: 9 of 18 rows" in note for note in pool.notes)
    assert {row.is_good for row in pool.synthetic if row.kind == "language-model"} == {False}
    assert all(row.traj_id.startswith("synthetic-") for row in pool.synthetic)


@pytest.mark.parametrize(
    "change", [{"origin": "real"}, {"task": "dev=1"}, {"task": "nowhere"}], ids=str
)
def test_generated_rows_of_another_fold_are_refused(change) -> None:
    wrong = replace(generated(1, good=True)[0], **change)

    with pytest.raises(ConfigError, match=r"generated row 'lm-0' is .*, of task '"):
        pool_of(generated=[wrong])


def test_what_a_kind_cannot_give_others_give_and_it_is_said() -> None:
    alone = {"guessing": Guessing}

    pool = build_pool(replace(SMALL, noise=0.5, kinds=("good", "off-task", "looping")), alone)

    assert pool.counts == {"good": 20, "looping": 20}
    assert pool.notes == ("off-task: 0 of 10 rows could be made; others stand in for the rest.",)


def test_a_side_without_rows_is_an_error_that_says_why() -> None:
    plan = replace(SMALL, kinds=("good", "off-task"))

    with pytest.raises(ConfigError, match="guessing: 0 of 16 noisy rows could be made") as told:
        build_pool(plan, {"guessing": Guessing})

    assert "off-task: 0 of 16 rows" in told.value.hint


def test_a_fold_with_too_few_tasks_is_told_and_validation_is_what_is_short() -> None:
    pool = pool_of(n_validation=500)

    assert [len(getattr(pool, part)) for part in ("real_train", "dev", "test")] == [6, 5, 7]
    assert len(pool.validation) == 80 - 11
    assert any(note.startswith("validation: 69 of 500 rows") for note in pool.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": 0.9}, "noise is 0.9"),
        ({"n_dev": -1}, "n_dev is -1"),
        ({"kinds": ("god",)}, "kinds is 'god'"),
        ({"rewards": "false"}, "rewards is 'false'"),
    ],
)
def test_impossible_plans_are_refused(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **changes)


def test_an_unknown_environment_is_refused_and_the_known_are_named() -> None:
    with pytest.raises(ConfigError, match="no environment 'chess'") as told:
        pool_of(environment="chess")

    assert "guessing, walking" in told.value.hint


def test_the_product_reads_the_files_and_splits_them_as_planned(tmp_path) -> None:
    pool = pool_of()
    files = write_pool(pool, tmp_path)

    read = read_trajectories([files["real"], files["synthetic"], files["validation"]])
    held = frozenset([str(files["validation"])])
    table = split(read.table, seed=0, validation_paths=held).table

    by_split = dict(
        table.group_by("split", "origin")
        .agg(pl.col("traj_id"))
        .select(pl.concat_str("split", "origin", separator=" "), "traj_id")
        .iter_rows()
    )
    assert set(by_split["validation real"]) == {row.traj_id for row in pool.validation}
    assert set(by_split["train real"]) == {row.traj_id for row in pool.real_train}
    claims = dict(table.select("traj_id", "reward").iter_rows())
    assert claims == {
        row.traj_id: row.reward for row in (*pool.real_train, *pool.synthetic, *pool.validation)
    }


def test_a_part_without_rows_has_no_file(tmp_path) -> None:
    write_pool(pool_of(), tmp_path)

    files = write_pool(pool_of(n_dev=0, n_test=0), tmp_path)

    assert set(files) == {"real", "synthetic", "validation"}
    assert {path.stem for path in tmp_path.iterdir()} == set(files)
    first = json.loads(files["synthetic"].read_text("utf-8").splitlines()[0])
    assert Counter(first.keys()) == Counter(
        ["id", "source", "origin", "task_id", "reward", "quality", "kind", "messages"]
    )
