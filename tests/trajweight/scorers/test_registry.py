from __future__ import annotations

import importlib
import subprocess
import sys
from typing import get_args

import pytest

from tests.trajweight.scorers.pools import varied_pool
from trajweight.errors import ConfigError
from trajweight.scorers import SCORERS, Needs, names, scorer

GOOD = """
import numpy as np
from trajweight.scorers import Scored

class Mine:
    name, sentence, needs = "mine", "Says nothing.", "rows"
    def score(self, pool):
        return Scored(np.zeros(len(pool.synthetic)))
"""


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Installs a package with one scorer: its name as an entry point, and its code."""

    def install(name: str, code: str) -> None:
        info = tmp_path / "their_package-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1\n")
        (info / "entry_points.txt").write_text(
            f"[trajweight.scorers]\n{name} = their_scorer:Mine\n"
        )
        (tmp_path / "their_scorer.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "their_scorer", raising=False)
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("their_scorer", None)


@pytest.mark.parametrize("name", SCORERS)
def test_every_name_finds_a_scorer_that_calls_itself_so_and_says_what_it_does(name) -> None:
    found = scorer(name)

    assert found.name == name
    assert found.sentence.endswith(".")
    assert found.sentence[0].isupper()
    assert found.needs in get_args(Needs)


def test_a_name_that_is_not_known_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(ConfigError, match="--method DSRI: no such scorer") as caught:
        scorer("DSRI")

    assert "Did you mean dsir?" in caught.value.hint
    assert all(name in caught.value.hint for name in names())


def test_names_are_listed_without_loading_anything_heavy() -> None:
    program = (
        "import sys; from trajweight.scorers import names; assert 'dsir' in names();"
        "print([name for name in ('torch', 'sklearn', 'scipy') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_a_scorer_of_another_package_is_found_by_its_name(publish) -> None:
    publish("mine", GOOD)

    found = scorer("mine").score(varied_pool())

    assert names() == [*SCORERS, "mine"]
    assert found.scores.tolist() == [0.0] * 30


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("mine", "import not_there_at_all", "cannot be loaded: No module named"),
        ("mine", GOOD.replace("def score", "def scores"), "is Mine, which has no method score"),
        ("yours", GOOD, "calls itself 'mine'"),
        ("mine", GOOD.replace('"rows"', '"luck"'), "needs 'luck', not one of rows"),
        ("mine", GOOD.replace('"Says nothing."', "None"), "has no sentence"),
    ],
)
def test_what_is_no_scorer_is_refused_with_the_place_to_mend(publish, name, code, why) -> None:
    publish(name, code)

    with pytest.raises(ConfigError, match=why) as caught:
        scorer(name)

    assert caught.value.hint


def test_another_package_cannot_take_the_name_of_ours(publish) -> None:
    publish("dsir", GOOD)

    with pytest.raises(ConfigError, match="names a scorer 'dsir', as one of ours") as caught:
        scorer("uniform")

    assert "their_scorer:Mine" in caught.value.hint
