from __future__ import annotations

from tests.trajweight.scorers.pools import pool_of, say
from trajweight.scorers import scorer


def test_the_characters_of_all_replies_are_counted_and_the_sign_says_what_is_preferred() -> None:
    pool = pool_of([say("four", "five5"), "one"])

    assert scorer("longer").score(pool).scores.tolist() == [10.0, 3.0]  # and a line's end
    assert scorer("shorter").score(pool).scores.tolist() == [-10.0, -3.0]
