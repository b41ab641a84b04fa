"""The run folder: everything one run leaves behind, in open formats, under fixed names.

    manifest.json        what was run: versions, arguments, seeds, input hashes, counts
    config.toml          the resolved settings
    trajectories.parquet every row that was kept, without its texts
    conversations/       their texts: messages, tools, and what else the rows hold
    rejected.jsonl       every row that was not kept, with file, line and reason
    envelopes.jsonl      what else stood in the files, so that they can be written again
    excluded.jsonl       kept rows that may not train, with the reason
    features.parquet     what the frozen model saw: embedding, base loss, the head's other losses
    weights.parquet      the result; see `trajweight.weights`
    ensemble.parquet     the weights by each head of an ensemble, and their range
    methods.parquet      the weights by every method that was compared
    trace.jsonl          one line an outer step
    head.safetensors     the reweighting head, with head.json beside it
    direction.safetensors where the search ended and which way the outer loss falls from there
    report.json          the facts of the report
    checkpoints/         of the learning; large, and gone when the run has finished
    adapter/             the retrained adapter in PEFT's layout, where one was asked for

The manifest is written first with status "started" and last with status "finished"; it is what
makes a folder a run, so only a folder that has one is ever cleared.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal, get_args

import orjson
import polars as pl
from polars.io.plugins import register_io_source

from trajweight.claim import LOCK
from trajweight.errors import ConfigError, RunError
from trajweight.files import PART_SUFFIX, json_line, sha256_of, write_atomically, write_jsonl
from trajweight.manifest import SCHEMA_VERSION, now, standing_facts
from trajweight.storage import CONVERSATIONS, Storage
from trajweight.weights import check_weight_table, checked_pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

TableName = Literal["trajectories", "features", "weights", "ensemble", "methods"]
RowsName = Literal["rejected", "envelopes", "excluded", "trace"]

TABLES: Final[tuple[TableName, ...]] = get_args(TableName)
ROWS: Final[tuple[RowsName, ...]] = ("rejected", "envelopes", "excluded", "trace")
MANIFEST, CONFIG, REPORT = "manifest.json", "config.toml", "report.json"
HEAD, HEAD_CONFIG = "head.safetensors", "head.json"
DIRECTION: Final = "direction.safetensors"
CHECKPOINTS: Final = "checkpoints"
ADAPTER: Final = "adapter"
#: What marks the folder of an adapter as one of ours, and all it may hold.
ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors", "README.md")
#: Every name a run may write; with force, these and nothing else are removed.
RUN_FILES: Final[tuple[str, ...]] = (
    *(MANIFEST, CONFIG, REPORT, HEAD, HEAD_CONFIG, DIRECTION),
    *(f"{name}.parquet" for name in TABLES),
    *(f"{name}.jsonl" for name in ROWS),
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, and what can be put into it and taken out.

    Attributes:
        folder: Where it stands.
    """

    folder: Path

    def save_manifest(self, facts: Mapping[str, Any], *, status: str = "finished") -> None:
        """Write the manifest; what every manifest holds (versions, semantics) is added here."""
        standing = {**standing_facts(), "status": status}
        write_atomically(self.folder / MANIFEST, _json({**standing, **facts}))

    def save_config(self, text: str) -> None:
        """Write the resolved settings, as TOML text."""
        write_atomically(self.folder / CONFIG, text.encode())

    def save_table(self, name: TableName, table: pl.DataFrame) -> None:
        """Write a table as Parquet; the same rows give the same bytes.

        Raises:
            DataError: If it is the weight table and breaks one of its laws.
        """
        if name == "weights":
            check_weight_table(table)
        write_parquet(self.folder / f"{name}.parquet", table)

    def save_rows(self, name: RowsName, rows: Iterable[Mapping[str, Any]]) -> int:
        """Write a list of JSON objects whole; gives back how many."""
        return write_jsonl(self.folder / f"{name}.jsonl", rows)

    @property
    def storage(self) -> Storage:
        """Where the rows that were read stand."""
        return Storage(self.folder, {"trajweight.schema_version": SCHEMA_VERSION})

    def save_trajectories(self, table: pl.DataFrame) -> None:
        """Write a whole trajectory table, its texts apart; `reading.read_into` needs no whole."""
        self.storage.save(table)

    def append_trace(self, step: Mapping[str, Any]) -> None:
        """Add the line of one outer step, on disk as soon as the call returns."""
        with (self.folder / "trace.jsonl").open("ab") as stream:
            stream.write(json_line(step))

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def adapter(self) -> Path:
        """The folder of the retrained adapter."""
        return self.folder / ADAPTER

    def owns(self, path: Path) -> bool:
        """Whether a path is this folder, or a file that a run keeps in it."""
        place, folder = Path(os.path.realpath(path)), Path(os.path.realpath(self.folder))
        kept = {folder / name for name in (*RUN_FILES, *_FOLDERS)}
        return place == folder or place in kept or not kept.isdisjoint(place.parents)

    def remove_adapter(self) -> None:
        """Remove the adapter and its folder; what somebody else put there stays."""
        for name in ADAPTER_FILES:
            (self.adapter / name).unlink(missing_ok=True)
        if self.adapter.is_dir() and not any(self.adapter.iterdir()):
            self.adapter.rmdir()

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints and their folder; what somebody else put there stays."""
        if not self.checkpoints.is_dir():
            return
        for path in [*self.checkpoints.glob("[0-9]*.safetensors"), *_parts(self.checkpoints)]:
            path.unlink(missing_ok=True)
        if not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()

    def remove_results(self) -> None:
        """Remove all but manifest, settings and checkpoints, to make them again."""
        for name in RUN_FILES:
            if name not in (MANIFEST, CONFIG):
                (self.folder / name).unlink(missing_ok=True)
        self.remove_adapter()
        self.storage.clear()
        for part in _parts(self.folder):
            part.unlink(missing_ok=True)

    def save_report(self, facts: Mapping[str, Any]) -> None:
        """Write the facts of the report."""
        write_atomically(self.folder / REPORT, _json(facts))

    def save_head(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        """Write the head as safetensors, and its config with the hash that ties both together."""
        from safetensors.torch import save

        write_atomically(self.folder / HEAD, save(_flat(tensors), metadata=_MARK))
        digest = sha256_of(self.folder / HEAD)
        tied = {"schema_version": SCHEMA_VERSION, "head_sha256": digest, **config}
        write_atomically(self.folder / HEAD_CONFIG, _json(tied))

    def save_direction(self, tensors: Mapping[str, Tensor]) -> None:
        """Write where the search ended as safetensors; see `trajweight.turnwise`."""
        from safetensors.torch import save

        write_atomically(self.folder / DIRECTION, save(_flat(tensors), metadata=_MARK))

    def manifest(self) -> dict[str, Any]:
        """The manifest as it was written."""
        return self._object(MANIFEST)

    def report(self) -> dict[str, Any]:
        """The facts of the report."""
        return self._object(REPORT)

    def table(self, name: TableName) -> pl.DataFrame:
        """One of the tables; the weight table is held to its laws again."""
        path = self.path_of(f"{name}.parquet")
        try:
            table = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            message = f"is no Parquet file that can be read: {error}"
            raise RunError(message, path=path, hint=_AGAIN) from error
        if name == "weights":
            check_weight_table(table)
        return table

    def columns(self, name: TableName, *columns: str) -> pl.DataFrame:
        """Some columns of one of the tables; the others are not read.

        Raises:
            RunError: If there is none.
        """
        path = self.path_of(f"{name}.parquet")
        try:
            return pl.read_parquet(path, columns=list(columns))
        except (pl.exceptions.PolarsError, OSError) as error:
            message = f"is no Parquet file with {', '.join(columns)}: {error}"
            raise RunError(message, path=path, hint=_AGAIN) from error

    def pieces(self, name: TableName, *columns: str) -> Iterator[pl.DataFrame]:
        """The rows of one of the tables, some ten thousand at a time; one piece at least.

        Args:
            name: The table; the weight table is not held to its laws, see ``weight_pieces``.
            columns: Which of its columns; by default all.

        Raises:
            RunError: If there is none.
        """
        path = self.path_of(f"{name}.parquet")
        table, first = pl.scan_parquet(path).select(columns or pl.all()), 0
        try:
            while (piece := table.slice(first, _PIECE_ROWS).collect()).height or not first:
                yield piece
                first += _PIECE_ROWS
        except (pl.exceptions.PolarsError, OSError) as error:
            message = f"is no Parquet file with {', '.join(columns) or 'rows'}: {error}"
            raise RunError(message, path=path, hint=_AGAIN) from error

    def weight_pieces(self) -> Iterator[pl.DataFrame]:
        """The weight table in pieces, held to its laws by the time the last has gone.

        Raises:
            RunError: If there is none.
            DataError: If it breaks a law.
        """
        return checked_pieces(self.pieces("weights"), lambda: self.table("weights"))

    def trajectories(self, *texts: str) -> pl.DataFrame:
        """The trajectory table with some of its texts, see ``trajectory.TEXT_COLUMNS``.

        Raises:
            RunError: If the run has none, or its texts are not those of its table.
        """
        if not texts:
            return self.table("trajectories")
        return pl.concat(self.trajectory_batches(*texts))

    def trajectory_batches(self, *texts: str) -> Iterator[pl.DataFrame]:
        """The same in pieces of some ten thousand rows, for what need not be held at once.

        Raises:
            RunError: See ``trajectories``.
        """
        self.path_of("trajectories.parquet")
        return self.storage.batches(*texts)

    def rows(self, name: RowsName) -> list[dict[str, Any]]:
        """The objects of one of the JSONL files; none where the run had no cause to write it."""
        path = self.folder / f"{name}.jsonl"
        if not path.exists():
            return []
        with path.open("rb") as stream:
            return [_parse(line, path, number) for number, line in enumerate(stream, start=1)]

    def head(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The head's tensors and its config.

        Raises:
            RunError: If there is none, or tensors and config are of different runs.
        """
        from safetensors.torch import load_file

        path, config = self._tied_head()
        return load_file(path), config

    def head_arrays(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """The same for numpy, without torch and without the adapters of the features.

        Raises:
            RunError: See ``head``.
        """
        from safetensors import safe_open

        path, config = self._tied_head()
        with safe_open(path, framework="np") as file:
            names = [name for name in file.keys() if not name.startswith("adapter.")]  # noqa: SIM118
            return {name: file.get_tensor(name) for name in names}, config

    def direction(self) -> dict[str, Tensor]:
        """Where the search ended.

        Raises:
            RunError: If the run does not have it, or the file cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path_of(DIRECTION)
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            message = f"is no safetensors file that can be read: {error}"
            raise RunError(message, path=path, hint=_AGAIN) from error

    def _tied_head(self) -> tuple[Path, dict[str, Any]]:
        """Where the head's tensors are, and the config that belongs to them."""
        path, config = self.path_of(HEAD), self._object(HEAD_CONFIG)
        if config.get("head_sha256") != sha256_of(path):
            message = f"does not belong to {HEAD_CONFIG}: the hash written there is another"
            raise RunError(message, path=path, hint=_AGAIN)
        return path, config

    def has(self, name: str) -> bool:
        """Whether the folder holds this file."""
        return (self.folder / name).is_file()

    def path_of(self, name: str) -> Path:
        """The path of one of the run's files.

        Raises:
            RunError: If the run did not leave it.
        """
        if not self.has(name):
            told = self.manifest() if name != MANIFEST and self.has(MANIFEST) else {}
            finished = told.get("status") == "finished"
            why = "this run did not make one" if finished else "the run did not finish"
            msg = f"the run has no {name}; {why}"
            can_go_on = not finished and told.get("kind") == "learned"
            go_on = f"Go on with it: trajweight score --resume {self.folder}\nOr: " * can_go_on
            raise RunError(msg, path=self.folder, hint=go_on + _AGAIN)
        return self.folder / name

    def _object(self, name: str) -> dict[str, Any]:
        """A JSON file of the run whose schema this version understands."""
        path = self.path_of(name)
        found = _parse(path.read_bytes(), path, None)
        _require_known_schema(found.get("schema_version"), path)
        return found


def create_run(out: Path, *, force: bool, facts: Mapping[str, Any] | None = None) -> Run:
    """Make the folder of a new run, marked as started.

    Args:
        out: The folder; it must be empty or not there.
        force: Take a folder that holds a run: the files of that run are removed, all others stay.
        facts: What the manifest says of a run that has only started.

    Raises:
        ConfigError: If the folder may not be used.
    """
    if out.exists() and not out.is_dir():
        message = f"{out} is a file; a run needs a folder."
        raise ConfigError(message, hint="Give another --out.")
    found = (path.name for path in out.iterdir()) if out.is_dir() else ()
    entries = sorted(name for name in found if name != LOCK)
    if entries and not force:
        message = f"{out} is not empty: it holds {_some(entries)}."
        raise ConfigError(message, hint="--force or another --out")
    taken = [name for name in entries if name in (*RUN_FILES, *_FOLDERS)]
    if taken and not _is_run(out):
        message = f"{out} holds {_some(taken)}, and no run of trajweight wrote that."
        raise ConfigError(message, hint="Move it away, or give another --out.")
    if _is_run(out):
        _remove_run_files(out)
    run = Run(out)
    run.save_manifest({"started": now(), **(facts or {})}, status="started")
    return run


def load_run(path: Path) -> Run:
    """Open the folder of a run.

    Raises:
        RunError: If there is no folder, if it is not a run, or if it is of another major version.
    """
    if not path.exists():
        msg = "there is no such folder"
        raise RunError(msg, path=path, hint=_MAKE)
    if not path.is_dir():
        message = "this is a file; a run is a folder with a manifest.json"
        raise RunError(message, path=path, hint=_MAKE)
    run = Run(path)
    if not run.has(MANIFEST):
        message = "this folder is not a run: it has no manifest.json"
        raise RunError(message, path=path, hint=_MAKE)
    told = _parse(run.path_of(MANIFEST).read_bytes(), run.path_of(MANIFEST), None)
    if told.get("tool") != "trajweight":
        message = "this folder is not a run: trajweight did not write its manifest.json"
        raise RunError(message, path=path, hint=_MAKE)
    run.manifest()  # refuses what another version means otherwise
    return run


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Write a table as zstd Parquet with the schema's version in its footer.

    The table is brought into one chunk first, so equal tables give equal bytes however they were
    put together.
    """

    def fill(stream: IO[bytes]) -> None:
        table.rechunk().write_parquet(
            stream, compression="zstd", row_group_size=_GROUP_ROWS, metadata=_MARK
        )

    write_atomically(path, fill)


def write_parquet_pieces(path: Path, pieces: Iterable[pl.DataFrame], schema: pl.Schema) -> None:
    """Write what ``write_parquet`` would of all pieces together, but hold only a few at a time.

    The bytes are the same too, unless a column holds lists: what of these stands in one page of
    the file hangs on the pieces. The same pieces give the same bytes.

    Args:
        path: Where.
        pieces: The rows in order, cut in any way.
        schema: Their columns and types.
    """

    def given(*_asked: object) -> Iterator[pl.DataFrame]:
        return iter(pieces)

    def fill(stream: IO[bytes]) -> None:
        register_io_source(given, schema=schema).sink_parquet(
            stream, compression="zstd", row_group_size=_GROUP_ROWS, metadata=_MARK
        )

    write_atomically(path, fill)


_OUR_PART: Final = re.compile(
    rf"\.({'|'.join(map(re.escape, RUN_FILES))}|[0-9]+\.safetensors)\.[0-9a-f]+"
    + re.escape(PART_SUFFIX)
)
_FOLDERS: Final = (CONVERSATIONS, CHECKPOINTS, ADAPTER)
_MAKE: Final = "Make a run with `trajweight score DATA --out FOLDER`, then give that folder."
_AGAIN: Final = "Run it again into the same folder with --force."
_MARK: Final = {"trajweight.schema_version": SCHEMA_VERSION}
#: Rows that stand together in a table.
_GROUP_ROWS: Final = 65_536
#: Rows of a table that are in memory at once where they come in pieces.
_PIECE_ROWS: Final = 16_384


def _flat(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _is_run(folder: Path) -> bool:
    """Whether this tool wrote the folder's manifest, of whatever version."""
    try:
        found = orjson.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("tool") == "trajweight"


def _remove_run_files(folder: Path) -> None:
    """Remove what a run owns, the manifest last, and what an interrupted write left behind."""
    Run(folder).remove_checkpoints()
    Run(folder).remove_adapter()
    Run(folder).storage.clear()
    for part in _parts(folder):
        part.unlink(missing_ok=True)
    for name in reversed(RUN_FILES):
        (folder / name).unlink(missing_ok=True)


def _parts(folder: Path) -> list[Path]:
    """What writes that were killed left behind of files with our names."""
    found = folder.glob(f".*{PART_SUFFIX}")
    return [path for path in found if _OUR_PART.fullmatch(path.name)]


def _require_known_schema(version: object, path: Path) -> None:
    """Another major may mean other things by the same names, or keep them elsewhere."""
    major = str(version).partition(".")[0]
    if not major.isdigit():
        msg = f"has the schema version {version!r}, which is none"
        raise RunError(msg, path=path, hint=_AGAIN)
    ours = int(SCHEMA_VERSION.partition(".")[0])
    if int(major) > ours:
        message = f"has the schema version {version}; this trajweight reads up to {SCHEMA_VERSION}"
        raise RunError(message, path=path, hint="Upgrade trajweight to read this run.")
    if int(major) < ours:
        message = f"has the schema version {version}; this trajweight reads {SCHEMA_VERSION}"
        hint = f"{_AGAIN}\nOr read it with the older trajweight that wrote it."
        raise RunError(message, path=path, hint=hint)


def _parse(text: bytes, path: Path, line: int | None) -> dict[str, Any]:
    """A JSON object of ours, or an error that names its place."""
    try:
        found = json.loads(text)
    except ValueError as error:
        msg = f"is not JSON: {error}"
        raise RunError(msg, path=path, line=line, hint=_AGAIN) from error
    if not isinstance(found, dict):
        msg = "is not a JSON object"
        raise RunError(msg, path=path, line=line, hint=_AGAIN)
    return found


def _json(facts: Mapping[str, Any]) -> bytes:
    """Strict JSON to be read by people too; numbers that are not finite become null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(dict(facts), default=_plain, option=options | orjson.OPT_SERIALIZE_NUMPY)


def _plain(value: object) -> object:
    """Arguments may hold paths, sets and tuples' kin."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    msg = f"{type(value).__name__} has no place in JSON"
    raise TypeError(msg)


def _some(names: Sequence[str]) -> str:
    """A few names, and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
