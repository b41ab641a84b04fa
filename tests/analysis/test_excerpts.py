from __future__ import annotations

import json
import unicodedata
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trajweight.analysis.excerpts import excerpt, inert


def told(*messages: dict[str, Any], **options) -> str:
    return excerpt(json.dumps(list(messages)), **options)


@given(st.text())
def test_inert_text_is_one_line_without_controls_and_stays_as_it_is(text: str) -> None:
    shown = inert(text)

    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert inert(shown) == shown


def test_escapes_show_and_do_nothing() -> None:
    assert inert("a\x1b[2J\x07b\u202ec\x9b") == r"a\x1b[2J\x07b\u202ec\x9b"
    assert inert(" a \r\n\t b\u2028c ") == "a b c"
    assert inert("[bold]x[/bold] :smile:") == "[bold]x[/bold] :smile:"


@given(st.text(), st.integers(4, 50))
def test_a_limit_holds(text: str, limit: int) -> None:
    assert len(inert(text, limit=limit)) <= limit


def test_the_assistant_speaks_first_then_the_user() -> None:
    user, assistant = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}

    assert told(user, assistant) == "yo"
    assert told(user, assistant | {"content": " \n"}) == "hi"
    assert told({"role": "assistant", "content": None}) == ""


def test_a_turn_of_calls_is_told_by_its_first_call() -> None:
    calls = [{"id": "1", "name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": "raw"}]

    assert told({"role": "assistant", "content": "", "tool_calls": calls}) == 'f({"x": 1})'
    assert told({"role": "assistant", "content": "", "tool_calls": calls[1:]}) == "g(raw)"


def test_a_text_of_megabytes_is_cut() -> None:
    assert len(told({"role": "user", "content": "a b" * 1_000_000}, limit=20)) <= 20
