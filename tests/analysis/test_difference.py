from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from tests.analysis.hostile import ATTACKS, hostile_run
from tests.runs import make_run, row
from trajweight.analysis import difference as module
from trajweight.analysis.difference import difference
from trajweight.config import RunConfig
from trajweight.errors import RunError
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trajweight.run import Run

N = 40
NAMES = [f"s{i:02}" for i in range(N)]


def scores(seed: int) -> np.ndarray:
    return np.exp(np.random.default_rng(seed).normal(size=N))


def rows_of(names: Sequence[str] = NAMES) -> list[dict[str, Any]]:
    made = [
        row(name, source=("good", "bad")[int(name[1:]) % 2], text=f"words of {name}", task_id=name)
        for name in names
    ]
    return [*made, *(row(f"r{i}", source="real", text=f"real {i}") for i in range(3))]


def finished(
    folder: Path,
    weights: Sequence[float],
    *,
    rows: list[dict[str, Any]] | None = None,
    names: Sequence[str] = NAMES,
    splits: dict[str, str] | None = None,
    config: str = "",
    real_weight: float = 1.0,
    **manifest: Any,
) -> Run:
    gone = splits or {"r0": "validation"}
    weighed = {
        name: float(weight) for name, weight in zip(names, weights, strict=True) if name not in gone
    }
    run = make_run(
        folder,
        rows_of(names) if rows is None else rows,
        weighed,
        splits=gone,
        real_weight=real_weight,
    )
    run.save_config(config or RunConfig().to_toml())
    run.save_manifest(manifest)
    return run


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Run]:
    made: list[Run] = []

    def one(weights: Sequence[float], **more: Any) -> Run:
        made.append(finished(tmp_path / str(len(made)), weights, **more))
        return made[-1]

    return one


def test_two_runs_alike_are_the_same_and_it_is_said_plainly(make) -> None:
    found = difference(make(scores(0)), make(scores(0)))

    assert found.are_same
    assert found.verdict.startswith("The runs are the same: rows, splits, weights, settings")
    assert not found.moved
    assert {each.mass_change for each in found.sources} == {0.0}
    assert found.weights.n_same == found.weights.n == N


def test_the_verdict_tells_agreement_and_the_setting_that_differs(make) -> None:
    weights = scores(0)
    near = weights * np.exp(0.1 * np.random.default_rng(1).normal(size=N))
    rho = stats.spearmanr(weights, near).statistic

    found = difference(make(weights), make(near, config=RunConfig(seed=1).to_toml()))

    assert found.verdict.startswith(
        f"The rows are the same; the weights agree: Spearman {rho:.2f} ["
    )
    assert found.verdict.endswith("What differs in the making: settings (seed).")
    assert found.weights.spearman.value == pytest.approx(rho, abs=1e-12)
    assert not found.are_same


@pytest.mark.parametrize(
    ("noise", "told"), [(0.1, "agree:"), (0.7, "agree in part:"), (9.0, "do not agree:")]
)
def test_agreement_is_told_in_three_words(make, noise: float, told: str) -> None:
    weights = scores(0)
    other = weights * np.exp(noise * np.random.default_rng(1).normal(size=N))
    other = np.clip(other, 1e-3, 1e3)

    assert f"the weights {told} Spearman" in difference(make(weights), make(other)).verdict


def test_where_nothing_that_is_recorded_differs_it_is_said(make) -> None:
    found = difference(make(scores(0)), make(scores(1)))

    assert found.verdict.endswith("Nothing else that is recorded differs.")


def test_equal_ranks_of_sharper_weights_are_not_passed_over(make) -> None:
    found = difference(make(scores(0)), make(scores(0) ** 3))

    share_a, share_b = (size.synthetic.ess_fraction for size in (found.size_a, found.size_b))
    assert "Spearman 1.00" in found.verdict
    assert f"but sharper in the second run: ESS/n {share_b:.2f} after {share_a:.2f}" in (
        found.verdict
    )
    weights = scores(0)
    assert share_a == pytest.approx(effective_sample_size(weights) / N)


def test_uniform_weights_have_no_order_to_compare(make) -> None:
    found = difference(make(scores(0)), make(np.ones(N)))

    assert found.weights.spearman.value is None
    assert "cannot be compared over 40 synthetic rows" in found.verdict


def test_other_weights_of_real_rows_alone_are_told(make) -> None:
    found = difference(make(scores(0)), make(scores(0), real_weight=0.25))

    assert not found.are_same
    assert "are equal, but real rows weigh 0.25 after 1" in found.verdict
    assert (found.size_a.real_weight, found.size_b.real_weight) == (1.0, 0.25)


def test_other_data_are_told_before_the_weights(make) -> None:
    names = [*NAMES[2:], "s90"]
    rows = rows_of(names)
    rows[0]["messages"][1]["content"] = "edited"
    splits = {"r0": "validation", "r1": "test", "s05": "excluded"}

    found = difference(make(scores(0)), make(scores(1)[:-1], names=names, rows=rows, splits=splits))

    assert found.verdict.startswith(
        "The data differ (rows only in the first run: 2, only in the second: 1, "
        "with other content: 1), and 2 are in another split, so weights may differ for that "
        "alone; "
    )
    assert (found.rows.n_both, found.rows.n_by_content, found.rows.n_by_id) == (41, 40, 1)
    assert found.weights.n == N - 3  # s00, s01 and s05 are not in both
    assert [(way.origin, way.split_b, way.ids) for way in found.rows.splits] == [
        ("real", "test", ("r1",)),
        ("synthetic", "excluded", ("s05",)),
    ]


def test_other_splits_of_the_same_rows_are_no_other_data(make) -> None:
    splits = {"r0": "validation", "s05": "excluded"}

    found = difference(make(scores(0)), make(scores(0), splits=splits))

    assert found.verdict.startswith(
        "The rows are the same, but 1 is in another split, so weights may differ for that alone; "
    )
    assert not found.are_same


def test_rows_are_matched_by_content_when_all_ids_are_others(make) -> None:
    rows = rows_of()
    for each in rows:
        each["id"] = f"new-{each['id']}"
    names = [f"new-{name}" for name in NAMES]

    found = difference(
        make(scores(0)), make(scores(0), rows=rows, names=names, splits={"new-r0": "validation"})
    )

    assert (found.rows.n_by_content, found.rows.n_only_a) == (N + 3, 0)
    assert found.weights.n_same == N


def test_sources_are_means_and_shares_of_mass_in_each_run(make) -> None:
    a, b = make(scores(0)), make(scores(1))

    found = difference(a, b)

    for each in found.sources:
        for run, n, mean, mass in (
            (a, each.n_a, each.mean_a, each.mass_a),
            (b, each.n_b, each.mean_b, each.mass_b),
        ):
            table = run.table("weights").filter(origin="synthetic", split="train")
            pairs = zip(table["source"], table["weight"], strict=True)
            weights = [weight for source, weight in pairs if source == each.source]
            assert n == len(weights)
            assert mean == pytest.approx(np.mean(weights))
            assert mass == pytest.approx(sum(weights) / table["weight"].sum())
        assert each.mean_change == pytest.approx(each.mean_b - each.mean_a)
        assert each.mass_change == pytest.approx(each.mass_b - each.mass_a)


def test_a_source_of_one_run_only_has_no_mean_in_the_other(make) -> None:
    rows = rows_of()
    rows[0]["source"] = "new"

    found = difference(make(scores(0)), make(scores(0), rows=rows))

    (new,) = (each for each in found.sources if each.source == "new")
    assert (new.n_a, new.mean_a, new.mass_a, new.mean_change) == (0, None, None, None)
    assert new.mass_change == new.mass_b
    assert found.rows.n_relabelled == 1


def test_sources_whose_mass_changed_most_come_first(make) -> None:
    rows = rows_of()
    rows[1]["source"], rows[2]["source"] = "third", "fourth"
    weights = scores(0)
    weights[1] *= 50.0

    found = difference(make(scores(0), rows=rows), make(weights, rows=rows)).sources

    changes = [abs(each.mass_change) for each in found]
    assert changes == sorted(changes, reverse=True)
    assert found[0].source == "third"


def test_the_rows_that_moved_most_are_those_with_the_greatest_factors(make) -> None:
    a, b = make(scores(0)), make(scores(1))
    before, after = (
        dict(run.table("weights").select("traj_id", "weight").rows()) for run in (a, b)
    )
    far = sorted(NAMES, key=lambda name: -abs(np.log(after[name] / before[name])))

    found = difference(a, b, top=7).moved

    assert [each.id_a for each in found] == far[:7]
    for each in found:
        assert each.log_change == pytest.approx(np.log(after[each.id_a] / before[each.id_a]))
        assert (each.weight_a, each.weight_b) == (before[each.id_a], after[each.id_a])
        assert each.line == f"words of {each.id_a}"


def test_a_weight_that_went_to_zero_moved_farthest_by_no_number(make) -> None:
    weights = scores(0)
    weights[5] = 0.0

    (first, *_) = difference(make(scores(0)), make(weights)).moved

    assert (first.id_a, first.log_change, first.weight_b) == ("s05", None, 0.0)


def test_a_weight_that_stays_zero_did_not_move(make) -> None:
    weights = scores(0)
    weights[5] = 0.0

    found = difference(make(weights), make(weights))

    assert found.are_same
    assert not found.moved


def test_no_text_is_read_where_no_row_is_listed(make, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        message = "texts were read"
        raise AssertionError(message)

    monkeypatch.setattr(module, "texts_of", refuse)

    assert not difference(make(scores(0)), make(scores(1)), top=0).moved


def test_lines_show_what_data_say_and_nothing_acts(tmp_path: Path) -> None:
    a, b = hostile_run(tmp_path / "a"), hostile_run(tmp_path / "b")
    table = b.table("weights")
    weights = table["weight"].to_list()
    n = len(ATTACKS)
    b.save_table(
        "weights",
        table.with_columns(weight=table["weight"].scatter(range(n), weights[:n][::-1])),
    )
    for run in (a, b):
        run.save_config("")

    found = difference(a, b).moved

    assert len(found) == n - 1  # the middle one stays
    assert all(each.line.isprintable() for each in found)


def test_runs_without_a_common_row_are_refused(make) -> None:
    rows = [row(f"x{i}", text=f"unlike {i}") for i in range(3)]
    other = make(np.ones(3), rows=rows, names=["x0", "x1", "x2"], splits={"x9": "test"})
    run = make(scores(0))

    with pytest.raises(RunError, match="no row in common") as raised:
        difference(run, other)

    assert str(run.folder) in raised.value.message
    assert str(other.folder) in raised.value.message


@pytest.mark.parametrize("kind", ["learned", "applied"])
def test_a_run_that_did_not_finish_is_refused_with_what_to_do(make, kind: str) -> None:
    broken = make(scores(0))
    broken.save_manifest({"kind": kind}, status="interrupted")

    for pair in ((make(scores(0)), broken), (broken, make(scores(0)))):
        with pytest.raises(RunError, match=r"did not finish.*'interrupted'") as raised:
            difference(*pair)
        assert raised.value.path == broken.folder
        assert ("--resume" in raised.value.hint) == (kind == "learned")


def test_rows_weighed_in_one_run_only_are_in_common_but_not_compared(make) -> None:
    splits = dict.fromkeys(NAMES[:20], "excluded")
    others = dict.fromkeys(NAMES[20:], "excluded")

    found = difference(make(scores(0), splits=splits), make(scores(0), splits=others))

    assert found.weights.n == 0
    assert found.weights.median_log_change is None
    assert "no synthetic row was weighed in both runs" in found.verdict


def test_facts_are_plain_json_values(make) -> None:
    found = difference(make(scores(0)), make(scores(1), config=RunConfig(seed=3).to_toml()))

    facts = found.as_dict()

    assert set(facts) >= {"verdict", "are_same", "rows", "weights", "sources", "moved"}
    assert facts["provenance"]["settings"] == [{"name": "seed", "a": 0, "b": 3}]
    assert facts["weights"]["spearman"]["value"] == found.weights.spearman.value
