"""Terms and bounds that keep to the words they have earned.

A term is a certificate where a theorem stands behind it and an estimate elsewhere; a sum is what
its weakest term is. A bound that is no less than the largest loss is vacuous, and says so before
it says anything else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from trajweight.analysis.facts import Facts
from trajweight.errors import ConfigError

Status = Literal["certificate", "estimate"]


@dataclass(frozen=True, slots=True)
class Term(Facts):
    """One part of a bound, or a bound of one part.

    Attributes:
        name: What it is.
        value: In units of the loss; infinite (null in JSON) where nothing at all can be said.
        status: Whether a theorem stands behind it.
        because: The theorem, or why there is none.
        needs: What has to hold and cannot be seen from the numbers.
        delta: Chance that it fails; 0 for what was merely observed, None for an estimate.
        n_eff: Independent rows that it counts on; None where that has no meaning.
        loss_range: The largest loss there can be.
    """

    name: str
    value: float
    status: Status
    because: str
    needs: tuple[str, ...] = ()
    delta: float | None = 0.0
    n_eff: float | None = None
    loss_range: float = 1.0

    def __post_init__(self) -> None:
        """Refuse an estimate that passes for a certificate.

        Raises:
            ConfigError: If it calls itself one, or tells its chance to fail.
        """
        if self.status == "estimate":
            refuse_big_words(self.name, self.because)
            if self.delta is not None:
                message = f"the estimate {self.name!r} has delta {self.delta}; it can have none."
                raise ConfigError(message, hint="Only what is proved has a known chance to fail.")

    @property
    def is_vacuous(self) -> bool:
        """Whether it says nothing that was not known before."""
        return not self.value < self.loss_range

    @property
    def label(self) -> str:
        """The word that a table shows."""
        return f"vacuous {self.status}" if self.is_vacuous else self.status

    def as_dict(self) -> dict[str, Any]:
        """The term as values for JSON, with its label."""
        return {**Facts.as_dict(self), "is_vacuous": self.is_vacuous, "label": self.label}


@dataclass(frozen=True, slots=True)
class Bound(Facts):
    """An upper bound on a risk: the sum of its terms.

    Attributes:
        name: The risk.
        terms: What it is the sum of.
    """

    name: str
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        """Refuse a name that promises more than the terms keep.

        Raises:
            ConfigError: If there is no term, ranges differ, or an estimate calls itself otherwise.
        """
        if len({term.loss_range for term in self.terms}) != 1:
            message = f"the bound {self.name!r} adds up no terms, or terms of different losses."
            raise ConfigError(message)
        if self.status == "estimate":
            refuse_big_words(self.name)

    @property
    def value(self) -> float:
        """The sum."""
        return math.fsum(term.value for term in self.terms)

    @property
    def status(self) -> Status:
        """A certificate only if every term is one."""
        return "certificate" if not self.estimates else "estimate"

    @property
    def estimates(self) -> tuple[Term, ...]:
        """The terms that are none."""
        return tuple(term for term in self.terms if term.status == "estimate")

    @property
    def delta(self) -> float | None:
        """Chance that any of the terms fails, at most; None for an estimate."""
        if self.estimates:
            return None
        return math.fsum(term.delta or 0.0 for term in self.terms)

    @property
    def is_vacuous(self) -> bool:
        """Whether no loss exceeds it anyway."""
        return not self.value < self.terms[0].loss_range

    @property
    def sentence(self) -> str:
        """The finding in words that keep to what is known."""
        largest = self.terms[0].loss_range
        if self.is_vacuous:
            return (
                f"Vacuous: the bound on the {self.name} is {self.value:.3g}, and no loss exceeds "
                f"{largest:g} anyway."
            )
        if self.status == "estimate":
            named = ", ".join(term.name for term in self.estimates)
            return (
                f"An estimate without guarantee: the {self.name} may be at most {self.value:.3g}; "
                f"nothing is proved of {named}."
            )
        confidence = 1.0 - (self.delta or 0.0)
        return (
            f"Certified with confidence {confidence:.4g}: the {self.name} is at most "
            f"{self.value:.3g}, where its conditions hold."
        )

    def certified_value(self) -> float:
        """The value, for those who want a certificate or nothing.

        Raises:
            ConfigError: If a term is an estimate, or the bound says nothing.
        """
        if self.estimates:
            first = self.estimates[0]
            message = f"the {self.name} has no certificate: {first.name} is an estimate."
            raise ConfigError(message, hint=f"{first.because[:1].upper()}{first.because[1:]}.")
        if self.is_vacuous:
            message = f"the bound on the {self.name} is vacuous: {self.value:.3g}."
            raise ConfigError(message, hint="More independent rows or a smaller KL are needed.")
        return self.value

    def as_dict(self) -> dict[str, Any]:
        """The bound as values for JSON, with what follows from its terms."""
        return {
            **Facts.as_dict(self),
            "value": self.value if math.isfinite(self.value) else None,
            "status": self.status,
            "delta": self.delta,
            "is_vacuous": self.is_vacuous,
            "sentence": self.sentence,
        }


def refuse_big_words(*texts: str) -> None:
    """Refuse to let an estimate speak of certificates.

    Raises:
        ConfigError: If one of the texts does.
    """
    for text in texts:
        if "certif" in text.lower():
            message = f"{text!r} claims a certificate, but an input of it is an estimate."
            raise ConfigError(message, hint="Call it an estimate, or prove its inputs.")
