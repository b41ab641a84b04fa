"""Runs a probe in a trainer's environment: ``python runner.py REQUEST.json``.

The request names the probe's file, the model, and by name the exports to ask about, each with the
size of its micro-batches. Gradients go to one safetensors file, each as one row of numbers, and the
versions of the packages to a JSON file. Nothing of trajweight is imported.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

#: Said by the exit code when a package that the probe needs is not there.
MISSING = 5


def main(path: Path) -> int:
    """Answer a request."""
    request: dict[str, Any] = json.loads(path.read_text("utf-8"))
    probe = _loaded(Path(request["probe"]))
    versions = {name: _version_of(name) for name in probe.PACKAGES}
    Path(request["versions"]).write_text(json.dumps(versions), "utf-8")
    if not all(versions.values()):
        return MISSING
    import torch
    from safetensors.torch import save_file

    torch.use_deterministic_algorithms(True, warn_only=True)
    found = {}
    for name, asked in request["trials"].items():
        torch.manual_seed(0)
        gradient = probe.gradient(
            Path(asked["export"]), Path(request["model"]), asked["micro_batch"]
        )
        parts = [gradient[key].detach().float().cpu().reshape(-1) for key in sorted(gradient)]
        found[name] = torch.cat(parts)
    save_file(found, request["gradients"])
    return 0


def _loaded(path: Path) -> Any:
    """The probe, a module of its own."""
    spec = importlib.util.spec_from_file_location("trajweight_probe", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    # A probe is named like its trainer, and must not be found in its place.
    sys.path.remove(str(Path(__file__).parent))
    sys.exit(main(Path(sys.argv[1])))
