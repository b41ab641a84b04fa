"""The share of the training mass that real rows should have: the trainings that were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    Known = Mapping[str, Any]


#: What a row of the table shows, and how.
_COLUMNS: Final = {"loss": ".4f", "gain": "+.4f", "gain_se": ".4f"}


def share_table(found: Known) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The heads and the rows of a table, a row a training.

    Args:
        found: What `trajweight.real_share.Choice` told; empty where no share was asked for.
    """
    heads: tuple[str, ...] = (
        "real rows' share",
        f"{found.get('judged_by', 'dev')} loss",
        "gain",
        "SE",
    )
    rows: list[tuple[str, ...]] = [
        (
            _named(row["share"], found),
            *(_number(row[key], form) for key, form in _COLUMNS.items()),
        )
        for row in found.get("tried", ())
    ]
    return heads, rows


def _number(value: float | None, form: str) -> str:
    """A training that left the finite numbers has none."""
    return "-" if value is None else f"{value:{form}}"


def _named(share: float, found: Known) -> str:
    if share == 1:
        return "real rows alone"
    marks = ["as they are"] * (share == found["before"]) + ["taken"] * (share == found["share"])
    return f"{share:.0%}" + (f" ({', '.join(marks)})" if marks else "")


def share_sentence(found: Known) -> str:
    """What the trainings say of it; nothing where none were made."""
    if not found:
        return ""
    before, share, judges = found["before"], found["share"], found["judged_by"]
    of = {row["share"]: row for row in found["tried"]}
    if share == before:
        said = (
            f"No other share of the training mass did better on {judges}, by more than a standard "
            f"error, than the {before:.0%} that real rows have as they are (loss "
            f"{of[before]['loss']:.4f})."
        )
    else:
        said = (
            f"Real rows do best with {share:.0%} of the training mass instead of {before:.0%}: "
            f"{judges} loss {of[share]['loss']:.4f} instead of {of[before]['loss']:.4f} (gain "
            f"{of[share]['gain']:+.4f}, standard error {of[share]['gain_se']:.4f}), so each "
            f"carries weight {found['weight']:.2f}."
        )
    if not found["is_better_alone"]:
        return said
    return (
        f"{said} Real rows alone did better than at any share ({of[1.0]['loss']:.4f}): these "
        f"synthetic rows do not help a training of {found['steps']} steps."
    )
