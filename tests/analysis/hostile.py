"""A run whose texts try whatever a page could be tricked by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.runs import make_run, row

if TYPE_CHECKING:
    from pathlib import Path

    from trajweight.run import Run

ATTACKS = (
    "<script>window.broken = 1</script>",
    "</script><script>window.broken = 2</script>",
    "<!--<script>window.broken = 3//-->",
    "<img src=x onerror='window.broken = 4'>",
    "\x1b[31mred\x1b]0;title\x07",
    "\u202eright to left\u2066",
    "nothing\x00here",
    "$name ${data} {{7*7}} &lt;b&gt; \u2028line",
    "=HYPERLINK(1) 'quotes' \"and\" `ticks`",
)


def hostile_run(folder: Path) -> Run:
    """As many synthetic rows as attacks, each attack in every text of its row; and real rows."""
    rows = [_hostile(f"h{at}", attack) for at, attack in enumerate(ATTACKS)]
    rows += [row(f"r{at}", source="real") for at in range(4)]
    splits = {"r0": "validation", "r1": "dev", "r2": "dev", "r3": "test"}
    names = [each["id"] for each in rows]
    weights = {name: 0.5 + 0.25 * at for at, name in enumerate(names[: len(ATTACKS)])}
    embeddings = {name: [float(at % 3), at / 7.0] for at, name in enumerate(names)}
    return make_run(folder, rows, weights, splits=splits, embeddings=embeddings)


def _hostile(name: str, attack: str) -> dict[str, Any]:
    call = {"name": attack, "arguments": '{"text": "plain"}'}
    messages = [
        {"role": "system", "content": attack},
        {"role": "user", "content": f"line one\n{attack}"},
        {
            "role": "assistant",
            "content": attack,
            "reasoning_content": attack,
            "tool_calls": [{"id": "c1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": attack},
        {"role": "assistant", "content": "done"},
    ]
    about = {"source": f"source {attack}", "task_id": f"task {attack}", "origin": "synthetic"}
    return {"id": f"{name} {attack}", **about, "messages": messages, "reward": 0.5}
