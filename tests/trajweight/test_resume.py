"""A run that was interrupted anywhere and gone on with leaves the bytes of an undisturbed one."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trajweight.config import DataConfig, InnerConfig, ModelConfig, OuterConfig, RunConfig
from trajweight.errors import ConfigError, DataError, RunError
from trajweight.interruption import Interrupted, Interruption
from trajweight.job import ingest
from trajweight.pipeline import curate, resume
from trajweight.progress import Progress
from trajweight.run import Run, create_run, load_run

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLE = Path(__file__).parents[2] / "sample_data"
#: Two heads of three steps each, cross-fitted, trained on two adapters of different age.
OUTER = OuterConfig(
    max_steps=3, min_steps=3, contest_steps=1, ensemble=2, population=2, checkpoint_every=2
)
SAME = (
    *("weights.parquet", "head.safetensors", "head.json", "trace.jsonl", "features.parquet"),
    "direction.safetensors",
)


class KilledError(Exception):
    """Stands for the end of the process."""


class Watcher(Progress):
    """Calls something when a stage starts and when it has advanced."""

    def __init__(self, seen: Callable[[str, int], None]) -> None:
        self.seen, self.stage, self.done = seen, "", 0
        self.said: list[str] = []

    def start(self, stage: str, total: int | None = None) -> None:
        self.stage, self.done = stage, 0
        self.seen(stage, 0)

    def advance(self, units: int = 1, **facts: float) -> None:
        self.done += units
        self.seen(self.stage, self.done)

    def say(self, text: str) -> None:
        self.said.append(text)


def config_of(folder: Path) -> RunConfig:
    """Settings for files of sample data in a folder."""
    for name, every in (("real", 1), ("synthetic", 12)):
        lines = (SAMPLE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[::every]), encoding="utf-8")
    return RunConfig(
        data=DataConfig(paths=tuple(str(folder / f"{n}.jsonl") for n in ("real", "synthetic"))),
        model=ModelConfig(model="tiny"),
        inner=InnerConfig(real_steps=1, warmup_steps=1),
        outer=OUTER,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An undisturbed run; its settings are those of all others here."""
    folder = tmp_path_factory.mktemp("whole")
    return curate(config_of(folder), folder / "run", force=False, progress=Progress())


def config(whole: Run) -> RunConfig:
    return RunConfig.from_toml((whole.folder / "config.toml").read_text())


def interrupted(whole: Run, out: Path, stage: str, done: int, error: BaseException) -> Run:
    """A run that an error ended when a stage had come so far."""

    def seen(now: str, units: int) -> None:
        if now.startswith(stage) and units == done:
            raise error

    with pytest.raises(type(error)):
        curate(config(whole), out, force=False, progress=Watcher(seen))
    return load_run(out)


def ends_the_same(run: Run, whole: Run) -> bool:
    return all(
        (run.folder / name).read_bytes() == (whole.folder / name).read_bytes() for name in SAME
    )


STAGES = [
    *[("reading", 64), ("warm-up", 1), ("bilevel loop 1", 2)],
    *[("warm-up 2", 0), ("warm-up 2", 2), ("bilevel loop 2", 0), ("bilevel loop 2", 1)],
    ("contest", 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "done"), STAGES)
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(whole, tmp_path, stage, done) -> None:
    run = interrupted(whole, tmp_path / "run", stage, done, KilledError())
    assert run.manifest()["status"] == "failed"

    found = resume(run, progress=Progress())

    assert ends_the_same(found, whole)
    assert found.manifest()["status"] == "finished"
    assert len(found.manifest()["resumed"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_run_asked_to_end_at_any_step_is_saved_there(whole, tmp_path, step) -> None:
    interruption, steps = Interruption(), 0

    def ask(stage: str, done: int) -> None:
        nonlocal steps
        if stage.startswith("bilevel loop") and done:
            steps += 1
            if steps == step:
                interruption.ask(signal.SIGINT)

    with pytest.raises(Interrupted):
        curate(
            config(whole),
            tmp_path / "run",
            force=False,
            progress=Watcher(ask),
            interruption=interruption,
        )
    run = load_run(tmp_path / "run")
    assert run.manifest()["status"] == "interrupted"
    watcher = Watcher(lambda stage, done: None)

    found = resume(run, progress=watcher)

    assert f"going on from the checkpoint after outer step {step}" in watcher.said
    assert ends_the_same(found, whole)


@pytest.mark.slow
def test_a_run_interrupted_again_and_again_still_ends_the_same(whole, tmp_path) -> None:
    run = interrupted(whole, tmp_path / "run", "bilevel loop 1", 2, KilledError())
    for stage in ("tokenising", "bilevel loop 1", "bilevel loop 2", "contest"):

        def seen(now: str, units: int, stage: str = stage) -> None:
            if now.startswith(stage):
                raise KilledError

        with pytest.raises(KilledError):
            resume(run, progress=Watcher(seen))

    found = resume(run, progress=Progress())

    assert ends_the_same(found, whole)
    assert len(found.manifest()["resumed"]) == 5


@pytest.mark.slow
def test_a_torn_checkpoint_costs_some_steps_and_no_bit(whole, tmp_path) -> None:
    run = interrupted(whole, tmp_path / "run", "contest", 0, KilledError())
    last = sorted(run.checkpoints.iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-100])
    watcher = Watcher(lambda stage, done: None)

    found = resume(run, progress=watcher)

    assert any(text.startswith(f"checkpoint {last.name} is passed over") for text in watcher.said)
    assert ends_the_same(found, whole)


@pytest.mark.slow
def test_checkpoints_are_gone_when_the_run_has_finished(whole, tmp_path) -> None:
    run = interrupted(whole, tmp_path / "run", "contest", 0, KilledError())
    assert len(list(run.checkpoints.iterdir())) == 2

    resume(run, progress=Progress())

    assert not run.checkpoints.exists()
    assert not whole.checkpoints.exists()


@pytest.fixture(scope="module")
def stopped(whole: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that ended in its contest; to be copied before it is changed."""
    out = tmp_path_factory.mktemp("stopped") / "run"
    return interrupted(whole, out, "contest", 0, KilledError())


def copied(run: Run, folder: Path) -> Run:
    shutil.copytree(run.folder, folder / "copy")
    return load_run(folder / "copy")


def test_a_finished_run_is_given_back_as_it_is(whole) -> None:
    def held() -> dict:
        return {path: path.read_bytes() for path in whole.folder.rglob("*") if path.is_file()}

    before = held()

    assert resume(whole, progress=Progress()) == whole

    assert held() == before


def test_other_settings_are_refused_by_name(stopped, tmp_path) -> None:
    run = copied(stopped, tmp_path)
    path = run.folder / "config.toml"
    path.write_text(path.read_text().replace("hidden = 32", "hidden = 16"))

    with pytest.raises(RunError, match=r"outer\.hidden was 32 and is 16"):
        resume(run, progress=Progress())


def test_another_version_of_a_package_is_refused_by_name(stopped, tmp_path, monkeypatch) -> None:
    run = copied(stopped, tmp_path)
    monkeypatch.setattr("trajweight.manifest.version_of", lambda name: "0.0.1")

    with pytest.raises(RunError, match=r"torch was .* and is 0\.0\.1"):
        resume(run, progress=Progress())

    assert list(run.checkpoints.iterdir())


def test_settings_that_are_none_are_refused(stopped, tmp_path) -> None:
    run = copied(stopped, tmp_path)
    (run.folder / "config.toml").write_text("seed = 'x'")

    with pytest.raises(ConfigError, match=r"config\.toml: seed is 'x'"):
        resume(run, progress=Progress())


def test_an_input_that_changed_is_refused_and_nothing_is_touched(stopped, tmp_path) -> None:
    run = copied(stopped, tmp_path)
    told = run.manifest()
    told["inputs"][0]["sha256"] = "0" * 64
    run.save_manifest(told, status="interrupted")
    before = {path.name for path in run.folder.iterdir()}

    with pytest.raises(RunError, match=r"real\.jsonl: is not what it was when the run began"):
        resume(run, progress=Progress())

    assert {path.name for path in run.folder.iterdir()} == before


def test_an_input_that_is_gone_is_named(stopped, tmp_path) -> None:
    run = copied(stopped, tmp_path)
    told = run.manifest()
    told["inputs"][0]["path"] = "elsewhere.jsonl"
    run.save_manifest(told, status="interrupted")

    with pytest.raises(DataError, match=r"elsewhere\.jsonl: does not exist") as caught:
        resume(run, progress=Progress())

    assert "working folder" in caught.value.hint


def test_a_run_that_learns_nothing_cannot_be_gone_on_with(whole, tmp_path) -> None:
    found = ingest(config(whole).data, tmp_path / "in", force=False, progress=Progress())
    found.save_manifest({**found.manifest(), "status": "interrupted"})

    with pytest.raises(RunError, match="only a run that learns weights"):
        resume(found, progress=Progress())


def test_force_clears_the_checkpoints_of_the_run_before(stopped, tmp_path) -> None:
    run = copied(stopped, tmp_path)
    (run.checkpoints / ".000009.safetensors.0badcafe.part").write_bytes(b"half")

    create_run(run.folder, force=True)

    assert sorted(path.name for path in run.folder.iterdir()) == ["manifest.json"]


def test_what_somebody_put_beside_the_checkpoints_stays(stopped, tmp_path) -> None:
    run = copied(stopped, tmp_path)
    (run.checkpoints / "notes.txt").write_text("mine")

    run.remove_checkpoints()

    assert [path.name for path in run.checkpoints.iterdir()] == ["notes.txt"]


def test_a_folder_of_checkpoints_that_no_run_made_is_not_taken(tmp_path) -> None:
    (tmp_path / "checkpoints").mkdir()

    with pytest.raises(ConfigError, match="holds checkpoints, and no run of trajweight"):
        create_run(tmp_path, force=True)


def told_of(run: Run) -> dict[str, Any]:
    found = json.loads((run.folder / "manifest.json").read_text())
    assert isinstance(found, dict)
    return found


def test_the_manifest_names_inputs_and_settings_from_the_start(whole, tmp_path) -> None:
    seen = []

    def look(stage: str, done: int) -> None:
        seen.append(told_of(Run(tmp_path / "in")))

    ingest(config(whole).data, tmp_path / "in", force=False, progress=Watcher(look))

    first, last = seen[0], told_of(Run(tmp_path / "in"))
    assert (first["status"], last["status"]) == ("started", "finished")
    for name in ("arguments", "argv", "started", "kind"):
        assert first[name] == last[name]
    # What was not read yet has no hash, since it is hashed while it is read.
    assert first["inputs"] == [{**each, "sha256": None} for each in last["inputs"]]
    assert all(each["sha256"] for each in last["inputs"])
