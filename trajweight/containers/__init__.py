"""What files are packed in: each container knows how to give its records one after another."""

from __future__ import annotations

from trajweight.containers.opening import check_readable, open_source
from trajweight.containers.protocol import Source

__all__ = ["Source", "check_readable", "open_source"]
