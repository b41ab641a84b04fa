"""One page of a run: its facts, its figures, and its trajectories to sort, search and read.

The page is one file that asks nothing of any network. Text of the data stands in it in two ways:
escaped, where Python writes markup, and as JSON that a script puts into the page as text alone.
Beyond both a policy in the page lets run this page's own script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any, Final

from trajweight.analysis.figures import figures
from trajweight.analysis.html_figures import drawn, legend
from trajweight.analysis.html_parts import listed, story, tables, tiles
from trajweight.analysis.html_text import as_script_data, escaped, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Facts = Mapping[str, Any]

#: Each row of the page, see `html_rows`; turns are objects of role, and where there are any
#: reasoning, text, calls (name and arguments as text) and trained.
ROW_KEYS: Final = (
    *("id", "source", "origin", "split", "task", "weight", "score", "n_turns", "n_tokens"),
    *("reward", "success", "problems", "base_nll", "line", "turns", "n_cut"),
)


def page(
    facts: Facts, rows: Iterable[Mapping[str, Any]], *, name: str = "run", told: str = ""
) -> str:
    """The page as HTML.

    Args:
        facts: Those of `report.report_facts`; a part that is missing is left out.
        rows: One a trajectory with `ROW_KEYS`, the heaviest first, see `html_rows.rows_of`.
        name: What to call the run.
        told: How the rows were chosen, as a sentence.
    """
    style, script = _part("page.css"), _part("page.js")
    return Template(_part("page.html")).substitute(
        policy=(
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        ),
        style=style,
        script=script,
        name=text_of(name),
        headline=text_of(facts.get("headline") or "A run of trajweight."),
        warnings=listed(facts.get("warnings") or (), kind="warnings", item="warning"),
        tiles=tiles(facts),
        story=story(facts),
        figures="".join(
            f"<figure><h2>{escaped(figure.title)}</h2>{drawn(figure)}{legend(figure)}"
            f"<figcaption>{escaped(figure.note)}</figcaption></figure>"
            for figure in figures(facts)
        ),
        tables=tables(facts),
        told=text_of(told),
        data=as_script_data({"rows": [{key: row[key] for key in ROW_KEYS} for row in rows]}),
    )


def _part(name: str) -> str:
    """One of the page's own files."""
    return (files("trajweight.analysis") / name).read_text("utf-8")


def _hash(text: str) -> str:
    """How a policy names the one inline text that it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
