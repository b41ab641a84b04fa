"""Where exports go: a file a trainer or service, each with the rows it reads and its traps."""

from __future__ import annotations

import difflib
import importlib
from functools import cache
from typing import Final

from trajweight.errors import ConfigError
from trajweight.trainers.protocol import (
    MODES,
    Container,
    DataFile,
    Example,
    Mode,
    Plan,
    Refusal,
    Row,
    Target,
    Told,
)

__all__ = [
    "MODES",
    "TARGETS",
    "Container",
    "DataFile",
    "Example",
    "Mode",
    "Plan",
    "Refusal",
    "Row",
    "Target",
    "Told",
    "target_named",
    "targets",
]

#: By name the module and class; only the one that is asked for is imported.
_OURS: Final[dict[str, str]] = {
    "trl": "trl:Trl",
    "hf": "hf:HuggingFace",
    "unsloth": "unsloth:Unsloth",
    "axolotl": "axolotl:Axolotl",
    "llama-factory": "llama_factory:LlamaFactory",
    "llama-factory-v1": "llama_factory_v1:LlamaFactoryV1",
    "ms-swift": "ms_swift:MsSwift",
    "verl": "verl:Verl",
    "openrlhf": "openrlhf:OpenRlhf",
    "nemo-rl": "nemo_rl:NemoRl",
    "nemo-automodel": "nemo_automodel:NemoAutomodel",
    "open-instruct": "open_instruct:OpenInstruct",
    "torchtune": "torchtune:Torchtune",
    "tinker": "tinker:Tinker",
    "fireworks": "fireworks:Fireworks",
    "together": "together:Together",
    "openai": "openai:OpenAi",
    "jsonl": "plain:PlainJsonl",
    "parquet": "plain:PlainParquet",
    "datasets": "plain:PlainDatasets",
}
#: Every name that ``--to`` takes.
TARGETS: Final[tuple[str, ...]] = tuple(_OURS)


@cache
def target_named(name: str) -> Target:
    """The target of a name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in _OURS:
        near = difflib.get_close_matches(name.lower(), TARGETS, n=3, cutoff=0.5)
        message = f"--to {name}: no such target."
        told = f"Did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(message, hint=f"{told}Targets are {', '.join(TARGETS)}.")
    module, _, kind = _OURS[name].partition(":")
    found: Target = getattr(importlib.import_module(f"trajweight.trainers.{module}"), kind)()
    return found


def targets() -> tuple[Target, ...]:
    """Every target."""
    return tuple(target_named(name) for name in TARGETS)
