"""A command at work on its run folder: reading, splitting, keeping account; no model yet.

What needs torch is imported where it is used, since reading needs none.

Whatever happens once the work has begun, the folder ends with a manifest that has its counts: a job
that fails says so there, and what was read stays.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import polars as pl

from trajweight.claim import claimed
from trajweight.config import MINIMUM_VALIDATION, DataConfig, ReturnsConfig, RunConfig
from trajweight.deduplication import find_duplicates, take_out
from trajweight.errors import ConfigError, DataError, RunError
from trajweight.fields import PARENT_FIELD
from trajweight.inputs import inputs_of, names_of_held, require_outside, require_unchanged
from trajweight.interruption import Interrupted
from trajweight.leakage import HELD_OUT, foreign_reasons, search_notes
from trajweight.manifest import manifest_facts, now, standing_facts
from trajweight.problems import CODES
from trajweight.processes import ALONE, Processes
from trajweight.reading import Account, Layout, OriginLabels, read_into
from trajweight.rows import Treatment
from trajweight.run import CONFIG, Run, create_run
from trajweight.splitting import split
from trajweight.stopwatch import Stopwatch
from trajweight.weights import real_row_weight, weight_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trajweight.progress import Progress
    from trajweight.reweighting import Prior

#: What a run is of: weights learned, by a trained head, by another method, or reading alone.
Kind = Literal["learned", "applied", "scored", "ingested"]
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
    jobs: int = 1,
) -> Run:
    """Read trajectories into a folder: the table, the rejected lines, the counts.

    What is held in memory does not grow with the files, and no model's libraries are loaded.

    Args:
        config: What to read, and how.
        out: The run's folder.
        force: Take a folder that holds an older run.
        progress: Told of every row and decision.
        argv: The command line, for the manifest.
        jobs: Processes that read at once. More than one make a program of their own of the one
            that calls this, see `workers`; what is written is the same.

    Raises:
        DataError: If nothing could be kept; the rejected lines are written all the same.
        ConfigError: If ``out`` may not be used.
    """
    settings = RunConfig(data=config)
    with claimed(out):
        job = Job.begin(settings, out, force=force, progress=progress, argv=argv, kind="ingested")
        with job.accounted():
            job.read(jobs=jobs)
    return job.run


def rehearse(
    config: DataConfig, *, progress: Progress, argv: Sequence[str] = (), jobs: int = 1
) -> dict[str, Any]:
    """Read as ``ingest`` does, and leave nothing behind.

    What would be written goes to a folder for temporary files, which is removed.

    Args:
        config: See ``ingest``, as for the others.
        progress: See there.
        argv: See there.
        jobs: See there.

    Returns:
        The counts that the manifest would have.

    Raises:
        DataError: See ``ingest``.
    """
    with TemporaryDirectory(prefix="trajweight-") as folder:
        out = Path(folder) / "run"
        settings = RunConfig(data=config)
        job = Job.begin(settings, out, force=False, progress=progress, argv=argv, kind="ingested")
        job.is_rehearsal = True
        job.read(jobs=jobs)
        return job.counts()


@dataclass
class Job:
    """One command at work on its run folder; what it knows grows from step to step.

    Attributes:
        table: The trajectory table without its texts, from the splitting on.
        is_rehearsal: Whether nothing stays of what is written.
        found: What was seen of the rows: problems and repairs by code, numbers that were read as
            null, copies.
    """

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
    n_kept: int = 0
    n_rejected: int = 0
    has_told_few: bool = False
    is_rehearsal: bool = False
    found: dict[str, Any] = field(default_factory=dict)

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
        """Look at the inputs before touching the output, so that a typo costs nothing.

        Raises:
            DataError: If an input is not there, or cannot be read.
            ConfigError: If ``out`` may not be used.
        """
        Layout.of(config.data.format, config.data.mapped)  # refused before anything is written
        inputs = inputs_of(config.data)
        require_outside(inputs, out)
        started = now()
        facts = {"kind": kind, "argv": list(argv), "arguments": asdict(config), "inputs": inputs}
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
            inputs=inputs,
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
        require_unchanged(told["inputs"], config.data)
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

    def read(self, *, jobs: int = 1) -> None:
        """Read the files; every line is kept or in ``rejected.jsonl``.

        Args:
            jobs: Processes that read at once.
        """
        data = self.config.data
        labels = OriginLabels(
            real_sources=frozenset(data.real_sources),
            synthetic_sources=frozenset(data.synthetic_sources),
            real_paths=tuple(Path(path) for path in data.validation_paths),
        )
        with self.stopwatch.stage("reading"):
            account = read_into(
                self.run.storage,
                [Path(path) for path in data.paths],
                labels=labels,
                layout=Layout.of(data.format, data.mapped),
                treatment=Treatment(
                    repair=data.repair, max_row_bytes=data.max_row_bytes, limit=data.limit
                ),
                progress=self.progress,
                jobs=jobs,
            )
        self._take_account(account)
        with self.stopwatch.stage("duplicates"):
            self._look_for_duplicates()

    def _take_account(self, account: Account) -> None:
        self.n_read, self.n_rejected = account.n_read, account.n_rejected
        self.n_kept, self.inputs = account.n_kept, account.inputs
        self.found |= {"repaired": account.repaired, "non_finite": account.n_non_finite}
        self.say(account.notes)
        if account.first_rejected is not None:
            first = account.first_rejected
            self.warn(
                f"{account.n_rejected} of {account.n_read} rows rejected, the first at "
                f"{first.path}:{first.line}: {first.reason}"
                + "; all are in rejected.jsonl"
                * (not self.is_rehearsal)
            )
        if not account.n_kept:
            message = f"none of the {account.n_read} rows read can be used"
            if not self.is_rehearsal:
                message += f"; see the reasons in {self.run.folder / 'rejected.jsonl'}"
            raise DataError(message, hint="Mend the rows, or pass other files.")

    def _look_for_duplicates(self) -> None:
        """Count the rows that copy others, and reject them where that was asked for."""
        storage, dedup = self.run.storage, self.config.data.dedup
        if dedup == "near":
            self.progress.start("searching near copies")
        found = find_duplicates(storage, near=dedup == "near")
        gone = found.gone(dedup)
        take_out(storage, gone)
        self.n_kept -= len(gone)
        self.n_rejected += len(gone)
        if dedup == "near":
            self.progress.finish()
        self.say(found.notes(dedup))
        self.found["duplicates"] = found.facts(dedup)
        self.found["problems"] = _problem_counts(storage.rows())

    def with_texts(self, *texts: str) -> pl.DataFrame:
        """The table with some texts, which it does not hold by itself."""
        return self.table.hstack(self.run.trajectories(*texts).select(texts))

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
                self.run.trajectories("messages_json"),
                seed=self.config.seed,
                minimum_validation=MINIMUM_VALIDATION,
                validation_paths=names_of_held(self.config.data, self.inputs),
            )
        self.table = found.table.drop("messages_json")
        self.say(found.notes)
        self.exclude({each.traj_id: each.reason for each in found.exclusions})

    def split_against(self, trained: Run) -> None:
        """Every row may be weighed, but for copies and relatives of what the run held out."""
        splits = trained.table("weights").select("traj_id", "split")
        splits = splits.filter(pl.col("split").is_in(HELD_OUT))
        known = trained.trajectories("messages_json").drop("split", strict=False)
        held = known.join(splits, on="traj_id")
        with self.stopwatch.stage("splitting"):
            new = self.run.trajectories("messages_json", "extra_json")
            self.say(search_notes(n_held=held.height, n_train=new.height))
            reasons = foreign_reasons(held, new, parent_field=PARENT_FIELD)
        self.table = self.run.trajectories().with_columns(pl.lit("train").alias("split"))
        if reasons:
            self.say([f"{len(reasons)} rows excluded: like rows that the trained run held out"])
        self.exclude(reasons)

    def too_few_validation_rows(self) -> str:
        """Why no weights can be learned, or nothing when they can."""
        from trajweight.objective import objective_of

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
        from trajweight.objective import beforehand

        found = beforehand(self.table.filter(_is_learned()), returns, floor=floor)
        if found.remark:
            self.warn(found.remark)
        if found.facts:
            self.facts["returns"] = self.facts.get("returns", {}) | found.facts
        return found.prior

    def _check_counts(self) -> None:
        kept = self.table.height if self.table.columns else self.n_kept
        if self.n_read != kept + self.n_rejected:
            message = (
                f"{self.n_read} rows were read, but {kept} are kept and {self.n_rejected} rejected"
            )
            raise RuntimeError(message)

    def _report(self) -> None:
        """Write the report, where there are weights."""
        if self.run.has("weights.parquet"):
            from trajweight.analysis.report import build_report

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
            counts=self.counts(),
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

    def counts(self) -> dict[str, Any]:
        """How many rows were read, kept and rejected, and what was seen of them."""
        counts: dict[str, Any] = {
            "read": self.n_read,
            "kept": self.n_kept,
            "rejected": self.n_rejected,
            **self.found,
        }
        if "split" in self.table.columns:
            found = self.table["split"].value_counts()
            counts |= dict(zip(found["split"].to_list(), found["count"].to_list(), strict=True))
        return counts

    def real_weight(self) -> float:
        """What each real training row counts, the synthetic ones having mean one."""
        share = self.config.data.fixed_real_share
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


def _problem_counts(frames: Iterable[pl.DataFrame]) -> dict[str, int]:
    """How many rows have each problem, by its code."""
    counts: Counter[str] = Counter()
    for frame in frames:
        for codes, n in frame["problems"].drop_nulls().value_counts().iter_rows():
            counts.update(dict.fromkeys(codes.split(","), n))
    return {code: counts[code] for code in CODES if counts[code]}


def _is_learned() -> pl.Expr:
    return (pl.col("split") == "train") & (pl.col("origin") == "synthetic")
