"""When a review that waits is told again, by the clock of the order."""

from __future__ import annotations

import datetime as dt
from typing import Final

BEFORE_DUE_H: Final = (12.0, 8.0, 6.0, 4.0, 2.0, 0.0)
"""Hours before the due time; project default, unverified."""
_AFTER_H: Final = 24.0  # once it is late: daily


def next_reminder(due: dt.datetime, told: int, *, now: dt.datetime | None = None) -> float:
    """Seconds from now to the next reminder.

    Parameters
    ----------
    due
        When the part must be there (UTC).
    told
        How many reminders went before. Those whose time went by unseen are skipped, but the one at the due time.
    now
        UTC; default the system's clock.
    """
    now = now or dt.datetime.now(dt.UTC)
    ahead = [seconds for hours in BEFORE_DUE_H if (seconds := (due - now).total_seconds() - 3600.0 * hours) > 0.0]
    if ahead:
        return ahead[0]
    return 1.0 if told == 0 else 3600.0 * _AFTER_H
