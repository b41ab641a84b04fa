"""A small base model for the benchmark: a Llama that has read games, and has not learned to play.

It is trained from scratch on transcripts, once, and kept in the cache; so a grid with many seeds
runs on two CPU cores, and nothing is fetched.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from dataclasses import asdict, dataclass
from random import Random
from typing import TYPE_CHECKING, Final

import orjson
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from trajweight.bench.policies import expert, play
from trajweight.bench.transcripts import transcripts
from trajweight.cache import cache_root, fault_of, publish
from trajweight.chat_format import render
from trajweight.quiet import quiet_libraries
from trajweight.tiny import learn_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from trajweight.bench.environment import Environment
    from trajweight.progress import Progress

#: Goes up when what is done with a recipe changes, so that older models are made again.
_METHOD: Final = 1
#: What decides the numbers, where it is installed.
_PACKAGES: Final = (
    *("torch", "transformers", "tokenizers"),
    *("textworld-express", "minigrid", "textarena"),
)
#: Games of each environment that its fingerprint looks at.
_PROBES: Final = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the model is made.

    Attributes:
        layers: Decoder layers.
        width: Of the hidden states.
        heads: Attention heads; half as many for keys and values.
        vocabulary: Most tokens.
        episodes: Games read of each environment.
        most_turns: Longest game that is no lesson, in actions.
        max_tokens: Longest text; the rest of a longer one is not read.
        epochs: Times that the games are read.
        batch_tokens: Tokens of one step, about.
        learning_rate: Of AdamW, at its highest.
        seed: Of games and weights.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    vocabulary: int = 1536
    episodes: int = 400
    most_turns: int = 8
    max_tokens: int = 1024
    epochs: int = 3
    batch_tokens: int = 1024
    learning_rate: float = 3e-3
    seed: int = 0


def small_model(environments: Sequence[Environment], recipe: Recipe, progress: Progress) -> Path:
    """The folder of a model that has read games of these environments; trained first where needed.

    Args:
        environments: Whose games it reads.
        recipe: How it is made.
        progress: Told of every game and step.

    Raises:
        TrajweightError: If the cache cannot be written.
    """
    facts = {
        "method": _METHOD,
        "recipe": asdict(recipe),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "environments": {each.name: _print_of(each) for each in environments},
    }
    key = hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()
    folder = cache_root() / "models" / f"small-{key[:12]}"
    fault = fault_of(folder, facts)
    if not fault:
        return folder
    if folder.exists():
        progress.warn(f"the small model in {folder} is damaged ({fault}); training it again")

    def build(target: Path) -> None:
        model, tokenizer = _trained(environments, recipe, progress)
        with quiet_libraries():
            model.save_pretrained(target)
            tokenizer.save_pretrained(target)

    progress.say("training the small base model, once (some minutes)")
    publish(folder, build, facts=facts, progress=progress)
    return folder


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _print_of(environment: Environment) -> str:
    """A hash of what experts see and say in a few games, which changes when the games do."""
    policy, tasks = expert(), environment.tasks("train")[:_PROBES]
    games = [play(environment, task, policy, Random(0)).messages for task in tasks]
    return hashlib.sha256(orjson.dumps(games)).hexdigest()[:16]


# --- training ------------------------------------------------------------------------------------


def _trained(
    environments: Sequence[Environment], recipe: Recipe, progress: Progress
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    chats = []
    progress.start("playing games to read", recipe.episodes * len(environments))
    for environment in environments:
        for episode in transcripts(
            environment, recipe.episodes, seed=recipe.seed, most_turns=recipe.most_turns
        ):
            chats.append(episode.messages)
            progress.advance()
    progress.finish()
    words = [message["content"] for chat in chats for message in chat]
    tokenizer = learn_tokenizer(words, vocabulary=recipe.vocabulary)
    rows = [
        torch.tensor(tokenizer.encode(render(tokenizer, chat, extra={}))[: recipe.max_tokens])
        for chat in chats
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = LlamaForCausalLM(_config(recipe, tokenizer))
    _read(model, rows, recipe, progress)
    return model.train(mode=False), tokenizer


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=3 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=max(1, recipe.heads // 2),
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _read(
    model: LlamaForCausalLM, rows: Sequence[Tensor], recipe: Recipe, progress: Progress
) -> None:
    """Next-token training on all tokens, with AdamW and a rate that rises and falls."""
    rng = Random(recipe.seed)
    batches = [batch for _ in range(recipe.epochs) for batch in _batches(rows, recipe, rng)]
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}],
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
    )
    model.train()
    progress.start("reading games", len(batches))
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _rate(step, len(batches))
        ids = nn.utils.rnn.pad_sequence(list(batch), batch_first=True, padding_value=-100)  # (b, t)
        logits = model(input_ids=ids[:, :-1].clamp(min=0), use_cache=False).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress.advance(loss=float(loss.detach()))
    progress.finish()


def _batches(rows: Sequence[Tensor], recipe: Recipe, rng: Random) -> Iterator[list[Tensor]]:
    """All rows once, those of like length together, in a random order of batches."""
    order = sorted(rows, key=lambda row: len(row) * (1 + 0.1 * rng.random()))
    batches: list[list[Tensor]] = [[]]
    for row in order:
        if batches[-1] and len(row) * (len(batches[-1]) + 1) > recipe.batch_tokens:
            batches.append([])
        batches[-1].append(row)
    rng.shuffle(batches)
    yield from batches


def _rate(step: int, steps: int) -> float:
    """Up over the first twentieth, then a half cosine down to a twentieth."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2
