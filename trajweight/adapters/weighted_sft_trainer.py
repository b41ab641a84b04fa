"""TRL's `SFTTrainer` with a loss that counts each row by its weight; see `weighted_trainer`.

    trainer = WeightedSFTTrainer(model=..., args=SFTConfig(...), train_dataset=rows)

``weight`` stands beside whatever columns TRL prepares (``messages``, ``prompt`` and so on).
``loss_weights`` need ``input_ids`` and ``labels`` to stand with. Packing puts several rows into
one, so that a scalar has nowhere to stand: it is refused, unless rows carry ``loss_weights``, which
are packed along.

The stock `compute_loss` does the work, metrics and all: it is shown a model whose log-probabilities
are weighted already, and the divisor. Copy `weighted_trainer` along.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from datasets import IterableDataset
from packaging.version import Version

# Before this version there was no fused head that gives log-probabilities token by token.
_OLDEST = "1.16.0"
try:
    from trl import SFTTrainer, pack_dataset
    from trl import __version__ as _found
except ImportError as error:
    _message = f"weighted_sft_trainer needs trl. Install it: pip install 'trl>={_OLDEST}'"
    raise ImportError(_message) from error
if Version(_found) < Version(_OLDEST):
    _message = (
        f"weighted_sft_trainer needs trl {_OLDEST} or later and found {_found}. Install it: "
        f"pip install 'trl>={_OLDEST}'; or use WeightedTrainer, which needs no trl."
    )
    raise ImportError(_message)

if TYPE_CHECKING or __package__:
    from trajweight.adapters.weighted_trainer import LOSS_WEIGHTS, Weighted, WeightedCollator, taken
else:  # copied beside a training script
    from weighted_trainer import LOSS_WEIGHTS, Weighted, WeightedCollator, taken

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_TOKENS = "input_ids"


class WeightedSFTTrainer(Weighted, SFTTrainer):
    """TRL's `SFTTrainer`, weighted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.args.loss_type != "nll":
            message = f"loss_type is {self.args.loss_type!r}; only 'nll' can be weighted"
            raise ValueError(message)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
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
        divisor = num_items_in_batch
        if weights is not None and units is not None and self.model.training:
            divisor = units.sum() if divisor is None else divisor
            # The stock loss divides by one at least; a smaller share is brought up to that.
            scale = divisor.clamp(min=torch.finfo(weights.dtype).tiny, max=1.0)
            model = _weighing(model, weights / scale)
            divisor = divisor / scale
        return super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=divisor
        )

    def _prepare_dataset(
        self,
        dataset: Any,
        processing_class: Any,
        args: Any,
        packing: bool,
        formatting_func: Any,
        dataset_name: str,
    ) -> Any:
        """Keep the weights of tokens with their tokens, where rows are cut or packed."""
        columns = dataset.column_names or list(next(iter(dataset)))
        if LOSS_WEIGHTS not in columns:
            if packing and dataset_name == "train":
                message = (
                    "packing would drop the weight of each row. Set packing=False (padding_free "
                    f"saves as much), or give rows {LOSS_WEIGHTS}, a weight a token."
                )
                raise ValueError(message)
            return super()._prepare_dataset(
                dataset, processing_class, args, packing, formatting_func, dataset_name
            )
        if missing := {_TOKENS, "labels"} - set(columns):
            message = (
                f"rows have {LOSS_WEIGHTS} but no {' and no '.join(sorted(missing))}; weights of "
                "tokens need the tokens they are for"
            )
            raise ValueError(message)
        options = (
            {} if isinstance(dataset, IterableDataset) else {"num_proc": args.dataset_num_proc}
        )
        cutting = copy.copy(args)
        if packing:
            cutting.max_length = None  # it cuts what is too long by itself
        prepared = super()._prepare_dataset(
            dataset, processing_class, cutting, False, None, dataset_name
        )
        if not packing:
            return prepared.map(_cut_weights, fn_kwargs={"mode": args.truncation_mode}, **options)
        if args.max_length is None:
            message = "max_length is None; packing needs the length to pack to"
            raise ValueError(message)
        kept = prepared.select_columns([_TOKENS, "labels", LOSS_WEIGHTS])
        return pack_dataset(kept, args.max_length, args.packing_strategy, options)

    def _reject_skip_prepare_without_labels(self, datasets: Any, data_collator: Any) -> None:
        """Show the stock check the stock collator."""
        if isinstance(data_collator, WeightedCollator):
            data_collator = data_collator.inner
        super()._reject_skip_prepare_without_labels(datasets, data_collator)


def _weighing(model: Any, weights: Tensor) -> Callable[..., Any]:
    """The model, with the log-probability of each label times its weight. Shape (b, t)."""

    def forward(**inputs: Any) -> Any:
        outputs = model(**inputs)
        if outputs.log_probs.shape != weights[..., 1:].shape:
            message = (
                f"the model scores {tuple(outputs.log_probs.shape)} positions and there are "
                f"weights for {tuple(weights[..., 1:].shape)}; prompt tuning cannot be weighted"
            )
            raise ValueError(message)
        outputs.log_probs = outputs.log_probs * weights[..., 1:]
        return outputs

    return forward


def _cut_weights(row: dict[str, Any], mode: str) -> dict[str, Any]:
    """Cut the weights of a row to its tokens, from the same end."""
    n, weights = len(row[_TOKENS]), row[LOSS_WEIGHTS]
    return {LOSS_WEIGHTS: weights[:n] if mode == "keep_start" else weights[len(weights) - n :]}
