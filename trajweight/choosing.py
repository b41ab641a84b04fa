"""From a setting's name to the estimator it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.estimators import (
    Estimator,
    FiniteDifference,
    Ghost,
    Implicit,
    Penalty,
    Unrolled,
)

if TYPE_CHECKING:
    from trajweight.config import EstimatorConfig


def estimator_of(config: EstimatorConfig) -> Estimator:
    """The estimator with the knobs of the settings."""
    size, every = config.batch_size, config.every
    made: dict[str, Estimator] = {
        "ghost": Ghost(every=every, validation_size=size),
        "ghost-exact": Ghost(every=every, fused=False, at=config.at, validation_size=size),
        "finite-difference": FiniteDifference(every=every, at=config.at, validation_size=size),
        "penalty": Penalty(strength=config.strength, validation_size=size),
        "unrolled": Unrolled(steps=config.steps, validation_size=size),
        "implicit": Implicit(
            every=every,
            iterations=config.iterations,
            damping=config.damping,
            validation_size=size,
        ),
    }
    return made[config.name]
