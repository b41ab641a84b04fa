from __future__ import annotations

import multiprocessing
import time
from typing import TYPE_CHECKING

import pytest

from trajweight.cache import cache_root, fault_of, publish
from trajweight.errors import TrajweightError
from trajweight.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"origin": "a test"}


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def build(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "sub").mkdir()
    (folder / "sub" / "weights").write_bytes(bytes(1000))


def build_slowly(target: Path) -> None:
    def slow(folder: Path) -> None:
        with (target.parent / "builds").open("a") as log:
            log.write("x")
        time.sleep(0.3)
        build(folder)

    publish(target, slow, facts=FACTS, progress=Progress())


def test_a_published_folder_is_whole_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "models" / "one"

    publish(target, build, facts=FACTS, progress=Progress())

    assert fault_of(target, FACTS) == ""
    assert sorted(path.name for path in target.parent.iterdir()) == ["one", "one.lock"]


def test_a_whole_folder_is_not_built_again(tmp_path):
    publish(tmp_path / "one", build, facts=FACTS, progress=Progress())

    def never(folder: Path) -> None:
        raise AssertionError(folder)

    publish(tmp_path / "one", never, facts=FACTS, progress=Progress())


@pytest.mark.parametrize("harm", ["flip", "shorten", "remove", "manifest", "facts"])
def test_damage_is_noticed_and_mended(tmp_path, harm):
    target = tmp_path / "one"
    publish(target, build, facts=FACTS, progress=Progress())
    facts = FACTS
    weights = target / "sub" / "weights"
    if harm == "flip":
        weights.write_bytes(bytes(999) + b"x")
    elif harm == "shorten":
        weights.write_bytes(bytes(999))
    elif harm == "remove":
        weights.unlink()
    elif harm == "manifest":
        (target / "manifest.json").write_text("{")
    else:
        facts = {"origin": "another recipe"}
    assert fault_of(target, facts) != ""

    publish(target, build, facts=facts, progress=Progress())

    assert fault_of(target, facts) == ""
    assert weights.read_bytes() == bytes(1000)


def test_a_build_that_fails_leaves_the_place_empty(tmp_path):
    def fail(folder: Path) -> None:
        (folder / "half").write_text("x")
        message = "half way"
        raise KeyError(message)

    with pytest.raises(KeyError):
        publish(tmp_path / "one", fail, facts=FACTS, progress=Progress())

    assert [path.name for path in tmp_path.iterdir()] == ["one.lock"]
    publish(tmp_path / "one", build, facts=FACTS, progress=Progress())
    assert fault_of(tmp_path / "one", FACTS) == ""


def test_leftovers_of_a_stopped_process_are_swept(tmp_path):
    (tmp_path / ".one.deadbeef").mkdir()

    publish(tmp_path / "one", build, facts=FACTS, progress=Progress())

    assert not (tmp_path / ".one.deadbeef").exists()


def test_processes_that_start_at_once_build_one_whole_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=build_slowly, args=(tmp_path / "one",)) for _ in range(3)]

    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "builds").read_text() == "x"
    assert fault_of(tmp_path / "one", FACTS) == ""


def test_a_cache_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(TrajweightError, match="cannot be written") as caught:
        publish(tmp_path / "file" / "one", build, facts=FACTS, progress=Progress())

    assert "TRAJWEIGHT_CACHE" in caught.value.hint


def test_the_cache_can_be_put_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAJWEIGHT_CACHE", str(tmp_path))

    assert cache_root() == tmp_path
