"""The formats that rows come in, each known by its content; one file a format.

A format of your own is a subclass of `Format` in a package of yours, named as an entry point:

    [project.entry-points."trajweight.formats"]
    mine = "my_package.my_format:MyFormat"

It is asked before ours, so it may also take over what one of ours would read.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from trajweight.errors import ConfigError
from trajweight.formats.agent_data_protocol import AgentDataProtocol
from trajweight.formats.alpaca import Alpaca
from trajweight.formats.anthropic import Anthropic
from trajweight.formats.atif import Atif
from trajweight.formats.casino import Casino
from trajweight.formats.conversation import Conversation
from trajweight.formats.fireact import FireAct
from trajweight.formats.glaive import Glaive
from trajweight.formats.inspect_ai import Inspect
from trajweight.formats.langfuse import Langfuse
from trajweight.formats.langsmith import LangSmith
from trajweight.formats.llama_factory import LlamaFactory, described
from trajweight.formats.lmrl_gym import LmrlGym
from trajweight.formats.mapped import Mapped
from trajweight.formats.messages import Messages
from trajweight.formats.mint import Mint
from trajweight.formats.openhands import OpenHands
from trajweight.formats.opentelemetry import OpenTelemetry
from trajweight.formats.preference import Preference
from trajweight.formats.prompt_completion import PromptCompletion
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.query_response import QueryResponse
from trajweight.formats.schema_guided import SchemaGuided
from trajweight.formats.sharegpt import ShareGpt
from trajweight.formats.swe_agent import SweAgent
from trajweight.formats.task_files import BfclTasks
from trajweight.formats.tau2 import Tau2
from trajweight.formats.tau_bench import TauBench
from trajweight.formats.tooltalk import ToolTalk
from trajweight.formats.verifiers import VerifiersResults, VerifiersTraces
from trajweight.formats.verl import VerlRollout

if TYPE_CHECKING:
    from trajweight.records import Sample

__all__ = [
    "Canonical",
    "Format",
    "Item",
    "Row",
    "UnusableError",
    "detect",
    "format_named",
    "format_of_value",
    "formats",
    "nearest",
]

#: In the order they are asked: the more a format asks for, the earlier.
_OURS: Final[tuple[Format, ...]] = (
    Atif(),
    Tau2(),
    TauBench(),
    SweAgent(),
    OpenHands(),
    VerlRollout(),
    Inspect(),
    AgentDataProtocol(),
    LmrlGym(),
    VerifiersTraces(),
    VerifiersResults(),
    OpenTelemetry(),
    LangSmith(),
    Langfuse(),
    ToolTalk(),
    SchemaGuided(),
    Casino(),
    Mint(),
    BfclTasks(),
    FireAct(),
    Glaive(),
    Preference(),
    Anthropic(),
    Messages(),
    ShareGpt(),
    Conversation(),
    PromptCompletion(),
    Alpaca(),
    QueryResponse(),
    LlamaFactory(),
    Mapped(),
)
_ENTRY_POINTS: Final = "trajweight.formats"


@cache
def formats() -> tuple[Format, ...]:
    """Every format, those of other packages first.

    Raises:
        ConfigError: If another package names something that is no format, or cannot be imported.
    """
    return (*(_loaded(point) for point in entry_points(group=_ENTRY_POINTS)), *_OURS)


def detect(sample: Sample) -> Format | None:
    """The format that a file's first records are of, or None: that of an index comes first."""
    own = described(sample.hints)
    if own is not None and own.matches(sample):
        return own
    return next((form for form in formats() if form.matches(sample)), None)


def format_of_value(value: Any) -> Format | None:
    """The first format that one record by itself is a row of, or None."""
    return next((form for form in formats() if not form.rows_at and not form.lacks(value)), None)


def nearest(value: Any, *, n: int = 3) -> list[tuple[Format, tuple[str, ...]]]:
    """The formats that a record lacks least of, with what it lacks, the nearest first."""
    wanted = [(form, form.lacks(value)) for form in formats()]
    return sorted(wanted, key=lambda pair: len(pair[1]))[:n]


def format_named(name: str) -> Format:
    """The format whose rows carry this name in ``origin_format``.

    Raises:
        ConfigError: If there is none; the message names those there are.
    """
    for form in formats():
        if form.name == name:
            return form
    known = ", ".join(sorted(form.name for form in formats()))
    message = f"no format is called {name!r}"
    raise ConfigError(message, hint=f"Known formats are {known}.")


def _loaded(point: Any) -> Format:
    """The format that an entry point names."""
    try:
        made: object = point.load()()
    except Exception as error:
        message = f"the format {point.name!r} of another package cannot be loaded: {error}"
        raise ConfigError(message, hint=f"Mend or remove {point.value}.") from error
    if not isinstance(made, Format):
        message = f"the format {point.name!r} of another package is {type(made).__name__}"
        raise ConfigError(message, hint="It must be a subclass of trajweight.formats.Format.")
    return made
