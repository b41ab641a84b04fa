"""A frozen dataclass of options and a function of it make a command; no option is written twice."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

import typer

from trajweight.cli import _options as options
from trajweight.cli._console import Surface
from trajweight.cli._shell import ARGV, INTERRUPTION, SURFACE
from trajweight.processes import launched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trajweight.interruption import Interruption

Options = TypeVar("Options", bound=options.Common)


@dataclass(frozen=True, slots=True)
class Typed:
    """What the user typed, beside the options' values.

    Attributes:
        argv: The command line.
        flags: Names of the options that stand on it, not those from the environment.
        interruption: Whether the user has asked for an end since.
    """

    argv: tuple[str, ...]
    flags: frozenset[str]
    interruption: Interruption


def add_command(
    app: typer.Typer,
    name: str,
    kind: type[Options],
    body: Callable[[Options, Surface, Typed], None],
) -> None:
    """Make ``body`` a command of ``app`` whose parameters are the fields of ``kind``.

    Args:
        app: The program.
        name: The command's name.
        kind: The options; each field is annotated for typer. Help shows them by panel, in the
            order of ``options.PANELS``.
        body: Called with the options, where to speak, and what was typed. Its docstring is the
            command's help.
    """

    def command(ctx: typer.Context, **chosen: Any) -> None:
        # typer gives [] for an option that may be repeated and was not
        given: dict[str, Any] = {
            key: None if value == [] else value for key, value in chosen.items()
        }
        parsed = kind(**given)
        is_main = launched().is_main
        if not is_main and not isinstance(parsed, options.Learning):
            return  # only passes of the model are shared between processes
        surface = Surface(name, as_json=parsed.as_json, quiet=parsed.quiet, is_heard=is_main)
        ctx.obj[SURFACE] = surface  # an error that ends the command is told there
        body(parsed, surface, Typed(ctx.obj[ARGV], _flags(ctx), ctx.obj[INTERRUPTION]))

    hints = get_type_hints(kind, include_extras=True)
    context = inspect.Parameter(
        "ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
    )
    vars(command)["__signature__"] = inspect.Signature([context, *_parameters(kind, hints)])
    command.__annotations__ = {"ctx": typer.Context, **hints}
    app.command(name, help=_help_of(body))(command)


def _parameters(kind: type, hints: Mapping[str, Any]) -> list[inspect.Parameter]:
    """The fields as keyword parameters, in the order of their panels."""

    def panel(name: str) -> int:
        title = get_args(hints[name])[1].rich_help_panel
        return options.PANELS.index(title) if title in options.PANELS else -1

    return [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in sorted(fields(kind), key=lambda each: panel(each.name))
    ]


def _help_of(body: Callable[..., None]) -> str:
    """The docstring without its line breaks; typer would keep those inside a paragraph."""
    paragraphs = (inspect.getdoc(body) or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _flags(ctx: typer.Context) -> frozenset[str]:
    """The options that were typed."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return frozenset(
        name for name, source in sources.items() if source and source.name == "COMMANDLINE"
    )
