from __future__ import annotations

import json
import math

import pytest

from trajweight.analysis.promises import Bound, Term
from trajweight.errors import ConfigError


def certificate(value, **more) -> Term:
    return Term("complexity", value, "certificate", "theorem A", delta=0.05, **more)


def estimate(value, **more) -> Term:
    return Term("shift", value, "estimate", "nothing is proved", delta=None, **more)


def test_a_sum_of_certificates_is_certified_and_their_chances_to_fail_add_up() -> None:
    bound = Bound("risk", (certificate(0.2), certificate(0.25)))

    assert bound.status == "certificate"
    assert [bound.value, bound.delta] == pytest.approx([0.45, 0.1])
    assert bound.sentence == (
        "Certified with confidence 0.9: the risk is at most 0.45, where its conditions hold."
    )
    assert bound.certified_value() == pytest.approx(0.45)


def test_one_estimate_makes_the_sum_an_estimate_that_never_says_the_word() -> None:
    bound = Bound("risk", (certificate(0.2), estimate(0.1)))

    assert (bound.status, bound.delta) == ("estimate", None)
    assert bound.sentence == (
        "An estimate without guarantee: the risk may be at most 0.3; nothing is proved of shift."
    )
    with pytest.raises(ConfigError, match="no certificate: shift is an estimate") as refusal:
        bound.certified_value()
    assert refusal.value.hint == "Nothing is proved."


@pytest.mark.parametrize("term", [certificate, estimate])
@pytest.mark.parametrize("value", [1.0, 1.7, math.inf])
def test_a_bound_that_reaches_the_largest_loss_says_vacuous_whatever_its_terms(term, value) -> None:
    bound = Bound("risk", (term(value),))

    assert bound.is_vacuous
    assert bound.sentence.startswith(f"Vacuous: the bound on the risk is {value:.3g}, and no loss")
    assert "ertified" not in bound.sentence
    assert bound.terms[0].label.startswith("vacuous ")
    with pytest.raises(ConfigError, match=r"vacuous|is an estimate"):
        bound.certified_value()


def test_the_range_of_the_loss_decides_what_is_vacuous() -> None:
    assert Bound("risk", (certificate(1.0),)).is_vacuous
    assert not Bound("risk", (certificate(1.0, loss_range=4.0),)).is_vacuous
    assert Bound("risk", (certificate(4.0, loss_range=4.0),)).is_vacuous
    assert not certificate(0.99).is_vacuous
    assert Term("x", math.nan, "certificate", "why").is_vacuous


@pytest.mark.parametrize(
    ("name", "because"),
    [("certified shift", "why"), ("shift", "a CERTIFICATE of sorts"), ("Certify", "why")],
)
def test_no_estimate_may_call_itself_a_certificate(name, because) -> None:
    with pytest.raises(ConfigError, match="claims a certificate"):
        Term(name, 0.1, "estimate", because, delta=None)


def test_no_bound_with_an_estimate_may_be_named_certified() -> None:
    with pytest.raises(ConfigError, match="claims a certificate"):
        Bound("certified risk", (certificate(0.1), estimate(0.1)))
    assert Bound("certified risk", (certificate(0.1),)).status == "certificate"


def test_an_estimate_has_no_known_chance_to_fail() -> None:
    with pytest.raises(ConfigError, match="it can have none"):
        Term("shift", 0.1, "estimate", "why", delta=0.05)


def test_terms_of_different_losses_are_not_added_up() -> None:
    for terms in ((certificate(0.1), certificate(0.1, loss_range=4.0)), ()):
        with pytest.raises(ConfigError, match="adds up no terms, or terms of different losses"):
            Bound("risk", terms)


def test_facts_are_json_with_all_that_follows_from_the_terms() -> None:
    facts = Bound("risk", (certificate(0.2, n_eff=40.0), estimate(math.inf))).as_dict()

    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["status"] == "estimate"
    assert facts["value"] is facts["terms"][1]["value"] is None
    assert [term["label"] for term in facts["terms"]] == ["certificate", "vacuous estimate"]
    assert facts["is_vacuous"]
