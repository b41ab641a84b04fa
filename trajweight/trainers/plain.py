"""No trainer, but files that any program reads: JSON lines, Parquet, or a `datasets` folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import polars as pl
import pyarrow as pa

from trajweight.formats import UnusableError
from trajweight.jsontext import decode
from trajweight.trainers.protocol import Target, Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.trainers.protocol import Container, Example, Mode, Plan, Row

#: Columns of the Parquet file. Messages, tools and the rest of a row are JSON text, because
#: tool arguments of different shapes share no column type; a typed column would null-fill them.
_NAMED: Final = ("traj_id", "source", "origin", "split", "task_id")
_TEXTS: Final = ("messages_json", "tools_json", "extra_json")
PARQUET_COLUMNS: Final = (*_NAMED, "weight", *_TEXTS)
_MODES: Final[tuple[Mode, ...]] = ("native", "resample", "buckets", "filter", "tokenized")
_UNWEIGHTED: Final = (
    "The rows carry no weight: how often one is read is what it counts. Copies and rates are made "
    "for a loss that sums over tokens, as nearly all trainers have it: a long trajectory is read "
    "less often than a short one of the same weight."
)
#: Modes in which rows carry their weight.
_WEIGHTED: Final = ("native", "adapter")
_EXACT: Final = ("native", "tokenized")


class Plain(Target):
    """What the three have in common."""

    checked = ()
    modes = _MODES
    keeps_turn_flags = True
    is_plain = True
    reads: ClassVar[str]

    def files(self, plan: Plan) -> Mapping[str, str]:
        """Nothing beside the data: what reads it is not known."""
        del plan
        return {}

    def told(self, plan: Plan) -> Told:
        """What the numbers are."""
        acts = (
            "A weight does nothing by itself: the program that reads the file must multiply the "
            "loss of each trajectory, its mean over the trained tokens, by `weight`."
        )
        if plan.mode == "filter":
            acts = "The rows carry no weight: those that are left count alike."
        elif plan.mode == "tokenized":
            acts = (
                "`loss_weights` stands with `labels`, unshifted. The sum of each token's loss "
                "times its weight, over the batch and divided by its trained tokens, is the "
                "weighted objective."
            )
        elif plan.mode not in _WEIGHTED:
            acts = _UNWEIGHTED
        command = self.reads.format(data=plan.data[0].name)
        return Told(acts=acts, command=command, install="", is_exact=plan.mode in _EXACT)


class PlainJsonl(Plain):
    """The original rows, nothing lost, with a root float ``weight``."""

    name = "jsonl"
    title = "JSON lines"
    reads = "head -n 1 {data}"

    def refuses(self) -> pl.Expr | None:
        """A row of several records has no one line to stand in."""
        several = pl.col("origin_rows").is_not_null()
        return pl.when(several).then(pl.lit("made of several records, which no line holds"))

    def row(self, example: Example, mode: Mode) -> Row:
        """The row as it was read, its weight at the end.

        Raises:
            UnusableError: If the row as it was read is no object, so that it has no room for one.
        """
        original: Any = example.original
        if not isinstance(original, dict):
            message = "it is no object"
            raise UnusableError(message)
        if mode not in _WEIGHTED:
            return dict(original)
        made = with_room(original)
        made["weight"] = example.weight
        return made

    def remark(self, example: Example, mode: Mode) -> str:
        """A weight that the row had before."""
        original: Any = example.original
        if mode not in _WEIGHTED or not isinstance(original, dict) or "weight" not in original:
            return ""
        return f"had a `weight` of their own; it is now `{free_name(original)}`"


class PlainParquet(Plain):
    """Flat columns, messages as JSON text."""

    name = "parquet"
    title = "Parquet"
    container: ClassVar[Container] = "parquet"
    schema = pa.schema(
        [(name, pa.float64() if name == "weight" else pa.string()) for name in PARQUET_COLUMNS]
    )
    reads = "python -c \"import polars; print(polars.read_parquet('{data}'))\""

    def row(self, example: Example, mode: Mode) -> Row:
        """Names, weight, and the texts as they are."""
        row = {name: example.row[name] for name in (*_NAMED, *_TEXTS)}
        return row | {"weight": example.weight if mode in _WEIGHTED else None}

    def told(self, plan: Plan) -> Told:
        """That texts must be decoded."""
        told = super().told(plan)
        trap = "Messages, tools and the rest of each row are JSON text; decode them when you read."
        return Told(told.acts, told.command, told.install, (trap,), told.is_exact)


class PlainDatasets(Plain):
    """A folder for ``datasets.load_from_disk``, messages and tools nested."""

    name = "datasets"
    title = "Hugging Face datasets"
    container: ClassVar[Container] = "datasets"
    reads = "python -c \"import datasets; print(datasets.load_from_disk('{data}'))\""

    def row(self, example: Example, mode: Mode) -> Row:
        """Names, weight, and messages as the OpenAI API writes them."""
        tools = example.row["tools_json"]
        return {
            **{name: example.row[name] for name in _NAMED},
            "weight": example.weight if mode in _WEIGHTED else None,
            "messages": example.messages,
            "tools": None if tools is None else decode(tools),
            "extra_json": example.row["extra_json"],
        }

    def told(self, plan: Plan) -> Told:
        """Where the rest of a row is."""
        told = super().told(plan)
        trap = "extra_json holds the rest of each row as text."
        return Told(told.acts, told.command, told.install, (trap,), told.is_exact)


def free_name(row: Row) -> str:
    """What a row's own weight is called from now on."""
    name, number = "weight_original", 2
    while name in row:
        name, number = f"weight_original_{number}", number + 1
    return name


def with_room(row: Row) -> Row:
    """The row with its own ``weight``, where it has one, renamed in its place."""
    if "weight" not in row:
        return dict(row)
    name = free_name(row)
    return {(name if key == "weight" else key): value for key, value in row.items()}
