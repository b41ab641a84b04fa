from __future__ import annotations

import hashlib
import subprocess
import sys

import torch

from trajweight.tiny import build_tiny


def test_the_same_seed_gives_the_same_weights_and_another_gives_others():
    first, again, other = (build_tiny(seed)[0].state_dict() for seed in (3, 3, 4))

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_leaves_the_global_random_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()

    build_tiny(1)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_vocabulary_does_not_hang_on_the_process():
    here = hashlib.sha256(build_tiny()[1].backend_tokenizer.to_str().encode()).hexdigest()
    code = (
        "import hashlib; from trajweight.tiny import build_tiny; "
        "print(hashlib.sha256(build_tiny()[1].backend_tokenizer.to_str().encode()).hexdigest())"
    )

    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert there.strip() == here


def test_every_text_survives_the_tokenizer():
    tokenizer = build_tiny()[1]
    text = "Aé漢🙂\t\r\n\0 <|im_end|> the assistant"

    assert tokenizer.decode(tokenizer.encode(text), clean_up_tokenization_spaces=False) == text


def test_the_model_takes_every_token_of_its_tokenizer():
    model, tokenizer = build_tiny()
    ids = torch.arange(len(tokenizer))[None]  # (1, vocabulary)

    with torch.inference_mode():
        logits = model(ids).logits

    assert logits.shape == (1, len(tokenizer), len(tokenizer))
    assert logits.isfinite().all()
    assert not model.training
