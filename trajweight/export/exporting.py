"""An export from beginning to end: choose, weigh, lay out by mode, write, and say what was done."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl

from trajweight.embedded import DEFAULT_MODEL, HUB_ID
from trajweight.export.data_files import Spool, write_rows
from trajweight.export.examples import Seen, examples_of, rows_of
from trajweight.export.facts import export_facts, save_facts, with_files
from trajweight.export.layout import Layout, layout_of
from trajweight.export.outgoing import Outgoing, outgoing
from trajweight.export.places import require_free, whole_folder
from trajweight.export.readme import readme
from trajweight.export.refusals import Refusals
from trajweight.export.request import ExportRequest, is_one_file, mode_of, target_of
from trajweight.files import write_atomically
from trajweight.manifest import SEMANTICS
from trajweight.progress import Progress
from trajweight.resampling import takeover
from trajweight.run import write_parquet_pieces
from trajweight.trainers import DataFile, Example, Mode, Plan, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyarrow as pa

    from trajweight.run import Run
    from trajweight.trainers import Container, Row

#: What each exported trajectory counts, beside the data.
ROWS: Final = "rows.parquet"
README: Final = "README.md"
#: Longest row of mode tokenized, where none is asked for.
_MAX_TOKENS: Final = 2048
#: Modes in which a row tells its weight, so that it is made when the weights are known.
_WEIGHTED: Final = ("native", "adapter", "tokenized")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote and what it did not.

    Attributes:
        path: The file or folder.
        target: Name of the target.
        mode: How weights act.
        n_examples: Trajectories that went out.
        n_rows: Rows written, copies included.
        n_left_out: Reason to number of trajectories; with ``n_examples`` they add up to the run's.
        mass_kept: Share of the synthetic training weight that went out, 0 to 1.
        ess_fraction: ESS/n of the exported weights, after the dial; None where none has a weight.
        is_exact: Whether the weighted objective is what will be trained, or something near it.
        notes: Sentences the user should read.
    """

    path: Path
    target: str
    mode: Mode
    n_examples: int
    n_rows: int
    n_left_out: dict[str, int]
    mass_kept: float
    ess_fraction: float | None
    is_exact: bool
    notes: tuple[str, ...] = field(default=())


def export_weights(
    run: Run,
    out: Path,
    request: ExportRequest | None = None,
    *,
    force: bool = False,
    argv: Sequence[str] = (),
    progress: Progress | None = None,
) -> ExportResult:
    """Write the rows of a run so that their weights take effect in a trainer.

    A trainer gets a folder: data, a config or script that trains on it, ``README.md`` on how the
    weights act, ``rows.parquet`` with what each trajectory counts, and ``export.json``. A plain
    target in mode native or filter is one file (``datasets``: one folder).

    Weights have a mean of one over what is exported. Rows of weight zero train nothing and are
    left out, and counted. Texts are read and written in pieces, whatever the size of the run.

    Args:
        run: The run whose weights to write.
        out: The file or folder.
        request: What is asked for.
        force: Replace what stands at ``out``.
        argv: The command line, for the manifest.
        progress: Told what runs.

    Raises:
        ConfigError: If the request cannot be met, ``out`` is taken, or no row would be written.
        RunError: If the run lacks its weights or its rows.
        MissingError: If a model or package is asked for and is not there.
    """
    request = request or ExportRequest()
    target = target_of(request, out)
    mode = mode_of(target, request)
    work = _Work(run, target, mode, request, progress or Progress())
    if is_one_file(target, mode) and target.container != "datasets":
        require_free(run, out, is_folder=False, force=force)
        return work.write_file(out)
    require_free(run, out, is_folder=True, force=force)
    with whole_folder(out) as folder:
        if is_one_file(target, mode):
            return work.write_file(out, folder)
        return work.write_folder(out, folder, argv)


@dataclass(frozen=True, slots=True)
class _Work:
    """One export under way."""

    run: Run
    target: Target
    mode: Mode
    request: ExportRequest
    progress: Progress

    def write_file(self, out: Path, place: Path | None = None) -> ExportResult:
        """Write data and nothing else; into ``place``, which will become ``out``."""
        place = place or out
        going, layout, seen, data = self._write_data(place.parent, lambda _: place.name)
        plan = self._plan(going, seen, data)
        notes = self._notes(going, layout, seen, plan)
        return self._result(out, going, plan, notes)

    def write_folder(self, out: Path, folder: Path, argv: Sequence[str]) -> ExportResult:
        """Fill a folder, which will become ``out``."""
        going, layout, seen, data = self._write_data(folder, self._name)
        plan = self._plan(going, seen, data)
        roles = write_beside(folder, self.target, plan)
        _write_rows_table(folder / ROWS, self.run, going, layout)
        notes = self._notes(going, layout, seen, plan)
        told = self.target.told(plan)
        facts = export_facts(
            self.run,
            self.target,
            plan,
            going,
            layout,
            is_exact=told.is_exact,
            notes=notes,
            argv=argv,
        )
        write_atomically(folder / README, readme(self.target, plan, told, facts).encode())
        roles |= {ROWS: "rows", README: "readme"}
        save_facts(folder, with_files(facts, folder, plan, roles))
        return self._result(out, going, plan, notes)

    def _write_data(
        self, folder: Path, named: Callable[[str], str]
    ) -> tuple[Outgoing, Layout, Seen, tuple[DataFile, ...]]:
        """Write the data files.

        What a row counts hangs on which others go out, and whether the target can read a row shows
        when it is made. So where rows tell their weight, they are made again without those that
        it cannot read; where they do not, they wait until all are made.
        """
        if self.mode in _WEIGHTED:
            return self._write_weighted(folder, named)
        going, seen = self._outgoing(None), Seen()
        with Spool(folder.parent) as spool:
            for place, row in self._rows(going, seen):
                spool.add(place, row)
            if seen.refused:
                going = self._outgoing(seen.refused)
            layout, files = self._layout(going), []
            places = going.rows["place"].to_numpy()
            for file in layout.files:
                rows = spool.rows(places[file.rows()])
                n_rows = self._write(folder / named(file.stem), rows)
                files.append(DataFile(named(file.stem), n_rows, file.rate, file.epoch))
        return going, layout, seen, tuple(files)

    def _write_weighted(
        self, folder: Path, named: Callable[[str], str]
    ) -> tuple[Outgoing, Layout, Seen, tuple[DataFile, ...]]:
        """Write the one file whose rows tell their weight."""
        refused = Refusals()
        while True:
            n_refused = len(refused)
            going, seen = self._outgoing(refused), Seen(refused)
            layout = self._layout(going)
            name = named(layout.files[0].stem)
            n_rows = self._write(folder / name, (row for _, row in self._rows(going, seen)))
            if len(refused) == n_refused:
                return going, layout, seen, (DataFile(name, n_rows),)

    def _outgoing(self, refused: Refusals | None) -> Outgoing:
        asked = self.request
        return outgoing(
            self.run,
            asked.filters,
            target_ess=asked.target_ess,
            how=asked.dial or "temper",
            are_equal=self.mode == "filter",
            refuses=self.target.refuses(),
            refused=refused,
        )

    def _layout(self, going: Outgoing) -> Layout:
        column = "weight" if self.target.averages_rows else "token_weight"
        return layout_of(self.mode, going.rows[column].to_numpy(), self.request)

    def _rows(self, going: Outgoing, seen: Seen) -> Iterator[tuple[int, Row]]:
        examples = examples_of(self.run, going, self.progress)
        return rows_of(examples, self.target, self.mode, self._encode(going), seen)

    def _encode(self, going: Outgoing) -> Callable[[Example], Row] | None:
        """What makes a row in tokens, in the mode that needs it."""
        if self.mode != "tokenized":
            return None
        from trajweight.export.tokenized import tokenizing
        from trajweight.models import load_tokenizer

        tokenizer = load_tokenizer(self._base, progress=self.progress)
        max_tokens = self.request.max_tokens or _MAX_TOKENS
        return tokenizing(tokenizer, max_tokens, going.mean_tokens)

    @property
    def _container(self) -> Container:
        return "parquet" if self.mode == "tokenized" else self.target.container

    @property
    def _schema(self) -> pa.Schema | None:
        if self.mode != "tokenized":
            return self.target.schema
        from trajweight.export.tokenized import SCHEMA

        return SCHEMA

    @property
    def _model(self) -> str:
        """The base model as a trainer finds it, from whatever folder."""
        if self._base.lower() == DEFAULT_MODEL:
            return HUB_ID
        return str(Path(self._base).resolve()) if Path(self._base).is_dir() else self._base

    @property
    def _base(self) -> str:
        """The base model by the name that the user or the run gave it."""
        return self.request.model or str(self.run.manifest().get("model") or DEFAULT_MODEL)

    def _name(self, stem: str) -> str:
        """The name of a data file."""
        return f"data/{stem}" + ("" if self._container == "datasets" else f".{self._container}")

    def _write(self, path: Path, rows: Iterator[Row]) -> int:
        return write_rows(path, rows, self._container, self._schema)

    def _plan(self, going: Outgoing, seen: Seen, data: tuple[DataFile, ...]) -> Plan:
        return Plan(
            mode=self.mode,
            data=data,
            model=self._model,
            n_examples=going.rows.height,
            mean_tokens=going.mean_tokens,
            has_tools=seen.has_tools,
            seed=self.request.seed,
            n_untrained=seen.n_untrained,
        )

    def _notes(self, going: Outgoing, layout: Layout, seen: Seen, plan: Plan) -> tuple[str, ...]:
        """What the user should know."""
        notes = []
        if is_one_file(self.target, self.mode) and self.mode == "native":
            notes.append(
                f"Weights belong to a {SEMANTICS} loss: each trajectory counts by its weight alone."
            )
        elif going.n_guessed:
            notes.append(
                f"{going.n_guessed} rows were never tokenised; their trained tokens are guessed "
                "from the number of characters."
            )
        if going.dialled is not None:
            notes.append(going.dialled.said)
        notes += [f"{count} rows {remark}." for remark, count in sorted(seen.remarks.items())]
        if empty := going.rows["weight"].null_count():
            notes.append(f"{empty} rows are not in split train, so their weight is null.")
        if plan.n_untrained and not self.target.keeps_turn_flags:
            notes.append(
                f"{plan.n_untrained} trajectories have replies that should not be trained on, and "
                f"{self.target.title} cannot be told so."
            )
        return (*notes, *_mode_notes(self.mode, going, layout))

    def _result(
        self, out: Path, going: Outgoing, plan: Plan, notes: tuple[str, ...]
    ) -> ExportResult:
        return ExportResult(
            path=out,
            target=self.target.name,
            mode=self.mode,
            n_examples=going.rows.height,
            n_rows=sum(file.n_rows for file in plan.data),
            n_left_out=going.n_left_out,
            mass_kept=going.mass_kept,
            ess_fraction=going.ess_fraction,
            is_exact=self.target.told(plan).is_exact,
            notes=notes,
        )


def write_beside(folder: Path, target: Target, plan: Plan) -> dict[str, str]:
    """Write configs and adapters beside the data; gives back their names and what each is."""
    roles = {}
    for name, text in target.files(plan).items():
        write_atomically(folder / name, text.encode())
        roles[name] = "config"
    for name in target.adapters.get(plan.mode, ()):
        source = resources.files("trajweight.adapters").joinpath(name)
        write_atomically(folder / name, source.read_bytes())
        roles[name] = "adapter"
    return roles


def _write_rows_table(path: Path, run: Run, going: Outgoing, layout: Layout) -> None:
    """Write what each trajectory counts, and where it went."""
    texts = ("traj_id", "content_sha256", "source", "origin")
    weights = ("weight", "token_weight")
    schema = pl.Schema({**dict.fromkeys(texts, pl.String), **dict.fromkeys(weights, pl.Float64)})
    if layout.counts is not None:
        schema["copies"] = pl.List(pl.Int64)
    if layout.buckets is not None:
        schema["bucket"] = pl.Int64

    def pieces() -> Iterator[pl.DataFrame]:
        first = 0
        for piece, facts in going.beside(run.pieces("trajectories", *texts)):
            here = slice(first, first := first + piece.height)
            table = piece.hstack(facts.select(weights))
            if layout.counts is not None:
                copies = pl.Series("copies", layout.counts[here].tolist(), schema["copies"])
                table = table.with_columns(copies)
            if layout.buckets is not None:
                table = table.with_columns(pl.Series("bucket", layout.buckets.of_row[here]))
            yield table

    write_parquet_pieces(path, pieces(), schema)


def _mode_notes(mode: Mode, going: Outgoing, layout: Layout) -> Iterator[str]:
    """What a mode loses."""
    if layout.counts is not None:
        warned = [takeover(column).said for column in layout.counts.T]
        yield from dict.fromkeys(said for said in warned if said)
        n_never = int((~layout.counts.any(axis=1)).sum())
        if n_never:
            yield (
                f"{n_never} of {len(layout.counts)} trajectories are so light that none of the "
                f"{layout.counts.shape[1]} epochs has them."
            )
    if layout.buckets is not None:
        yield (
            f"{len(layout.buckets.buckets)} buckets lose {layout.buckets.loss:.1%} of the variance "
            "of the weights: inside a bucket all rows count alike."
        )
    if mode == "filter":
        yield (
            f"The rows left out carry {1 - going.mass_kept:.1%} of the learned weight; those that "
            "are left count alike."
        )
