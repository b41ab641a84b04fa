from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tests.commands import call
from tests.runs import make_run, row
from trajweight.errors import ConfigError, MissingError, TrajweightError
from trajweight.hub import push_to_hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Hub:
    """A small hub on this machine that the real client speaks to."""

    is_private: bool = True
    status: int = 200
    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    url: str = ""

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/create"):
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/datasets/me/set"}
        if "/preupload/" in path:
            asked = json.loads(body)["files"]
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": each["path"], **modes} for each in asked]}
        if "/commit/" in path:
            for line in body.splitlines():
                told = json.loads(line)
                if told["key"] == "file":
                    self.files[told["value"]["path"]] = base64.b64decode(told["value"]["content"])
            return {"commitUrl": f"{self.url}/datasets/me/set/commit/1", "commitOid": "1" * 40}
        return {"id": "me/set", "private": self.is_private, "sha": "0" * 40, "siblings": []}


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told = {"error": "no"} if state.status != 200 else state.answer(self.path, body)
            text = json.dumps(told).encode()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "export"
    (made / "data").mkdir(parents=True)
    (made / "README.md").write_text("---\nlicense: mit\n---\n")
    (made / "data/train.jsonl").write_bytes(b'{"weight":1.0}\n')
    return made


def test_every_file_arrives_in_a_private_dataset(hub: Hub, folder: Path) -> None:
    url = push_to_hub(folder, "me/set", token="hf_x", endpoint=hub.url)

    assert hub.files == {
        "README.md": b"---\nlicense: mit\n---\n",
        "data/train.jsonl": b'{"weight":1.0}\n',
    }
    assert hub.created[0]["name"] == "set"
    assert hub.created[0]["type"] == "dataset"
    assert hub.created[0].get("private", hub.created[0].get("visibility")) in (True, "private")
    assert url == f"{hub.url}/datasets/me/set"


def test_a_dataset_that_is_public_gets_nothing_unless_it_may_be(hub: Hub, folder: Path) -> None:
    hub.is_private = False

    with pytest.raises(ConfigError, match="already on the Hub, and public"):
        push_to_hub(folder, "me/set", token="hf_x", endpoint=hub.url)
    assert not hub.files
    push_to_hub(folder, "me/set", token="hf_x", endpoint=hub.url, private=False)
    assert len(hub.files) == 2


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, MissingError, "does not accept the token"),
        (403, TrajweightError, "may not write to me/set"),
        (404, TrajweightError, "there is no me/set"),
        (400, TrajweightError, "with status 400"),
    ],
)
def test_a_refusal_is_told_in_words(
    hub: Hub, folder: Path, status: int, kind: type[TrajweightError], words: str
) -> None:
    hub.status = status

    with pytest.raises(kind, match=words):
        push_to_hub(folder, "me/set", token="hf_x", endpoint=hub.url)


def test_who_is_not_logged_in_is_told_how(
    hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "none"))

    with pytest.raises(MissingError, match="nobody is logged in") as found:
        push_to_hub(folder, "me/set", endpoint=hub.url)

    assert "hf auth login" in found.value.hint
    assert not hub.created


def test_a_hub_that_cannot_be_reached_is_told(folder: Path) -> None:
    with pytest.raises(MissingError, match="cannot be reached"):
        push_to_hub(folder, "me/set", token="hf_x", endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize("name", ["a/b/c", "me/-- set", ""])
def test_a_name_that_is_none_is_refused(hub: Hub, folder: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        push_to_hub(folder, name, token="hf_x", endpoint=hub.url)


def test_a_folder_without_a_card_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no README\.md"):
        push_to_hub(tmp_path, "me/set", token="hf_x", endpoint=hub.url)


def test_the_command_sends_an_export_with_its_card(hub: Hub, tmp_path: Path) -> None:
    rows = [row("s1", license="mit"), row("s2", license="mit", text="other"), row("s3", text="!")]
    run = make_run(tmp_path, rows, {"s1": 1.0, "s2": 2.0, "s3": 3.0})
    out = tmp_path / "out"
    arguments = [str(run.folder), "--to", "openai", "--out", str(out), "--push-to-hub", "me/set"]

    done = subprocess.run(
        [sys.executable, "-m", "trajweight.cli", "export-weights", *arguments, "--json"],
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        check=True,
    )

    assert json.loads(done.stdout)["outputs"]["hub"].startswith(hub.url)
    assert hub.created[0].get("private", hub.created[0].get("visibility")) in (True, "private")
    sent = hub.files["README.md"].decode()
    assert sent.startswith("---\n")
    assert "mit" in sent
    assert "unknown" in sent  # one row says no licence
    named = {each["name"]: each["sha256"] for each in json.loads(hub.files["export.json"])["files"]}
    assert hashlib.sha256(hub.files["README.md"]).hexdigest() == named["README.md"]


def test_data_without_a_card_is_not_sent(hub: Hub, tmp_path: Path) -> None:
    run = make_run(tmp_path, [row("s1")], {"s1": 1.0})

    said = call(
        "export-weights", run.folder, "--out", tmp_path / "a.jsonl", "--push-to-hub", "me/set"
    )

    assert said.code == 2
    assert "without a card" in said.err
    assert not hub.files
    assert not (tmp_path / "a.jsonl").exists()
