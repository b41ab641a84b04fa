"""The one place where the wings meet: files to trajectories, to weights, to a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from trajweight.encoded import Encoded
from trajweight.errors import ConfigError, DataError, DivergenceError
from trajweight.job import Job
from trajweight.learning import Scored, learn_weights, score_rows
from trajweight.material import Material
from trajweight.models import LoadedModel, load_model
from trajweight.table import trajectory_of
from trajweight.tokenization import encode_all
from trajweight.weights import weight_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.config import RunConfig
    from trajweight.progress import Progress
    from trajweight.run import Run


def curate(
    config: RunConfig,
    out: Path,
    *,
    force: bool,
    progress: Progress,
    argv: Sequence[str] = (),
) -> Run:
    """Read, split, learn a weight for every synthetic trajectory, and write the run.

    Args:
        config: All settings.
        out: The run's folder.
        force: Take a folder that holds an older run.
        progress: Told of every stage and decision.
        argv: The command line, for the manifest.

    Raises:
        DataError: If nothing could be kept, or there is no synthetic trajectory to weigh.
        ConfigError: If a setting or the folder cannot be used.
        MissingError: If the model cannot be had.
    """
    job = Job.begin(config, out, force=force, progress=progress, argv=argv)
    with job.accounted():
        job.read()
        job.split()
        _weigh(job)
    return job.run


def score_with(
    trained: Run,
    config: RunConfig,
    out: Path,
    *,
    force: bool,
    progress: Progress,
    argv: Sequence[str] = (),
) -> Run:
    """Apply the head of a trained run to new trajectories, by forward passes alone.

    Synthetic rows get weights with mean one over the new data; rows that copy a held-out row of
    the trained run are excluded.

    Raises:
        RunError: If ``trained`` has no head, or the model is another one.
        DataError: If there is no synthetic trajectory to weigh.
    """
    tensors, head_config = trained.head()
    if out.resolve() == trained.folder.resolve():
        message = f"{out} is the trained run itself"
        raise ConfigError(message, hint="Give another --out.")
    job = Job.begin(config, out, force=force, progress=progress, argv=argv)
    with job.accounted():
        job.read()
        job.split_against(trained)
        _require_synthetic(job)
        if head_config["selected"] == "uniform":
            job.weigh_uniformly("in its own run this head did no better than uniform weights")
            return job.run
        adapter = head_config["adapter"]
        loaded, encoded = tokenise(job, head_config["model"], adapter["max_tokens"])
        _require_synthetic(job)
        material = _material(job, encoded)
        scored = score_rows(
            loaded,
            material.encoded,
            material.n_turns,
            material.sources,
            material.synthetic,
            tensors=tensors,
            head_config=head_config,
            progress=progress,
            stopwatch=job.stopwatch,
        )
        _save_scores(job, scored, list(encoded), material)
        job.facts |= {"mode": "applied", "selected": "head", "trained_run": str(trained.folder)}
    return job.run


def _weigh(job: Job) -> None:
    """Learn the weights, or make them uniform where there are too few rows to learn from."""
    _require_synthetic(job)
    why = job.too_few_validation_rows()
    if job.count("train", "synthetic") == 1:
        why = "a single synthetic trajectory has weight one"
    if not why:
        loaded, encoded = tokenise(job)
        _require_synthetic(job)
        why = job.too_few_validation_rows()
        if not why:
            _learn(job, loaded, encoded)
            return
    job.weigh_uniformly(why)


def _require_synthetic(job: Job) -> None:
    if job.count("train", "synthetic") == 0:
        message = "there is no synthetic trajectory to weigh: every row read is real or excluded"
        raise DataError(message, hint="Pass synthetic files too, or --synthetic SOURCE.")


def tokenise(
    job: Job, model: str | None = None, max_tokens: int | None = None
) -> tuple[LoadedModel, dict[str, Encoded]]:
    """Load the model and encode every row that may take part; others become excluded."""
    settings = job.config.model
    with job.stopwatch.stage("loading the model"):
        loaded = load_model(
            model or settings.model,
            device=settings.device,
            dtype=settings.dtype,
            progress=job.progress,
        )
    rows = job.table.filter(pl.col("split") != "excluded")
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
    job.facts |= {"device": str(loaded.device), "dtype": str(loaded.dtype).removeprefix("torch.")}
    return loaded, {name: row for name, row in paired if isinstance(row, Encoded)}


def _learn(job: Job, loaded: LoadedModel, encoded: dict[str, Encoded]) -> None:
    """Learn weights, and write them with the head and the trace."""
    material = _material(job, encoded)
    try:
        outcome = learn_weights(
            loaded,
            material,
            job.config,
            progress=job.progress,
            stopwatch=job.stopwatch,
            on_step=job.run.append_trace,
        )
    except DivergenceError as error:
        names = list(encoded)
        where = ", ".join(names[row] for row in error.rows[:5])
        message = f"{error.message}; trajectories: {where}"
        raise DivergenceError(message, rows=error.rows, hint=error.hint) from error
    tensors, described = outcome.head.pack()
    config = {
        **described,
        "model": _lasting_name(loaded.name),
        "model_fingerprint": loaded.fingerprint,
        "selected": outcome.facts["selected"],
    }
    job.run.save_head(tensors, config)
    _save_scores(job, outcome.scored, list(encoded), material)
    job.facts |= outcome.facts
    if outcome.facts["selected"] == "uniform":
        job.warn("the learned weights did no better than uniform ones; every weight is one")
    if not material.dev:
        job.warn("no dev rows: learned and uniform weights were compared on validation rows")


def _lasting_name(model: str) -> str:
    """A model's name that holds in any working folder: the whole path of a local one."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def _material(job: Job, encoded: dict[str, Encoded]) -> Material:
    """The rows' roles, by position."""
    rows = {row["traj_id"]: row for row in job.table.iter_rows(named=True)}
    chosen = [rows[name] for name in encoded]

    def places(split: str, origin: str) -> list[int]:
        roles = [(row["split"], row["origin"]) for row in chosen]
        return [place for place, role in enumerate(roles) if role == (split, origin)]

    return Material(
        encoded=list(encoded.values()),
        n_turns=[row["n_turns"] for row in chosen],
        tasks=[row["task_id"] for row in chosen],
        sources=[row["source"] for row in chosen],
        real=places("train", "real"),
        synthetic=places("train", "synthetic"),
        validation=places("validation", "real"),
        dev=places("dev", "real"),
        real_weight=job.real_weight(),
    )


def _save_scores(job: Job, scored: Scored, names: list[str], material: Material) -> None:
    """Write weights and features; rows come back in the order of the trajectory table."""
    weighed = [names[place] for place in material.synthetic]
    lengths = [len(row.input_ids) for row in material.encoded]
    table = weight_table(
        job.table,
        weights=dict(zip(weighed, scored.weights.double().tolist(), strict=True)),
        real_weight=material.real_weight,
        scores=dict(zip(names, scored.scores.double().tolist(), strict=True)),
        n_tokens=dict(zip(names, lengths, strict=True)),
    )
    job.run.save_table("weights", table)
    features = pl.DataFrame(
        {
            "traj_id": names,
            "n_assistant_tokens": [sum(row.assistant_mask) for row in material.encoded],
            "base_nll": scored.base_nll.double().tolist(),
            "embedding": scored.embeddings.float().tolist(),
        },
        schema={
            "traj_id": pl.String,
            "n_assistant_tokens": pl.Int64,
            "base_nll": pl.Float64,
            "embedding": pl.List(pl.Float32),
        },
    )
    job.run.save_table("features", features)
