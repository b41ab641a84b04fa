"""The page of results, made from the finished cells: RESULTS.md and its figures.

No sentence on a result is written by hand. Each is chosen by what the intervals say, so that the
page is right for one seed as well, where it claims nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from trajweight.analysis.markdown import escaped, table
from trajweight.bench.results_cells import read_cells, read_claims
from trajweight.bench.results_claims import claims as claims_of
from trajweight.bench.results_facts import facts_of
from trajweight.bench.results_figures import save_figures
from trajweight.bench.results_tables import FIGURES, changed, folded, of_model
from trajweight.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from trajweight.bench.results_cells import Cell, Claims, Setting
    from trajweight.bench.results_facts import ModelFacts

PAGE: Final = "RESULTS.md"
#: What was fixed before the runs.
PRIMARY: Final = Path(__file__).parent / "primary.toml"


class Planned(NamedTuple):
    """A cell that shall be run."""

    model: str
    setting: Setting
    seed: int
    method: str
    ablation: str = "{}"


def write_results(
    cells_path: Path,
    folder: Path,
    claims: Path = PRIMARY,
    *,
    planned: Collection[Planned] | None = None,
) -> list[Path]:
    """Write the page and its figures.

    Args:
        cells_path: Finished cells, one JSON object a line.
        folder: Where RESULTS.md and its folder of figures shall stand.
        claims: What was fixed before the runs.
        planned: All cells of the plan; when not given, every method in every setting that occurs,
            with as many seeds as ``claims`` plans.

    Returns:
        The files that were written, the page first.

    Raises:
        DataError: If a line of the cells cannot be read.
        ConfigError: If ``claims`` cannot.
    """
    fixed = read_claims(claims)
    cells = read_cells(cells_path)
    found = facts_of(cells, fixed)
    pictures: dict[str, list[Path]] = {}
    for facts in found:
        pictures[facts.model] = save_figures(facts, folder / FIGURES)
    names = {model: {path.stem for path in paths} for model, paths in pictures.items()}
    page = folder / PAGE
    write_atomically(page, document(found, cells, fixed, planned, names).encode())
    return [page, *(path for paths in pictures.values() for path in paths)]


def document(
    found: Sequence[ModelFacts],
    cells: Sequence[Cell],
    claims: Claims,
    planned: Collection[Planned] | None,
    pictures: dict[str, set[str]],
) -> str:
    """The page as Markdown."""
    parts = [
        "# Results",
        "Made from the finished cells by one command; nothing here is written by hand. Intervals "
        "hold the truth in 95 of 100 cases where their assumptions do. They draw seeds again, and "
        "then tasks, and use Student's quantile; the settings of the grid are "
        f"{'all that is spoken of' if claims.settings == 'fixed' else 'drawn again too'}. "
        "IQM is the interquartile mean.",
        "## What we claim, and what we do not",
        *(part for facts in found for part in claims_of(facts)),
        "Nothing here compares with figures of the authors of BOOST, and nothing speaks of "
        "environments, models or noise that are not in the grid.",
        "## What was run",
        *_ran(found, cells, claims, planned),
        *(part for facts in found for part in of_model(facts, pictures[facts.model])),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _ran(
    found: Sequence[ModelFacts],
    cells: Sequence[Cell],
    claims: Claims,
    planned: Collection[Planned] | None,
) -> list[str]:
    """Cells done of cells planned, and what is missing."""
    plan = set(_cross(found, cells) if planned is None else planned)
    done = {Planned(*_key(cell)) for cell in cells}
    missing = sorted(plan - done)
    rows = [
        [
            escaped(facts.model),
            str(len(facts.seeds)),
            str(claims.seeds.get(facts.model, "-")),
            ", ".join(map(escaped, facts.environments)),
            ", ".join(sorted({f"{one.noise:.0%}" for one in facts.settings}, key=_percent)),
            ", ".join(map(str, sorted({one.n_validation for one in facts.settings}))),
            str(len(facts.methods)),
            str(len(facts.cells) + len(facts.ablated) + len(facts.transferred)),
        ]
        for facts in found
    ]
    heads = ("model", "seeds", "planned", "environments", "noise", "validation", "methods", "cells")
    whose = "of the plan" if planned is not None else "of every method in every setting that occurs"
    text = f"{len(plan & done)} of {len(plan)} cells {whose} are done."
    extra = len(done - plan)
    if extra:
        text += f" {extra} more were run beyond it."
    lines = _missing(missing)
    bare = [
        f"{metric.name} is missing in {n} of {len(cells)} cells."
        for metric in claims.primary
        if (n := sum(cell.number(metric.path) is None for cell in cells))
    ]
    chosen = _chosen(cells)
    return [
        text,
        table(heads, rows),
        " ".join(bare),
        chosen,
        folded(f"{len(missing)} cells are missing", "\n".join(lines)) if lines else "",
    ]


def _cross(found: Sequence[ModelFacts], cells: Sequence[Cell]) -> Iterable[Planned]:
    """Every method in every setting that occurs, with all seeds; ablations where they occur."""
    for facts in found:
        n = facts.claims.seeds.get(facts.model, 0)
        spare = (seed for seed in range(n) if seed not in facts.seeds)
        lacking = max(0, n - len(facts.seeds))
        seeds = [*facts.seeds, *(seed for seed, _ in zip(spare, range(lacking), strict=False))]
        yield from (
            Planned(facts.model, setting, seed, method)
            for setting in facts.settings
            for method in facts.methods
            for seed in seeds
        )
    yield from (Planned(*_key(cell)) for cell in cells if cell.ablation != "{}")


def _key(cell: Cell) -> tuple[str, Setting, int, str, str]:
    return cell.model, cell.setting, cell.seed, cell.method, cell.ablation


def _missing(cells: Iterable[Planned]) -> list[str]:
    """A line for each setting and method, with the seeds that are not there."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for cell in cells:
        name = cell.method if cell.ablation == "{}" else f"{cell.method}, {changed(cell.ablation)}"
        found.setdefault((cell.model, str(cell.setting), name), []).append(cell.seed)
    return [
        f"- {escaped(f'{model}, {setting}: {method}')}: seeds {', '.join(map(str, sorted(seeds)))}"
        for (model, setting, method), seeds in found.items()
    ]


def _chosen(cells: Sequence[Cell]) -> str:
    """What was chosen on dev, and how often."""
    counts: dict[str, int] = {}
    for cell in cells:
        selected = cell.record.get("selected")
        if selected is not None:
            counts[selected] = counts.get(selected, 0) + 1
    told = ", ".join(f"{escaped(name)} in {n} cells" for name, n in sorted(counts.items()))
    return f"Chosen on dev: {told}." if told else ""


def _percent(text: str) -> float:
    return float(text.rstrip("%"))
