"""Files damaged in every way: read with every row counted, or refused in words, and never more."""

from __future__ import annotations

import pytest

from tests.fuzzing import bomb, damaged, originals
from trajweight.errors import TrajweightError
from trajweight.reading import read_trajectories

FILES = [(path.name, path.read_bytes()) for path in originals()]
#: Cases of one test; `benchmarks/fuzz.py` runs 50,000.
CASES = 50


def end_of(path) -> str:
    """Whether it was read, or the words it was refused in; any error but ours is raised."""
    try:
        reading = read_trajectories([path])
    except TrajweightError as error:
        return str(error)
    assert reading.n_read == reading.table.height + len(reading.rejected)
    return "read"


@pytest.mark.parametrize("block", range(8))
def test_a_damaged_file_is_read_with_every_row_counted_or_refused(tmp_path, block) -> None:
    ends = []
    for seed in range(block * CASES, (block + 1) * CASES):
        name, data = damaged(FILES, seed)
        path = tmp_path / name
        path.write_bytes(data)
        ends.append(end_of(path))

    assert all(ends)
    assert ends.count("read") > CASES / 4  # damage leaves something to read, or tests nothing


@pytest.mark.slow
def test_a_small_file_that_unpacks_to_a_huge_one_ends_in_words(tmp_path) -> None:
    name, data = bomb(FILES, 0)
    path = tmp_path / name
    path.write_bytes(data)

    assert len(data) < 1 << 20
    assert end_of(path)


def test_the_same_seed_damages_in_the_same_way() -> None:
    assert damaged(FILES, 5) == damaged(FILES, 5)
    assert len({damaged(FILES, seed)[1] for seed in range(20)}) > 15
