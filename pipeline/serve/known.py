"""Answers that the asker has already: HTTP's ETag and If-None-Match (RFC 9110, 8.8.3 and 13.1.2)."""

from __future__ import annotations


def is_known(asked: str | None, tag: str) -> bool:
    """Whether the header ``If-None-Match`` names a tag, given in its quotes; a weak mark on either side does not count."""
    return asked is not None and tag in (one.strip().removeprefix("W/") for one in asked.split(","))
