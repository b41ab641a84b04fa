from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.hostile import ATTACKS, hostile_run
from trajweight.analysis.excerpts import inert
from trajweight.analysis.html import ROW_KEYS, page
from trajweight.analysis.html_rows import rows_of
from trajweight.analysis.html_text import as_script_data, escaped, text_of
from trajweight.analysis.report import build_report

#: What an element may carry; none of these can run a script or ask for anything.
HARMLESS = {
    *("aria-hidden", "aria-label", "aria-labelledby", "aria-pressed", "autocomplete", "charset"),
    *("class", "content", "cx", "cy", "d", "dir", "height", "hidden", "http-equiv", "id", "lang"),
    *("name", "placeholder", "r", "role", "spellcheck", "tabindex", "text-anchor", "title"),
    *("transform", "type", "viewbox", "width", "x", "y"),
}
AS_TEXT = st.text(st.characters(codec=None, exclude_categories=[]), max_size=40)


class Elements(HTMLParser):
    """What a page consists of."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tags: list[str] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self.at = ""

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.at = tag
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag) -> None:
        self.at = ""

    def handle_data(self, data) -> None:
        if self.at in self.inside:
            self.inside[self.at][-1] += data
        else:
            self.text += data


def read(text: str) -> Elements:
    found = Elements()
    found.feed(text)
    found.close()
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> tuple[str, list[dict]]:
    run = hostile_run(tmp_path_factory.mktemp("hostile"))
    shown = rows_of(run)
    facts = build_report(run, {"notes": list(ATTACKS), "warnings": list(ATTACKS)})
    facts["headline"] = " ".join(ATTACKS)
    return page(facts, shown.rows, name=" ".join(ATTACKS), told=shown.told), shown.rows


def test_no_text_of_the_data_becomes_an_element_or_an_attribute(hostile) -> None:
    found = read(hostile[0])

    assert "img" not in found.tags
    assert found.tags.count("script") == 2
    assert {name for _, name, _ in found.attributes} <= HARMLESS
    assert "window.broken = 1" in found.text


def test_no_control_character_of_the_data_reaches_the_page(hostile) -> None:
    controls = set(re.findall(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u206f]", hostile[0]))

    assert controls == set()
    assert r"\x1b[31mred" in read(hostile[0]).text


def test_the_policy_allows_the_pages_own_script_and_style_and_nothing_else(hostile) -> None:
    found = read(hostile[0])
    policy = next(
        value for _, name, value in found.attributes if name == "content" and "-src" in value
    )
    rules = {rule.split()[0]: " ".join(rule.split()[1:]) for rule in policy.split(";")}

    def hash_of(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    _, script = found.inside["script"]
    (style,) = found.inside["style"]
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{hash_of(style)}'",
        "script-src": f"'sha256-{hash_of(script)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_page_names_no_address_at_all(hostile) -> None:
    text = hostile[0]

    assert not re.search(r"https?:|//[a-z]|url\(|@import|\bfetch\(|XMLHttp|innerHTML|eval\(", text)


def test_the_page_holds_every_row_as_it_is(hostile) -> None:
    text, rows = hostile

    held = json.loads(read(text).inside["script"][0])["rows"]

    assert held == [{key: row[key] for key in ROW_KEYS} for row in rows]
    assert {turn["text"] for row in held for turn in row["turns"] if "text" in turn} >= set(ATTACKS)


@given(st.recursive(AS_TEXT, lambda inner: st.lists(inner) | st.dictionaries(AS_TEXT, inner)))
def test_any_text_inside_of_a_script_element_comes_back_and_never_ends_it(value) -> None:
    data = as_script_data(value)

    assert json.loads(data) == value
    assert data.isascii()
    assert not set("<>&") & set(data)


@given(AS_TEXT)
def test_any_text_inside_of_an_element_or_an_attribute_comes_back_as_it_was_made_inert(
    text,
) -> None:
    shown = inert(text)

    found = read(f'<p title="{text_of(text)}">{text_of(text)}</p>')

    assert found.attributes == [("p", "title", shown)]
    assert found.text == shown
    assert text_of(text).isascii()
    assert escaped(shown) == text_of(text)


def test_the_page_is_plain_ascii_whatever_stands_in_it(hostile) -> None:
    wide = page({"headline": "\u8a9e \U0001f600"}, [], name="\u00e9")

    assert hostile[0].isascii()
    assert wide.isascii()
    assert "\u8a9e \U0001f600" in read(wide).text


def test_a_page_of_few_facts_leaves_out_what_it_does_not_know() -> None:
    text = page({"headline": "So it is."}, [], name="small")

    found = read(text)
    assert "So it is." in found.text
    assert "figure" not in found.tags
    assert "details" not in found.tags


def test_equal_facts_and_rows_give_the_same_page(hostile, tmp_path) -> None:
    run = hostile_run(tmp_path)
    made = [page(build_report(run, {}), rows_of(run).rows, name="run") for _ in range(2)]

    assert made[0] == made[1]
