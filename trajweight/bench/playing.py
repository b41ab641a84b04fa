"""Roll-outs: a language model plays games of an environment, many side by side."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

import torch
from torch import Tensor

from trajweight.bench.episodes import Episode
from trajweight.bench.speaking import Memory, Speaker
from trajweight.bench.speech import action_of, said
from trajweight.chat_format import ChatFormat, RowRefused, probe, render, say
from trajweight.errors import ConfigError, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from trajweight.bench.environment import Environment, Game
    from trajweight.chat_format import Message

#: Characters of a reply without an action that the game is given in place of one.
_RAW_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Greedy:
    """The likeliest token each time."""

    name: ClassVar[str] = "greedy"


@dataclass(frozen=True, slots=True)
class Sampled:
    """Tokens drawn as likely as the model has them.

    Attributes:
        temperature: What the logits are divided by, above zero.
    """

    temperature: float = 1.0
    name: ClassVar[str] = "sampled"

    def __post_init__(self) -> None:
        """Check the range."""
        if not self.temperature > 0:
            message = f"temperature is {self.temperature}: it must be above zero"
            raise ConfigError(message, hint="For the likeliest token each time, decode greedily.")


@dataclass(frozen=True, slots=True)
class Constrained:
    """Of the actions that the environment lists, the one whose reply is likeliest as a whole."""

    name: ClassVar[str] = "constrained"


Decoding: TypeAlias = Greedy | Sampled | Constrained
#: As they are called in a grid and in a finished cell.
DECODINGS: Final[dict[str, Decoding]] = {
    each.name: each for each in (Greedy(), Sampled(), Constrained())
}


def play(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    environment: Environment,
    tasks: Sequence[str],
    decoding: Decoding,
    *,
    seed: int = 0,
    batch_size: int = 32,
    max_new_tokens: int = 48,
    max_tokens: int = 2048,
) -> list[Episode]:
    """Let a model play one game of each task.

    A task named twice is played twice, with other random numbers. What a game draws depends on
    the seed, the task, and how often it was named before, never on the games beside it.

    Args:
        model: As it stands, with whatever adapter is active.
        tokenizer: With a chat template.
        environment: Whose games are played.
        tasks: Ids of tasks.
        decoding: How replies are chosen.
        seed: Of what is sampled.
        batch_size: Games that advance side by side.
        max_new_tokens: Longest reply.
        max_tokens: Longest chat; a game that comes to it is over, and has failed.

    Returns:
        Episodes in the order of the tasks.

    Raises:
        ConfigError: If the decoding needs listed actions and the environment lists none, or there
            is no such task.
        TemplateError: If the chat template cannot render the game's chat.
    """
    table = _Table(model, tokenizer, decoding, max_new_tokens, max_tokens)
    waiting = _seats(environment, tasks, seed)
    seats: list[_Seat] = []
    playing: list[_Seat] = []
    while True:
        while len(playing) < batch_size and (seat := next(waiting, None)):
            # What the games have in common, the instruction, is read once.
            seat.memory = playing[0].memory if playing else seat.memory
            seats.append(seat)
            playing.append(seat)
        if not playing:
            return [seat.episode(environment) for seat in seats]
        table.turn(playing)
        playing = [seat for seat in playing if not seat.is_done]


@dataclass(slots=True)
class _Seat:
    """A game that is being played.

    Attributes:
        task: Its id.
        game: Where it stands.
        instruction: The system message.
        draws: Where its random numbers come from.
        observations: What the player was told.
        replies: What it said.
        n_invalid: Replies without an action on offer.
        is_broken_off: Whether the chat grew too long.
        memory: What the model has read of the chat.
    """

    task: str
    game: Game
    instruction: str
    draws: random.Random
    observations: list[str]
    replies: list[str] = field(default_factory=list)
    n_invalid: int = 0
    is_broken_off: bool = False
    memory: Memory = field(default_factory=Memory)

    @property
    def is_done(self) -> bool:
        return self.is_broken_off or self.game.is_over

    @property
    def messages(self) -> list[Message]:
        """The chat so far, which ends with an observation."""
        found = [say("system", self.instruction), say("user", self.observations[0])]
        for reply, observation in zip(self.replies, self.observations[1:], strict=True):
            found += [say("assistant", reply), say("user", observation)]
        return found

    def hear(self, reply: str) -> None:
        """Take a reply; one without an action is given to the game as it stands: a turn lost."""
        action, offered = action_of(reply), self.game.observation.actions
        self.n_invalid += action is None or (offered is not None and action not in offered)
        self.game.act(reply[:_RAW_CHARS] if action is None else action)
        self.replies.append(reply)
        self.observations.append(self.game.observation.text)

    def episode(self, environment: Environment) -> Episode:
        return Episode(
            environment=environment.name,
            task=self.task,
            instruction=self.instruction,
            observations=tuple(self.observations),
            replies=tuple(self.replies),
            score=self.game.score,
            succeeded=self.game.succeeded and not self.is_broken_off,
            n_invalid=self.n_invalid,
        )


def _seats(environment: Environment, tasks: Sequence[str], seed: int) -> Iterator[_Seat]:
    """Games at their beginning, each started when its turn comes."""
    named: Counter[str] = Counter()
    for task in tasks:
        draws = random.Random(f"{seed}/{environment.name}/{task}/{named[task]}")
        named[task] += 1
        game = environment.start(task)
        yield _Seat(task, game, environment.instruction, draws, [game.observation.text])


class _Table:
    """The model opposite the games."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        decoding: Decoding,
        max_new_tokens: int,
        max_tokens: int,
    ) -> None:
        """Find out how the template ends a turn."""
        self.tokenizer, self.decoding = tokenizer, decoding
        self.max_new_tokens, self.max_tokens = max_new_tokens, max_tokens
        self.chat_format = probe(tokenizer)
        self.closing = _closing(tokenizer, self.chat_format)
        # A control token of any kind ends a reply: the text after it would be another turn's.
        self.stops = frozenset({*tokenizer.all_special_ids, *self._ids(self.closing)[:1]})
        pad_id = tokenizer.pad_token_id
        self.speaker = Speaker(
            model, n_tokens=len(tokenizer), pad_id=0 if pad_id is None else int(pad_id)
        )

    def turn(self, seats: Sequence[_Seat]) -> None:
        """One turn of every game; a game whose chat leaves no room for a reply is broken off."""
        players, texts, prompts = [], [], []
        for seat in seats:
            text, ids = self._prompt(seat.messages)
            seat.is_broken_off = len(ids) >= self.max_tokens
            if not seat.is_broken_off:
                players.append(seat)
                texts.append(text)
                prompts.append(ids)
        if not players:
            return
        if isinstance(self.decoding, Constrained):
            replies = self._best_listed(players, texts, prompts)
        else:
            replies = self._spoken(players, prompts, self.decoding)
        for seat, reply in zip(players, replies, strict=True):
            seat.hear(reply)

    def _spoken(
        self, seats: list[_Seat], prompts: list[list[int]], decoding: Greedy | Sampled
    ) -> list[str]:
        def choose(logits: Tensor, rows: Sequence[int]) -> list[int]:
            if isinstance(decoding, Greedy):
                return [int(token) for token in logits.argmax(-1)]
            draws = [seats[row].draws.random() for row in rows]
            return _drawn(logits / decoding.temperature, draws)

        replies, memories = self.speaker.reply(
            prompts,
            [seat.memory for seat in seats],
            choose=choose,
            limits=[min(self.max_new_tokens, self.max_tokens - len(ids)) for ids in prompts],
            stops=self.stops,
        )
        for seat, memory in zip(seats, memories, strict=True):
            seat.memory = memory
        return [self._text(reply) for reply in replies]

    def _best_listed(
        self, seats: list[_Seat], texts: list[str], prompts: list[list[int]]
    ) -> list[str]:
        candidates = [[said(action) for action in _listed(seat)] for seat in seats]
        scores, memories = self.speaker.log_likelihoods(
            prompts,
            [seat.memory for seat in seats],
            [
                [self._continuation(text, ids, reply) for reply in some]
                for text, ids, some in zip(texts, prompts, candidates, strict=True)
            ],
        )
        for seat, memory in zip(seats, memories, strict=True):
            seat.memory = memory
        return [
            some[max(range(len(some)), key=each.__getitem__)]
            for some, each in zip(candidates, scores, strict=True)
        ]

    def _continuation(self, text: str, prompt: list[int], reply: str) -> list[int]:
        """Tokens of a reply and of the end of its turn, as they would follow the prompt."""
        whole = self._ids(text + reply + self.closing)
        if whole[: len(prompt)] == prompt:
            return whole[len(prompt) :]
        return self._ids(reply + self.closing)

    def _prompt(self, messages: list[Message]) -> tuple[str, list[int]]:
        try:
            text = render(
                self.tokenizer, messages, extra=self.chat_format.extra, add_generation_prompt=True
            )
        except RowRefused as error:
            hint = "Pass a model whose template takes a system message and turns in alternation."
            raise TemplateError(str(error), hint=hint) from error
        return text, self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False)]

    def _text(self, reply: list[int]) -> str:
        """In words, without what ends it, and without what would read as a control token."""
        kept = reply[:-1] if reply[-1] in self.stops else reply
        text = str(self.tokenizer.decode(kept, clean_up_tokenization_spaces=False))
        for token in self.chat_format.control_tokens:
            text = text.replace(token, "")
        return text


def _listed(seat: _Seat) -> tuple[str, ...]:
    """The actions on offer.

    Raises:
        ConfigError: If there are none.
    """
    actions = seat.game.observation.actions
    if not actions:
        message = f"task {seat.task}: the environment lists no actions, so none can be chosen among"
        raise ConfigError(message, hint="Decode greedily, or sample.")
    return actions


def _closing(tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat) -> str:
    """The control token that a template writes after a reply; empty where it writes none."""
    talk = [say("user", "qzuser"), say("assistant", "qzreply")]
    after = render(tokenizer, talk, extra=chat_format.extra).rpartition("qzreply")[2].lstrip()
    return next((token for token in chat_format.control_tokens if after.startswith(token)), "")


def _drawn(logits: Tensor, draws: Sequence[float]) -> list[int]:
    """For each row of logits (k, v), the token on which its draw falls."""
    sums = logits.double().softmax(-1).cumsum(-1)
    marks = torch.tensor(draws, dtype=sums.dtype, device=sums.device)[:, None] * sums[:, -1:]
    return [int(token) for token in torch.searchsorted(sums, marks, right=True)[:, 0]]
