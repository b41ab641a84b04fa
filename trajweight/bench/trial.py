"""One pool and one seed: weights by every method, and what a policy makes of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
import torch

from trajweight.bench.controls import (
    AUTO_SHARE,
    MATCHED,
    ORACLE,
    PERMUTED,
    REAL_ONLY,
    TRANSFERRED,
    UNGATED,
)
from trajweight.bench.grid import ROW_LOSS, Grid, ablation_key
from trajweight.bench.judging import Judge, Judged
from trajweight.bench.outcomes import outcome_of_weights
from trajweight.bench.peak import peak_of
from trajweight.bench.planted_ground import PlantedGround
from trajweight.config import LEARNED
from trajweight.errors import ConfigError, TrajweightError
from trajweight.learning import Outcome, learn_weights
from trajweight.real_share import choose_real_share
from trajweight.rivals import pool_of
from trajweight.scorers import scorer
from trajweight.scorers.scorer import weights_of
from trajweight.weights import effective_share, mean_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from trajweight.bench.episodes import Planted
    from trajweight.bench.results import Planned
    from trajweight.bench.results_cells import Setting
    from trajweight.progress import Progress
    from trajweight.stopwatch import Stopwatch

    Floats = NDArray[np.float64]

#: The search that no ablation changes.
PLAIN: Final = "{}"
#: What a finished cell keeps of the facts of learning.
_TOLD: Final = (
    *("dev_gain", "dev_gain_se", "contest_steps", "outer_steps", "stopped_because"),
    *("temperature", "target_ess"),
)
#: Sets the numbers that deal out weights apart from others of the same seed.
_DEALING: Final = 7


@dataclass(frozen=True)
class Weighed:
    """What a method says.

    Attributes:
        weights: Of the synthetic rows, mean one; None where none of them is trained on.
        seconds: To find them, with what is made once for several methods.
        real_weight: What each real row counts; None for as much as usual.
        facts: Of the finished cell, where it has more to tell.
    """

    weights: Floats | None
    seconds: float = 0.0
    real_weight: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class Trial:
    """A pool under a model, for one seed, and every method on it.

    Attributes:
        on: The pool under the model.
        judge: Says what weights are worth to that model.
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
        *,
        larger: str = "",
    ) -> None:
        """Play the pool, and warm the model up on it; the arguments are those of `PlantedGround`.

        ``larger`` is the folder or name of the model that weights are transferred to.
        """
        self.on = PlantedGround(grid, setting, seed, model, folder, progress, generated)
        self.judge = Judge(self.on)
        # Made before any method asks, so that none is charged for all, or goes free.
        self.on.ground.begin()
        self._shared_seconds = _shared_seconds(self.on.stopwatch)
        self._outcomes: dict[str, Outcome | TrajweightError] = {}
        self._search_seconds: dict[str, float] = {}
        self._folder, self._generated, self._larger = folder, generated, larger
        self._larger_judge: Judge | TrajweightError | None = None

    def cell(self, cell: Planned) -> dict[str, Any]:
        """Run a cell: weigh, train, judge; gives the facts of its line.

        Raises:
            ConfigError: If the method cannot be used on this pool.
            DivergenceError: If a training leaves the finite numbers.
        """
        with peak_of(self.on.ground.student.backbone.device) as peak:
            weighed = self._weighed(cell)
        judged = self._judged(cell.method, weighed)
        peaks = [each for each in (peak.bytes, judged.peak_bytes) if each is not None]
        return {
            "weights": self._held_against_truth(weighed.weights),
            "nll": {"test": judged.nll},
            "play": judged.play,
            "seconds": {"scoring": weighed.seconds, **judged.seconds},
            "peak_bytes": max(peaks, default=None),
            "epochs": judged.epochs,
            "notes": list(self.on.pool.notes),
            **weighed.facts,
        }

    def _judged(self, method: str, weighed: Weighed) -> Judged:
        """What the weights of a method are worth."""
        if method == MATCHED:
            return self.judge.longer(self._search_seconds[PLAIN])
        judge = self._judge_of_larger() if method in TRANSFERRED else self.judge
        return judge.of(weighed.weights, weighed.real_weight)

    def _judge_of_larger(self) -> Judge:
        """Says what weights are worth to the larger model; made once, even in vain."""
        if self._larger_judge is None:
            try:
                self._larger_judge = self._made_for_larger()
            except TrajweightError as error:
                self._larger_judge = error
        if isinstance(self._larger_judge, TrajweightError):
            raise self._larger_judge
        return self._larger_judge

    def _made_for_larger(self) -> Judge:
        folder = self._folder / "larger"
        folder.mkdir()
        on = self.on
        larger = PlantedGround(
            on.grid, on.setting, on.seed, self._larger, folder, on.progress, self._generated
        )
        ours, theirs = ([row.traj_id for row in each.planted] for each in (on, larger))
        if ours != theirs:
            gone = sorted(set(ours) ^ set(theirs))
            message = f"the larger model takes other rows than the grid's: {', '.join(gone[:3])}"
            raise ConfigError(message, hint="Raise max_tokens, or choose another larger model.")
        return Judge(larger)

    def _weighed(self, cell: Planned) -> Weighed:
        """What the method of a cell says."""
        method, n = cell.method, len(self.on.planted)
        if method in TRANSFERRED:
            weighed = self._weighed(cell._replace(method=TRANSFERRED[method]))
            return replace(weighed, facts={"larger": Path(self._larger).name})
        if method in AUTO_SHARE:
            return self._with_real_share(self._weighed(cell._replace(method=AUTO_SHARE[method])))
        if method == LEARNED:
            outcome = self._learned(cell.ablation)
            # What the head says also where the contest preferred uniform weights.
            own = self._for_means(cell.ablation, outcome.scored.learned)
            head = self._held_against_truth(own)
            facts = {"selected": outcome.facts["selected"], "head": head}
            if self._factors(cell.ablation) is None:  # else losses there are in other units
                facts |= {key: outcome.facts.get(key) for key in _TOLD}
            weights = self._for_means(cell.ablation, outcome.scored.weights)
            return Weighed(weights, self._search_seconds[cell.ablation], facts=facts)
        if method == UNGATED:
            weights = self._learned(PLAIN).scored.learned.double().numpy()
            return Weighed(weights, self._search_seconds[PLAIN])
        if method == PERMUTED:
            order = np.random.default_rng([self.on.seed, _DEALING]).permutation(n)
            weights = self._learned(PLAIN).scored.weights.double().numpy()[order]
            return Weighed(weights, self._search_seconds[PLAIN])
        if method == ORACLE:
            known_bad = np.array([row.is_good is False for row in self.on.planted])
            return Weighed(mean_one(1.0 - known_bad))
        if method == REAL_ONLY:
            return Weighed(None)
        if method == MATCHED:
            self._learned(PLAIN)
            return Weighed(np.ones(n))
        began = time.perf_counter()
        chosen = scorer(method)
        found = chosen.score(pool_of(self.on.job, lambda: self.on.ground))
        weights = weights_of(found, target_ess=self.on.config.outer.target_ess)
        seconds = time.perf_counter() - began + self._shared_seconds[chosen.needs]
        return Weighed(weights, seconds)

    def _with_real_share(self, weighed: Weighed) -> Weighed:
        """The same weights, and as much of the mass for real rows as dev chooses."""
        began = time.perf_counter()
        weights = torch.from_numpy(weighed.weights).float()
        choice = choose_real_share(
            self.on.problem,
            weights,
            self.on.ground.material,
            self.on.config,
            untrained=self.on.ground.untrained,
            progress=self.on.progress,
        )
        seconds = weighed.seconds + time.perf_counter() - began
        facts = {"real_share": choice.as_facts()}
        return Weighed(weighed.weights, seconds, choice.weight, facts)

    def _learned(self, ablation: str) -> Outcome:
        """Weights learned with the settings of an ablation; searched for once, even in vain."""
        if ablation not in self._outcomes:
            changed = self.on.grid.settings(self._changes(ablation))
            config = replace(
                changed, data=self.on.config.data, model=self.on.config.model, seed=self.on.seed
            )
            # An ablation warms up by its own settings.
            factors = self._factors(ablation)
            ground = self.on.ground
            if ablation != PLAIN:
                ground = ground.again(config, row_factors=factors)
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

    def _changes(self, ablation: str) -> dict[str, Any]:
        """What an ablation changes."""
        known = {ablation_key(each): each for each in self.on.grid.ablations.values()}
        return known.get(ablation, {})

    def _factors(self, ablation: str) -> Tensor | None:
        """What makes sums of the rows' mean losses: their tokens over the mean number of them."""
        if self._changes(ablation).get(ROW_LOSS) != "sum":
            return None
        rows = self.on.ground.material.encoded
        lengths = torch.tensor([float(sum(row.assistant_mask)) for row in rows])
        return lengths / lengths.mean()

    def _for_means(self, ablation: str, weights: Tensor) -> Floats:
        """Weights for a training on mean losses, which is what every policy is trained on."""
        factors = self._factors(ablation)
        if factors is None:
            return weights.double().numpy()
        mine = factors[self.on.ground.material.synthetic]
        return mean_one((weights * mine).double().numpy())

    def _held_against_truth(self, weights: Floats | None) -> dict[str, Any] | None:
        """Weights against what was planted; rows that are neither good nor bad count by kind."""
        if weights is None:
            return None
        known = np.array([row.is_good is not None for row in self.on.planted])
        lengths = [
            float(sum(self.on.ground.material.encoded[place].assistant_mask))
            for place in self.on.ground.material.synthetic
        ]
        kinds = [row.kind for row in self.on.planted]
        judged = outcome_of_weights(
            weights[known],
            kinds=[kind for kind, is_known in zip(kinds, known, strict=True) if is_known],
            is_good=np.array([row.is_good for row in self.on.planted if row.is_good is not None]),
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
