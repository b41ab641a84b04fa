"""A LoRA adapter trained on some chats for as long as a block runs; the base is left untouched."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

import torch

from trajweight.adamw import adamw_step
from trajweight.backbone import ADAPTER, Backbone
from trajweight.config import RetrainConfig
from trajweight.encoded import Encoded
from trajweight.errors import DataError
from trajweight.losses import OutputLayer, TrajectoryLosses
from trajweight.retraining import rate_at
from trajweight.tokenization import encode_all
from trajweight.trajectory import Trajectory, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel

    from trajweight.models import LoadedModel
    from trajweight.progress import Progress


@dataclass(frozen=True, slots=True)
class FineTuning:
    """How the adapter is trained.

    Attributes:
        rank: Of the adapter, which is on every linear of every layer.
        epochs: Passes over the chats.
        batch_size: Chats of a step.
        learning_rate: Of AdamW, at its highest.
        max_tokens: Longest chat; a longer one loses whole turns.
        seed: Of the adapter and of the order.
    """

    rank: int = 16
    epochs: float = 2.0
    batch_size: int = 4
    learning_rate: float = 5e-3
    max_tokens: int = 2048
    seed: int = 0


@contextmanager
def fine_tuned(
    loaded: LoadedModel,
    chats: Sequence[Sequence[dict[str, str]]],
    settings: FineTuning,
    progress: Progress,
) -> Iterator[PreTrainedModel]:
    """The model with an adapter that has learned what the assistant says in these chats.

    Args:
        loaded: Has no adapter; after the block it is as it was.
        chats: Messages with role and content; all count alike.
        settings: How to train.
        progress: Told of every step.

    Raises:
        DataError: If a chat cannot be learned from.
    """
    encoded = _encoded(loaded, chats, settings, progress)
    model = loaded.model
    was_trainable = [parameter.requires_grad for parameter in model.parameters()]
    parameters = list(model.parameters())
    backbone = Backbone(model, depth=0)
    linears = backbone.add_adapter(
        rank=settings.rank, alpha=2.0 * settings.rank, seed=settings.seed
    )
    losses = TrajectoryLosses(
        backbone,
        encoded,
        None,
        output=OutputLayer(backbone),
        pad_id=int(loaded.tokenizer.pad_token_id),
        forest_tokens=0,
        adapter=ADAPTER,
    )
    try:
        _train(losses, [linear.weight for linear in linears], len(encoded), settings, progress)
        yield model
    finally:
        if backbone.adapted is not None:
            backbone.adapted.unload()
        for parameter, flag in zip(parameters, was_trainable, strict=True):
            parameter.requires_grad_(flag)


def _encoded(
    loaded: LoadedModel,
    chats: Sequence[Sequence[dict[str, str]]],
    settings: FineTuning,
    progress: Progress,
) -> list[Encoded]:
    trajectories = [
        Trajectory(
            f"chat {number}",
            tuple(Turn(message["role"], message["content"]) for message in chat),  # type: ignore[arg-type]
        )
        for number, chat in enumerate(chats, 1)
    ]
    encoding = encode_all(
        trajectories, loaded.tokenizer, max_tokens=settings.max_tokens, progress=progress
    )
    rows = []
    for trajectory, row in zip(trajectories, encoding.rows, strict=True):
        if not isinstance(row, Encoded):
            message = f"{trajectory.traj_id} cannot be learned from: {row.reason}"
            raise DataError(message, hint="Leave it out, or raise max_tokens.")
        rows.append(row)
    return rows


def _train(
    losses: TrajectoryLosses,
    parameters: list[torch.Tensor],
    n: int,
    settings: FineTuning,
    progress: Progress,
) -> None:
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    rate = RetrainConfig(learning_rate=settings.learning_rate)
    steps = max(1, math.ceil(settings.epochs * n / settings.batch_size))
    order = _orders(n, Random(settings.seed))
    progress.start("fine-tuning", steps)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps, rate)
        rows = [next(order) for _ in range(min(n, settings.batch_size))]
        optimizer.zero_grad()
        loss = losses.accumulate(rows, torch.full((len(rows),), 1 / len(rows)))
        adamw_step(optimizer, 1.0)
        progress.advance(loss=float(loss.mean()))
    progress.finish()


def _orders(n: int, rng: Random) -> Iterator[int]:
    """All rows in a random order, again and again."""
    while True:
        yield from rng.sample(range(n), n)
