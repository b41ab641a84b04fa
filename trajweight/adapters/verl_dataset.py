"""The dataset of verl's SFT trainer, with a weight for every trajectory.

Named in the config as ``data.custom_cls``. It reads Parquet files with the columns

- ``messages``: as the OpenAI API writes them; arguments of tool calls are JSON text,
- ``tools``: JSON text, or null,
- ``weight``: a float; where the column is missing or all null, rows count as in verl itself.

verl sums ``loss_mask`` times the token losses over the whole batch, on all ranks and in all
micro-batches, and divides by the sum of ``loss_mask``. So that the step is

    sum_i w_i (1/T_i) sum_t l_it / sum_i w_i

the mask of row i is w_i / T_i on its T_i trained tokens. With ``data.weight_objective:
token-weighted`` it is w_i, and long trajectories count more.
"""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset

OBJECTIVES = ("sequence-mean", "token-weighted")


class WeightedSFTDataset(MultiTurnSFTDataset):
    """verl's own dataset; only the mask is scaled, and JSON text is decoded."""

    tools: Any

    def __init__(
        self, parquet_files: Any, tokenizer: Any, config: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Read the files.

        Raises:
            ValueError: If the objective is not known, or a mode of verl would drop the weights.
        """
        self.objective = config.get("weight_objective", OBJECTIVES[0])
        if self.objective not in OBJECTIVES:
            message = f"data.weight_objective is {self.objective!r}; use one of {OBJECTIVES}"
            raise ValueError(message)
        super().__init__(parquet_files, tokenizer, config, *args, **kwargs)
        if self.weights is not None and self.pad_mode != "no_padding":
            message = (
                f"data.pad_mode is {self.pad_mode!r}: verl turns its mask into true and false, so "
                "weights would be lost; use no_padding"
            )
            raise ValueError(message)

    def _read_files_and_process(self) -> None:
        super()._read_files_and_process()
        self.weights = self._weights()
        if self.tools is not None:
            self.tools = [
                json.loads(text) if isinstance(text, str) else None for text in self.tools
            ]

    def _weights(self) -> list[float] | None:
        """Weights by row; None if there are none.

        Raises:
            ValueError: If some are missing, or one is no weight.
        """
        if "weight" not in self.dataframe.columns or self.dataframe["weight"].isna().all():
            return None
        found = [math.nan if missing else float(value) for value, missing in self._pairs()]
        for row, weight in enumerate(found):
            if not 0 <= weight < math.inf:
                message = f"row {row} has the weight {weight}; it must be a number from 0 up"
                raise ValueError(message)
        return found

    def _pairs(self) -> zip[tuple[Any, bool]]:
        column = self.dataframe["weight"]
        return zip(column.tolist(), column.isna().tolist(), strict=True)

    def _build_messages(self, example: dict[str, Any]) -> list[dict[str, Any]]:
        return [_plain(message) for message in super()._build_messages(example)]

    def _process_single_message(
        self, index: int, message: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Any, ...]:
        ids, mask, *rest = super()._process_single_message(index, message, *args, **kwargs)
        if message.get("train") is False:
            mask = torch.zeros_like(mask)
        return ids, mask, *rest

    def __getitem__(self, item: int) -> dict[str, Any]:
        """The row as verl makes it, its mask scaled."""
        row: dict[str, Any] = super().__getitem__(item)
        if self.weights is None:
            return row
        # The mask is of integers, in which a weight below one would become zero.
        mask = row["loss_mask"].to(torch.float32)
        # Nothing predicts a first token; verl would pair it with the end of the row before.
        mask[0] = 0.0
        divisor = mask.sum().clamp(min=1.0) if self.objective == OBJECTIVES[0] else 1.0
        row["loss_mask"] = mask * self.weights[item] / divisor
        return row


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """The message without the keys that only other rows have, arguments as objects.

    Templates print arguments with ``tojson``, which would quote a text once more.
    """
    kept = {key: value for key, value in message.items() if value is not None}
    if calls := kept.get("tool_calls"):
        kept["tool_calls"] = [
            {**call, "function": {**call["function"], "arguments": _arguments(call)}}
            for call in calls
        ]
    return kept


def _arguments(call: dict[str, Any]) -> Any:
    text = call["function"]["arguments"]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, dict) else text
