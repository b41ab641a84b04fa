"""A causal language model cut in two: a frozen trunk that runs once, and an adapted top.

The trunk is the first ``depth`` decoder layers; their outputs are cached for every trajectory.
The top is the remaining layers with a LoRA adapter, fed from the cache. With ``depth`` 0 there
is no trunk and the top is the whole model, fed from token ids: the same code, at full depth.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft import PeftModel
    from transformers import PreTrainedModel

#: The adapter of the inner level; others are named after their use.
ADAPTER: Final = "default"


class PassThrough(nn.Module):
    """Stands where a trunk layer stood and returns the cached activations, if there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.cached: Tensor | None = None

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """The cache in place of whatever came in."""
        return hidden_states if self.cached is None else self.cached


class Backbone:
    """The two halves of one model, and its output layer.

    Args:
        model: A causal language model of transformers; its parameters are frozen.
        depth: Layers of the trunk, from 0 to all.

    Raises:
        ConfigError: If the model's decoder has no list of layers, or fewer than ``depth``.
    """

    def __init__(self, model: PreTrainedModel, *, depth: int) -> None:
        """Freeze the model and find its layers."""
        self.model = model
        self.decoder = model.get_decoder()
        layers = _layers(model)
        if not 0 <= depth <= len(layers):
            message = f"a trunk of {depth} layers does not fit a model of {len(layers)}"
            raise ConfigError(message)
        self.layers = layers
        self.depth = depth
        self.adapted: PeftModel | None = None
        self.in_use = ""
        self.recomputes = False
        self._stub = PassThrough()
        model.requires_grad_(False)
        model.eval()

    @staticmethod
    def count_layers(model: PreTrainedModel) -> int:
        """How many decoder layers a model has."""
        return len(_layers(model))

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.model.device

    def add_adapter(
        self, *, rank: int, alpha: float, seed: int, name: str = ADAPTER
    ) -> list[nn.Linear]:
        """Put a LoRA adapter on every linear of the top; its values depend on ``seed`` alone.

        Further adapters share the base; the last one added is the one in use.

        Returns:
            The adapter's linears, in fp32 and trainable.
        """
        with torch.random.fork_rng(), warnings.catch_warnings():
            # peft asks transformers by a name that transformers is about to drop.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            torch.manual_seed(seed)
            if self.adapted is None:
                settings = LoraConfig(
                    r=rank,
                    lora_alpha=int(alpha),
                    target_modules=self._top_linears(),
                    task_type="CAUSAL_LM",
                )
                self.adapted = get_peft_model(
                    self.model, settings, adapter_name=name, autocast_adapter_dtype=True
                )
            else:
                first = self.adapted.peft_config[ADAPTER]
                self.adapted.add_adapter(name, first, autocast_adapter_dtype=True)
        self.adapted.eval()
        self._mark_layers()
        self.in_use = ""
        self.use(name)
        return self.linears_of(name)

    def compute_again_in_backward(self) -> None:
        """Keep only what enters a layer, and compute its inside again when the gradient is taken.

        The model's own gradient checkpointing. It wants layers in training mode; what is inside
        them stays in evaluation mode, and nothing is dropped in the layers themselves either.

        Raises:
            ConfigError: If the model has none.
        """
        model: Any = self.model
        # transformers renames it; both take the settings of torch.utils.checkpoint first.
        enable = getattr(model, "activation_checkpointing_enable", None)
        try:
            (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        except ValueError as error:
            message = f"{type(model).__name__} has no gradient checkpointing"
            raise ConfigError(message, hint="Set gradient_checkpointing = false.") from error
        self.recomputes = True
        self._mark_layers()

    def _mark_layers(self) -> None:
        """Put the layers themselves, but nothing in them, in training mode if that is asked for."""
        for layer in self.layers if self.recomputes else ():
            layer.training = True
            for name, value in list(vars(layer).items()):
                if "dropout" in name and isinstance(value, float):
                    setattr(layer, name, 0.0)

    def use(self, name: str) -> None:
        """Pass through this adapter from now on, and train it alone."""
        if name != self.in_use and self.adapted is not None:
            self.adapted.set_adapter(name)
            self.in_use = name

    def linears_of(self, name: str) -> list[nn.Linear]:
        """The linears that hold an adapter's tensors."""
        return [
            module
            for path, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and path.endswith((f"lora_A.{name}", f"lora_B.{name}"))
        ]

    def _top_linears(self) -> list[str]:
        return [
            name
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear) and self._is_top(name)
        ]

    def _is_top(self, name: str) -> bool:
        parts = name.split(".")
        if "layers" not in parts:
            return False
        return int(parts[parts.index("layers") + 1]) >= self.depth

    @contextmanager
    def top_only(self, cached: Tensor) -> Iterator[None]:
        """Replace the trunk's layers by cached activations (b, t, d) while the block runs."""
        kept = list(self.layers[: self.depth])
        try:
            self._stub.cached = cached
            for index in range(self.depth):
                self.layers[index] = self._stub
            yield
        finally:
            self._stub.cached = None
            for index, layer in enumerate(kept):
                self.layers[index] = layer

    @contextmanager
    def watch_trunk(self) -> Iterator[list[Tensor]]:
        """Note what the trunk hands to the top in the passes of this block: (b, t, d) each."""
        seen: list[Tensor] = []
        if self.depth == 0:
            yield seen
            return
        last = self.layers[self.depth - 1]
        handle = last.register_forward_hook(lambda _, __, output: seen.append(_states(output)))
        try:
            yield seen
        finally:
            handle.remove()

    def hidden(
        self,
        input_ids: Tensor,
        attention: Tensor,
        *,
        positions: Tensor | None = None,
        cached: Tensor | None = None,
    ) -> Tensor:
        """Last hidden states (b, t, d), from the cache (b, t, d) or from the ids (b, t).

        ``attention`` is (b, t) with 0 at padding, or (b, 1, t, t) to be added to the scores.
        """
        if cached is None:
            return self._run(input_ids, attention, positions)
        with self.top_only(cached.to(self.device)):
            return self._run(input_ids, attention, positions)

    def _run(self, input_ids: Tensor, attention: Tensor, positions: Tensor | None) -> Tensor:
        if attention.is_floating_point():
            attention = attention.to(self.model.dtype)
        output: Tensor = self.decoder(
            input_ids=input_ids,
            attention_mask=attention,
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        return output


def _states(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Hidden states of a decoder layer, which some models return first of several."""
    return output if isinstance(output, Tensor) else output[0]


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers of a model.

    Raises:
        ConfigError: If it has no list of them.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        message = f"{type(model).__name__} has no list of decoder layers to put adapters in"
        raise ConfigError(message, hint="Choose a decoder-only model of transformers.")
    return layers
