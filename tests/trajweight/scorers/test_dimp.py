from __future__ import annotations

import numpy as np

from tests.trajweight.scorers.grounds import scored, shared_ground
from tests.trajweight.scorers.plain_model import reply_loss
from trajweight.estimators.pullback import held_at
from trajweight.tiny import build_tiny


def test_the_ratio_is_that_of_plain_likelihoods_after_and_before_training_on_real_rows() -> None:
    ground = shared_ground()
    adapted, (base, _) = ground.student.backbone.model, build_tiny()
    rows = [ground.material.encoded[row] for row in ground.material.synthetic]

    found = scored("dimp")

    weights = [linear.weight for linear in ground.student.linears]
    with held_at(weights, ground.begin().real_adapter):
        expected = [
            reply_loss(base, row.input_ids, row.assistant_mask)
            - reply_loss(adapted, row.input_ids, row.assistant_mask)
            for row in rows
        ]
    np.testing.assert_allclose(found.scores, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        found.weights / found.weights.max(), np.exp(expected - np.max(expected)), rtol=1e-3
    )
