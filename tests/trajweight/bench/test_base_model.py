from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.trajweight.bench.walking import Walking
from trajweight.bench import base_model
from trajweight.bench.base_model import Recipe, _batches, small_model
from trajweight.bench.playing import Constrained, play
from trajweight.bench.speech import action_of
from trajweight.bench.transcripts import transcripts
from trajweight.chat_format import probe
from trajweight.models import load_model
from trajweight.progress import Progress

QUICK = Recipe(
    layers=2, width=32, heads=2, vocabulary=420, episodes=40, epochs=4, batch_tokens=1000
)


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.words: list[str] = []

    def advance(self, units: int = 1, **facts: float) -> None:
        if "loss" in facts:
            self.losses.append(facts["loss"])

    def warn(self, text: str) -> None:
        self.words.append(text)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("TRAJWEIGHT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def made(cache):
    told = Told()
    return small_model([Walking()], QUICK, told), told


def loaded(folder):
    return load_model(str(folder), device="cpu", dtype="float32", progress=Progress())


def test_reading_lowers_the_loss(made):
    losses = made[1].losses

    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_the_model_loads_like_any_folder_and_plays(made):
    model = loaded(made[0])

    episodes = play(
        model.model, model.tokenizer, Walking(), Walking().tasks("test")[:3], Constrained()
    )

    assert model.model.config.num_hidden_layers == QUICK.layers
    assert probe(model.tokenizer).header == "<|im_start|>assistant\n"
    assert all(episode.replies for episode in episodes)


def test_the_tokenizer_that_was_saved_spells_as_before(made):
    tokenizer = loaded(made[0]).tokenizer
    text = "You are at 3 4, coin at 0 1. [go east]<|im_end|>\n Aé漢"

    ids = tokenizer.encode(text)

    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert len(ids) < len(text) / 2  # the words of the games are tokens


def test_a_second_call_finds_the_model_and_trains_nothing(made):
    told = Told()

    assert small_model([Walking()], QUICK, told) == made[0]
    assert told.losses == []


def test_another_recipe_or_other_games_make_another_model(made, monkeypatch):
    built = []
    monkeypatch.setattr(base_model, "publish", lambda folder, *_, **__: built.append(folder))

    small_model([Walking()], replace(QUICK, seed=1), Progress())
    small_model([Walking(turn_limit=9, instruction="Walk.")], QUICK, Progress())

    assert len({made[0], *built}) == 3


def test_a_damaged_model_is_made_again_with_the_same_weights(made):
    folder = made[0]
    before = loaded(folder).model.state_dict()
    (folder / "config.json").write_text("{}")
    told = Told()

    assert small_model([Walking()], QUICK, told) == folder

    assert "damaged" in told.words[0]
    after = loaded(folder).model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_row_is_read_once_an_epoch_in_batches_of_like_length():
    from random import Random

    rows = [torch.full((n,), n) for n in [*range(5, 60), 400]]

    batches = list(_batches(rows, replace(QUICK, batch_tokens=200), Random(0)))

    assert sorted(len(row) for batch in batches for row in batch) == [*range(5, 60), 400]
    assert all(
        len(batch) == 1 or len(batch) * max(map(len, batch)) <= 1.2 * 200 for batch in batches
    )


def test_lessons_reach_the_goal_and_other_games_seldom_do():
    episodes = list(transcripts(Walking(), 80, seed=0, most_turns=30))
    lessons = [each for each in episodes if each.instruction != Walking().instruction]
    others = [each for each in episodes if each.instruction == Walking().instruction]

    assert len(lessons) == len(others) == 40
    assert all(each.succeeded for each in lessons)
    assert sum(each.succeeded for each in others) < 20
    assert {each.task for each in episodes} <= set(Walking().tasks("train"))


def test_transcripts_hang_on_their_seed_alone():
    first, again, other = (list(transcripts(Walking(), 8, seed=s, most_turns=5)) for s in (0, 0, 1))

    assert first == again != other


def test_a_stubborn_player_mostly_says_what_it_said_before():
    episodes = list(transcripts(Walking(turn_limit=30), 400, seed=0, most_turns=30))[5::8]
    pairs = [
        (action_of(a), action_of(b))
        for each in episodes
        for a, b in zip(each.replies, each.replies[1:], strict=False)
    ]

    # 0.8, and one in four of the rest
    assert sum(a == b for a, b in pairs) / len(pairs) == pytest.approx(0.85, abs=0.05)
