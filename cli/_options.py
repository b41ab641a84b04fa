"""The options that commands share: each a field with its help, its unit and its default.

Nothing here has a default of its own but the flags: None means "not given", so that the settings
file and then the library's defaults can speak. Typer reads the annotations when the program starts,
so they are not deferred.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from typer import Argument, Option

from trajweight.config import (
    DedupName,
    EstimatorName,
    HeadName,
    ObjectiveName,
    PriorName,
    RunConfig,
    TrackerName,
    Vocabulary,
)

_DEFAULTS: Final = RunConfig()
DATA, OUTPUT, SELECTION, MODEL = "Data", "Output", "Selection", "Model"
LEARNING, _COMMON = "Learning", "Every command"
#: The order of the panels in help; what has none comes first.
PANELS: Final = (DATA, OUTPUT, SELECTION, MODEL, LEARNING, _COMMON)

#: What ``--map`` can say where to find; `trajweight.reading` is too much to import for a help text.
MAPPED: Final = "id, source, origin, task, group, reward, success, messages or tools"

ExportMode = Literal["native", "adapter", "resample", "buckets", "filter", "tokenized"]
DialName = Literal["temper", "clip", "mix"]

Mapped = Annotated[
    list[str] | None,
    Option(
        "--map",
        metavar="WHAT=PATH",
        help="Where rows say something, such as reward=info.score or messages=chat.turns; WHAT "
        f"is {MAPPED}; may be repeated.",
        rich_help_panel=DATA,
    ),
]
RunFolder = Annotated[Path, Argument(metavar="RUN", help="Folder of a finished run.")]


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command takes.

    Attributes:
        seed: Of everything drawn by chance.
        force: Overwrite.
        as_json: One JSON object on stdout.
        quiet: Warnings and errors only on stderr.
        debug: Tracebacks; the shell looks for the flag itself.
    """

    seed: Annotated[
        int | None,
        Option(
            "--seed",
            envvar="TRAJWEIGHT_SEED",
            show_envvar=False,
            metavar="N",
            help=f"Seed of splits, adapter, head and batches; default {_DEFAULTS.seed}. "
            "Where nothing is drawn it changes nothing.",
            rich_help_panel=_COMMON,
        ),
    ] = None
    force: Annotated[
        bool,
        Option(
            "--force",
            metavar="",
            help="Write over an older result; learn weights from fewer than 20 validation rows.",
            rich_help_panel=_COMMON,
        ),
    ] = False
    as_json: Annotated[
        bool,
        Option(
            "--json", metavar="", help="Print one JSON object on stdout.", rich_help_panel=_COMMON
        ),
    ] = False
    quiet: Annotated[
        bool,
        Option(
            "--quiet",
            metavar="",
            help="Only warnings and errors on stderr.",
            rich_help_panel=_COMMON,
        ),
    ] = False
    debug: Annotated[
        bool,
        Option(
            "--debug",
            metavar="",
            help="Show the traceback of an error; also TRAJWEIGHT_DEBUG=1.",
            rich_help_panel=_COMMON,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Data(Common):
    """What commands take that read trajectories into a run folder.

    Attributes:
        paths: Files of trajectories.
        out: The run folder.
        val: Files whose rows are real and held out.
        real: Sources whose rows are real.
        synthetic: Sources whose rows are synthetic.
        format: Name of the format of every file.
        map: Where rows say things.
        repair: Mend what is odd.
        dedup: Take out copies.
        max_row_bytes: Rows of more are flagged.
        limit: Rows to read of each file.
        config: A settings file.
        print_config: Print the resolved settings and end.
    """

    paths: Annotated[
        list[str] | None,
        Argument(
            metavar="PATHS",
            help="Files of trajectories, folders, quoted patterns, or - for standard input; what "
            "they hold is told by content.",
        ),
    ] = None
    out: Annotated[
        Path | None,
        Option(
            "--out",
            metavar="FOLDER",
            help="Run folder to write; default runs/<UTC time>-<first file>.",
            rich_help_panel=DATA,
        ),
    ] = None
    val: Annotated[
        list[str] | None,
        Option(
            "--val",
            metavar="FILE",
            help="File of real rows held out from training, or a folder of them; may be repeated.",
            rich_help_panel=DATA,
        ),
    ] = None
    real: Annotated[
        list[str] | None,
        Option(
            "--real",
            metavar="SOURCE",
            help="Source whose rows are real, whatever they say; may be repeated.",
            rich_help_panel=DATA,
        ),
    ] = None
    synthetic: Annotated[
        list[str] | None,
        Option(
            "--synthetic",
            metavar="SOURCE",
            help="Source whose rows are synthetic, whatever they say; may be repeated.",
            rich_help_panel=DATA,
        ),
    ] = None
    format: Annotated[
        str | None,
        Option(
            "--format",
            envvar="TRAJWEIGHT_FORMAT",
            show_envvar=False,
            metavar="NAME",
            help="Format of every file, such as messages or tau2; "
            f"default {_DEFAULTS.data.format}: the first records of each file tell it.",
            rich_help_panel=DATA,
        ),
    ] = None
    map: Mapped = None
    repair: Annotated[
        bool | None,
        Option(
            "--repair",
            metavar="",
            help="Mend what is odd about rows where there is one plain remedy: results without "
            "a call, repeated call ids, empty turns, user turns at the end, two turns of one "
            "speaker. Without it they are flagged only; the row as it stood is always kept.",
            rich_help_panel=DATA,
        ),
    ] = None
    dedup: Annotated[
        DedupName | None,
        Option(
            "--dedup",
            envvar="TRAJWEIGHT_DEDUP",
            show_envvar=False,
            help="Reject rows that copy another one: exact copies, or near ones too; the first is "
            f"kept, a real one before synthetic ones; default {_DEFAULTS.data.dedup}: exact "
            "copies are counted only.",
            rich_help_panel=DATA,
        ),
    ] = None
    max_row_bytes: Annotated[
        int | None,
        Option(
            "--max-row-bytes",
            envvar="TRAJWEIGHT_MAX_ROW_BYTES",
            show_envvar=False,
            min=1,
            metavar="N",
            help=f"Flag rows of more bytes; default {_DEFAULTS.data.max_row_bytes}.",
            rich_help_panel=DATA,
        ),
    ] = None
    limit: Annotated[
        int | None,
        Option(
            "--limit",
            min=1,
            metavar="N",
            help="Read at most N rows of each file, for a quick look; default all.",
            rich_help_panel=DATA,
        ),
    ] = None
    config: Annotated[
        Path | None,
        Option(
            "--config",
            envvar="TRAJWEIGHT_CONFIG",
            show_envvar=False,
            metavar="FILE.toml",
            help="All settings, such as a run's config.toml; flags and environment come first.",
            rich_help_panel=DATA,
        ),
    ] = None
    print_config: Annotated[
        bool,
        Option(
            "--print-config",
            metavar="",
            help="Print the resolved settings as TOML, and end.",
            rich_help_panel=DATA,
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Learning(Data):
    """What commands take that learn weights; the other attributes are those of the configs.

    Attributes:
        resume: A run to go on with.
    """

    resume: Annotated[
        Path | None,
        Option(
            "--resume",
            metavar="RUN",
            help="Go on with this run, which was interrupted, from its last checkpoint; its own "
            "settings and files hold, so give neither.",
            rich_help_panel=DATA,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            "--model",
            envvar="TRAJWEIGHT_MODEL",
            show_envvar=False,
            metavar="NAME",
            help="Local folder, hub id, or alias (smollm2-135m-instruct, tiny); "
            f"default {_DEFAULTS.model.model}.",
            rich_help_panel=MODEL,
        ),
    ] = None
    device: Annotated[
        str | None,
        Option(
            "--device",
            envvar="TRAJWEIGHT_DEVICE",
            show_envvar=False,
            metavar="NAME",
            help=f"auto, cpu, cuda, cuda:1 or mps; default {_DEFAULTS.model.device}.",
            rich_help_panel=MODEL,
        ),
    ] = None
    dtype: Annotated[
        str | None,
        Option(
            "--dtype",
            envvar="TRAJWEIGHT_DTYPE",
            show_envvar=False,
            metavar="NAME",
            help=f"auto, float32 or bfloat16; default {_DEFAULTS.model.dtype}.",
            rich_help_panel=MODEL,
        ),
    ] = None
    adapter_layers: Annotated[
        int | None,
        Option(
            "--adapter-layers",
            envvar="TRAJWEIGHT_ADAPTER_LAYERS",
            show_envvar=False,
            min=0,
            metavar="N",
            help="Last layers that get an adapter, 0 for all; default 2 on a processor, "
            "all elsewhere.",
            rich_help_panel=MODEL,
        ),
    ] = None
    max_tokens: Annotated[
        int | None,
        Option(
            "--max-tokens",
            envvar="TRAJWEIGHT_MAX_TOKENS",
            show_envvar=False,
            min=1,
            metavar="N",
            help="Longest trajectory, in tokens; longer ones lose whole turns; "
            f"default {_DEFAULTS.model.max_tokens}.",
            rich_help_panel=MODEL,
        ),
    ] = None
    vocabulary: Annotated[
        Vocabulary | None,
        Option(
            "--vocabulary",
            envvar="TRAJWEIGHT_VOCABULARY",
            show_envvar=False,
            help="Tokens the training loss chooses from: those in the data (seen), or all (full); "
            "default auto, which is seen on a processor and full elsewhere.",
            rich_help_panel=MODEL,
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        Option(
            "--batch-size",
            envvar="TRAJWEIGHT_BATCH_SIZE",
            show_envvar=False,
            min=1,
            metavar="N",
            help=f"Trajectories of one inner step; default {_DEFAULTS.inner.batch_size}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    max_steps: Annotated[
        int | None,
        Option(
            "--max-steps",
            envvar="TRAJWEIGHT_MAX_STEPS",
            show_envvar=False,
            min=1,
            metavar="N",
            help=f"Outer steps at most; default {_DEFAULTS.outer.max_steps}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    ess_penalty: Annotated[
        float | None,
        Option(
            "--ess-penalty",
            envvar="TRAJWEIGHT_ESS_PENALTY",
            show_envvar=False,
            min=0.0,
            metavar="X",
            help="Coefficient of the penalty n/ESS - 1, which keeps weights from gathering on "
            f"few rows; default {_DEFAULTS.outer.ess_penalty}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    target_ess: Annotated[
        float | None,
        Option(
            "--target-ess",
            envvar="TRAJWEIGHT_TARGET_ESS",
            show_envvar=False,
            metavar="X",
            help="Effective sample size, over the number of synthetic rows, that the weights keep "
            f"at least; default {_DEFAULTS.outer.target_ess}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    head: Annotated[
        HeadName | None,
        Option(
            "--head",
            envvar="TRAJWEIGHT_HEAD",
            show_envvar=False,
            help="What gives the weights: a network on features (mlp, linear), a score a row "
            f"(table) or a source (group); default {_DEFAULTS.outer.head}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    estimator: Annotated[
        EstimatorName | None,
        Option(
            "--estimator",
            envvar="TRAJWEIGHT_ESTIMATOR",
            show_envvar=False,
            help=f"How the outer gradient reaches the weights; default {_DEFAULTS.estimator.name}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    ensemble: Annotated[
        int | None,
        Option(
            "--ensemble",
            envvar="TRAJWEIGHT_ENSEMBLE",
            show_envvar=False,
            min=1,
            metavar="N",
            help="Heads trained apart, cross-fitted where real rows are few: weights with a range, "
            f"and how well they agree; default {_DEFAULTS.outer.ensemble}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    objective: Annotated[
        ObjectiveName | None,
        Option(
            "--objective",
            envvar="TRAJWEIGHT_OBJECTIVE",
            show_envvar=False,
            help="Whose loss the weights lower: that of all real validation rows (imitate), of "
            "the successful ones, or of all by exp(return), rewards being standardised inside "
            f"each task; default {_DEFAULTS.returns.objective}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    prior: Annotated[
        PriorName | None,
        Option(
            "--prior",
            envvar="TRAJWEIGHT_PRIOR",
            show_envvar=False,
            help="What returns make of synthetic rows before anything is learned: factors "
            "exp(return) (rwr), or little for all but the best half of each task (filtered); "
            f"default {_DEFAULTS.returns.prior}.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    retrain: Annotated[
        bool | None,
        Option(
            "--retrain",
            envvar="TRAJWEIGHT_RETRAIN",
            show_envvar=False,
            metavar="",
            help="Train an adapter from the base with the final weights, and leave it in the run "
            "in PEFT's layout.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    track: Annotated[
        TrackerName | None,
        Option(
            "--track",
            envvar="TRAJWEIGHT_TRACK",
            show_envvar=False,
            help="Send the numbers of every outer step to a tracker too, which must be installed; "
            "default none.",
            rich_help_panel=LEARNING,
        ),
    ] = None
    real_share: Annotated[
        str | None,
        Option(
            "--real-share",
            envvar="TRAJWEIGHT_REAL_SHARE",
            show_envvar=False,
            metavar="X|auto",
            help="Share of the training mass that real rows keep, between 0 and 1, or auto: the "
            "best on dev of some whole trainings; default their share of the training rows.",
            rich_help_panel=LEARNING,
        ),
    ] = None


#: Option to the setting it sets, ``section.field`` of RunConfig.
SETTINGS: Final = {
    "paths": "data.paths",
    "val": "data.validation_paths",
    "real": "data.real_sources",
    "synthetic": "data.synthetic_sources",
    "format": "data.format",
    "map": "data.mapped",
    "repair": "data.repair",
    "dedup": "data.dedup",
    "max_row_bytes": "data.max_row_bytes",
    "limit": "data.limit",
    "real_share": "data.real_share",
    "model": "model.model",
    "device": "model.device",
    "dtype": "model.dtype",
    "adapter_layers": "model.adapter_layers",
    "max_tokens": "model.max_tokens",
    "vocabulary": "model.vocabulary",
    "batch_size": "inner.batch_size",
    "max_steps": "outer.max_steps",
    "ess_penalty": "outer.ess_penalty",
    "target_ess": "outer.target_ess",
    "head": "outer.head",
    "ensemble": "outer.ensemble",
    "estimator": "estimator.name",
    "retrain": "retrain.enabled",
    "objective": "returns.objective",
    "prior": "returns.prior",
}
