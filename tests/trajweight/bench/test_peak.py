"""The most memory that a stretch of work held."""

from __future__ import annotations

import json
import subprocess
import sys

MEGABYTE = 2**20
#: In a process of its own: what other tests gave back would blur it.
PROGRAM = """
import json, numpy as np, torch
from trajweight.bench.peak import peak_of
found = []
for size in (0, 200, 0):
    with peak_of(torch.device("cpu")) as peak:
        held = np.ones(size * 2**20, dtype=np.uint8)
        del held
    found.append(peak.bytes)
print(json.dumps(found))
"""


def test_what_was_held_and_given_back_counts_in_its_own_block_only() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True)
    before, during, after = json.loads(done.stdout)

    assert 150 * MEGABYTE < during - before < 400 * MEGABYTE
    assert after < during - 150 * MEGABYTE
