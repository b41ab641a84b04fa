"""Inspect logs: a sample a row, out of a log in JSON or the entries of an ``.eval`` file.

A log is read as Inspect wrote it, without Inspect: long texts and pictures stand apart as
attachments and are put back here, while the pools that events share are not needed, since a sample
holds its messages whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from trajweight.formats.dialects import Talk, turns_of
from trajweight.formats.lookup import look_up
from trajweight.formats.pieces import assembled, function_tools, listing, objects, shown, type_of
from trajweight.formats.protocol import Canonical, Format, Item, Row, UnusableError
from trajweight.formats.scores import as_number
from trajweight.formats.turns import listed
from trajweight.jsontext import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from trajweight.records import Record

#: The hint under which an `.eval` file gives the log without its samples.
LOG: Final = "inspect log"
#: What stands where a text was put apart; the second is the older way.
_REFERENCES: Final = ("attachment://", "tc://")
#: Inspect's letters for correct, partially correct, incorrect and no answer, and its other words.
_LETTERS: Final = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
_WORDS: Final = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_DEEPEST: Final = 200


class Inspect(Format):
    """Logs with samples; or samples by themselves, as the container of ``.eval`` gives them."""

    name = "inspect"
    title = "Inspect samples"
    rows_at = "samples"

    def lacks(self, value: Any) -> tuple[str, ...]:
        """A log has eval and samples; a sample has an epoch, an input and a target."""
        has = value if isinstance(value, dict) else {}
        if _is_log(has) or all(key in has for key in ("epoch", "input", "target")):
            return ()
        return ("a key eval", "a key samples")

    def read(self, records: Iterable[Record], hints: Mapping[str, Any]) -> Iterator[Item]:
        """A row a sample; a log without samples is a row that says so."""
        for record in records:
            is_log = not record.fault and isinstance(record.value, dict) and _is_log(record.value)
            if is_log and isinstance(record.value.get("samples"), list) and record.value["samples"]:
                yield from self._parts(record, hints)
            else:
                yield Item(record.value, record.number, record, hints=hints)

    def canonical(self, item: Item) -> Canonical:
        """The messages of a sample; answers that were part of its input are not trained on."""
        sample = item.value
        log = item.envelope or item.hints.get(LOG)
        log = log if isinstance(log, dict) else {}
        if not isinstance(sample, dict):
            reason = f"the sample is {kind_of(sample)}, not an object"
            raise UnusableError(reason)
        if _is_log(sample):
            reason = f"no trajectories here: the log has no samples (status: {_status(sample)})"
            raise UnusableError(reason)
        texts = _Texts(sample)
        messages = listed(sample.get("messages"), "messages")
        talks = [_told(message, n, texts) for n, message in enumerate(messages, start=1)]
        turns = [turn for talk in talks for turn in talk.turns]
        tools, tool_remarks = function_tools(_tools(sample, texts), "tools")
        said, remarks = _said(sample, log)
        told = (remark for talk in talks for remark in talk.remarks)
        remarks = (*told, *texts.remarks(), *remarks, *tool_remarks)
        return assembled(turns, tools=tools, remarks=remarks, said=said)


class _Texts:
    """The texts that stand apart from a sample's messages."""

    def __init__(self, sample: Row) -> None:
        older = look_up(sample, "transcript.content")
        found = sample.get("attachments") or older
        self._apart: Row = found if isinstance(found, dict) else {}
        self._missing: set[str] = set()

    def put_back(self, value: Any, depth: int = 0) -> Any:
        """The value with every reference replaced by what it stands for."""
        if isinstance(value, str):
            return self._text(value)
        if depth > _DEEPEST:
            return value
        if isinstance(value, list):
            return [self.put_back(each, depth + 1) for each in value]
        if isinstance(value, dict):
            return {key: self.put_back(each, depth + 1) for key, each in value.items()}
        return value

    def remarks(self) -> tuple[str, ...]:
        """What could not be put back."""
        if not self._missing:
            return ()
        return (f"attachments {listing(sorted(self._missing))} are not in the log",)

    def _text(self, text: str) -> str:
        prefix = next((each for each in _REFERENCES if text.startswith(each)), "")
        if not prefix:
            return text
        name = text.removeprefix(prefix)
        found = self._apart.get(name)
        if not isinstance(found, str):
            self._missing.add(shown(name))
            return text
        return found


def _is_log(value: Row) -> bool:
    return isinstance(value.get("eval"), dict) and any(k in value for k in ("samples", "plan"))


def _status(log: Row) -> str:
    status = log.get("status")
    return shown(status) if isinstance(status, str) else "unknown"


def _told(message: Any, number: int, texts: _Texts) -> Talk:
    """The turns of a message."""
    if not isinstance(message, dict):
        return turns_of(message, number)
    parts = texts.put_back(message.get("content"))
    left_out = []
    if isinstance(parts, list):
        left_out = [n for n, part in enumerate(parts, 1) if type_of(part) == "data"]
        parts = [plain for part in parts for plain in _plain(part)]
    error = message.get("error") or message.get("tool_error")
    if message.get("role") == "tool" and error:
        parts = _error(error)  # which is what the model was shown
    calls = texts.put_back(message.get("tool_calls"))
    plain = {**message, "content": parts, "tool_calls": calls}
    if message.get("role") != "tool":
        plain.pop("tool_call_id", None)
    talk = turns_of(plain, number)
    if message.get("source") in ("input", "operator"):
        for turn in talk.turns:
            if turn["role"] == "assistant":
                turn["untrained"] = True
    told = (f"data of message {number} is a provider's own; kept, not read",) if left_out else ()
    return Talk(talk.turns, (*talk.remarks, *told))


def _plain(part: Any) -> list[Any]:
    """A part of a message as the parts that the other dialects have."""
    match type_of(part):
        case "data":
            return []
        case "reasoning" if part.get("redacted"):
            hidden: list[Any] = [{"type": "redacted_thinking"}]
            summary = part.get("summary")
            return [*hidden, {"type": "reasoning", "text": summary}] if summary else hidden
        case "tool_use":  # a tool of the provider's, called and answered inside the message
            given = part.get("error") or part.get("result")
            call = {key: part.get(key) for key in ("id", "name", "arguments")}
            result = {"type": "tool_result", "id": part.get("id"), "content": given}
            return [{"type": "tool_call", **call}, result]
        case _:
            return [part]


def _error(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return f"Error: {message}" if isinstance(message, str) else "Error"


def _tools(sample: Row, texts: _Texts) -> list[Row]:
    """The tools that the calls of models had, each once."""
    events = sample.get("events") or look_up(sample, "transcript.events")
    calls = [event for event in objects(events) if event.get("event") == "model"]
    tools: dict[str, Row] = {}
    for tool in (tool for call in calls for tool in objects(call.get("tools"))):
        if isinstance(tool.get("name"), str):
            given = {key: tool[key] for key in ("name", "description", "parameters") if key in tool}
            tools.setdefault(tool["name"], texts.put_back(given))
    return list(tools.values())


def _said(sample: Row, log: Row) -> tuple[dict[str, tuple[Any, str]], tuple[str, ...]]:
    """What a sample and the log around it say of it."""
    said, remarks = _scored(sample)
    name, task = sample.get("id"), look_up(log, "eval.task")
    if isinstance(name, str | int):
        is_known = isinstance(task, str) and task
        of = "eval.task and id" if is_known else "id"
        said["task"] = (f"{task}/{name}" if is_known else str(name), of)
        epoch = sample.get("epoch")
        said["id"] = (f"{name}_epoch_{epoch}", "id and epoch")
    if isinstance(sample.get("uuid"), str) and sample["uuid"]:
        said["id"] = (sample["uuid"], "uuid")
    models = {
        "eval.model": look_up(log, "eval.model"),
        "output.model": look_up(sample, "output.model"),
    }
    for where, model in models.items():
        if isinstance(model, str) and model:
            said.setdefault("source", (model, where))
    halted = look_up(sample, "error.message")
    if isinstance(halted, str):
        remarks = (*remarks, f"the sample ended in an error: {shown(halted)}")
    return said, remarks


def _scored(sample: Row) -> tuple[dict[str, tuple[Any, str]], tuple[str, ...]]:
    """The first score, which is the one that Inspect itself tells a log by."""
    scores = sample.get("scores")
    if not isinstance(scores, dict):
        scores = {"": sample["score"]} if isinstance(sample.get("score"), dict) else {}
    if not scores:
        return {}, ()
    name, score = next(iter(scores.items()))
    where = f"scores.{name}.value" if name else "score.value"
    how = f"{where}, the first of {len(scores)} scores" if len(scores) > 1 else where
    value = score.get("value") if isinstance(score, dict) else score
    if isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        how = f"{how}, {key}"
    number = _measured(value)
    if number is None:
        told = repr(shown(value)) if isinstance(value, str) else kind_of(value)
        return {}, () if value is None else (f"{how} is {told}; the reward is unknown",)
    said: dict[str, tuple[Any, str]] = {"reward": (number, how)}
    if (isinstance(value, str) and value in (*_LETTERS, *_WORDS)) or isinstance(value, bool):
        said.update({"success": (number, how)} if number in (0, 1) else {})
    return said, ()


def _measured(value: Any) -> float | None:
    """A score as a number, as Inspect reads it: letters, words and numbers in text as well."""
    if not isinstance(value, str):
        return as_number(value)
    known = _LETTERS.get(value, _WORDS.get(value.lower()))
    if known is not None:
        return known
    try:
        return as_number(float(value))
    except ValueError:
        return None
