"""Synthetic rows made by a model: it learns from a few experts, then plays by itself.

This is the source that users know: a model's own roll-outs, some of which reach the goal. Its
slips are not planted, so nobody chose how they look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.bench.episodes import Episode, Planted
from trajweight.bench.finetuning import FineTuning, fine_tuned
from trajweight.bench.playing import Sampled, play

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.bench.environment import Environment
    from trajweight.models import LoadedModel
    from trajweight.progress import Progress

#: The kinds of these rows: those that reached the goal, and those that did not.
GENERATED, FAILED = "generated", "generated-failed"


def generated(
    loaded: LoadedModel,
    environment: Environment,
    shown: Sequence[Episode],
    tasks: Sequence[str],
    settings: FineTuning,
    progress: Progress,
    *,
    temperature: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
) -> list[Planted]:
    """Let a model that has seen a few experts play, and keep what it plays.

    Args:
        loaded: The base model, which is left as it was.
        environment: Whose games are played.
        shown: What the experts did.
        tasks: Of the train fold; one named twice is played twice.
        settings: How the model learns from the experts.
        progress: Told of the fine-tuning.
        temperature: At which replies are drawn.
        seed: Of what is drawn.
        batch_size: Games that advance side by side.

    Returns:
        A row for each game in which the model said something; good are those that reached the goal.
    """
    chats = [episode.messages for episode in shown]
    with fine_tuned(loaded, chats, settings, progress) as model:
        episodes = play(
            model,
            loaded.tokenizer,
            environment,
            tasks,
            Sampled(temperature),
            seed=seed,
            batch_size=batch_size,
            max_tokens=settings.max_tokens,
        )
    return [
        _planted(number, episode)
        for number, episode in enumerate(episodes)
        if any(reply.strip() for reply in episode.replies)
    ]


def _planted(number: int, episode: Episode) -> Planted:
    return Planted(
        traj_id=f"{GENERATED}-{episode.environment}-{number:05d}",
        kind=GENERATED if episode.succeeded else FAILED,
        origin="synthetic",
        is_good=episode.succeeded,
        reward=episode.score,
        task=episode.task,
        messages=tuple(episode.messages),
    )
