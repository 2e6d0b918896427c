"""When a review that waits is told again, by the clock of the order."""

from __future__ import annotations

import datetime as dt
from typing import Final

BEFORE_DUE_H: Final = (12.0, 8.0, 6.0, 4.0, 2.0, 0.0)
"""Hours before the due time; project default, unverified."""
_AFTER_H: Final = 24.0  # once it is late: daily
_EARLY_S: Final = 60.0  # a timer and a clock that was stepped may tell the one at the due time so much before it; project default


def next_reminder(due: dt.datetime, last: dt.datetime | None, *, now: dt.datetime | None = None) -> float:
    """Seconds from now to the next reminder.

    Parameters
    ----------
    due
        When the part must be there (UTC).
    last
        When it was reminded of last (UTC); None: not yet. Reminders whose time went by unseen are skipped, but the one at the due
        time: it is told as soon as somebody looks.
    now
        UTC; default the system's clock.
    """
    now = now or dt.datetime.now(dt.UTC)
    ahead = [seconds for hours in BEFORE_DUE_H if (seconds := (due - now).total_seconds() - 3600.0 * hours) > 0.0]
    if ahead:
        return ahead[0]
    if last is None or (due - last).total_seconds() > _EARLY_S:
        return 1.0
    return max(1.0, 3600.0 * _AFTER_H - max(0.0, (now - last).total_seconds()))
