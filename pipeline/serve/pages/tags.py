"""Whether a browser has already what it asks for."""

from __future__ import annotations


def has(known: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names the tag of what would be sent."""
    return known is not None and tag in (one.strip().removeprefix("W/") for one in known.split(","))
