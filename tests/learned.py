"""Runs whose weights were learned, for tests that look at what learning leaves."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from tests.commands import QUICK, call, write_rows
from trajweight.run import Run, load_run

if TYPE_CHECKING:
    from pathlib import Path


def dialogue(name: str, *, source: str = "good", turns: int = 2, **more: Any) -> dict[str, Any]:
    """A row of several replies, unlike all others; the same name gives the same row."""
    rng = random.Random(name)

    def words(n: int) -> str:
        return " ".join("".join(rng.choices("aeioubdgklmnrst", k=5)) for _ in range(n))

    messages = []
    for _ in range(turns):
        messages.append({"role": "user", "content": words(5)})
        messages.append({"role": "assistant", "content": words(rng.randint(2, 6))})
    origin = "real" if source == "real" else "synthetic"
    said = {"id": name, "source": source, "origin": origin, "task_id": name}
    return {**said, "messages": messages, **more}


def learn(folder: Path, *options: object) -> Run:
    """A quickly learned run on the tiny model; what it found is worth nothing."""
    rows = [dialogue(f"r{i}", source="real", turns=1 + i % 3) for i in range(45)]
    rows += [dialogue(f"s{i}", source=("good", "bad")[i % 2], turns=1 + i % 4) for i in range(14)]
    data = write_rows(folder / "data.jsonl", rows)
    settings = folder / "settings.toml"
    settings.write_text(QUICK)
    said = call("score", data, "--config", settings, "--out", folder / "run", *options)
    assert said.code == 0, said.err
    return load_run(folder / "run")
