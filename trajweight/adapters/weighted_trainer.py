"""A `transformers.Trainer` whose loss counts each row by its weight, and what it is made of.

    trainer = WeightedTrainer(
        model=model, args=TrainingArguments(...), train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )

A row is ``input_ids``, ``labels`` (-100 where no loss is taken) and one of

- ``weight``: one number. With w_i the weight of a row, T_i the labels of it that are trained on and
  l_it their losses, an optimiser step minimises one of two objectives:

      sequence-mean:   sum_i w_i (1/T_i) sum_t l_it / n,  n the number of rows
      token-weighted:  sum_i w_i sum_t l_it / sum_i T_i

- ``loss_weights``: one number a token, standing with its label, used as it is:
  sum_it a_it l_it / sum_i T_i. A row may carry both; ``weight`` is then only told.

All sums run over the whole optimiser step: every micro-batch that is accumulated and every process.
The divisors hold no weights, so that the mean over steps is the objective over the data whatever
their size; weights shall have a mean of one. Optimisers that divide a gradient by its own size, as
Adam does, see little of what all rows of a step have in common: take steps of many rows. With
weights of one, token-weighted is the stock loss to the last bit. Evaluation is never weighted, and
its rows need no weights.

This file needs torch and transformers alone, and may be copied beside a training script.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
import transformers
from packaging.version import Version
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler
from transformers import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Row = dict[str, Any]
Objective = Literal["sequence-mean", "token-weighted"]

#: Columns of a row, and keys of a batch: the weights of its rows and of its tokens.
WEIGHT, LOSS_WEIGHTS = "weight", "loss_weights"
#: A key of a batch: what each row adds to the divisor of the loss, one or its trained labels.
UNITS = "loss_units"
_OURS = frozenset({WEIGHT, LOSS_WEIGHTS, UNITS})
IGNORED = -100

# Before this version no trainer can say that its loss is scaled for accumulation by itself.
_OLDEST = "5.19.0"
if Version(transformers.__version__) < Version(_OLDEST):
    _message = (
        f"weighted_trainer needs transformers {_OLDEST} or later and found "
        f"{transformers.__version__}. Install it: pip install 'transformers>={_OLDEST}'"
    )
    raise ImportError(_message)

_log = logging.getLogger(__name__)


@dataclass
class WeightedCollator:
    """Collates rows by another collator, and lays their weights over the labels.

    The other collator never sees the weights. It may pad on either side, or put all rows into one
    (padding-free) as long as it keeps their tokens and their order. Labels are read from what it
    gives, so that T_i counts what will be trained on.

    Attributes:
        inner: Makes a batch with ``input_ids`` and ``labels`` of rows.
        objective: What ``weight`` means; ``loss_weights`` are used as they are.
    """

    inner: Callable[[list[Row]], Any]
    objective: Objective = "sequence-mean"

    def __call__(self, rows: list[Row]) -> Any:
        """The batch, with three more keys where the rows have weights.

        ``loss_weights`` are of the shape of the labels, zero where nothing is trained on.
        ``weight`` has one entry a row: its weight, or the mean of its tokens' weights where that is
        all it has, and zero where nothing of it is trained on. ``loss_units`` has one entry a row
        too: what it adds to the divisor. Shapes (rows,).

        Raises:
            ValueError: If some rows have a weight and others have none, a weight is no number of
                zero or more, or the batch does not hold the tokens of the rows.
        """
        batch = self.inner([_without_weights(row) for row in rows])
        by_token = _of_all(rows, LOSS_WEIGHTS)
        by_row = _of_all(rows, WEIGHT)
        if by_token is None and by_row is None:
            return batch
        labels = batch["labels"]
        owner = _owners(rows, batch)  # as labels
        trained = (labels != IGNORED) & (owner >= 0)
        trained[..., 0] = False  # nothing stands before the first token that could foretell it
        counts = torch.bincount(owner[trained], minlength=len(rows))  # T_i: (rows,)
        laid = torch.zeros(labels.shape)
        weights = torch.zeros(len(rows)) if by_row is None else _numbers(by_row, WEIGHT)
        units = counts.float()
        if by_token is None:
            per_token = weights
            if self.objective == "sequence-mean":
                per_token, units = weights / counts, (counts > 0).float()
            laid[trained] = per_token[owner[trained]]
        else:
            laid[owner >= 0] = _numbers([a for part in by_token for a in part], LOSS_WEIGHTS)
            laid *= trained
            if by_row is None:
                sums = weights.index_add(0, owner[trained], laid[trained])
                weights = sums / counts.clamp(min=1)
        batch[LOSS_WEIGHTS] = laid
        batch[WEIGHT] = weights * (counts > 0)
        batch[UNITS] = units
        return batch


class Weighted:
    """Stands before a trainer's class and gives it all of weighting but the loss itself.

    Args:
        *args: Of the trainer.
        objective: What a row's ``weight`` means.
        **kwargs: Of the trainer.

    Raises:
        ValueError: If a setting would undo the weights.
    """

    #: The divisor is summed over all accumulated micro-batches.
    loss_is_scaled_for_ga: bool | None = True

    def __init__(self, *args: Any, objective: Objective = "sequence-mean", **kwargs: Any) -> None:
        if objective not in get_args(Objective):
            message = f"objective is {objective!r}; it can be {' or '.join(get_args(Objective))}"
            raise ValueError(message)
        super().__init__(*args, **kwargs)
        for reason in _undone_by(self):
            raise ValueError(reason)
        self.data_collator = WeightedCollator(self.data_collator, objective)
        self._told: list[Tensor] = []

    def _set_signature_columns_if_needed(self) -> None:
        """Keep the weights when columns that the model does not take are removed."""
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        columns: list[str] = self._signature_columns
        columns += [name for name in (WEIGHT, LOSS_WEIGHTS) if name not in columns]

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The micro-batches of a step, and the divisor of all their losses.

        Raises:
            ValueError: If rows have no weights.
        """
        batches, divisor = super().get_batch_samples(  # type: ignore[misc]
            epoch_iterator, num_batches, device
        )
        if not batches:
            return batches, divisor
        for batch in batches:
            if LOSS_WEIGHTS not in batch:
                message = (
                    f"rows to train on have neither {WEIGHT} nor {LOSS_WEIGHTS}; the batch has "
                    f"{', '.join(batch)}. Keep the column in every step that prepares the data."
                )
                raise ValueError(message)
        weights = torch.cat([batch[WEIGHT] for batch in batches])
        units = torch.cat([batch[UNITS] for batch in batches]).sum()
        count = units.new_tensor(len(weights))
        sums = torch.stack([units, count, weights.sum(), weights.square().sum()]).to(device)
        if self.args.world_size > 1:
            sums = self.accelerator.gather(sums).view(-1, len(sums)).sum(0)
        self._told.append(sums[1:])
        return batches, sums[0] / self.get_tp_size()  # processes that share a batch count once

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tell the mean weight and ESS/n of the steps' rows, averaged since the last time."""
        if "loss" in logs and self._told:
            count, total, squares = torch.stack(self._told).double().cpu().unbind(1)
            ess = total.square() / (count * squares).clamp(min=torch.finfo(squares.dtype).tiny)
            logs["weight/mean"] = float((total / count).mean())
            logs["weight/ess_fraction"] = float(ess.mean())
            self._told.clear()
        super().log(logs, start_time)  # type: ignore[misc]

    if TYPE_CHECKING:  # what the trainer has
        args: Any
        model: Any
        accelerator: Any
        data_collator: Any
        label_smoother: Any
        compute_loss_func: Any
        _signature_columns: Any

        def get_tp_size(self) -> int:
            """How many processes work on the same rows."""


class WeightedTrainer(Weighted, Trainer):
    """A `transformers.Trainer` for causal language models; see the head of this file."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model.config.get_text_config(), "output_router_logits", False):
            message = (
                "the model adds a loss of its router, which this trainer does not. Set "
                "model.config.output_router_logits = False, or use WeightedSFTTrainer."
            )
            raise ValueError(message)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Row,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The weighted loss while training, the stock one while evaluating.

        Args:
            model: As wrapped for training.
            inputs: A batch.
            return_outputs: Whether to return the outputs too.
            num_items_in_batch: The divisor of the whole step; by default that of the batch.
        """
        weights, units, inputs = taken(inputs)
        is_weighted = weights is not None and self.model.training
        if not is_weighted or (self.model_accepts_loss_kwargs and _is_unit(weights, inputs)):
            # The stock loss sums in another order, and here it is the same number.
            return super().compute_loss(
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        assert weights is not None
        assert units is not None
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        losses = token_losses(outputs["logits"], labels)
        divisor = units.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (losses * weights[..., 1:]).sum() / divisor.clamp(min=torch.finfo(losses.dtype).tiny)
        if num_items_in_batch is not None:
            # the divisor counts all processes, over which the gradient is then averaged
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())
        return (loss, outputs) if return_outputs else loss


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of each label but the first of a row, zero where it is ignored: (b, t - 1).

    Args:
        logits: Shape (b, t, vocabulary).
        labels: Unshifted. Shape (b, t).

    Raises:
        ValueError: If there are other positions in the logits than in the labels.
    """
    if logits.shape[:-1] != labels.shape:
        message = (
            f"the model gives logits for {tuple(logits.shape[:-1])} positions and the labels have "
            f"{tuple(labels.shape)}; prompt and prefix tuning cannot be weighted"
        )
        raise ValueError(message)
    found = nn.functional.cross_entropy(
        logits[..., :-1, :].flatten(0, -2).float(),
        labels[..., 1:].flatten().to(logits.device),
        ignore_index=IGNORED,
        reduction="none",
    )
    return found.view_as(labels[..., 1:])


def taken(inputs: Row) -> tuple[Tensor | None, Tensor | None, Row]:
    """The token weights of a batch, what its rows add to the divisor, and the rest of it."""
    return inputs.get(LOSS_WEIGHTS), inputs.get(UNITS), _without_weights(inputs)


# --- samplers ------------------------------------------------------------------------------------


class Exposure(NamedTuple):
    """What drawing rows with replacement shows of them.

    Attributes:
        draws: Rows drawn.
        distinct: How many different rows are expected among them.
        most: How often the heaviest row is expected.
    """

    draws: int
    distinct: float
    most: float


def exposure(weights: Sequence[float], draws: int | None = None) -> Exposure:
    """What ``draws`` draws by weight show of the rows; by default as many draws as rows."""
    shares = _numbers(weights, WEIGHT).double()
    shares = shares / shares.sum()
    n = len(shares) if draws is None else draws
    distinct = -torch.expm1(n * torch.log1p(-shares))  # 1 - (1 - p)^n
    return Exposure(n, float(distinct.sum()), n * float(shares.max()))


def weighted_sampler(
    weights: Sequence[float], *, seed: int, draws: int | None = None
) -> WeightedRandomSampler:
    """A sampler that draws rows by weight, with replacement, for trainers that know no weights.

    Override ``_get_train_sampler`` of a `Trainer` to return it. The same seed draws the same rows,
    in every process too. What an epoch will show is logged, see `exposure`.

    Args:
        weights: Of the rows, in their order.
        seed: Of the draws.
        draws: Rows an epoch; by default as many as there are.

    Raises:
        ValueError: If a weight is no number of zero or more, or all are zero.
    """
    checked = _numbers(weights, WEIGHT).double()
    if not checked.sum() > 0:
        message = f"all of {len(checked)} weights are zero, so there is nothing to draw"
        raise ValueError(message)
    shown = exposure(weights, draws)
    _log.info(
        "%d draws an epoch: about %.0f of %d rows are seen, the heaviest %.1f times",
        *(shown.draws, shown.distinct, len(checked), shown.most),
    )
    generator = torch.Generator().manual_seed(seed)
    return WeightedRandomSampler(checked.tolist(), shown.draws, generator=generator)


# --- parts ---------------------------------------------------------------------------------------


def _undone_by(trainer: Weighted) -> list[str]:
    """Settings of a trainer under which its loss would not be the weighted one."""
    args, parallel = trainer.args, trainer.accelerator.parallelism_config
    is_cut = parallel is not None and (parallel.cp_enabled or parallel.sp_enabled)
    found = {
        "label_smoothing_factor is set; a weighted loss has none. Set it to 0.": (
            trainer.label_smoother is not None
        ),
        "compute_loss_func is set, and would never be asked. Leave it out.": (
            trainer.compute_loss_func is not None
        ),
        "several GPUs are visible to one process, which would train by DataParallel. Launch with "
        "torchrun or accelerate, or show one GPU with CUDA_VISIBLE_DEVICES.": args.n_gpu > 1,
        "context or sequence parallelism cuts rows into parts, weights and all. Switch it off.": (
            is_cut
        ),
        "average_tokens_across_devices is off, so that each process would have a divisor of its "
        "own. Set it to True.": args.world_size > 1 and not args.average_tokens_across_devices,
    }
    return [reason for reason, is_so in found.items() if is_so]


def _without_weights(row: Row) -> Row:
    return {key: value for key, value in row.items() if key not in _OURS}


def _of_all(rows: list[Row], name: str) -> list[Any] | None:
    """A column of all rows; None where no row has it."""
    found = [row.get(name) for row in rows]
    missing = sum(value is None for value in found)
    if missing == len(rows):
        return None
    if missing:
        message = f"{missing} of {len(rows)} rows of a batch have no {name}, the others have one"
        raise ValueError(message)
    return found


def _numbers(values: Sequence[float], name: str) -> Tensor:
    """Weights as a tensor: (n,)."""
    made = torch.as_tensor(values, dtype=torch.float32)
    if not bool((made.isfinite() & (made >= 0)).all()):
        wrong = next(value for value in made.tolist() if not 0 <= value < float("inf"))
        message = f"a {name} is {wrong}; weights are finite, and zero or more"
        raise ValueError(message)
    return made


def _owners(rows: list[Row], batch: Any) -> Tensor:
    """Which row each token of a batch is of, -1 for padding: of the shape of the labels."""
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    owners = torch.repeat_interleave(torch.arange(len(rows)), lengths)
    found = torch.full(batch["labels"].shape, -1)
    if "attention_mask" in batch:
        place = batch["attention_mask"].bool()
    else:  # rows stand one behind the other, padding at the end
        place = torch.zeros(found.shape, dtype=torch.bool)
        place.view(-1)[: len(owners)] = True
    if int(place.sum()) != len(owners):
        message = (
            f"the collator made {int(place.sum())} tokens of rows that have {len(owners)}, so that "
            "weights cannot be laid over them"
        )
        raise ValueError(message)
    found[place] = owners
    return found


def _is_unit(weights: Tensor | None, inputs: Row) -> bool:
    """Whether every token that is trained on has the weight one."""
    if weights is None:
        return False
    trained = inputs["labels"][..., 1:] != IGNORED
    return torch.equal(weights[..., 1:], trained.to(weights.dtype))
