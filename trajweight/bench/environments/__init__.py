"""The environments of the benchmark, by name; their packages are loaded when one is asked for."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Final

from trajweight.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trajweight.bench.environment import Environment

REMEDY: Final = "pip install 'trajweight[bench]'"


def _made(module: str, name: str) -> Environment:
    try:
        found = importlib.import_module(f"trajweight.bench.environments.{module}")
    except ModuleNotFoundError as error:
        why = f"the environment {name} needs the package {error.name}, which is not installed"
        raise MissingError(why, hint=REMEDY) from error
    made: Environment = found.environment(name)
    return made


#: Makers of the environments; a maker raises MissingError where its package is not installed.
ENVIRONMENTS: Final[dict[str, Callable[[], Environment]]] = {
    name: partial(_made, module, name)
    for module, names in {
        "textworld": ("textworld-coin", "textworld-mapreader", "textworld-cookingworld"),
        "babyai": ("babyai-goto", "babyai-pickup"),
        "textarena": ("textarena-guess", "textarena-mastermind", "textarena-frozenlake"),
    }.items()
    for name in names
}


def environment(name: str) -> Environment:
    """The environment of a name.

    Raises:
        ConfigError: If there is none of this name.
        MissingError: If its package, or Java for TextWorldExpress, is not installed.
    """
    if name not in ENVIRONMENTS:
        why = f"there is no environment {name!r}"
        raise ConfigError(why, hint=f"Known environments: {', '.join(ENVIRONMENTS)}.")
    return ENVIRONMENTS[name]()
