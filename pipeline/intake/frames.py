"""One header per frame of a multi-frame object, so that everything after it treats frames and single images alike."""

from __future__ import annotations

from dataclasses import replace

from batchone.pipeline.intake.elements import Unreadable
from batchone.pipeline.intake.fragments import Span, frame_places
from batchone.pipeline.intake.header import NATIVE, Header


def split_frames(header: Header) -> tuple[Header, ...]:
    """The frames of a multi-frame object as headers of single images; their pixels are those of the frame alone.

    Raises
    ------
    Unreadable
        The object does not say what it must of each of its frames.
    SeriesError
        The compressed pixels do not show where each frame lies.
    """
    stated = header.number("NumberOfFrames") or 0
    count = len(header.frames)
    if not count or stated != count:
        raise Unreadable(f"a multi-frame object describes {count} frames, must be the {stated:g} that it states")
    if header.pixels_at is None:
        raise Unreadable("a multi-frame object holds no pixels")
    places: tuple[tuple[Span, ...], ...]
    if header.syntax in NATIVE:
        places = tuple((span,) for span in _native_spans(header, header.pixels_at, count))
    else:
        places = frame_places(header.open(), header.pixels_at, frames=count)
    return tuple(
        replace(
            header,
            values=header.values | values,
            pixels_at=spans[0][0],
            pixels_bytes=sum(length for _, length in spans),
            frames=(),
            frame=number,
            spans=spans,
        )
        for number, (values, spans) in enumerate(zip(header.frames, places, strict=True))
    )


def _native_spans(header: Header, start: int, count: int) -> list[Span]:
    """Where each frame lies; what is missing at the end shows as frames that are cut off."""
    pixels = (header.integer("Rows") or 0) * (header.integer("Columns") or 0)
    size = pixels * ((header.integer("BitsAllocated") or 0) // 8)
    return [(start + k * size, max(0, min(size, header.pixels_bytes - k * size))) for k in range(count)]
