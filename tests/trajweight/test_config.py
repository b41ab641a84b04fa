from __future__ import annotations

import pytest

from trajweight.config import (
    DataConfig,
    EstimatorConfig,
    InnerConfig,
    ReturnsConfig,
    RunConfig,
)
from trajweight.errors import ConfigError


def test_settings_survive_toml() -> None:
    config = RunConfig(
        data=DataConfig(paths=("a.jsonl",), real_share=0.25),
        inner=InnerConfig(batch_size=4),
        estimator=EstimatorConfig(every=3),
        returns=ReturnsConfig(objective="successful", success_threshold=0.5),
        seed=7,
    )

    assert RunConfig.from_toml(config.to_toml()) == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = ", "no TOML"),
        ("colour = 1", "colour is 1: Unexpected"),
        ("[inner]\nbatch = 2", "inner.batch is 2"),
        ("seed = 'x'", "seed is 'x'"),
        ("[model]\nmax_tokens = 'x'", "model.max_tokens is 'x'"),
        ("[inner]\nbatch_size = 0", "batch_size is 0; it must be 2 or more"),
        ("[data]\nreal_share = 1.5", "real_share is 1.5"),
        ("[data]\nreal_share = 'most'", "real_share is 'most'; it must be a share between 0 and 1"),
        ("[data]\nreal_share = '0.5'", "real_share is '0.5'; it must be a share between 0 and 1"),
        ("[data]\nreal_share = nan", "real_share is nan"),
        ("method = 'dsir'\n[data]\nreal_share = 'auto'", "method dsir has none"),
        ("[data]\ndedup = 'all'", "data.dedup is 'all'"),
        ("[data]\nlimit = 0", "limit is 0; it must be more than 0"),
        ("[data]\nmax_row_bytes = 0", "max_row_bytes is 0"),
        ("[model]\nvocabulary = 'some'", "model.vocabulary is 'some'"),
        ("[returns]\nobjective = 'win'", "returns.objective is 'win'"),
        ("[returns]\nprior = 'win'", "returns.prior is 'win'"),
        ("[returns]\nbeta = 0", "beta is 0"),
        ("[returns]\nbeta = nan", "beta is nan"),
        ("[returns]\ncap = 1", "cap is 1.0; it must be a number above 1"),
        ("[returns]\ncap = inf", "cap is inf"),
        ("[returns]\nkeep_fraction = 0", "keep_fraction is 0"),
        ("[returns]\nkeep_fraction = 1.5", "keep_fraction is 1.5"),
        ("[returns]\nsuccess_threshold = nan", "success_threshold is nan"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(text, said) -> None:
    with pytest.raises(ConfigError, match=said):
        RunConfig.from_toml(text)
