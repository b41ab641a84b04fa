"""Pools of real and synthetic rows mixed by a plan, with the truth of every row.

Real rows are experts on tasks of the dev fold, a task a row, and those that judge at the end on
tasks of the test fold, where the roll-outs are too; synthetic rows are of the train fold.
Within a seed, pools that differ in their noise have the same real rows, and of two sizes of
validation the smaller holds the first rows of the larger.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Final, Literal

from trajweight.bench.corruptions import KINDS, Kind, Stage
from trajweight.bench.episodes import Episode, Planted
from trajweight.errors import ConfigError
from trajweight.files import write_jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trajweight.bench.environment import Environment, Fold

#: Of real rows.
EXPERT_KIND: Final = "expert"
#: Synthetic rows of a task, about.
_ROWS_A_TASK: Final = 4
#: Makers of synthetic rows, and the share of a kind's rows that its own maker has for sure.
_MAKERS: Final = 5
_LOYALTY: Final = 0.5
#: Tasks in a row that may give a kind nothing before the kind is given up.
_PATIENCE: Final = 20


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What a pool shall hold.

    Attributes:
        environment: Its name.
        noise: Share of the synthetic rows that are not of a good kind, 0 to 0.8.
        n_validation: Real rows on which weights are learnt.
        n_real_train: Real rows that are trained on beside the synthetic ones.
        n_dev: Real rows that choose between heads.
        n_test: Real rows that judge at the end.
        n_synthetic: Synthetic rows.
        kinds: Names of the kinds to plant; empty for all.
        rewards: ``honest``: every row claims what its environment paid for the game as it was
            played; ``none``: no row claims anything.
        seed: Of tasks, players and order.
    """

    environment: str
    noise: float = 0.4
    n_validation: int = 50
    n_real_train: int = 20
    n_dev: int = 20
    n_test: int = 50
    n_synthetic: int = 200
    kinds: tuple[str, ...] = ()
    rewards: Literal["honest", "none"] = "honest"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be mixed.

        Raises:
            ConfigError: If a number or a kind is impossible.
        """
        if not 0 <= self.noise <= 0.8:
            _refuse("noise", self.noise, "a share from 0 to 0.8")
        if self.rewards not in ("honest", "none"):
            _refuse("rewards", self.rewards, "honest or none")
        for name in ("n_validation", "n_real_train", "n_dev", "n_test", "n_synthetic"):
            if getattr(self, name) < 0:
                _refuse(name, getattr(self, name), "0 or more rows")
        for name in self.kinds:
            if name not in KINDS:
                _refuse("kinds", name, ", ".join(KINDS))

    @property
    def n_noise(self) -> int:
        """Synthetic rows that are not of a good kind."""
        return round(self.noise * self.n_synthetic)

    @property
    def n_shared_tasks(self) -> int:
        """Tasks that all kinds try first."""
        return max(1, self.n_synthetic // _ROWS_A_TASK)


@dataclass(frozen=True, slots=True)
class PlantedPool:
    """Rows with their truth.

    Attributes:
        plan: What was asked for.
        validation: Real rows.
        real_train: Real rows.
        dev: Real rows.
        test: Real rows.
        synthetic: In an order that tells nothing.
        notes: Where the pool is not as planned, in sentences.
    """

    plan: PoolPlan
    validation: tuple[Planted, ...]
    real_train: tuple[Planted, ...]
    dev: tuple[Planted, ...]
    test: tuple[Planted, ...]
    synthetic: tuple[Planted, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Synthetic rows by kind."""
        return dict(sorted(Counter(row.kind for row in self.synthetic).items()))


def build_pool(
    plan: PoolPlan,
    environments: Mapping[str, Callable[[], Environment]],
    generated: Sequence[Planted] = (),
) -> PlantedPool:
    """Play until the plan is met.

    The noise share is met to the row, and kinds on either side of it share as equally as numbers
    allow. What a kind cannot give is given by the other kinds of its side, and the notes say so.

    Args:
        plan: What to mix.
        environments: The plan's and others, from which off-task rows come, by name.
        generated: Synthetic rows made elsewhere, in tasks of the train fold. Their kinds share with
            those of the plan, each on the side that a row's truth puts it on.

    Raises:
        ConfigError: If the environment is unknown, or a side has no kind that gives enough rows.
    """
    if plan.environment not in environments:
        message = f"no environment {plan.environment!r}"
        raise ConfigError(message, hint=f"There are {', '.join(sorted(environments))}.")
    others = {name: each for name, each in environments.items() if name != plan.environment}
    stage = Stage(environments[plan.environment](), others)
    seen: set[str] = set()
    real, notes = _real_rows(plan, stage, seen)
    _check_generated(generated, stage.environment)
    synthetic: list[Planted] = []
    for good, n in ((True, plan.n_synthetic - plan.n_noise), (False, plan.n_noise)):
        sources = _sources(plan, stage, generated, seen, good=good)
        rows, missing = _shared(sources, n, Random(f"{plan.seed}/sharing/{good}"))
        synthetic += rows
        notes += missing
        if len(rows) < n:
            side = "good" if good else "noisy"
            message = f"{plan.environment}: {len(rows)} of {n} {side} rows could be made"
            raise ConfigError(message, hint=f"{' '.join(notes)} Ask for fewer rows or more kinds.")
    Random(f"{plan.seed}/order").shuffle(synthetic)
    return PlantedPool(
        plan=plan,
        validation=_named(real["validation"], "validation", plan),
        real_train=_named(real["real_train"], "real-train", plan),
        dev=_named(real["dev"], "dev", plan),
        test=_named(real["test"], "test", plan),
        synthetic=_named(synthetic, "synthetic", plan),
        notes=tuple(notes),
    )


def write_pool(pool: PlantedPool, folder: Path) -> dict[str, Path]:
    """Write the rows as data files: ``real``, ``synthetic``, ``validation``, ``dev``, ``test``.

    ``trajweight score real.jsonl synthetic.jsonl --val validation.jsonl`` reads them as they stand.
    A part without rows has no file, and an old one of its name is taken away.

    Returns:
        The files by name.
    """
    parts = {
        "real": pool.real_train,
        "synthetic": pool.synthetic,
        "validation": pool.validation,
        "dev": pool.dev,
        "test": pool.test,
    }
    written = {}
    for name, rows in parts.items():
        path = folder / f"{name}.jsonl"
        if rows:
            write_jsonl(path, (row.as_row() for row in rows))
            written[name] = path
        else:
            path.unlink(missing_ok=True)
    return written


def _real_rows(
    plan: PoolPlan, stage: Stage, seen: set[str]
) -> tuple[dict[str, list[Planted]], list[str]]:
    """Experts who reach the goal, every one in a task of its own."""
    # Validation comes last, so that another size of it changes none of the other rows.
    wanted = {
        "test": plan.n_test,
        "dev": plan.n_dev,
        "real_train": plan.n_real_train,
        "validation": plan.n_validation,
    }
    made = {
        fold: _made(KINDS["good"], stage, _tasks(stage, fold, plan), plan, seen)
        for fold in ("dev", "test")
    }
    rows = {
        name: [
            replace(row, kind=EXPERT_KIND, origin="real")
            for row in islice(made["test" if name == "test" else "dev"], n)
        ]
        for name, n in wanted.items()
    }
    notes = [
        f"{name}: {len(rows[name])} of {n} rows; the fold has no more tasks that the expert "
        f"solves in its own way."
        for name, n in wanted.items()
        if len(rows[name]) < n
    ]
    return rows, notes


def _sources(
    plan: PoolPlan,
    stage: Stage,
    generated: Sequence[Planted],
    seen: set[str],
    *,
    good: bool,
) -> dict[str, Iterator[Planted]]:
    """Streams of rows of one side, by kind."""
    found: dict[str, Iterator[Planted]] = {}
    tasks = _tasks(stage, "train", plan)
    # Several kinds try each task, as several agents would: only inside a task do returns compare.
    shared, others = tasks[: plan.n_shared_tasks], tasks[plan.n_shared_tasks :]
    for place, (name, kind) in enumerate(KINDS.items()):
        if (kind.is_good is True) == good and name in (plan.kinds or KINDS):
            start = place * len(shared) // len(KINDS)
            turned = [*shared[start:], *shared[:start], *others]
            found[name] = _made(kind, stage, turned, plan, seen)
    extra: dict[str, list[Planted]] = {}
    for row in generated:
        if (row.is_good is True) == good:
            extra.setdefault(row.kind, []).append(row)
    for name, rows in sorted(extra.items()):
        order = Random(f"{plan.seed}/generated/{name}").sample(rows, len(rows))
        found[name] = _unseen(order, seen)
    return found


def _shared(
    sources: Mapping[str, Iterator[Planted]], n: int, rng: Random
) -> tuple[list[Planted], list[str]]:
    """Rows from all streams, as equally as they allow."""
    if not n or not sources:
        return [], []
    order = rng.sample(sorted(sources), len(sources))
    asked = {name: n // len(order) + (i < n % len(order)) for i, name in enumerate(order)}
    given: Counter[str] = Counter()
    rows: list[Planted] = []
    running = list(order)
    while running and len(rows) < n:
        # Each in turn gives one, the fullest last: streams that end leave the rest to the others.
        for name in sorted(running, key=lambda each: given[each]):
            if len(rows) == n:
                break
            row = next(sources[name], None)
            if row is None:
                running.remove(name)
                continue
            rows.append(row)
            given[name] += 1
    short = [name for name in order if given[name] < asked[name]]
    notes = [
        f"{name}: {given[name]} of {asked[name]} rows could be made; others stand in for the rest."
        for name in short
    ]
    copies = Counter(row.task for row in rows if row.kind == "duplicates")
    if alone := sum(n_rows == 1 for n_rows in copies.values()):
        notes.append(f"duplicates: of {alone} of their rows the pool holds no other copy.")
    return rows, notes


def _made(
    kind: Kind, stage: Stage, tasks: Sequence[str], plan: PoolPlan, seen: set[str]
) -> Iterator[Planted]:
    """Rows of a kind, task after task, none with the words of another row of the pool."""
    failed = 0
    for task in tasks:
        n_before = len(seen)
        for copy in range(kind.most_of_a_task):
            rng = Random(f"{plan.seed}/{kind.name}/{task}/{copy}")
            episode = kind.make(stage, task, rng)
            if episode is not None and episode.replies:
                yield from _unseen([_row(kind, episode, stage.environment)], seen)
        failed = 0 if len(seen) > n_before else failed + 1
        if failed == _PATIENCE:
            return


def _unseen(rows: Sequence[Planted], seen: set[str]) -> Iterator[Planted]:
    for row in rows:
        text = repr(row.messages)
        if text not in seen:
            seen.add(text)
            yield row


def _row(kind: Kind, episode: Episode, environment: Environment) -> Planted:
    # Environments name their tasks alike; a task of another one must not pass for one of these.
    is_own = episode.environment == environment.name
    return Planted(
        traj_id="",
        kind=kind.name,
        origin="synthetic",
        is_good=kind.is_good,
        reward=episode.score,
        task=episode.task if is_own else f"{episode.environment}/{episode.task}",
        messages=tuple(episode.messages),
    )


def _named(rows: Sequence[Planted], part: str, plan: PoolPlan) -> tuple[Planted, ...]:
    """Rows with ids that tell nothing of their worth, and the claims that the plan allows."""
    return tuple(
        replace(
            row,
            traj_id=f"{part}-{i:04}",
            source=_maker(row, plan),
            reward=row.reward if plan.rewards == "honest" else None,
        )
        for i, row in enumerate(rows)
    )


def _maker(row: Planted, plan: PoolPlan) -> str:
    """Who is said to have made a row: half of a kind's rows share a maker, the others have any.

    Were the source the kind itself, it would give the truth away to whatever reads sources.
    """
    if row.origin == "real":
        return EXPERT_KIND
    at_home = Random(f"{plan.seed}/{row.kind}/home").randrange(_MAKERS)
    rng = Random(f"{plan.seed}/{row.kind}/{row.task}/{row.messages[-1]['content']}/maker")
    return f"maker-{at_home if rng.random() < _LOYALTY else rng.randrange(_MAKERS)}"


def _tasks(stage: Stage, fold: Fold, plan: PoolPlan) -> list[str]:
    tasks = stage.environment.tasks(fold)
    return Random(f"{plan.seed}/{stage.environment.name}/{fold}").sample(tasks, len(tasks))


def _check_generated(generated: Sequence[Planted], environment: Environment) -> None:
    tasks = frozenset(environment.tasks("train"))
    for row in generated:
        if row.origin != "synthetic" or row.task not in tasks:
            message = (
                f"generated row {row.traj_id!r} is {row.origin}, of task {row.task!r}; synthetic "
                f"rows of {environment.name}'s train fold are wanted"
            )
            raise ConfigError(message, hint="Leave it out, or play a task of the train fold.")


def _refuse(field: str, value: object, wanted: str) -> None:
    message = f"{field} is {value!r}"
    raise ConfigError(message, hint=f"Give {wanted}.")
