"""Laws of validation: what is odd is found where it stands, and told by a code that stays."""

from __future__ import annotations

import re
import time
from itertools import pairwise
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajweight.jsontext import encode
from trajweight.problems import CODES, Code, codes_text, links_of, problems_of

Row = dict[str, Any]


def user(text: str = "go") -> Row:
    return {"role": "user", "content": text}


def says(text: str = "ok", **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def calls(*ids: str, name: str = "f") -> Row:
    made = [{"id": each, "name": name, "arguments": {}} for each in ids]
    return {"role": "assistant", "content": "", "tool_calls": made}


def result(call_id: str = "", text: str = "42") -> Row:
    given = {"tool_call_id": call_id} if call_id else {}
    return {"role": "tool", "content": text, **given}


def found(*messages: Row, **sizes: int) -> dict[str, str]:
    problems = problems_of(messages, text=encode(list(messages)), **sizes)
    return {problem.code: problem.detail for problem in problems}


def slow_problems(messages: list[Row]) -> set[str]:
    """The codes, each by its own words and with no thought of speed."""
    roles = [message["role"] for message in messages]
    said = [r for r in roles if r != "system"]
    codes = set()
    first_said = next((n for n, r in enumerate(roles) if r != "system"), len(roles))
    pairs = set(pairwise(said))
    if (
        "system" in roles[first_said:]
        or said[:1] == ["assistant"]
        or {("user", "user"), ("assistant", "assistant"), ("tool", "user")} & pairs
    ):
        codes.add("roles-not-alternating")
    if roles[-1] in ("user", "system"):
        codes.add("trailing-user-turn")
    for message in messages:
        says_more = message.get("tool_calls") or message.get("reasoning", "").strip()
        if message["role"] != "tool" and not message["content"].strip() and not says_more:
            codes.add("empty-turn")
        if "<s>" in str(message) or "<|im_end|>" in str(message) or "[INST]" in str(message):
            codes.add("control-tokens")
    if any(message.get("untrained") for message in messages):
        codes.add("copied-context")
        trained = [m for m in messages if m["role"] == "assistant" and not m.get("untrained")]
        if not any(
            m["content"].strip() or m.get("tool_calls") or m.get("reasoning", "").strip()
            for m in trained
        ):
            codes.add("no-trained-turn")
    made = [
        (n, k, call["id"])
        for n, message in enumerate(messages)
        for k, call in enumerate(message.get("tool_calls", []))
    ]
    ids = [call_id for _, _, call_id in made if call_id]
    if len(ids) != len(set(ids)):
        codes.add("duplicate-call-id")
    still_open = list(made)
    for n, message in enumerate(messages):
        if message["role"] != "tool":
            continue
        wanted = message.get("tool_call_id", "")
        before = [call for call in still_open if call[0] <= n]
        fitting = [c for c in before if c[2] == wanted] or [c for c in before if not c[2]]
        fitting = fitting if wanted else before
        if not fitting:
            codes.add("orphan-result")
            continue
        last_turn = max(call[0] for call in fitting)
        still_open.remove(min(call for call in fitting if call[0] == last_turn))
    last = max((n for n, role in enumerate(roles) if role != "tool"), default=-1)
    if any(call[0] < last for call in still_open):
        codes.add("call-without-result")
    if any(call[0] >= last for call in still_open):
        codes.add("open-call")
    return codes


TEXT = st.sampled_from(["", " \n", "a", "x <s> y", "<|im_end|>", "[INST] b", "a[0] < s", "<b>"])
IDS = st.sampled_from(["", "1", "2"])
MESSAGE = st.one_of(
    st.builds(lambda text: {"role": "system", "content": text}, TEXT),
    st.builds(user, TEXT),
    st.builds(says, TEXT),
    st.builds(lambda text: says(text, untrained=True), TEXT),
    st.builds(lambda text: says("", reasoning=text), TEXT),
    st.lists(IDS, min_size=1, max_size=3).map(lambda ids: calls(*ids)),
    st.builds(result, IDS, TEXT),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(MESSAGE, min_size=1, max_size=8))
def test_codes_are_those_of_the_slow_twin(messages):
    problems = problems_of(messages, text=encode(messages))

    codes = [problem.code for problem in problems]
    assert set(codes) == slow_problems(messages)
    assert codes == sorted(set(codes), key=CODES.index)
    assert codes_text(problems) == (",".join(codes) or None)


@given(st.lists(MESSAGE, min_size=1, max_size=8))
def test_every_result_and_every_call_is_linked_or_left_over_once(messages):
    links = links_of(messages)

    results = [n for n, message in enumerate(messages) if message["role"] == "tool"]
    made = [
        (n, k)
        for n, message in enumerate(messages)
        for k in range(len(message.get("tool_calls", ())))
    ]
    assert sorted([*links.answers, *links.orphans]) == results
    linked = [(call.turn, call.place) for call in (*links.answers.values(), *links.unanswered)]
    assert sorted(linked) == made
    assert all(call.turn < turn for turn, call in links.answers.items())


def test_an_ordinary_conversation_has_no_problem():
    system = {"role": "system", "content": "be good"}

    assert not found(system, user(), says(), user(), says())
    assert not found(user(), calls("1", "2"), result("2"), result("1"), says())
    assert not found(user(), calls(""), result(), calls(""), result(), says())
    assert not found(
        user("if a[0] < b and c > d: <br>"), says("|x|<y>"), user("<html>"), says("[1]")
    )


@pytest.mark.parametrize(
    ("messages", "code", "detail"),
    [
        (
            (user(), says(), result("9"), says()),
            "orphan-result",
            "turn 3 answers the call '9', and none before it is open",
        ),
        (
            (user(), calls("1"), result("1"), result("1"), says()),
            "orphan-result",
            "turn 4 answers the call '1', and none before it is open",
        ),
        (
            (user(), calls("1"), user(), says()),
            "call-without-result",
            "turn 2 calls 'f', and no result follows",
        ),
        (
            (user(), calls("1", "2", "3"), result("2")),
            "open-call",
            "turn 2 calls 'f', and the row ends, and 1 more like it",
        ),
        (
            (user(), calls("1"), result("1"), calls("1"), result("1"), says()),
            "duplicate-call-id",
            "turn 4 calls under the id '1' again",
        ),
        ((user(), user(), says()), "roles-not-alternating", "turn 2 is a user turn after another"),
        (
            (says(), user(), says()),
            "roles-not-alternating",
            "turn 1 is an assistant turn, with no user turn before it",
        ),
        (
            (user(), says(), {"role": "system", "content": "x"}, user(), says()),
            "roles-not-alternating",
            "turn 3 is a system turn inside the conversation",
        ),
        (
            (user(), calls("1"), result("1"), user(), says()),
            "roles-not-alternating",
            "turn 4 is a user turn right after a tool turn",
        ),
        ((user(), says(" "), user(), says()), "empty-turn", "turn 2 is an empty assistant turn"),
        ((user(), says(), user()), "trailing-user-turn", "turn 3 is a user turn, and the last"),
        ((user("a <|im_start|>b"), says()), "control-tokens", "turn 1 holds <|im_start|>"),
        (
            (user(), says(untrained=True), user(), says()),
            "copied-context",
            "turn 2 is context only",
        ),
        (
            (user(), says(untrained=True)),
            "no-trained-turn",
            "no assistant turn that may be trained on says anything",
        ),
    ],
)
def test_a_problem_is_told_with_its_turn(messages, code, detail):
    assert found(*messages)[code] == detail


@pytest.mark.parametrize(
    "token",
    [
        *("<|im_start|>", "<|endoftext|>", "<|start_header_id|>", "<|user|>", "<s>", "</s>"),
        *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "<start_of_turn>"),
        *("<end_of_turn>", "<bos>", "<<SYS>>", "<</SYS>>", "<\uff5cUser\uff5c>"),
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    ],
)
@pytest.mark.parametrize("place", ["user", "tool", "arguments", "reasoning"])
def test_a_control_token_is_found_wherever_it_stands(token, place):
    text = {name: f"x{token}y" if name == place else "" for name in ("tool", "arguments")}
    call = calls("1")
    call["tool_calls"][0]["arguments"] = {"a": [text["arguments"]]}
    call |= {"reasoning": token} if place == "reasoning" else {}
    asked = user(token if place == "user" else "go")

    problems = found(asked, call, result("1", text["tool"] or "42"), says())

    turn = {"user": 1, "arguments": 2, "reasoning": 2, "tool": 3}[place]
    assert problems == {"control-tokens": f"turn {turn} holds {token}"}


def test_a_result_goes_to_the_latest_turn_that_calls_and_there_to_the_first_call():
    messages = [user(), calls("1", "1"), calls("1", "1"), result("1"), result("1"), result("1")]

    links = links_of(messages)

    places = {turn: (call.turn, call.place) for turn, call in links.answers.items()}
    assert places == {3: (2, 0), 4: (2, 1), 5: (1, 0)}
    assert [(call.turn, call.place) for call in links.unanswered] == [(1, 1)]


def test_a_row_is_too_large_above_its_bound_and_not_at_it():
    chat = (user(), says())

    assert not found(*chat, n_bytes=10, max_bytes=10)
    assert found(*chat, n_bytes=11, max_bytes=10) == {"row-too-large": "11 bytes, more than 10"}


def test_long_names_are_shown_cut_and_active_characters_written_out():
    detail = found(user(), calls("1", name="\x1b[2J" + "x" * 500), user(), says())[
        "call-without-result"
    ]

    assert len(detail) < 120
    assert "\x1b" not in detail


def test_each_code_is_a_word_that_a_list_with_commas_can_hold():
    assert set(CODES) == set(get_args(Code))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in CODES)


@pytest.mark.parametrize(
    "messages",
    [
        [user(), *[calls("1")] * 40_000, *[result("1")] * 40_000],
        [user(), calls(*["1"] * 40_000), *[result("1")] * 40_000],
        [user(), calls(*["1"] * 40_000), *[result("2")] * 40_000],
        [user(), calls(*[""] * 40_000), *[result()] * 40_000],
        [user(), says()] * 40_000,
    ],
    ids=["turn by turn", "in one turn", "orphans", "without ids", "many turns"],
)
def test_the_time_grows_with_the_length_and_not_with_its_square(messages):
    began = time.process_time()

    problems_of(messages, text=encode(messages))

    assert time.process_time() - began < 5  # a square would take minutes
