"""What each assistant turn of a row does to the outer loss, where the search ended.

A row's loss is the mean over its assistant tokens, so it is a sum of parts, one a turn, and

    d_i = -(1/B) <grad l_i(theta), u> = sum over turns of -(1/B) <grad part(theta), u>,

exactly: nothing is attributed, only added up in smaller heaps. Theta and u stand in the run, see
`trajweight.bilevel.Course`; the model is loaded to take the gradients again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import torch

from trajweight.bilevel import Course
from trajweight.config import ModelConfig, RunConfig
from trajweight.encoded import Encoded
from trajweight.errors import DataError, RunError
from trajweight.features import set_adapter
from trajweight.models import load_model
from trajweight.run import CONFIG
from trajweight.student import Student
from trajweight.table import trajectory_of
from trajweight.tokenization import encode_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from trajweight.losses import TrajectoryLosses
    from trajweight.models import LoadedModel
    from trajweight.progress import Progress
    from trajweight.run import Run

_AGAIN: Final = "Run it again into the same folder with --force."


@dataclass(frozen=True, slots=True)
class TurnAlignment:
    """The part of a row's d that one of its turns makes.

    Attributes:
        turn: Its place among the turns of the trajectory, from 0.
        n_tokens: Assistant tokens of it.
        d: Its part of dL_val / dw: below zero where more of it lowers the outer loss.
    """

    turn: int
    n_tokens: int
    d: float


@dataclass(frozen=True, slots=True)
class RowAlignment:
    """How a row stands to the outer loss.

    Attributes:
        d: dL_val / dw_i of the row, which the parts of its turns sum to.
        turns: Its trained turns, in order.
        others: The d of some other rows, to see whether that of this one is great or small.
    """

    d: float
    turns: list[TurnAlignment]
    others: list[float]


def packed(course: Course, vocabulary: Tensor | None) -> dict[str, Tensor]:
    """Where a search ended as named tensors, for safetensors.

    Args:
        course: Where it ended.
        vocabulary: Ids that the training loss chose from; None for all.
    """
    tensors = {
        f"{name}.{place:06d}": value
        for name, values in (("theta", course.theta), ("direction", course.direction))
        for place, value in enumerate(values)
    }
    return tensors if vocabulary is None else {**tensors, "vocabulary": vocabulary}


def unpacked(tensors: Mapping[str, Tensor]) -> tuple[Course, Tensor | None]:
    """The reverse of `packed`."""
    theta, direction = (
        [value for name, value in sorted(tensors.items()) if name.startswith(f"{kind}.")]
        for kind in ("theta", "direction")
    )
    return Course(theta, direction), tensors.get("vocabulary")


def align_turns(
    run: Run,
    trained: Run,
    names: Sequence[str],
    *,
    progress: Progress,
) -> RowAlignment:
    """The d of each turn of a row.

    Args:
        run: Whose row it is; its settings say where the model is to run.
        trained: The run that learned the weights; the same one, or another whose head was applied.
        names: The id of the row, then those of some others to compare it with.
        progress: Told of stages.

    Raises:
        RunError: If the run does not have what is needed, or the model is another one now.
        DataError: If the row cannot be encoded.
        MissingError: If the model is not here.
        ConfigError: If the model or the device cannot be used.
    """
    course, vocabulary = unpacked(trained.direction())
    _, head = trained.head_arrays()
    settings = RunConfig.from_toml(run.path_of(CONFIG).read_text(encoding="utf-8"))
    learned = RunConfig.from_toml(trained.path_of(CONFIG).read_text(encoding="utf-8"))
    # The training loss chose between the tokens of all rows, which are not looked at again here.
    adapter = replace(ModelConfig(**head["adapter"]), vocabulary="full")
    loaded = load_model(
        head["model"],
        device=settings.model.device,
        dtype=settings.model.dtype,
        progress=progress,
    )
    _require_same_model(loaded, head, trained)
    encoded = _encoded(_rows(run, names), loaded, adapter.max_tokens, progress)
    student = Student(loaded, adapter, encoded, progress)
    student.add_adapter(adapter, student.freeze(progress), seed=head["seed"])
    _require_same_shapes(course, student, trained)
    set_adapter(student.linears, course.theta)
    student.vocabulary = _all_tokens(vocabulary, encoded)
    direction = [each.to(loaded.device) for each in course.direction]
    progress.start("alignment by turn", len(encoded))
    found = alignment_of(
        student.losses_of(),
        [linear.weight for linear in student.linears],
        direction,
        batch_size=learned.inner.batch_size,
        progress=progress,
    )
    progress.finish()
    return found


def alignment_of(
    losses: TrajectoryLosses,
    parameters: Sequence[Tensor],
    direction: Sequence[Tensor],
    *,
    batch_size: int,
    progress: Progress,
) -> RowAlignment:
    """The d of each turn of the first row, and the d of all other rows.

    Args:
        losses: Of the rows, at theta.
        parameters: The tensors that are trained.
        direction: u, one tensor a parameter.
        batch_size: B.
        progress: Told of every row.
    """

    def d_of(loss: Tensor, *, keep: bool = False) -> float:
        # a row need not reach every tensor, such as those of an expert it never asks
        gradients = torch.autograd.grad(
            loss, parameters, retain_graph=keep, allow_unused=True, materialize_grads=True
        )
        products = [(g * u).sum().double() for g, u in zip(gradients, direction, strict=True)]
        return -float(sum(products)) / batch_size

    turns, counts, parts = losses.by_turn(0)
    made = [
        TurnAlignment(turn, count, d_of(part, keep=True))
        for turn, count, part in zip(turns, counts, parts, strict=True)
    ]
    # From a pass of its own: what the parts sum to is found, and not defined.
    found = []
    for row in range(len(losses.encoded)):
        found.append(d_of(losses.apart([row])[0]))
        progress.advance()
    return RowAlignment(found[0], made, found[1:])


def _rows(run: Run, names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the trajectory table with what is encoded of them, in the order of the ids."""
    found: dict[str, dict[str, Any]] = {}
    for part in run.trajectory_batches("messages_json", "tools_json"):
        some = part.filter(part["traj_id"].is_in(list(names)))
        found |= {row["traj_id"]: row for row in some.iter_rows(named=True)}
    return [found[name] for name in names]


def _encoded(
    rows: Sequence[Mapping[str, Any]], loaded: LoadedModel, max_tokens: int, progress: Progress
) -> list[Encoded]:
    """The row in tokens, and those of the others that can be had.

    Raises:
        DataError: If the row itself cannot.
    """
    trajectories = [trajectory_of(row) for row in rows]
    made = encode_all(trajectories, loaded.tokenizer, max_tokens=max_tokens, progress=progress).rows
    first = made[0]
    if not isinstance(first, Encoded):
        message = f"trajectory {rows[0]['traj_id']!r} has no turn to look at: {first.reason}"
        raise DataError(message)
    return [each for each in made if isinstance(each, Encoded)]


def _all_tokens(vocabulary: Tensor | None, encoded: Sequence[Encoded]) -> Tensor | None:
    """The ids that the training loss chose from, and those of a row that it never saw."""
    if vocabulary is None:
        return None
    ids = {token for row in encoded for token in row.input_ids}
    return torch.tensor(sorted(ids.union(vocabulary.tolist())))


def _require_same_model(loaded: LoadedModel, head: Mapping[str, Any], trained: Run) -> None:
    if loaded.fingerprint != head["model_fingerprint"]:
        message = (
            f"the run was learned on {head['model']} with fingerprint "
            f"{head['model_fingerprint']}, and this is one with {loaded.fingerprint}"
        )
        raise RunError(message, path=trained.folder, hint="Bring back the model of the run.")


def _require_same_shapes(course: Course, student: Student, trained: Run) -> None:
    shapes = [linear.weight.shape for linear in student.linears]
    for kept in (course.theta, course.direction):
        if [each.shape for each in kept] != shapes:
            message = "what direction.safetensors holds does not fit the adapter of head.json"
            raise RunError(message, path=trained.folder, hint=_AGAIN)
