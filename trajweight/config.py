"""Every setting of a run, each with its unit; read from TOML, checked once, kept in the run.

The names are those of the command line's options. A value that cannot be used raises ConfigError
and names the setting.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Final, Literal, get_args

import tomli_w

from trajweight.errors import ConfigError

#: Fewer validation trajectories than this cannot tell weights from luck (method: 20 to 50).
MINIMUM_VALIDATION: Final = 20

#: The methods that are no scorer: weights learned at two levels, and those beside all others.
LEARNED, COMPARE = "learned", "compare"
#: A share of real rows that trainings find.
AUTO: Final = "auto"

#: A setting that does not exist is an error, not a surprise.
_STRICT: Final = {"extra": "forbid"}

Vocabulary = Literal["auto", "seen", "full"]
HeadName = Literal["mlp", "linear", "table", "group"]
EstimatorName = Literal[
    "ghost", "ghost-exact", "finite-difference", "penalty", "unrolled", "implicit"
]
ObjectiveName = Literal["imitate", "successful", "return-weighted"]
PriorName = Literal["none", "rwr", "filtered"]
TrackerName = Literal["none", "tensorboard", "trackio"]
DedupName = Literal["none", "exact", "near"]
HEADS: Final[tuple[str, ...]] = get_args(HeadName)
ESTIMATORS: Final[tuple[str, ...]] = get_args(EstimatorName)


@dataclass(frozen=True, slots=True)
class DataConfig:
    """What is read, and what is known about it.

    Attributes:
        paths: Files of trajectories.
        validation_paths: Files whose rows are real and held out from training.
        real_sources: Sources whose rows are real, whatever the rows say.
        synthetic_sources: Sources whose rows are synthetic, whatever the rows say.
        format: Name of the format of every file; by default each file's first records tell it.
        mapped: Where rows say things, each as what=path, such as reward=info.score.
        limit: Rows to read of each file; all by default.
        repair: Mend what is odd about rows where there is one plain remedy.
        dedup: Take out rows that copy another: none, exact ones, or near ones too.
        max_row_bytes: Rows of more bytes are flagged.
        real_share: Share of the training mass that real rows keep, or auto: the one that does best
            on dev in trainings as long as that of ``retrain``, once weights are learned. By default
            their share of the training rows.
        force: Learn weights with fewer validation trajectories than 20.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    paths: tuple[str, ...] = ()
    validation_paths: tuple[str, ...] = ()
    real_sources: tuple[str, ...] = ()
    synthetic_sources: tuple[str, ...] = ()
    format: str = "auto"
    mapped: tuple[str, ...] = ()
    limit: int | None = None
    repair: bool = False
    dedup: DedupName = "none"
    max_row_bytes: int = 16_000_000
    real_share: float | str | None = None
    force: bool = False

    def __post_init__(self) -> None:
        """Check what does not need the files."""
        _require_one_of(self, "dedup", get_args(DedupName))
        _require_positive(self, "max_row_bytes")
        if self.limit is not None:
            _require_positive(self, "limit")
        share = self.real_share
        if share not in (None, AUTO) and not (isinstance(share, float) and 0 < share < 1):
            _refuse("real_share", share, "a share between 0 and 1, or auto")

    @property
    def fixed_real_share(self) -> float | None:
        """The share of real rows where it is a number: None where they count as they are."""
        return self.real_share if isinstance(self.real_share, float) else None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The language model and its adapter.

    Attributes:
        model: A local folder, a hub id, or an alias (smollm2-135m-instruct, tiny).
        device: auto, cpu, cuda, mps.
        dtype: auto, float32, bfloat16.
        adapter_layers: Last decoder layers that get an adapter, over the cached activations of
            the others; 0 means every layer. By default 2 on a processor, every layer elsewhere.
        rank: Rank of the LoRA adapter.
        alpha: Scale of the LoRA adapter.
        max_tokens: Longest trajectory, in tokens; longer ones lose whole turns.
        vocabulary: Tokens the training loss chooses from: all of them (full), or those that occur
            in the data (seen), which costs less. By default seen on a processor, full elsewhere.
        gradient_checkpointing: Keep less of a forward pass and compute it again in the backward
            pass: less memory, about a third more time.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    model: str = "smollm2-135m-instruct"
    device: str = "auto"
    dtype: str = "auto"
    adapter_layers: int | None = None
    rank: int = 8
    alpha: float = 16.0
    max_tokens: int = 2048
    vocabulary: Vocabulary = "auto"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.adapter_layers is not None and self.adapter_layers < 0:
            _refuse("adapter_layers", self.adapter_layers, "0 (all layers) or a positive number")
        _require_positive(self, "rank", "alpha", "max_tokens")
        _require_one_of(self, "vocabulary", get_args(Vocabulary))


@dataclass(frozen=True, slots=True)
class InnerConfig:
    """The inner level: fine-tuning on weighted trajectories.

    Attributes:
        learning_rate: Of AdamW on the adapter.
        batch_size: Trajectories of one inner step.
        accumulation: Parts of a batch that pass one after another, to save memory; the gradient
            is that of the whole batch.
        real_steps: Steps on real training rows alone, before the loop, at least; up to four times
            as many until the outer loss is flat. They teach the format, and the adapter they
            leave gives the features their likelihood under real data.
        warmup_steps: Steps with uniform weights on all training rows, before the first outer
            step, at least; up to four times as many until the outer loss is flat.
        beta1: Of AdamW: memory of the gradient's mean.
        beta2: Of AdamW: memory of its square; short, since a run has some hundred steps.
        weight_decay: Decoupled weight decay.
        max_grad_norm: The gradient is clipped to this norm.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    learning_rate: float = 3e-3
    batch_size: int = 8
    accumulation: int = 1
    real_steps: int = 24
    warmup_steps: int = 10
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_positive(self, "learning_rate", "max_grad_norm")
        if self.batch_size < 2:  # d is centred within the batch
            _refuse("batch_size", self.batch_size, "2 or more")
        # The outer gradient goes through Adam's state, so at least one step must have filled it.
        _require_positive(self, "warmup_steps", "accumulation")
        for name in ("beta1", "beta2"):
            if not 0 < getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "between 0 and 1")


@dataclass(frozen=True, slots=True)
class EstimatorConfig:
    """How d, the derivative of the outer loss by a weight, is estimated.

    Attributes:
        name: ghost (products inside the training pass), ghost-exact (exact for one step),
            finite-difference, penalty (two adapters), unrolled (several steps), implicit.
        every: Inner steps between two gradients of the outer loss; not used by penalty and
            unrolled, which take one a step and one a window.
        at: Where that gradient is taken, theta or theta_next, after the inner step; for
            ghost-exact and finite-difference.
        batch_size: Validation trajectories of one gradient of the outer loss, at most.
        steps: Inner steps of one window, of unrolled.
        strength: Weight of the training loss against the outer loss, of penalty.
        damping: Relative to the curvature along the outer gradient, of implicit.
        iterations: Of conjugate gradients, of implicit.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    name: EstimatorName = "ghost"
    every: int = 3
    at: Literal["theta", "theta_next"] = "theta"
    batch_size: int = 64
    steps: int = 2
    strength: float = 10.0
    damping: float = 1e-2
    iterations: int = 5

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_one_of(self, "name", ESTIMATORS)
        _require_one_of(self, "at", ("theta", "theta_next"))
        _require_positive(self, "every", "batch_size", "steps", "strength", "iterations")
        if self.damping < 0:
            _refuse("damping", self.damping, "0 or more")


@dataclass(frozen=True, slots=True)
class OuterConfig:
    """The outer level: training the reweighting head on real validation trajectories.

    Attributes:
        head: mlp or linear on features, table (a score a row) or group (a score a source).
        learning_rate: Of AdamW on the head.
        weight_decay: Decoupled weight decay of the head.
        min_steps: Outer steps before ranks may be called settled.
        max_steps: Outer steps at most.
        settled: Rank correlation with the weights ten steps ago that counts as settled.
        target_ess: Effective sample size over the number of synthetic rows that the weights keep
            at least; with a prior from returns, relative to what the prior alone keeps.
        ess_penalty: Least coefficient of the chi-square penalty n/ESS - 1, d being scaled to one;
            it rises while the target is not met.
        length_shrinkage: Believe d less for short rows, whose losses are noisy.
        average: Share of the old head kept in the running average of heads, a step.
        hidden: Width of the head's hidden layer.
        components: Principal components of the embedding that the head sees.
        w_min: Lower bound of a weight before normalisation; the upper bound is one.
        population: Adapters that take turns, at different ages.
        lifetime: Inner steps after which an adapter goes back to the end of the warm-up.
        temperatures: What the scores may be divided by; dev chooses, with uniform weights always
            among the candidates.
        contest_steps: Inner steps of each run that compares candidates on dev; four times as many
            where these differ by no more than three standard errors.
        ensemble: Heads trained on other seeds, and on validation tasks drawn again; with fewer than
            200 real rows on training and validation rows divided again, each after a warm-up of
            its own.
        checkpoint_every: Outer steps between two checkpoints.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    head: HeadName = "mlp"
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    min_steps: int = 30
    max_steps: int = 50
    settled: float = 0.98
    target_ess: float = 0.4
    ess_penalty: float = 0.1
    length_shrinkage: bool = False
    average: float = 0.9
    hidden: int = 32
    components: int = 16
    w_min: float = 0.02
    population: int = 1
    lifetime: int = 200
    temperatures: tuple[float, ...] = (1.0, 2.0)
    contest_steps: int = 5
    ensemble: int = 1
    checkpoint_every: int = 5

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_one_of(self, "head", HEADS)
        _require_positive(
            self, "learning_rate", "max_steps", "hidden", "contest_steps", "population", "lifetime"
        )
        _require_positive(self, "ensemble", "checkpoint_every")
        if not 0 < self.w_min < 1:
            _refuse("w_min", self.w_min, "a bound between 0 and 1")
        if not 0 < self.target_ess <= 1:
            _refuse("target_ess", self.target_ess, "a fraction above 0, up to 1")
        if not 0 <= self.average < 1:
            _refuse("average", self.average, "a share from 0 to below 1")
        if not self.temperatures or min(self.temperatures) <= 0:
            _refuse("temperatures", list(self.temperatures), "one or more numbers above 0")


@dataclass(frozen=True, slots=True)
class ReturnsConfig:
    """What returns decide. A row's return is its reward, or in a task without rewards its outcome.

    Returns are compared inside each task only, since between tasks they tell how hard the task was.

    Attributes:
        objective: Whose loss the weights lower: that of all real validation rows (imitate), of the
            successful ones (successful), or of all in proportion to exp(z / beta), z being the
            return standardised inside its task (return-weighted). Rows without a return count as
            their task's mean under return-weighted, and not at all under successful.
        success_threshold: A return of at least this is a success. By default what the row's field
            success says; else, where all returns are 0 or 1, a return of 1; else the best return
            of its task where the task has a worse one.
        prior: What synthetic rows count before anything is learned: all alike (none), exp(z / beta)
            (rwr), or 1 for the best of each task and outer.w_min for the rest (filtered). Rows
            without a return count as their task's mean under rwr, and 1 under filtered.
        beta: Temperature of returns; the smaller, the more they decide.
        keep_fraction: Share of a task's synthetic rows that filtered keeps.
        cap: Most that exp(z / beta) counts in the objective; with a prior, the most that a weight
            exceeds the mean.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    objective: ObjectiveName = "imitate"
    success_threshold: float | None = None
    prior: PriorName = "none"
    beta: float = 1.0
    keep_fraction: float = 0.5
    cap: float = 20.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_one_of(self, "objective", get_args(ObjectiveName))
        _require_one_of(self, "prior", get_args(PriorName))
        _require_positive(self, "beta")
        if not 0 < self.keep_fraction <= 1:
            _refuse("keep_fraction", self.keep_fraction, "a share above 0, up to 1")
        if not 1 < self.cap < math.inf:
            _refuse("cap", self.cap, "a number above 1")
        if self.success_threshold is not None and not math.isfinite(self.success_threshold):
            _refuse("success_threshold", self.success_threshold, "a number")


@dataclass(frozen=True, slots=True)
class RetrainConfig:
    """Training an adapter from the base with the final weights, for the user to keep.

    Attributes:
        enabled: Whether to.
        epochs: Passes over the training rows.
        learning_rate: Of AdamW, at its highest; by default that of the inner level.
        warmup_share: Share of the steps over which the rate rises to it.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    enabled: bool = False
    epochs: float = 2.0
    learning_rate: float = 3e-3
    warmup_share: float = 0.05

    def __post_init__(self) -> None:
        """Check the ranges."""
        _require_positive(self, "epochs", "learning_rate")
        if not 0 <= self.warmup_share < 1:
            _refuse("warmup_share", self.warmup_share, "a share from 0 to below 1")


@dataclass(frozen=True, slots=True)
class RunConfig:
    """All settings of a run.

    Attributes:
        data: What is read.
        model: The language model.
        inner: The inner level.
        estimator: The hypergradient.
        outer: The outer level.
        retrain: The adapter that a user keeps.
        returns: What rewards and outcomes decide.
        track: Where the numbers of every outer step go beside the trace: none, tensorboard or
            trackio, which must be installed.
        method: What gives the weights: learned, the name of a scorer (see `trajweight.scorers`), or
            compare, which sets all of them side by side.
        seed: Of splits, adapter, head and batches.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _STRICT

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    inner: InnerConfig = field(default_factory=InnerConfig)
    estimator: EstimatorConfig = field(default_factory=EstimatorConfig)
    outer: OuterConfig = field(default_factory=OuterConfig)
    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    returns: ReturnsConfig = field(default_factory=ReturnsConfig)
    track: TrackerName = "none"
    method: str = LEARNED
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what is no section."""
        _require_one_of(self, "track", get_args(TrackerName))
        if self.data.real_share == AUTO and self.method not in (LEARNED, COMPARE):
            message = f"real_share is auto, which trainings find, and method {self.method} has none"
            raise ConfigError(message, hint="Give a share between 0 and 1, or --method learned.")

    def to_toml(self) -> str:
        """The settings as TOML; settings that stand at 'none' are left out."""
        return tomli_w.dumps(_without_none(asdict(self)))

    @classmethod
    def from_toml(cls, text: str) -> RunConfig:
        """Read settings; those not named keep their defaults.

        Raises:
            ConfigError: If the text is no TOML, or names a setting that does not exist.
        """
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            message = f"the settings are no TOML: {error}"
            raise ConfigError(message) from error
        return cls.of(found)

    @classmethod
    def of(cls, found: dict[str, Any]) -> RunConfig:
        """Settings by section and name; those not named keep their defaults.

        Raises:
            ConfigError: If one does not exist, or its value cannot be used.
        """
        from pydantic import TypeAdapter, ValidationError

        try:
            return TypeAdapter(cls).validate_python(found)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            message = f"{name} is {first['input']!r}: {first['msg']}"
            raise ConfigError(message, hint="See --print-config for the settings.") from error


def _without_none(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _without_none(value) for key, value in values.items() if value is not None}
    return values


def _require_one_of(config: Any, name: str, allowed: tuple[str, ...]) -> None:
    if getattr(config, name) not in allowed:
        _refuse(name, getattr(config, name), f"{', '.join(allowed[:-1])} or {allowed[-1]}")


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            _refuse(name, value, "more than 0")


def _refuse(name: str, value: object, allowed: str) -> None:
    message = f"{name} is {value!r}; it must be {allowed}"
    raise ConfigError(message)
