"""What is odd about a conversation that is kept all the same, each kind under a code of its own.

Nothing here is wrong enough to reject a row. A code stands in the column ``problems``, is counted,
and is told with its place; what `repair` can mend it mends only when asked.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from trajweight.jsontext import encode

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from trajweight.formats.protocol import Row

Code = Literal[
    "orphan-result",
    "call-without-result",
    "open-call",
    "duplicate-call-id",
    "roles-not-alternating",
    "empty-turn",
    "trailing-user-turn",
    "control-tokens",
    "copied-context",
    "no-trained-turn",
    "row-too-large",
    "duplicate-row-id",
]

#: What each code says of a row.
MEANINGS: Final[dict[Code, str]] = {
    "orphan-result": "a tool turn answers no call that was made before it",
    "call-without-result": "the conversation goes on though a tool call has no result",
    "open-call": "the row ends before a tool call has its result",
    "duplicate-call-id": "two tool calls have the same id",
    "roles-not-alternating": "user and assistant do not take turns, or a system turn stands inside",
    "empty-turn": "a turn that is no tool result says nothing",
    "trailing-user-turn": "the last turn is a user or system turn, from which nothing is learned",
    "control-tokens": "text holds what a chat template writes as control tokens",
    "copied-context": "assistant turns are context only and are not trained on",
    "no-trained-turn": "no assistant turn that may be trained on says anything",
    "row-too-large": "the row has more bytes than --max-row-bytes",
    "duplicate-row-id": "another row has the same id; a suffix was added",
}

#: Codes in the order they are told.
CODES: Final[tuple[Code, ...]] = tuple(MEANINGS)

# Both begin with one plain character, for which the search of text is many times faster.
_ANGLE: Final = re.compile(
    r"<(?:[|\uff5c][^\s<>|\uff5c]{1,40}[|\uff5c]>|/?s>|[be]os>|(?:start|end)_of_turn>|</?SYS>>)"
)
_SQUARE: Final = re.compile(
    r"\[(?:/?INST|/?AVAILABLE_TOOLS|/?TOOL_RESULTS|TOOL_CALLS|/?SYSTEM_PROMPT)\]"
)
#: A character says a role; a conversation's roles are a short text.
_LETTERS: Final = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}
_SPOKEN: Final = {"a": "an assistant", "u": "a user", "s": "a system"}
#: Turns up to which a conversation's roles are worth remembering.
_FEW: Final = 100
#: Characters of an id or a name that are shown.
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of oddity in one row.

    Attributes:
        code: What kind.
        detail: Where it is first found in the row, in words, and how often besides.
    """

    code: Code
    detail: str

    def __str__(self) -> str:
        """The code, then the detail."""
        return f"{self.code}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call by its place, both counted from 0.

    Attributes:
        turn: The turn that makes it.
        place: Its place among the calls of the turn.
        call_id: Its id; empty when the row gives none.
        name: The function.
    """

    turn: int
    place: int
    call_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Links:
    """Which result answers which call.

    Attributes:
        answers: The call that each result answers, by the result's turn.
        orphans: Turns with a result that answers no call.
        unanswered: Calls without a result, in order.
    """

    answers: dict[int, Call]
    orphans: tuple[int, ...]
    unanswered: tuple[Call, ...]


def problems_of(
    messages: Sequence[Row], *, text: str, n_bytes: int = 0, max_bytes: int | None = None
) -> tuple[Problem, ...]:
    """Everything odd about a conversation, in the order of ``CODES``.

    Args:
        messages: Canonical messages.
        text: The same as JSON text, which is searched faster.
        n_bytes: The size of the row as it stood.
        max_bytes: The size that it should not exceed; None for any.
    """
    roles = "".join([_LETTERS[message["role"]] for message in messages])
    found = list((_of_few_roles if len(roles) <= _FEW else _of_roles)(roles))
    is_rich = max(map(len, messages), default=0) > 2  # there is more than role and content
    if is_rich or "t" in roles:
        if not _are_all_answered(messages):
            found += _of_calls(messages)
        found += _of_copies(messages)
    contents = [message["content"] for message in messages]
    if ("" in contents or any(map(str.isspace, contents))) and (empty := empty_turns(messages)):
        found.append(_problem("empty-turn", [(n, _empty(messages[n])) for n in empty]))
    # One character is searched many times faster than an expression. Every list of messages has
    # brackets, so these are looked for in the contents.
    if ("<" in text and _ANGLE.search(text)) or (
        (is_rich or "[" in "".join(contents)) and _SQUARE.search(text)
    ):
        found += _of_tokens(messages)
    if max_bytes is not None and n_bytes > max_bytes:
        found.append(Problem("row-too-large", f"{n_bytes} bytes, more than {max_bytes}"))
    return tuple(sorted(found, key=_rank)) if len(found) > 1 else tuple(found)


def links_of(messages: Sequence[Row]) -> Links:
    """Which result answers which call.

    A result answers the call of its id, or where one of both has no id the first that is open; of
    several turns that call, the last one.
    """
    calls = list(_calls(messages))
    piles: defaultdict[str, _Pile] = defaultdict(_Pile)
    every, answered = _Pile(), set[tuple[int, int]]()
    answers: dict[int, Call] = {}
    orphans: list[int] = []
    coming = deque(calls)
    for turn, message in enumerate(messages):
        while coming and coming[0].turn == turn:
            call = coming.popleft()
            every.add(call)
            piles[call.call_id].add(call)
        if message["role"] == "tool":
            call_id = message.get("tool_call_id", "")
            fitting = (piles[call_id], piles[""]) if call_id else (every,)
            found = next(filter(None, (pile.first_open(answered) for pile in fitting)), None)
            if found is None:
                orphans.append(turn)
            else:
                answered.add((found.turn, found.place))
                answers[turn] = found
    left = tuple(call for call in calls if (call.turn, call.place) not in answered)
    return Links(answers, tuple(orphans), left)


def repeated_ids(messages: Sequence[Row]) -> list[Call]:
    """Calls whose id an earlier call has already."""
    seen: set[str] = set()
    repeated = []
    for call in _calls(messages):
        if call.call_id in seen:
            repeated.append(call)
        elif call.call_id:
            seen.add(call.call_id)
    return repeated


def empty_turns(messages: Sequence[Row]) -> list[int]:
    """Turns that say nothing; the result of a tool may well be empty."""
    # isspace ends at the first letter, where strip would copy the text.
    silent = [n for n, m in enumerate(messages) if not m["content"] or m["content"].isspace()]
    return [n for n in silent if messages[n]["role"] != "tool" and not _says_more(messages[n])]


def codes_text(problems: Iterable[Problem]) -> str | None:
    """The codes as the column ``problems`` holds them; None when there are none."""
    return ",".join([problem.code for problem in problems]) or None


def _says_more(message: Row) -> bool:
    return bool(message.get("tool_calls") or message.get("reasoning", "").strip())


class _Pile:
    """Calls turn upon turn: of the last turn that has an open call, the first open one is next."""

    def __init__(self) -> None:
        self._turns: list[deque[Call]] = []

    def add(self, call: Call) -> None:
        """Put a call on top; calls come in order."""
        if self._turns and self._turns[-1] and self._turns[-1][-1].turn == call.turn:
            self._turns[-1].append(call)
        else:
            self._turns.append(deque([call]))

    def first_open(self, answered: Container[tuple[int, int]]) -> Call | None:
        """The call that a result answers next; those answered meanwhile are taken away."""
        while self._turns:
            last = self._turns[-1]
            while last and (last[0].turn, last[0].place) in answered:
                last.popleft()
            if last:
                return last[0]
            self._turns.pop()
        return None


def _calls(messages: Sequence[Row]) -> Iterator[Call]:
    for turn, message in enumerate(messages):
        for place, call in enumerate(message.get("tool_calls", ())):
            yield Call(turn, place, call["id"], call["name"])


def _of_roles(roles: str) -> tuple[Problem, ...]:
    """What the roles alone tell."""
    wrong = []
    before = ""
    for n, role in enumerate(roles):
        if said := _out_of_turn(role, before):
            wrong.append((n, said))
        before = before if role == "s" else role
    found = [_problem("roles-not-alternating", wrong)] if wrong else []
    if roles.endswith(("u", "s")):
        said = f"is {_SPOKEN[roles[-1]]} turn, and the last"
        found.append(_problem("trailing-user-turn", [(len(roles) - 1, said)]))
    return tuple(found)


#: Most rows of a file have the same few sequences of roles.
_of_few_roles: Final = lru_cache(maxsize=4096)(_of_roles)


def _out_of_turn(role: str, before: str) -> str:
    """Why a role should not follow the one before, system turns left out; empty when it may."""
    if role == "s":
        return "is a system turn inside the conversation" if before else ""
    if role == "a" and not before:
        return "is an assistant turn, with no user turn before it"
    if role == before and role in "ua":
        return f"is {_SPOKEN[role]} turn after another"
    if role == "u" and before == "t":
        return "is a user turn right after a tool turn"
    return ""


def _are_all_answered(messages: Sequence[Row]) -> bool:
    """Whether each call has an id of its own and one result after it; the quick way out."""
    seen: set[str] = set()
    unanswered: set[str] = set()
    for message in messages:
        for call in message.get("tool_calls", ()):
            call_id = call["id"]
            if not call_id or call_id in seen:
                return False
            seen.add(call_id)
            unanswered.add(call_id)
        if message["role"] == "tool":
            call_id = message.get("tool_call_id", "")
            if call_id not in unanswered:
                return False
            unanswered.remove(call_id)
    return not unanswered


def _of_calls(messages: Sequence[Row]) -> list[Problem]:
    links = links_of(messages)
    found = []
    if links.orphans:
        wrong = [(n, _orphan(messages[n])) for n in links.orphans]
        found.append(_problem("orphan-result", wrong))
    speaking = [n for n, message in enumerate(messages) if message["role"] != "tool"]
    last = speaking[-1] if speaking else -1
    passed = [call for call in links.unanswered if call.turn < last]
    still_open = [call for call in links.unanswered if call.turn >= last]
    if passed:
        wrong = [
            (call.turn, f"calls {_shown(call.name)}, and no result follows") for call in passed
        ]
        found.append(_problem("call-without-result", wrong))
    if still_open:
        wrong = [(call.turn, f"calls {_shown(call.name)}, and the row ends") for call in still_open]
        found.append(_problem("open-call", wrong))
    if repeated := repeated_ids(messages):
        wrong = [
            (call.turn, f"calls under the id {_shown(call.call_id)} again") for call in repeated
        ]
        found.append(_problem("duplicate-call-id", wrong))
    return found


def _of_copies(messages: Sequence[Row]) -> list[Problem]:
    copies = [n for n, message in enumerate(messages) if message.get("untrained")]
    if not copies:
        return []
    found = [_problem("copied-context", [(n, "is context only") for n in copies])]
    trained = [m for m in messages if m["role"] == "assistant" and not m.get("untrained")]
    if not any(m["content"].strip() or _says_more(m) for m in trained):
        found.append(Problem("no-trained-turn", MEANINGS["no-trained-turn"]))
    return found


def _of_tokens(messages: Sequence[Row]) -> list[Problem]:
    wrong = []
    for n, message in enumerate(messages):
        whole = encode(message)
        if found := _ANGLE.search(whole) or _SQUARE.search(whole):
            wrong.append((n, f"holds {found[0]}"))
    return [_problem("control-tokens", wrong)] if wrong else []


def _orphan(message: Row) -> str:
    call_id = message.get("tool_call_id", "")
    named = f"the call {_shown(call_id)}" if call_id else "a call"
    return f"answers {named}, and none before it is open"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _empty(message: Row) -> str:
    return f"is an empty {message['role']} turn"


def _problem(code: Code, wrong: Sequence[tuple[int, str]]) -> Problem:
    turn, said = wrong[0]
    more = f", and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
    return Problem(code, f"turn {turn + 1} {said}{more}")


def _rank(problem: Problem) -> int:
    return CODES.index(problem.code)
