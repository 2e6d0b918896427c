"""What the headers say of the exposure, the date and the pixels; read again from one image, without identity."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from batchone.pipeline.intake.deidentify import device_text
from batchone.pipeline.intake.header import Header, Unreadable, read_header

DAYS_PER_MONTH = 30.4375
_TAGS = {
    "study_date": 0x00080020,
    "acquisition_date": 0x00080022,
    "body_part": 0x00180015,
    "kv": 0x00180060,
    "dates_changed": 0x00280303,  # LongitudinalTemporalInformationModified
    "burned_in": 0x00280301,  # BurnedInAnnotation
    "lossy_ratio": 0x00282112,
}


@dataclass(frozen=True, slots=True)
class Stated:
    """What the sender states. ``age_days`` is None when no date is stated, or when de-identification moved it.

    The date itself is not kept: it would lead back to the patient.
    """

    kernel: str = ""
    kv: float | None = None
    body_part: str = ""
    age_days: int | None = None
    dates_moved: bool = False
    burned_in: str = ""
    lossy_ratio: float | None = None
    derived: bool = False


def read_stated(header: Header, *, on: dt.date) -> Stated:
    """Read what one image states; ``on`` is the day on which the scan's age counts."""
    try:
        again = read_header(header.origin, frozenset(_TAGS.values()))
    except Unreadable:
        again = None
    values = {} if again is None else again.values
    text = {name: values.get(tag, b"").decode("latin-1").strip(" \0") for name, tag in _TAGS.items()}
    moved = text["dates_changed"].upper() in ("MODIFIED", "REMOVED")
    taken = _date(text["acquisition_date"]) or _date(text["study_date"])
    return Stated(
        kernel=device_text(header, "ConvolutionKernel"),
        kv=_number(text["kv"]),
        body_part="".join(c for c in text["body_part"].upper() if c.isascii() and (c.isalnum() or c in " _"))[:16],
        age_days=None if moved or taken is None else (on - taken).days,
        dates_moved=moved,
        burned_in=text["burned_in"].upper() if text["burned_in"].upper() in ("YES", "NO") else "",
        lossy_ratio=_number(text["lossy_ratio"].split("\\")[0]),
        derived=header.texts("ImageType")[0].upper() == "DERIVED",
    )


def months(days: int) -> int:
    """Whole months begun: as fine as a scan's age is told, for the day itself would lead back to the patient."""
    return -int(-days // DAYS_PER_MONTH) if days > 0 else 0


def _date(text: str) -> dt.date | None:
    try:
        return dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < 1e6 else None
