"""Laws of verdicts on exports, and one trainer that is always here: transformers itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.commands import call
from tests.runs import make_run, row
from trajweight.errors import ConfigError, TrajweightError
from trajweight.export import ExportRequest, export_weights
from trajweight.progress import Progress
from trajweight.trainers import targets
from trajweight.verification import verify_export
from trajweight.verification.trial import COPIES, N_ALIKE, WEIGHTS, trial_rows
from trajweight.verification.verdict import effective_weights, judged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from trajweight.run import Run

WANTED = np.array(WEIGHTS)
#: Of a made-up model: one gradient a row, none a mixture of the others.
SINGLE = np.random.default_rng(0).normal(size=(4, 50))


def verdict(at_one: NDArray[np.float64], at_all: NDArray[np.float64]) -> str:
    """On steps in which rows counted these, with micro-batches of one and of all."""
    return judged(WANTED, {1: at_one @ SINGLE, 4: at_all @ SINGLE}, SINGLE, N_ALIKE)[0]


def test_effective_weights_are_those_a_gradient_was_mixed_by() -> None:
    found, residual = effective_weights(WANTED @ SINGLE, SINGLE)

    np.testing.assert_allclose(found, WANTED)
    assert residual < 1e-12


def test_a_gradient_of_other_data_is_left_over() -> None:
    stranger = np.random.default_rng(1).normal(size=50)

    assert effective_weights(stranger, SINGLE)[1] > 0.5
    assert judged(WANTED, {1: stranger}, SINGLE, N_ALIKE)[0] == "BIASED"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 7.0])
def test_only_ratios_count(scale: float) -> None:
    assert verdict(WANTED * scale, WANTED) == "PASS"


def test_weights_that_do_nothing_are_ignored_whatever_a_longer_row_counts() -> None:
    by_length = np.array([1.0, 1.0, 1.0, 3.0])

    assert verdict(np.ones(4), np.ones(4)) == "IGNORED"
    assert verdict(by_length, by_length) == "IGNORED"


def test_weights_that_vanish_with_one_row_a_micro_batch_are_cancelled() -> None:
    assert verdict(np.ones(4), WANTED) == "CANCELLED"


@pytest.mark.parametrize(
    "counted",
    [
        WANTED**0.5,  # tempered on the way
        np.where(WANTED > 1, 1.0, WANTED),  # clipped
        WANTED * [1, 1, 1, 3],  # not converted by length
        WANTED * [1, 1.05, 1, 1],
        WANTED - 0.4,  # the lightest lost
    ],
)
def test_weights_that_act_otherwise_are_biased(counted: NDArray[np.float64]) -> None:
    assert verdict(counted, counted) == "BIASED"
    assert verdict(WANTED, counted) == "BIASED"


def test_a_token_more_or_less_in_a_longer_row_is_no_bias() -> None:
    assert verdict(WANTED * [1, 1, 1, 0.96], WANTED) == "PASS"
    assert verdict(WANTED * [1, 1, 1, 0.9], WANTED) == "BIASED"


def test_the_first_rows_of_a_trial_are_alike_but_for_what_they_say() -> None:
    rows = trial_rows(lambda row: len(row["messages_json"]))

    assert len({each.tokens for each in rows[:N_ALIKE]}) == 1
    assert len({each.row["messages_json"] for each in rows}) == len(rows) == len(WEIGHTS)
    assert rows[-1].tokens > rows[0].tokens
    assert len(COPIES) == len(WEIGHTS)
    assert len(set(COPIES[:N_ALIKE])) > 1
    assert sum(WEIGHTS) == len(WEIGHTS)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    rows = [row(f"s{i}", text=f"reply {i}") for i in range(4)]
    return make_run(tmp_path / "made", rows, {f"s{i}": i + 1.0 for i in range(4)})


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["adapter", "tokenized", "resample"])
def test_transformers_itself_says_that_its_export_takes_effect(
    run: Run, tmp_path: Path, mode: str
) -> None:
    said = call("export-weights", run.folder, "--to", "hf", "--mode", mode, "--out", tmp_path / "e")
    assert said.code == 0

    asked = call("verify-export", tmp_path / "e", "--json")

    assert asked.code == 0, asked.err
    assert asked.object["metrics"]["word"] == "PASS"
    assert {one["micro_batch"] for one in asked.object["metrics"]["measured"]} >= {1}


@pytest.mark.slow
def test_a_script_that_was_changed_is_asked_as_it_stands(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "e"
    export_weights(run, out, ExportRequest(to="hf"))
    script = (out / "train.py").read_text()
    stock = re.sub(
        r"trainer, weighing = WeightedTrainer, \{.*\}", "trainer, weighing = Trainer, {}", script
    )
    assert stock != script
    (out / "train.py").write_text(stock)

    said = call("verify-export", out)

    assert said.code == 4
    assert said.out.startswith("IGNORED: ")
    assert "transformers" in said.out


@pytest.mark.slow
def test_a_trainer_that_fails_is_told_by_its_last_words(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "e"
    export_weights(run, out, ExportRequest(to="hf"))
    (out / "train.py").write_text("raise RuntimeError('out of cheese')\n")

    with pytest.raises(TrajweightError, match=r"gave no gradient: .*out of cheese") as caught:
        verify_export(out, progress=Progress())

    assert any("Traceback" in note for note in caught.value.__notes__)


def test_a_trainer_that_is_not_installed_is_skipped_never_passed(run: Run, tmp_path: Path) -> None:
    export_weights(run, tmp_path / "e", ExportRequest(to="verl"))

    said = call("verify-export", tmp_path / "e")

    assert said.code == 5
    assert "SKIPPED" in said.err
    assert re.search(r"not installed for \S+: verl", said.err)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (ExportRequest(to="jsonl", mode="resample"), "a file has no loss"),
        (ExportRequest(to="openai"), "cannot be run here"),
        (ExportRequest(to="llama-factory", mode="buckets"), "mixed at random"),
    ],
)
def test_what_cannot_be_measured_is_skipped_with_the_reason(
    run: Run, tmp_path: Path, request_: ExportRequest, why: str
) -> None:
    export_weights(run, tmp_path / "e", request_)

    found = verify_export(tmp_path / "e", progress=Progress())

    assert found.word == "SKIPPED"
    assert why in found.said
    assert not found.measured


def test_what_is_no_export_is_told(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "e"
    export_weights(run, out, ExportRequest(to="hf"))

    with pytest.raises(ConfigError, match="this is no export"):
        verify_export(tmp_path, progress=Progress())
    with pytest.raises(ConfigError, match="this export is for hf"):
        verify_export(out, to="trl", progress=Progress())
    with pytest.raises(ConfigError, match="no such program"):
        verify_export(out, python=tmp_path / "python", progress=Progress())
    (out / "data/train.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"train\.jsonl: no such file"):
        verify_export(out, progress=Progress())


def test_every_probe_that_a_target_names_is_there_and_says_its_packages() -> None:
    from importlib import resources

    probes = resources.files("trajweight.verification.probes")
    named = {target.probe for target in targets() if target.probe}

    for probe in named:
        text = probes.joinpath(f"{probe}.py").read_text("utf-8")
        assert re.search(r"^PACKAGES = \(", text, flags=re.MULTILINE)
        assert re.search(r"^(def gradient\(|gradient = )", text, flags=re.MULTILINE)
        assert "trajweight" not in re.findall(
            r"^\s*(?:from|import) (\w+)", text, flags=re.MULTILINE
        )
    on_disk = {
        path.name.removesuffix(".py") for path in probes.iterdir() if path.name.endswith(".py")
    }
    assert on_disk == named | {"__init__", "runner"}
