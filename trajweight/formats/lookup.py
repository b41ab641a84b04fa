"""Values inside values, named by dotted paths such as ``reward_info.reward``."""

from __future__ import annotations

from typing import Any


def look_up(value: Any, path: str) -> Any:
    """The value at a dotted path, or None where there is none.

    A key that holds the dots itself comes first; a whole number counts into a list, from 0.

    Example:
        >>> look_up({"info": {"scores": [3, 4]}}, "info.scores.1")
        4
        >>> look_up({"a.b": 1}, "a.b")
        1
    """
    if isinstance(value, dict):
        if path in value:
            return value[path]
        key, _, rest = path.partition(".")
        return look_up(value[key], rest) if rest and key in value else None
    if isinstance(value, list):
        key, _, rest = path.partition(".")
        if not key.isascii() or not key.isdigit() or int(key) >= len(value):
            return None
        return look_up(value[int(key)], rest) if rest else value[int(key)]
    return None
