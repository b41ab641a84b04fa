"""The keys of the browser, each written once: what it does, what is told of it, where it works."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding


def _key(key: str, action: str, told: str, *, bottom: str = "", sign: str = "") -> Binding:
    """A key.

    Args:
        key: As textual calls it.
        action: What it does.
        told: What the window of all keys tells of it.
        bottom: What the bottom line calls it; where empty the key does not stand there.
        sign: How the key is written, where not by its name.
    """
    return Binding(
        key, action, bottom or told, show=bool(bottom), key_display=sign or None, tooltip=told
    )


#: The bottom line has room for 80 columns of those that work at a time.
KEYS: Final = (
    _key("escape", "leave", "Back to the list; leave a line or a search", bottom="Back"),
    _key("enter", "read", "Read the row at the cursor", bottom="Read"),
    _key("n", "step(1)", "Next row, while reading", bottom="Next"),
    _key("p", "step(-1)", "Previous row, while reading", bottom="Previous"),
    _key("j", "to_turn(1)", "Next turn, while reading", bottom="Next turn"),
    _key("k", "to_turn(-1)", "Previous turn, while reading"),
    _key("slash", "ask_filter", "Filter by words in id or source", bottom="Filter", sign="/"),
    _key("f", "pick", "Pick origins, splits and sources to show", bottom="Pick"),
    _key("c", "ask_search", "Search in the content of all turns", bottom="Search"),
    _key("u", "show_all", "Show all rows again"),
    _key("s", "sort", "Sort by a column", bottom="Sort"),
    _key("r", "reverse", "Reverse the order"),
    _key("h", "to_extreme(True)", "Heaviest of the rows shown"),
    _key("l", "to_extreme(False)", "Lightest of the rows shown"),
    _key("x", "to_random", "Random one of the rows shown"),
    _key("space", "mark", "Mark the row, or take its mark away", bottom="Mark"),
    _key("o", "ask_note", "Mark the row with a note"),
    _key("m", "only_marked", "Only marked rows, or the others too"),
    _key("w", "write", "Write the marked rows to their file", bottom="Write marks"),
    _key("t", "theme", "Colours: the terminal's own, dark, light"),
    _key("question_mark", "help", "This window", bottom="Keys", sign="?"),
    _key("q", "quit", "Quit; so does ctrl+c", bottom="Quit"),
)
#: Elsewhere this one ends a program at any time, so it does here: while something is typed, too.
ALWAYS: Final = Binding("ctrl+c", "end", "Quit", show=False, priority=True)
OURS: Final = frozenset(key.action.partition("(")[0] for key in KEYS)
IN_LIST: Final = frozenset(
    {"read", "ask_filter", "ask_search", "pick", "show_all", "only_marked", "sort", "reverse"}
)
IN_READER: Final = frozenset({"step", "to_turn"})


def keys_told() -> str:
    """What every key does, a line each."""
    keys = [f"{key.key_display or key.key:>6}  {key.tooltip}" for key in KEYS]
    return "\n".join(
        [
            "Escape leaves this window. Arrows, page up and down, home and end move or scroll.",
            *keys,
            "A click on a heading sorts by it, two clicks on a row read it.",
        ]
    )
