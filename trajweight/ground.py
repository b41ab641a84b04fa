"""What every way of weighing stands on: the model at work on the rows, and a warmed-up start.

The frozen pass and the warm-up cost most of the time and are the same for all: a search of learned
weights begins there, and so does every rival that it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trajweight.backbone import ADAPTER
from trajweight.features import FeatureMap, Frozen, adapter_tensors, set_adapter
from trajweight.inner import InnerLevel
from trajweight.journal import Journal
from trajweight.problem import Problem
from trajweight.processes import ALONE, Processes
from trajweight.returns import task_shares
from trajweight.student import Student
from trajweight.warmup import SLOW, Warmed, train_until_flat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trajweight.config import RunConfig
    from trajweight.material import Material
    from trajweight.models import LoadedModel
    from trajweight.progress import Progress
    from trajweight.stopwatch import Stopwatch


@dataclass(frozen=True)
class Beginning:
    """What a search begins with; the members of an ensemble that is not cross-fitted share one.

    Attributes:
        material: Whose rows train and judge.
        inner: The inner level of the warm-up.
        start: Its state at the end of it; empty once the search is over and nothing begins there.
        real_adapter: What the warm-up on real rows left; empty where there are none.
        features: Of all rows. Shape (n, f).
    """

    material: Material
    inner: InnerLevel
    start: dict[str, Any]
    real_adapter: list[Tensor]
    features: Tensor


@dataclass(frozen=True)
class Ground:
    """The model at work on a material.

    Attributes:
        student: The model; its adapter is what all trainings take in turns.
        frozen: What the frozen model says of every row.
        untrained: The adapter before any training.
        mapped: How features are made; fitted on the training rows.
        material: The rows and their roles.
        config: Settings.
        progress: Told of stages.
        stopwatch: Gets the time of every stage.
        journal: How far an earlier call came.
        row_factors: What the loss of each row is multiplied by, at both levels; None for nothing.
            Shape (n,).
    """

    student: Student
    frozen: Frozen
    untrained: list[Tensor]
    mapped: FeatureMap
    material: Material
    config: RunConfig
    progress: Progress
    stopwatch: Stopwatch
    journal: Journal = field(default_factory=Journal)
    row_factors: Tensor | None = None
    _made: dict[int, Beginning] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        loaded: LoadedModel,
        material: Material,
        config: RunConfig,
        *,
        progress: Progress,
        stopwatch: Stopwatch,
        journal: Journal | None = None,
        processes: Processes = ALONE,
    ) -> Ground:
        """Run the frozen model once over every row, and put an adapter on it.

        Raises:
            ConfigError: If the model is of a kind that cannot be used.
        """
        with stopwatch.stage("frozen model"):
            student = Student(
                loaded,
                config.model,
                material.encoded,
                progress,
                accumulation=config.inner.accumulation,
                processes=processes,
            )
            frozen = student.freeze(progress)
            student.add_adapter(config.model, frozen, seed=config.seed)
            # It sees no loss, so that the heads of an ensemble may share it.
            mapped = FeatureMap.fit(
                frozen.embeddings[[*material.real, *material.synthetic]],
                components=config.outer.components,
            )
        return cls(
            student=student,
            frozen=frozen,
            untrained=adapter_tensors(student.linears),
            mapped=mapped,
            material=material,
            config=config,
            progress=progress,
            stopwatch=stopwatch,
            journal=journal or Journal(),
        )

    def again(self, config: RunConfig, *, row_factors: Tensor | None = None) -> Ground:
        """The same model on the same rows, where nothing has been trained yet.

        Args:
            config: Other settings; those of the model must be the same.
            row_factors: What the loss of each row is multiplied by. Shape (n,).
        """
        some = [*self.material.real, *self.material.synthetic]
        mapped = FeatureMap.fit(self.frozen.embeddings[some], components=config.outer.components)
        journal = Journal(interruption=self.journal.interruption, processes=self.journal.processes)
        return replace(
            self,
            config=config,
            mapped=mapped,
            journal=journal,
            row_factors=row_factors,
            _made={},
        )

    def begin(self, material: Material | None = None, place: int = 0, *, of: int = 1) -> Beginning:
        """The warm-up, unless the journal has it, and the features that come of it.

        Made once for every place.

        Args:
            material: Whose rows train and judge; the ground's own by default.
            place: Of this beginning among all.
            of: How many beginnings there are.
        """
        if place in self._made:
            return self._made[place]
        material = material or self.material
        problem = problem_of(self.student, material)
        if self.row_factors is not None:
            problem = problem.with_factors(self.row_factors)
        inner = InnerLevel(problem, self.config.inner, seed=self.config.seed + place)
        with self.stopwatch.stage("warm-up"):
            if place == len(self.journal.warm):
                self._warm_up(inner, f"warm-up {place + 1} of {of}" if of > 1 else "warm-up")
        warm = self.journal.warm[place]
        with self.stopwatch.stage("features"):
            features = self.student.features(
                self.mapped, self.frozen, material.n_turns, warm["real_adapter"], self.progress
            )
        start = warm.get("start", {})
        made = Beginning(material, inner, start, warm["real_adapter"], features)
        self._made[place] = made
        return made

    def _warm_up(self, inner: InnerLevel, stage: str) -> None:
        """Begin with an adapter that no other member has trained; the journal keeps the end."""
        problem = inner.problem
        set_adapter(problem.linears, self.untrained)
        before = problem.outer_loss()
        real_adapter = _learn_format(inner, self.config, self.progress, stage=stage)
        self.journal.end_warm_up(
            {"outer_loss_before": before, "real_adapter": real_adapter, "start": inner.state()}
        )


def problem_of(
    student: Student, material: Material, adapter: str = ADAPTER, *, whole_vocabulary: bool = False
) -> Problem:
    """The problem of one of the student's adapters; the outer loss counts all tasks alike."""
    tasks = [material.tasks[row] for row in material.validation]
    share = task_shares([material.within[row] for row in material.validation], tasks)
    losses = student.losses_of(adapter, whole_vocabulary=whole_vocabulary)
    return Problem(
        apart=losses.apart,
        accumulate=losses.accumulate,
        evaluate=losses.evaluate,
        linears=student.linears_of(adapter),
        real=material.real,
        synthetic=material.synthetic,
        validation=material.validation,
        validation_share=share,
        real_weight=material.real_weight,
        sibling=lambda name: problem_of(student, material, f"{adapter}-{name}"),
        passes=losses.passes,
        processes=student.processes,
        left_out=material.left_out,
    )


def _learn_format(
    inner: InnerLevel, config: RunConfig, progress: Progress, *, stage: str
) -> list[Tensor]:
    """Train on real rows alone, then on all with uniform weights; gives back the real adapter.

    While the adapter still learns the format, the outer gradient speaks of format and length;
    only afterwards does it speak of content.
    """
    problem, settings = inner.problem, config.inner
    least = settings.real_steps if problem.real else 0
    progress.start(stage, SLOW * (least + settings.warmup_steps))

    def warm_up(rows: Sequence[int], *, size: int, least: int) -> Warmed:
        return train_until_flat(
            inner,
            rows,
            size=size,
            least=least,
            sample=config.estimator.batch_size,
            watch=lambda loss: progress.advance(loss=loss),
        )

    real_adapter: list[Tensor] = []
    if least:
        on_real = warm_up(problem.real, size=settings.batch_size, least=least)
        real_adapter = adapter_tensors(problem.linears)
        progress.say(f"{stage} on real rows: {on_real}")
    else:
        progress.say("no real training rows: the features lack the likelihood under real data")
    size = 2 * settings.batch_size
    on_all = warm_up(problem.training, size=size, least=settings.warmup_steps)
    progress.finish()
    progress.say(f"{stage} on all training rows: {on_all}")
    return real_adapter
