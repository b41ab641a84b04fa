"""What weights are worth: a policy is trained on them, meets the test rows, and plays games.

All policies of a pool stand on the same ground: one frozen pass, one budget of training steps and
the same batches. Only the weights differ.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from trajweight.bench.peak import peak_of
from trajweight.bench.playing import DECODINGS, play
from trajweight.features import adapter_tensors, set_adapter
from trajweight.retraining import RETRAINED, Retrained, on_real_rows_alone, retrain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from trajweight.bench.episodes import Episode
    from trajweight.bench.planted_ground import PlantedGround

    Floats = NDArray[np.float64]

#: Longest reply of a policy, in tokens.
MAX_NEW_TOKENS: Final = 48


@dataclass(frozen=True)
class Judged:
    """How a policy did.

    Attributes:
        nll: Loss of the test rows, in nats a token.
        play: What its games came to, by decoding.
        seconds: Of training, and of playing.
        epochs: Passes over its training rows.
        peak_bytes: Most memory held meanwhile; None where the system does not tell.
    """

    nll: float
    play: dict[str, Any]
    seconds: dict[str, float]
    epochs: float
    peak_bytes: int | None


class Judge:
    """Trains policies on a pool, and sees how they do.

    Args:
        on: The pool under the model that becomes the policies.
    """

    def __init__(self, on: PlantedGround) -> None:
        """No policy is trained yet."""
        self.on = on
        self._policies: dict[tuple[bytes, float], Judged] = {}

    def of(self, weights: Floats | None, real_weight: float | None = None) -> Judged:
        """The policy of these weights; methods that weigh alike share one, which is the same.

        Args:
            weights: Of the synthetic rows; None to train on real rows alone. Shape (n,).
            real_weight: What each real row counts; None for as much as usual.

        Raises:
            DivergenceError: If the training leaves the finite numbers.
        """
        if real_weight is None:
            real_weight = self.on.problem.real_weight
        key = b"" if weights is None else weights.tobytes(), real_weight
        if key not in self._policies:
            self._policies[key] = self._judged(lambda: self._train(weights, real_weight).epochs)
        return self._policies[key]

    def longer(self, seconds: float) -> Judged:
        """The policy of uniform weights with so much time to train longer.

        Trained once as usual, then for twice, four times ... as many steps while the time lasts;
        dev chooses, as it does for learned weights.

        Raises:
            DivergenceError: If a training leaves the finite numbers.
        """
        return self._judged(lambda: self._train_longer(seconds))

    def _judged(self, train: Callable[[], float]) -> Judged:
        """Train a policy, and see how it does."""
        on = self.on
        with peak_of(on.ground.student.backbone.device) as peak:
            began = time.perf_counter()
            epochs = train()
            trained = time.perf_counter()
            loss = float(on.problem.evaluate(on.test).mean())
            played = self._play()
        seconds = {"training": trained - began, "playing": time.perf_counter() - trained}
        return Judged(loss, played, seconds, epochs, peak.bytes)

    def _train(
        self, weights: Floats | None, real_weight: float, *, times: float = 1.0
    ) -> Retrained:
        """Train the policy from the base.

        All methods make the same steps, on the same batches where they train on the same rows;
        real rows alone are gone through more often.
        """
        on = self.on
        problem, config = replace(on.problem, real_weight=real_weight), on.config
        if weights is None:
            problem, config = on_real_rows_alone(problem, config)
            weights = np.ones(len(on.planted))
        epochs = times * config.retrain.epochs
        return retrain(
            problem,
            torch.from_numpy(weights).float(),
            replace(config, retrain=replace(config.retrain, epochs=epochs)),
            untrained=on.ground.untrained,
            dev=on.ground.material.dev,
            progress=on.progress,
        )

    def _train_longer(self, seconds: float) -> float:
        """Train for longer and longer; gives the epochs of the training that dev chose."""
        uniform, problem = np.ones(len(self.on.planted)), self.on.problem
        times, best, epochs = 1.0, math.inf, 0.0
        kept: list[Tensor] = []
        while True:
            began = time.perf_counter()
            made = self._train(uniform, problem.real_weight, times=times)
            took = time.perf_counter() - began
            if made.loss < best:
                best, epochs, kept = made.loss, made.epochs, adapter_tensors(problem.linears)
            seconds -= took if times > 1 else 0.0  # the first is what every method has
            times *= 2
            if 2 * took > seconds:
                set_adapter(problem.linears, kept)
                return epochs

    def _play(self) -> dict[str, Any]:
        """Returns and successes of the trained policy on tasks that nothing was made of."""
        on, backbone = self.on, self.on.ground.student.backbone
        backbone.use(RETRAINED)
        tasks = list(on.environment.tasks("test"))[: on.grid.n_games]
        found = {}
        on.progress.start("playing", len(on.grid.decodings))
        for name in on.grid.decodings:
            episodes = play(
                backbone.model,
                on.tokenizer,
                on.environment,
                tasks,
                DECODINGS[name],
                seed=on.seed,
                max_new_tokens=MAX_NEW_TOKENS,
                max_tokens=on.config.model.max_tokens,
            )
            found[name] = _summary(episodes)
            on.progress.advance()
        on.progress.finish()
        return found


def _summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """What games came to, in all and by task."""
    return {
        "return": float(np.mean([each.score for each in episodes])),
        "success": float(np.mean([each.succeeded for each in episodes])),
        "turns": float(np.mean([len(each.replies) for each in episodes])),
        "invalid": float(
            np.mean([each.n_invalid / max(len(each.replies), 1) for each in episodes])
        ),
        "n": len(episodes),
        "by_task": {each.task: [each.score, float(each.succeeded)] for each in episodes},
    }
