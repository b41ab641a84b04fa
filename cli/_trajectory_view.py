"""A trajectory as lines of a terminal: its facts, then its turns and which of them are trained on.

What it tells never hangs on a colour: a turn that counts in the loss says so, and a bar stands at
its left. Texts keep their line breaks and spaces; what a terminal could act upon is written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from rich.cells import cell_len

from trajweight.analysis.excerpts import inert
from trajweight.cli._browsing import arguments_text
from trajweight.cli._console import visible
from trajweight.jsontext import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Characters of one trajectory; what is beyond is counted and not shown.
MOST_CHARACTERS: Final = 200_000
#: Characters of one fact, such as an id.
_FACT: Final = 2_000
_LABEL: Final = 9
_TAB: Final = 4

Look = Literal["title", "label", "plain", "turn", "reasoning", "call", "remark"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line, no wider than was asked for.

    Attributes:
        text: With nothing in it that a terminal acts upon.
        look: How it may be set off.
        is_trained: Whether it belongs to a turn that counts in the loss.
    """

    text: str
    look: Look = "plain"
    is_trained: bool = False


def trajectory_lines(
    row: Mapping[str, Any],
    facts: Mapping[str, str],
    *,
    width: int,
    most: int = MOST_CHARACTERS,
) -> list[Line]:
    """The lines of a trajectory.

    Args:
        row: With ``traj_id``, ``messages_json``, ``tools_json`` and ``extra_json``.
        facts: What else to tell of it, by label.
        width: Columns.
        most: Characters of its turns to show.
    """
    told = {"id": row["traj_id"], **facts}
    if row["tools_json"] is not None:
        told["tools"] = ", ".join(_tool_name(tool) for tool in decode(row["tools_json"]))
    lines = [line for label, text in told.items() for line in _fact(label, text, width)]
    messages = decode(row["messages_json"])
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    names = {call["id"]: call["name"] for call in calls if call.get("id")}
    left = most
    for number, message in enumerate(messages, start=1):
        lines.append(Line(""))
        turn, left = _turn(number, message, names, left, width)
        lines += turn
    if left < 0:
        remark = f"{-left:,} characters more are not shown."
        lines += [Line(""), *(Line(text, "remark") for text in wrapped(remark, width))]
    if rest := _rest(row["extra_json"]):
        lines += [Line(""), *_fact("row", rest, width)]
    return lines


def row_facts(
    row: Mapping[str, Any], standing: Mapping[str, Any], more: Mapping[str, Any], *, n_learned: int
) -> dict[str, str]:
    """What is told of a row beside its turns, by label.

    Args:
        row: Of the trajectory table.
        standing: The same row as `_browsing.load_rows` gives it.
        more: See `_browsing.measured`.
        n_learned: How many weights were learned.
    """
    told = {
        "weight": _weight(standing, more, n_learned),
        "source": f"{row['source']}, {row['origin']}, split {standing['split']}",
        "size": f"{row['n_turns']} turns, {row['n_tool_calls'] or 0} tool calls, "
        f"{row['n_chars'] or 0:,} characters",
    }
    if standing["n_tokens"] is not None:
        told["size"] += f", {standing['n_tokens']:,} tokens"
    if "n_assistant_tokens" in more:
        told["size"] += f", of which {more['n_assistant_tokens']:,} are in the loss"
    if row["reward"] is not None:
        told["reward"] = f"{row['reward']:.6g}"
    if row["success"] is not None:
        told["success"] = "yes" if row["success"] else "no"
    if more.get("base_nll") is not None:
        told["loss"] = f"{more['base_nll']:.4f} nats a token, by the base model"
    place = row["origin_rows"] or row["origin_row"]
    known = {
        "task": row["task_id"],
        "group": row["group_id"],
        "problems": row["problems"],
        "file": row["origin_path"] and f"{row['origin_path']}:{place} ({row['origin_format']})",
    }
    return told | {label: text for label, text in known.items() if text}


def _weight(standing: Mapping[str, Any], more: Mapping[str, Any], n_learned: int) -> str:
    """The weight and where it stands among the learned ones."""
    weight, percentile = standing["weight"], standing["percentile"]
    if weight is None:
        return f"none, as the row is of split {standing['split']}"
    if percentile is None:
        return f"{weight:.4g}, as all real training rows have"
    text = (
        f"{weight:.4g}, percentile {percentile_text(percentile)} of {n_learned:,} learned weights"
    )
    if "weight_low" in more:
        text += f"; by the heads of the ensemble {more['weight_low']:.4g} to "
        text += f"{more['weight_high']:.4g}"
    return text


def percentile_text(percentile: float) -> str:
    """A percentile; none reaches 100, as no row is heavier than all."""
    return f"{min(percentile, 99.9):.1f}"


def turn_starts(lines: list[Line]) -> list[int]:
    """The numbers of the lines with which turns begin, from 0 on."""
    return [number for number, line in enumerate(lines) if line.look == "turn"]


def wrapped(text: str, width: int) -> Iterator[str]:
    r"""The lines of a text, broken between words where they can be.

    No character is lost but the space at which a line was broken.

    Example:
        >>> list(wrapped("a long  line\n\tand a tab", 8))
        ['a long ', 'line', '    and', 'a tab']
    """
    width = max(width, 2)  # a character may take two columns
    for raw in text.split("\n"):
        yield from _broken(visible(raw.removesuffix("\r").expandtabs(_TAB)), width)


def _broken(line: str, width: int) -> Iterator[str]:
    """A line in pieces of at most so many columns."""
    at = 0
    while True:
        window = line[at : at + width + 1]
        n_fit = min(width, len(window))
        if not window.isascii():  # some characters take two columns, some none
            n_fit = _n_fitting(window, width)
        if at + n_fit >= len(line):
            yield window
            return
        # the last space that is not beyond the edge, if anything but spaces stands before it
        space = n_fit if line[at + n_fit] == " " else window.rfind(" ", 0, n_fit)
        if window[: space + 1].strip():
            yield window[:space]
            at += space + 1
        else:
            yield window[:n_fit]
            at += n_fit


def _n_fitting(window: str, width: int) -> int:
    """How many characters of a text fit into so many columns, at least one."""
    n_fit = room = 0
    for character in window:
        room += cell_len(character)
        if room > width:
            break
        n_fit += 1
    while cell_len(window[:n_fit]) > width:  # some are wider together than each by itself
        n_fit -= 1
    return max(n_fit, 1)


def _fact(label: str, text: str, width: int) -> Iterator[Line]:
    """A label with what it says beside it."""
    shown = wrapped(inert(text, limit=_FACT), max(width - _LABEL, 2))
    for number, line in enumerate(shown):
        yield Line(f"{label if not number else '':{_LABEL}}{line}"[:width], "label")


def _turn(
    number: int, message: dict[str, Any], names: Mapping[str, str], left: int, width: int
) -> tuple[list[Line], int]:
    """A turn under its heading, and how many characters may still be shown; below zero what lacks.

    Only assistant turns count in the loss, but for those the row itself takes out.
    """
    role = message["role"]
    is_trained = role == "assistant" and not message.get("untrained", False)
    heading = f"{number} {role}"
    if role == "assistant":
        heading += " - in the loss" if is_trained else " - context only, not in the loss"
    if role == "tool" and message.get("tool_call_id") in names:
        heading += f" - result of {names[message['tool_call_id']]}"
    lines = [Line(text, "turn", is_trained) for text in wrapped(inert(heading, limit=_FACT), width)]
    said: list[tuple[Look, str, str]] = [
        ("reasoning", "reasoning:\n", message.get("reasoning", "")),
        ("plain", "", message["content"]),
    ]
    said += [
        ("call", f"calls {inert(call['name'])}\n", arguments_text(call))
        for call in message.get("tool_calls", ())
    ]
    gutter = "| " if is_trained else "  "
    for look, label, text in said:
        is_silent = not text and look != "call"
        if is_silent:
            continue
        shown = text[: max(left, 0)]
        left -= len(text)
        if label and (shown or look == "call"):
            shown = label + shown
        if shown:
            pieces = wrapped(shown, width - len(gutter))
            lines += [Line(gutter + piece, look, is_trained) for piece in pieces]
    return lines, left


def _tool_name(tool: Any) -> str:
    """The name of a tool, in whichever form it is defined."""
    inner = tool.get("function", tool) if isinstance(tool, dict) else {}
    return str(inner.get("name", "?")) if isinstance(inner, dict) else "?"


def _rest(extra_json: str | None) -> str:
    """What else the row holds, without what stands elsewhere; empty where there is nothing."""
    extra = decode(extra_json) if extra_json else {}
    if isinstance(extra, dict):
        extra = {key: value for key, value in extra.items() if value is not None}
    return encode(extra) if extra else ""
