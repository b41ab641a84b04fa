"""What may be claimed: sentences that are chosen by intervals and by the rules fixed before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trajweight.analysis.markdown import escaped
from trajweight.bench.results_facts import AUROC, may_claim

if TYPE_CHECKING:
    from trajweight.analysis.resampling import Interval
    from trajweight.bench.results_cells import Metric
    from trajweight.bench.results_facts import ModelFacts


def claims(facts: ModelFacts) -> list[str]:
    """What may be said of a model, by the rule that was fixed."""
    fixed, n = facts.claims, len(facts.seeds)
    parts = [f"### {escaped(facts.model)}"]
    if n < 2:
        parts.append("There is one seed only: **nothing is claimed from one seed.**" if n else "")
    elif n < fixed.least_seeds:
        parts.append(
            f"There are {n} seeds, fewer than the {fixed.least_seeds} that a claim takes: "
            "**nothing is claimed.**"
        )
    lines = []
    for metric in fixed.primary:
        there = facts.findings[metric.name]
        names = {
            fixed.methods.uniform: "uniform weights",
            fixed.methods.permuted: "permuted learned weights",
            facts.best.get(metric.name, ""): "the best label-free baseline "
            f"({facts.best.get(metric.name, 'of which there is none')})",
        }
        for name, words in names.items():
            if name in there:
                lines.append(_claim(facts, metric, name, words))
            else:
                lines.append(f"{metric.name}: no claim against {words}: no runs in common.")
        lines.append(_every_baseline(facts, metric))
        lines.append(_control(facts, metric))
    lines += [clean(facts), goal(facts)]
    return [*parts, "\n".join(f"- {escaped(line)}" for line in lines if line)]


def _claim(facts: ModelFacts, metric: Metric, name: str, words: str) -> str:
    """One comparison on the whole grid."""
    finding = facts.findings[metric.name][name]
    found = finding.difference
    told = f"{with_interval(found.mean, found.interval)} {metric.unit}"
    size = f"{counted(found.n_seeds, 'seed')}, {counted(found.n_settings, 'setting')}"
    is_better = metric.sign * found.mean > 0
    if may_claim(facts, found):
        begin = "We claim" if is_better else "It loses"
        way = metric.better if is_better else {"lower": "higher", "higher": "lower"}[metric.better]
        after = (
            f"Holm p = {finding.holm:.3g}"
            if finding.holm <= facts.claims.alpha
            else f"the test alone does not reject after Holm's correction, p = {finding.holm:.3g}"
        )
        return f"{begin}: {way} {metric.name} than {words}: {told} ({size}; {after})."
    if found.n_seeds < facts.claims.least_seeds:
        return f"Not claimed, too few seeds: {metric.name} against {words}: {told} ({size})."
    detectable = (
        f" Such seeds find a difference of {found.detectable:.3g} in 80 of 100 cases."
        if found.detectable
        else ""
    )
    return (
        f"Not claimed: {metric.better} {metric.name} than {words}: {told}, an interval that does "
        f"not exclude zero ({size}).{detectable}"
    )


def _every_baseline(facts: ModelFacts, metric: Metric) -> str:
    """How many of the label-free baselines are beaten."""
    there = {
        name: one.difference
        for name, one in facts.findings[metric.name].items()
        if name in facts.label_free
    }
    if not there:
        return ""
    ways: dict[str, list[str]] = {"beaten": [], "lost to": [], "open": []}
    for name, found in there.items():
        way = "beaten" if metric.sign * found.mean > 0 else "lost to"
        ways[way if may_claim(facts, found) else "open"].append(name)
    rest = "".join(
        f"; {words}: {', '.join(ways[key])}"
        for key, words in (("lost to", "better than learned"), ("open", "not decided"))
        if ways[key]
    )
    return (
        f"{metric.name}: {len(ways['beaten'])} of {len(there)} label-free baselines are beaten "
        f"with an interval that excludes zero{rest}."
    )


def _control(facts: ModelFacts, metric: Metric) -> str:
    """Whether a gain over uniform is one of knowing which rows."""
    parts, there = facts.claims.methods, facts.findings[metric.name]

    def is_won(name: str) -> bool:
        found = there[name].difference if name in there else None
        return found is not None and may_claim(facts, found) and metric.sign * found.mean > 0

    if not is_won(parts.uniform) or is_won(parts.permuted):
        return ""
    return (
        f"{metric.name}: the gain over uniform weights is not shown to come from which rows weigh "
        "more: permuted learned weights are not beaten."
    )


def goal(facts: ModelFacts) -> str:
    """Whether the goal on AUROC is met."""
    claims = facts.claims
    found = facts.level(facts.ranking, AUROC)
    few = f", from {counted(len(facts.seeds), 'seed')} only"
    if found is None:
        return "AUROC: learned weights have none here."
    is_high = found.mean >= claims.auroc_goal
    text = (
        f"AUROC: the mean is {with_interval(found.mean, found.interval, sign='')}, "
        f"{'at least' if is_high else 'below'} the goal of {claims.auroc_goal}"
        f"{few if found.n_seeds < claims.least_seeds else ''}"
    )
    if not facts.shortfalls:
        return f"{text}; no cheap score was run to hold it against."
    below = [one for one in facts.shortfalls if one.gap < -claims.auroc_slack]
    worst = facts.shortfalls[0]
    told = f"{worst.setting}, {worst.gap:+.3f} against {worst.cheap}"
    if not below:
        return (
            f"{text}; in no setting is it more than {claims.auroc_slack} below the best cheap "
            f"score (worst: {told})."
        )
    return (
        f"{text}; in {len(below)} of {len(facts.shortfalls)} settings it is more than "
        f"{claims.auroc_slack} below the best cheap score (worst: {told})."
    )


def clean(facts: ModelFacts) -> str:
    """Whether anything is lost against uniform where there is nothing to find."""
    uniform = facts.claims.methods.uniform
    told = []
    for metric in facts.claims.primary:
        found = facts.difference(metric, uniform, where=lambda setting: setting.noise == 0)
        if found is None:
            told.append(f"{metric.name}: no runs without noise of both learned and uniform.")
            continue
        size = (
            f"{with_interval(found.mean, found.interval)} {metric.unit}, "
            f"{counted(found.n_seeds, 'seed')}"
        )
        if found.interval is None or found.n_seeds < facts.claims.least_seeds:
            told.append(f"{metric.name}: too few seeds to say ({size}).")
            continue
        worst = min(metric.sign * found.interval.low, metric.sign * found.interval.high)
        best = max(metric.sign * found.interval.low, metric.sign * found.interval.high)
        says = (
            "something is lost"
            if best < 0 and worst < -metric.margin
            else f"nothing beyond the margin of {metric.margin:g} is lost"
            if worst >= -metric.margin
            else f"a loss beyond the margin of {metric.margin:g} is not excluded"
        )
        told.append(f"{metric.name}: {says} ({size}).")
    return "At 0 % noise, against uniform weights: " + " ".join(told)


def counted(n: int, thing: str) -> str:
    """A number of things in words.

    Example:
        >>> counted(1, "seed"), counted(2, "seed")
        ('1 seed', '2 seeds')
    """
    return f"{n} {thing}{'' if n == 1 else 's'}"


def with_interval(value: float, interval: Interval | None, *, sign: str = "+") -> str:
    """A value with its interval in brackets, where there is one."""
    return f"{value:{sign}.3f}" + (f" ({ends_of(interval, sign=sign)})" if interval else "")


def ends_of(interval: Interval | None, *, sign: str = "+") -> str:
    """From where to where; a dash where there is no interval."""
    if interval is None:
        return "-"
    return f"{interval.low:{sign}.3f} to {interval.high:{sign}.3f}"
