"""The finished cells of a benchmark as they stand in a file, and what was fixed before the runs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from trajweight.errors import ConfigError, DataError
from trajweight.jsontext import NotJsonError, decode, encode, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trajweight.bench.statistics import Settings

#: Of the lines that are read.
VERSION: Final = 1
_NUMBER: Final = (int, float)
#: Keys that say which cell it is.
_NAMES: Final = ("model", "environment", "noise", "n_validation", "seed", "method", "ablation")
#: Keys of a line, what may stand there, and how that is called; without a result, null or nothing.
_KEYS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "model": ((str,), "text"),
    "environment": ((str,), "text"),
    "noise": (_NUMBER, "a number"),
    "n_validation": ((int,), "a whole number"),
    "seed": ((int,), "a whole number"),
    "method": ((str,), "text"),
    "ablation": ((dict,), "an object"),
    "weights": ((dict, type(None)), "an object or null"),
    "nll": ((dict, type(None)), "an object or null"),
    "play": ((dict, type(None)), "an object or null"),
    "seconds": ((dict, type(None)), "an object or null"),
    "peak_bytes": ((*_NUMBER, type(None)), "a number or null"),
    "selected": ((str, type(None)), "text or null"),
}


class Setting(NamedTuple):
    """What was set up, for all methods and seeds alike."""

    environment: str
    noise: float
    n_validation: int

    def __str__(self) -> str:
        """In words."""
        return f"{self.environment}, {self.noise:.0%} noise, {self.n_validation} validation"


@dataclass(frozen=True, slots=True)
class Cell:
    """One method in one setting with one seed.

    Attributes:
        model: Name of the base model's size.
        setting: The environment, the noise and the number of validation trajectories.
        seed: Pairs the cells of different methods.
        method: Name of the method.
        ablation: What was changed in the method, as JSON; ``{}`` for nothing.
        record: The whole line.
    """

    model: str
    setting: Setting
    seed: int
    method: str
    ablation: str
    record: Mapping[str, Any]

    def at(self, path: str) -> Any:
        """What stands at a path with points, such as nll.test; None where there is nothing."""
        found: Any = self.record
        for part in path.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        return found

    def number(self, path: str) -> float | None:
        """The number at a path; None where none stands."""
        found = self.at(path)
        is_number = isinstance(found, _NUMBER) and not isinstance(found, bool)
        return float(found) if is_number else None


@dataclass(frozen=True, slots=True)
class Metric:
    """What a method is judged by.

    Attributes:
        name: In words.
        path: Where it stands in a cell.
        better: Which way is better.
        unit: In words.
        margin: Differences within it are ties.
    """

    name: str
    path: str
    better: Literal["lower", "higher"]
    unit: str
    margin: float

    @property
    def sign(self) -> float:
        """1 where higher is better, else -1."""
        return 1.0 if self.better == "higher" else -1.0


@dataclass(frozen=True, slots=True)
class Methods:
    """Which method plays which part.

    Attributes:
        learned: The method in question.
        ungated: As the head says, also where dev preferred uniform weights; its ranking is judged.
        uniform: All rows alike.
        permuted: Learned weights dealt to other rows: as concentrated, but on nobody in particular.
        oracle: Knows the truth.
        reads_returns: Look at returns, which the method in question does not.
        cheap: Scores without training, to which the goal on AUROC is held.
    """

    learned: str
    ungated: str
    uniform: str
    permuted: str
    oracle: str
    reads_returns: tuple[str, ...]
    cheap: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claims:
    """What was fixed before the runs.

    Attributes:
        least_seeds: Nothing is claimed from fewer.
        settings: Whether settings are drawn again in intervals.
        replicates: Resamples of a bootstrap.
        seed: Of the draws.
        alpha: Level of Holm's family.
        methods: Their parts.
        seeds: Planned seeds by model.
        primary: The primary metrics.
        auroc_goal: Least mean AUROC.
        auroc_slack: How far below the best cheap score a setting may be.
    """

    least_seeds: int
    settings: Settings
    replicates: int
    seed: int
    alpha: float
    methods: Methods
    seeds: Mapping[str, int]
    primary: tuple[Metric, ...]
    auroc_goal: float
    auroc_slack: float


def read_cells(path: Path) -> list[Cell]:
    """All finished cells, one JSON object a line, in an order that does not depend on the file's.

    Raises:
        DataError: If a line is broken, of an unknown version, or stands there twice.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        message = f"cannot be read: {error.strerror or error}"
        raise DataError(message, path=path) from error
    first: dict[tuple[Any, ...], int] = {}
    cells = []
    for number, line in enumerate(lines, start=1):
        cell = _cell(line, path, number)
        key = cell.model, cell.setting, cell.seed, cell.method, cell.ablation
        if key in first:
            message = f"the cell of line {first[key]} stands here again."
            raise DataError(message, path=path, line=number, hint="Keep one of the two lines.")
        first[key] = number
        cells.append(cell)
    return sorted(
        cells, key=lambda cell: (cell.model, cell.setting, cell.method, cell.ablation, cell.seed)
    )


def read_claims(path: Path) -> Claims:
    """What was fixed before the runs.

    Raises:
        ConfigError: If the file cannot be read, or lacks a key or has one too many.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        message = f"{path}: cannot be read: {error}"
        raise ConfigError(message) from error
    version = found.pop("version", None)
    if version != VERSION:
        message = f"{path}: version is {version!r}; this program reads {VERSION}."
        raise ConfigError(message, hint="Use the program that the file was written for.")
    try:
        parts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in found["methods"].items()
        }
        found["methods"] = Methods(**parts)
        found["primary"] = tuple(Metric(**one) for one in found["primary"])
        goals = found.pop("auroc")
        found |= {f"auroc_{key}": value for key, value in goals.items()}
        return Claims(**found)
    except (KeyError, TypeError) as error:
        keys = ", ".join(field.name for field in fields(Claims))
        message = f"{path}: a key is missing or unknown: {error}"
        raise ConfigError(message, hint=f"It takes: {keys}.") from error


def _cell(line: bytes, path: Path, number: int) -> Cell:
    """One line.

    Raises:
        DataError: If it is no finished cell.
    """
    try:
        record = decode(line)
    except (NotJsonError, UnicodeDecodeError) as error:
        message = f"{error}."
        hint = "A run that was cut off can leave half a line: delete it and run the cell again."
        raise DataError(message, path=path, line=number, hint=hint) from error
    if not isinstance(record, dict):
        message = f"a cell is an object, but this line is {kind_of(record)}."
        raise DataError(message, path=path, line=number, hint="Write one object a line.")
    if record.get("version") != VERSION:
        message = f"version is {record.get('version')!r}; this program reads {VERSION}."
        hint = "Use the program that wrote the file, or run the cells again."
        raise DataError(message, path=path, line=number, hint=hint)
    for key, (types, name) in _KEYS.items():
        if key not in record and key not in _NAMES:
            continue
        value = record.get(key)
        if not isinstance(value, types) or isinstance(value, bool):
            value = f"is {kind_of(value)}" if key in record else "is not there"
            message = f"{key!r} {value}; a finished cell has {name} there."
            hint = "Run the cell again with this version."
            raise DataError(message, path=path, line=number, hint=hint)
    setting = Setting(record["environment"], float(record["noise"]), record["n_validation"])
    ablation = encode(record["ablation"], sort_keys=True)
    return Cell(record["model"], setting, record["seed"], record["method"], ablation, record)
