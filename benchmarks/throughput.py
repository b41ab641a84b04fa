"""Tokens a second of applying a trained head, against bare forward passes of the same model.

    .venv/bin/python benchmarks/throughput.py

Bare: the model's own forward over the same tokens, packed end to end into full batches without a
cell of padding. Ours: the passes of `score --run`, which also run the adapted layers a second time
under the real adapter and compute losses. Tokens are those of the rows, each counted once a row.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from bench import add_model_options, config_of, sample, synchronise, write

from trajweight.backbone import ADAPTER
from trajweight.features import FeatureMap, adapter_tensors
from trajweight.progress import Progress
from trajweight.student import Student


def main() -> None:
    """Measure both in turn, several times, and write the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_model_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=512, help="length of a packed sequence")
    options = parser.parse_args()
    config = config_of(options)
    loaded, material = sample(config)
    tokens = [token for row in material.encoded for token in row.input_ids]
    full = len(tokens) // options.cells * options.cells
    packed = torch.tensor(tokens[:full], device=loaded.device).view(-1, options.cells)

    def bare() -> float:
        began = time.perf_counter()
        with torch.inference_mode():
            for sequence in packed.split(1 if loaded.device.type == "cpu" else 8):
                # Logits of the last position alone: the trunk is what is compared.
                loaded.model(input_ids=sequence, use_cache=False, logits_to_keep=1)
        synchronise()
        return full / (time.perf_counter() - began)

    def ours() -> float:
        fresh, mine = sample(config)  # a model that has no adapter yet
        student = Student(fresh, config.model, mine.encoded, Progress())
        began = time.perf_counter()
        frozen = student.freeze(Progress())
        student.add_adapter(config.model, frozen, seed=0)
        mapped = FeatureMap.fit(frozen.embeddings, components=config.outer.components)
        real = adapter_tensors(student.linears_of(ADAPTER))
        student.features(mapped, frozen, mine.n_turns, real, Progress())
        synchronise()
        return len(tokens) / (time.perf_counter() - began)

    speeds: dict[str, list[float]] = {"bare": [], "ours": []}
    for round_ in range(options.rounds):
        for name, run in (("bare", bare), ("ours", ours)):
            speeds[name].append(round(run(), 1))
            print(f"round {round_} {name}: {speeds[name][-1]} tokens/s", file=sys.stderr)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    ratio = round(medians["ours"] / medians["bare"], 3)
    write(
        "throughput",
        {
            "model": options.model,
            "tokens": len(tokens),
            "tokens_per_second": speeds,
            "ratio": ratio,
        },
    )
    print(f"bare {medians['bare']} tokens/s, ours {medians['ours']} tokens/s, ratio {ratio}")


if __name__ == "__main__":
    main()
