from __future__ import annotations

from html import unescape
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.analysis.test_schema import poor_run, rich_run
from tests.runs import make_run, row
from trajweight.analysis.excerpts import inert
from trajweight.analysis.markdown import document, escaped
from trajweight.analysis.report import build_report

if TYPE_CHECKING:
    from pathlib import Path

EVIL = (
    "\x1b[2J<script>alert(1)</script> <b onload=x>[click](javascript:alert(1)) ![i](http://e/x) "
    "`code` **bold** _em_ ~~gone~~ | cell | \\| $x$ # head\r\n> quote\n- item https://evil.example "
    "www.evil.example a@b.example &lt; &#60; \u202e"
)
RENDERER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def shown(text: str) -> str:
    """What a reader sees of a paragraph of Markdown; nothing but text may be in it."""
    paragraph = RENDERER.parse(f"x{text}x")[1]
    kinds = {token.type for token in paragraph.children or ()}
    assert kinds <= {"text", "text_special"}, kinds
    return "".join(token.content for token in paragraph.children or ())[1:-1]


@given(st.text() | st.text(alphabet="\\`*_[]()<>#|~!&;:/@.x "))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert shown(escaped(text)) == inert(text)


def test_active_text_does_nothing_in_a_paragraph_and_makes_no_link() -> None:
    made = escaped(EVIL)

    assert shown(made) == inert(EVIL)
    assert "://" not in made
    assert "www." not in made
    assert "@" not in made


def test_active_text_leaves_the_tables_whole_and_no_html_behind(tmp_path: Path) -> None:
    rows = [row(f"{EVIL}{i}", source=f"{EVIL}{i % 2}", text=EVIL) for i in range(6)]
    run = make_run(tmp_path, rows, {one["id"]: i + 1.0 for i, one in enumerate(rows)})
    run.save_rows("rejected", [{"reason": EVIL}])

    made = document(build_report(run, {"warnings": [EVIL], "why_uniform": EVIL}))

    tokens = RENDERER.parse(made)
    every = [*tokens, *(child for token in tokens for child in token.children or ())]
    assert not {token.type for token in every} & {
        *("html_block", "html_inline", "link_open", "image", "code_inline", "fence", "s_open"),
        *("em_open", "hardbreak"),
    }
    for line in (line for line in made.splitlines() if line.startswith("|")):
        bare = line.replace("\\\\", "").replace("\\|", "")
        assert bare.count("|") in (4, 5, 6, 7, 8)
    html = unescape(RENDERER.render(made))
    assert inert(EVIL)[:40] in html
    assert "\x1b" not in made


@pytest.mark.parametrize("make", [rich_run, poor_run])
def test_the_document_says_what_the_facts_say(tmp_path: Path, make) -> None:
    facts = build_report(make(tmp_path), {"selected": "head"})

    text = unescape(RENDERER.render(document(facts)))

    assert facts["headline"] in text
    for one in facts["story"]:
        assert one["text"] in text
    for one in facts["weights"]["sources"]:
        assert f'<td style="text-align:left">{one["source"]}</td>' in text
    assert text.count("<table>") == RENDERER.render(document(facts)).count("</table>")
    assert ("Quality by success" in text) == bool(facts["quality"])
