"""Laws of verl's rollouts: rendered text is taken apart exactly, or refused in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.trajweight.formats.rows import broken, given_back, hold, messages, reason, sample, told
from trajweight.formats import UnusableError, format_named
from trajweight.formats.rendered import take_apart

FORM = format_named("verl")
ROWS = sample("verl.jsonl")


def chatml(*turns):
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)


def llama3(*turns):
    return "<|begin_of_text|>" + "".join(
        f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>" for role, text in turns
    )


def llama4(*turns):
    return "<|begin_of_text|>" + "".join(
        f"<|header_start|>{role}<|header_end|>\n\n{text}<|eot|>" for role, text in turns
    )


def gemma(*turns):
    return "<bos>" + "".join(
        f"<start_of_turn>{role}\n{text}<end_of_turn>\n" for role, text in turns
    )


#: What begins and ends a turn in one of them.
MARKERS = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "<|eom_id|>"),
    *("<|header_start|>", "<|eot|>", "<|eom|>", "<start_of_turn>", "<end_of_turn>"),
)
TEMPLATES = {"ChatML": chatml, "Llama 3": llama3, "Llama 4": llama4, "Gemma": gemma}


def row(text, output="", **extra):
    return {"input": text, "output": output, "gts": None, "score": 1.0, "step": 1, **extra}


def spoken(value):
    return [(message["role"], message["content"]) for message in messages(value)]


# The text alone


@pytest.mark.parametrize("name", TEMPLATES)
@given(data=st.data())
def test_a_rendered_conversation_is_taken_apart_into_its_turns(name, data):
    words = st.sampled_from(["\n", "<bos>", "<|endoftext|>", "<|begin_of_text|>", "user", "a"])
    texts = st.text(max_size=5) | st.lists(words, max_size=4).map("".join)
    roles = st.sampled_from(["system", "user", "assistant", "tool"])
    turns = data.draw(st.lists(st.tuples(roles, texts), min_size=1, max_size=4))
    assume(not any(marker in text for _, text in turns for marker in MARKERS))
    text = TEMPLATES[name](*turns)

    found = take_apart(text)

    assert [(turn.role, turn.content) for turn in found.turns] == turns
    assert (found.template, found.text, found.is_open) == (name, text, False)


@given(
    st.lists(
        st.sampled_from(
            [
                *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<bos>"),
                *("<|start_header_id|>", "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>"),
                *("assistant", "user", "system", "\n", "\n\n", "a", "[INST]", " "),
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_whatever_is_taken_apart_is_the_text_again(text):
    try:
        found = take_apart(text)
    except UnusableError:
        return

    assert found.text == text
    assert found.turns


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_turn_that_is_not_ended_is_open(name):
    whole = TEMPLATES[name](("user", "a"), ("assistant", "b"))
    cut = whole[: whole.rindex("b") + 1]

    assert take_apart(cut).is_open
    assert [turn.content for turn in take_apart(cut).turns] == ["a", "b"]


@pytest.mark.parametrize("end", ["<|im_end|>\n", "<|im_end|>", ""])
def test_padding_around_the_turns_is_no_content(end):
    pad = "<|endoftext|>" * 3
    text = pad + chatml(("user", "a")) + "<|im_start|>assistant\nb" + end + pad

    found = take_apart(text)

    assert [turn.content for turn in found.turns] == ["a", "b"]
    assert found.is_open == (not end)
    assert found.text == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Once" + chatml(("user", "a")), "text stands before the first turn"),
        ("<|im_start|>user", "turn 1 has no role"),
        ("<|im_start|>a b\nx<|im_end|>", "turn 1 has no role"),
        ("<|im_start|>user\na<|im_start|>assistant\nb", "turn 1 has no end marker"),
        (chatml(("user", "a<|im_end|>b")), "an end marker stands inside turn 1"),
        ("<s>[INST] a [/INST] b</s>", "has the marker [INST] of a template"),
        ("Q: a\nA: b", "has no marker of a known template"),
        ("", "has no marker of a known template"),
    ],
)
def test_text_that_is_not_exactly_turns_is_refused(text, said):
    with pytest.raises(UnusableError) as caught:
        take_apart(text)

    assert said in str(caught.value)


def test_a_long_run_of_markers_is_refused_quickly():
    text = chatml(("user", "<|im_end|>" * 200_000 + "x" + "\nuser\n" * 100_000))

    with pytest.raises(UnusableError):
        take_apart(text)


# Rollouts


def test_a_rollout_is_its_prompt_and_what_came_of_it():
    assert spoken(ROWS[0]) == [
        ("system", "Solve the sum."),
        ("user", "What is 17 + 25?"),
        ("assistant", "<think>\n17 + 25 = 42\n</think>\n\nThe answer is 42."),
    ]


def test_turns_of_the_environment_inside_the_rollout_are_told():
    assert [role for role, _ in spoken(ROWS[1])] == ["user", "assistant", "user", "assistant"]
    assert spoken(ROWS[1])[2] == ("user", "<tool_response>\n310 g\n</tool_response>")


def test_the_beginning_that_a_prompt_gives_an_answer_is_part_of_it():
    opened = chatml(("user", "a")) + "<|im_start|>assistant\n<think>\n"

    assert spoken(row(opened, "b</think>c<|im_end|>"))[1] == ("assistant", "<think>\nb</think>c")


def test_earlier_answers_in_the_prompt_are_never_trained_on():
    turns = [("user", "a"), ("assistant", "b"), ("user", "c")]

    found = messages(row(chatml(*turns) + "<|im_start|>assistant\n", "d<|im_end|>"))

    assert [message.get("untrained") for message in found] == [None, True, None, None]


def test_a_rollout_without_an_end_is_remarked():
    found = told(row(chatml(("user", "a")) + "<|im_start|>assistant\n", "b and"))

    assert found.remarks == ("the last turn has no end marker; the rollout was cut off there",)


def test_text_without_special_tokens_is_parted_by_its_role_lines_and_remarked():
    found = told(ROWS[3])

    assert [(message["role"], message["content"]) for message in found.messages] == [
        ("system", "Solve the sum."),
        ("user", "What is 8 + 5?"),
        ("assistant", "The answer is 13."),
    ]
    assert found.remarks == (
        "the text has lost its special tokens; lines with a role part its turns",
    )


def test_text_without_special_tokens_may_hold_turns_of_a_tool():
    output = "I weigh it.\nuser\n<tool_response>\n3\n</tool_response>\nassistant\nThree."

    found = spoken(row("user\nHow heavy?\nassistant\n", output))

    assert [role for role, _ in found] == ["user", "assistant", "user", "assistant"]
    assert found[-1] == ("assistant", "Three.")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("user\nList the roles.\nassistant\n", "They are:\nuser\nassistant\n"),
        ("user\na\nuser\nb\nassistant\n", "c"),
        ("assistant\na\nassistant\n", "b"),
        ("user\na\nassistant\n", "b\nuser\nc"),
        ("system\n\nCutting Knowledge Date: Mayuser\n\nHiassistant\n\n", "Hello"),
    ],
)
def test_role_lines_that_do_not_take_turns_are_refused(text, output):
    with pytest.raises(UnusableError):
        told(row(text, output))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (row([{"role": "user"}]), "input is a list, not rendered text"),
        (row("x", None), "output is null, not rendered text"),
        (row(chatml(("user", "a")), "b"), "input does not end where the assistant begins to speak"),
        (row(chatml(("user", "a")) + "<|im_start|>user\n", "b"), "input does not end where"),
        (row(chatml(("user", "a")) + "<|im_start|>assistant\n", "<|im_end|>"), "nothing to train"),
    ],
)
def test_a_row_that_is_no_rollout_is_refused(value, said):
    assert said in reason(value)


def test_the_score_is_the_reward():
    assert FORM.fields["reward"] == ("score",)


@pytest.mark.parametrize("value", ROWS, ids=range(len(ROWS)))
def test_every_sample_row_is_given_back(value):
    assert json.dumps(given_back(value)) == json.dumps(value)


@settings(max_examples=100)
@given(broken(ROWS))
def test_a_broken_row_is_refused_or_given_back(value):
    hold(FORM, value)
