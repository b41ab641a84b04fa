"""OpenRLHF's SFT program, with a weight for every trajectory, and with tools.

Takes the arguments of ``openrlhf.cli.train_sft`` and runs that program with another dataset class:

    deepspeed openrlhf_sft.py --data.dataset data/train.parquet ...

Rows have ``messages`` (arguments of tool calls as JSON text), ``tools`` (JSON text, or null) and
``weight`` (a float; where the column is missing or all null, rows count as in OpenRLHF itself).

OpenRLHF sums its loss mask times the token losses over an optimiser step, on all ranks and in all
micro-batches, and divides by the sum of the mask. So that the step is

    sum_i w_i (1/T_i) sum_t l_it / sum_i w_i

the mask of row i is w_i / T_i on its T_i trained tokens. With the environment variable
``TRAJWEIGHT_OBJECTIVE=token-weighted`` it is w_i, and long trajectories count more.
"""

from __future__ import annotations

import functools
import importlib
import json
import math
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import openrlhf.datasets
from openrlhf.datasets import SFTDataset

OBJECTIVES = ("sequence-mean", "token-weighted")


class WeightedSFTDataset(SFTDataset):
    """OpenRLHF's own dataset; only the mask is scaled, and tools reach the chat template."""

    apply_chat_template: Any

    def __init__(self, dataset: Any, *args: Any, **kwargs: Any) -> None:
        """Tokenise the rows.

        Raises:
            ValueError: If rows are not read as whole conversations, or the objective is not known.
        """
        if not kwargs.get("multiturn") or kwargs.get("pretrain_mode"):
            message = "pass --data.multiturn --data.apply_chat_template: a row is a conversation"
            raise ValueError(message)
        self.objective = os.environ.get("TRAJWEIGHT_OBJECTIVE", OBJECTIVES[0])
        if self.objective not in OBJECTIVES:
            message = f"TRAJWEIGHT_OBJECTIVE is {self.objective!r}; use one of {OBJECTIVES}"
            raise ValueError(message)
        self.is_weighted = "weight" in dataset.column_names and any(
            weight is not None for weight in dataset["weight"]
        )
        super().__init__(dataset, *args, **kwargs)
        # Of what process_data gives, this class keeps four columns through its filter; in
        # conversations it never reads the length of the prompt, so weights travel there.
        self.weights = list(self.prompt_ids_lens) if self.is_weighted else None

    def process_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """Text and places of the replies, as OpenRLHF makes them, with tools in the prompt.

        Raises:
            ValueError: If the weight of a row is no weight.
        """
        tools = data.get("tools")
        messages = [_plain(message) for message in data[self.input_key]]
        template = self.apply_chat_template
        self.apply_chat_template = functools.partial(
            template, tools=json.loads(tools) if tools else None
        )
        try:
            made: dict[str, Any] = super().process_data({**data, self.input_key: messages})
        finally:
            self.apply_chat_template = template
        replies = [message for message in messages if message["role"] == "assistant"]
        made["response_ranges"] = [
            place
            for place, reply in zip(made["response_ranges"], replies, strict=True)
            if reply.get("train") is not False
        ]
        if self.is_weighted:
            made["prompt_ids_len"] = _weight(data["weight"])
        return made

    def get_loss_mask(self, input_ids: Any, idx: int) -> Any:
        """The mask of OpenRLHF, scaled."""
        mask = super().get_loss_mask(input_ids, idx)
        if self.weights is None:
            return mask
        # The last place predicts nothing. In OpenRLHF it is in the mask of a conversation, and in
        # a batch with a longer row it would learn to predict padding.
        mask[:, -1] = 0.0
        trained = mask.sum().clamp(min=1.0) if self.objective == OBJECTIVES[0] else 1.0
        return mask * self.weights[idx] / trained


def _weight(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        message = f"a row has the weight {value!r}; it must be a number from 0 up"
        raise ValueError(message)
    return float(value)


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


def main() -> None:
    """Run OpenRLHF's own program, which takes the class of its rows from here."""
    # The processes that tokenise must find the class in a module, and not in this program.
    own = Path(__file__).resolve()
    sys.path.insert(0, str(own.parent))
    openrlhf.datasets.SFTDataset = importlib.import_module(own.stem).WeightedSFTDataset
    try:
        runpy.run_module("openrlhf.cli.train_sft", run_name="__main__")
    finally:
        openrlhf.datasets.SFTDataset = SFTDataset


if __name__ == "__main__":
    main()
