"""A command at work on its run folder: reading, splitting, keeping account; no model yet.

Whatever happens once the work has begun, the folder ends with a manifest that has its counts: a job
that fails says so there, and what was read stays.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from trajweight.analysis.report import build_report
from trajweight.config import MINIMUM_VALIDATION, DataConfig, ReturnsConfig, RunConfig
from trajweight.errors import ConfigError, DataError, RunError
from trajweight.fields import PARENT_FIELD
from trajweight.interruption import Interrupted
from trajweight.leakage import HELD_OUT, foreign_reasons
from trajweight.manifest import input_facts, manifest_facts, now, standing_facts
from trajweight.objective import beforehand, objective_of
from trajweight.processes import ALONE, Processes
from trajweight.reading import OriginLabels, Reading, read_trajectories
from trajweight.run import CONFIG, Run, create_run
from trajweight.splitting import split
from trajweight.stopwatch import Stopwatch
from trajweight.weights import real_row_weight, weight_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trajweight.progress import Progress
    from trajweight.reweighting import Prior

#: What a run is of: weights learned, weights by a trained head, or reading alone.
Kind = Literal["learned", "applied", "ingested"]
#: What the manifest says of the model, null where none was loaded, and of what was learned.
_MODEL_FACTS: Final = ("model", "model_fingerprint", "mask_strategy", "device", "dtype")
_LEARNED_FACTS: Final = ("objective",)
_START_OVER: Final = "Start over into the same folder with --force."


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
    settings = RunConfig(data=config)
    job = Job.begin(settings, out, force=force, progress=progress, argv=argv, kind="ingested")
    with job.accounted():
        job.read()
    return job.run


@dataclass
class Job:
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
    inputs: Sequence[Mapping[str, Any]]
    kind: Kind = "learned"
    resumed: Sequence[str] = ()
    processes: Processes = ALONE
    n_read: int = 0
    n_rejected: int = 0
    has_told_few: bool = False

    @classmethod
    def begin(
        cls,
        config: RunConfig,
        out: Path,
        *,
        force: bool,
        progress: Progress,
        argv: Sequence[str],
        kind: Kind = "learned",
        processes: Processes = ALONE,
    ) -> Job:
        """Look at the inputs before touching the output, so that a typo costs nothing."""
        inputs = _input_paths(config.data)
        for path in inputs:
            if not path.is_file():
                what = "is a folder" if path.is_dir() else "does not exist"
                hint = (
                    f"Pass the files in it: {path}/*.jsonl" if path.is_dir() else "Check the path."
                )
                raise DataError(what, path=path, hint=hint)
            if path.resolve().parent == out.resolve():
                message = f"the input {path} lies in the run folder {out}"
                raise ConfigError(message, hint="Give another --out.")
        known = [input_facts(path) for path in inputs]
        started = now()
        facts = {"kind": kind, "argv": list(argv), "arguments": asdict(config), "inputs": known}
        run = create_run(out, force=force, facts={"started": started, **facts})
        run.save_config(config.to_toml())
        return cls(
            config=config,
            run=run,
            progress=progress,
            argv=argv,
            started=started,
            stopwatch=Stopwatch(),
            notes=[],
            warnings=[],
            facts={},
            table=pl.DataFrame(),
            inputs=known,
            kind=kind,
            processes=processes,
        )

    @classmethod
    def resume(cls, run: Run, *, progress: Progress, processes: Processes = ALONE) -> Job:
        """Begin again on the folder of a run that has not finished; its checkpoints stay.

        Raises:
            RunError: If the run had hardly begun, or an input is another than it was then.
            DataError: If an input is gone.
        """
        told, config = run.manifest(), settings_of(run)
        if told.get("kind") != "learned":
            message = "only a run that learns weights can be gone on with, and this is none"
            raise RunError(message, path=run.folder, hint=_START_OVER)
        for was in told["inputs"]:
            _require_unchanged(was)
        run.remove_results()
        job = cls(
            config=config,
            run=run,
            progress=progress,
            argv=told["argv"],
            started=told["started"],
            stopwatch=Stopwatch(),
            notes=[],
            warnings=[],
            facts={name: told[name] for name in _MODEL_FACTS if told.get(name)},
            table=pl.DataFrame(),
            inputs=told["inputs"],
            resumed=[*told.get("resumed", []), now()],
            processes=processes,
        )
        job.save_manifest("started")
        return job

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
        self.n_rejected = len(reading.rejected)
        self.run.save_rows("rejected", (each.as_dict() for each in reading.rejected))
        self.run.save_table("trajectories", self.table)
        self.say(reading.notes)
        if reading.rejected:
            first = reading.rejected[0]
            self.warn(
                f"{len(reading.rejected)} of {reading.n_read} rows rejected, the first at "
                f"{first.path}:{first.line}: {first.reason}; all are in rejected.jsonl"
            )
        if self.table.is_empty():
            message = f"none of the {reading.n_read} rows read can be used; see the reasons in"
            place = self.run.folder / "rejected.jsonl"
            message = f"{message} {place}"
            raise DataError(message, hint="Mend the rows, or pass other files.")

    @contextmanager
    def accounted(self) -> Iterator[None]:
        """Write report and manifest when the block ends; after an error the manifest alone.

        Raises:
            RuntimeError: If a row that was read is neither kept nor rejected, nor the reverse.
        """
        try:
            yield
            self._check_counts()
            self._report()
            self.save_manifest("finished")
        except BaseException as error:
            is_wish = isinstance(error, KeyboardInterrupt | Interrupted)
            try:
                self.save_manifest("interrupted" if is_wish else "failed")
            except Exception as second:  # noqa: BLE001 - the first error is the one to be told
                error.add_note(f"nor could the manifest be written: {second}")
            raise
        self.run.remove_checkpoints()

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
        self.say(found.notes)
        self.exclude({each.traj_id: each.reason for each in found.exclusions})

    def split_against(self, trained: Run) -> None:
        """Every row may be weighed, but for copies and relatives of what the run held out."""
        splits = trained.table("weights").select("traj_id", "split")
        splits = splits.filter(pl.col("split").is_in(HELD_OUT))
        held = trained.table("trajectories").drop("split", strict=False).join(splits, on="traj_id")
        with self.stopwatch.stage("splitting"):
            reasons = foreign_reasons(held, self.table, parent_field=PARENT_FIELD)
        self.table = self.table.with_columns(pl.lit("train").alias("split"))
        if reasons:
            self.say([f"{len(reasons)} rows excluded: like rows that the trained run held out"])
        self.exclude(reasons)

    def too_few_validation_rows(self) -> str:
        """Why no weights can be learned, or nothing when they can."""
        objective = objective_of(self.table, self.config.returns)
        found, rows = objective.n_outer, "real validation trajectories"
        if objective.name != "imitate":
            rows += f" that count for the objective {objective.name}"
        if found >= MINIMUM_VALIDATION:
            return ""
        if found and self.config.data.force:
            if not self.has_told_few:
                self.has_told_few = True
                self.warn(
                    f"{found} {rows} are few ({MINIMUM_VALIDATION} is the "
                    "least that is advised); weights are learned because of --force"
                )
            return ""
        return (
            f"{found} {rows} are too few to learn weights from "
            f"(at least {MINIMUM_VALIDATION}); {without_head(self.config.returns)}"
            + ("" if found == 0 else "; --force learns all the same")
        )

    def weigh_without_head(self, why: str, returns: ReturnsConfig, *, floor: float) -> None:
        """Synthetic training rows count what returns say, or all the same, and it is said why.

        Args:
            why: Why there is no head.
            returns: What returns decide.
            floor: What the rows that a filter by returns does not keep count.
        """
        self.warn(why)
        names = self.table.filter(_is_learned())["traj_id"].to_list()
        prior = self.prior(returns, floor=floor)
        weights = [1.0] * len(names) if prior is None else prior.weights.double().tolist()
        table = weight_table(
            self.table,
            weights=dict(zip(names, weights, strict=True)),
            real_weight=self.real_weight(),
        )
        self.run.save_table("weights", table)
        self.facts |= {"selected": "returns" if prior else "uniform", "why_uniform": why}

    def prior(self, returns: ReturnsConfig, *, floor: float) -> Prior | None:
        """What returns make of the synthetic training rows beforehand, in the table's order."""
        found = beforehand(self.table.filter(_is_learned()), returns, floor=floor)
        if found.remark:
            self.warn(found.remark)
        if found.facts:
            self.facts["returns"] = self.facts.get("returns", {}) | found.facts
        return found.prior

    def _check_counts(self) -> None:
        if self.n_read != self.table.height + self.n_rejected:
            message = (
                f"{self.n_read} rows were read, but {self.table.height} are kept and "
                f"{self.n_rejected} rejected"
            )
            raise RuntimeError(message)

    def _report(self) -> None:
        """Write the report, where there are weights."""
        if self.run.has("weights.parquet"):
            with self.stopwatch.stage("report"):
                learning = {"seconds": self.stopwatch.seconds, "notes": self.notes, **self.facts}
                learning["warnings"] = self.warnings
                self.run.save_report(build_report(self.run, learning))

    def save_manifest(self, status: str) -> None:
        """Write what is known so far, and how the job stands."""
        facts = manifest_facts(
            arguments=asdict(self.config),
            seeds={"seed": self.config.seed},
            inputs=self.inputs,
            counts=self._counts(),
            started=self.started,
            argv=self.argv,
        )
        extra: dict[str, Any] = {
            "seconds": self.stopwatch.seconds,
            "notes": self.notes,
            "warnings": self.warnings,
        }
        extra |= {"kind": self.kind, "resumed": list(self.resumed)}
        extra["processes"] = self.processes.count
        if status == "started":
            extra["finished"] = None
        model = {key: self.facts.get(key) for key in (*_MODEL_FACTS, *_LEARNED_FACTS)}
        self.run.save_manifest({**facts, **extra, **model}, status=status)

    def count(self, split: str, origin: str) -> int:
        """Rows of a split and an origin."""
        return self.table.filter((pl.col("split") == split) & (pl.col("origin") == origin)).height

    def _counts(self) -> dict[str, int]:
        counts = {"read": self.n_read, "kept": self.table.height, "rejected": self.n_rejected}
        if "split" in self.table.columns:
            found = self.table["split"].value_counts()
            counts |= dict(zip(found["split"].to_list(), found["count"].to_list(), strict=True))
        return counts

    def real_weight(self) -> float:
        """What each real training row counts, the synthetic ones having mean one."""
        share = self.config.data.real_share
        n_real, n_synthetic = self.count("train", "real"), self.count("train", "synthetic")
        return 1.0 if share is None else real_row_weight(n_real, n_synthetic, share)

    def exclude(self, reasons: Mapping[str, str]) -> None:
        """Rows that are kept but take no part, each with its reason in ``excluded.jsonl``."""
        gone = pl.col("traj_id").is_in(list(reasons))
        self.table = self.table.with_columns(
            split=pl.when(gone).then(pl.lit("excluded")).otherwise("split")
        )
        earlier = self.run.rows("excluded")
        now_gone = [{"traj_id": name, "reason": reason} for name, reason in reasons.items()]
        self.run.save_rows("excluded", [*earlier, *now_gone])

    def dtype(self) -> str:
        """The precision of the settings; in a run that goes on, the one that was computed in."""
        return str(self.facts.get("dtype", self.config.model.dtype))

    def fingerprint(self) -> dict[str, str]:
        """What a checkpoint of this job belongs to, by name."""
        settings = {
            f"{section}.{name}": str(value)
            for section, values in asdict(self.config).items()
            for name, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        standing = standing_facts()
        model = ("model_fingerprint", "device", "dtype")
        return {
            **{name.rstrip("."): value for name, value in settings.items()},
            **{f"SHA-256 of {each['path']}": str(each["sha256"]) for each in self.inputs},
            **{name: str(version) for name, version in standing["packages"].items()},
            "trajweight": standing["tool_version"],
            **{name: str(self.facts.get(name)) for name in model},
        }

    def say(self, notes: Sequence[str]) -> None:
        """Tell the watcher, and keep the notes for the run."""
        self.notes += notes
        for note in notes:
            self.progress.say(note)

    def warn(self, text: str) -> None:
        """Warn the watcher, and keep the warning for the run."""
        self.warnings.append(text)
        self.progress.warn(text)


def without_head(returns: ReturnsConfig) -> str:
    """What the weights are where nothing is learned, as a clause."""
    is_plain = returns.prior == "none"
    return "every weight is one" if is_plain else "returns alone give the weights"


def settings_of(run: Run) -> RunConfig:
    """The settings a run was begun with.

    Raises:
        RunError: If they are gone.
        ConfigError: If they cannot be used.
    """
    path = run.path_of(CONFIG)
    try:
        return RunConfig.from_toml(path.read_text(encoding="utf-8"))
    except ConfigError as error:
        message = f"{path}: {error.message}"
        raise ConfigError(message, hint=error.hint) from error


def _require_unchanged(was: Mapping[str, Any]) -> None:
    """Compare an input with what the manifest says of it."""
    path = Path(was["path"])
    if not path.is_file():
        hint = "Go on in the working folder where the run was begun, or put the file back."
        message = "does not exist"
        raise DataError(message, path=path, hint=hint)
    is_now = input_facts(path)
    if is_now["sha256"] != was["sha256"]:
        message = (
            f"is not what it was when the run began: its SHA-256 was {was['sha256']} and is "
            f"{is_now['sha256']}"
        )
        raise RunError(message, path=path, hint=f"Put the old file back. Or: {_START_OVER}")


def _is_learned() -> pl.Expr:
    return (pl.col("split") == "train") & (pl.col("origin") == "synthetic")


def _input_paths(data: DataConfig) -> list[Path]:
    return [Path(path) for path in dict.fromkeys((*data.paths, *data.validation_paths))]
