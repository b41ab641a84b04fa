"""Tables of spaces for the terminal: nothing to draw that a pipe or an old font may lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from trajweight.analysis.excerpts import inert

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import JustifyMethod

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
#: For a terminal or pipe whose encoding has no blocks.
_ASCII: Final = " .:-=+*%#"


def new_table(*columns: tuple[str, JustifyMethod]) -> Table:
    """A table with these headings and how each column stands."""
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for title, justify in columns:
        made.add_column(Text(title), justify=justify, no_wrap=True, overflow="ellipsis")
    return made


def bars(counts: Iterable[float], *, ascii_only: bool) -> str:
    """A bar a bin, the fullest bin at full height; a bin that is not empty always shows."""
    ramp = _ASCII if ascii_only else _BLOCKS
    counts = list(counts)
    most = max(counts, default=0) or 1
    # -(-a // b) rounds up
    return "".join(ramp[int(-(-count * (len(ramp) - 1) // most))] for count in counts)


def clipped(text: str, width: int) -> Text:
    """A name of at most ``width`` columns, cut in the middle: names often differ at the end."""
    shown = inert(text)
    if cell_len(shown) <= width:
        return Text(shown)
    head, tail = (width - 3) // 2, width - 3 - (width - 3) // 2
    ending = shown[-tail:]
    while cell_len(ending) > tail:  # wide characters take two columns
        ending = ending[1:]
    return Text(f"{set_cell_size(shown, head)}...{ending}")


def pairs(lines: Sequence[tuple[str, str]], *, style: str = "") -> Table:
    """Labels at the left, sentences beside them that wrap inside their own column."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column()
    for label, text in lines:
        grid.add_row(Text(label, style=style), Text(inert(text)))
    return grid
