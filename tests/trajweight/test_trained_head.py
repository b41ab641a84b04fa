from __future__ import annotations

import pytest
import torch

from trajweight.errors import RunError
from trajweight.features import FeatureMap
from trajweight.trained_head import TrainedHead


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


def test_a_head_that_reads_other_features_is_refused_by_their_names() -> None:
    mapped = FeatureMap(torch.zeros(4), torch.zeros(2, 4))
    config = {
        "shape": {"kind": "mlp", "inputs": len(mapped.names)},
        "heads": 1,
        "features": [name.replace("ratio", "real_nll") for name in mapped.names],
        "groups": [],
        "adapter": {},
        "adapter_of": [0],
    }

    with pytest.raises(RunError, match=r"other features .*: ratio, .*real_nll_later"):
        TrainedHead.unpack(
            {"map.centre": mapped.centre, "map.components": mapped.components}, config
        )
