"""The card of an exported dataset: where its rows come from, and what their weights mean.

A card is Markdown with a head of YAML, as the Hugging Face Hub wants it. It is public where the
dataset is, so it names files of the machine it was made on without their folders.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from trajweight.analysis.histograms import BIN_EDGES, histogram
from trajweight.export.facts import plan_of, public_command, read_facts, save_facts
from trajweight.files import sha256_of, write_atomically
from trajweight.formats.lookup import look_up
from trajweight.jsontext import decode
from trajweight.trainers import target_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from trajweight.run import Run

UNKNOWN: Final = "unknown"
#: Where rows say their licence.
_LICENCE_FIELDS: Final = ("license", "licence", "metadata.license", "metadata.licence")
#: Names of licences that the Hub knows and that data is often under; all others are "other".
_HUB_LICENCES: Final = frozenset(
    {
        *(
            "apache-2.0",
            "mit",
            "bsd-2-clause",
            "bsd-3-clause",
        ),
        *(
            "bsd-3-clause-clear",
            "gpl-2.0",
            "gpl-3.0",
            "lgpl-3.0",
        ),
        *(
            "agpl-3.0",
            "mpl-2.0",
            "cc",
            "cc0-1.0",
        ),
        *(
            "cc-by-2.0",
            "cc-by-2.5",
            "cc-by-3.0",
            "cc-by-4.0",
        ),
        *(
            "cc-by-sa-3.0",
            "cc-by-sa-4.0",
            "cc-by-nc-2.0",
            "cc-by-nc-3.0",
        ),
        *(
            "cc-by-nc-4.0",
            "cc-by-nd-4.0",
            "cc-by-nc-nd-3.0",
            "cc-by-nc-nd-4.0",
        ),
        *(
            "cc-by-nc-sa-2.0",
            "cc-by-nc-sa-3.0",
            "cc-by-nc-sa-4.0",
            "cdla-permissive-1.0",
        ),
        *(
            "cdla-permissive-2.0",
            "cdla-sharing-1.0",
            "odc-by",
            "odbl",
        ),
        *(
            "pddl",
            "openrail",
            "llama2",
            "llama3",
        ),
        *(
            "llama3.1",
            "llama3.2",
            "llama3.3",
            "llama4",
        ),
        *(
            "gemma",
            "unlicense",
            "wtfpl",
            "zlib",
        ),
        *(
            "isc",
            "unknown",
        ),
    }
)
#: Powers of ten by which the Hub sorts datasets.
_SIZES: Final = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_BAR: Final = 40


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one source.

    Attributes:
        source: Its name.
        origin: real or synthetic.
        n_rows: Trajectories that were exported.
        mass: Their share of the exported weight, 0 to 1.
        licences: By licence, how many of them say it; those that say none are not counted.
    """

    source: str
    origin: str
    n_rows: int
    mass: float
    licences: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says.

    Attributes:
        title: Its heading.
        target: What the rows are written for, as people call it.
        mode: How weights act, see `trainers.Mode`.
        parts: The rows by source, the heaviest first.
        files: By configuration of the dataset its data files.
        n_rows: Rows written, copies included.
        weights: Of the trajectories that have one; their mean is one. Shape (n,).
        licence: What the publisher says of the whole; empty where nothing is said.
        semantics: The objective of the weights.
        is_exact: Whether the target trains it, or something near it.
        ess_fraction: ESS/n of the weights.
        mass_kept: Share of the learned weight that was exported.
        left_out: Reason to number of trajectories of the run that were not exported.
        commands: The command lines that made it, the run's first.
        versions: Of the packages that made the weights.
        usage: How to train on it, as Markdown below a heading of its own; may be empty.
    """

    title: str
    target: str
    mode: str
    parts: tuple[Part, ...]
    files: Mapping[str, Sequence[str]]
    n_rows: int
    weights: Sequence[float]
    licence: str = ""
    semantics: str = "sequence-mean"
    is_exact: bool = True
    ess_fraction: float | None = None
    mass_kept: float = 1.0
    left_out: Mapping[str, int] = field(default_factory=dict)
    commands: tuple[Sequence[str], ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    usage: str = ""


def card(facts: CardFacts) -> str:
    """The text of ``README.md``."""
    body = "\n".join(_body(facts)).rstrip()
    return f"---\n{_head(facts)}\n---\n\n{body}\n"


def card_facts(folder: Path, run: Run, *, licence: str = "", title: str = "") -> CardFacts:
    """The facts of an export and of the run it was made from.

    Args:
        folder: Of the export, with ``export.json`` and ``rows.parquet``.
        run: The run.
        licence: That of the whole, where the publisher says one.
        title: The heading; by default one is made.

    Raises:
        ConfigError: If the folder is no export.
        RunError: If the run has lost its rows.
    """
    facts = read_facts(folder)
    plan = plan_of(facts)
    rows = pl.read_parquet(folder / "rows.parquet")
    manifest = run.manifest()
    target = target_named(facts["target"])
    names = [file.name for file in plan.data]
    is_one = len(names) == 1
    weights = rows["weight"].drop_nulls()
    return CardFacts(
        title=title or f"Weighted trajectories for {target.title}",
        target=target.title,
        mode=plan.mode,
        parts=_parts(rows, run),
        files={"default" if is_one else PurePath(name).stem: [name] for name in names},
        n_rows=facts["rows"]["written"],
        weights=weights.to_list(),
        licence=licence,
        semantics=facts["semantics"]["weight"],
        is_exact=facts["semantics"]["is_exact"],
        ess_fraction=facts["weights"]["ess_fraction"],
        mass_kept=facts["weights"]["mass_kept"],
        left_out=facts["rows"]["left_out"],
        commands=tuple(argv for argv in (manifest.get("argv"), facts["argv"]) if argv),
        versions={
            "trajweight": facts["version"],
            **{name: told for name, told in manifest.get("packages", {}).items() if told},
        },
        usage=_usage(folder),
    )


def write_card(folder: Path, run: Run, *, licence: str = "") -> None:
    """Make the README of an export a card, with what it said of training below.

    Args:
        folder: Of the export.
        run: What it was made from.
        licence: That of the whole, where the publisher says one.

    Raises:
        ConfigError: If the folder is no export.
    """
    text = card(card_facts(folder, run, licence=licence))
    write_atomically(folder / "README.md", text.encode())
    facts = read_facts(folder)
    for file in facts["files"]:
        if file["role"] == "readme":
            file["sha256"] = sha256_of(folder / file["name"])
    save_facts(folder, facts)


def _usage(folder: Path) -> str:
    """What the export says of training on it, one heading deeper; nothing if that is a card."""
    path = folder / "README.md"
    text = path.read_text("utf-8") if path.is_file() else ""
    return "" if text.startswith("---") else re.sub(r"(?m)^(#+ )", r"#\1", text)


def _parts(rows: pl.DataFrame, run: Run) -> tuple[Part, ...]:
    """The exported rows by source, with the licences that they say."""
    labels = zip(rows["source"], rows["origin"], strict=True)
    source_of = dict(zip(rows["traj_id"], labels, strict=True))
    licences: dict[tuple[str, str], Counter[str]] = {}
    for frame in run.trajectory_batches("extra_json"):
        for name, text in zip(frame["traj_id"], frame["extra_json"], strict=True):
            if name in source_of and "licen" in text and (told := _licence_of(decode(text))):
                licences.setdefault(source_of[name], Counter())[told] += 1
    grouped = rows.group_by("source", "origin", maintain_order=True).agg(
        pl.len().alias("n_rows"), pl.col("weight").sum().alias("mass")
    )
    whole = float(grouped["mass"].sum()) or 1.0
    parts = [
        Part(source, origin, n_rows, mass / whole, dict(licences.get((source, origin), {})))
        for source, origin, n_rows, mass in grouped.iter_rows()
    ]
    return tuple(sorted(parts, key=lambda part: (-part.mass, part.source)))


def _licence_of(row: Any) -> str:
    """What a row says of its licence; empty where it says nothing."""
    for path in _LICENCE_FIELDS:
        if isinstance(told := look_up(row, path), str) and told.strip():
            return told.strip()
    return ""


def _head(facts: CardFacts) -> str:
    """The YAML of the head, without its fences."""
    from huggingface_hub import DatasetCardData

    configs = [
        {"config_name": name, "data_files": [{"split": "train", "path": list(paths)}]}
        for name, paths in facts.files.items()
    ]
    data = DatasetCardData(
        license=_hub_licence(facts),
        pretty_name=facts.title,
        task_categories=["text-generation"],
        size_categories=[size_category(facts.n_rows)],
        tags=["trajweight", "trajectories", "agent", "sample-weights", "synthetic"],
        configs=configs,
    )
    return str(data.to_yaml()).rstrip()


def size_category(n_rows: int) -> str:
    """What the Hub calls datasets of so many rows.

    Example:
        >>> size_category(999), size_category(1000), size_category(2 * 10**6)
        ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    power = next((k for k in range(len(_SIZES)) if n_rows < 10 ** (k + 3)), len(_SIZES))
    if power == 0:
        return f"n<{_SIZES[0]}"
    return f"n>{_SIZES[-1]}" if power == len(_SIZES) else f"{_SIZES[power - 1]}<n<{_SIZES[power]}"


def _hub_licence(facts: CardFacts) -> str | list[str]:
    """The licence as the Hub wants it: one name or several."""
    if facts.licence:
        return _hub_name(facts.licence)
    told = {name for part in facts.parts for name in part.licences}
    names = {_hub_name(name) for name in told}
    if any(sum(part.licences.values()) < part.n_rows for part in facts.parts):
        names.add(UNKNOWN)
    return names.pop() if len(names) == 1 else sorted(names)


def _hub_name(licence: str) -> str:
    name = "-".join(licence.lower().split())
    return name if name in _HUB_LICENCES else "other"


def _body(facts: CardFacts) -> Iterator[str]:
    yield f"# {facts.title}"
    yield ""
    n_parts = len(facts.parts)
    yield (
        f"{sum(part.n_rows for part in facts.parts)} multi-turn trajectories of {n_parts} "
        f"source{'s' if n_parts != 1 else ''}, each with a weight that was learned from a few real "
        f"ones; written for {facts.target}, mode `{facts.mode}`, as {facts.n_rows} rows."
    )
    yield ""
    yield from _sources(facts)
    yield from _weights(facts)
    yield from _making(facts)
    if facts.usage:
        yield facts.usage


def _sources(facts: CardFacts) -> Iterator[str]:
    yield "## Sources and licences"
    yield ""
    yield "| source | origin | trajectories | share of the weight | licence |"
    yield "| --- | --- | ---: | ---: | --- |"
    for part in facts.parts:
        yield (
            f"| {_cell(part.source)} | {part.origin} | {part.n_rows} | {part.mass:.1%} "
            f"| {_cell(_licences(part))} |"
        )
    yield ""
    if facts.licence:
        yield f"The publisher puts the whole under: {facts.licence}."
        yield ""
    if any(sum(part.licences.values()) < part.n_rows for part in facts.parts):
        yield (
            "Rows whose licence is unknown say none. Find out what the terms of their source are "
            "before you pass them on."
        )
        yield ""
    for reason, count in facts.left_out.items():
        yield f"- {count} trajectories were left out: {_cell(reason)}."
    if facts.left_out:
        yield ""


def _licences(part: Part) -> str:
    told = sorted(part.licences.items(), key=lambda pair: (-pair[1], pair[0]))
    silent = part.n_rows - sum(part.licences.values())
    if silent:
        told.append((UNKNOWN, silent))
    return told[0][0] if len(told) == 1 else ", ".join(f"{name} ({n})" for name, n in told)


def _weights(facts: CardFacts) -> Iterator[str]:
    import numpy as np

    yield "## What the weights mean"
    yield ""
    yield (
        f"Their objective is {facts.semantics}: a trajectory counts by its weight, not by its "
        "length. They are at least 0, and their mean over these trajectories is one, so a "
        "trajectory of weight 2 pulls twice as hard as an average one."
    )
    if not facts.is_exact:
        yield f"{facts.target} trains an approximation of this objective in mode `{facts.mode}`."
    if facts.mass_kept < 1:
        yield f"The export holds {facts.mass_kept:.1%} of the weight that was learned."
    if facts.ess_fraction is not None:
        n = len(facts.weights)
        yield (
            f"The effective sample size, (sum w)^2 / sum w^2, is {facts.ess_fraction * n:.0f} of "
            f"{n}, or {facts.ess_fraction:.3f} of it."
        )
    yield ""
    if not facts.weights:
        return
    counts = histogram(np.array(facts.weights, dtype=np.float64)).counts
    yield "```text"
    yield "weight      trajectories"
    yield from (
        f"{_edge(place):<11} {count:>8} {'#' * round(_BAR * count / max(counts))}".rstrip()
        for place, count in enumerate(counts)
    )
    yield "```"
    yield ""


def _edge(place: int) -> str:
    low = BIN_EDGES[place]
    is_last = place + 1 == len(BIN_EDGES)
    return f"{low:.1f} and up" if is_last else f"{low:.1f} to {BIN_EDGES[place + 1]:.1f}"


def _making(facts: CardFacts) -> Iterator[str]:
    if facts.commands:
        yield "## How it was made"
        yield ""
        yield "```sh"
        yield from (shlex.join(public_command(command)) for command in facts.commands)
        yield "```"
        yield ""
    if facts.versions:
        told = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
        yield f"Versions: {told}."
        yield ""


def _cell(text: str) -> str:
    """Text that stays inside a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
