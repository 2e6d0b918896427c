"""What of a study may leave the hospital, what stays behind, and what only the hospital can say about it."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.hospital.dates import first_time_us
from batchone.pipeline.intake.header import Header, Unreadable, read_header
from batchone.pipeline.intake.package import open_study
from batchone.pipeline.intake.series import refuse_several_patients, refuse_without_ct, sort_files

ADVISED_AGE_DAYS = 183  # six months from scan to device; common practice for patient-matched implants, unverified
BURNED_IN_KIND = "CT images with burned-in text"
_STUDY_DATE, _BODY_PART, _BURNED_IN, _FACE = 0x00080020, 0x00180015, 0x00280301, 0x00280302
_EXTRA = frozenset({_STUDY_DATE, _BODY_PART, _BURNED_IN, _FACE})
_HEAD = re.compile(r"HEAD|SKULL|FACE|FACIAL|CRANI|BRAIN|ORBIT|SINUS|MAXILL|MANDIB|JAW|TMJ")


@dataclass(frozen=True, slots=True)
class Advice:
    """A warning: its name, its text for the hospital, and its text for the site, which never tells a true date.

    ``certain`` is False for what the headers only leave open; the pixels may settle it.
    """

    name: str
    here: str
    there: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Sendable:
    """The CT images that are sent, how many files of which kind are not, and the advice.

    ``zero_us`` is the earliest time of day of an image, microseconds after midnight.
    """

    headers: tuple[Header, ...]
    zero_us: int
    left_out: dict[str, int]
    advice: tuple[Advice, ...]


def sendable(study: Path, *, due: dt.date | None = None, advised_days: int | None = None) -> Sendable:
    """Choose the CT images of one patient and examination that have no text burned into them.

    Parameters
    ----------
    due
        When the device is due; the age of the scan is judged against it.
    advised_days
        What the device's protocol advises as the greatest age; None takes six months.

    Raises
    ------
    SeriesError
        There is none, or there are several patients or examinations.
    """
    contents = sort_files(open_study(study))
    refuse_without_ct(contents)
    refuse_several_patients(contents.images)
    left_out: Counter[str] = Counter(contents.others)
    kept, extras = [], []
    files = {id(header.origin): header for header in contents.images}  # the frames of one object lie in one file
    for header in files.values():
        extra = _extra(header)
        if extra[_BURNED_IN] == "YES":
            left_out[BURNED_IN_KIND] += 1
        else:
            kept.append(header)
            extras.append(extra)
    if not kept:
        raise SeriesError(
            f"all {left_out[BURNED_IN_KIND]} CT images have text burned in, at least one series without is needed",
            hint="ask for the original images instead of captures",
        )
    examinations = len({header.text("StudyInstanceUID") for header in kept})
    if examinations > 1:
        raise SeriesError(
            f"the study holds CT of {examinations} examinations, must be 1", hint="give the study of one examination"
        )
    return Sendable(
        tuple(kept),
        first_time_us(contents.images),
        dict(sorted(left_out.items())),
        _advice(extras, due, advised_days or ADVISED_AGE_DAYS),
    )


def _extra(header: Header) -> dict[int, str]:
    try:
        again = read_header(header.origin, _EXTRA)
    except Unreadable:
        again = None
    if again is None:
        raise SeriesError("an image changed while it was read", hint="run again when the study is complete")
    return {tag: again.values.get(tag, b"").decode("latin-1").strip(" \0").upper() for tag in _EXTRA}


def _advice(extras: Sequence[dict[int, str]], due: dt.date | None, advised_days: int) -> tuple[Advice, ...]:
    found = [*_age(extras, due, advised_days), *_face(extras)]
    silent = sum(1 for extra in extras if extra[_BURNED_IN] != "NO")
    if silent:
        text = f"{silent} of {len(extras)} images do not say whether text is burned into their pixels"
        found.append(Advice("burned-in-text", f"{text}: look at one before you send more", text, certain=False))
    return tuple(found)


def _age(extras: Sequence[dict[int, str]], due: dt.date | None, advised_days: int) -> list[Advice]:
    dates = [date for extra in extras if (date := _date(extra[_STUDY_DATE]))]
    if due is None:
        return []
    if not dates:
        text = "the images do not say when they were made"
        return [Advice("scan-age", text, text)]
    days = (due - min(dates)).days
    limit = f"at most {advised_days} days are advised"
    if days <= advised_days:
        return []
    here = f"the scan is {days} days old when the device is due, {limit}"
    return [Advice("scan-age", here, f"the scan is older than advised when the device is due, {limit}")]


def _face(extras: Sequence[dict[int, str]]) -> list[Advice]:
    entitled = "the site must be entitled to receive it"
    if any(extra[_FACE] == "YES" for extra in extras):
        text = "the images are marked as showing a recognisable face"
        return [Advice("recognisable-face", f"{text}; {entitled}", text)]
    if any(_HEAD.search(extra[_BODY_PART]) for extra in extras) and any(extra[_FACE] != "NO" for extra in extras):
        text = "the images are of a head: a face may be recognisable in them"
        return [Advice("recognisable-face", f"{text}; {entitled}", text, certain=False)]
    return []


def _date(text: str) -> dt.date | None:
    try:
        return dt.datetime.strptime(text.replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None
