"""Answers that were made and may be asked for again: the last ones, as long as they fit into their room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

MOST_BYTES = 64_000_000  # what about eight cases show, beside a server that has 200 MB; project default


class Kept:
    """Bytes by a key that says all of what they were made of; whatever was asked for longest ago goes first. Thread-safe."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._held = 0
        self._found: OrderedDict[Hashable, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> bytes | None:
        """What was kept for a key."""
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
            return found

    def put(self, key: Hashable, data: bytes) -> None:
        """Keep it, in the place of older ones; what is larger than the room alone is not kept."""
        if len(data) > self._most:
            return
        with self._lock:
            self._held += len(data) - len(self._found.pop(key, b""))
            self._found[key] = data
            while self._held > self._most:
                self._held -= len(self._found.popitem(last=False)[1])
