"""Rows in tokens, each token with its weight: for loops of one's own, whatever their loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyarrow as pa

from trajweight.chat_format import probe
from trajweight.encoded import Encoded
from trajweight.formats import UnusableError
from trajweight.table import trajectory_of
from trajweight.tokenization import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from trajweight.trainers import Example, Row

#: What no loss is computed on, in all of torch.
IGNORED: Final = -100
SCHEMA: Final = pa.schema(
    [
        ("traj_id", pa.string()),
        ("weight", pa.float64()),
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("loss_weights", pa.list_(pa.float32())),
    ]
)


def tokenizing(
    tokenizer: PreTrainedTokenizerBase, max_tokens: int, mean_tokens: float
) -> Callable[[Example], Row]:
    """A function that gives a trajectory in tokens: a row of `SCHEMA`.

    ``loss_weights`` is w_i mean(T) / T_i on each trained token and 0 elsewhere, T_i the trained
    tokens of the row as it stands here: their weighted sum is a sequence-mean loss. They stand
    with the labels, unshifted.

    Args:
        tokenizer: With a chat template.
        max_tokens: Longest row; longer ones lose whole turns.
        mean_tokens: Mean of T, which keeps the steps as long as without weights.
    """
    chat_format = probe(tokenizer)

    def tokenized(example: Example) -> Row:
        trajectory = trajectory_of(example.row)
        found = encode(trajectory, tokenizer, max_tokens=max_tokens, chat_format=chat_format)
        if not isinstance(found, Encoded):
            raise UnusableError(found.reason)
        mask = found.assistant_mask
        per_token = example.weight * mean_tokens / sum(mask)
        pairs = list(zip(found.input_ids, mask, strict=True))
        return {
            "traj_id": example.row["traj_id"],
            "weight": example.weight,
            "input_ids": found.input_ids,
            "labels": [token if is_trained else IGNORED for token, is_trained in pairs],
            "loss_weights": [per_token if is_trained else 0.0 for is_trained in mask],
        }

    return tokenized
