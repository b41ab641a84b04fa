"""NeMo Automodel's fine-tuning recipe, with a weight for every trajectory.

The config names ``recipe: nemo_automodel_sft.WeightedRecipe``. Run in place of Automodel's own
program, with the same flags, so that several processes find it:

    torchrun --standalone --nproc-per-node 1 nemo_automodel_sft.py --config automodel_sft.yaml

The dataset of the config is ``nemo_automodel_sft.py:WeightedChatDataset``: rows as Automodel's
``ChatDataset`` reads them, and a float ``weight``. Automodel multiplies token losses by
``loss_weights`` (it has them for mixtures of domains), sums them over the step, and divides by the
number N of its trained tokens, whatever they weigh. So that the step over n rows is

    (1/n) sum_i w_i (1/T_i) sum_t l_it

``loss_weights`` of row i is w_i N / (n T_i) on its T_i trained tokens. With ``weight_objective:
token-weighted`` in the config it is w_i, and long trajectories count more. Weights have mean one,
so that the step is as long as an unweighted one. Validation is unweighted.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from nemo_automodel.components.config._arg_parser import parse_args_and_load_config
from nemo_automodel.components.datasets.llm.chat_dataset import ChatDataset
from nemo_automodel.recipes.llm.train_ft import (
    TrainFinetuneRecipeForNextTokenPrediction,
    _supports_loss_weights,
)

OBJECTIVES = ("sequence-mean", "token-weighted")
IGNORED = -100


class WeightedChatDataset(ChatDataset):
    """Automodel's own dataset, each row with its weight."""

    def __init__(self, path_or_dataset_id: Any, tokenizer: Any, **kwargs: Any) -> None:
        """Read the rows; the tokenizer is named, since Automodel looks for it in the signature."""
        super().__init__(path_or_dataset_id, tokenizer, **kwargs)

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """The row as Automodel makes it, and its weight, which the collator stacks.

        Raises:
            ValueError: If the weight of a row is no weight.
        """
        sample: dict[str, Any] = super().__getitem__(idx)
        weight = self.dataset[idx].get("weight")
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            message = f"row {idx} has the weight {weight!r}; it must be a number from 0 up"
            raise ValueError(message)
        return {**sample, "weight": float(weight)}


class WeightedRecipe(TrainFinetuneRecipeForNextTokenPrediction):
    """Automodel's own recipe; only the loss is given its ``loss_weights``."""

    def setup(self) -> None:
        """Build all that Automodel builds, and see that weights can act in it.

        Raises:
            ValueError: If they cannot.
        """
        super().setup()
        self._rows = 0
        self._weights: torch.Tensor | None = None
        self._objective = self.cfg.get("weight_objective", OBJECTIVES[0])
        if self._objective not in OBJECTIVES:
            message = f"weight_objective is {self._objective!r}; use one of {OBJECTIVES}"
            raise ValueError(message)
        unable = {
            "pipeline parallelism": self.pp_enabled,
            "context parallelism": self._get_cp_group_size() > 1,
            "packed sequences": self.cfg.get("packed_sequence.packed_sequence_size", 0) > 0,
            f"loss_fn {type(self.loss_fn).__name__}": not _supports_loss_weights(self.loss_fn)
            or getattr(self.loss_fn, "reduction", None) != "sum",
        }
        if wrong := [name for name, is_on in unable.items() if is_on]:
            message = f"weights do not pass through {', '.join(wrong)}; change the config"
            raise ValueError(message)
        self.loss_fn.register_forward_pre_hook(self._give_weights, with_kwargs=True)

    def _run_train_optim_step(self, batches: list[Any], *args: Any, **kwargs: Any) -> Any:
        rows = sum(batch["labels"].shape[0] for batch in batches)
        self._rows = int(self._dp_allreduce(torch.tensor(rows, dtype=torch.long)).item())
        return super()._run_train_optim_step(batches, *args, **kwargs)

    def _forward_backward_step(
        self, idx: int, batch: dict[str, Any], *, num_label_tokens: Any, **kwargs: Any
    ) -> Any:
        weight = batch.pop("weight", None)
        if kwargs.get("is_train", True):
            if weight is None:
                message = (
                    "a batch has no weights; let dataset._target_ be "
                    "nemo_automodel_sft.py:WeightedChatDataset"
                )
                raise ValueError(message)
            self._weights = self._of_tokens(weight, batch["labels"], num_label_tokens)
        try:
            return super()._forward_backward_step(
                idx, batch, num_label_tokens=num_label_tokens, **kwargs
            )
        finally:
            self._weights = None

    def _of_tokens(self, weight: Any, labels: Any, n_tokens: int) -> torch.Tensor:
        """A weight for each token, of the shape of the labels (b, t)."""
        trained = (labels != IGNORED).sum(dim=1)  # (b,)
        each = weight.to(torch.float64)
        if self._objective == OBJECTIVES[0]:
            each = each * (n_tokens / self._rows) / trained.clamp(min=1)
        weights: torch.Tensor = each.to(torch.float32)[:, None].expand(labels.shape)
        return weights

    def _give_weights(self, _: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if self._weights is None:
            return None
        return args, {**kwargs, "loss_weights": self._weights}


def main() -> None:
    """Train as Automodel does."""
    recipe = WeightedRecipe(parse_args_and_load_config("automodel_sft.yaml"))
    recipe.setup()
    recipe.run_train_validation_loop()


if __name__ == "__main__":
    main()
