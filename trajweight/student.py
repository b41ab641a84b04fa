"""The model at work on a set of rows: its trunk runs once, its top as often as needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trajweight.backbone import ADAPTER, Backbone
from trajweight.estimators.ghost import trainable_linears
from trajweight.features import (
    FeatureMap,
    Frozen,
    adapter_tensors,
    forest_obstacle,
    frozen_pass,
    set_adapter,
)
from trajweight.losses import OutputLayer, TrajectoryLosses
from trajweight.processes import ALONE, Processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trajweight.config import ModelConfig
    from trajweight.encoded import Encoded
    from trajweight.models import LoadedModel
    from trajweight.progress import Progress

#: Cells of one forest: attention grows with their square, saved prefixes with their number.
FOREST_TOKENS_CPU, FOREST_TOKENS_GPU = 512, 2048
ADAPTER_LAYERS_CPU = 2


class Student:
    """The model at work on a set of rows: its trunk runs once, its top as often as needed."""

    def __init__(
        self,
        loaded: LoadedModel,
        config: ModelConfig,
        encoded: list[Encoded],
        progress: Progress,
        *,
        accumulation: int = 1,
        processes: Processes = ALONE,
    ) -> None:
        """Cut the model where the settings say, and find out whether it takes forests."""
        on_cpu = loaded.device.type == "cpu"
        layers = Backbone.count_layers(loaded.model)
        adapted = config.adapter_layers
        if adapted is None:
            adapted = min(ADAPTER_LAYERS_CPU, layers) if on_cpu else 0
        self.backbone = Backbone(loaded.model, depth=layers - adapted if adapted else 0)
        self.encoded = encoded
        self.accumulation, self.processes = accumulation, processes
        self.pad_id = int(loaded.tokenizer.pad_token_id)
        self.forest_tokens = FOREST_TOKENS_CPU if on_cpu else FOREST_TOKENS_GPU
        longest = max(encoded, key=lambda row: len(row.input_ids))
        if obstacle := forest_obstacle(self.backbone, longest, pad_id=self.pad_id):
            self.forest_tokens = 0
            progress.say(f"prefixes are not shared between rows, since with this model {obstacle}")
        seen = config.vocabulary == "seen" or (config.vocabulary == "auto" and on_cpu)
        self.vocabulary = self._seen_tokens() if seen else None
        if self.vocabulary is not None:
            progress.say(
                f"the training loss chooses between the {len(self.vocabulary)} tokens that occur "
                "in the data; --vocabulary full takes all"
            )

    def freeze(self, progress: Progress) -> Frozen:
        """Run the base model once over every row."""
        OutputLayer(self.backbone).require_faithful(self.backbone, self.encoded[0])
        return frozen_pass(
            self.backbone,
            self.encoded,
            pad_id=self.pad_id,
            forest_tokens=self.forest_tokens,
            progress=progress,
            processes=self.processes,
        )

    def add_adapter(self, config: ModelConfig, frozen: Frozen, *, seed: int) -> None:
        """Put an adapter on the top, and feed the top from the cache from now on."""
        self.config, self.frozen = config, frozen
        self.backbone.add_adapter(rank=config.rank, alpha=config.alpha, seed=seed)
        if config.gradient_checkpointing:
            self.backbone.compute_again_in_backward()
        self.linears = trainable_linears(self.backbone.model)
        self.full_losses = self._losses(ADAPTER, OutputLayer(self.backbone))

    def linears_of(self, adapter: str = ADAPTER) -> list[nn.Linear]:
        """The linears of an adapter; one that is not there yet is added."""
        found = self.backbone.linears_of(adapter)
        if found:
            return found
        config = self.config
        return self.backbone.add_adapter(rank=config.rank, alpha=config.alpha, seed=0, name=adapter)

    def losses_of(
        self, adapter: str = ADAPTER, *, whole_vocabulary: bool = False
    ) -> TrajectoryLosses:
        """Training losses under an adapter."""
        tokens = None if whole_vocabulary else self.vocabulary
        return self._losses(adapter, OutputLayer(self.backbone, tokens=tokens))

    def features(
        self,
        mapped: FeatureMap,
        frozen: Frozen,
        n_turns: Sequence[int],
        real_adapter: Sequence[Tensor],
        progress: Progress,
    ) -> Tensor:
        """Features of every row; without a real adapter the base model stands in for it: (n, f)."""
        real = frozen.losses
        if real_adapter:
            progress.start("features")
            now = adapter_tensors(self.linears)
            set_adapter(self.linears, real_adapter)
            real = self.full_losses.replies(range(len(self.encoded)))
            set_adapter(self.linears, now)
            progress.finish()
        lengths = torch.tensor([len(row.input_ids) for row in self.encoded])
        return mapped.features(
            frozen.embeddings,
            n_tokens=lengths,
            n_turns=torch.tensor(n_turns),
            base=frozen.losses,
            real=real,
        )

    def _losses(self, adapter: str, output: OutputLayer) -> TrajectoryLosses:
        return TrajectoryLosses(
            self.backbone,
            self.encoded,
            self.frozen.cached,
            output=output,
            pad_id=self.pad_id,
            forest_tokens=self.forest_tokens,
            adapter=adapter,
            accumulation=self.accumulation,
            processes=self.processes,
        )

    def _seen_tokens(self) -> Tensor:
        return torch.tensor(sorted({token for row in self.encoded for token in row.input_ids}))
