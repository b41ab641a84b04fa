"""The most memory that a stretch of work held."""

from __future__ import annotations

import numpy as np
import torch

from trajweight.bench.peak import peak_of

CPU = torch.device("cpu")
MEGABYTE = 2**20


def test_what_was_held_and_given_back_still_counts() -> None:
    with peak_of(CPU) as idle:
        pass
    with peak_of(CPU) as busy:
        held = np.ones(200 * MEGABYTE, dtype=np.uint8)
        del held

    assert idle.bytes is not None
    assert busy.bytes is not None
    assert 190 * MEGABYTE < busy.bytes - idle.bytes < 400 * MEGABYTE


def test_a_block_does_not_pay_for_the_one_before() -> None:
    with peak_of(CPU) as first:
        held = np.ones(200 * MEGABYTE, dtype=np.uint8)
        del held
    with peak_of(CPU) as second:
        pass

    assert first.bytes is not None
    assert second.bytes is not None
    assert second.bytes < first.bytes - 150 * MEGABYTE
