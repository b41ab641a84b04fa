"""Laws of exports that are folders: what they hold, what it counts, and that nothing is lost."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import polars as pl
import pytest

from tests.runs import make_run, row
from trajweight.errors import ConfigError
from trajweight.export import MANIFEST, ExportRequest, export_weights
from trajweight.export.data_files import Spool
from trajweight.export.facts import plan_of, read_facts
from trajweight.files import sha256_of
from trajweight.formats import UnusableError
from trajweight.selection import Filters
from trajweight.tiny import build_tiny
from trajweight.trainers import Plan, Refusal, Target, Told
from trajweight.trainers.plain import PlainJsonl

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trajweight.run import Run
    from trajweight.trainers import Example, Mode, Row

#: Of very different lengths, so that a conversion by length shows.
ROWS = [row(f"s{i}", text="word " * (1 + 7 * i), source="ab"[i % 2]) for i in range(6)]
ROWS += [row("r0", source="real"), row("r1", source="real")]
WEIGHTS = {f"s{i}": float(i) for i in range(6)}
TOKENS = {**{f"s{i}": 10 + 4 * i for i in range(6)}, "r0": 9, "r1": 3}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    embeddings = {name: [0.0] for name in TOKENS}
    made = make_run(tmp_path, ROWS, WEIGHTS, splits={"r1": "dev"}, embeddings=embeddings)
    counted = made.table("features").with_columns(
        pl.col("traj_id").replace_strict(TOKENS).cast(pl.Int64).alias("n_assistant_tokens")
    )
    made.save_table("features", counted)
    return made


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def export(run: Run, out: Path, **asked: Any) -> dict[str, Any]:
    """A folder of plain rows, and its manifest."""
    export_weights(run, out, ExportRequest(to="jsonl", **asked))
    return read_facts(out)


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    table = pl.read_parquet(out / "rows.parquet")
    return {one["traj_id"]: one for one in table.iter_rows(named=True)}


def test_weights_have_mean_one_by_row_and_by_token(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out", mode="resample")

    found = rows_of(tmp_path / "out")
    tokens = np.array([TOKENS[name] for name in found])
    weights = np.array([one["weight"] for one in found.values()])
    by_token = np.array([one["token_weight"] for one in found.values()])
    assert set(found) == {"s1", "s2", "s3", "s4", "s5", "r0"}
    assert weights.mean() == pytest.approx(1)
    assert (by_token * tokens).sum() / tokens.sum() == pytest.approx(1)
    np.testing.assert_allclose(by_token * tokens / weights, tokens.mean())


def test_copies_are_recorded_written_and_follow_the_weight_by_token(
    run: Run, tmp_path: Path
) -> None:
    facts = export(run, tmp_path / "out", mode="resample", epochs=40, epoch_rows=50, seed=3)

    found = rows_of(tmp_path / "out")
    assert [each["name"] for each in facts["data"]][:2] == [
        "data/epoch-000.jsonl",
        "data/epoch-001.jsonl",
    ]
    for epoch, file in enumerate(facts["data"]):
        names = [one["id"] for one in read(tmp_path / "out" / file["name"])]
        assert Counter(names) == {
            name: one["copies"][epoch] for name, one in found.items() if one["copies"][epoch]
        }
        assert all(name != after for name, after in itertools.pairwise(names))
    share = sum(one["token_weight"] for one in found.values())
    for one in found.values():
        expected = 50 * one["token_weight"] / share
        assert set(one["copies"]) <= {int(expected), int(expected) + 1}
        # 40 draws of a fraction stand within five deviations of it
        assert np.mean(one["copies"]) == pytest.approx(expected, abs=5 * 0.5 / 40**0.5)


def test_a_resampled_row_is_the_original_row(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "out", mode="resample")

    given = {one["id"]: one for one in ROWS}
    assert all(one == given[one["id"]] for one in read(tmp_path / "out/data/epoch-001.jsonl"))


def test_buckets_hold_every_row_once_at_rates_of_their_mass(run: Run, tmp_path: Path) -> None:
    facts = export(run, tmp_path / "out", mode="buckets", buckets=3)

    found = rows_of(tmp_path / "out")
    total = sum(one["token_weight"] for one in found.values())
    assert sum(each["rate"] for each in facts["data"]) == pytest.approx(1)
    for number, file in enumerate(facts["data"]):
        names = {one["id"] for one in read(tmp_path / "out" / file["name"])}
        inside = [one for one in found.values() if one["bucket"] == number]
        assert names == {one["traj_id"] for one in inside}
        assert file["rate"] == pytest.approx(sum(one["token_weight"] for one in inside) / total)
    assert any("of the variance of the weights" in note for note in facts["notes"])


def test_left_out_rows_and_their_mass_are_said_and_the_rest_counts_alike(
    run: Run, tmp_path: Path
) -> None:
    result = export_weights(
        run, tmp_path / "f.jsonl", ExportRequest(mode="filter", filters=Filters(top_k=2))
    )

    assert [one["id"] for one in read(tmp_path / "f.jsonl")] == ["s4", "s5", "r0"]
    assert all("weight" not in one for one in read(tmp_path / "f.jsonl"))
    assert result.mass_kept == pytest.approx(9 / 15)
    assert result.ess_fraction == pytest.approx(1)
    assert any("carry 40.0% of the learned weight" in note for note in result.notes)


def test_tokens_carry_weights_that_make_a_sum_over_tokens_a_mean_over_trajectories(
    run: Run, tmp_path: Path
) -> None:
    export(run, tmp_path / "out", mode="tokenized", model="tiny")

    table = pl.read_parquet(tmp_path / "out/data/train.parquet")
    _, tokenizer = build_tiny()
    scale = None
    for one in table.iter_rows(named=True):
        trained = [token for token in one["labels"] if token != -100]
        weights = [weight for weight in one["loss_weights"] if weight]
        assert len(one["input_ids"]) == len(one["labels"]) == len(one["loss_weights"])
        assert len(weights) == len(trained)
        assert "word" in tokenizer.decode(trained) or one["traj_id"] == "r0"
        scale = scale or sum(weights) / one["weight"]
        assert sum(weights) == pytest.approx(one["weight"] * scale, rel=1e-5)


def test_the_dial_is_turned_and_said(run: Run, tmp_path: Path) -> None:
    facts = export(run, tmp_path / "out", mode="resample", target_ess=0.95, dial="mix")

    weights = np.array([one["weight"] for one in rows_of(tmp_path / "out").values()])
    assert weights.sum() ** 2 / (weights**2).sum() / len(weights) == pytest.approx(0.95)
    assert facts["weights"]["dial"]["how"] == "mix"
    assert facts["weights"]["ess_fraction"] == pytest.approx(0.95)


def test_the_manifest_accounts_for_every_row_and_every_file(run: Run, tmp_path: Path) -> None:
    facts = export(run, tmp_path / "out", mode="resample", epochs=2)

    counts = facts["rows"]
    assert counts["exported"] + sum(counts["left_out"].values()) == counts["in_run"] == len(ROWS)
    assert counts["written"] == sum(each["n_rows"] for each in facts["data"])
    named = {each["name"]: each["sha256"] for each in (*facts["data"], *facts["files"])}
    on_disk = {
        str(path.relative_to(tmp_path / "out"))
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert on_disk == {*named, MANIFEST}
    assert all(sha256_of(tmp_path / "out" / name) == digest for name, digest in named.items())
    assert plan_of(facts).data[1].name == "data/epoch-001.jsonl"


def test_the_same_request_gives_the_same_bytes_and_another_seed_others(
    run: Run, tmp_path: Path
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        export(run, tmp_path / name, mode="resample", seed=seed)

    def held(name: str) -> dict[str, bytes]:
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in files}

    assert held("a") == held("b")
    assert held("a")["data/epoch-000.jsonl"] != held("c")["data/epoch-000.jsonl"]


def test_a_folder_is_replaced_only_with_force_and_only_if_it_is_an_export(
    run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(run, out, mode="resample", epochs=3)
    with pytest.raises(ConfigError, match="already there"):
        export(run, out, mode="resample")

    export_weights(run, out, ExportRequest(to="jsonl", mode="resample", epochs=1), force=True)
    assert sorted(path.name for path in (out / "data").iterdir()) == ["epoch-000.jsonl"]

    (out / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds thesis\.tex"):
        export_weights(run, out, ExportRequest(to="jsonl", mode="resample"), force=True)
    assert (out / "thesis.tex").read_text() == "mine"


class Picky(PlainJsonl):
    """A trainer that reads no row of source a, and wants to be told weights its own way."""

    name, title, is_plain, keeps_turn_flags = "picky", "Picky", False, False
    modes: ClassVar[tuple[Mode, ...]] = ("native", "resample")
    refused: ClassVar[Mapping[Mode, Refusal]] = {
        "adapter": Refusal("there is none.", nearest="native", can_be_forced=True)
    }

    def row(self, example: Example, mode: Mode) -> Row:
        if example.row["source"] == "a":
            message = "it is of source a"
            raise UnusableError(message)
        return super().row(example, mode)

    def files(self, plan: Plan) -> dict[str, str]:
        return {"train.sh": f"train --data {plan.data[0].name}\n"}

    def told(self, plan: Plan) -> Told:
        return Told("By hand.", "sh train.sh", "pip install picky", ("Sleep.",))


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> Target:
    target = Picky()
    monkeypatch.setattr("trajweight.export.request.target_named", lambda _name: target)
    return target


@pytest.mark.parametrize("mode", ["native", "resample"])
@pytest.mark.usefixtures("picky")
def test_rows_that_a_trainer_cannot_read_are_counted_and_the_others_weighed_without_them(
    run: Run, tmp_path: Path, mode: Mode
) -> None:
    result = export_weights(run, tmp_path / "out", ExportRequest(to="picky", mode=mode))

    found = rows_of(tmp_path / "out")
    assert set(found) == {"s1", "s3", "s5", "r0"}
    assert result.n_left_out["that Picky cannot read: it is of source a"] == 2
    assert np.mean([one["weight"] for one in found.values()]) == pytest.approx(1)
    if mode == "native":
        written = {one["id"]: one["weight"] for one in read(tmp_path / "out/data/train.jsonl")}
        assert written == pytest.approx({name: one["weight"] for name, one in found.items()})


@pytest.mark.usefixtures("picky")
def test_the_readme_says_how_to_train_and_what_undoes_weights(run: Run, tmp_path: Path) -> None:
    export_weights(run, tmp_path / "out", ExportRequest(to="picky"))

    text = (tmp_path / "out/README.md").read_text()
    for told in ("pip install picky", "sh train.sh", "By hand.", "- Sleep.", "data/train.jsonl"):
        assert told in text
    assert (tmp_path / "out/train.sh").read_text() == "train --data data/train.jsonl\n"


@pytest.mark.usefixtures("picky")
def test_a_mode_that_does_not_act_is_refused_with_its_reason_unless_forced(
    run: Run, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is refused: there is none") as caught:
        export_weights(run, tmp_path / "out", ExportRequest(to="picky", mode="adapter"))
    assert "--mode native" in caught.value.hint
    with pytest.raises(ConfigError, match="no such mode"):
        export_weights(run, tmp_path / "out", ExportRequest(to="picky", mode="buckets"))

    export_weights(
        run, tmp_path / "out", ExportRequest(to="picky", mode="adapter", allow_unfaithful=True)
    )
    assert read_facts(tmp_path / "out")["mode"] == "adapter"


@pytest.mark.parametrize(
    ("asked", "said", "mended"),
    [
        ({"epochs": 3}, "--epochs says nothing in mode native; only mode resample", "--mode res"),
        ({"epoch_rows": 9, "mode": "buckets"}, "--epoch-rows says nothing in mode buckets", ""),
        ({"buckets": 4, "mode": "resample"}, "--buckets says nothing in mode resample", ""),
        ({"max_tokens": 2048}, "--max-tokens says nothing in mode native", "--mode tokenized"),
        ({"max_tokens": 9, "to": "openai", "mode": "resample"}, "--max-tokens says", "it out."),
        ({"dial": "temper"}, "--dial temper says nothing without --target-ess", "--target-ess"),
    ],
)
def test_an_option_that_says_nothing_is_refused_even_with_its_default(
    run: Run, tmp_path: Path, asked: dict[str, Any], said: str, mended: str
) -> None:
    request = ExportRequest(**({"to": "jsonl"} | asked))

    with pytest.raises(ConfigError, match=said) as caught:
        export_weights(run, tmp_path / "out", request)

    assert mended in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_what_is_not_asked_for_is_as_its_default_would_be(run: Run, tmp_path: Path) -> None:
    given: dict[Mode, dict[str, Any]] = {
        "resample": {"epochs": 3, "target_ess": 0.9, "dial": "temper"},
        "buckets": {"buckets": 4},
        "tokenized": {"max_tokens": 2048},
    }
    for mode, options in given.items():
        base: dict[str, Any] = {"mode": mode, "model": "tiny"}
        base |= {"target_ess": 0.9} if "target_ess" in options else {}
        assert export(run, tmp_path / f"{mode}-0", **base) == export(
            run, tmp_path / f"{mode}-1", **base | options
        )


def test_spooled_rows_come_back_in_any_order_any_number_of_times() -> None:
    given: dict[int, Row] = {3: {"a": "é\u2028"}, 7: {"b": [1, None]}, 5: {}}
    with Spool() as spool:
        for name, one in given.items():
            spool.add(name, one)

        assert list(spool.rows(np.array([5, 7, 7, 3]))) == [given[name] for name in (5, 7, 7, 3)]
