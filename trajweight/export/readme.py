"""The page beside exported data: how the weights act there, how to train, what would undo them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trajweight.trainers import Mode, Plan, Target, Told

_MODES: Mapping[Mode, str] = {
    "native": "Each row carries its weight in the field that the trainer itself reads.",
    "adapter": "Each row carries its weight, and an adapter beside the data makes the trainer "
    "read it.",
    "resample": "No row carries a weight: it is written as often as it counts, drawn anew for "
    "every epoch by systematic resampling.",
    "buckets": "No row carries a weight: rows of like weight share a file, and files are mixed at "
    "rates that match their mean weights.",
    "filter": "No row carries a weight: light ones were left out, all others count alike.",
    "tokenized": "Rows are token ids; `loss_weights` says what each token counts.",
}


def readme(target: Target, plan: Plan, told: Told, facts: Mapping[str, Any]) -> str:
    """The page, as Markdown.

    Args:
        target: Where the export goes.
        plan: What it is made of.
        told: What the target says.
        facts: The export's manifest.
    """
    return "\n".join(_lines(target, plan, told, facts)).rstrip() + "\n"


def _lines(target: Target, plan: Plan, told: Told, facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"# Weighted trajectories for {target.title}"
    yield ""
    yield f"Written by trajweight {facts['version']}, mode `{plan.mode}`. {_MODES[plan.mode]}"
    yield ""
    yield from _training(told)
    yield "## How the weights act"
    yield ""
    yield told.acts
    yield ""
    yield (
        "They were learned under a sequence-mean loss: a trajectory counts by its weight, not by "
        "its length. Their mean over these rows is one."
    )
    yield ""
    if not told.is_exact:
        yield "This is an approximation of the weighted objective, not the objective itself."
        yield ""
    yield from _listed("## What would undo them", told.traps)
    yield from _counts(plan, facts)
    yield from _listed("## Notes", facts["notes"])
    if target.checked:
        yield f"Checked against {', '.join(target.checked)}."
        yield ""
    if target.probe:
        yield "Whether the weights take effect in the versions that you have, a gradient tells:"
        yield ""
        yield "```sh"
        yield f"trajweight verify-export . --to {target.name} --python PYTHON_OF_THE_TRAINER"
        yield "```"


def _training(told: Told) -> Iterator[str]:
    yield "## Train"
    yield ""
    yield "```sh"
    if told.install:
        yield told.install
    yield told.command
    yield "```"
    yield ""


def _listed(title: str, sentences: tuple[str, ...] | list[str]) -> Iterator[str]:
    if sentences:
        yield title
        yield ""
        yield from (f"- {sentence}" for sentence in sentences)
        yield ""


def _counts(plan: Plan, facts: Mapping[str, Any]) -> Iterator[str]:
    weights, rows = facts["weights"], facts["rows"]
    yield "## What is here"
    yield ""
    yield "| file | rows | rate |"
    yield "| --- | ---: | ---: |"
    yield from (f"| `{file.name}` | {file.n_rows} | {file.rate:.4g} |" for file in plan.data)
    yield ""
    yield (
        f"{rows['exported']} of the run's {rows['in_run']} trajectories, with "
        f"{weights['mass_kept']:.1%} of the learned weight; ESS/n {weights['ess_fraction']:.3f}."
    )
    for reason, count in rows["left_out"].items():
        yield f"Left out: {count} {reason}."
    yield "`rows.parquet` says what each trajectory counts, and `export.json` all the rest."
    yield ""
