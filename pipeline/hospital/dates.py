"""Dates moved by whole days, and times moved together: what is left of when a scan was made."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from batchone.pipeline.intake.header import Header

TIMES = ("AcquisitionTime", "ContentTime", "AcquisitionDateTime")
_SECOND_US = 1_000_000
_DAY_US = 86_400 * _SECOND_US
_DATE = re.compile(r"(\d{4})\.?(\d{2})\.?(\d{2})")
_TIME = re.compile(r"(\d{2}):?(?:(\d{2}):?(?:(\d{2})(?:\.(\d{1,6}))?)?)?")


def first_time_us(headers: Iterable[Header]) -> int:
    """The earliest time of day of any image, microseconds after midnight; 0 when none says."""
    found = [_of_day_us(header.text(name)[8 if name.endswith("DateTime") else 0 :]) for header in headers for name in TIMES]
    return min((time for time in found if time is not None), default=0)


def moved_date(text: str, days: int) -> str:
    """A date moved by whole days; empty when it is none."""
    found = _DATE.match(text)
    try:
        date = dt.date(*map(int, found.groups())) + dt.timedelta(days) if found else None
    except (ValueError, OverflowError):
        date = None
    return "" if date is None else f"{date.year:04d}{date.month:02d}{date.day:02d}"


def moved_time(text: str, zero_us: int) -> str:
    """A time of day counted from ``zero_us``; empty when it is none."""
    time_us = _of_day_us(text)
    if time_us is None:
        return ""
    seconds, us = divmod((time_us - zero_us) % _DAY_US, _SECOND_US)
    text = f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"
    return f"{text}.{us:06d}" if us else text


def moved_date_time(text: str, days: int, zero_us: int) -> str:
    """A date-time with its date moved by whole days and its time counted from ``zero_us``; its zone goes."""
    date = moved_date(text, days)
    return date and date + moved_time(text[8:], zero_us)


def _of_day_us(text: str) -> int | None:
    found = _TIME.match(text)
    if found is None:
        return None
    hours, minutes, seconds, fraction = (part or "0" for part in found.groups())
    time_us = (int(hours) * 3600 + int(minutes) * 60 + int(seconds)) * _SECOND_US + int(fraction.ljust(6, "0"))
    return time_us if time_us < _DAY_US else None
