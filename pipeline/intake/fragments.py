"""Encapsulated pixel data: where the codestream of each frame lies, found by a bounded walk over the fragments."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.package import Source

MAX_FRAGMENTS = 100_000  # of one file; a frame is usually one fragment; project default
MAX_OVERHEAD_BYTES = 1 << 20  # a codestream may be larger than the pixels by tables and padding; project default

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_HEAD = struct.Struct("<4sI")
_STARTS = (b"\xff\xd8", b"\xff\x4f")  # JPEG and JPEG-LS, JPEG 2000

Span = tuple[int, int]  # offset and length of one fragment


def frame_places(source: Source, start: int, *, frames: int) -> tuple[tuple[Span, ...], ...]:
    """The fragments of each frame of the encapsulated pixel data that start at ``start``.

    Raises
    ------
    SeriesError
        The fragments are cut off, or do not say which frame they belong to.
    """
    table, spans = _fragments(source, start)
    if frames == 1:
        return (tuple(spans),)
    if len(spans) == frames:
        return tuple((span,) for span in spans)
    heads = _offsets_in_table(source, table, spans) or _beginnings(source, spans)
    if len(heads) != frames:
        raise SeriesError(
            f"the compressed pixel data hold {len(heads)} frames, must be {frames}",
            hint="ask the sender to send the series again",
        )
    ends = [*heads[1:], len(spans)]
    return tuple(tuple(spans[first:last]) for first, last in zip(heads, ends, strict=True))


def joined(source: Source, spans: Sequence[Span], *, pixels_bytes: int) -> bytes:
    """The codestream of one frame, whose uncompressed size is ``pixels_bytes``.

    Raises
    ------
    SeriesError
        The codestream is larger than a codec would make it.
    """
    total, most = sum(length for _, length in spans), 2 * pixels_bytes + MAX_OVERHEAD_BYTES
    if total > most:
        raise SeriesError(
            f"a compressed image is {total} bytes, at most {most} bytes for its size",
            hint="ask the sender to send the series again",
        )
    return b"".join(source.read(offset, length) for offset, length in spans)


def _fragments(source: Source, start: int) -> tuple[Span, list[Span]]:
    spans: list[Span] = []
    at = start
    while True:
        head = source.read(at, _HEAD.size)
        if len(head) < _HEAD.size:
            if not spans:
                raise _cut_off()
            break  # the closing delimiter is missing, every fragment is there
        tag, length = _HEAD.unpack(head)
        if tag == _END:
            break
        at += _HEAD.size
        if tag != _ITEM or at + length > source.size or len(spans) >= MAX_FRAGMENTS:
            raise _cut_off()
        spans.append((at, length))
        at += length
    if len(spans) < 2:
        raise _cut_off()
    return spans[0], spans[1:]


def _offsets_in_table(source: Source, table: Span, spans: Sequence[Span]) -> list[int]:
    """Fragments at which a frame begins, by the basic offset table; empty where it is missing or wrong."""
    raw = source.read(table[0], min(table[1], 4 * len(spans)))
    by_place = {offset - spans[0][0]: index for index, (offset, _) in enumerate(spans)}
    found = [by_place.get(offset, -1) for (offset,) in struct.iter_unpack("<I", raw[: len(raw) // 4 * 4])]
    rising = all(one < two for one, two in pairwise(found))
    return found if found and found[0] == 0 and rising else []


def _beginnings(source: Source, spans: Sequence[Span]) -> list[int]:
    return [index for index, (offset, _) in enumerate(spans) if source.read(offset, 2) in _STARTS]


def _cut_off() -> SeriesError:
    return SeriesError(
        "the fragments of a compressed image are cut off or damaged", hint="ask the sender to send the series again"
    )
