from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from trajweight.analysis.facts import Facts, plain


@dataclass(frozen=True, slots=True)
class Inner(Facts):
    value: float


@dataclass(frozen=True, slots=True)
class Outer(Facts):
    name: str
    parts: tuple[Inner, ...]
    curve: np.ndarray
    by_name: dict[str, Inner]
    nothing: None


def test_a_result_inside_a_result_becomes_plain_json() -> None:
    found = Outer("a", (Inner(1.0), Inner(float("nan"))), np.array([1, 2]), {"x": Inner(2.0)}, None)

    assert found.as_dict() == {
        "name": "a",
        "parts": [{"value": 1.0}, {"value": None}],
        "curve": [1, 2],
        "by_name": {"x": {"value": 2.0}},
        "nothing": None,
    }


def test_numbers_of_numpy_become_those_of_python_and_infinity_null() -> None:
    found = plain([np.float32(0.5), np.int64(3), np.bool_(True), np.inf, float("-inf")])

    assert found == [0.5, 3, True, None, None]
    assert json.dumps(found, allow_nan=False) == "[0.5, 3, true, null, null]"
