from __future__ import annotations

import json
import os

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.commands import write_rows
from tests.runs import make_run
from trajweight.adapters.chat_rows import IGNORED, conversations, encoded
from trajweight.chat_format import say
from trajweight.formats import format_named
from trajweight.formats.protocol import Canonical
from trajweight.table import trajectory_of
from trajweight.tiny import build_tiny
from trajweight.tokenization import Encoded, encode

TOKENIZER = build_tiny()[1]
WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12
).filter(lambda text: text.strip() == text)
#: A template that marks what the assistant says, and rewrites history: it tells how much follows.
REWRITING = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + (messages | length | string) + '\\n' }}
{%- if message.role == 'assistant' %}{% generation %}
{{- message.content + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{- message.content + '<|im_end|>' }}{%- endif %}{{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
UNMARKED = REWRITING.replace("{% generation %}", "").replace("{% endgeneration %}", "")
#: One that knows text alone.
PLAIN = """\
{%- for message in messages %}
{%- if message.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no') }}{% endif %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
CALL = {"name": "look", "arguments": {"at": "the box", "n": 2}}
TALK = [
    say("user", "open it"),
    {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": CALL}]},
    {"role": "tool", "tool_call_id": "1", "content": "a key"},
    say("assistant", "there is a key"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def with_template(template):
    tokenizer = build_tiny()[1]
    tokenizer.chat_template = template
    return tokenizer


def said(made, tokenizer=TOKENIZER):
    """What is trained on, stretch by stretch."""
    stretches: list[list[int]] = []
    was = False
    for token, label in zip(made["input_ids"], made["labels"], strict=True):
        if label != IGNORED:
            assert label == token
            stretches = stretches if was else [*stretches, []]
            stretches[-1].append(token)
        was = label != IGNORED
    return [tokenizer.decode(stretch) for stretch in stretches]


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4))
def test_labels_are_what_the_assistant_says_and_the_end_of_its_turns(pairs) -> None:
    messages = [m for ask, reply in pairs for m in (say("user", ask), say("assistant", reply))]

    made = encoded({"messages": messages}, TOKENIZER)

    assert said(made) == [f"{reply}<|im_end|>" for _, reply in pairs]
    rendered = TOKENIZER.apply_chat_template(messages, tokenize=False)
    assert made["input_ids"] == TOKENIZER(rendered)["input_ids"]


def test_tokens_and_labels_are_those_that_weights_are_learned_on(tmp_path) -> None:
    rows = [
        {"id": "a", "messages": [say("system", "be short"), *TALK]},
        {"id": "b", "messages": [say("user", "go"), say("assistant", "left\n\nthen right")]},
        {"id": "c", "messages": [*TALK[:1], say("assistant", "ünï 🙂"), *TALK[:2]]},
    ]
    run = make_run(tmp_path, rows, {"a": 1.0, "b": 1.0, "c": 1.0})

    for row in run.trajectories("messages_json", "tools_json").to_dicts():
        canonical = Canonical(json.loads(row["messages_json"]), [])
        made = encoded(format_named("messages").restored(canonical), TOKENIZER)
        learned = encode(trajectory_of(row), TOKENIZER, max_tokens=4096)
        assert isinstance(learned, Encoded)
        assert made["input_ids"] == learned.input_ids
        assert [label != IGNORED for label in made["labels"]] == learned.assistant_mask


def test_a_reply_that_may_not_be_trained_on_stays_as_context() -> None:
    messages = [*TALK[:1], {**say("assistant", "copied"), "train": False}, *TALK[:1]]
    messages.append(say("assistant", "new"))

    made = encoded({"messages": messages}, TOKENIZER)

    assert said(made) == ["new<|im_end|>"]
    assert "copied" in TOKENIZER.decode(made["input_ids"])


@pytest.mark.parametrize("place", ["own", "fallback"])
def test_a_template_that_rewrites_history_is_read_by_its_markers(place) -> None:
    tokenizer = with_template(REWRITING if place == "own" else UNMARKED)
    messages = [say("user", "a"), {**say("assistant", "b"), "train": False}]
    messages += [say("user", "c"), say("assistant", "d")]

    made = encoded({"messages": messages}, tokenizer, REWRITING)

    assert said(made) == ["d<|im_end|>"]


def test_a_template_that_rewrites_history_and_marks_nothing_is_refused() -> None:
    messages = [say("user", "a"), say("assistant", "b"), say("user", "c"), say("assistant", "d")]

    with pytest.raises(ValueError, match="rewrites earlier turns"):
        encoded({"messages": messages}, with_template(UNMARKED))


@pytest.mark.parametrize("arguments", [CALL["arguments"], json.dumps(CALL["arguments"])])
def test_calls_are_trained_on_whether_arguments_are_objects_or_text(arguments) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    messages = [TALK[0], {**TALK[1], "tool_calls": [call]}, *TALK[2:]]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]

    made = encoded({"messages": messages, "tools": json.dumps(tools)}, TOKENIZER)

    first, second = said(made)
    assert json.loads(first.split("\n")[2]) == CALL
    assert second == "there is a key<|im_end|>"
    assert '"parameters"' in TOKENIZER.decode(made["input_ids"])


def test_calls_and_results_become_text_where_the_template_knows_no_tools() -> None:
    tokenizer = with_template(PLAIN)

    made = encoded({"messages": TALK}, tokenizer)

    first, second = said(made, tokenizer)
    assert json.loads(first.split("\n")[1]) == CALL
    assert "user\n<tool_response>\na key\n</tool_response>" in tokenizer.decode(made["input_ids"])
    assert second == "there is a key<|im_end|>"


def test_files_are_read_in_order_and_cut_rows_are_told(tmp_path, caplog) -> None:
    long = {"messages": [say("user", "w " * 40), say("assistant", "never seen")], "weight": 2}
    short = {"messages": [say("user", "go"), say("assistant", "left")], "weight": 0.5}
    paths = [write_rows(tmp_path / f"{n}.jsonl", [row]) for n, row in enumerate((long, short))]

    rows = conversations(paths, TOKENIZER, max_length=32)

    assert rows["weight"][:] == [2.0, 0.5]
    assert [len(ids) for ids in rows["input_ids"]] == [32, len(encoded(short, TOKENIZER)["labels"])]
    assert [record.getMessage() for record in caplog.records] == [
        "1 of 2 rows were cut to 32 tokens",
        "1 of 2 rows have no reply left and train nothing",
    ]


def test_a_file_that_was_written_anew_is_read_anew(tmp_path) -> None:
    talk = {"messages": [say("user", "go"), say("assistant", "left")]}
    path = write_rows(tmp_path / "rows.jsonl", [{**talk, "weight": 0.5}])
    conversations([path], TOKENIZER, max_length=32)
    write_rows(path, [{**talk, "weight": 2.5}])
    os.utime(path, ns=(1, 2))

    rows = conversations([path], TOKENIZER, max_length=32)

    assert rows["weight"][:] == [2.5]


def test_a_row_that_cannot_be_rendered_is_named_by_its_line(tmp_path) -> None:
    fine = {"messages": [say("user", "go"), say("assistant", "left")]}
    path = write_rows(tmp_path / "rows.jsonl", [fine, {"messages": [say("assistant", "hello")]}])

    with pytest.raises(ValueError, match=r"rows\.jsonl:2: it begins with a reply"):
        conversations([path], TOKENIZER, max_length=32)
