"""Plugin of ms-swift: the token that ends a turn weighs as much as the turn.

ms-swift reads ``loss_scale`` of each assistant message, but gives it to the text of the reply only.
The token that ends the turn keeps weight one, so short replies of a heavy trajectory are pulled
down and those of a light one are pulled up. With this file under ``external_plugins`` of the config
every trained token of a turn weighs the same.

It changes nothing where weights are all one, and nothing but weights: which tokens are trained on
stays as ms-swift decides. Packing, padding-free batches, sequence parallelism and Megatron see the
same per-token column as without it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

IGNORED = -100


def evened(labels: list[int], loss_scale: list[float]) -> list[float]:
    """Scales of one sequence, each turn's end as its text.

    A turn is a run of trained tokens. What ms-swift adds at its end has scale one, and never
    stands at its beginning.

    Args:
        labels: Token ids, -100 where a token is not trained on.
        loss_scale: Weight of each token, of the same length.

    Returns:
        The scales with every trained token of a run at the scale of its first one, if that token
        had scale one.
    """
    scales = list(loss_scale)
    first = 1.0
    for place, label in enumerate(labels):
        if label == IGNORED:
            continue
        if place == 0 or labels[place - 1] == IGNORED:
            first = scales[place]
        elif scales[place] == 1.0:
            scales[place] = first
    return scales


def install() -> None:
    """Let ``Template.encode`` of ms-swift give evened scales, once.

    Raises:
        RuntimeError: If this release of ms-swift has no such method.
    """
    from swift.template import Template

    encode = getattr(Template, "encode", None)
    if encode is None:
        message = (
            "ms_swift_weights.py: swift.template.Template has no method encode; it was written for "
            "ms-swift 4.6. Take the plugin out of external_plugins, and the end of each turn keeps "
            "weight one."
        )
        raise RuntimeError(message)
    if getattr(encode, "evens_weights", False):
        return

    @functools.wraps(encode)
    def with_even_turns(self: Any, *args: Any, **kwargs: Any) -> Any:
        encoded = encode(self, *args, **kwargs)
        for part in encoded if isinstance(encoded, list) else [encoded]:
            if part.get("loss_scale") is not None and part.get("labels") is not None:
                part["loss_scale"] = evened(part["labels"], part["loss_scale"])
        return encoded

    with_even_turns.evens_weights = True  # type: ignore[attr-defined]
    Template.encode = with_even_turns


if "swift" in sys.modules:  # else it is read by something that only wants `evened`
    install()
