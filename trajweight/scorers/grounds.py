"""What scorers that need the model take from it: roles checked, and the adapter put back."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trajweight.config import MINIMUM_VALIDATION
from trajweight.errors import ConfigError
from trajweight.estimators.pullback import held_at
from trajweight.ground import problem_of
from trajweight.inner import InnerLevel

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from trajweight.ground import Beginning, Ground
    from trajweight.scorers.scorer import Pool

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Warm:
    """A training that may begin.

    Attributes:
        ground: The model at work.
        beginning: The warm-up, whose own inner level is not to be touched.
        inner: An inner level at the end of the warm-up, with a stream of batches of its own.
    """

    ground: Ground
    beginning: Beginning
    inner: InnerLevel


@contextmanager
def warmed(pool: Pool, name: str) -> Iterator[Warm]:
    """Train from the end of the warm-up while the block runs; then the adapter is as it was.

    Args:
        pool: Its seed decides the batches.
        name: Of the scorer, for the error.

    Raises:
        ConfigError: If there are too few validation rows.
    """
    ground = pool.ground()
    material, student = ground.material, ground.student
    found = len(material.validation)
    if found == 0 or (found < MINIMUM_VALIDATION and not ground.config.data.force):
        message = (
            f"{name} is led by real validation trajectories; {found} are too few (at least "
            f"{MINIMUM_VALIDATION})."
        )
        hint = "Add real trajectories" + (", or pass --force." if found else ".")
        raise ConfigError(message, hint=hint)
    # Whoever asks first has the warm-up made, and that moves the adapter too.
    with held_at([linear.weight for linear in student.linears], ground.untrained):
        beginning = ground.begin()
        inner = InnerLevel(problem_of(student, material), ground.config.inner, seed=pool.seed)
        stream = {"generator": inner.generator.get_state(), "waiting": []}
        inner.restore({**beginning.start, **stream})
        try:
            yield Warm(ground, beginning, inner)
        finally:
            inner.optimizer.zero_grad(set_to_none=True)


def embeddings_of(pool: Pool, name: str) -> tuple[Floats, Floats]:
    """Frozen states of the synthetic rows, and of the real training and validation rows.

    Returns:
        Shapes (n, d) and (m, d).

    Raises:
        ConfigError: If there are no real rows.
    """
    ground = pool.ground()
    rows = real_rows(ground, name)
    embeddings = ground.frozen.embeddings
    synthetic, real = embeddings[ground.material.synthetic], embeddings[rows]
    return synthetic.double().numpy(), real.double().numpy()


def real_rows(ground: Ground, name: str) -> list[int]:
    """Real training and validation rows.

    Raises:
        ConfigError: If there are none.
    """
    rows = [*ground.material.real, *ground.material.validation]
    if not rows:
        message = f"{name} compares with real trajectories, and none is in training or validation."
        raise ConfigError(message, hint="Add real trajectories, or take a method that needs none.")
    return rows
