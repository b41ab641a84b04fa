from __future__ import annotations

import pytest
import torch

from trajweight.errors import RunError
from trajweight.features import FeatureMap
from trajweight.trained_head import TrainedHead

MAPPED = FeatureMap(torch.zeros(4), torch.zeros(2, 4))


def test_a_head_that_an_older_version_described_otherwise_is_refused_in_words() -> None:
    old = {"shape": {"inputs": 4, "hidden": 8}, "features": [], "adapter": {}, "seed": 0}

    with pytest.raises(RunError, match="lacks adapter_of, groups, heads"):
        TrainedHead.unpack({}, old)


def test_a_table_head_is_refused_for_new_rows() -> None:
    config = {
        "shape": {"kind": "table", "inputs": 4},
        "heads": 1,
        "features": [],
        "groups": [],
        "adapter": {},
        "adapter_of": [0],
    }

    with pytest.raises(RunError, match="knows only the rows it was trained on"):
        TrainedHead.unpack({}, config)


@pytest.mark.parametrize(
    ("reads", "told"),
    [
        ([*MAPPED.names[:-1], "real_nll_later"], "does not make: real_nll_later\n"),
        (MAPPED.names[::-1], "another order"),
    ],
)
def test_a_head_that_reads_other_features_is_refused_by_their_names(reads, told) -> None:
    config = {
        "shape": {"kind": "mlp", "inputs": len(MAPPED.names)},
        "heads": 1,
        "features": reads,
        "groups": [],
        "adapter": {},
        "adapter_of": [0],
    }

    with pytest.raises(RunError, match=told):
        TrainedHead.unpack(
            {"map.centre": MAPPED.centre, "map.components": MAPPED.components}, config
        )
