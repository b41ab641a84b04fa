from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from tests.analysis.hostile import ATTACKS, hostile_run
from tests.commands import call, write_rows
from tests.learned import dialogue, learn
from tests.runs import make_run, row
from trajweight.analysis import why
from trajweight.analysis.why import explain, others_than, trained_run, turn_facts
from trajweight.errors import ConfigError, RunError
from trajweight.run import load_run

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

GIVEN = {"s0": 1.0, "s1": 2.0, "s2": 2.0, "s3": 4.0, "s4": 3.0}
#: Seen from s0 along the first axis, s1 is the nearest synthetic row and r1 the nearest real one.
EMBEDDINGS = {
    "s0": [1.0, 0.0],
    "s1": [0.9, 0.1],
    "s2": [0.0, 1.0],
    "s3": [-1.0, 0.1],
    "s4": [0.1, -1.0],
    "r0": [-1.0, -1.0],
    "r1": [1.0, 0.1],
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(name, source="ab"[i % 2], text=f"reply {name}") for i, name in enumerate(GIVEN)]
    rows += [row(name, source="real", text=f"real {name}") for name in ("r0", "r1")]
    return make_run(
        tmp_path, rows, GIVEN, splits={"r1": "validation"}, embeddings=EMBEDDINGS, real_weight=0.5
    )


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two heads, each with an adapter of its own for the likelihood ratio."""
    return learn(tmp_path_factory.mktemp("ensemble"), "--ensemble", 2)


def score_in(run: Run, name: str) -> float:
    [score] = run.table("weights").filter(pl.col("traj_id") == name)["score"]
    return float(score)


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder)
    return replace(run, folder=folder)


def test_rank_percentile_and_source_are_those_of_a_sorted_list(run) -> None:
    mean = np.mean(list(GIVEN.values()))

    for name, weight in GIVEN.items():
        found = explain(run, name)

        standing = found["standing"]
        others = list(GIVEN.values())
        assert found["weight"] == pytest.approx(weight / mean)
        assert standing["rank"] == sorted(others, reverse=True).index(weight) + 1
        below = sum((other < weight) + 0.5 * (other == weight) for other in others)
        assert standing["percentile"] == pytest.approx(100 * below / len(others))
        source = [GIVEN[each] for i, each in enumerate(GIVEN) if "ab"[i % 2] == found["source"]]
        assert standing["source_n"] == len(source)
        assert standing["source_mean"] == pytest.approx(np.mean(source) / mean)
        assert standing["source_rank"] == sorted(source, reverse=True).index(weight) + 1


def test_the_headline_says_where_it_stands(run) -> None:
    assert explain(run, "s3")["headline"] == (
        "It weighs 1.67: rank 1 of 5 synthetic training trajectories, heavier than 80% of them."
    )
    assert explain(run, "s1")["headline"].endswith("rank 3 of 5 synthetic training trajectories, "
                                                   "heavier than 20% of them.")  # fmt: skip
    assert "as every one of them does" in explain(run, "r0")["headline"]
    assert explain(run, "r1")["headline"] == (
        "A real trajectory of split validation has no weight."
    )


def test_uniform_weights_are_called_that(tmp_path) -> None:
    names = ("a", "b", "c")
    run = make_run(
        tmp_path, [row(name, text=name * 3) for name in names], dict.fromkeys(names, 1.0)
    )

    found = explain(run, "b")

    assert found["headline"] == "It weighs 1.00, as all 3 synthetic training trajectories do."
    assert found["standing"]["percentile"] == 50


def test_neighbours_are_nearest_first_with_their_weights_and_words(run) -> None:
    found = explain(run, "s0", count=2)["neighbours"]

    every = np.array(list(EMBEDDINGS.values()))
    scaled = dict(zip(EMBEDDINGS, (every - every.mean(0)) / every.std(0), strict=True))

    def cosine(name: str) -> float:
        left, right = scaled["s0"], scaled[name]
        return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))

    for side, names in (("synthetic", ["s1", "s2", "s3", "s4"]), ("real", ["r0", "r1"])):
        listed = found[side]["rows"]
        assert [one["traj_id"] for one in listed] == sorted(names, key=cosine)[::-1][:2]
        alike = [one["similarity"] for one in listed]
        # embeddings are kept in single precision
        assert alike == pytest.approx([cosine(one["traj_id"]) for one in listed], abs=1e-5)
    nearest = found["synthetic"]["rows"][0]
    assert nearest["weight"] == pytest.approx(2.0 / np.mean(list(GIVEN.values())))
    assert nearest["line"] == "reply s1"
    assert found["real"]["rows"][0]["weight"] is None
    assert found["real"]["rows"][0]["split"] == "validation"
    assert found["real"]["rows"][1]["weight"] == 0.5


def test_nobody_is_a_neighbour_of_itself(run) -> None:
    for name in EMBEDDINGS:
        found = explain(run, name, count=10)["neighbours"]

        listed = [one["traj_id"] for side in ("real", "synthetic") for one in found[side]["rows"]]
        assert sorted([*listed, name]) == sorted(EMBEDDINGS)


def test_of_very_many_rows_some_are_searched_and_it_is_said(run, monkeypatch) -> None:
    monkeypatch.setattr(why, "MAX_CANDIDATES", 3)

    found = explain(run, "s0", count=5)["neighbours"]["synthetic"]

    assert (found["n_candidates"], found["n_searched"], len(found["rows"])) == (4, 3, 3)


@pytest.mark.parametrize(
    ("name", "decided", "words"),
    [
        ("r0", "constant", "keeps their share of the mass"),
        ("r1", "nothing", "Only rows of split train"),
        ("s0", "uniform", "decides nothing"),
    ],
)
def test_what_decided_the_weight_is_said(run, name, decided, words) -> None:
    found = explain(run, name)

    assert found["decided_by"] == decided
    assert words in found["decision"]


def test_what_a_run_lacks_is_said_and_all_else_is_there(tmp_path) -> None:
    run = make_run(tmp_path, [row("a"), row("b", text="no")], {"a": 1.0, "b": 2.0})

    found = explain(run, "a")

    assert found["contributions"] == {"missing": "No head was learned, so there is no score."}
    assert "no embeddings" in found["neighbours"]["missing"]
    assert "--turns" in found["turns"]["missing"]
    assert found["interval"] is None
    assert found["standing"]["rank"] == 2


def test_an_excluded_row_is_told_with_its_reason(run) -> None:
    folder = run.folder
    table = run.table("weights").with_columns(
        pl.when(pl.col("traj_id") == "r1")
        .then(pl.lit("excluded"))
        .otherwise("split")
        .alias("split")
    )
    run.save_table("weights", table)
    run.save_table("features", run.table("features").filter(pl.col("traj_id") != "r1"))
    run.save_rows("excluded", [{"traj_id": "r1", "reason": "copy of a held-out row"}])

    found = explain(load_run(folder), "r1")

    assert found["headline"].endswith("split excluded has no weight: copy of a held-out row.")
    assert "took no part" in found["neighbours"]["missing"]


def test_unknown_and_ambiguous_ids_are_errors(run) -> None:
    with pytest.raises(RunError, match="no trajectory 'x9'"):
        explain(run, "x9")
    with pytest.raises(ConfigError, match="5 trajectories begin with 's'"):
        explain(run, "s")


@pytest.mark.slow
def test_contributions_are_of_the_score_that_the_run_wrote(ensemble) -> None:
    scored = ensemble.table("weights").filter(pl.col("score").is_not_null())
    assert set(scored["split"]) >= {"train", "validation"}

    for name, score in scored.select("traj_id", "score").iter_rows():
        found = explain(ensemble, name, count=1)["contributions"]

        assert found["missing"] is None
        # the run scores in single precision
        assert found["score"] == pytest.approx(score, rel=1e-4, abs=1e-5)
        total = sum(one["adds"] for one in found["parts"])
        assert total == pytest.approx(found["score"] - found["baseline"], abs=1e-9)
        assert found["n_heads"] == 2


@pytest.mark.slow
def test_the_interval_is_the_range_across_the_heads(ensemble) -> None:
    table = ensemble.table("ensemble")

    for one in table.iter_rows(named=True):
        found = explain(ensemble, one["traj_id"], count=1)["interval"]

        assert found["members"] == pytest.approx(one["weights"])
        assert (found["low"], found["high"]) == (min(one["weights"]), max(one["weights"]))
    assert explain(ensemble, "r1")["interval"] is None


@pytest.mark.slow
def test_what_stands_in_the_facts_is_what_json_holds(ensemble) -> None:
    found = explain(ensemble, "s3")

    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("older features", "an older trajweight wrote it"),
        ("other features", "of different runs"),
        ("other head", "cannot be read"),
        ("no features", "no features.parquet"),
    ],
)
def test_what_cannot_be_attributed_is_said(ensemble, tmp_path, damage, words) -> None:
    run = copied(ensemble, tmp_path / "run")
    features = run.table("features")
    if damage == "older features":
        run.save_table("features", features.drop("real_nll_later", "base_nll_first"))
    elif damage == "other features":
        shuffled = pl.col("embedding").reverse() * 1.0
        run.save_table("features", features.with_columns(shuffled, pl.col("base_nll_first") + 9))
    elif damage == "other head":
        (run.folder / "head.safetensors").write_bytes(b"x")
    else:
        (run.folder / "features.parquet").unlink()
    move_scores(run)

    found = explain(run, "s3")

    assert words in found["contributions"]["missing"]
    assert found["standing"]["of"] == 14


def move_scores(run: Run) -> None:
    """Scores that no head of two quick steps would give, so that a mix-up cannot go unseen."""
    run.save_table("weights", run.table("weights").with_columns(pl.col("score") + 1.0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "group"])
def test_heads_without_features_are_told_in_words(tmp_path, kind) -> None:
    run = learn(tmp_path, "--head", kind)

    found = explain(run, "s3")["contributions"]["missing"]

    assert found.startswith(f"A {kind} head reads no features: it holds one score for every")
    assert f"{score_in(run, 's3'):+.3f} for this one" in found


@pytest.mark.slow
def test_an_applied_run_is_explained_by_the_head_of_its_training(ensemble, tmp_path) -> None:
    trained = copied(ensemble, tmp_path / "trained")
    told = json.loads((trained.folder / "head.json").read_text()) | {"selected": "head"}
    (trained.folder / "head.json").write_text(json.dumps(told))
    data = write_rows(tmp_path / "new.jsonl", [dialogue(f"n{i}", turns=2) for i in range(5)])
    said = call("score", data, "--run", trained.folder, "--out", tmp_path / "applied")
    assert said.code == 0, said.err
    applied = load_run(tmp_path / "applied")
    home = trained_run(applied)

    found = explain(applied, "n2")

    assert home is not None
    assert home.folder == trained.folder
    assert found["decided_by"] == "head"
    score = score_in(applied, "n2")
    assert found["contributions"]["score"] == pytest.approx(score, rel=1e-4, abs=1e-5)
    assert found["neighbours"]["real"] == {"n_candidates": 0, "n_searched": 0, "rows": []}

    arrays, config = trained.head()
    config = {key: value for key, value in config.items() if key != "head_sha256"}
    trained.save_head({name: 2 * each for name, each in arrays.items()}, config)

    assert trained.head_arrays()[1]["shape"] == config["shape"]  # whole, but another
    assert trained_run(applied) is None

    shutil.rmtree(trained.folder)

    assert trained_run(applied) is None
    assert "is gone" in explain(applied, "n2")["contributions"]["missing"]


def test_others_are_synthetic_training_rows_and_never_the_row_itself(run) -> None:
    for name in EMBEDDINGS:
        for count in (1, 3, 8):
            found = others_than(run, name, count=count)

            assert name not in found
            assert set(found) <= set(GIVEN)
            assert len(found) == len(set(found)) == min(count, len(set(GIVEN) - {name}))


def test_turns_are_told_with_their_first_words_and_what_they_sum_to(tmp_path) -> None:
    run = make_run(tmp_path, [dialogue("a", turns=3), row("b")], {"a": 1.0, "b": 2.0})

    found = turn_facts(
        run, "a", d=-0.25, turns=[(1, 4, 0.5), (5, 6, -0.75)], others=[-1.0, 0.0, 1.0]
    )

    messages = dialogue("a", turns=3)["messages"]
    assert [one["turn"] for one in found["turns"]] == [2, 6]
    assert [one["line"] for one in found["turns"]] == [messages[at]["content"] for at in (1, 5)]
    lowers, against, most = found["told"]
    assert "lowers the loss on real validation rows (d -2.50e-01)" in lowers
    assert against.startswith("Of 3 other synthetic training rows 2 help less")
    assert most == "The turn that counts most is turn 6, which helps."


@pytest.mark.parametrize(("d", "verb"), [(0.5, "raises"), (-0.5, "lowers"), (0.0, "does not move")])
def test_the_sign_of_d_is_put_into_words(tmp_path, d, verb) -> None:
    run = make_run(tmp_path, [row("a"), row("b", text="no")], {"a": 1.0, "b": 2.0})

    found = turn_facts(run, "a", d=d, turns=[(1, 4, d)], others=[])

    assert found["told"] == [
        f"A step on this row {verb} the loss on real validation rows (d {d:+.2e})."
    ]


def test_a_gradient_that_is_not_finite_is_null_and_said(tmp_path) -> None:
    run = make_run(tmp_path, [row("a"), row("b", text="no")], {"a": 1.0, "b": 2.0})

    found = turn_facts(run, "a", d=float("nan"), turns=[(1, 4, float("nan"))], others=[])

    assert found["d"] is found["turns"][0]["d"] is None
    assert found["told"] == ["The gradient is not finite there, so nothing can be said."]


def test_nothing_in_the_texts_can_act_upon_a_terminal(tmp_path) -> None:
    run = hostile_run(tmp_path)

    for at in range(len(ATTACKS)):
        found: dict[str, Any] = explain(run, f"h{at} ")

        lines = [found["line"]]
        for side in ("real", "synthetic"):
            lines += [one["line"] for one in found["neighbours"][side]["rows"]]
        assert all(line.isprintable() for line in lines)
