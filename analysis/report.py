"""One run as one set of facts: what the terminal shows, ``--json`` prints and scripts read.

`build_report` gathers the facts when the run ends; `report_facts` reads them back. Every surface
renders these facts and computes none of its own.
"""

from __future__ import annotations

import math
import re
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

import polars as pl

from trajweight.analysis.comparing import Sides, alignment_facts, tradeoff_facts
from trajweight.analysis.concentration import concentration
from trajweight.analysis.correlations import WARN_BEYOND
from trajweight.analysis.ess import spread, spread_by, top_mass
from trajweight.analysis.excerpts import excerpt
from trajweight.analysis.explaining import (
    NAMES,
    association_facts,
    explained_facts,
    quality_facts,
    some_tasks,
)
from trajweight.analysis.facts import plain
from trajweight.analysis.histograms import BIN_EDGES, Histogram, histogram, histograms_by
from trajweight.analysis.reckoning import reckoning_facts
from trajweight.analysis.rows import embeddings_of, numbers_of, texts_of
from trajweight.analysis.sizes import size_facts
from trajweight.analysis.story import story
from trajweight.config import MINIMUM_VALIDATION
from trajweight.manifest import SCHEMA_VERSION, SEMANTICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trajweight.run import Run

SCHEMA_FILE: Final = "report.schema.json"
#: Below this share of effective rows few trajectories hold the mass.
LOW_ESS: Final = 0.2
#: Below this agreement of an ensemble the order of the weights is luck.
LOW_RELIABILITY: Final = 0.5
#: Trajectories listed at either end.
N_LISTED: Final = 10
#: Reasons listed by name; the rest are summed up.
_N_REASONS: Final = 6


class Returns(TypedDict, total=False):
    """How many rows had a return, and what became of it; only what was asked for is there."""

    objective: str  # the one that could be had
    validation: int
    validation_with_return: int
    validation_counted: int  # rows of the outer loss
    prior: str  # the one that could be had
    synthetic: int
    synthetic_with_return: int
    prior_ess_fraction: float  # of the weights from returns alone


class RealShare(TypedDict):
    """Trainings at several shares of the mass for real rows; see `trajweight.real_share`."""

    share: float  # the one that was taken
    weight: float  # of each real row then
    before: float  # the share that real rows have as they are
    steps: int  # of a training
    judged_by: str  # dev or validation
    is_better_alone: bool  # real rows without any synthetic one did better, beyond noise
    tried: list[dict[str, float | None]]  # share, loss, gain over "before", its error; rising


class Learning(TypedDict, total=False):
    """What the learning loop knows and the run's tables do not tell; every key may be missing.

    Losses are mean negative log-likelihoods, in nats a token. Other keys are kept as they are.
    """

    # applied: a head of another run gave the weights; method: another method, without learning
    mode: Literal["learned", "applied", "method"]
    # returns: the prior alone gave the weights; method: another method did, see there
    selected: Literal["head", "returns", "uniform", "method"]
    method: str  # its name, where another method than learning gave the weights
    method_sentence: str  # what that method says of itself
    methods: list[dict[str, Any]]  # all that were compared, the lowest loss first
    why_uniform: str  # a sentence, where no head was asked or none could be learned
    model: str
    objective: str  # whose loss the weights were to lower
    returns: Returns  # missing where none were asked for
    base_outer_loss: float  # on validation rows, before any training
    uniform_outer_loss: float  # after training with uniform weights
    returns_outer_loss: float  # after training with weights from returns alone
    weighted_outer_loss: float  # after training with the learned weights
    base_dev_loss: float
    uniform_dev_loss: float
    returns_dev_loss: float
    weighted_dev_loss: float
    dev_gain: float | None  # uniform (or returns alone) minus learned loss, mean over dev tasks
    dev_gain_se: float | None  # its standard error over tasks; None with fewer than two tasks
    contest_steps: int  # inner steps of each training that dev judged
    temperature: float  # what the scores were divided by; dev chose it
    target_ess: float  # ESS/n that the weights keep at least
    tradeoff: list[dict[str, float | None]]  # loss against ESS/n; uniform weights last
    ensemble_kind: str  # cross-fitted or resampled; missing with one head
    reliability: float | None  # mean rank correlation between the heads of an ensemble
    real_share: RealShare  # missing where no trainings were to find it
    retrained: dict[str, Any]  # missing where no adapter was asked for
    outer_steps: int
    stopped_because: str
    seconds: dict[str, float]  # by stage, in the order they ran
    warnings: list[str]
    notes: list[str]


def build_report(run: Run, learning: Learning | Mapping[str, Any]) -> dict[str, Any]:
    """Gather the facts of a run whose tables are in place; nothing is written.

    Args:
        run: The run; ``features.parquet`` may be missing, then less can be said.
        learning: See `Learning`.

    Returns:
        Values ready for JSON; a number that is not finite is None.

    Raises:
        RunError: If the run lacks its trajectories or weights.
    """
    rows = numbers_of(run)
    train = rows.filter(pl.col("split") == "train")
    learned = train.filter(pl.col("origin") == "synthetic")
    highest, lowest = _extremes(learned)
    sides = Sides.of(run, rows, learned, has_trained=learning.get("mode") != "applied")
    # Texts and embeddings may be larger than memory: both are gone through once.
    texts = texts_of(run, pl.concat([sides.ids, highest["traj_id"], lowest["traj_id"]]))
    sides = sides.read(texts, embeddings_of(run, sides.ids))
    aligned = alignment_facts(sides)
    asked = some_tasks(learned)
    facts: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "semantics": SEMANTICS,
        "read": _read_facts(run, rows),
        "weights": _weight_facts(train, learned),
        "effective_size": size_facts(learned, run.rows("trace")),
        "concentration": concentration(learned["weight"].to_numpy()),
        "learning": _learning_facts(rows, learning),
        "alignment": aligned.facts,
        "sampled": {"n": asked.height, "of": learned.height},
        "explained": explained_facts(asked),
        "correlations": association_facts(asked),
        "quality": quality_facts(asked, learning),
        "bound": reckoning_facts(rows, learned, learning, aligned.embeddings),
        "tradeoff": tradeoff_facts(learned, sides),
        "highest": _listed(highest, texts),
        "lowest": _listed(lowest, texts),
    }
    facts = plain(facts)
    facts["headline"] = headline(facts)
    facts["story"] = story(facts)
    facts["warnings"] = [*learning.get("warnings", ()), *_warnings(facts)]
    return facts


def report_facts(run: Run) -> dict[str, Any]:
    """The facts a run left in ``report.json``.

    Raises:
        RunError: If the run did not finish, or a newer tool wrote it.
    """
    return run.report()


def report_schema() -> str:
    """The JSON schema of what ``report --json`` prints; ``#/$defs/report`` is ``report.json``."""
    return files("trajweight.analysis").joinpath(SCHEMA_FILE).read_text("utf-8")


def headline(facts: Mapping[str, Any]) -> str:
    """One sentence that states the finding; an honest no where weights did not help."""
    learning, whole = facts["learning"], facts["weights"]["overall"]
    count = f"{whole['n']} synthetic trajectories"
    worth = f"{count} count as {whole['ess']:.0f} (ESS/n {whole['ess_fraction']:.2f})"
    if whole["n"] == 0:
        return "There are no synthetic training trajectories, so there was nothing to weigh."
    if learning.get("mode") == "applied" and not learning.get("why_uniform"):
        return f"A trained head weighed these trajectories: {worth}."
    if learning.get("selected") == "method":
        return _method_verdict(learning, worth)
    uniform, weighted = learning.get("uniform_dev_loss"), learning.get("weighted_dev_loss")
    if learning.get("selected") in ("uniform", "returns"):
        if learning.get("why_uniform"):
            return f"Weights were not learned: {learning['why_uniform'].rstrip('.')}."
        if learning["selected"] == "returns":
            return (
                "Learning adds nothing to returns here: on dev tasks learned weights did no better "
                f"than returns alone beyond noise, so returns give the weights; {worth}."
            )
        losses = "" if uniform is None or weighted is None else f" ({weighted:.4f}, {uniform:.4f})"
        return (
            f"Weighting does not help here: on dev tasks learned weights did no better than "
            f"uniform ones beyond noise{losses}, so all {count} keep weight 1."
        )
    if uniform is None or weighted is None:
        return f"Weights were learned: {worth}."
    return _dev_verdict(learning, worth)


def _method_verdict(learning: Mapping[str, Any], worth: str) -> str:
    """Which method gave the weights, and whether anything speaks for it."""
    name = learning["method"]
    if learning.get("mode") == "method":
        return f"The method {name} weighed these trajectories, and nothing was learned: {worth}."
    losses = {row["method"]: row.get("loss") for row in learning["methods"]}
    return (
        f"Another method does better on dev than learned weights, by more than the luck of so "
        f"many: {name}, loss {losses[name]:.4f} ({losses['learned']:.4f} learned, "
        f"{losses['uniform']:.4f} uniform); {worth}."
    )


def _dev_verdict(learning: Mapping[str, Any], worth: str) -> str:
    """Whether learned weights, which did better on dev, did so by more than noise."""
    uniform, weighted = learning["uniform_dev_loss"], learning["weighted_dev_loss"]
    rival = "uniform ones"
    if learning.get("returns_dev_loss") is not None:
        uniform, rival = learning["returns_dev_loss"], "returns alone"
    gain, error = learning.get("dev_gain"), learning.get("dev_gain_se")
    gain = uniform - weighted if gain is None else gain
    if gain > 0 and error is None:
        return f"Learned weights do better on dev, noise unknown (gain {gain:.4f} nats a token)."
    if error is not None and 0 < gain <= 2.0 * error:
        return (
            f"Learned weights do better on dev, but within noise: {gain:.4f} nats (SE {error:.4f})."
        )
    change = 100.0 * (weighted - uniform) / uniform if uniform else 0.0
    verdict = "Weighting helps" if gain > 0 else "Weighting does not help"
    return (
        f"{verdict}: dev loss is {weighted:.4f} with learned weights and {uniform:.4f} with "
        f"{rival} ({change:+.1f}%); {worth}."
    )


def _read_facts(run: Run, rows: pl.DataFrame) -> dict[str, Any]:
    """What came in, and where it went; read = kept + rejected."""
    rejected, excluded = run.rows("rejected"), run.rows("excluded")
    places = rows.group_by("origin", "split").len(name="n").sort("origin", "split")
    return {
        "read": rows.height + len(rejected),
        "kept": rows.height,
        "rejected": len(rejected),
        "by_origin_and_split": places.to_dicts(),
        "rejected_because": _reasons(rejected),
        "excluded_because": _reasons(excluded),
    }


def _reasons(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Kinds of reasons with their counts, the most frequent first; a lone one in full."""
    kinds: dict[str, list[str]] = {}
    for row in rows:
        reason = str(row.get("reason", "no reason given"))
        kinds.setdefault(_kind(reason), []).append(reason)
    ranked = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    found = [
        {"reason": kind if len(set(told)) > 1 else told[0], "n": len(told)}
        for kind, told in ranked[:_N_REASONS]
    ]
    others = sum(len(told) for _, told in ranked[_N_REASONS:])
    return [*found, {"reason": "other reasons", "n": others}] if others else found


def _kind(reason: str) -> str:
    """A reason without the numbers and the row it names, so that like reasons count as one."""
    return re.sub(r"\d+", "N", re.sub(r" row \S.*", " row", reason, flags=re.DOTALL))


def _weight_facts(train: pl.DataFrame, learned: pl.DataFrame) -> dict[str, Any]:
    """Spread and histogram, overall and by source; the real rows' part of the mass."""
    weights = learned["weight"].to_numpy()
    real = train.filter(pl.col("origin") == "real")["weight"]
    mass = float(train["weight"].sum())
    bars = histograms_by(learned, "source")
    return {
        "overall": {
            **spread(weights).as_dict(),
            "max": float(weights.max()) if len(weights) else None,
            "n_zero": int((weights == 0).sum()),
            "top_tenth_mass": top_mass(weights, math.ceil(len(weights) / 10)),
            **_bars(histogram(weights)),
        },
        "sources": [
            {"source": source, **found.as_dict(), **_bars(bars[source])}
            for source, found in spread_by(learned, "source").items()
        ],
        "bin_edges": list(BIN_EDGES),
        "real_train": {
            "n": len(real),
            "weight": real[0] if len(real) else None,
            "mass_share": float(real.sum()) / mass if mass else 0.0,
        },
    }


def _bars(found: Histogram) -> dict[str, Any]:
    """A histogram beside the facts that name its group."""
    return {name: value for name, value in found.as_dict().items() if name != "group"}


def _learning_facts(rows: pl.DataFrame, learning: Mapping[str, Any]) -> dict[str, Any]:
    """What the loop told, and how many real rows it had to learn from and be judged by."""
    real = rows.filter(pl.col("origin") == "real")
    counts = {
        f"n_{split}": real.filter(pl.col("split") == split).height
        for split in ("validation", "dev", "test")
    }
    return {**counts, **{key: value for key, value in learning.items() if key != "warnings"}}


def _extremes(learned: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The heaviest and the lightest, none of them twice; no rows where all weigh the same."""
    if learned["weight"].n_unique() < 2:
        return learned.clear(), learned.clear()
    ranked = learned.sort("weight", "traj_id", descending=[True, False])
    n = min(N_LISTED, (ranked.height + 1) // 2)
    return ranked.head(n), ranked.tail(min(n, ranked.height - n)).reverse()


def _listed(rows: pl.DataFrame, texts: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as the list shows them."""
    keep = ("traj_id", "source", "weight", "n_turns", "n_tokens")
    known = rows.join(texts, on="traj_id", how="left", maintain_order="left")
    return [
        {**{key: row[key] for key in keep}, "line": excerpt(row["messages_json"])}
        for row in known.iter_rows(named=True)
    ]


def _warnings(facts: Mapping[str, Any]) -> list[str]:
    """What the user should not miss."""
    found, learning, whole = [], facts["learning"], facts["weights"]["overall"]
    has_learned = learning.get("mode") not in ("applied", "method")
    if has_learned and learning["n_validation"] < MINIMUM_VALIDATION:
        found.append(
            f"Only {learning['n_validation']} real validation trajectories; below "
            f"{MINIMUM_VALIDATION} weights cannot be told from luck."
        )
    if whole["n"] and whole["ess_fraction"] < LOW_ESS:
        found.append(
            f"ESS/n is {whole['ess_fraction']:.2f}: a tenth of the synthetic trajectories holds "
            f"{whole['top_tenth_mass']:.0%} of the mass."
        )
    found += [
        f"The weight follows {NAMES[fact['column']]} (rank correlation "
        f"{fact['rho']:+.2f}, beyond {WARN_BEYOND}); check that it is quality that is weighed, "
        f"not only length or format."
        for fact in facts["correlations"]
        if fact["suspicious"]
    ]
    reliability = learning.get("reliability")
    if reliability is not None and reliability < LOW_RELIABILITY:
        found.append(
            f"Heads of the ensemble agree little (rank correlation {reliability:.2f}, below "
            f"{LOW_RELIABILITY}): another seed would have weighed these trajectories otherwise."
        )
    aligned = facts["alignment"]
    if aligned["measured"] and aligned["gain"] < -2.0 * aligned["gain_error"]:
        found.append("The weighted synthetic set lies further from the real one than unweighted.")
    if facts["read"]["rejected"]:
        found.append(f"{facts['read']['rejected']} rows were rejected; see rejected.jsonl.")
    return found
