"""Several images at one place: copies left out, acquisitions told apart, and everything else left as it is, to be refused.

A stack is taken out of such a series only when an attribute of the images tells its parts apart and one part alone covers the
whole length. Nothing is pieced together from parts, for the patient may have moved between them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.gaps import same_position_mm, spacing_tolerance_mm
from batchone.pipeline.intake.header import Header
from batchone.pipeline.values import FloatArray

MIN_PART = 3  # images; less is no stack
_KEYWORDS = (  # what tells acquisitions, phases or reconstructions at one place apart, surest first
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "KVP",
    "SliceThickness",
    "ImageType",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
_TIMES = ("AcquisitionDateTime", "AcquisitionTime", "ContentTime")
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True)
class Part:
    """Images that make one stack, and what was left out or told apart to get it, as sentences.

    ``fault`` says that they are of several acquisitions, none of which is a stack alone.
    """

    headers: tuple[Header, ...]
    notes: tuple[str, ...] = ()
    fault: SeriesError | None = None


def tell_apart(headers: Sequence[Header], along_mm: FloatArray, *, rounding_mm: float) -> tuple[Part, ...]:
    """Split images of one orientation into stacks with one image at each place, where that can be done without guessing.

    Parameters
    ----------
    headers
        Images of one series and orientation.
    along_mm
        (n,) their places along the slice normal, mm.
    rounding_mm
        How far a place may be off because the files round it.

    Returns
    -------
    One part with all images when none share a place, or when they cannot be told apart (then they still share it).
    """
    whole = Part(tuple(headers))
    if not _doubled(along_mm) and not _mingled(headers, along_mm, rounding_mm):
        return (whole,)
    whole, along_mm = _without_same_pixels(whole, along_mm)
    mingled = _mingled(whole.headers, along_mm, rounding_mm)
    if not _doubled(along_mm) and not mingled:
        return (whole,)
    for name, keys in _readings(whole.headers, along_mm):
        parts = _parts(whole.headers, keys)
        if len(parts) > 1 and any(_covers(along_mm[part], along_mm) for part in parts):
            note = f"the series holds {len(parts)} stacks over the same places, told apart by {name}: one of them was taken"
            return tuple(Part(tuple(whole.headers[k] for k in part), (*whole.notes, note)) for part in parts)
    if _doubled(along_mm):
        return (whole,)
    fault = SeriesError(
        f"the slices of {mingled} acquisitions lie between each other at uneven distances, must be of 1 or evenly spaced",
        hint="ask the sender for one acquisition as a series of its own",
    )
    return (replace(whole, fault=fault),)


def _doubled(along_mm: FloatArray) -> bool:
    ordered = np.sort(along_mm)
    return len(ordered) > 1 and bool(np.any(np.diff(ordered) <= same_position_mm(ordered)))


def _mingled(headers: Sequence[Header], along_mm: FloatArray, rounding_mm: float) -> int:
    """How many acquisitions lie between each other without making an even stack together; 0 when they do, or lie apart."""
    gaps_mm = np.diff(np.sort(along_mm))
    if len(gaps_mm) < MIN_PART or np.ptp(gaps_mm) <= 2 * spacing_tolerance_mm(float(np.median(gaps_mm)), rounding_mm):
        return 0
    parts = _parts(headers, [header.text("AcquisitionNumber") for header in headers])
    spans = sorted((float(along_mm[part].min()), float(along_mm[part].max())) for part in parts)
    return len(parts) if any(after[0] < before[1] for before, after in pairwise(spans)) else 0


def _without_same_pixels(part: Part, along_mm: FloatArray) -> tuple[Part, FloatArray]:
    """Leave out images that show the same pixels at the same place as another."""
    ordered = np.argsort(along_mm, kind="stable")
    limit_mm = same_position_mm(along_mm[ordered])
    kept: list[int] = []
    seen: dict[bytes, float] = {}
    places = along_mm[ordered]
    for position, index in enumerate(ordered):
        neighbours = places[max(position - 1, 0) : position + 2]
        if np.count_nonzero(np.abs(neighbours - places[position]) <= limit_mm) > 1:
            digest = _pixels_digest(part.headers[index])
            if digest in seen and abs(places[position] - seen[digest]) <= limit_mm:
                continue
            seen[digest] = float(places[position])
        kept.append(int(index))
    kept.sort()
    left_out = len(along_mm) - len(kept)
    if not left_out:
        return part, along_mm
    note = f"{left_out} images show the same pixels at the same place as another under another identifier: left out"
    return Part(tuple(part.headers[k] for k in kept), (*part.notes, note)), along_mm[kept]


def _pixels_digest(header: Header) -> bytes:
    source = header.open()
    running = hashlib.sha256("\0".join(header.text(key) for key in ("RescaleSlope", "RescaleIntercept")).encode())
    for at, length in header.spans or ((header.pixels_at or 0, header.pixels_bytes),):
        running.update(source.read(at, length))
    return running.digest()


def _readings(headers: Sequence[Header], along_mm: FloatArray) -> list[tuple[str, list[str]]]:
    """The ways to tell images apart: a name for each way, and one key per image."""
    found = [(word, [header.text(word) for header in headers]) for word in _KEYWORDS]
    for word in _TIMES:
        runs = _runs([_seconds(header.text(word)) for header in headers], along_mm)
        if runs:
            found.append((f"runs of {word}", runs))
    return [(name, keys) for name, keys in found if all(keys) and len(set(keys)) > 1]


def _parts(headers: Sequence[Header], keys: Sequence[str]) -> list[list[int]]:
    """Indices of the images by key; numbers in their order, then texts."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return [groups[key] for key in sorted(groups, key=_rank)]


def _rank(key: str) -> tuple[int, float, str]:
    try:
        return (0, float(key), key)
    except ValueError:
        return (1, 0.0, key)


def _covers(part_mm: FloatArray, all_mm: FloatArray) -> bool:
    """Whether a part is one image at each place and reaches from the first to the last of all."""
    ordered = np.sort(part_mm)
    if len(ordered) < MIN_PART or _doubled(ordered):
        return False
    gap_mm = float(np.median(np.diff(ordered)))
    return ordered[0] - all_mm.min() < gap_mm and all_mm.max() - ordered[-1] < gap_mm


def _runs(times: Sequence[float | None], along_mm: FloatArray) -> list[str]:
    """Cut the images, in the order of their times, at the longest pauses: as many runs as images share one place."""
    if any(time is None for time in times):
        return []
    ordered = np.sort(along_mm)
    limit_mm = same_position_mm(ordered)
    runs = int(max(np.count_nonzero(np.abs(ordered - place) <= limit_mm) for place in ordered))
    values = np.array(times, dtype=np.float64)
    pauses_s = np.diff(np.sort(values))
    if runs < 2 or len(pauses_s) < runs or np.sort(pauses_s)[-(runs - 1)] <= 0:
        return []
    cuts = np.sort(np.sort(values)[np.argsort(pauses_s, kind="stable")[-(runs - 1) :]])
    return [str(int(np.count_nonzero(cuts < value)) + 1) for value in values]


def _seconds(text: str) -> float | None:
    """Seconds of a DICOM time (HHMMSS.FFF) or date with time (YYYYMMDDHHMMSS.FFF); None when it is neither."""
    digits, _, fraction = text.split("+")[0].split("-")[0].partition(".")
    if not digits.isdigit() or len(digits) not in (6, 14) or (fraction and not fraction.isdigit()):
        return None
    clock = digits[-6:]
    day = int(digits[:-6] or 0)  # days only have to differ and rise
    return day * _SECONDS_PER_DAY + int(clock[:2]) * 3600 + int(clock[2:4]) * 60 + int(clock[4:]) + float(f"0.{fraction or 0}")
