from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from tests.trajweight.bench.walking import STEPS, Walk, Walking
from trajweight.backbone import Backbone
from trajweight.bench.environment import Observation
from trajweight.bench.playing import Constrained, Greedy, Sampled, _drawn, play
from trajweight.bench.speaking import Memory, Speaker
from trajweight.bench.speech import action_of, said
from trajweight.errors import ConfigError
from trajweight.tiny import build_tiny

LIMITS = {"max_new_tokens": 12, "max_tokens": 4096}
#: Float32 sums in another order.
ATOL = 1e-4


@pytest.fixture(scope="module")
def tiny():
    """The tiny model with bolder weights: its choices hang on the whole chat, and seldom tie."""
    model, tokenizer = build_tiny(seed=3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)
    return model, tokenizer


def windowed(tokenizer) -> MistralForCausalLM:
    """A model whose cache forgets, and so cannot be kept from turn to turn."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=24,
    )
    return MistralForCausalLM(config).eval()


def slow_play(model, tokenizer, environment, task, max_new_tokens=12):
    """The whole chat anew for every token, one game alone, without a cache or padding."""
    game = environment.start(task)
    messages = [
        {"role": "system", "content": environment.instruction},
        {"role": "user", "content": game.observation.text},
    ]
    while not game.is_over:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        reply: list[int] = []
        while len(reply) < max_new_tokens:
            with torch.no_grad():
                logits = model(torch.tensor([ids + reply]), use_cache=False).logits
            reply.append(int(logits[0, -1, : len(tokenizer)].argmax()))
            if reply[-1] in tokenizer.all_special_ids:
                reply.pop()
                break
        text = tokenizer.decode(reply)
        game.act(action_of(text) or text)
        messages += [
            {"role": "assistant", "content": text},
            {"role": "user", "content": game.observation.text},
        ]
    return [message["content"] for message in messages if message["role"] == "assistant"]


def slow_scores(model, tokenizer, messages, actions) -> list[float]:
    """Total log-likelihood of each reply and the token that ends it, in passes of their own."""
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    found = []
    for action in actions:
        ids = prompt + tokenizer.encode(f"[{action}]<|im_end|>")
        with torch.no_grad():
            each = model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
        places = range(len(prompt), len(ids))
        found.append(sum(float(each[place - 1, ids[place]]) for place in places))
    return found


@pytest.mark.parametrize("batch_size", [1, 5])
def test_greedy_games_equal_those_of_a_loop_that_passes_everything_anew(tiny, batch_size):
    model, tokenizer = tiny
    environment = Walking(turn_limit=4)
    tasks = environment.tasks("test")[:6]

    episodes = play(model, tokenizer, environment, tasks, Greedy(), batch_size=batch_size, **LIMITS)

    for task, episode in zip(tasks, episodes, strict=True):
        assert list(episode.replies) == slow_play(model, tokenizer, environment, task)
    assert len({reply for episode in episodes for reply in episode.replies}) > 6


@pytest.mark.parametrize("decoding", [Greedy(), Sampled(0.7), Constrained()])
def test_games_side_by_side_are_the_games_played_alone(tiny, decoding):
    model, tokenizer = tiny
    environment = Walking(turn_limit=5)
    tasks = environment.tasks("test")[:7]

    alone = [play(model, tokenizer, environment, [task], decoding, **LIMITS)[0] for task in tasks]
    together = play(model, tokenizer, environment, tasks, decoding, batch_size=4, **LIMITS)

    assert together == alone


def test_a_cache_that_cannot_be_kept_gives_the_same_games(tiny):
    tokenizer = tiny[1]
    model = windowed(tokenizer)
    environment = Walking(turn_limit=3)
    tasks = environment.tasks("test")[:3]

    episodes = play(model, tokenizer, environment, tasks, Greedy(), **LIMITS)

    assert not Speaker(model, n_tokens=len(tokenizer), pad_id=0).remembers
    for task, episode in zip(tasks, episodes, strict=True):
        assert list(episode.replies) == slow_play(model, tokenizer, environment, task)


def test_only_new_tokens_are_passed_in_later_turns(tiny):
    model, tokenizer = tiny
    seen: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"].shape[1]), with_kwargs=True
    )

    try:
        environment = Walking(turn_limit=6)
        play(model, tokenizer, environment, ["test-0"], Constrained(), **LIMITS)
    finally:
        handle.remove()

    # A turn is a pass of the prompt and one of the candidates.
    prompts = seen[::2]
    assert len(prompts) > 4
    assert max(prompts[1:]) < prompts[0]  # while the chats have grown to several times the first


def test_memory_that_differs_is_read_again_from_there_on(tiny):
    model, _ = tiny
    speaker = Speaker(model, n_tokens=model.config.vocab_size, pad_id=0)
    first, other = list(range(40, 70)), [*range(40, 55), *range(90, 120)]

    def one_token(prompt, memory):
        choose = Choose()
        _, memories = speaker.reply(
            [prompt], [memory], choose=choose, limits=[1], stops=frozenset()
        )
        return choose.logits, memories[0]

    _, memory = one_token(first, Memory())
    after, _ = one_token(other, memory)
    fresh, _ = one_token(other, Memory())

    assert memory.shared(other) == 15
    torch.testing.assert_close(after, fresh, atol=ATOL, rtol=0)


class Choose:
    """Takes the likeliest token, and keeps what it saw."""

    def __call__(self, logits, rows):
        self.logits = logits
        return logits.argmax(-1).tolist()


def test_one_row_with_much_to_read_does_not_make_the_others_read_again(tiny):
    model, _ = tiny
    speaker = Speaker(model, n_tokens=model.config.vocab_size, pad_id=0)
    short, long = list(range(40, 60)), list(range(50, 350))
    read: dict[str, Any] = {"limits": [1], "stops": frozenset(), "choose": Choose()}
    _, (memory,) = speaker.reply([short], [Memory()], **read)
    seen = []
    handle = model.register_forward_pre_hook(
        lambda _, __, given: seen.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )

    try:
        choose = Choose()
        speaker.reply(
            [[*short, 7], long], [memory, Memory()], choose=choose, limits=[1, 1], stops=frozenset()
        )
    finally:
        handle.remove()

    assert seen == [(1, 299), (2, 1)]
    for row, ids in enumerate(([*short, 7], long)):
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0, -1]
        torch.testing.assert_close(choose.logits[row], expected, atol=ATOL, rtol=0)


def test_what_a_task_draws_hangs_on_the_seed_and_on_how_often_it_was_named(tiny):
    model, tokenizer = tiny
    environment = Walking(turn_limit=4)

    def sampled(tasks, seed=0):
        return play(model, tokenizer, environment, tasks, Sampled(), seed=seed, **LIMITS)

    first, second = sampled(["test-1", "test-1"])

    assert first != second
    assert sampled(["test-0", "test-1", "test-2"])[1] == first
    assert sampled(["test-1"], seed=1)[0] != first


def test_draws_follow_the_distribution():
    shares = torch.tensor([0.5, 0.0, 0.2, 0.3])
    draws = [(n + 0.5) / 1000 for n in range(1000)]

    tokens = _drawn(shares.log().expand(1000, 4), draws)

    assert [tokens.count(token) / 1000 for token in range(4)] == pytest.approx(shares.tolist())


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(ConfigError, match="above zero"):
        Sampled(0.0)


def test_constrained_play_takes_the_likeliest_listed_action(tiny):
    model, tokenizer = tiny
    environment = Walking(turn_limit=5)
    tasks = environment.tasks("test")[:5]

    episodes = play(model, tokenizer, environment, tasks, Constrained(), **LIMITS)

    for episode in episodes:
        messages = episode.messages
        for place in range(2, len(messages), 2):
            scores = slow_scores(model, tokenizer, messages[:place], list(STEPS))
            best = max(zip(scores, STEPS, strict=True))[1]
            assert messages[place]["content"] == said(best)
        assert episode.n_invalid == 0


def test_scores_of_continuations_equal_those_of_passes_of_their_own(tiny):
    model, tokenizer = tiny
    speaker = Speaker(model, n_tokens=len(tokenizer), pad_id=0)
    rng = Random(0)
    prompts = [[rng.randrange(300) for _ in range(n)] for n in (5, 60, 17)]
    some = [[[rng.randrange(300) for _ in range(n)] for n in (1, 4, 9)] for _ in prompts]

    found, _ = speaker.log_likelihoods(prompts, [Memory()] * 3, some)

    for prompt, continuations, scores in zip(prompts, some, found, strict=True):
        for ids, score in zip(continuations, scores, strict=True):
            with torch.no_grad():
                each = model(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            cells = range(len(prompt) - 1, len(prompt) + len(ids) - 1)
            expected = sum(float(each[c, t]) for c, t in zip(cells, ids, strict=True))
            assert score == pytest.approx(expected, abs=1e-3)


def test_an_environment_that_lists_no_actions_cannot_be_constrained(tiny):
    environment = Walking(lists_actions=False)

    with pytest.raises(ConfigError, match="lists no actions"):
        play(tiny[0], tiny[1], environment, environment.tasks("test")[:1], Constrained())


def test_a_reply_without_an_action_costs_a_turn_and_is_counted(tiny):
    model, tokenizer = tiny
    environment = Kept(turn_limit=3)

    (episode,) = play(model, tokenizer, environment, ["test-0"], Greedy(), **LIMITS)

    assert len(episode.replies) == 3
    assert [action_of(reply) for reply in episode.replies] == [None] * 3
    assert environment.games[0].taken == [reply[:80] for reply in episode.replies]
    assert episode.n_invalid == 3
    assert not episode.succeeded


@dataclass(frozen=True)
class Kept(Walking):
    """Walking, with the games kept to be looked at."""

    games: list[Walk] = field(default_factory=list, compare=False)

    def start(self, task: str) -> Walk:
        self.games.append(super().start(task))
        return self.games[-1]


def test_a_chat_that_grows_too_long_ends_as_a_failure_and_is_not_rendered_further(tiny):
    model, tokenizer = tiny
    environment = Walking(turn_limit=50)

    (episode,) = play(
        model, tokenizer, environment, ["test-0"], Greedy(), max_new_tokens=12, max_tokens=150
    )

    text = tokenizer.apply_chat_template(episode.messages, return_dict=False)
    assert 1 <= len(episode.replies) < 50
    assert len(text) <= 150 + 2  # the template ends the last reply, with two tokens
    assert not episode.succeeded


def test_an_episode_tells_one_observation_more_than_there_are_replies(tiny):
    environment = Walking(turn_limit=4)

    for episode in play(tiny[0], tiny[1], environment, environment.tasks("dev")[:4], Constrained()):
        assert len(episode.observations) == len(episode.replies) + 1
        assert episode.score == float(episode.succeeded)


def test_no_tasks_make_no_episodes(tiny):
    assert play(tiny[0], tiny[1], Walking(), [], Greedy()) == []


def test_the_adapter_in_use_plays():
    model, tokenizer = build_tiny(seed=3)
    environment = Walking(turn_limit=3)
    before = play(model, tokenizer, environment, ["test-0"], Greedy(), **LIMITS)

    backbone = Backbone(model, depth=1)
    with torch.no_grad():
        for linear in backbone.add_adapter(rank=2, alpha=4, seed=0):
            linear.weight.fill_(0.1)

    assert play(model, tokenizer, environment, ["test-0"], Greedy(), **LIMITS) != before


def test_playing_leaves_the_modes_of_the_modules_as_they_were(tiny):
    model, tokenizer = tiny
    layer = model.get_decoder().layers[1]
    layer.training = True

    try:
        play(model, tokenizer, Walking(turn_limit=2), ["test-0"], Greedy(), **LIMITS)

        assert layer.training
        assert not layer.mlp.training
    finally:
        layer.training = False


def test_a_spelled_control_token_is_left_out_of_a_reply(tiny):
    """A model that spells one letter by letter must not open another turn in its next prompt."""
    _, tokenizer = tiny
    spelled = [token for letter in "[a]<|im_end|>x" for token in tokenizer.encode(letter)]
    model = Parrot(tokenizer, spelled)

    (episode,) = play(
        model, tokenizer, Walking(turn_limit=1), ["test-0"], Greedy(), max_new_tokens=40
    )

    assert episode.replies == ("[a]x",)


class Parrot(LlamaForCausalLM):
    """Says the same tokens whatever it is asked, then ends its turn."""

    def __init__(self, tokenizer, tokens: list[int]) -> None:
        super().__init__(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=8,
                intermediate_size=8,
                num_hidden_layers=1,
                num_attention_heads=1,
            )
        )
        self.to_say, self.n_said = [*tokens, tokenizer.eos_token_id], 0

    def forward(self, *args, **options):
        output = super().forward(*args, **options)
        output.logits[:, -1, self.to_say[self.n_said]] = 1e6
        self.n_said += 1
        return output


def test_the_walk_is_won_by_its_expert():
    environment = Walking()
    game = environment.start("train-5")

    while not game.is_over:
        action = game.expert_action()
        assert action is not None
        game.act(action)

    assert game.succeeded
    assert game.observation == Observation(game.observation.text, tuple(STEPS))
