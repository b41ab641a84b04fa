"""Learn how much each synthetic trajectory should count.

The public names, each imported on first use, so that ``import trajweight`` costs nothing::

    import trajweight as tw

    config = tw.RunConfig(data=tw.DataConfig(...))
    run = tw.curate(config, Path("runs/first"), force=False, progress=tw.Progress())
    run.table("weights")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from trajweight.config import (
        DataConfig as DataConfig,
    )
    from trajweight.config import (
        InnerConfig as InnerConfig,
    )
    from trajweight.config import (
        ModelConfig as ModelConfig,
    )
    from trajweight.config import (
        OuterConfig as OuterConfig,
    )
    from trajweight.config import (
        ReturnsConfig as ReturnsConfig,
    )
    from trajweight.config import (
        RunConfig as RunConfig,
    )
    from trajweight.errors import (
        ConfigError as ConfigError,
    )
    from trajweight.errors import (
        DataError as DataError,
    )
    from trajweight.errors import (
        DivergenceError as DivergenceError,
    )
    from trajweight.errors import (
        GateError as GateError,
    )
    from trajweight.errors import (
        MissingError as MissingError,
    )
    from trajweight.errors import (
        RunError as RunError,
    )
    from trajweight.errors import (
        TemplateError as TemplateError,
    )
    from trajweight.errors import (
        TrajweightError as TrajweightError,
    )
    from trajweight.export import ExportResult as ExportResult
    from trajweight.export import export_weights as export_weights
    from trajweight.job import ingest as ingest
    from trajweight.pipeline import curate as curate
    from trajweight.pipeline import resume as resume
    from trajweight.pipeline import score_with as score_with
    from trajweight.progress import Progress as Progress
    from trajweight.reading import (
        OriginLabels as OriginLabels,
    )
    from trajweight.reading import (
        Reading as Reading,
    )
    from trajweight.reading import (
        Rejection as Rejection,
    )
    from trajweight.reading import (
        read_trajectories as read_trajectories,
    )
    from trajweight.run import Run as Run
    from trajweight.run import load_run as load_run
    from trajweight.trajectory import ToolCall as ToolCall
    from trajweight.trajectory import Trajectory as Trajectory
    from trajweight.trajectory import Turn as Turn
    from trajweight.weights import effective_sample_size as effective_sample_size

__version__: Final = "0.2.0"

_NAMES: Final = {
    "config": "DataConfig InnerConfig ModelConfig OuterConfig ReturnsConfig RunConfig",
    "errors": (
        "ConfigError DataError DivergenceError GateError MissingError RunError TemplateError "
        "TrajweightError"
    ),
    "export": "ExportResult export_weights",
    "job": "ingest",
    "pipeline": "curate resume score_with",
    "progress": "Progress",
    "reading": "OriginLabels Reading Rejection read_trajectories",
    "run": "Run load_run",
    "trajectory": "ToolCall Trajectory Turn",
    "weights": "effective_sample_size",
}
_HOMES: Final = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names beside what is loaded already."""
    return sorted({*globals(), *__all__})
