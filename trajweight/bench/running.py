"""A grid run cell by cell; what is finished stays, and is not run again."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from trajweight.bench.base_model import Recipe, small_model
from trajweight.bench.controls import TRANSFERRED
from trajweight.bench.environments import ENVIRONMENTS
from trajweight.bench.finetuning import FineTuning
from trajweight.bench.generated import generated
from trajweight.bench.grid import SMALL
from trajweight.bench.policies import expert, play
from trajweight.bench.trial import Trial
from trajweight.errors import MissingError, TrajweightError
from trajweight.models import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trajweight.bench.episodes import Planted
    from trajweight.bench.grid import Grid
    from trajweight.bench.ledger import Ledger
    from trajweight.bench.results import Planned
    from trajweight.bench.results_cells import Setting
    from trajweight.progress import Progress

#: Experts that a model is shown before it plays for the pool, and games that it plays.
_SHOWN, _PLAYED = 12, 60


def run_grid(grid: Grid, ledger: Ledger, progress: Progress, only: Sequence[str] = ()) -> list[str]:
    """Run every cell of a grid that the ledger lacks.

    A pool or a cell that fails costs itself only: why is told, and written beside the cells.

    Args:
        grid: The plan.
        ledger: Gets every cell as soon as it is finished.
        progress: Told of everything.
        only: Environments; all by default.

    Returns:
        Why cells were left out, in sentences.

    Raises:
        MissingError: If a package, Java or the model is missing.
    """
    left_out: list[str] = []
    missing = [cell for cell in grid.cells(only) if cell not in ledger.done]
    if not missing:
        return left_out
    model, larger = _model_of(grid, progress), ""
    if any(cell.method in TRANSFERRED for cell in missing):
        larger = _larger_of(grid, progress)

    def leave_out(cell: Planned, error: TrajweightError) -> None:
        if isinstance(error, MissingError):
            raise error
        why = f"{cell.method}, seed {cell.seed}, {cell.setting}: {error.message}"
        left_out.append(why)
        progress.warn(why)
        ledger.leave_out(cell, error.message)

    for (seed, setting), group in groupby(missing, key=lambda cell: (cell.seed, cell.setting)):
        cells = list(group)
        progress.say(f"seed {seed}: {setting}")
        with TemporaryDirectory(prefix="trajweight-bench-") as folder:
            try:
                rows = _generated(grid, setting, seed, model, progress)
                trial = Trial(
                    grid, setting, seed, model, Path(folder), progress, rows, larger=larger
                )
            except TrajweightError as error:
                for cell in cells:
                    leave_out(cell, error)
                continue
            for cell in cells:
                try:
                    facts = trial.cell(cell)
                except TrajweightError as error:
                    leave_out(cell, error)
                else:
                    ledger.add(cell, facts)
                    progress.say(_told(cell, facts))
    return left_out


def _told(cell: Planned, facts: Mapping[str, Any]) -> str:
    """A finished cell in a line."""
    area = (facts["weights"] or {}).get("auroc")
    return (
        f"{cell.method}{'' if cell.ablation == '{}' else ' ' + cell.ablation}: test NLL "
        f"{facts['nll']['test']:.4f}"
        + "".join(f", {name} return {each['return']:.2f}" for name, each in facts["play"].items())
        + ("" if area is None else f", AUROC {area:.2f}")
    )


def _model_of(grid: Grid, progress: Progress) -> str:
    """The folder or name of the base model; the small one is trained first where needed."""
    return _trained_model(grid, grid.model, grid.recipe, progress)


def _larger_of(grid: Grid, progress: Progress) -> str:
    """The same of the model that weights are transferred to."""
    return _trained_model(grid, grid.larger, grid.larger_recipe, progress)


def _trained_model(grid: Grid, name: str, recipe: dict[str, Any], progress: Progress) -> str:
    if name != SMALL:
        return name
    environments = [ENVIRONMENTS[each]() for each in grid.environments]
    return str(small_model(environments, Recipe(**recipe), progress))


def _generated(
    grid: Grid, setting: Setting, seed: int, model: str, progress: Progress
) -> list[Planted]:
    """Games that a fine-tuned copy of the base model plays, where the grid asks for them."""
    if not grid.with_generated:
        return []
    settings = grid.settings({})
    loaded = load_model(
        model, device=settings.model.device, dtype=settings.model.dtype, progress=progress
    )
    environment = ENVIRONMENTS[setting.environment]()
    rng = Random(f"{seed}/generated")
    tasks = list(environment.tasks("train"))
    chosen = rng.sample(tasks, min(len(tasks), _SHOWN + _PLAYED))
    shown = [play(environment, task, expert(), rng) for task in chosen[:_SHOWN]]
    return generated(
        loaded,
        environment,
        shown,
        chosen[_SHOWN:],
        FineTuning(seed=seed, max_tokens=settings.model.max_tokens),
        progress,
        seed=seed,
    )
