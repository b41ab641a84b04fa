"""A planted pool under a model: played, read as a user's files are read, and gone through once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl

from trajweight.bench.environments import ENVIRONMENTS
from trajweight.bench.pools import PoolPlan, build_pool, write_pool
from trajweight.errors import ConfigError
from trajweight.ground import Ground, problem_of
from trajweight.job import Job
from trajweight.preparing import material_of, tokenise
from trajweight.retraining import RETRAINED
from trajweight.stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trajweight.bench.environment import Environment
    from trajweight.bench.episodes import Planted
    from trajweight.bench.grid import Grid
    from trajweight.bench.pools import PlantedPool
    from trajweight.bench.results_cells import Setting
    from trajweight.config import RunConfig
    from trajweight.progress import Progress

#: The splits of a pool's parts; the product's own splitter would draw others.
_SPLITS: Final = {
    "real_train": "train",
    "synthetic": "train",
    "validation": "validation",
    "dev": "dev",
    "test": "test",
}


class PlantedGround:
    """A pool under a model, for one seed.

    Attributes:
        grid: Whose sizes hold.
        setting: Of the pool.
        seed: Of the pool, the learning and the trainings.
        progress: Told of everything.
        environment: Whose games these are.
        pool: The rows with their truth.
        config: Of the run that learns on them.
        job: That run.
        tokenizer: Of the model.
        stopwatch: Has the time of every stage.
        ground: The model at work.
        planted: The synthetic rows in the order of their weights.
        test: Places of the rows of the test loss.
        problem: Of the adapter that is a policy.
    """

    def __init__(
        self,
        grid: Grid,
        setting: Setting,
        seed: int,
        model: str,
        folder: Path,
        progress: Progress,
        generated: Sequence[Planted] = (),
    ) -> None:
        """Play the pool, read it, and run the model once over all rows.

        Args:
            grid: Whose sizes hold.
            setting: Of the pool.
            seed: Of the pool, the learning and the trainings.
            model: Folder or name.
            folder: For the pool's files and the run; it must be there.
            progress: Told of everything.
            generated: Games that a model has played for the pool.

        Raises:
            ConfigError: If the environment cannot give as many validation trajectories.
        """
        self.grid, self.setting, self.seed, self.progress = grid, setting, seed, progress
        self.environment: Environment = ENVIRONMENTS[setting.environment]()
        self.pool = self._played(generated)
        self.config = self._settings(model, write_pool(self.pool, folder))
        self.job = Job.begin(self.config, folder / "run", force=True, progress=progress, argv=())
        self.job.read()
        self._split()
        loaded, encoded = tokenise(self.job)
        returns, floor = self.config.returns, self.config.outer.w_min
        material = material_of(self.job, encoded, returns, floor=floor)
        self.tokenizer = loaded.tokenizer
        self.stopwatch = Stopwatch()
        self.ground = Ground.of(
            loaded, material, self.config, progress=progress, stopwatch=self.stopwatch
        )
        names = list(encoded)
        truth = {row.traj_id: row for row in self.pool.synthetic}
        self.planted = [truth[names[place]] for place in material.synthetic]
        splits = dict(self.job.table.select("traj_id", "split").iter_rows())
        self.test = [place for place, name in enumerate(names) if splits[name] == "test"]
        self.problem = problem_of(self.ground.student, material, RETRAINED, whole_vocabulary=True)

    def _played(self, generated: Sequence[Planted]) -> PlantedPool:
        """The pool.

        Raises:
            ConfigError: If the environment cannot give as many validation trajectories.
        """
        grid, setting = self.grid, self.setting
        plan = PoolPlan(
            setting.environment,
            noise=setting.noise,
            n_validation=setting.n_validation,
            n_real_train=grid.n_real,
            n_dev=grid.n_dev,
            n_test=grid.n_test,
            n_synthetic=grid.n_synthetic,
            seed=self.seed,
        )
        self.progress.start("playing the pool")
        pool = build_pool(plan, ENVIRONMENTS, generated)
        self.progress.finish()
        if len(pool.validation) < setting.n_validation:
            message = f"{setting}: {' '.join(pool.notes)}"
            raise ConfigError(message, hint="Ask for fewer validation trajectories.")
        return pool

    def _settings(self, model: str, written: Mapping[str, Path]) -> RunConfig:
        """Of the run that learns on these files."""
        config, paths = self.grid.settings({}), tuple(map(str, written.values()))
        return replace(
            config,
            # ten validation rows are part of the question
            data=replace(config.data, paths=paths, force=True),
            model=replace(config.model, model=model),
            seed=self.seed,
        )

    def _split(self) -> None:
        """Every row its split, as the pool was planned."""
        of = {
            row.traj_id: split
            for part, split in _SPLITS.items()
            for row in getattr(self.pool, part)
        }
        names = self.job.run.trajectories()
        self.job.table = names.with_columns(
            split=pl.col("traj_id").replace_strict(of, return_dtype=pl.String)
        )
