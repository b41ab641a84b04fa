from __future__ import annotations

from typing import Any

from trajweight.analysis.shares import share_sentence, share_table

TRIED = [
    {"share": 0.14, "loss": 0.5, "gain": 0.0, "gain_se": 0.0},
    {"share": 0.5, "loss": 0.4, "gain": 0.1, "gain_se": 0.02},
    {"share": 1.0, "loss": 0.3, "gain": 0.2, "gain_se": None},
]


def found(**changes: Any) -> dict[str, Any]:
    facts = {"share": 0.5, "weight": 6.25, "before": 0.14, "steps": 29, "judged_by": "dev"}
    return {**facts, "is_better_alone": False, "tried": TRIED, **changes}


def test_nothing_is_told_where_nothing_was_tried() -> None:
    assert share_sentence({}) == ""
    assert share_table({})[1] == []


def test_every_training_is_a_row_and_the_one_taken_is_marked() -> None:
    heads, rows = share_table(found())

    assert heads[1] == "dev loss"
    assert rows == [
        ("14% (as they are)", "0.5000", "+0.0000", "0.0000"),
        ("50% (taken)", "0.4000", "+0.1000", "0.0200"),
        ("real rows alone", "0.3000", "+0.2000", "-"),
    ]
    assert share_table(found(share=0.14))[1][0][0] == "14% (as they are, taken)"


def test_the_sentence_says_what_changes_and_by_how_much() -> None:
    assert share_sentence(found()) == (
        "Real rows do best with 50% of the training mass instead of 14%: dev loss 0.4000 instead "
        "of 0.5000 (gain +0.1000, standard error 0.0200), so each carries weight 6.25."
    )


def test_the_sentence_says_it_where_nothing_changes() -> None:
    said = share_sentence(found(share=0.14, judged_by="validation"))

    assert said.startswith("No other share of the training mass did better on validation")
    assert "14%" in said


def test_a_training_that_failed_has_no_numbers() -> None:
    failed = [*TRIED[:2], {"share": 1.0, "loss": None, "gain": None, "gain_se": None}]
    facts = found(tried=failed)

    assert share_table(facts)[1][-1] == ("real rows alone", "-", "-", "-")
    assert share_sentence(facts) == share_sentence(found())


def test_the_sentence_says_it_where_synthetic_rows_do_not_help() -> None:
    said = share_sentence(found(is_better_alone=True))

    assert said.endswith(
        "Real rows alone did better than at any share (0.3000): these synthetic rows do not help a "
        "training of 29 steps."
    )
