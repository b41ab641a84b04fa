"""A result that turns into the values JSON knows, so that every surface can read it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Facts:
    """Base of the results: numbers and names, never changed once they are found."""

    def as_dict(self) -> dict[str, Any]:
        """The fields by name; results inside are objects, and what is not finite is null."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


def plain(value: Any) -> Any:
    """A value as JSON holds it: objects, lists, texts, finite numbers, true, false and null.

    Example:
        >>> plain({"curve": np.array([0.5, np.nan]), "n": np.int64(2)})
        {'curve': [0.5, None], 'n': 2}
    """
    if isinstance(value, Facts):
        return value.as_dict()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
