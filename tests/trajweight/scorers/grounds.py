"""A small ground of known truth: half of the synthetic rows say what real rows never say."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from tests.trajweight.scorers.pools import row, table
from trajweight.config import DataConfig, EstimatorConfig, InnerConfig, OuterConfig, RunConfig
from trajweight.encoded import Encoded
from trajweight.features import adapter_tensors
from trajweight.ground import Ground
from trajweight.material import Material
from trajweight.models import LoadedModel
from trajweight.progress import Progress
from trajweight.scorers import Pool, Scored, scorer
from trajweight.stopwatch import Stopwatch
from trajweight.tiny import build_tiny

#: What stands before every reply, and what those of good and of bad rows are made of.
HEADER, GOOD, BAD = [1, 2, 3], [10, 11, 12, 13], [40, 41, 42, 43]
N_REAL, N_VALIDATION, N_EACH = 24, 24, 12
SYNTHETIC = list(range(N_REAL + N_VALIDATION, N_REAL + N_VALIDATION + 2 * N_EACH))
#: Good and bad synthetic rows take turns.
IS_GOOD = torch.tensor([place % 2 == 0 for place in range(2 * N_EACH)])

CONFIG = RunConfig(
    inner=InnerConfig(real_steps=10, warmup_steps=10, batch_size=8, learning_rate=5e-3),
    estimator=EstimatorConfig(every=1, batch_size=24),
    outer=OuterConfig(min_steps=12, max_steps=12, components=4),
)


def said(name: str, words: list[int]) -> Encoded:
    """A dialogue of two or three replies out of some words; the same name gives the same row."""
    rng = random.Random(name)
    ids: list[int] = []
    mask: list[bool] = []
    turns: list[int] = []
    for turn in range(rng.randint(2, 3)):
        heard = [rng.randrange(100, 160) for _ in range(rng.randint(2, 5))] + HEADER
        spoken = rng.choices(words, k=rng.randint(2, 5))
        ids += heard + spoken
        mask += [False] * len(heard) + [True] * len(spoken)
        turns += [-1] * len(heard) + [turn] * len(spoken)
    return Encoded(ids, mask, turns)


def material_of() -> Material:
    real = [said(f"r{place}", GOOD) for place in range(N_REAL + N_VALIDATION)]
    synthetic = [
        said(f"s{place}", GOOD if is_good else BAD) for place, is_good in enumerate(IS_GOOD)
    ]
    encoded = [*real, *synthetic]
    names = [f"task-{place % 6}" for place in range(len(encoded))]
    sources = ["real"] * len(real) + [("good", "bad")[place % 2] for place in range(2 * N_EACH)]
    return Material(
        encoded=encoded,
        n_turns=[3] * len(encoded),
        tasks=names,
        sources=sources,
        real=list(range(N_REAL)),
        synthetic=SYNTHETIC,
        validation=list(range(N_REAL, N_REAL + N_VALIDATION)),
        dev=[],
        real_weight=1.0,
        within=[1.0] * len(encoded),
        objective="",
        prior=None,
    )


def new_ground() -> Ground:
    """Where nothing is trained yet."""
    model, tokenizer = build_tiny()
    cpu = torch.device("cpu")
    loaded = LoadedModel(model, tokenizer, "tiny", "", device=cpu, dtype=torch.float32)
    return Ground.of(loaded, material_of(), CONFIG, progress=Progress(), stopwatch=Stopwatch())


@cache
def shared_ground() -> Ground:
    """One for all laws that leave it as it was."""
    ground = new_ground()
    ground.begin()
    with torch.no_grad():  # where scorers find the adapter is no place that they know of
        for linear in ground.student.linears:
            linear.weight.grad = None
            linear.weight.add_(0.01)
    return ground


def pool_on(ground: Ground, *, seed: int = 0) -> Pool:
    """A pool whose rows are those of a ground; their text says nothing."""
    material = ground.material

    def rows(places: list[int]) -> Any:
        return table([row(place, "-", source=material.sources[place]) for place in places])

    real = rows([*material.real, *material.validation])
    return Pool(rows(material.synthetic), real, seed, lambda: ground)


@cache
def scored(name: str, seed: int = 3) -> Scored:
    """What a scorer says on the shared ground, made once."""
    return scorer(name).score(pool_on(shared_ground(), seed=seed))


def without(role: str) -> Pool:
    """A pool on a ground whose material lacks a role."""
    ground = shared_ground()
    changed: dict[str, Any] = {role: []}
    material = replace(ground.material, **changed)
    return pool_on(replace(ground, material=material))


def forced() -> RunConfig:
    return replace(CONFIG, data=DataConfig(force=True))


def standing(ground: Ground) -> list[torch.Tensor]:
    return adapter_tensors(ground.student.linears)


def gap(found: Any) -> float:
    """How often a good row comes before a bad one."""
    found = torch.as_tensor(found)
    good, bad = found[IS_GOOD], found[~IS_GOOD]
    wins = (good[:, None] > bad).double() + (good[:, None] == bad).double() / 2
    return float(wins.mean())
