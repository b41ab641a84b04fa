"""What two runs say of how they were made: settings, versions, model, files; only what differs."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.facts import Facts
from trajweight.errors import RunError
from trajweight.run import CONFIG, REPORT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trajweight.run import Run

#: Of the manifest: what gives weights their meaning, then what computed them.
MADE_WITH: Final = (
    *("semantics", "objective", "kind", "model", "model_fingerprint", "mask_strategy"),
    *("device", "dtype", "processes", "tool_version", "schema_version", "python"),
)
#: Of the report: which weights were taken, and what they gave.
LEARNED: Final = (
    *("selected", "why_uniform", "temperature", "trained_run", "outer_steps"),
    *("uniform_dev_loss", "weighted_dev_loss"),
)


@dataclass(frozen=True, slots=True)
class Change(Facts):
    """Something that is said otherwise in two runs.

    Attributes:
        name: What it is; a setting is told with its section, as in ``outer.head``.
        a: What the first run says; None where it says nothing.
        b: What the second says.
    """

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class InputChange(Facts):
    """A file that is not in both runs with the same content.

    Attributes:
        path: Its name.
        sha256_a: Of its content as the first run read it; None where it did not.
        sha256_b: As the second read it.
    """

    path: str
    sha256_a: str | None
    sha256_b: str | None


@dataclass(frozen=True, slots=True)
class Provenance(Facts):
    """What differs in how two runs were made.

    Attributes:
        settings: Of ``config.toml``.
        made_with: Of the manifest: objective, model, device, versions.
        inputs: Files by their content; another name alone is no difference.
        learned: Of the report: what the learning ended with. A result, and no cause.
    """

    settings: tuple[Change, ...]
    made_with: tuple[Change, ...]
    inputs: tuple[InputChange, ...]
    learned: tuple[Change, ...]

    @property
    def is_empty(self) -> bool:
        """Whether both were made alike, as far as the record goes."""
        return not (self.settings or self.made_with or self.inputs)


def provenance(a: Run, b: Run) -> Provenance:
    """What differs in how two runs were made.

    Raises:
        RunError: If one of them lacks its manifest or its settings, or they cannot be read.
    """
    told = a.manifest(), b.manifest()
    return Provenance(
        settings=changes(*(_settings(run) for run in (a, b))),
        made_with=changes(*map(_making, told)),
        inputs=input_changes(*(each.get("inputs", ()) for each in told)),
        learned=changes(*map(_learning, (a, b))),
    )


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[Change, ...]:
    """What is not the same in both, in the order of the first; what one lacks is None there.

    Example:
        >>> [each.as_dict() for each in changes({"seed": 0, "track": "none"}, {"seed": 1})]
        [{'name': 'seed', 'a': 0, 'b': 1}, {'name': 'track', 'a': 'none', 'b': None}]
    """
    names = dict.fromkeys((*a, *b))
    return tuple(
        Change(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)
    )


def input_changes(
    a: Iterable[Mapping[str, Any]], b: Iterable[Mapping[str, Any]]
) -> tuple[InputChange, ...]:
    """The files of two manifests that are not in both, by their content.

    A file of one run whose content the other read under another name is in both. Of the rest,
    those of one name are one file that has changed.

    Args:
        a: With ``path`` and ``sha256``.
        b: The same.
    """
    told_a, told_b = ({(each["path"], each["sha256"]): None for each in side} for side in (a, b))
    left = dict(each for each in told_a if each not in told_b)
    right = dict(each for each in told_b if each not in told_a)
    in_both = Counter(left.values()) & Counter(right.values())
    left, right = _beyond(left, in_both), _beyond(right, in_both)
    return tuple(
        InputChange(path, left.get(path), right.get(path))
        for path in dict.fromkeys((*left, *right))
    )


def flattened(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their full names.

    Example:
        >>> flattened({"seed": 0, "outer": {"head": "mlp"}})
        {'seed': 0, 'outer.head': 'mlp'}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inside = isinstance(value, dict)
        found |= flattened(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}
    return found


def _settings(run: Run) -> dict[str, Any]:
    """The settings of a run by their full names."""
    path = run.path_of(CONFIG)
    try:
        return flattened(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:  # no TOML, or no UTF-8
        message = f"is not TOML: {error}"
        hint = "Run it again into the same folder with --force."
        raise RunError(message, path=path, hint=hint) from error


def _making(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What made the run; versions of packages by their names."""
    return {name: manifest.get(name) for name in MADE_WITH} | dict(manifest.get("packages", {}))


def _learning(run: Run) -> dict[str, Any]:
    """What the learning ended with; nothing where the run has no report."""
    told = run.report().get("learning", {}) if run.has(REPORT) else {}
    return {name: told.get(name) for name in LEARNED}


def _beyond(inputs: Mapping[str, str], in_both: Counter[str]) -> dict[str, str]:
    """The files that the other run has no match for, with their hashes."""
    found, left = {}, in_both.copy()
    for path, digest in inputs.items():
        if left[digest] > 0:
            left[digest] -= 1
        else:
            found[path] = digest
    return found
