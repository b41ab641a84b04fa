"""What is asked of an export, and whether the target can give it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trajweight.errors import ConfigError
from trajweight.selection import Filters
from trajweight.trainers import target_named

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.dial import How
    from trajweight.trainers import Mode, Target

#: By ending of ``--out``, the plain target it asks for.
_ENDINGS: Final = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}
#: By option the one mode that reads it, and the field of `ExportRequest` where it stands.
_OPTIONS: Final[tuple[tuple[str, Mode, str], ...]] = (
    ("--epochs", "resample", "epochs"),
    ("--epoch-rows", "resample", "epoch_rows"),
    ("--buckets", "buckets", "buckets"),
    ("--max-tokens", "tokenized", "max_tokens"),
)
#: Modes in which a plain target is one file.
_PLAIN_MODES: Final = ("native", "filter")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What is asked of an export. What is None was not asked for, and takes its default.

    Attributes:
        to: Name of the target, see `trainers.TARGETS`; auto: a plain file by the ending of its
            name.
        mode: How weights shall act; by default the target's first.
        filters: Which rows go out.
        target_ess: Least ESS/n of the exported weights; the dial is turned to reach it.
        dial: How: temper, clip or mix; by default temper.
        epochs: In mode resample, how many files, each for one epoch; by default three.
        epoch_rows: In mode resample, rows of a file; by default as many as trajectories go out.
        buckets: In mode buckets, how many at most; by default four.
        model: The base model to fine-tune; by default that of the run.
        max_tokens: In mode tokenized, the longest row; by default 2048 tokens.
        seed: Of resampling.
        allow_unfaithful: Write also what is known not to act as weights.
    """

    to: str = "auto"
    mode: Mode | None = None
    filters: Filters = field(default_factory=Filters)
    target_ess: float | None = None
    dial: How | None = None
    epochs: int | None = None
    epoch_rows: int | None = None
    buckets: int | None = None
    model: str | None = None
    max_tokens: int | None = None
    seed: int = 0
    allow_unfaithful: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for option, _, field_name in _OPTIONS:
            number = getattr(self, field_name)
            if number is not None and number < 1:
                message = f"{option} is {number}; it must be at least 1."
                raise ConfigError(message)


def target_of(request: ExportRequest, out: Path) -> Target:
    """The target that was named, or the plain one that the ending of the file asks for.

    Raises:
        ConfigError: If there is no such target, or the ending says none.
    """
    if request.to != "auto":
        return target_named(request.to)
    name = out.name.lower()
    for ending, plain in _ENDINGS.items():
        if name.endswith(ending):
            return target_named(plain)
    if not out.suffix or out.is_dir():
        return target_named("datasets")
    message = f"--out {out} has the ending {out.suffix!r}, which names no format."
    hint = "Use .jsonl, .jsonl.gz, .parquet or a folder, or say --to TARGET."
    raise ConfigError(message, hint=hint)


def mode_of(target: Target, request: ExportRequest) -> Mode:
    """The mode that was asked for, if the target has it and it can mean something.

    Raises:
        ConfigError: If not; it says why, and names the nearest mode that is faithful.
    """
    mode = request.mode or target.modes[0]
    refusal = target.refused.get(mode)
    is_forced = refusal is not None and refusal.can_be_forced and request.allow_unfaithful
    if mode in target.modes or is_forced:
        _require_meaning(target, mode, request)
        return mode
    if refusal is None:
        message = f"--mode {mode}: {target.title} has no such mode."
        raise ConfigError(message, hint=f"It has {', '.join(target.modes)}.")
    hint = f"The nearest that is faithful: --mode {refusal.nearest}."
    if refusal.can_be_forced:
        hint += " To write it all the same: --allow-unfaithful."
    message = f"--to {target.name} --mode {mode} is refused: {refusal.reason}"
    raise ConfigError(message, hint=hint)


def is_one_file(target: Target, mode: Mode) -> bool:
    """Whether an export is data and nothing else: a file, or one folder of `datasets`."""
    return target.is_plain and mode in _PLAIN_MODES


def _require_meaning(target: Target, mode: Mode, request: ExportRequest) -> None:
    """Refuse options that would say nothing, or something else."""
    for option, its_mode, field_name in _OPTIONS:
        if mode != its_mode and getattr(request, field_name) is not None:
            message = f"{option} says nothing in mode {mode}; only mode {its_mode} reads it."
            other = f", or take --mode {its_mode}" if its_mode in target.modes else ""
            raise ConfigError(message, hint=f"Leave it out{other}.")
    if request.dial is not None and request.target_ess is None:
        message = f"--dial {request.dial} says nothing without --target-ess, which it is to meet."
        raise ConfigError(message, hint="Add --target-ess X, such as 0.5, or leave it out.")
    if request.filters.splits != ("train",) and not is_one_file(target, mode):
        message = "--split: rows outside of split train have no weight, and a trainer needs one."
        raise ConfigError(message, hint="Export them with --to jsonl.")
    if mode == "filter" and not request.filters.are_by_weight:
        message = "--mode filter needs to know which rows to leave out."
        hint = "Give --top-k, --top-fraction, --top-p, --min-weight or --quota."
        raise ConfigError(message, hint=hint)
    if mode == "filter" and request.target_ess is not None:
        message = "--target-ess changes weights, and in mode filter there are none."
        raise ConfigError(message, hint="Leave it out, or take another --mode.")
