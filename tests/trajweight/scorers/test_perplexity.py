from __future__ import annotations

import numpy as np
import pytest

from tests.trajweight.scorers.grounds import scored, shared_ground
from tests.trajweight.scorers.plain_model import reply_loss
from trajweight.tiny import build_tiny


def plain_losses() -> np.ndarray:
    model, _ = build_tiny()
    material = shared_ground().material
    rows = [material.encoded[row] for row in material.synthetic]
    return np.array([reply_loss(model, row.input_ids, row.assistant_mask) for row in rows])


@pytest.mark.parametrize(("name", "sign"), [("base-nll-low", -1.0), ("base-nll-high", 1.0)])
def test_the_score_is_the_loss_of_the_replies_under_the_base_model_alone(name, sign) -> None:
    found = scored(name).scores

    np.testing.assert_allclose(found, sign * plain_losses(), rtol=1e-5)


def test_the_middle_is_counted_in_ranks() -> None:
    found = scored("base-nll-middle").scores

    order = np.argsort(plain_losses())
    n = len(order)
    expected = [-abs(place - (n - 1) / 2) for place in range(n)]
    assert found[order].tolist() == expected
