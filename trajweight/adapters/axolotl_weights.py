"""Plugin of axolotl: every trajectory counts by its ``weight`` column.

    plugins:
      - axolotl_weights.TrajectoryWeights
    datasets:
      - path: data/train.jsonl
        type: axolotl_weights.load  # the loader below, which keeps the column
    trajectory_objective: sequence-mean  # or token-weighted

Rows are those of ``type: chat_template`` with a float ``weight``; its options work here too. Let
w_i be the weight of row i, T_i the number of its tokens that are trained on, l_it their losses. The
loss of an optimiser step, over all its micro-batches and processes, is

- sequence-mean: sum_i w_i (1/T_i) sum_t l_it / n, n the number of rows
- token-weighted: sum_i w_i sum_t l_it / sum_i T_i

The divisors hold no weights, so that small steps do not blunt them. T_i is counted in each batch,
after truncation. Evaluation is not weighted. The folder of this file must be on PYTHONPATH. Written
for axolotl 0.19.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from pydantic import BaseModel
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

try:
    from axolotl.integrations.base import BasePlugin
except ModuleNotFoundError:  # the loss and the collator work under any Trainer
    BasePlugin = object

Objective = Literal["sequence-mean", "token-weighted"]
Row = dict[str, Any]

IGNORED = -100
WEIGHT = "weight"
#: Keys of a batch: the weight of each label, and what each sequence adds to the divisor.
LOSS_WEIGHTS, UNITS = "loss_weights", "loss_units"


class TrajectoryArguments(BaseModel):
    """What the plugin adds to the config."""

    trajectory_objective: Objective = "sequence-mean"


class TrajectoryWeights(BasePlugin):
    """Names the trainer, and makes the loader of this file known to axolotl."""

    def register(self, cfg: dict[str, Any]) -> None:
        """Refuse settings that would undo weights; called before the config is checked.

        Raises:
            ValueError: If there is one.
        """
        for reason in undone_by(cfg):
            raise ValueError(reason)
        # A type that ends in .load is looked for inside axolotl, whatever package it names.
        sys.modules[f"axolotl.prompt_strategies.{__name__}"] = sys.modules[__name__]

    def get_input_args(self) -> str:
        """Where the settings of this plugin are described."""
        return f"{__name__}.{TrajectoryArguments.__name__}"

    def get_trainer_cls(self, cfg: Any) -> type:
        """The trainer of axolotl with the weighted loss."""
        from axolotl.core.trainers.base import AxolotlTrainer

        objective = cfg.trajectory_objective or "sequence-mean"
        return type(
            "WeightedAxolotlTrainer", (WeightedLoss, AxolotlTrainer), {"objective": objective}
        )


def load(tokenizer: Any, cfg: Any, ds_cfg: Any = None, processor: Any = None) -> Any:
    """The strategy ``chat_template`` of axolotl for rows that have a weight."""
    from axolotl.prompt_strategies.chat_template import StrategyLoader

    class Loader(StrategyLoader):
        def _get_strategy_cls(self, cfg: Any) -> type:
            kind: type = super()._get_strategy_cls(cfg)
            return type(f"Weighted{kind.__name__}", (WeightedRows, kind), {})

    return Loader()(tokenizer, cfg, ds_cfg, processor=processor)


class WeightedRows:
    """Stands before a strategy and hands the weight of a row on with its tokens."""

    def _tokenize_single_prompt(self, prompt: Row) -> Row:
        weight = prompt.get(WEIGHT)
        if not isinstance(weight, float | int) or not 0 <= weight < float("inf"):
            message = f"a row has {WEIGHT} {weight!r}; it must be a finite number of zero or more"
            raise ValueError(message)
        made: Row = super()._tokenize_single_prompt(prompt)  # type: ignore[misc]
        return {**made, WEIGHT: float(weight)}


class WeightedCollator:
    """A collator that lays the weights of rows over the tokens of the batch.

    Adds ``loss_weights``, the weight of each label's loss; shape of the labels.

    Args:
        collate: The collator that batches rows without weights.
        objective: See the head of this file.
        pads_left: Whether that collator pads at the beginning.
    """

    def __init__(self, collate: Any, objective: Objective, *, pads_left: bool = False) -> None:
        self.collate, self.objective, self.pads_left = collate, objective, pads_left

    def __call__(self, rows: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        """Batch rows, or lists of rows that are packed into one sequence each."""
        packs = [pack if isinstance(pack, list) else [pack] for pack in rows]
        laid = [[w for row in pack for w in self._over_tokens(row)] for pack in packs]
        bare = [[_bare(row) for row in pack] for pack in packs]
        is_packed = bool(rows) and isinstance(rows[0], list)
        batch = self.collate(bare if is_packed else [pack[0] for pack in bare], *args, **kwargs)
        weights = torch.zeros(batch["labels"].shape)
        if is_packed and len(weights) != len(packs):
            message = f"{len(packs)} packs became {len(weights)} sequences; weights cannot be laid"
            raise ValueError(message)
        for sequence, values in zip(weights, laid, strict=True):
            start = len(sequence) - len(values) if self.pads_left else 0
            sequence[start : start + len(values)] = torch.tensor(values)
        batch[LOSS_WEIGHTS] = weights
        batch[UNITS] = torch.tensor([sum(map(self._units_of, pack)) for pack in packs])
        return batch

    def _units_of(self, row: Row) -> float:
        """What a row adds to the divisor: one, or its trained labels."""
        n_trained = sum(label != IGNORED for label in row["labels"][1:])
        return float(n_trained > 0 if self.objective == "sequence-mean" else n_trained)

    def _over_tokens(self, row: Row) -> list[float]:
        """The weight of each label of a row, zero where there is no loss.

        The first label has none: no token of the row stands before it.
        """
        if WEIGHT not in row:
            message = (
                f"a row has no {WEIGHT}. Name this loader in the config, type: {__name__}.load, "
                "and delete the folder of prepared data."
            )
            raise ValueError(message)
        trained = [place > 0 and label != IGNORED for place, label in enumerate(row["labels"])]
        weight = float(row[WEIGHT])
        if self.objective == "sequence-mean":
            weight /= max(sum(trained), 1)
        return [weight if is_trained else 0.0 for is_trained in trained]


class WeightedLoss:
    """Stands before a `transformers.Trainer`, or axolotl's, and weighs its loss."""

    objective: Objective = "sequence-mean"
    #: The divisor is summed over all micro-batches of a step; asked by newer transformers.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.compute_loss_func is not None or self.label_smoother is not None:
            message = "another loss is set (compute_loss_func or label smoothing); unset it"
            raise ValueError(message)
        pads_left = getattr(self.processing_class, "padding_side", "right") == "left"
        self.data_collator = WeightedCollator(
            self.data_collator, self.objective, pads_left=pads_left
        )
        #: The trainer leaves a loss as it is where this is set.
        self.compute_loss_func = weighted_loss
        stock = getattr(self, "eval_data_collator", None)
        if stock is not None:
            self.eval_data_collator = _Unweighted(stock)

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the weight when columns that the model does not take are removed."""
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if WEIGHT not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, WEIGHT]

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and the divisor of all their losses."""
        batches, divisor = super().get_batch_samples(*args, **kwargs)  # type: ignore[misc]
        if not batches:
            return batches, divisor
        units = torch.cat([batch[UNITS] for batch in batches]).sum().to(self.args.device)
        if self.args.world_size > 1:
            units = self.accelerator.gather(units).sum()
        return batches, units

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Row,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted loss while training, the trainer's own while evaluating."""
        weights, units = inputs.pop(LOSS_WEIGHTS, None), inputs.pop(UNITS, None)
        is_weighted = weights is not None and self.model.training
        self.compute_loss_func = (
            partial(weighted_loss, weights=weights, units=units) if is_weighted else None
        )
        try:
            return super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        finally:
            self.compute_loss_func = weighted_loss

    if TYPE_CHECKING:  # what the trainer has
        args: Any
        model: Any
        accelerator: Any
        data_collator: Any
        label_smoother: Any
        compute_loss_func: Any
        processing_class: Any
        _signature_columns: Any


def weighted_loss(
    outputs: Any,
    labels: Tensor,
    num_items_in_batch: Any = None,
    *,
    weights: Tensor,
    units: Tensor,
) -> Tensor:
    """The weighted sum of the losses of a micro-batch, over the units of the step.

    Args:
        outputs: Of the model, with logits. Shape (b, t, vocabulary).
        labels: Unshifted. Shape (b, t).
        num_items_in_batch: The divisor of the step; by default that of the batch.
        weights: Of the labels. Shape (b, t).
        units: What each sequence adds to the divisor. Shape (b,).

    Returns:
        A scalar.

    Raises:
        ValueError: If the model gives no logits.
    """
    logits = outputs["logits"]
    if logits is None:
        message = "the model gives no logits; switch fused and chunked cross-entropy losses off"
        raise ValueError(message)
    losses = nn.functional.cross_entropy(
        logits[..., :-1, :].flatten(0, -2).float(),
        labels[..., 1:].flatten().to(logits.device),
        ignore_index=IGNORED,
        reduction="none",
    )
    weights = weights[..., 1:].flatten().to(losses)
    divisor = (units.sum() if num_items_in_batch is None else num_items_in_batch).to(losses)
    return (losses * weights).sum() / divisor.clamp(min=torch.finfo(losses.dtype).tiny)


def undone_by(cfg: Any) -> list[str]:
    """Settings under which the loss would not be the weighted one."""
    objective = cfg.get("trajectory_objective")
    types = [dataset.get("type") for dataset in cfg.get("datasets") or ()]
    wanted = f"{__name__}.load"
    found = {
        f"trajectory_objective is {objective!r}; it can be {' or '.join(get_args(Objective))}": (
            objective not in (None, *get_args(Objective))
        ),
        f"a dataset has type {next((t for t in types if t != wanted), '')!r}, which drops weights. "
        f"Write type: {wanted}": any(kind != wanted for kind in types),
        "weights are for supervised fine-tuning; unset rl": bool(cfg.get("rl")),
        "streaming and pretraining data have no weights; unset streaming and pretraining_dataset": (
            bool(cfg.get("streaming") or cfg.get("pretraining_dataset"))
        ),
        "context_parallel_size cuts rows into parts, weights and all; set it to 1": (
            int(cfg.get("context_parallel_size") or 1) > 1
        ),
        "batch_flattening would join rows without their weights; unset it": (
            bool(cfg.get("batch_flattening"))
        ),
    }
    return [reason for reason, is_so in found.items() if is_so]


class _Unweighted:
    """A collator of rows whose weights are taken off first."""

    def __init__(self, collate: Any) -> None:
        self.collate = collate

    def __call__(self, rows: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        bare = [
            [_bare(part) for part in row] if isinstance(row, list) else _bare(row) for row in rows
        ]
        return self.collate(bare, *args, **kwargs)


def _bare(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != WEIGHT}
