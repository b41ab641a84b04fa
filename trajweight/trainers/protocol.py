"""What a target of an export is: the rows its trainer reads, its loss, its traps, its files.

Two objectives are in use, with w_i the weight of a trajectory, T_i its trained tokens and l_it
their losses:

- sequence-mean: sum_i w_i (1/T_i) sum_t l_it / sum_i w_i. That is what weights were learned under.
- token-weighted: sum_i w_i sum_t l_it / sum_i w_i T_i. Nearly every trainer does this, so it is
  given ``token_weight``, w_i mean(T) / T_i, and then does the former.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

from trajweight.formats import Canonical, format_named
from trajweight.jsontext import decode
from trajweight.table import original_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    import polars as pl
    import pyarrow as pa

Row = dict[str, Any]
Mode = Literal["native", "adapter", "resample", "buckets", "filter", "tokenized"]
Container = Literal["jsonl", "parquet", "datasets"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)


class Example:
    """A trajectory on its way out; its texts are decoded when they are asked for.

    Attributes:
        row: A row of the trajectory table with its texts.
        weight: For a sequence-mean loss; their mean over what is exported is one.
        token_weight: The same for a token-weighted loss; their mean over the exported tokens is
            one.
    """

    def __init__(self, row: Mapping[str, Any], weight: float, token_weight: float) -> None:
        self.row, self.weight, self.token_weight = row, weight, token_weight

    @cached_property
    def messages(self) -> list[Row]:
        """Messages as the OpenAI API writes them, arguments as JSON text, reasoning apart."""
        told: list[Row] = format_named("messages").restored(self._canonical)["messages"]
        return told

    @cached_property
    def tools(self) -> list[Row] | None:
        """Tool definitions as the row gives them, or None."""
        return self._canonical.tools or None

    @cached_property
    def trained(self) -> tuple[bool, ...]:
        """By message, whether it is a reply that may be trained on; a copied one may not."""
        return tuple(
            message["role"] == "assistant" and not message.get("untrained", False)
            for message in self._canonical.messages
        )

    @cached_property
    def original(self) -> Any:
        """The row as it was read."""
        return original_row(self.row)

    @cached_property
    def _canonical(self) -> Canonical:
        tools = self.row["tools_json"]
        return Canonical(
            decode(self.row["messages_json"]), decode(tools) if tools is not None else []
        )


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of rows that an export holds.

    Attributes:
        name: Below the folder of the export, such as ``data/train.jsonl``.
        n_rows: Rows in it, copies included.
        rate: In mode buckets the probability that a trainer shall draw from it; else one.
        epoch: In mode resample, which epoch it is for, from 0.
    """

    name: str
    n_rows: int
    rate: float = 1.0
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export is made of, for the files that stand beside its data.

    Attributes:
        mode: How weights act.
        data: The files of rows, in order.
        model: The base model to fine-tune, as its hub id or folder.
        n_examples: Trajectories that are exported, copies not counted.
        mean_tokens: Mean of T, the trained tokens of a trajectory; 1.0 where nothing is known.
        has_tools: Whether any trajectory has tools.
        seed: Of what is drawn by chance.
        n_untrained: Trajectories with replies that may not be trained on.
    """

    mode: Mode
    data: tuple[DataFile, ...]
    model: str
    n_examples: int
    mean_tokens: float
    has_tools: bool = False
    seed: int = 0
    n_untrained: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a target has no such mode.

    Attributes:
        reason: A sentence.
        nearest: The mode to take instead.
        can_be_forced: Whether ``--allow-unfaithful`` writes it all the same.
    """

    reason: str
    nearest: Mode
    can_be_forced: bool = False


class Target(ABC):
    """A trainer or service that an export goes to; a file under ``trajweight/trainers`` each.

    Targets are values without state: the registry holds one of each.

    Attributes:
        name: Typed after ``--to``.
        title: What people call it.
        checked: Versions whose source was read or that were run, such as ``trl 1.16.0``.
        modes: Those it can be faithful in, or as near as may be; the default comes first.
        refused: Other modes that people will ask for, and why not.
        container: How data files are written.
        keeps_turn_flags: Whether its rows can say that a reply is not trained on.
        schema: Of a Parquet file, where pyarrow would infer another; None: inferred.
        adapters: By mode, names of files of `trajweight.adapters` that are copied beside the data.
        probe: Name of the file under ``verification/probes`` that asks the trainer itself; empty
            where nothing can be run, as with a service.
        is_plain: Whether it is no trainer but a file: rows with their weights need no folder then.
        averages_rows: Whether its stock loss, under its config, is a mean over rows, each a mean
            over its tokens; else one over tokens. Copies and rates are made for that.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    checked: ClassVar[tuple[str, ...]]
    modes: ClassVar[tuple[Mode, ...]]
    refused: ClassVar[Mapping[Mode, Refusal]] = {}
    container: ClassVar[Container] = "jsonl"
    keeps_turn_flags: ClassVar[bool] = False
    schema: ClassVar[pa.Schema | None] = None
    adapters: ClassVar[Mapping[Mode, tuple[str, ...]]] = {}
    probe: ClassVar[str] = ""
    is_plain: ClassVar[bool] = False
    averages_rows: ClassVar[bool] = False

    @abstractmethod
    def row(self, example: Example, mode: Mode) -> Row:
        """A row of a data file; in modes resample, buckets and filter it carries no weight.

        Raises:
            UnusableError: If the trainer could not read it; the row is left out and counted.
        """

    def refuses(self) -> pl.Expr | None:
        """Why rows of the trajectory table are unusable, where that is told without their texts.

        Returns:
            An expression that gives text, or null for a usable row; None if none is unusable.
        """
        return None

    def remark(self, example: Example, mode: Mode) -> str:  # noqa: ARG002
        """What a row loses or changes on its way, said of many: "had ..."; empty if nothing."""
        return ""

    @abstractmethod
    def files(self, plan: Plan) -> Mapping[str, str]:
        """Configs and scripts that train on the data: name below the export's folder to text.

        Beside the data they do all that is needed: paths are relative to the export's folder.
        """

    @abstractmethod
    def told(self, plan: Plan) -> Told:
        """What the export's README says of this target."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a reader must know before training on an export.

    Attributes:
        acts: How weights act there: the field, the divisor, what the step does with them.
        command: The shell command that trains.
        install: The shell command that installs what it needs.
        traps: What would undo the weights in silence.
        is_exact: Whether the trained objective is the weighted one, or an approximation of it.
    """

    acts: str
    command: str
    install: str
    traps: tuple[str, ...] = field(default=())
    is_exact: bool = True
