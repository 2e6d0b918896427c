"""The pixels of the chosen series, read once, straight into their place in one (slices, rows, columns) array, as HU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.decode import Encoded, decode_all
from batchone.pipeline.intake.fragments import frame_places, joined
from batchone.pipeline.intake.header import Header
from batchone.pipeline.intake.package import Source, combined_digest, content_digest, in_threads
from batchone.pipeline.intake.pixels import PixelFormat, is_compressed
from batchone.pipeline.intake.quality import SAMPLE_STEPS
from batchone.pipeline.intake.series import Stack
from batchone.pipeline.values import HuArray

PADDING_HU = -1024  # "nothing was measured", as in Scan
_LOWEST, _HIGHEST = -32768, 32767  # int16


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """HU in place, never below -1024; the digest of the files used; what was changed on the way, as sentences.

    ``sample`` is a part of the voxels as they were before anything was raised to -1024.
    """

    hu: HuArray
    sample: HuArray
    digest: str
    corrections: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """One slice to fill: where its values go, and where a part of them goes; what its object inflates to, if shared."""

    header: Header
    pixels: PixelFormat
    target: HuArray
    sample: HuArray | None
    shared: Source | None


@dataclass(frozen=True, slots=True)
class _SliceNote:
    padded: int
    masked: int
    clipped: int
    raised: int


def read_volume(stack: Stack) -> Volume:
    """Read and rescale every slice of a measured stack.

    Raises
    ------
    SeriesError
        Pixel data cut off, or not decodable.
    """
    hu = np.empty((len(stack.headers), stack.formats[0].rows, stack.formats[0].columns), dtype=np.int16)
    compressed = [index for index, header in enumerate(stack.headers) if is_compressed(header)]
    if compressed:
        decode_all([_encoded(stack.headers[index], stack.formats[index], hu[index]) for index in compressed])
    sources = _shared_sources(stack.headers)
    step, down, across = SAMPLE_STEPS
    sample = np.empty_like(hu[::step, ::down, ::across], order="C")
    tasks = [
        _Task(header, stack.formats[k], hu[k], None if k % step else sample[k // step], sources.get(id(header.origin)))
        for k, header in enumerate(stack.headers)
    ]
    outcomes = in_threads(_read_slice, tasks)
    digests = [content for content, _ in outcomes if content is not None]
    digests += in_threads(content_digest, [one.origin for one in stack.instances if one.frame is not None])
    digest = combined_digest(digests)
    scales = {(one.slope, one.intercept) for one in stack.formats}
    return Volume(hu, sample, digest, _corrections([note for _, note in outcomes], len(scales)))


def set_floor(hu: HuArray) -> int:
    """Set what is below -1024 HU (fill values, streaks; nothing is less dense than air) to -1024 in place; returns how many."""
    if int(hu.min()) >= PADDING_HU:  # the usual case
        return 0
    count = int(np.count_nonzero(hu < PADDING_HU))
    np.maximum(hu, PADDING_HU, out=hu)
    return count


def _encoded(header: Header, pixels: PixelFormat, target: HuArray) -> Encoded:
    return Encoded(
        fetch=partial(_codestream, header, pixels),
        target=_bytes_of(target),
        syntax=header.syntax,
        rows=pixels.rows,
        columns=pixels.columns,
        stored_bits=pixels.stored_bits,
        signed=pixels.signed,
    )


def _codestream(header: Header, pixels: PixelFormat) -> bytes:
    spans = header.spans or frame_places(header.origin, header.pixels_at or 0, frames=1)[0]
    return joined(header.origin, spans, pixels_bytes=pixels.bytes)


def _shared_sources(headers: Sequence[Header]) -> dict[int, Source]:
    """Deflated multi-frame objects, inflated once for all their frames, by the identity of their files."""
    objects = {id(header.origin): header for header in headers if header.frame is not None and header.inflate_at is not None}
    return {key: header.open() for key, header in objects.items()}


def _read_slice(task: _Task) -> tuple[bytes | None, _SliceNote]:
    """Fill one slice; returns the SHA-256 of its file (None for a frame: its file is digested once for all) and a note."""
    header, target = task.header, task.target
    if is_compressed(header):
        content = None if header.frame is not None else content_digest(header.origin)
    else:
        content = _read_native(header, task.pixels, target, task.shared)
    note = to_hu(target, task.pixels)
    if task.sample is not None:
        task.sample[...] = target[:: SAMPLE_STEPS[1], :: SAMPLE_STEPS[2]]
    return content, replace(note, raised=set_floor(target))


def _read_native(header: Header, pixels: PixelFormat, target: HuArray, shared: Source | None) -> bytes | None:
    """Fill one slice with stored values; returns the SHA-256 of the whole file, from the bytes just read."""
    place = _bytes_of(target)
    start = header.pixels_at or 0
    content: bytes | None = None
    if header.frame is None and header.inflate_at is None:
        done, content = header.origin.read_and_digest(start, place)
    else:
        done = (shared or header.open()).read_into(start, place)
        content = content_digest(header.origin) if header.frame is None else None
    if done != len(place):
        raise SeriesError(
            f"the pixel data of an image are cut off, {len(place)} bytes are needed",
            hint="ask the sender to send the series again",
        )
    if pixels.big_endian != (sys.byteorder == "big"):
        target.byteswap(inplace=True)
    return content


def _bytes_of(values: HuArray) -> memoryview:
    return memoryview(values.data).cast("B")


def to_hu(stored: HuArray, pixels: PixelFormat) -> _SliceNote:
    """Turn stored values into HU in place; padding is found before the rescale, with all 16 bits.

    Whole slopes and intercepts are exact, others round to the nearest integer; beyond int16 is clipped.
    """
    raw = stored if pixels.signed else stored.view(np.uint16)
    padded = _padded(raw, pixels)
    if padded is not None:
        raw[padded] = 0
    masked, least, most = _mask_unused_bits(raw, pixels)
    low, high = least * pixels.slope + pixels.intercept, most * pixels.slope + pixels.intercept
    clipped = 0
    if pixels.slope == 1.0 and pixels.intercept.is_integer() and low >= _LOWEST and high <= _HIGHEST:
        stored.view(np.uint16)[...] += np.uint16(int(pixels.intercept) % 65536)  # exact: modulo 2^16, and the result fits
    else:
        exact = np.rint(raw * pixels.slope + pixels.intercept)
        if low < _LOWEST or high > _HIGHEST:
            clipped = int(np.count_nonzero((exact < _LOWEST) | (exact > _HIGHEST)))
            np.clip(exact, _LOWEST, _HIGHEST, out=exact)
        stored[...] = exact.astype(np.int16)
    if padded is not None:
        stored[padded] = PADDING_HU
    return _SliceNote(0 if padded is None else int(np.count_nonzero(padded)), masked, clipped, 0)


def _padded(raw: np.ndarray, pixels: PixelFormat) -> np.ndarray | None:
    if pixels.padding is None:
        return None
    low, high = pixels.padding
    found = raw == low if low == high else (raw >= low) & (raw <= high)
    return found if found.any() else None


def _mask_unused_bits(raw: np.ndarray, pixels: PixelFormat) -> tuple[int, int, int]:
    """Clear what lies above the stored bits (old overlays); returns how many values had something there, and their range now."""
    bits = pixels.stored_bits
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if pixels.signed else (0, (1 << bits) - 1)
    least, most = int(raw.min()), int(raw.max())
    if least >= low and most <= high:
        return 0, least, most
    found = int(np.count_nonzero((raw < low) | (raw > high)))
    if pixels.signed:
        raw[...] = (raw << (16 - bits)) >> (16 - bits)
    else:
        raw &= np.uint16(high)
    return found, int(raw.min()), int(raw.max())


def _corrections(notes: list[_SliceNote], scales: int) -> tuple[str, ...]:
    sentences: list[str] = []
    if scales > 1:
        sentences.append(f"{scales} different rescale values in the series: applied slice by slice")
    total = sum(note.padded for note in notes)
    if total:
        sentences.append(f"{total} voxels of padding were set to {PADDING_HU} HU")
    total = sum(note.masked for note in notes)
    if total:
        sentences.append(f"{total} voxels had bits set above the stored bits; these were cleared")
    total = sum(note.clipped for note in notes)
    if total:
        sentences.append(f"{total} voxels beyond {_LOWEST} to {_HIGHEST} HU were clipped")
    total = sum(note.raised for note in notes)
    if total:
        sentences.append(f"{total} voxels below {PADDING_HU} HU were set to {PADDING_HU} HU")
    return tuple(sentences)
