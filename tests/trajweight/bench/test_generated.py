from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import torch

from tests.trajweight.bench.walking import Walking
from trajweight.bench.finetuning import FineTuning, fine_tuned
from trajweight.bench.generated import generated
from trajweight.bench.playing import Greedy
from trajweight.bench.playing import play as play_model
from trajweight.bench.policies import TERSE, expert, play
from trajweight.bench.speech import action_of
from trajweight.errors import DataError
from trajweight.models import load_model
from trajweight.progress import Progress

# peft asks transformers by a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*")

SETTINGS = FineTuning(rank=8, epochs=30, batch_size=4, learning_rate=0.02)
#: All that the expert of these tests ever says.
ALWAYS = "[go east]"


@pytest.fixture(scope="module")
def loaded():
    return load_model("tiny", device="cpu", progress=Progress())


def shown(n: int = 4):
    environment = Walking()
    return [
        play(environment, task, lambda _, __: "go east", Random(0), TERSE)
        for task in environment.tasks("train")[:n]
    ]


def test_fine_tuning_teaches_what_the_chats_say(loaded):
    environment, chats = Walking(turn_limit=2), [episode.messages for episode in shown()]

    with fine_tuned(loaded, chats, SETTINGS, Progress()) as model:
        (episode,) = play_model(model, loaded.tokenizer, environment, ["test-0"], Greedy())

    assert episode.replies == (ALWAYS, ALWAYS)


def test_after_fine_tuning_the_base_is_as_it_was(loaded):
    ids = torch.arange(20)[None]
    names = [name for name, _ in loaded.model.named_parameters()]
    before = loaded.model(ids).logits.detach()

    with fine_tuned(loaded, [shown(1)[0].messages], FineTuning(epochs=1), Progress()) as model:
        during = model(ids).logits.detach()

    assert torch.equal(loaded.model(ids).logits.detach(), before)
    assert [name for name, _ in loaded.model.named_parameters()] == names
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert not torch.equal(during, before)


def test_fine_tuning_hangs_on_its_seed_alone(loaded):
    ids, chats = torch.arange(20)[None], [episode.messages for episode in shown(3)]

    def logits(seed: int):
        with fine_tuned(loaded, chats, FineTuning(epochs=1, seed=seed), Progress()) as model:
            return model(ids).logits.detach()

    first, again, other = logits(0), logits(0), logits(1)

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_chat_that_cannot_be_learned_from_is_named(loaded):
    chats = [shown(1)[0].messages, [{"role": "user", "content": "alone"}]]

    with (
        pytest.raises(DataError, match="chat 2 cannot be learned from"),
        fine_tuned(loaded, chats, SETTINGS, Progress()),
    ):
        pass


def test_generated_rows_tell_whether_the_goal_was_reached(loaded):
    environment, tasks = Walking(), Walking().tasks("train")[:30]

    rows = generated(loaded, environment, shown(), tasks, SETTINGS, Progress(), temperature=0.05)

    said = {
        row.task: [m["content"] for m in row.messages if m["role"] == "assistant"] for row in rows
    }
    replies = [reply for some in said.values() for reply in some]
    assert Counter(replies).most_common(1)[0][0] == ALWAYS
    assert any(row.is_good for row in rows)
    assert not all(row.is_good for row in rows)
    for row in rows:
        game = environment.start(row.task)
        for reply in said[row.task]:
            game.act(action_of(reply) or reply)
        assert row.is_good == game.succeeded
        assert row.reward == game.score
        kind = "generated" if row.is_good else "generated-failed"
        assert (row.kind, row.origin) == (kind, "synthetic")
    assert len({row.traj_id for row in rows}) == len(rows)


def test_an_expert_of_the_walk_is_shown_as_it_played():
    episode = play(Walking(), "train-0", expert(), Random(0))

    assert episode.succeeded
