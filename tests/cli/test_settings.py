from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import call
from trajweight.cli._options import SETTINGS, Learning
from trajweight.cli._settings import resolve, run_folder
from trajweight.config import DataConfig, RunConfig
from trajweight.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def printed(*args: object, env: dict[str, str] | None = None) -> dict[str, Any]:
    """The settings a command line comes to."""
    said = call("score", *args, "--print-config", env=env)
    assert said.code == 0, said.err
    return tomllib.loads(said.out)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(
        'seed = 3\n[model]\nmax_tokens = 300\n[data]\npaths = ["a.jsonl"]\nreal_sources = ["x"]\n'
    )
    return path


def test_without_options_the_settings_are_the_defaults() -> None:
    assert RunConfig.from_toml(call("score", "--print-config").out) == RunConfig()


def test_what_is_printed_gives_the_same_settings_again(tmp_path: Path) -> None:
    first = call("score", "b.jsonl", "--max-steps", 5, "--real", "x", "--print-config").out
    (tmp_path / "again.toml").write_text(first)

    assert call("score", "--config", tmp_path / "again.toml", "--print-config").out == first


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(file: Path) -> None:
    env = {"TRAJWEIGHT_MAX_TOKENS": "200"}

    assert printed()["model"]["max_tokens"] == RunConfig().model.max_tokens
    assert printed("--config", file)["model"]["max_tokens"] == 300
    assert printed("--config", file, env=env)["model"]["max_tokens"] == 200
    args = ("--config", file, "--max-tokens", 100)
    assert printed(*args, env=env)["model"]["max_tokens"] == 100


def test_the_seed_follows_the_same_order(file: Path) -> None:
    assert printed("--config", file)["seed"] == 3
    assert printed("--config", file, env={"TRAJWEIGHT_SEED": "4"})["seed"] == 4
    assert printed("--config", file, "--seed", 0, env={"TRAJWEIGHT_SEED": "4"})["seed"] == 0


def test_a_flag_beats_what_could_not_stand_beside_another_setting_of_the_file(tmp_path) -> None:
    by_text, shared = tmp_path / "by-text.toml", tmp_path / "shared.toml"
    by_text.write_text('method = "dsir"\n')
    shared.write_text('[data]\nreal_share = "auto"\n')
    learned, given = ("--method", "learned"), ("--real-share", 0.3)

    found = printed("--config", by_text, *learned, "--real-share", "auto")
    assert (found["method"], found["data"]["real_share"]) == ("learned", "auto")
    found = printed("--config", shared, "--method", "dsir", *given)
    assert (found["method"], found["data"]["real_share"]) == ("dsir", 0.3)
    said = call("score", "a.jsonl", "--config", shared, "--method", "dsir")
    assert said.code == 2
    assert "real_share is auto" in said.err


def test_lists_on_the_command_line_take_the_place_of_those_in_the_file(file: Path) -> None:
    kept, changed = printed("--config", file), printed("--config", file, "b.jsonl", "--real", "y")

    assert (kept["data"]["paths"], kept["data"]["real_sources"]) == (["a.jsonl"], ["x"])
    assert (changed["data"]["paths"], changed["data"]["real_sources"]) == (["b.jsonl"], ["y"])


def test_the_settings_file_itself_may_come_from_the_environment(file: Path) -> None:
    assert printed(env={"TRAJWEIGHT_CONFIG": str(file)})["seed"] == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("val", ["v.jsonl"]),
        ("real", ["a", "b"]),
        ("synthetic", ["c"]),
        ("format", "sharegpt"),
        ("map", ["reward=info.score", "messages=chat"]),
        ("repair", True),
        ("dedup", "near"),
        ("max_row_bytes", 9),
        ("limit", 4),
        ("real_share", 0.25),
        ("real_share", "auto"),
        ("model", "tiny"),
        ("device", "cpu"),
        ("dtype", "float32"),
        ("adapter_layers", 0),
        ("max_tokens", 9),
        ("vocabulary", "full"),
        ("batch_size", 3),
        ("max_steps", 7),
        ("ess_penalty", 0.5),
        ("objective", "return-weighted"),
        ("prior", "filtered"),
    ],
)
def test_every_option_reaches_its_setting(option: str, value: Any) -> None:
    flag = f"--{option.replace('_', '-')}"
    each = value if isinstance(value, list) else [value]
    words = (flag,) if value is True else (word for item in each for word in (flag, item))
    section, _, name = SETTINGS[option].partition(".")

    found = printed("d.jsonl", *words)

    assert found["data"]["paths"] == ["d.jsonl"]
    assert found[section][name] == value


def test_force_also_learns_from_few_validation_rows() -> None:
    assert resolve(Learning(force=True)).data.force
    assert not resolve(Learning()).data.force


def test_settings_are_printed_as_json_too() -> None:
    found = call("score", "--print-config", "--json", "--max-tokens", 7).object

    assert found["config"]["model"]["max_tokens"] == 7


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = ", "no TOML"),
        ("[model]\nmax_token = 3", "model.max_token is 3"),
        ("[model]\nmax_tokens = 0", "max_tokens is 0"),
        ('[model]\nmax_tokens = "many"', "model.max_tokens is 'many'"),
        ("model = 3", "model is 3"),
    ],
)
def test_a_settings_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)

    said = call("score", "a.jsonl", "--config", path)

    assert said.code == 2
    assert str(path) in said.err
    assert told in said.err


def test_a_settings_file_that_is_missing_or_a_folder_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        said = call("score", "a.jsonl", "--config", path)

        assert said.code == 2
        assert f"--config {path}" in said.err


def test_a_value_out_of_range_names_the_flag() -> None:
    for args in (
        ("--real-share", 2),
        ("--real-share", "most"),
        ("--max-tokens", 0),
        ("--adapter-layers", -1),
    ):
        said = call("score", "a.jsonl", *args)

        assert said.code == 2
        assert str(args[0]) in said.err


@pytest.mark.parametrize("command", ["score", "ingest", "train-bilevel"])
def test_no_files_is_a_usage_error(command: str) -> None:
    said = call(command)

    assert said.code == 2
    assert "PATHS" in said.err


def test_a_run_is_named_by_time_and_first_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = DataConfig(paths=("x/my chats.v2.jsonl.gz", "b.jsonl"))

    first = run_folder(Learning(), data)
    first.mkdir(parents=True)
    second = run_folder(Learning(), data)

    assert first.parts[0] == "runs"
    assert first.name.endswith("Z-my-chats")
    assert second != first
    assert run_folder(Learning(out=tmp_path), data) == tmp_path


def test_a_run_needs_something_to_read() -> None:
    with pytest.raises(ConfigError, match="no files given"):
        run_folder(Learning(), DataConfig())
