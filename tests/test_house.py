"""The plan of the house, held to what is really built."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import trajweight

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent

# A line is a floor; a line's parts between bars are rooms of the data, maths and results wings,
# and a line without bars belongs to all. A folder stands for all its modules. An import runs to a
# lower floor or stays in its room, and never crosses to another wing.
FLOORS = """
11 cli
10 pipeline turnwise card bench
9  learning scorers rivals preparing real_share
8  job ground student verdict material objective choosing trained_head journal retraining folding
8  tracking originals export verification
8  join joinedrows joinedtable weightbook hub
7                                           | bilevel outer contest warmup |
6                                           | estimators inner             |
5  features losses layout prefixes          |                              | analysis
5  deduplication inputs trainers            |                              | selection
4  reading rowreader rows table survey      | problem adamw reweighting    | run manifest
4  splitting leakage copies sketches        | returns                      | dial buckets resampling
4  tokenization masking rendering messages chat_format encoded           | |
4  models backbone devices embedded tiny    |                              |
3  fields identity filefacts problems repair remains duplicates           | |
2  config trajectory weights formats containers records cache quiet processes checkpoint storage
1  errors progress files jsontext stopwatch interruption workers adapters claim
"""
WINGS = ("data", "maths", "results")

#: They run where a trainer is installed, which is never here.
FOREIGN = ("trajweight.adapters.", "trajweight.verification.probes.")

HEAVY = {"torch", "transformers", "peft", "datasets", "sklearn", "matplotlib", "polars"}


class Place(NamedTuple):
    floor: int
    line: int
    wing: str  # empty for a floor that belongs to all


def places() -> dict[str, Place]:
    """Where the drawing puts each module or folder."""
    found: dict[str, Place] = {}
    for line, text in enumerate(FLOORS.strip().splitlines()):
        number, _, rest = text.partition(" ")
        wings = WINGS if "|" in rest else ("",)
        for wing, room in zip(wings, rest.split("|"), strict=True):
            for name in room.split():
                assert name not in found, f"{name} is drawn twice"
                found[name] = Place(int(number), line, wing)
    return found


def modules() -> dict[str, Path]:
    """Every module by its full name; the links inside trajweight/ are not followed."""
    found = {}
    for folder, package in {
        ROOT / "trajweight": "trajweight",
        ROOT / "cli": "trajweight.cli",
        ROOT / "analysis": "trajweight.analysis",
    }.items():
        for path in folder.rglob("*.py"):
            inside = path.relative_to(folder)
            if not (folder / inside.parts[0]).is_symlink():
                parts = [part for part in inside.with_suffix("").parts if part != "__init__"]
                found[".".join([package, *parts])] = path
    return found


MODULES = modules()
PLACES = places()


def room_of(module: str) -> str:
    """What the drawing calls a module: the name below ``trajweight``."""
    return module.split(".")[1]


def imports_of(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names that these statements import, names in our modules taken for their module."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else name.rpartition(".")[0] for name in whole}
    return found


def arrows() -> Iterator[tuple[str, str]]:
    """Imports between our modules, those for types and those inside functions included."""
    for module, path in MODULES.items():
        if module != "trajweight":  # its names are imported when asked for
            used = imports_of(ast.walk(ast.parse(path.read_text("utf-8")))) & set(MODULES)
            yield from ((module, other) for other in sorted(used - {module, "trajweight"}))


def others_used(room: str, *, at_start_only: bool) -> set[str]:
    """Top-level names of other libraries that a room's modules import."""
    found = set()
    for module, path in MODULES.items():
        if module != "trajweight" and room_of(module) == room:
            tree = ast.parse(path.read_text("utf-8"))
            found |= imports_of(iter(tree.body) if at_start_only else ast.walk(tree))
    return {name.split(".")[0] for name in found} - sys.stdlib_module_names - {"trajweight"}


def test_every_module_stands_in_the_drawing_and_nothing_else_does() -> None:
    built = {room_of(module) for module in MODULES if module != "trajweight"}

    assert built == set(PLACES)


def test_imports_run_down_the_floors_and_never_across_the_wings() -> None:
    wrong = []
    for module, other in arrows():
        one, two = room_of(module), room_of(other)
        here, there = PLACES[one], PLACES[two]
        runs_down = there.floor < here.floor or (here.line, here.wing) == (there.line, there.wing)
        crosses = here.wing and there.wing and here.wing != there.wing
        if one != two and (not runs_down or crosses):
            wrong.append(f"{module} imports {other}")

    assert not wrong


def test_no_import_closes_a_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for module, other in arrows():
        graph[module].add(other)

    TopologicalSorter(graph).prepare()


def test_the_maths_knows_tensors_only_and_results_open_without_torch() -> None:
    maths = {room for room, place in PLACES.items() if place.wing == "maths"}
    results = {room for room, place in PLACES.items() if place.wing == "results"}

    assert all(others_used(room, at_start_only=False) <= {"torch"} for room in maths)
    assert not any(
        others_used(room, at_start_only=True) & {"torch", "transformers", "peft", "datasets"}
        for room in results
    )


def test_public_names_resolve_and_types_and_run_time_agree() -> None:
    tree = ast.parse((ROOT / "trajweight" / "__init__.py").read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    shown = {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert sorted(shown) == trajweight.__all__
    for name, home in shown.items():
        assert getattr(trajweight, name) is getattr(importlib.import_module(home), name)


def test_every_all_resolves() -> None:
    for module in MODULES:
        if not module.endswith("__main__") and not module.startswith(FOREIGN):
            loaded = importlib.import_module(module)
            missing = [name for name in getattr(loaded, "__all__", ()) if not hasattr(loaded, name)]
            assert not missing, module


def test_the_packages_on_disk_are_the_packages_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    on_disk = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    folders = {path.parent for path in MODULES.values()}

    assert sorted(on_disk) == sorted(settings["tool"]["setuptools"]["packages"])
    assert all((folder / "__init__.py").is_file() for folder in folders)
    assert settings["project"]["version"] == trajweight.__version__


@pytest.mark.parametrize(
    "start",
    [
        "import trajweight.cli.main",
        "import runpy; sys.argv = ['trajweight', '--help']\n"
        "try: runpy.run_module('trajweight.cli', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code",
    ],
    ids=["import", "help"],
)
def test_the_command_line_starts_without_heavy_libraries(start: str) -> None:
    program = f"import sys\n{start}\nprint('loaded:', *sorted({HEAVY!r} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.slow
def test_the_wheel_puts_only_trajweight_into_site_packages(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", reason="the wheel is built with the setuptools at hand")
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    for name in ("trajweight", "cli", "analysis"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]

    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True)

    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {module.replace(".", "/") for module in MODULES}
    built = {name.removesuffix(".py").removesuffix("/__init__") for name in names}
    page = {f"trajweight/analysis/page.{kind}" for kind in ("html", "css", "js")}
    schema = {"trajweight/analysis/report.schema.json"}
    grids = {f"trajweight/bench/{path.name}" for path in (ROOT / "trajweight/bench").glob("*.toml")}
    assert len(grids) > 1
    assert built == expected | {"trajweight/py.typed"} | page | schema | grids
