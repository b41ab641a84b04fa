from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from trajweight.adapters.axolotl_weights import (
    IGNORED,
    LOSS_WEIGHTS,
    WEIGHT,
    Objective,
    WeightedCollator,
    WeightedLoss,
    WeightedRows,
    undone_by,
)
from trajweight.tiny import build_tiny

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = [0.25, 1.0, 4.0, 0.5]
SETTINGS = {"datasets": [{"type": "trajweight.adapters.axolotl_weights.load"}]}


class WeightedTrainer(WeightedLoss, Trainer):  # type: ignore[misc]
    """The loss of the plugin under the stock trainer."""


def rows(weights: list[float] = WEIGHTS) -> list[dict[str, Any]]:
    """Rows of different lengths, with different shares of them trained."""
    drawn = torch.Generator().manual_seed(1)
    made = []
    for place, weight in enumerate(weights):
        ids = torch.randint(10, 300, (5 + 3 * place,), generator=drawn).tolist()
        labels = [IGNORED] * (2 + place) + ids[2 + place :]
        made.append({"input_ids": ids, "labels": labels, WEIGHT: weight})
    return made


def gradient(
    folder: Path, kind: type[Trainer], micro: int, data: list[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    """The gradient of one step over all rows, as the trainer scales it."""
    model, tokenizer = build_tiny()
    found: dict[str, torch.Tensor] = {}

    class Reader(TrainerCallback):
        def on_pre_optimizer_step(self, *_: Any, **kwargs: Any) -> None:
            parameters = kwargs["model"].named_parameters()
            found.update({name: p.grad.clone() for name, p in parameters})

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=len(data) // micro,
        max_steps=1,
        max_grad_norm=0.0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    kind(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
        callbacks=[Reader()],
    ).train()
    return found


def slow_gradient(objective: Objective, data: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The same of the formula, a row and a token at a time."""
    model, _ = build_tiny()
    total, units = torch.zeros(()), 0
    for row in data:
        scores = model(input_ids=torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        trained = [t for t, label in enumerate(row["labels"]) if t and label != IGNORED]
        losses = torch.stack([-scores[t - 1, row["labels"][t]] for t in trained])
        if objective == "sequence-mean":
            total, units = total + row[WEIGHT] * losses.mean(), units + 1
        else:
            total, units = total + row[WEIGHT] * losses.sum(), units + len(losses)
    (total / units).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("objective", ["sequence-mean", "token-weighted"])
def test_the_gradient_is_that_of_the_formula_however_the_step_is_cut(
    tmp_path: Path, micro: int, objective: Objective
) -> None:
    kind = type("Kind", (WeightedTrainer,), {"objective": objective})

    found = gradient(tmp_path, kind, micro, rows())

    torch.testing.assert_close(found, slow_gradient(objective, rows()), rtol=1e-4, atol=1e-6)


def test_unit_weights_by_the_token_give_the_stock_gradient(tmp_path: Path) -> None:
    kind = type("Kind", (WeightedTrainer,), {"objective": "token-weighted"})
    plain = [{key: value for key, value in row.items() if key != WEIGHT} for row in rows()]

    found = gradient(tmp_path, kind, 2, rows([1.0] * 4))

    torch.testing.assert_close(found, gradient(tmp_path, Trainer, 2, plain), rtol=1e-5, atol=1e-7)


def test_evaluation_is_not_weighted(tmp_path: Path) -> None:
    model, tokenizer = build_tiny()
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    made = {
        kind: kind(
            model=model,
            args=arguments,
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            processing_class=tokenizer,
        )
        for kind in (WeightedTrainer, Trainer)
    }
    plain = [{key: value for key, value in row.items() if key != WEIGHT} for row in rows()]

    weighted = made[WeightedTrainer].evaluate(Dataset.from_list(rows()))
    stock = made[Trainer].evaluate(Dataset.from_list(plain))

    assert weighted["eval_loss"] == pytest.approx(stock["eval_loss"], rel=1e-6)


def joined(rows: list[Any]) -> dict[str, torch.Tensor]:
    """Packs of rows, each one sequence, padded at the end as axolotl's collators do."""
    packs = [[label for row in pack for label in row["labels"]] for pack in rows]
    width = max(map(len, packs)) + 3
    return {"labels": torch.tensor([pack + [IGNORED] * (width - len(pack)) for pack in packs])}


@settings(deadline=None)
@given(st.permutations(range(4)), st.integers(1, 3))
def test_packed_rows_keep_their_own_weight_and_count(order: list[int], cut: int) -> None:
    mixed = [rows()[place] for place in order]
    for row in mixed:  # as from a template that begins with the reply
        row["labels"][0] = 7

    batch = WeightedCollator(joined, "sequence-mean")([mixed[:cut], mixed[cut:]])

    for pack, sequence in zip((mixed[:cut], mixed[cut:]), batch[LOSS_WEIGHTS], strict=True):
        place = 0
        for row in pack:
            own = sequence[place : place + len(row["labels"])]
            assert own.sum().item() == pytest.approx(row[WEIGHT], rel=1e-6)
            assert own[0] == 0
            place += len(own)
        assert not sequence[place:].any()


def test_left_padding_moves_the_weights_with_the_tokens() -> None:
    _, tokenizer = build_tiny()
    tokenizer.padding_side = "left"
    collate = WeightedCollator(DataCollatorForSeq2Seq(tokenizer), "token-weighted", pads_left=True)

    batch = collate([{**row, "attention_mask": [1] * len(row["labels"])} for row in rows()])

    assert torch.equal(batch[LOSS_WEIGHTS] > 0, batch["labels"] != IGNORED)


def test_a_row_without_weight_is_told_with_the_mend() -> None:
    plain = {key: value for key, value in rows()[0].items() if key != WEIGHT}

    with pytest.raises(ValueError, match=r"no weight.*axolotl_weights\.load"):
        WeightedCollator(joined, "sequence-mean")([plain])


class _Strategy:
    def _tokenize_single_prompt(self, prompt: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": [len(prompt)]}


class _WeightedStrategy(WeightedRows, _Strategy):
    pass


def test_the_loader_hands_the_weight_on() -> None:
    made = _WeightedStrategy()._tokenize_single_prompt({"messages": "[]", WEIGHT: 3})

    assert made == {"input_ids": [2], WEIGHT: 3.0}


@pytest.mark.parametrize("weight", [None, "2", -1.0, float("inf"), float("nan")])
def test_the_loader_takes_no_weight_that_is_none(weight: Any) -> None:
    with pytest.raises(ValueError, match="finite number of zero or more"):
        _WeightedStrategy()._tokenize_single_prompt({WEIGHT: weight})


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"datasets": [{"type": "chat_template"}]}, "drops weights"),
        ({"rl": "dpo"}, "unset rl"),
        ({"streaming": True}, "streaming"),
        ({"pretraining_dataset": "x"}, "pretraining_dataset"),
        ({"context_parallel_size": 2}, "context_parallel_size"),
        ({"batch_flattening": True}, "batch_flattening"),
        ({"trajectory_objective": "mean"}, "trajectory_objective is 'mean'"),
    ],
)
def test_settings_that_undo_weights_are_refused(setting: dict[str, Any], word: str) -> None:
    assert not undone_by(SETTINGS)

    (reason,) = undone_by({**SETTINGS, **setting})

    assert word in reason
