from __future__ import annotations

import pytest
import torch

from tests.tokens import PAD, bench, exact_tiny, token_rows
from trajweight.backbone import Backbone
from trajweight.errors import ConfigError
from trajweight.features import (
    FeatureMap,
    adapter_tensors,
    forest_obstacle,
    losses_among,
    set_adapter,
)
from trajweight.losses import ReplyLosses
from trajweight.tiny import build_tiny


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_frozen_pass_equals_each_row_alone(depth) -> None:
    rows = token_rows(6)
    made = bench(rows, depth=depth, forest_tokens=40)
    whole = Backbone(exact_tiny(), depth=depth)

    for index, row in enumerate(rows):
        ids = torch.tensor([row.input_ids])
        with torch.no_grad(), whole.watch_trunk() as seen:
            hidden = whole.hidden(ids, torch.ones_like(ids))[0]
        expected = hidden[torch.tensor(row.assistant_mask)].mean(0).float()
        torch.testing.assert_close(made.frozen.embeddings[index], expected, rtol=1e-5, atol=1e-6)
        if made.frozen.cached is not None:
            torch.testing.assert_close(made.frozen.cached[index], seen[0][0], rtol=1e-9, atol=1e-12)


def test_the_tiny_model_takes_forests_and_one_that_breaks_masks_does_not() -> None:
    model, _ = build_tiny()
    backbone = Backbone(model, depth=1)
    (row,) = token_rows(1, shared=60)
    assert forest_obstacle(backbone, row, pad_id=PAD) == ""

    for layer in backbone.layers:
        layer.self_attn.is_causal = True
    attend = type(backbone.layers[0].self_attn).forward

    def blind(self, *args, **kwargs):
        kwargs["attention_mask"] = None
        return attend(self, *args, **kwargs)

    for layer in backbone.layers:
        layer.self_attn.forward = blind.__get__(layer.self_attn)
    assert "differ" in forest_obstacle(backbone, row, pad_id=PAD)


def test_a_model_that_looks_at_a_window_only_takes_no_forests() -> None:
    model, _ = build_tiny()
    model.config.sliding_window = 64
    (row,) = token_rows(1)

    assert "window" in forest_obstacle(Backbone(model, depth=1), row, pad_id=PAD)


def test_a_trunk_deeper_than_the_model_is_refused() -> None:
    model, _ = build_tiny()

    with pytest.raises(ConfigError, match="does not fit a model"):
        Backbone(model, depth=99)


def test_components_are_those_of_scikit_learn_up_to_sign() -> None:
    from sklearn.decomposition import PCA

    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))

    mapped = FeatureMap.fit(rows, components=3)

    expected = torch.from_numpy(PCA(3).fit(rows.double().numpy()).components_).float()
    assert ((mapped.components * expected).sum(1).abs() > 1 - 1e-4).all()


def test_components_do_not_exceed_what_the_rows_span() -> None:
    mapped = FeatureMap.fit(torch.randn(3, 6), components=16)

    assert mapped.components.shape == (2, 6)


def test_every_feature_has_a_name() -> None:
    mapped = FeatureMap.fit(torch.randn(9, 6), components=4)
    losses = ReplyLosses(torch.ones(9), torch.ones(9), torch.ones(9))

    features = mapped.features(
        torch.randn(9, 6),
        n_tokens=torch.full((9,), 7),
        n_turns=torch.full((9,), 3),
        base=losses,
        real=losses,
    )

    assert features.shape == (9, len(mapped.names))


def test_an_adapter_put_back_is_the_same() -> None:
    made = bench(token_rows(3))
    kept = adapter_tensors(made.linears)
    with torch.no_grad():
        made.linears[0].weight.zero_()

    set_adapter(made.linears, kept)

    assert all(torch.equal(a, b) for a, b in zip(adapter_tensors(made.linears), kept, strict=True))


def test_features_hold_what_real_rows_changed_and_tell_both_losses() -> None:
    draw = torch.Generator().manual_seed(0)
    base, real = torch.rand(5, 3, generator=draw), torch.rand(5, 3, generator=draw)
    mapped = FeatureMap.fit(torch.randn(5, 4, generator=draw), components=2)

    features = mapped.features(
        torch.zeros(5, 4),
        n_tokens=torch.ones(5),
        n_turns=torch.ones(5),
        base=ReplyLosses(*base.unbind(1)),
        real=ReplyLosses(*real.unbind(1)),
    )

    assert mapped.names[-3:] == ["ratio", "ratio_first", "ratio_later"]
    assert features.shape == (5, len(mapped.names))
    torch.testing.assert_close(features[:, -3:], real - base)
    torch.testing.assert_close(losses_among(features).float(), torch.cat([base, real], dim=1))
