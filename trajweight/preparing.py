"""From a job's rows to the model's: what every way of weighing with a model begins with."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from trajweight.encoded import Encoded
from trajweight.errors import DataError, DivergenceError
from trajweight.folding import folding_of
from trajweight.leakage import relatives
from trajweight.material import Material
from trajweight.models import LoadedModel, load_model
from trajweight.objective import objective_of
from trajweight.table import trajectory_of
from trajweight.tokenization import encode_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from trajweight.config import ReturnsConfig
    from trajweight.job import Job


def require_synthetic(job: Job) -> None:
    """Raise where nothing is to be weighed.

    Raises:
        DataError: If there is no synthetic training row.
    """
    if job.count("train", "synthetic") == 0:
        message = "there is no synthetic trajectory to weigh: every row read is real or excluded"
        raise DataError(message, hint="Pass synthetic files too, or --synthetic SOURCE.")


@contextmanager
def rows_by_name(names: Iterable[str]) -> Iterator[None]:
    """Say on which trajectories a training in this block left the finite numbers.

    Args:
        names: Of the rows that are trained on, in their order.

    Raises:
        DivergenceError: The one that was raised, with the names of its first rows.
    """
    try:
        yield
    except DivergenceError as error:
        known = dict(enumerate(names))
        where = [known[row] for row in error.rows[:5] if row in known]
        if not where:
            raise
        message = f"{error.message}; trajectories: {', '.join(where)}"
        raise DivergenceError(message, rows=error.rows, hint=error.hint) from error


def tokenise(
    job: Job, model: str | None = None, max_tokens: int | None = None
) -> tuple[LoadedModel, dict[str, Encoded]]:
    """Load the model and encode every row that may take part; others become excluded.

    Args:
        job: Its settings say which model; its table loses rows that cannot be encoded.
        model: Another one than that of the settings.
        max_tokens: Likewise.

    Raises:
        MissingError: If the model cannot be had.
    """
    settings = job.config.model
    with job.stopwatch.stage("loading the model"):
        loaded = load_model(
            model or settings.model,
            device=settings.device,
            dtype=job.dtype(),
            progress=job.progress,
            processes=job.processes,
        )
    rows = job.with_texts("messages_json", "tools_json").filter(pl.col("split") != "excluded")
    names = rows["traj_id"].to_list()
    with job.stopwatch.stage("tokenising"):
        found = encode_all(
            [trajectory_of(row) for row in rows.iter_rows(named=True)],
            loaded.tokenizer,
            max_tokens=max_tokens or settings.max_tokens,
            progress=job.progress,
        )
    job.say(found.notes)
    paired = list(zip(names, found.rows, strict=True))
    job.exclude({name: row.reason for name, row in paired if not isinstance(row, Encoded)})
    job.facts |= {"model": loaded.name, "mask_strategy": found.strategy}
    job.facts |= {"model_fingerprint": loaded.fingerprint}
    # Each of several processes has a device of its own, but they are of one kind.
    device = loaded.device.type if job.processes.count > 1 else str(loaded.device)
    job.facts |= {"device": device, "dtype": str(loaded.dtype).removeprefix("torch.")}
    return loaded, {name: row for name, row in paired if isinstance(row, Encoded)}


def material_of(
    job: Job, encoded: dict[str, Encoded], returns: ReturnsConfig, *, floor: float
) -> Material:
    """The rows' roles, by position; held-out rows that the objective leaves out have none."""
    objective = objective_of(job.table, returns)
    if objective.remark:
        job.warn(objective.remark)
    if objective.facts:
        job.facts["returns"] = objective.facts
    rows = {row["traj_id"]: row for row in job.table.iter_rows(named=True)}
    chosen = [rows[name] for name in encoded]

    def places(split: str, origin: str) -> list[int]:
        roles = [(row["split"], row["origin"]) for row in chosen]
        return [place for place, role in enumerate(roles) if role == (split, origin)]

    def counted(split: str) -> list[int]:
        found = places(split, "real")
        return [place for place in found if chosen[place]["traj_id"] in objective.within]

    # In an ensemble real training rows may come to judge; what they count then is the same.
    is_training = pl.col("split") == "train"
    as_held = pl.when(is_training).then(pl.lit("validation")).otherwise("split")
    wider = objective_of(
        job.table.with_columns(split=as_held), replace(returns, objective=objective.name)
    )
    would = wider.within if wider.name == objective.name else {}
    counts = [
        (would if row["split"] == "train" else objective.within).get(row["traj_id"], 0.0)
        for row in chosen
    ]
    material = Material(
        encoded=list(encoded.values()),
        n_turns=[row["n_turns"] for row in chosen],
        tasks=[row["task_id"] for row in chosen],
        sources=[row["source"] for row in chosen],
        real=places("train", "real"),
        synthetic=places("train", "synthetic"),
        validation=counted("validation"),
        dev=counted("dev"),
        real_weight=job.real_weight(),
        within=counts,
        objective=objective.sentence,
        prior=job.prior(returns, floor=floor),
    )
    if job.config.outer.ensemble > 1 and folding_of(material, job.config).is_crossfitted:
        with job.stopwatch.stage("splitting"):
            material = replace(
                material, related=_related(job.with_texts("messages_json"), list(encoded))
            )
    return material


def _related(table: pl.DataFrame, names: Sequence[str]) -> dict[int, frozenset[int]]:
    """By position, the real rows that a row belongs with; see `relatives`."""
    place = {name: position for position, name in enumerate(names)}
    found = relatives(table.filter(pl.col("traj_id").is_in(names)))
    return {place[name]: frozenset(place[each] for each in real) for name, real in found.items()}
