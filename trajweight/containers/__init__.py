"""What files are packed in: each container knows how to give its records one after another."""

from __future__ import annotations

from trajweight.containers.finding import STDIN, stem_of
from trajweight.containers.hashing import facts_of
from trajweight.containers.opening import Sources, open_source, sources_of
from trajweight.containers.protocol import Source

__all__ = ["STDIN", "Source", "Sources", "facts_of", "open_source", "sources_of", "stem_of"]
