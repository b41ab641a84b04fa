"""The settings of a run, from four places: flag, then environment, then file, then default."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trajweight.cli._options import SETTINGS
from trajweight.config import DataConfig, RunConfig
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.cli._options import Data, Learning

#: Options that say how to speak, not what to do.
_BESIDE_RESUME: Final = {
    *("resume", "as_json", "quiet", "debug"),
    *("fail_under_ess", "max_top1_mass"),
}
#: Options that take a number or a word.
_NUMBER_OR_WORD: Final = {"real_share"}


def resolve(chosen: Data) -> RunConfig:
    """The settings of a command that reads trajectories.

    Raises:
        ConfigError: If a value cannot be used; the message names the flag or the file.
    """
    config = RunConfig() if chosen.config is None else _from_file(chosen.config)
    changed: dict[str, Any] = {}
    for option, setting in SETTINGS.items():
        value = getattr(chosen, option, None)
        if value is not None:
            section, _, name = setting.partition(".")
            before = changed.get(section, getattr(config, section))
            changed[section] = _with(before, option, name, value)
    if chosen.force:
        changed["data"] = replace(changed.get("data", config.data), force=True)
    for option in ("seed", "track", "method"):
        if (value := getattr(chosen, option, None)) is not None:
            changed[option] = value
    # All at once: what may not stand beside the file's settings may beside another flag.
    return replace(config, **changed)


def resume_folder(chosen: Learning, typed: Typed) -> Path | None:
    """The run to go on with, or None where a new one is to be made.

    Raises:
        ConfigError: If a setting is given too, which the run has decided already.
    """
    if chosen.resume is None:
        return None
    idle = sorted(typed.flags - _BESIDE_RESUME)
    if idle:
        given = "PATHS" if idle[0] == "paths" else f"--{idle[0].replace('_', '-')}"
        message = f"{given} cannot be given with --resume: the run to go on with decides it."
        raise ConfigError(message, hint=f"Leave out {given}, or leave out --resume to start anew.")
    return chosen.resume


def print_config(config: RunConfig, surface: Surface) -> None:
    """Print the resolved settings: TOML, or the JSON object."""
    for line in config.to_toml().splitlines():
        surface.print(line)
    surface.finish(config=asdict(config))


def run_folder(chosen: Data, data: DataConfig) -> Path:
    """Where to write the run: ``--out``, else a new folder named by time and first file.

    Raises:
        ConfigError: If no file was given anywhere, so there is nothing to make a run of.
    """
    if not data.paths and not data.validation_paths:
        message = "no files given: PATHS is empty"
        raise ConfigError(message, hint="Name at least one JSONL file of trajectories.")
    if chosen.out is not None:
        return chosen.out
    name = Path((*data.paths, *data.validation_paths)[0]).name.partition(".")[0]
    stem = re.sub(r"[^\w-]+", "-", name).strip("-")[:40] or "data"
    first = Path("runs") / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stem}"
    folder, number = first, 2
    while folder.exists():
        folder, number = first.with_name(f"{first.name}-{number}"), number + 1
    return folder


def _from_file(path: Path) -> RunConfig:
    """The settings of a TOML file."""
    try:
        return RunConfig.from_toml(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"--config {path}: {error.strerror or error}"
        raise ConfigError(message, hint="Give a TOML file, such as a run's config.toml.") from error
    except ConfigError as error:
        message = f"{path}: {error.message}"
        raise ConfigError(message, hint=error.hint) from error
    except UnicodeDecodeError as error:
        message = f"{path}: the settings are no UTF-8 text: {error}"
        raise ConfigError(message, hint="Give a TOML file, such as a run's config.toml.") from error


def _with(section: Any, option: str, name: str, value: Any) -> Any:
    """A section of the settings with one of them changed by a flag or the environment."""
    if isinstance(value, list):
        value = tuple(value)
    elif option in _NUMBER_OR_WORD:
        value = _number_or_word(value)
    try:
        return replace(section, **{name: value})
    except ConfigError as error:
        flag = f"--{option.replace('_', '-')}"
        message = error.message.replace(name, flag, 1)
        raise ConfigError(message, hint=error.hint) from error


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
