"""The one place where the wings meet: files to trajectories, to weights, to a run folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import torch

from trajweight.checkpoint import Checkpoints
from trajweight.claim import claimed
from trajweight.config import AUTO, COMPARE, LEARNED, ReturnsConfig
from trajweight.embedded import DEFAULT_MODEL, HUB_ID
from trajweight.errors import ConfigError, DivergenceError
from trajweight.features import LOSSES
from trajweight.ground import Ground, problem_of
from trajweight.interruption import Interruption
from trajweight.job import Job, settings_of, without_head
from trajweight.journal import Journal
from trajweight.learning import Outcome, Scored, learn_weights, score_rows
from trajweight.manifest import version_of
from trajweight.preparing import material_of, require_synthetic, rows_by_name, tokenise
from trajweight.processes import joined
from trajweight.progress import Progress
from trajweight.real_share import choose_real_share
from trajweight.retraining import RETRAINED, card_of, retrain, save_adapter
from trajweight.rivals import Compared, compare, weigh_by
from trajweight.scorers import scorer
from trajweight.tracking import tracker_of
from trajweight.turnwise import packed
from trajweight.weights import effective_sample_size, weight_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from trajweight.config import RunConfig
    from trajweight.encoded import Encoded
    from trajweight.material import Material
    from trajweight.models import LoadedModel
    from trajweight.run import Run


#: What did better than a head, in words; see "selected" in ``head.json``.
_RIVALS: Final = {
    "uniform": "uniform weights",
    "returns": "returns alone",
}


def curate(
    config: RunConfig,
    out: Path,
    *,
    force: bool,
    progress: Progress,
    argv: Sequence[str] = (),
    interruption: Interruption | None = None,
) -> Run:
    """Read, split, learn a weight for every synthetic trajectory, and write the run.

    Under a launcher every process calls this; the first writes the run, and what the others give
    back stands in folders of their own that go when they end.

    An interrupted run can be gone on with; see `resume`.

    Args:
        config: All settings.
        out: The run's folder.
        force: Take a folder that holds an older run.
        progress: Told of every stage and decision.
        argv: The command line, for the manifest.
        interruption: Whether the work was asked to end.

    Raises:
        DataError: If nothing could be kept, or there is no synthetic trajectory to weigh.
        ConfigError: If a setting or the folder cannot be used, or another process works there.
        MissingError: If the model cannot be had.
        Interrupted: If that was asked for.
    """
    is_learned = config.method in (LEARNED, COMPARE)
    if not is_learned:
        scorer(config.method)  # refused before anything is read
    processes = joined(config.model.device)
    folder = processes.own_folder(out)
    with claimed(folder):
        job = Job.begin(
            config,
            folder,
            force=force,
            progress=progress if processes.is_main else Progress(),
            argv=argv,
            kind="learned" if is_learned else "scored",
            processes=processes,
        )
        return _curated(job, interruption or Interruption())


def resume(run: Run, *, progress: Progress, interruption: Interruption | None = None) -> Run:
    """Go on with a run of `curate` that has not finished, from its newest checkpoint.

    On one processor the weights, the head and the trace come out as the same bytes as without any
    interruption. A run that has finished is given back as it is.

    Args:
        run: The run; its own settings hold.
        progress: Told of every stage and decision.
        interruption: Whether the work was asked to end.

    Raises:
        RunError: If the run is of another kind or had hardly begun, or if an input, a version or
            the device is another than it was.
        DataError: If an input is gone.
        ConfigError: If another process works in the run.
        Interrupted: If that was asked for.
    """
    processes = joined(settings_of(run).model.device)
    run = replace(run, folder=processes.own_folder(run.folder, resumes=True))
    progress = progress if processes.is_main else Progress()
    if run.manifest().get("status") == "finished" and not run.checkpoints.is_dir():
        return run
    with claimed(run.folder):
        if run.manifest().get("status") == "finished":
            run.remove_checkpoints()
            return run
        job = Job.resume(run, progress=progress, processes=processes)
        return _curated(job, interruption or Interruption())


def _curated(job: Job, interruption: Interruption) -> Run:
    with job.accounted():
        job.read()
        job.split()
        _weigh(job, interruption)
    return job.run


def score_with(
    trained: Run,
    config: RunConfig,
    out: Path,
    *,
    force: bool,
    progress: Progress,
    argv: Sequence[str] = (),
) -> Run:
    """Apply the head of a trained run to new trajectories, by forward passes alone.

    Synthetic rows get weights with mean one over the new data; rows that copy a held-out row of
    the trained run are excluded. A head learned on top of returns says what these do not, so the
    prior of its run is made anew from the returns of the new rows.

    Raises:
        RunError: If ``trained`` has no head, or the model is another one.
        DataError: If there is no synthetic trajectory to weigh.
        ConfigError: If trainings are to find the share of real rows: there are none.
    """
    if config.data.real_share == AUTO:
        message = "real_share is auto, which trainings find, and a trained head is only applied"
        raise ConfigError(message, hint="Give a share between 0 and 1, such as its run found.")
    tensors, head_config = trained.head()
    if out.resolve() == trained.folder.resolve():
        message = f"{out} is the trained run itself"
        raise ConfigError(message, hint="Give another --out.")
    processes = joined(config.model.device)
    progress = progress if processes.is_main else Progress()
    folder = processes.own_folder(out)
    with claimed(folder):
        job = Job.begin(
            config,
            folder,
            force=force,
            progress=progress,
            argv=argv,
            kind="applied",
            processes=processes,
        )
        with job.accounted():
            job.read()
            job.split_against(trained)
            require_synthetic(job)
            job.facts |= {"mode": "applied", "trained_run": str(trained.folder.resolve())}
            job.facts |= {"trained_head_sha256": head_config["head_sha256"]}
            # There is no outer loss here; what the run made of returns beforehand holds here too.
            returns = replace(ReturnsConfig(**head_config.get("returns", {})), objective="imitate")
            floor = head_config["shape"]["w_min"]
            if head_config["selected"] != "head":
                rival = _RIVALS.get(head_config["selected"], head_config.get("method"))
                why = f"in its own run this head did no better than {rival}"
                job.weigh_without_head(why, returns, floor=floor)
                return job.run
            adapter = head_config["adapter"]
            loaded, encoded = tokenise(job, head_config["model"], adapter["max_tokens"])
            require_synthetic(job)
            material = material_of(job, encoded, returns, floor=floor)
            scored = score_rows(
                loaded,
                material.encoded,
                material.n_turns,
                material.sources,
                material.synthetic,
                prior=material.prior,
                tensors=tensors,
                head_config=head_config,
                progress=progress,
                stopwatch=job.stopwatch,
                processes=processes,
            )
            _save_scores(job, scored, list(encoded), material)
            job.facts["selected"] = "head"
        return job.run


def _weigh(job: Job, interruption: Interruption) -> None:
    """Learn the weights, or make them uniform where there are too few rows to learn from."""
    require_synthetic(job)
    if job.config.method not in (LEARNED, COMPARE):
        weigh_by(job, job.config.method)
        return
    why = job.too_few_validation_rows()
    if job.count("train", "synthetic") == 1:
        why = "a single synthetic trajectory has weight one"
    if not why:
        loaded, encoded = tokenise(job)
        require_synthetic(job)
        why = job.too_few_validation_rows()
        if not why:
            _learn(job, loaded, encoded, interruption)
            return
    if job.config.method == COMPARE:
        job.warn("no methods were compared, since nothing was learned to hold them against")
    if job.config.data.real_share == AUTO:
        job.warn("no share of real rows was looked for, since nothing was learned: they count as 1")
    job.weigh_without_head(why, job.config.returns, floor=job.config.outer.w_min)


def _learn(
    job: Job, loaded: LoadedModel, encoded: dict[str, Encoded], interruption: Interruption
) -> None:
    """Learn weights, and write them with the head and the trace."""
    checkpoints = Checkpoints(job.run.checkpoints, job.fingerprint())
    journal = Journal(
        checkpoints,
        interruption,
        every=job.config.outer.checkpoint_every,
        processes=job.processes,
    )
    journal.reopen(lambda text: job.say([text]))
    if journal.told:
        job.run.save_rows("trace", journal.told)
    # Once a choice of the machine is known, a run that goes on must make it again.
    job.save_manifest("started")
    material = material_of(job, encoded, job.config.returns, floor=job.config.outer.w_min)
    _tell_what_returns_leave(job, material)
    tracker = tracker_of(job.config.track if job.processes.is_main else "none", job.run.folder)

    def told(facts: dict[str, float]) -> None:
        job.run.append_trace(facts)
        tracker.log(facts)

    try:
        with rows_by_name(encoded):
            ground = Ground.of(
                loaded,
                material,
                job.config,
                progress=job.progress,
                stopwatch=job.stopwatch,
                journal=journal,
                processes=job.processes,
            )
            outcome = learn_weights(ground, on_step=told)
    finally:
        tracker.close()
    tensors, described = outcome.head.pack()
    config = {
        **described,
        "model": _lasting_name(loaded.name),
        "model_fingerprint": loaded.fingerprint,
        "selected": outcome.facts["selected"],
        "objective": material.objective,
        "returns": asdict(job.config.returns),
    }
    job.run.save_head(tensors, config)
    if outcome.course is not None:
        job.run.save_direction(packed(outcome.course, outcome.ground.student.vocabulary))
    if job.config.method == COMPARE:
        with rows_by_name(encoded):
            compared = compare(job, outcome, list(encoded))
        outcome = _with_choice(job, outcome, compared, list(encoded))
        chosen: dict[str, Any] = {
            key: outcome.facts[key] for key in ("selected", "method") if key in outcome.facts
        }
        job.run.save_head(tensors, {**config, **chosen})
    if job.config.data.real_share == AUTO:
        with rows_by_name(encoded):
            outcome = _with_real_share(job, outcome)
    material = outcome.ground.material
    _save_scores(job, outcome.scored, list(encoded), material)
    job.facts |= outcome.facts
    if job.config.retrain.enabled:
        with rows_by_name(encoded):
            outcome = _retrained(job, outcome)
        _save_adapter(job, outcome, loaded, material)
    if outcome.facts["selected"] in ("uniform", "returns"):
        rival = "uniform ones" if outcome.facts["selected"] == "uniform" else "those from returns"
        otherwise = without_head(job.config.returns)
        job.warn(f"the learned weights did no better than {rival}, beyond noise; {otherwise}")
    if not material.dev:
        job.warn("no dev rows: learned and uniform weights were compared on validation rows")


def _with_choice(job: Job, outcome: Outcome, compared: Compared, names: list[str]) -> Outcome:
    """What learning left, with the weights of the method that dev chose; all are written beside."""
    weighed = [names[place] for place in outcome.ground.material.synthetic]
    table = pl.DataFrame({"traj_id": weighed, **compared.weights})
    job.run.save_table("methods", table)
    facts = {**outcome.facts, "methods": compared.facts}
    if compared.chosen not in (LEARNED, facts["selected"]):
        weights = torch.from_numpy(compared.weights[compared.chosen])
        scored = replace(outcome.scored, weights=weights)
        facts |= {"selected": "method", "method": compared.chosen}
        return replace(outcome, scored=scored, facts=facts)
    return replace(outcome, facts=facts)


def _with_real_share(job: Job, outcome: Outcome) -> Outcome:
    """What learning left, with the real rows' share of mass that dev chose."""
    ground = outcome.ground
    if not ground.material.real:
        job.warn("there are no real training rows, so there is no share of theirs to find")
        return outcome
    with job.stopwatch.stage("share of real rows"):
        try:
            choice = choose_real_share(
                problem_of(ground.student, ground.material, RETRAINED, whole_vocabulary=True),
                outcome.scored.weights.float(),
                ground.material,
                job.config,
                untrained=ground.untrained,
                progress=job.progress,
            )
        except DivergenceError as error:  # which must not cost the weights
            job.warn(f"no share of real rows was found, and they count as 1: {error.message}")
            return outcome
    if choice.is_better_alone:
        job.warn(
            "real rows alone did better than with the synthetic ones at any share that was tried: "
            "these synthetic rows do not help a training of this length"
        )
    ground = replace(ground, material=replace(ground.material, real_weight=choice.weight))
    return replace(outcome, ground=ground, facts={**outcome.facts, "real_share": choice.as_facts()})


def _tell_what_returns_leave(job: Job, material: Material) -> None:
    """Say it where returns alone gather the weights on fewer rows than was wanted."""
    left = material.prior.ess_fraction if material.prior else 1.0
    target = job.config.outer.target_ess
    if left < target:
        job.warn(
            f"returns alone bring ESS/n to {left:.2f}; the target of {target:g} holds only for "
            "what is learned on top, and a greater returns.beta or returns.keep_fraction in "
            "--config leaves more"
        )


def _retrained(job: Job, outcome: Outcome) -> Outcome:
    """Train the adapter that the user keeps with the weights that were taken in the end."""
    ground = outcome.ground
    with job.stopwatch.stage("retraining"):
        problem = problem_of(ground.student, ground.material, RETRAINED, whole_vocabulary=True)
        made = retrain(
            problem,
            outcome.scored.weights.float(),
            job.config,
            untrained=ground.untrained,
            dev=ground.material.dev,
            progress=job.progress,
        )
    facts = {**outcome.facts, "retrained": made.as_facts()}
    job.facts |= facts
    return replace(outcome, facts=facts)


def _save_adapter(job: Job, outcome: Outcome, loaded: LoadedModel, material: Material) -> None:
    """Write the retrained adapter and its card into the run."""
    base = HUB_ID if loaded.name == DEFAULT_MODEL else _lasting_name(loaded.name)
    weights = outcome.scored.weights
    facts = {
        **outcome.facts,
        "n_real": len(material.real),
        "n_synthetic": len(material.synthetic),
        "ess_fraction": float(effective_sample_size(weights)) / len(weights),
    }
    card = card_of(facts, base_model=base, version=version_of("trajweight") or "unknown")
    save_adapter(outcome.ground.student, job.run.adapter, base_model=base, card=card)


def _lasting_name(model: str) -> str:
    """A model's name that holds in any working folder: the whole path of a local one."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


def _save_scores(job: Job, scored: Scored, names: list[str], material: Material) -> None:
    """Write weights and features; rows come back in the order of the trajectory table."""
    weighed = [names[place] for place in material.synthetic]
    lengths = [len(row.input_ids) for row in material.encoded]
    table = weight_table(
        job.table,
        weights=dict(zip(weighed, scored.weights.double().tolist(), strict=True)),
        real_weight=material.real_weight,
        scores=dict(zip(names, scored.scores.double().tolist(), strict=True)),
        n_tokens=dict(zip(names, lengths, strict=True)),
    )
    job.run.save_table("weights", table)
    if scored.apart.shape[1] > 1:
        job.run.save_table("ensemble", _ensemble_table(weighed, scored))
    features = pl.DataFrame(
        {
            "traj_id": names,
            "n_assistant_tokens": [sum(row.assistant_mask) for row in material.encoded],
            "base_nll": scored.base_nll.double().tolist(),
            **_loss_columns(scored.losses),
            "embedding": scored.embeddings.float().tolist(),
        },
        schema_overrides={"embedding": pl.List(pl.Float32)},
    )
    job.run.save_table("features", features)


def _loss_columns(losses: Sequence[Tensor]) -> dict[str, pl.Series]:
    """The losses that features are made of, beside ``base_nll``: of the base model one a row.

    After real rows it is as many as there are adapters trained on real rows: a list a row.
    """
    found = {}
    for place, name in enumerate(LOSSES):
        columns = [each[:, place].tolist() for each in losses]
        if name.startswith("real"):
            rows = [list(row) for row in zip(*columns, strict=True)]
            found[name] = pl.Series(rows, dtype=pl.List(pl.Float64))
        elif name != "base_nll":
            found[name] = pl.Series(columns[0], dtype=pl.Float64)
    return found


def _ensemble_table(names: list[str], scored: Scored) -> pl.DataFrame:
    """What each head of an ensemble says, and the range of it."""
    apart = scored.apart.double()
    return pl.DataFrame(
        {
            "traj_id": names,
            "weight": scored.weights.double().tolist(),
            "weight_low": apart.amin(1).tolist(),
            "weight_high": apart.amax(1).tolist(),
            "weights": apart.tolist(),
        },
        schema={
            "traj_id": pl.String,
            "weight": pl.Float64,
            "weight_low": pl.Float64,
            "weight_high": pl.Float64,
            "weights": pl.List(pl.Float64),
        },
    )
