"""The manifest of an export, ``export.json``: what was written, what it counts, and of what run.

It names no time and no folder, so that equal exports are equal to the byte.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trajweight.errors import ConfigError
from trajweight.files import sha256_of, write_atomically
from trajweight.jsontext import NotJsonError, decode
from trajweight.manifest import SEMANTICS, version_of
from trajweight.trainers import DataFile, Plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajweight.buckets import Buckets
    from trajweight.dial import Dialled
    from trajweight.export.layout import Layout
    from trajweight.export.outgoing import Outgoing
    from trajweight.run import Run
    from trajweight.trainers import Target

MANIFEST: Final = "export.json"
#: major.minor of it.
SCHEMA_VERSION: Final = "1.0"
_SECRET: Final = re.compile(r"^--?(token|.*key|password)$")
_MAKE: Final = "Make one with `trajweight export-weights RUN --to TRAINER --out FOLDER`."


def export_facts(
    run: Run,
    target: Target,
    plan: Plan,
    going: Outgoing,
    layout: Layout,
    *,
    is_exact: bool,
    notes: Sequence[str],
    argv: Sequence[str],
) -> dict[str, Any]:
    """All but the hashes of the files."""
    weights = going.rows["weight"].drop_nulls()
    return {
        "tool": "trajweight",
        "schema_version": SCHEMA_VERSION,
        "version": version_of("trajweight") or "unknown",
        "argv": public_command(argv),
        "target": target.name,
        "mode": plan.mode,
        "checked": list(target.checked),
        "semantics": {
            "weight": f"{SEMANTICS}: sum_i w_i (1/T_i) sum_t l_it / sum_i w_i",
            "token_weight": "token-weighted: w_i mean(T) / T_i on every trained token",
            "is_exact": is_exact,
        },
        "model": plan.model,
        "seed": plan.seed,
        "mean_tokens": plan.mean_tokens,
        "has_tools": plan.has_tools,
        "n_untrained": plan.n_untrained,
        "weights": {
            "mean": weights.mean(),
            "least": weights.min(),
            "greatest": weights.max(),
            "ess_fraction": going.ess_fraction,
            "mass_kept": going.mass_kept,
            "dial": going.dialled and _dial_facts(going.dialled),
        },
        "rows": {
            "in_run": going.n_in_run,
            "exported": going.rows.height,
            "written": sum(file.n_rows for file in plan.data),
            "left_out": going.n_left_out,
        },
        "buckets": layout.buckets and _bucket_facts(layout.buckets),
        "notes": list(notes),
        "run": {
            "weights_sha256": sha256_of(run.path_of("weights.parquet")),
            "manifest_sha256": sha256_of(run.path_of("manifest.json")),
        },
    }


def save_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of an export."""
    text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
    write_atomically(folder / MANIFEST, text.encode())


def read_facts(folder: Path) -> dict[str, Any]:
    """The manifest of an export.

    Raises:
        ConfigError: If there is none, or it is of another major version.
    """
    path = folder / MANIFEST
    try:
        facts = decode(path.read_bytes())
    except (OSError, NotJsonError) as error:
        message = f"{folder}: this is no export: {MANIFEST} cannot be read: {error}"
        raise ConfigError(message, hint=_MAKE) from error
    if not isinstance(facts, dict) or facts.get("tool") != "trajweight":
        message = f"{path}: trajweight did not write this."
        raise ConfigError(message, hint=_MAKE)
    version = str(facts.get("schema_version"))
    if version.partition(".")[0] != SCHEMA_VERSION.partition(".")[0]:
        message = f"{path}: its schema is {version}; this trajweight knows {SCHEMA_VERSION}."
        raise ConfigError(message, hint="Export again with this version.")
    return facts


def plan_of(facts: Mapping[str, Any]) -> Plan:
    """The plan that an export was made by, from its manifest."""
    data = tuple(
        DataFile(each["name"], each["n_rows"], each["rate"], each["epoch"])
        for each in facts["data"]
    )
    return Plan(
        mode=facts["mode"],
        data=data,
        model=facts["model"],
        n_examples=facts["rows"]["exported"],
        mean_tokens=facts["mean_tokens"],
        has_tools=facts["has_tools"],
        seed=facts["seed"],
        n_untrained=facts["n_untrained"],
    )


def with_files(
    facts: Mapping[str, Any], folder: Path, plan: Plan, roles: Mapping[str, str]
) -> dict[str, Any]:
    """The manifest with every file and its hash.

    Args:
        facts: The rest.
        folder: Where the export stands.
        plan: Its data files.
        roles: By name, what each of the other files is: config, adapter, rows or readme.
    """
    data = [asdict(file) | _hashed(folder / file.name) for file in plan.data]
    files = [{"name": name, "role": role} | _hashed(folder / name) for name, role in roles.items()]
    return {**facts, "data": data, "files": files}


def public_command(command: Sequence[str]) -> list[str]:
    """A command line without folders of this machine and without secrets."""
    made: list[str] = []
    for argument in command:
        option, equals, value = argument.partition("=")
        if made and _SECRET.match(made[-1]):
            made.append("...")
        elif equals and _SECRET.match(option):
            made.append(f"{option}=...")
        else:
            made.append(f"{option}={_name(value)}" if equals else _name(argument))
    return made


def _name(text: str) -> str:
    """The last part of a path; what is none, such as a name on a hub, stays."""
    is_path = text.startswith(("/", "~", ".")) or text[1:3] == ":\\" or Path(text).exists()
    return Path(text).name if is_path else text


def _hashed(path: Path) -> dict[str, str]:
    """The hash of a file; a folder has none."""
    return {"sha256": sha256_of(path)} if path.is_file() else {}


def _dial_facts(dialled: Dialled) -> dict[str, Any]:
    facts = asdict(dialled)
    del facts["weights"]
    return facts


def _bucket_facts(made: Buckets) -> dict[str, Any]:
    return {
        "loss": made.loss,
        "ess_before": made.ess_before,
        "ess_after": made.ess_after,
        "each": [asdict(bucket) for bucket in made.buckets],
    }
