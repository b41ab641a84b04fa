"""One pool and one seed: weights by every method, a policy trained by each, and how it does.

All methods stand on the same ground: one frozen pass, one split, one budget of training steps and
the same batches. Only the weights differ.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from trajweight.bench.controls import AUTO_SHARE, MATCHED, ORACLE, PERMUTED, REAL_ONLY, UNGATED
from trajweight.bench.environments import ENVIRONMENTS
from trajweight.bench.grid import Grid, ablation_key
from trajweight.bench.outcomes import outcome_of_weights
from trajweight.bench.peak import peak_of
from trajweight.bench.playing import DECODINGS, play
from trajweight.bench.pools import PoolPlan, build_pool, write_pool
from trajweight.config import LEARNED
from trajweight.errors import ConfigError, TrajweightError
from trajweight.features import adapter_tensors, set_adapter
from trajweight.ground import Ground, problem_of
from trajweight.job import Job
from trajweight.learning import Outcome, learn_weights
from trajweight.preparing import material_of, tokenise
from trajweight.real_share import choose_real_share
from trajweight.retraining import RETRAINED, Retrained, on_real_rows_alone, retrain
from trajweight.rivals import pool_of
from trajweight.scorers import scorer
from trajweight.scorers.scorer import weights_of
from trajweight.stopwatch import Stopwatch
from trajweight.weights import effective_share, mean_one

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from trajweight.bench.environment import Environment
    from trajweight.bench.episodes import Episode, Planted
    from trajweight.bench.pools import PlantedPool
    from trajweight.bench.results import Planned
    from trajweight.bench.results_cells import Setting
    from trajweight.config import RunConfig
    from trajweight.progress import Progress

    Floats = NDArray[np.float64]

#: Longest reply of a policy, in tokens.
MAX_NEW_TOKENS: Final = 48
#: The search that no ablation changes.
PLAIN: Final = "{}"
#: What a finished cell keeps of the facts of learning.
_TOLD: Final = (
    *("dev_gain", "dev_gain_se", "contest_steps", "outer_steps", "stopped_because"),
    *("temperature", "target_ess"),
)
#: Sets the numbers that deal out weights apart from others of the same seed.
_DEALING: Final = 7
#: The splits of a pool's parts; the product's own splitter would draw others.
_SPLITS: Final = {
    "real_train": "train",
    "synthetic": "train",
    "validation": "validation",
    "dev": "dev",
    "test": "test",
}


@dataclass(frozen=True)
class Weighed:
    """What a method says.

    Attributes:
        weights: Of the synthetic rows, mean one; None where none of them is trained on.
        seconds: To find them, with what is made once for several methods.
        real_weight: What each real row counts; None for as much as a synthetic one in the mean.
        facts: Of the finished cell, where it has more to tell.
    """

    weights: Floats | None
    seconds: float = 0.0
    real_weight: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


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


class Trial:
    """A pool under a model, for one seed.

    Attributes:
        grid: Whose sizes hold.
        setting: Of the pool.
        seed: Of the pool, the learning and the trainings.
        pool: The rows with their truth.
        notes: Where the pool is not as planned.
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
        """Play the pool, read it as a user's files are read, and warm the model up on it."""
        self.grid, self.setting, self.seed, self.progress = grid, setting, seed, progress
        self.environment: Environment = ENVIRONMENTS[setting.environment]()
        self.pool = self._played(generated)
        self.config = self._settings(model, write_pool(self.pool, folder))
        self.job = Job.begin(self.config, folder / "run", force=True, progress=progress, argv=())
        self.job.read()
        self._split()
        self._stand_on_ground()
        self._outcomes: dict[str, Outcome | TrajweightError] = {}
        self._search_seconds: dict[str, float] = {}
        self._policies: dict[tuple[bytes, float], Judged] = {}

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

    def _stand_on_ground(self) -> None:
        """Run the model once over all rows, warm it up, and find the truth and the test rows."""
        loaded, encoded = tokenise(self.job)
        returns, floor = self.config.returns, self.config.outer.w_min
        material = material_of(self.job, encoded, returns, floor=floor)
        self.tokenizer = loaded.tokenizer
        stopwatch = Stopwatch()
        self.ground = Ground.of(
            loaded, material, self.config, progress=self.progress, stopwatch=stopwatch
        )
        # Made before any method asks, so that none is charged for all, or goes free.
        self.ground.begin()
        self._shared_seconds = _shared_seconds(stopwatch)
        names = list(encoded)
        truth = {row.traj_id: row for row in self.pool.synthetic}
        self.planted = [truth[names[place]] for place in material.synthetic]
        splits = dict(self.job.table.select("traj_id", "split").iter_rows())
        self.test = [place for place, name in enumerate(names) if splits[name] == "test"]
        self.problem = problem_of(self.ground.student, material, RETRAINED, whole_vocabulary=True)

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

    def cell(self, cell: Planned) -> dict[str, Any]:
        """Run a cell: weigh, train, judge; gives the facts of its line.

        Raises:
            ConfigError: If the method cannot be used on this pool.
            DivergenceError: If a training leaves the finite numbers.
        """
        with peak_of(self.ground.student.backbone.device) as peak:
            weighed = self._weighed(cell)
        if cell.method == MATCHED:
            judged = self._judge(self._train_longer)
        else:
            judged = self._judged(weighed)
        peaks = [each for each in (peak.bytes, judged.peak_bytes) if each is not None]
        return {
            "weights": self._held_against_truth(weighed.weights),
            "nll": {"test": judged.nll},
            "play": judged.play,
            "seconds": {"scoring": weighed.seconds, **judged.seconds},
            "peak_bytes": max(peaks, default=None),
            "epochs": judged.epochs,
            "notes": list(self.pool.notes),
            **weighed.facts,
        }

    def _judged(self, weighed: Weighed) -> Judged:
        """The policy of these weights; methods that weigh alike share one, which is the same."""
        weights, real_weight = weighed.weights, weighed.real_weight
        if real_weight is None:
            real_weight = self.problem.real_weight
        key = b"" if weights is None else weights.tobytes(), real_weight
        if key not in self._policies:
            self._policies[key] = self._judge(
                lambda: self._train(weights, real_weight=real_weight).epochs
            )
        return self._policies[key]

    def _judge(self, train: Callable[[], float]) -> Judged:
        """Train a policy, and see how it does."""
        with peak_of(self.ground.student.backbone.device) as peak:
            began = time.perf_counter()
            epochs = train()
            trained = time.perf_counter()
            loss = float(self.problem.evaluate(self.test).mean())
            played = self._play()
        seconds = {"training": trained - began, "playing": time.perf_counter() - trained}
        return Judged(loss, played, seconds, epochs, peak.bytes)

    def _weighed(self, cell: Planned) -> Weighed:
        """What the method of a cell says."""
        method, n = cell.method, len(self.planted)
        if method in AUTO_SHARE:
            return self._with_real_share(self._weighed(cell._replace(method=AUTO_SHARE[method])))
        if method == LEARNED:
            outcome = self._learned(cell.ablation)
            # What the head says also where the contest preferred uniform weights.
            head = self._held_against_truth(outcome.scored.learned.double().numpy())
            facts = {"selected": outcome.facts["selected"], "head": head}
            facts |= {key: outcome.facts.get(key) for key in _TOLD}
            weights = outcome.scored.weights.double().numpy()
            return Weighed(weights, self._search_seconds[cell.ablation], facts=facts)
        if method == UNGATED:
            weights = self._learned(PLAIN).scored.learned.double().numpy()
            return Weighed(weights, self._search_seconds[PLAIN])
        if method == PERMUTED:
            order = np.random.default_rng([self.seed, _DEALING]).permutation(n)
            weights = self._learned(PLAIN).scored.weights.double().numpy()[order]
            return Weighed(weights, self._search_seconds[PLAIN])
        if method == ORACLE:
            known_bad = np.array([row.is_good is False for row in self.planted])
            return Weighed(mean_one(1.0 - known_bad))
        if method == REAL_ONLY:
            return Weighed(None)
        if method == MATCHED:
            self._learned(PLAIN)
            return Weighed(np.ones(n))
        began = time.perf_counter()
        chosen = scorer(method)
        found = chosen.score(pool_of(self.job, lambda: self.ground))
        weights = weights_of(found, target_ess=self.config.outer.target_ess)
        seconds = time.perf_counter() - began + self._shared_seconds[chosen.needs]
        return Weighed(weights, seconds)

    def _with_real_share(self, weighed: Weighed) -> Weighed:
        """The same weights, and as much of the mass for real rows as dev chooses."""
        began = time.perf_counter()
        weights = torch.from_numpy(weighed.weights).float()
        choice = choose_real_share(
            self.problem,
            weights,
            self.ground.material,
            self.config,
            untrained=self.ground.untrained,
            progress=self.progress,
        )
        seconds = weighed.seconds + time.perf_counter() - began
        facts = {"real_share": choice.as_facts()}
        return Weighed(weighed.weights, seconds, choice.weight, facts)

    def _learned(self, ablation: str) -> Outcome:
        """Weights learned with the settings of an ablation; searched for once, even in vain."""
        if ablation not in self._outcomes:
            changes = {ablation_key(each): each for each in self.grid.ablations.values()}
            changed = self.grid.settings(changes.get(ablation, {}))
            config = replace(
                changed, data=self.config.data, model=self.config.model, seed=self.seed
            )
            # An ablation warms up by its own settings.
            ground = self.ground if ablation == PLAIN else self.ground.again(config)
            began = time.perf_counter()
            try:
                self._outcomes[ablation] = learn_weights(ground, on_step=lambda _: None)
            except TrajweightError as error:
                self._outcomes[ablation] = error
            shared = self._shared_seconds["training" if ablation == PLAIN else "model"]
            self._search_seconds[ablation] = time.perf_counter() - began + shared
        found = self._outcomes[ablation]
        if isinstance(found, TrajweightError):
            raise found
        return found

    def _train(
        self, weights: Floats | None, *, real_weight: float | None = None, times: float = 1.0
    ) -> Retrained:
        """Train the policy from the base with these weights.

        All methods make the same steps, on the same batches where they train on the same rows;
        real rows alone are gone through more often.

        Args:
            weights: Of the synthetic rows; None to train on real rows alone. Shape (n,).
            real_weight: What each real row counts; None for as much as usual.
            times: As many steps as usual.
        """
        problem, config = self.problem, self.config
        if real_weight is not None:
            problem = replace(problem, real_weight=real_weight)
        if weights is None:
            problem, config = on_real_rows_alone(problem, config)
            weights = np.ones(len(self.planted))
        epochs = times * config.retrain.epochs
        return retrain(
            problem,
            torch.from_numpy(weights).float(),
            replace(config, retrain=replace(config.retrain, epochs=epochs)),
            untrained=self.ground.untrained,
            dev=self.ground.material.dev,
            progress=self.progress,
        )

    def _train_longer(self) -> float:
        """Uniform weights with the time of the search to spend on training; gives the epochs.

        Trained once as usual, then for twice, four times ... as many steps while the time lasts;
        dev chooses, as it does for learned weights.
        """
        uniform = np.ones(len(self.planted))
        left = self._search_seconds[PLAIN]
        times, best, epochs = 1.0, math.inf, 0.0
        kept: list[Tensor] = []
        while True:
            began = time.perf_counter()
            made = self._train(uniform, times=times)
            took = time.perf_counter() - began
            if made.loss < best:
                best, epochs, kept = made.loss, made.epochs, adapter_tensors(self.problem.linears)
            left -= took if times > 1 else 0.0  # the first is what every method has
            times *= 2
            if 2 * took > left:
                set_adapter(self.problem.linears, kept)
                return epochs

    def _play(self) -> dict[str, Any]:
        """Returns and successes of the trained policy on tasks that nothing was made of."""
        backbone = self.ground.student.backbone
        backbone.use(RETRAINED)
        tasks = list(self.environment.tasks("test"))[: self.grid.n_games]
        found = {}
        self.progress.start("playing", len(self.grid.decodings))
        for name in self.grid.decodings:
            episodes = play(
                backbone.model,
                self.tokenizer,
                self.environment,
                tasks,
                DECODINGS[name],
                seed=self.seed,
                max_new_tokens=MAX_NEW_TOKENS,
                max_tokens=self.config.model.max_tokens,
            )
            found[name] = _summary(episodes)
            self.progress.advance()
        self.progress.finish()
        return found

    def _held_against_truth(self, weights: Floats | None) -> dict[str, Any] | None:
        """Weights against what was planted; rows that are neither good nor bad count by kind."""
        if weights is None:
            return None
        known = np.array([row.is_good is not None for row in self.planted])
        lengths = [
            float(sum(self.ground.material.encoded[place].assistant_mask))
            for place in self.ground.material.synthetic
        ]
        kinds = [row.kind for row in self.planted]
        judged = outcome_of_weights(
            weights[known],
            kinds=[kind for kind, is_known in zip(kinds, known, strict=True) if is_known],
            is_good=np.array([row.is_good for row in self.planted if row.is_good is not None]),
            lengths=np.array(lengths)[known],
        ).as_dict()
        judged["ess_fraction"] = effective_share(weights)
        means = pl.DataFrame({"kind": kinds, "weight": weights})
        means = means.group_by("kind", maintain_order=True).agg(pl.col("weight").mean())
        judged["mean_by_kind"] = dict(sorted(means.iter_rows()))
        return judged


def _shared_seconds(stopwatch: Stopwatch) -> dict[str, float]:
    """By what a method needs, the seconds of what is made once for several."""
    frozen = stopwatch.seconds["frozen model"]
    warm_up = stopwatch.seconds["warm-up"] + stopwatch.seconds["features"]
    return {"rows": 0.0, "model": frozen, "training": frozen + warm_up}


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
