"""A head with everything needed to apply it: its inputs' map, the real adapter, the model's cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from trajweight.config import ModelConfig
from trajweight.errors import RunError
from trajweight.features import FeatureMap
from trajweight.reweighting import HeadEnsemble, HeadShape, ReweightingHead, restored_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajweight.config import HeadName


@dataclass(frozen=True)
class HeadInputs:
    """What a head reads of each row, and how to make it of rows it has not seen.

    Attributes:
        kind: Which head.
        mapped: Makes features; also kept for table and group, whose heads do not read them.
        groups: Source of each entry of a group head, in order.
    """

    kind: HeadName
    mapped: FeatureMap
    groups: tuple[str, ...]

    def of(self, features: Tensor, sources: Sequence[str], learned: Sequence[int]) -> Tensor:
        """Inputs of all rows: (n, f) features, or (n,) entries of a table.

        Args:
            features: Of all rows. Shape (n, f).
            sources: Of all rows.
            learned: Rows that a table has an entry for, in its order.
        """
        if self.kind in ("mlp", "linear"):
            return features
        if self.kind == "group":
            place = {source: entry for entry, source in enumerate(self.groups)}
            return torch.tensor([place.get(source, -1) for source in sources])
        entries = torch.full((len(sources),), -1)
        entries[list(learned)] = torch.arange(len(learned))
        return entries

    def shape(self, inputs: Tensor, *, hidden: int, w_min: float) -> HeadShape:
        """The shape of a head that reads these inputs."""
        if self.kind in ("mlp", "linear"):
            width = inputs.shape[1]
        else:
            width = len(self.groups) if self.kind == "group" else int(inputs.max()) + 1
        return HeadShape(self.kind, width, hidden=hidden, w_min=w_min)


@dataclass(frozen=True)
class TrainedHead:
    """What `score --run` needs of a training.

    Attributes:
        heads: The head, or several.
        inputs: How its inputs are made.
        real_adapters: Adapters of the likelihood under real data, each once; empty where there was
            none.
        adapter_of: Which of them makes the inputs of each head.
        adapter: The model's cut and the adapter's size.
        seed: Of the adapter.
    """

    heads: HeadEnsemble
    inputs: HeadInputs
    real_adapters: list[list[Tensor]]
    adapter_of: list[int]
    adapter: ModelConfig
    seed: int

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and settings, for safetensors and JSON."""
        heads = [head for head in self.heads.heads if isinstance(head, ReweightingHead)]
        tensors = {
            f"head.{place}.{name}": value
            for place, head in enumerate(heads)
            for name, value in head.state_dict().items()
        }
        mapped = self.inputs.mapped
        tensors |= {"map.centre": mapped.centre, "map.components": mapped.components}
        tensors |= {
            f"adapter.{place}.{i:04d}": value
            for place, adapter in enumerate(self.real_adapters)
            for i, value in enumerate(adapter)
        }
        described = {
            "shape": asdict(heads[0].shape),
            "heads": len(heads),
            "features": mapped.names,
            "groups": list(self.inputs.groups),
            "adapter": asdict(self.adapter),
            "adapter_of": self.adapter_of,
            "seed": self.seed,
        }
        return tensors, described

    @classmethod
    def unpack(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> TrainedHead:
        """The reverse of `pack`.

        Raises:
            RunError: If the head has a score for each row it was trained on and for no other, or
                is of a version that described heads otherwise, or made other features.
        """
        needed = {"shape", "heads", "features", "groups", "adapter", "adapter_of"}
        missing = sorted(needed - set(config))
        if missing:
            message = f"the head's config lacks {', '.join(missing)}: an older trajweight wrote it"
            raise RunError(message, hint="Train a new head with this version.")
        shape = HeadShape(**config["shape"])
        if shape.kind == "table":
            message = "a table head knows only the rows it was trained on"
            raise RunError(message, hint="Train with --head mlp to score new rows.")
        mapped = FeatureMap(tensors["map.centre"], tensors["map.components"])
        if shape.kind in ("mlp", "linear") and (reads := config["features"]) != mapped.names:
            others = ", ".join(sorted(set(reads) - set(mapped.names))) or "another order of them"
            message = f"the head reads features that this trajweight does not make: {others}"
            raise RunError(message, hint="Train a new head with this version.")
        return cls(
            heads=HeadEnsemble(
                [
                    restored_head(shape, _below(f"head.{place}.", tensors))
                    for place in range(config["heads"])
                ]
            ),
            inputs=HeadInputs(shape.kind, mapped, tuple(config["groups"])),
            real_adapters=[
                [value for _, value in sorted(_below(f"adapter.{place}.", tensors).items())]
                for place in range(max(config["adapter_of"]) + 1)
            ],
            adapter_of=list(config["adapter_of"]),
            adapter=ModelConfig(**config["adapter"]),
            seed=config["seed"],
        )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of the name."""
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def lasting_cut(config: ModelConfig, *, layers: int, depth: int) -> ModelConfig:
    """The model's settings with the cut written out, so that they hold on any machine.

    Args:
        config: As given.
        layers: Of the model.
        depth: Of the trunk; 0 for none.
    """
    return replace(config, adapter_layers=layers - depth if depth else 0)
