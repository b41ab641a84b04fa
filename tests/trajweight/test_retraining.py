from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import peft
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.commands import QUICK, babble, call, write_rows
from tests.toy import INNER, N_SYNTHETIC, Toy
from trajweight.config import InnerConfig, RetrainConfig, RunConfig
from trajweight.errors import ConfigError
from trajweight.features import adapter_tensors
from trajweight.models import load_model
from trajweight.progress import Progress
from trajweight.retraining import (
    Retrained,
    on_real_rows_alone,
    rate_at,
    retrain,
    save_adapter,
    steps_of,
)
from trajweight.run import load_run
from trajweight.table import trajectory_of
from trajweight.tiny import build_tiny
from trajweight.tokenization import encode_all

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = RetrainConfig(enabled=True, epochs=6.0, learning_rate=0.02, warmup_share=0.1)


def test_the_rate_rises_to_its_highest_and_falls_to_a_tenth() -> None:
    rates = [rate_at(step, 50, SETTINGS) for step in range(50)]

    assert rates[4] == max(rates) == SETTINGS.learning_rate
    assert rates[:5] == sorted(rates[:5])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(SETTINGS.learning_rate / 10, rel=0.1)


def test_true_weights_give_a_better_adapter_than_inverted_ones() -> None:
    """Half of the synthetic rows have wrong labels."""
    config = RunConfig(inner=INNER, retrain=SETTINGS)

    def retrained(share_of_bad: float) -> Retrained:
        toy = Toy(n_bad=N_SYNTHETIC // 2)
        weights = 2 * (share_of_bad * toy.is_bad + (1 - share_of_bad) * (1 - toy.is_bad))
        problem = toy.problem()
        untrained = adapter_tensors(problem.linears)
        return retrain(problem, weights, config, untrained=untrained, dev=[], progress=Progress())

    true, inverted = retrained(0.0), retrained(1.0)

    assert true.loss < true.base_loss < inverted.loss
    assert true.judged_by == "validation"


@given(
    n_real=st.integers(1, 40),
    n_synthetic=st.integers(1, 200),
    size=st.integers(2, 16),
    epochs=st.floats(0.5, 6.0),
)
def test_real_rows_alone_train_for_as_many_steps(n_real, n_synthetic, size, epochs) -> None:
    plain = replace(
        Toy(n_bad=0).problem(),
        real=list(range(n_real)),
        synthetic=list(range(n_real, n_real + n_synthetic)),
    )
    inner, training = InnerConfig(batch_size=size), RetrainConfig(epochs=epochs)
    config = RunConfig(inner=inner, retrain=training)
    alone, longer = on_real_rows_alone(plain, config)

    assert alone.training == list(range(n_real))
    assert steps_of(alone, longer) == steps_of(plain, config)


def test_an_epoch_that_is_not_full_is_a_step_more() -> None:
    problem = Toy(n_bad=0).problem()
    config = RunConfig(inner=InnerConfig(batch_size=len(problem.training) // 2))

    for epochs, steps in ((1.0, 2), (2.0, 4), (2.1, 5), (0.1, 1)):
        changed = replace(config, retrain=RetrainConfig(epochs=epochs))
        assert steps_of(problem, changed) == steps


# peft asks transformers by a name that transformers is about to drop.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*")
@pytest.mark.slow
def test_the_adapter_that_is_left_loads_in_peft_and_has_the_loss_that_was_told(tmp_path) -> None:
    run = retrained_run(tmp_path)
    told = json.loads((run / "report.json").read_text())["learning"]["retrained"]

    base, _ = build_tiny()
    plain = mean_loss(base, run)
    adapted = mean_loss(peft.PeftModel.from_pretrained(base, run / "adapter").eval(), run)

    assert told["judged_by"] == "dev"
    # Losses of several rows in one forest and of each row alone differ by rounding in float32.
    assert plain == pytest.approx(told["base_loss"], rel=1e-4)
    assert adapted == pytest.approx(told["loss"], rel=1e-4)
    assert adapted < plain
    assert "base_model: tiny" in (run / "adapter" / "README.md").read_text()


def retrained_run(folder: Path) -> Path:
    write_rows(folder / "real.jsonl", (babble(f"r{i}", source="real") for i in range(60)))
    write_rows(folder / "synthetic.jsonl", (babble(f"s{i}") for i in range(10)))
    (folder / "quick.toml").write_text(QUICK + "[retrain]\nepochs = 3\nlearning_rate = 0.01\n")
    files = (folder / "real.jsonl", folder / "synthetic.jsonl", "--real", "real")
    run = folder / "run"
    said = call("score", *files, "--config", folder / "quick.toml", "--retrain", "--out", run)
    assert said.code == 0, said.err
    return run


def mean_loss(model, run: Path) -> float:
    """Mean over the dev rows of the mean loss of their assistant tokens, one row at a time."""
    splits = pl.read_parquet(run / "weights.parquet").filter(pl.col("split") == "dev")
    rows = load_run(run).trajectories("messages_json", "tools_json")
    rows = rows.join(splits.select("traj_id"), on="traj_id")
    tokenizer = load_model("tiny", device="cpu", progress=Progress()).tokenizer
    trajectories = [trajectory_of(row) for row in rows.iter_rows(named=True)]
    encoded = encode_all(trajectories, tokenizer, max_tokens=2048, progress=Progress()).rows
    losses = []
    for row in encoded:
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        losses.append(float(each[torch.tensor(row.assistant_mask[1:])].mean()))
    return sum(losses) / len(losses)


def test_a_folder_that_is_no_adapter_is_not_replaced(tmp_path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "mine.txt").write_text("kept")

    with pytest.raises(ConfigError, match="is no adapter"):
        save_adapter(None, tmp_path / "adapter", base_model="tiny", card="")  # type: ignore[arg-type]

    assert (tmp_path / "adapter" / "mine.txt").read_text() == "kept"
