"""What tokenising gives: one trajectory in tokens, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoded:
    """A trajectory in tokens; the three lists have one entry a token.

    Attributes:
        input_ids: Token ids.
        assistant_mask: True where the token is a target: said by the assistant, end of turn
            included, header and white space after the turn not.
        turn_of_token: Index of the assistant turn a target belongs to, -1 where there is none.
        n_dropped_turns: Turns left out because the trajectory was too long.
        n_trailing_turns: Turns after the last reply, left out since nothing is learned there.
        n_control_strings: Control tokens of the data that were encoded as plain text.
        n_hidden_texts: Turns whose text the template does not show beside their tool calls.
        is_joint: The ids equal those of the whole text in one go, as at inference.
    """

    input_ids: list[int]
    assistant_mask: list[bool]
    turn_of_token: list[int]
    n_dropped_turns: int = 0
    n_trailing_turns: int = 0
    n_control_strings: int = 0
    n_hidden_texts: int = 0
    is_joint: bool = True


@dataclass(frozen=True, slots=True)
class Unusable:
    """A trajectory that cannot be learned from, and why."""

    reason: str
