from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.runs import make_run, row
from trajweight.card import CardFacts, Part, card, card_facts, size_category
from trajweight.errors import ConfigError
from trajweight.export import ExportRequest, export_weights
from trajweight.weights import effective_sample_size

if TYPE_CHECKING:
    from pathlib import Path

FACTS = CardFacts(
    title="Weighted trajectories",
    target="TRL",
    mode="adapter",
    parts=(Part("good", "synthetic", 3, 0.75, {"mit": 3}), Part("bad", "synthetic", 1, 0.25)),
    files={"default": ["data/train.jsonl"]},
    n_rows=4,
    weights=(0.5, 0.5, 1.0, 2.0),
    commands=(["trajweight", "score", "/home/me/secret place/data.jsonl", "--token", "hf_xyz"],),
)


def head(text: str) -> dict[str, Any]:
    _, yaml_text, _ = text.split("---\n", 2)
    found = yaml.safe_load(yaml_text)
    assert isinstance(found, dict)
    return found


def test_the_head_is_what_the_hub_reads() -> None:
    found = head(card(FACTS))

    assert found["size_categories"] == ["n<1K"]
    assert found["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": ["data/train.jsonl"]}],
        }
    ]
    assert "trajweight" in found["tags"]


@pytest.mark.parametrize(
    ("given", "told", "expected"),
    [
        ("", {"mit": 4}, "mit"),
        ("", {"MIT": 2, "mit": 2}, "mit"),
        ("", {"mit": 2, "My own terms": 2}, ["mit", "other"]),
        ("", {"mit": 3}, ["mit", "unknown"]),
        ("", {}, "unknown"),
        ("Apache-2.0", {}, "apache-2.0"),
        ("see LICENSE", {"mit": 4}, "other"),
    ],
)
def test_the_licence_is_what_the_rows_or_the_publisher_say(
    given: str, told: dict[str, int], expected: object
) -> None:
    facts = replace(FACTS, licence=given, parts=(Part("s", "synthetic", 4, 1.0, told),))

    assert head(card(facts))["license"] == expected


def test_rows_that_say_no_licence_are_said_to_be_unknown() -> None:
    text = card(FACTS)

    assert "| good | synthetic | 3 | 75.0% | mit |" in text
    assert "| bad | synthetic | 1 | 25.0% | unknown |" in text
    assert "Find out what the terms" in text


def test_a_card_tells_no_folder_and_no_secret_of_the_machine() -> None:
    text = card(FACTS)

    assert "trajweight score data.jsonl --token ..." in text
    assert "/home" not in text
    assert "hf_xyz" not in text


@settings(max_examples=50)
@given(
    st.lists(st.floats(0, 50, allow_subnormal=False), min_size=1, max_size=60).filter(
        lambda w: max(w) > 0
    )
)
def test_the_bars_count_every_weight_once_and_the_size_is_that_of_the_weights(
    weights: list[float],
) -> None:
    ess = float(effective_sample_size(np.array(weights)))
    facts = replace(FACTS, weights=weights, ess_fraction=ess / len(weights))

    text = card(facts)

    bars = text.split("```text\n")[1].split("```")[0].splitlines()[1:]
    assert sum(int(line[11:].split()[0]) for line in bars) == len(weights)
    assert max(line.count("#") for line in bars) == 40
    assert f"is {ess:.0f} of {len(weights)}" in text


@given(st.text(max_size=30))
def test_no_name_breaks_the_table_or_the_head(name: str) -> None:
    facts = replace(FACTS, title=f"T {name}".strip(), parts=(Part(name, "real", 1, 1.0),))

    text = card(facts)

    assert isinstance(head(text)["pretty_name"], str)
    (line,) = [
        each for each in text.split("\n") if each.endswith("| real | 1 | 100.0% | unknown |")
    ]
    assert line.replace("\\|", "").count("|") == 6


@given(st.integers(0, 10**14))
def test_a_size_holds_the_number_of_rows(n_rows: int) -> None:
    letters = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    name = size_category(n_rows)
    low, _, high = name.partition("<n<") if "<n<" in name else name.partition("n<")
    bounds = [
        int(each[:-1]) * letters[each[-1]] for each in (low, high) if each and "n" not in each
    ]

    if name == "n>1T":
        assert n_rows >= 10**12
    elif name == "n<1K":
        assert n_rows < 1000
    else:
        assert bounds[0] <= n_rows < bounds[1] == 10 * bounds[0]


def test_a_card_of_an_export_tells_what_the_run_and_the_export_say(tmp_path: Path) -> None:
    rows = [
        row("a", text="one", license="MIT"),
        row("b", text="two", metadata={"licence": "cc-by-4.0"}),
        row("c", source="bad", text="three"),
        row("d", source="bad", text="four"),
    ]
    weights = {"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0}
    run = make_run(tmp_path, rows, weights)
    out = tmp_path / "out"
    export_weights(run, out, ExportRequest(to="fireworks"), argv=["trajweight", "export-weights"])

    facts = card_facts(out, run, licence="mit")
    text = card(facts)

    assert [(part.source, part.n_rows, part.licences) for part in facts.parts] == [
        ("good", 2, {"MIT": 1, "cc-by-4.0": 1}),
        ("bad", 1, {}),
    ]
    assert facts.parts[0].mass == pytest.approx(5 / 6)
    assert sorted(facts.weights) == pytest.approx([0.5, 1.0, 1.5])
    assert facts.ess_fraction == pytest.approx(3**2 / (0.25 + 1 + 2.25) / 3)
    assert head(text)["license"] == "mit"
    assert "1 trajectories were left out: of weight zero." in text
    assert "## Weighted trajectories for Fireworks" in text
    assert text.count("\n# ") == 1


def test_a_folder_that_is_no_export_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, [row("a")], {"a": 1.0})

    with pytest.raises(ConfigError):
        card_facts(tmp_path, run)
