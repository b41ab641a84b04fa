"""Ways to weigh that are no scorers: they know what no user does, or show what a part is worth."""

from __future__ import annotations

from typing import Final

from trajweight.config import LEARNED

#: Real rows alone; the planted truth; learned weights dealt out anew; uniform weights with the time
#: of a search to train longer.
REAL_ONLY, ORACLE, PERMUTED, MATCHED = "real-only", "oracle", "permuted", "uniform-matched"
#: Learned weights as the head says them, whether or not dev preferred uniform ones.
UNGATED: Final = "learned-ungated"
#: The same weights as another method, and real rows with the share of mass that dev chose.
AUTO_SHARE: Final = {"learned-auto-share": LEARNED, "uniform-auto-share": "uniform"}
#: Weights of another method, found with the grid's model, on which a larger one is trained.
TRANSFERRED: Final = {
    "learned-transferred": LEARNED,
    "uniform-transferred": "uniform",
    "permuted-transferred": PERMUTED,
    "oracle-transferred": ORACLE,
}
CONTROLS: Final = (REAL_ONLY, ORACLE, PERMUTED, MATCHED, UNGATED, *AUTO_SHARE, *TRANSFERRED)
