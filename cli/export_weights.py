"""``trajweight export-weights``: a run's rows with weights that take effect in a trainer."""

# No deferred annotations: typer reads those of `ExportWeights` when the program starts.
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from typer import Option

from trajweight.cli._options import (
    MODEL,
    OUTPUT,
    SELECTION,
    Common,
    DialName,
    ExportMode,
    RunFolder,
)
from trajweight.cli._stages import watching
from trajweight.errors import ConfigError
from trajweight.trajectory import ORIGINS, SPLITS

if TYPE_CHECKING:
    from trajweight.cli._command import Typed
    from trajweight.cli._console import Surface
    from trajweight.export import ExportRequest, ExportResult
    from trajweight.progress import Progress
    from trajweight.run import Run
    from trajweight.trajectory import Origin, Split


@dataclass(frozen=True, kw_only=True)
class ExportWeights(Common):
    """The options of ``export-weights``.

    Attributes:
        run: The run.
        out: The file or folder to write.
        to: The target.
        mode: How weights act.
        target_ess: Least ESS/n of what is exported.
        dial: How it is met.
        epochs: Files of mode resample.
        epoch_rows: Rows of each of them.
        buckets: Files of mode buckets.
        model: The base model that the configs name.
        max_tokens: Longest row of mode tokenized.
        allow_unfaithful: Write what is known not to act.
        push_to_hub: Dataset on the Hugging Face Hub to send the folder to.
        public: Everybody may see it there.
        licence: What the data is under.
        min_weight: Least weight of a synthetic row.
        top_k: How many synthetic rows.
        top_fraction: What share of the synthetic training rows.
        top_p: What share of the learned weight.
        quota: At most so many rows of a source.
        split: Splits to take.
        origin: Origins to take.
    """

    run: RunFolder
    out: Annotated[
        Path,
        Option(
            "--out",
            metavar="PATH",
            help="Folder to write for a trainer; or a file (.jsonl, .jsonl.gz, .parquet).",
            rich_help_panel=OUTPUT,
        ),
    ]
    to: Annotated[
        str,
        Option(
            "--to",
            metavar="TARGET",
            show_default=False,
            help="trl, hf, unsloth, axolotl, llama-factory, llama-factory-v1, ms-swift, verl, "
            "openrlhf, nemo-rl, nemo-automodel, open-instruct, torchtune, tinker, fireworks, "
            "together, openai, jsonl, parquet or datasets; default auto: by the ending of --out.",
            rich_help_panel=OUTPUT,
        ),
    ] = "auto"
    mode: Annotated[
        ExportMode | None,
        Option(
            "--mode",
            metavar="NAME",
            help="How weights act: native (the trainer's own field), adapter (ours, put beside "
            "the data), resample, buckets, filter or tokenized; default: the most faithful that "
            "the target has.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    target_ess: Annotated[
        float | None,
        Option(
            "--target-ess",
            metavar="X",
            help="Flatten the weights until ESS/n is at least this; default: leave them.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    dial: Annotated[
        DialName | None,
        Option(
            "--dial",
            metavar="NAME",
            show_default=False,
            help="How --target-ess is met: temper (a power), clip (a cap) or mix (with uniform "
            "weights); default temper.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    epochs: Annotated[
        int | None,
        Option(
            "--epochs",
            metavar="N",
            show_default=False,
            help="Mode resample: a file for each of so many epochs; default 3.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    epoch_rows: Annotated[
        int | None,
        Option(
            "--epoch-rows",
            metavar="N",
            help="Mode resample: rows of each file; default as many as trajectories go out.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    buckets: Annotated[
        int | None,
        Option(
            "--buckets",
            metavar="N",
            show_default=False,
            help="Mode buckets: at most so many files; default 4.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            "--model",
            metavar="NAME",
            help="Base model that the configs fine-tune, and whose tokens mode tokenized writes; "
            "default that of the run.",
            rich_help_panel=MODEL,
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        Option(
            "--max-tokens",
            metavar="N",
            show_default=False,
            help="Mode tokenized: longest row; default 2048.",
            rich_help_panel=MODEL,
        ),
    ] = None
    allow_unfaithful: Annotated[
        bool,
        Option(
            "--allow-unfaithful",
            metavar="",
            help="Write also what is known not to act as weights.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    push_to_hub: Annotated[
        str | None,
        Option(
            "--push-to-hub",
            metavar="OWNER/NAME",
            help="Send the folder, with a data card, to a private dataset on the Hugging Face "
            "Hub; default: nothing leaves this machine.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    public: Annotated[
        bool,
        Option(
            "--public",
            metavar="",
            help="With --push-to-hub: everybody may see the dataset.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    licence: Annotated[
        str | None,
        Option(
            "--licence",
            metavar="NAME",
            help="With --push-to-hub: what the data is under, such as cc-by-4.0; default: what "
            "its rows say.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    min_weight: Annotated[
        float | None,
        Option(
            "--min-weight",
            metavar="X",
            help="Leave out synthetic rows below this weight (their mean is 1); default none.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    top_k: Annotated[
        int | None,
        Option(
            "--top-k",
            metavar="N",
            help="Take the N heaviest synthetic rows; default all.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    top_fraction: Annotated[
        float | None,
        Option(
            "--top-fraction",
            metavar="F",
            help="Take the heaviest share of the synthetic rows, above 0 and up to 1; default all.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    top_p: Annotated[
        float | None,
        Option(
            "--top-p",
            metavar="F",
            help="Take the heaviest synthetic rows that hold this share of the learned weight.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    quota: Annotated[
        list[str] | None,
        Option(
            "--quota",
            metavar="SOURCE=N",
            help="Take at most N rows of a source, or SOURCE=30%, the heaviest; may be repeated.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    split: Annotated[
        list[str] | None,
        Option(
            "--split",
            metavar="NAME",
            help=f"Split to take ({', '.join(SPLITS)}); may be repeated; default train.",
            rich_help_panel=SELECTION,
        ),
    ] = None
    origin: Annotated[
        list[str] | None,
        Option(
            "--origin",
            metavar="NAME",
            help="Origin to take (real, synthetic); may be repeated; default both.",
            rich_help_panel=SELECTION,
        ),
    ] = None


def export_weights(chosen: ExportWeights, surface: "Surface", typed: "Typed") -> None:
    """Write the rows of a run so that their weights take effect in the trainer they go to.

    A trainer gets a folder with data, a config or script that trains, and a README. A plain file
    gives each original row back with a root field weight. Validation, dev and test rows stay out
    unless --split asks for them.
    """
    is_stdout = _is_stdout(chosen.out)
    if is_stdout and surface.as_json:
        message = f"--out {chosen.out} and --json both write to stdout."
        raise ConfigError(message, hint="Give a file, or leave out --json.")
    with watching(surface, chosen.out) as progress:
        from trajweight import export
        from trajweight.run import load_run

        request, run = _request(chosen), load_run(chosen.run)
        _require_meaning(chosen, request)
        result = export.export_weights(
            run,
            chosen.out,
            request,
            force=chosen.force,
            argv=typed.argv,
            progress=progress,
        )
        url = None if chosen.push_to_hub is None else _pushed(chosen, run, progress)
    for line in _told(result):
        (surface.say if is_stdout else surface.print)(line)
    for note in result.notes:
        surface.say(note)
    if url is not None:
        surface.print(f"Sent to {url}")
    surface.finish(
        inputs=[chosen.run],
        outputs={"export": result.path} | ({} if url is None else {"hub": url}),
        metrics={
            "target": result.target,
            "mode": result.mode,
            "n_examples": result.n_examples,
            "n_rows": result.n_rows,
            "n_left_out": result.n_left_out,
            "mass_kept": result.mass_kept,
            "ess_fraction": result.ess_fraction,
            "is_exact": result.is_exact,
        },
    )


def _request(chosen: ExportWeights) -> "ExportRequest":
    """The options as the library takes them."""
    from trajweight.export import ExportRequest
    from trajweight.selection import Filters, quotas_of

    filters = Filters(
        # not Literal types: typer knows none in a list; the library checks the names
        splits=cast("tuple[Split, ...]", tuple(chosen.split or ["train"])),
        origins=cast("tuple[Origin, ...]", tuple(chosen.origin or ORIGINS)),
        min_weight=chosen.min_weight,
        top_k=chosen.top_k,
        top_fraction=chosen.top_fraction,
        top_p=chosen.top_p,
        quotas=quotas_of(chosen.quota or ()),
    )
    return ExportRequest(
        to=chosen.to,
        mode=chosen.mode,
        filters=filters,
        target_ess=chosen.target_ess,
        dial=chosen.dial,
        epochs=chosen.epochs,
        epoch_rows=chosen.epoch_rows,
        buckets=chosen.buckets,
        model=chosen.model,
        max_tokens=chosen.max_tokens,
        seed=chosen.seed or 0,
        allow_unfaithful=chosen.allow_unfaithful,
    )


def _require_meaning(chosen: ExportWeights, request: "ExportRequest") -> None:
    """What is sent needs a card, which a single file has not; what is not sent needs no word."""
    from trajweight.export.request import is_one_file, mode_of, target_of

    if chosen.push_to_hub is None:
        if chosen.public or chosen.licence is not None:
            option = "--public" if chosen.public else "--licence"
            message = f"{option} says nothing without --push-to-hub."
            raise ConfigError(message, hint="Add --push-to-hub OWNER/NAME, or leave it out.")
        return
    target = target_of(request, chosen.out)
    if is_one_file(target, mode_of(target, request)):
        message = f"--push-to-hub: --out {chosen.out} is data alone, without a card."
        raise ConfigError(message, hint="Export to a trainer, such as --to trl.")


def _pushed(chosen: ExportWeights, run: "Run", progress: "Progress") -> str:
    """Send what was written; gives back where it can be seen."""
    from trajweight.card import write_card
    from trajweight.hub import push_to_hub

    progress.start("sending to the Hub")
    write_card(chosen.out, run, licence=chosen.licence or "")
    url = push_to_hub(chosen.out, str(chosen.push_to_hub), private=not chosen.public)
    progress.finish()
    return url


def _told(result: "ExportResult") -> list[str]:
    """What was written, and what was not and why."""
    rows = f"{result.n_rows} rows"
    if result.n_rows != result.n_examples:
        rows += f" of {result.n_examples} trajectories"
    lines = [f"{result.path}: {rows} for {result.target}, mode {result.mode}"]
    if result.ess_fraction is not None:
        mass = f"{result.mass_kept:.0%} of the synthetic mass"
        lines.append(f"Weights of mean one, ESS/n {result.ess_fraction:.2f}, {mass}.")
    if not result.is_exact:
        lines.append("This approximates the weighted objective; the README there says how.")
    left_out = [f"{count} {reason}" for reason, count in result.n_left_out.items()]
    return [*lines, f"Left out: {', '.join(left_out)}."] if left_out else lines


def _is_stdout(path: Path) -> bool:
    """Whether a path is where our own lines would go too, as /dev/stdout in a pipe is."""
    try:
        return not path.is_file() and os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False
