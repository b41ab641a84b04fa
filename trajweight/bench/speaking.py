"""A language model that answers many chats side by side, and remembers what it has read of each.

The chats of a batch lie left-padded without holes, at their own positions, so that a chat's answer
does not hang on the chats beside it. Keys and values of what was read are kept from turn to turn,
as far as the new tokens begin with the old ones; whatever differs is read again.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedModel

    #: From logits (k, v) of the rows named, one token for each.
    Choose: TypeAlias = Callable[[Tensor, Sequence[int]], list[int]]

#: Continuations that are scored in one pass.
_ROWS: Final = 64
#: A chat with this many more tokens to read than twice the others' reads them before, apart.
_LATE: Final = 32


@dataclass(frozen=True, slots=True)
class Memory:
    """What the model has read of a chat.

    Attributes:
        ids: The tokens.
        layers: Keys and values of each layer, at least as long. Shapes (heads, t, d).
    """

    ids: tuple[int, ...] = ()
    layers: tuple[tuple[Tensor, Tensor], ...] = ()

    def shared(self, ids: Sequence[int]) -> int:
        """How many tokens from the start on are the same."""
        both = zip(self.ids, ids, strict=False)
        return next((n for n, (a, b) in enumerate(both) if a != b), min(len(self.ids), len(ids)))


@dataclass(slots=True)
class _Rows:
    """Chats side by side, left-padded.

    Attributes:
        ids: All tokens of each row.
        attention: 1 at tokens, 0 at padding. Shape (b, t).
        cache: Keys and values; None where the model's cannot be kept.
        starts: The column where each row begins.
        logits: Of the last columns. Shape (b, columns asked for, v).
    """

    ids: list[list[int]]
    attention: Tensor
    cache: DynamicCache | None
    starts: list[int]
    logits: Tensor


class Speaker:
    """A causal language model at work on chats, as it stands, adapters included.

    Args:
        model: Its parameters are read, never changed.
        n_tokens: Tokens the tokenizer knows; the model may have more logits than that.
        pad_id: Fills the cells before a chat's start.
    """

    def __init__(self, model: PreTrainedModel, *, n_tokens: int, pad_id: int) -> None:
        """Find out whether the model's cache can be cut and put together."""
        self.model, self.n_tokens, self.pad_id = model, n_tokens, pad_id
        # Windows, states and other caches cannot be cut at any token: all is read again then.
        self.remembers = all(type(layer) is DynamicLayer for layer in self._new_cache().layers)
        self._takes_few = "logits_to_keep" in inspect.signature(model.forward).parameters

    def reply(
        self,
        prompts: Sequence[Sequence[int]],
        memories: Sequence[Memory],
        *,
        choose: Choose,
        limits: Sequence[int],
        stops: frozenset[int],
    ) -> tuple[list[list[int]], list[Memory]]:
        """Go on from each prompt, token by token, up to a stop or the row's limit.

        Args:
            prompts: Token ids of each chat.
            memories: What was read of each.
            choose: Picks the next tokens of the rows it is given.
            limits: Most tokens of each reply, at least 1.
            stops: Tokens that end a reply.

        Returns:
            The tokens of each reply, its stop included, and what was read now.
        """
        with _evaluating(self.model):
            rows = self._read(prompts, memories)
            replies: list[list[int]] = [[] for _ in prompts]
            alive = list(range(len(prompts)))
            while True:
                chosen = choose(rows.logits[alive, -1, : self.n_tokens], alive)
                for row, token in zip(alive, chosen, strict=True):
                    replies[row].append(token)
                spoken = dict(zip(alive, chosen, strict=True))
                alive = [
                    row
                    for row in alive
                    if replies[row][-1] not in stops and len(replies[row]) < limits[row]
                ]
                if not alive:
                    return replies, self._remembered(rows)
                self._append(rows, {row: spoken[row] for row in alive})

    def log_likelihoods(
        self,
        prompts: Sequence[Sequence[int]],
        memories: Sequence[Memory],
        continuations: Sequence[Sequence[Sequence[int]]],
    ) -> tuple[list[list[float]], list[Memory]]:
        """Total log-likelihood of each prompt's continuations, which are not empty, in nats.

        The prompt is read once for all of them.

        Returns:
            The numbers, and what was read of the prompts.
        """
        with _evaluating(self.model):
            read = self._remembered(self._read(prompts, memories))
            flat = [
                (place, [*prompts[place], *continuation], len(continuation))
                for place, some in enumerate(continuations)
                for continuation in some
            ]
            found: list[list[float]] = [[] for _ in prompts]
            for begin in range(0, len(flat), _ROWS):
                part = flat[begin : begin + _ROWS]
                longest = max(length for _, _, length in part)
                rows = self._read(
                    [ids for _, ids, _ in part], [read[place] for place, _, _ in part], longest + 1
                )
                said = rows.logits[..., : self.n_tokens].float().log_softmax(-1)
                for row, (place, ids, length) in enumerate(part):
                    tokens = torch.tensor(ids[-length:], device=said.device)
                    each = said[row, -length - 1 : -1].gather(1, tokens[:, None])
                    found[place].append(float(each.double().sum()))
        return found, read

    # --- passes ----------------------------------------------------------------------------------

    def _read(
        self, prompts: Sequence[Sequence[int]], memories: Sequence[Memory], columns: int = 1
    ) -> _Rows:
        """Pass what is not remembered; logits of the last ``columns`` cells come back.

        Every row passes as many tokens as the one that has most to read, so that what is
        remembered and what is new lie side by side without a hole in any row.
        """
        memories = self._caught_up(prompts, memories, columns)
        width = max(map(len, prompts))
        new = max(map(self._to_read, prompts, memories, [columns] * len(prompts)))
        starts = [width - len(ids) for ids in prompts]
        device = self.model.device
        ids = torch.full((len(prompts), width), self.pad_id)
        attention = torch.zeros((len(prompts), width), dtype=torch.int64)
        for row, (start, prompt) in enumerate(zip(starts, prompts, strict=True)):
            ids[row, start:] = torch.tensor(prompt)
            attention[row, start:] = 1
        positions = (torch.arange(width) - torch.tensor(starts)[:, None]).clamp(min=0)
        cache = self._assembled(memories, starts, width - new) if self.remembers else None
        rows = _Rows([list(p) for p in prompts], attention.to(device), cache, starts, ids)
        self._pass(rows, ids[:, -new:], positions[:, -new:], columns)
        return rows

    def _caught_up(
        self, prompts: Sequence[Sequence[int]], memories: Sequence[Memory], columns: int
    ) -> list[Memory]:
        """Let rows that have much more to read than others read it before, without the others."""
        caught_up = list(memories)
        if not self.remembers:
            return caught_up
        missing = list(map(self._to_read, prompts, memories, [columns] * len(prompts)))
        late = [row for row, n in enumerate(missing) if n > 2 * min(missing) + _LATE]
        if late:
            rows = self._read([prompts[row][:-1] for row in late], [memories[row] for row in late])
            for row, memory in zip(late, self._remembered(rows), strict=True):
                caught_up[row] = memory
        return caught_up

    def _to_read(self, ids: Sequence[int], memory: Memory, columns: int) -> int:
        """Tokens that must pass: what is not remembered, and the cells whose logits are asked."""
        return max(len(ids) - memory.shared(ids), min(columns, len(ids)))

    def _append(self, rows: _Rows, tokens: dict[int, int]) -> None:
        """Give some rows one more token each; the others wait."""
        for row, token in tokens.items():
            rows.ids[row].append(token)
        if rows.cache is None:
            again = self._read(rows.ids, [Memory()] * len(rows.ids))
            rows.attention, rows.starts, rows.logits = again.attention, again.starts, again.logits
            return
        ids = torch.full((len(rows.ids), 1), self.pad_id)
        spoke = torch.zeros((len(rows.ids), 1), dtype=torch.int64)
        positions = torch.zeros((len(rows.ids), 1), dtype=torch.int64)
        for row, token in tokens.items():
            ids[row], spoke[row], positions[row] = token, 1, len(rows.ids[row]) - 1
        rows.attention = torch.cat([rows.attention, spoke.to(rows.attention.device)], dim=1)
        self._pass(rows, ids, positions, 1)

    def _pass(self, rows: _Rows, ids: Tensor, positions: Tensor, columns: int) -> None:
        options: dict[str, Any] = {"logits_to_keep": columns} if self._takes_few else {}
        output = self.model(
            input_ids=ids.to(self.model.device),
            attention_mask=rows.attention,
            position_ids=positions.to(self.model.device),
            past_key_values=rows.cache,
            use_cache=rows.cache is not None,
            **options,
        )
        rows.logits = output.logits[:, -columns:]

    # --- memory ----------------------------------------------------------------------------------

    def _new_cache(self) -> DynamicCache:
        return DynamicCache(config=self.model.config)

    def _assembled(
        self, memories: Sequence[Memory], starts: Sequence[int], past: int
    ) -> DynamicCache:
        """A cache of the first ``past`` columns."""
        cache = self._new_cache()
        layers = next((memory.layers for memory in memories if memory.layers), ())
        for number, pair in enumerate(layers if past else ()):
            found = []
            for part, like in enumerate(pair):
                heads, _, width = like.shape
                whole = like.new_zeros((len(memories), heads, past, width))
                for row, (memory, start) in enumerate(zip(memories, starts, strict=True)):
                    if start < past:
                        whole[row, :, start:] = memory.layers[number][part][:, : past - start]
                found.append(whole)
            cache.update(found[0], found[1], number)
        return cache

    def _remembered(self, rows: _Rows) -> list[Memory]:
        """What each row has read; views of the cache, which nobody changes any more."""
        if rows.cache is None:
            return [Memory() for _ in rows.ids]
        layers: list[Any] = rows.cache.layers
        return [
            Memory(
                tuple(ids),
                tuple(
                    (
                        layer.keys[row, :, start : start + len(ids)],
                        layer.values[row, :, start : start + len(ids)],
                    )
                    for layer in layers
                ),
            )
            for row, (ids, start) in enumerate(zip(rows.ids, rows.starts, strict=True))
        ]


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Without gradients and dropout; each module's own mode comes back, for they may differ."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.train(mode=False)
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
