"""The one place where the wings meet: files to trajectories, to weights, to a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trajweight.analysis.report import build_report
from trajweight.config import MINIMUM_VALIDATION, DataConfig, RunConfig
from trajweight.duplicates import comparable_text, near_duplicates
from trajweight.encoded import Encoded
from trajweight.errors import ConfigError, DataError
from trajweight.learning import Material, Scored, Stopwatch, learn_weights, score_rows
from trajweight.manifest import manifest_facts, now
from trajweight.models import LoadedModel, load_model
from trajweight.progress import Progress
from trajweight.reading import OriginLabels, Reading, read_trajectories
from trajweight.run import Run, create_run
from trajweight.splitting import split
from trajweight.table import trajectory_of
from trajweight.tokenization import encode_all
from trajweight.weights import real_row_weight, weight_table


def ingest(
    config: DataConfig,
    out: Path,
    *,
    force: bool,
    progress: Progress,
    argv: Sequence[str] = (),
) -> Run:
    """Read trajectories into a folder: the table, the rejected lines, the counts.

    Raises:
        DataError: If nothing could be kept; the rejected lines are written all the same.
        ConfigError: If ``out`` may not be used.
    """
    job = _Job.begin(RunConfig(data=config), out, force=force, progress=progress, argv=argv)
    job.read()
    job.finish()
    return job.run


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
    job = _Job.begin(config, out, force=force, progress=progress, argv=argv)
    job.read()
    job.split()
    if job.count("train", "synthetic") == 0:
        message = "there is no synthetic trajectory to weigh: every row read is real or excluded"
        raise DataError(message, hint="Pass synthetic files too, or --synthetic SOURCE.")
    too_few = job.too_few_validation_rows()
    if not too_few:
        loaded, encoded = job.tokenise()
        too_few = job.too_few_validation_rows()
    if too_few:
        job.weigh_uniformly(too_few)
    else:
        job.learn(loaded, encoded)
    job.finish()
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
    job = _Job.begin(config, out, force=force, progress=progress, argv=argv)
    job.read()
    job.split_against(trained)
    if job.count("train", "synthetic") == 0:
        message = "there is no synthetic trajectory to weigh"
        raise DataError(message, hint="Pass synthetic files too, or --synthetic SOURCE.")
    loaded, encoded = job.tokenise(head_config["model"], head_config["adapter"]["max_tokens"])
    rows = list(encoded)
    material = job.material(encoded)
    scored = score_rows(
        loaded,
        material.encoded,
        material.n_turns,
        material.synthetic,
        tensors=tensors,
        head_config=head_config,
        progress=progress,
        stopwatch=job.stopwatch,
    )
    job.save_scores(scored, rows, material)
    job.facts |= {"mode": "applied", "selected": "head", "trained_run": str(trained.folder)}
    job.finish()
    return job.run


@dataclass
class _Job:
    """One command at work on its run folder; what it knows grows from step to step."""

    config: RunConfig
    run: Run
    progress: Progress
    argv: Sequence[str]
    started: str
    stopwatch: Stopwatch
    notes: list[str]
    warnings: list[str]
    facts: dict[str, Any]
    table: pl.DataFrame
    n_read: int = 0

    @classmethod
    def begin(
        cls, config: RunConfig, out: Path, *, force: bool, progress: Progress, argv: Sequence[str]
    ) -> _Job:
        """Look at the inputs before touching the output, so that a typo costs nothing."""
        inputs = _input_paths(config.data)
        for path in inputs:
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "does not exist"
                hint = f"Pass the files in it: {path}/*.jsonl" if path.is_dir() else "Check the path."
                raise DataError(what, path=path, hint=hint)
            if path.resolve().parent == out.resolve():
                message = f"the input {path} lies in the run folder {out}"
                raise ConfigError(message, hint="Give another --out.")
        run = create_run(out, force=force)
        run.save_config(config.to_toml())
        return cls(config, run, progress, argv, now(), Stopwatch(), [], [], {}, pl.DataFrame())

    def read(self) -> None:
        """Read the files; every line is kept or in ``rejected.jsonl``."""
        data = self.config.data
        labels = OriginLabels(
            real_sources=frozenset(data.real_sources),
            synthetic_sources=frozenset(data.synthetic_sources),
            real_paths=tuple(Path(path) for path in data.validation_paths),
        )
        paths = [Path(path) for path in data.paths]
        with self.stopwatch.stage("reading"):
            reading = read_trajectories(paths, labels=labels, progress=self.progress)
        self._keep(reading)

    def _keep(self, reading: Reading) -> None:
        self.table, self.n_read = reading.table, reading.n_read
        self.run.save_rows("rejected", (each.as_dict() for each in reading.rejected))
        self.run.save_table("trajectories", self.table)
        self._say(reading.notes)
        if reading.rejected:
            first = reading.rejected[0]
            self._warn(
                f"{len(reading.rejected)} of {reading.n_read} rows rejected, the first at "
                f"{first.path}:{first.line}: {first.reason}; all are in rejected.jsonl"
            )
        if self.table.is_empty():
            self.finish(status="failed")
            message = f"none of the {reading.n_read} rows read can be used; see the reasons in"
            place = self.run.folder / "rejected.jsonl"
            raise DataError(f"{message} {place}", hint="Mend the rows, or pass other files.")

    def split(self) -> None:
        """Give every row its split."""
        with self.stopwatch.stage("splitting"):
            found = split(
                self.table,
                seed=self.config.seed,
                minimum_validation=MINIMUM_VALIDATION,
                validation_paths=frozenset(self.config.data.validation_paths),
            )
        self.table = found.table
        self._say(found.notes)
        self._exclude({each.traj_id: each.reason for each in found.exclusions})

    def split_against(self, trained: Run) -> None:
        """Every row may be weighed, but for copies of what the trained run held out."""
        weights = trained.table("weights").select("traj_id", "split")
        held = trained.table("trajectories").join(weights, on="traj_id")
        held = held.filter(pl.col("split").is_in(["validation", "dev", "test"]))
        left = [comparable_text(text) for text in self.table["messages_json"]]
        right = [comparable_text(text) for text in held["messages_json"]]
        names, others = self.table["traj_id"].to_list(), held["traj_id"].to_list()
        reasons = {
            names[pair.left]: f"{pair.similarity:.0%} like {others[pair.right]}, which the trained "
            "run held out"
            for pair in near_duplicates(left, right)
        }
        self.table = self.table.with_columns(pl.lit("train").alias("split"))
        self._exclude(reasons)

    def tokenise(
        self, model: str | None = None, max_tokens: int | None = None
    ) -> tuple[LoadedModel, dict[str, Encoded]]:
        """Load the model and encode every row that may take part; others become excluded."""
        settings = self.config.model
        with self.stopwatch.stage("loading the model"):
            loaded = load_model(
                model or settings.model,
                device=settings.device,
                dtype=settings.dtype,
                progress=self.progress,
            )
        rows = self.table.filter(pl.col("split") != "excluded")
        names = rows["traj_id"].to_list()
        with self.stopwatch.stage("tokenising"):
            found = encode_all(
                [trajectory_of(row) for row in rows.iter_rows(named=True)],
                loaded.tokenizer,
                max_tokens=max_tokens or settings.max_tokens,
                progress=self.progress,
            )
        self._say(found.notes)
        paired = list(zip(names, found.rows, strict=True))
        self._exclude({name: row.reason for name, row in paired if not isinstance(row, Encoded)})
        self.facts |= {"model": loaded.name, "mask_strategy": found.strategy}
        self.facts["model_fingerprint"] = loaded.fingerprint
        return loaded, {name: row for name, row in paired if isinstance(row, Encoded)}

    def too_few_validation_rows(self) -> str:
        """Why no weights can be learned, or nothing when they can."""
        found = self.count("validation", "real")
        if found >= MINIMUM_VALIDATION or (found and self.config.data.force):
            return ""
        return (
            f"{found} real validation trajectories are too few to learn weights from "
            f"(at least {MINIMUM_VALIDATION}); every weight is one"
            + ("" if found == 0 else "; --force learns all the same")
        )

    def weigh_uniformly(self, why: str) -> None:
        """Every synthetic training row counts the same, and it is said why."""
        self._warn(why)
        names = self.table.filter(_is_learned())["traj_id"].to_list()
        table = weight_table(
            self.table,
            weights=dict.fromkeys(names, 1.0),
            real_weight=self._real_weight(),
        )
        self.run.save_table("weights", table)
        self.facts |= {"mode": "learned", "selected": "uniform", "why_uniform": why}

    def learn(self, loaded: LoadedModel, encoded: dict[str, Encoded]) -> None:
        """Learn weights, and write them with the head and the trace."""
        material = self.material(encoded)
        outcome = learn_weights(
            loaded, material, self.config, progress=self.progress, stopwatch=self.stopwatch
        )
        config = {
            **outcome.head_config,
            "model": loaded.name,
            "model_fingerprint": loaded.fingerprint,
        }
        self.run.save_head(outcome.head, config)
        self.run.save_rows("trace", outcome.trace)
        self.save_scores(outcome.scored, list(encoded), material)
        self.facts |= outcome.facts
        if outcome.facts["selected"] == "uniform":
            self._warn("the learned weights did no better than uniform ones; every weight is one")
        if not material.dev:
            self._warn("no dev rows: learned and uniform weights were compared on validation rows")

    def material(self, encoded: dict[str, Encoded]) -> Material:
        """The rows' roles, by position."""
        rows = {row["traj_id"]: row for row in self.table.iter_rows(named=True)}
        chosen = [rows[name] for name in encoded]

        def places(split: str, *origins: str) -> list[int]:
            return [
                place
                for place, row in enumerate(chosen)
                if row["split"] == split and row["origin"] in origins
            ]

        return Material(
            encoded=list(encoded.values()),
            n_turns=[row["n_turns"] for row in chosen],
            tasks=[row["task_id"] for row in chosen],
            real=places("train", "real"),
            synthetic=places("train", "synthetic"),
            validation=places("validation", "real"),
            dev=places("dev", "real"),
            real_weight=self._real_weight(),
        )

    def save_scores(self, scored: Scored, names: list[str], material: Material) -> None:
        """Write weights and features; rows come back in the order of the trajectory table."""
        weighed = [names[place] for place in material.synthetic]
        lengths = [len(row.input_ids) for row in material.encoded]
        table = weight_table(
            self.table,
            weights=dict(zip(weighed, scored.weights.double().tolist(), strict=True)),
            real_weight=material.real_weight,
            scores=dict(zip(names, scored.scores.double().tolist(), strict=True)),
            n_tokens=dict(zip(names, lengths, strict=True)),
        )
        self.run.save_table("weights", table)
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
        self.run.save_table("features", features)

    def finish(self, *, status: str = "finished") -> None:
        """Write the report, where there are weights, and at last the manifest."""
        if self.run.has("weights.parquet"):
            with self.stopwatch.stage("report"):
                learning = {"seconds": self.stopwatch.seconds, "notes": self.notes, **self.facts}
                learning["warnings"] = self.warnings
                self.run.save_report(build_report(self.run, learning))
        facts = manifest_facts(
            arguments=asdict(self.config),
            seeds={"seed": self.config.seed},
            inputs=_input_paths(self.config.data),
            counts=self._counts(),
            started=self.started,
            argv=self.argv,
        )
        extra = {"seconds": self.stopwatch.seconds, "notes": self.notes, "warnings": self.warnings}
        model = {key: self.facts.get(key) for key in ("model", "model_fingerprint", "mask_strategy")}
        self.run.save_manifest({**facts, **extra, **model}, status=status)

    def count(self, split: str, origin: str) -> int:
        """Rows of a split and an origin."""
        return self.table.filter((pl.col("split") == split) & (pl.col("origin") == origin)).height

    def _counts(self) -> dict[str, int]:
        counts = {"read": self.n_read, "kept": self.table.height}
        counts["rejected"] = self.n_read - self.table.height
        if "split" in self.table.columns:
            found = self.table["split"].value_counts()
            counts |= dict(zip(found["split"].to_list(), found["count"].to_list(), strict=True))
        return counts

    def _real_weight(self) -> float:
        share = self.config.data.real_share
        n_real, n_synthetic = self.count("train", "real"), self.count("train", "synthetic")
        return 1.0 if share is None else real_row_weight(n_real, n_synthetic, share)

    def _exclude(self, reasons: dict[str, str]) -> None:
        """Rows that are kept but take no part, each with its reason in ``excluded.jsonl``."""
        gone = pl.col("traj_id").is_in(list(reasons))
        self.table = self.table.with_columns(
            split=pl.when(gone).then(pl.lit("excluded")).otherwise("split")
        )
        earlier = self.run.rows("excluded")
        now_gone = [{"traj_id": name, "reason": reason} for name, reason in reasons.items()]
        self.run.save_rows("excluded", [*earlier, *now_gone])

    def _say(self, notes: Sequence[str]) -> None:
        self.notes += notes
        for note in notes:
            self.progress.say(note)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self.progress.warn(text)


def _is_learned() -> pl.Expr:
    return (pl.col("split") == "train") & (pl.col("origin") == "synthetic")


def _input_paths(data: DataConfig) -> list[Path]:
    return [Path(path) for path in dict.fromkeys((*data.paths, *data.validation_paths))]
