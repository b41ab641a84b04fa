"""A dataset of NeMo-RL's SFT with a weight for every trajectory.

Named in the config as ``data.train.dataset_name: nemo_rl_sft.WeightedDataset``; this file must be
importable, so that ``PYTHONPATH`` holds its folder. Rows are JSON lines as NeMo-RL's
``openai_format`` reads them (``messages``, ``tools``), and a float ``weight``.

NeMo-RL masks each row by its ``loss_multiplier``, sums the losses over the global batch, and
divides by the sum of the mask. So that the step is

    sum_i w_i (1/T_i) sum_t l_it / sum_i w_i

the multiplier of row i is w_i / T_i, with T_i its trained tokens. With ``data.train.
weight_objective: token-weighted`` it is w_i, and long trajectories count more. A row that NeMo-RL
leaves out for its length has the multiplier 0, and keeps it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from nemo_rl.data.datasets.response_datasets.oai_format_dataset import OpenAIFormatDataset
from nemo_rl.data.processors import sft_processor

OBJECTIVES = ("sequence-mean", "token-weighted")
#: What NeMo-RL trains on is the role ``assistant``; replies that are not trained on get another.
TRAINED, UNTRAINED = "assistant", "untrained"


class WeightedDataset(OpenAIFormatDataset):
    """NeMo-RL's own dataset of conversations, which keeps the weight of a row."""

    def __init__(
        self, data_path: str, weight_objective: str = OBJECTIVES[0], **kwargs: Any
    ) -> None:
        """Read the rows as they stand.

        Raises:
            ValueError: If the objective is not known, or the weight of a row is no weight.
        """
        if weight_objective not in OBJECTIVES:
            message = f"weight_objective is {weight_objective!r}; use one of {OBJECTIVES}"
            raise ValueError(message)
        self.objective = weight_objective
        # The other way of reading fills in nulls where tool calls have different arguments.
        super().__init__(data_path, **{**kwargs, "use_preserving_dataset": True})

    def format_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """The row as NeMo-RL keeps it, and its weight; one where the row has none."""
        weight = data.get("weight")
        if weight is None:
            return {**super().format_data(data), "weight": None}
        if not isinstance(weight, int | float) or not 0 <= weight < math.inf:
            message = f"a row has the weight {weight!r}; it must be a number from 0 up"
            raise ValueError(message)
        return {**super().format_data(data), "weight": float(weight)}

    def set_processor(self) -> None:
        """Take our processor, whatever the config names."""
        self.processor = functools.partial(weighted_processor, objective=self.objective)


def weighted_processor(
    datum_dict: dict[str, Any], *args: Any, objective: str = OBJECTIVES[0], **kwargs: Any
) -> Any:
    """A row in tokens as NeMo-RL makes it, its multiplier scaled."""
    made = sft_processor(datum_dict, *args, **kwargs)
    messages = made["message_log"]
    for message, said in zip(messages, datum_dict["messages"], strict=True):
        if said.get("train") is False:
            message["role"] = UNTRAINED
    weight = datum_dict["weight"]
    if weight is None:
        return made
    trained = sum(len(each["token_ids"]) for each in messages if each["role"] == TRAINED)
    if messages[0]["role"] == TRAINED:
        trained -= 1  # nothing predicts a first token
    divisor = max(1, trained) if objective == OBJECTIVES[0] else 1
    return {**made, "loss_multiplier": made["loss_multiplier"] * weight / divisor}
