"""What a run says about itself, so that somebody else can run it again.

No package is imported to learn its version.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from trajweight.files import sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: major.minor; a reader refuses another major and ignores fields that a newer minor added.
SCHEMA_VERSION: Final = "2.0"
#: The objective the weights belong to: a trajectory counts by its weight, not by its length.
SEMANTICS: Final = "sequence-mean"
#: Packages whose version can change a weight.
PACKAGES: Final = (
    *("torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "polars"),
    *("datasets", "orjson"),
)


def manifest_facts(
    *,
    arguments: Mapping[str, Any],
    seeds: Mapping[str, int],
    inputs: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    started: str,
    argv: Sequence[str] = (),
) -> dict[str, Any]:
    """What a manifest says about one run, for `Run.save_manifest`.

    Args:
        arguments: The resolved options by name.
        seeds: Every seed by its use.
        inputs: From `input_facts`, of every file that is read.
        counts: How many rows were read, kept, rejected, and so on.
        started: From `now`, when the run began.
        argv: The command line as it was typed.
    """
    return {
        "argv": list(argv),
        "arguments": dict(arguments),
        "seeds": dict(seeds),
        "inputs": [dict(each) for each in inputs],
        "counts": dict(counts),
        "started": started,
        "finished": now(),
    }


def input_facts(path: Path) -> dict[str, Any]:
    """Name, size and SHA-256 of a file.

    Raises:
        DataError: If it cannot be read.
    """
    digest = sha256_of(path)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest}


def standing_facts() -> dict[str, Any]:
    """What every manifest says, whatever was run."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": "trajweight",
        "tool_version": version_of("trajweight") or "unknown",
        "semantics": SEMANTICS,
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in PACKAGES},
    }


def version_of(package: str) -> str | None:
    """The installed version of a package, or None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def now() -> str:
    """The time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
