"""What the pixel values of one image mean: sign, stored bits, rescale to HU, padding; and whether they are all there."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake import jpeg
from batchone.pipeline.intake.fragments import frame_places, joined
from batchone.pipeline.intake.header import EXPLICIT_BIG, NATIVE, Header

MAX_SIDE_PIXELS = 4096  # rows or columns; CT is 512 to 2048; project default
MAX_SERIES_BYTES = 2_000_000_000  # the volume of one series; project default
LOSSLESS = {
    "1.2.840.10008.1.2.4.57": "JPEG lossless",
    "1.2.840.10008.1.2.4.70": "JPEG lossless SV1",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.4.201": "HTJ2K lossless",
    "1.2.840.10008.1.2.4.202": "HTJ2K lossless RPCL",
    "1.2.840.10008.1.2.5": "RLE lossless",
}
LOSSY = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    "1.2.840.10008.1.2.4.203": "HTJ2K",
}
_NATIVE_NAMES = {
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.1.99": "deflated little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
}
BYTES_PER_PIXEL = 2
_OPENING_BYTES = 4096  # of a codestream: in them stands how it was made, but for long comments
_MIN_ENCODED_BYTES = 16  # an item header and a delimiter; the decoder judges the rest


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How stored values become HU: value = stored * slope + intercept.

    ``padding`` is the inclusive range of stored values (read with the sign of ``signed``, all 16 bits) that mean
    "nothing was measured". ``lossy`` says that they were compressed with loss.
    """

    rows: int
    columns: int
    signed: bool
    stored_bits: int
    big_endian: bool
    slope: float
    intercept: float
    padding: tuple[int, int] | None
    lossy: bool = False

    @property
    def bytes(self) -> int:
        """Size of one uncompressed image."""
        return self.rows * self.columns * BYTES_PER_PIXEL


def syntax_name(syntax: str) -> str:
    """The name of a transfer syntax; ``unknown`` when this version cannot read it."""
    return (_NATIVE_NAMES | LOSSLESS | LOSSY).get(syntax, "unknown")


def is_compressed(header: Header) -> bool:
    """Whether the pixel data must be decoded."""
    return header.syntax not in NATIVE


def pixel_format(header: Header, *, allow_lossy: bool = False) -> PixelFormat:
    """Read and check the pixel attributes of one image; no pixel is touched.

    Raises
    ------
    SeriesError
        No pixel data, an unsupported format, lossy compression, no rescale, or less data than the size needs.
    """
    rows, columns = header.integer("Rows") or 0, header.integer("Columns") or 0
    if not (2 <= rows <= MAX_SIDE_PIXELS and 2 <= columns <= MAX_SIDE_PIXELS):
        raise SeriesError(
            f"an image has {rows} rows and {columns} columns, must be 2 to {MAX_SIDE_PIXELS} each",
            hint="ask the sender for the original images",
        )
    _refuse_unsupported(header)
    lossy = _is_lossy(header) or _loses(header, rows * columns * BYTES_PER_PIXEL)
    if lossy and not allow_lossy:
        raise SeriesError(
            "the images were compressed with loss, 0 lossy images allowed",
            hint="ask the sender for the original images, uncompressed or compressed without loss",
        )
    slope, intercept = _rescale(header)
    signed = header.integer("PixelRepresentation") == 1
    found = PixelFormat(
        rows=rows,
        columns=columns,
        signed=signed,
        stored_bits=header.integer("BitsStored") or 0,
        big_endian=header.syntax == EXPLICIT_BIG,
        slope=slope,
        intercept=intercept,
        padding=_padding(header, signed),
        lossy=lossy,
    )
    _refuse_truncated(header, found)
    return found


def _refuse_unsupported(header: Header) -> None:
    hint = "ask the sender for the original 16-bit grey CT images"
    if header.pixels_at is None or header.float_pixels:
        raise SeriesError("an image holds no integer pixel data", hint=hint)
    if syntax_name(header.syntax) == "unknown":
        raise SeriesError(
            "the transfer syntax is not one that this version reads", hint="ask the sender to export without compression"
        )
    samples, allocated = header.integer("SamplesPerPixel"), header.integer("BitsAllocated")
    if samples != 1 or header.text("PhotometricInterpretation") != "MONOCHROME2":
        raise SeriesError(f"an image has {samples} samples per pixel or is not MONOCHROME2, must be 1 grey sample", hint=hint)
    stored, high = header.integer("BitsStored"), header.integer("HighBit")
    if allocated != 16 or stored is None or not 8 <= stored <= 16 or high != stored - 1:
        raise SeriesError(
            f"an image stores {stored} of {allocated} bits with high bit {high}, must be 8 to 16 of 16 bits, low bits first",
            hint=hint,
        )
    if header.integer("PixelRepresentation") not in (0, 1):
        raise SeriesError("the pixel representation is missing or not 0 or 1", hint=hint)


def _is_lossy(header: Header) -> bool:
    """JPEG 2000 and HTJ2K under the general syntax may be reversible; then the file says 00."""
    stated = header.texts("LossyImageCompression")[0]
    return stated == "01" or (header.syntax in LOSSY and not (stated == "00" and header.syntax.endswith((".91", ".203"))))


def _loses(header: Header, pixels_bytes: int) -> bool:
    """Whether the codestream itself says that it was made with loss, whatever its transfer syntax promises.

    One that cannot be followed is not judged here: it will not decode.
    """
    if header.syntax in NATIVE:
        return False
    family, _, last = header.syntax.rpartition(".")
    if family != "1.2.840.10008.1.2.4":
        return False
    try:
        spans = header.spans or frame_places(header.origin, header.pixels_at or 0, frames=1)[0]
        at, length = spans[0]
        with suppress(ValueError):
            return jpeg.loses(last, header.origin.read(at, min(length, _OPENING_BYTES)))
        return jpeg.loses(last, joined(header.origin, spans, pixels_bytes=pixels_bytes))
    except (SeriesError, ValueError):
        return False


def _rescale(header: Header) -> tuple[float, float]:
    slope, intercept = header.number("RescaleSlope"), header.number("RescaleIntercept")
    hint = "ask the sender for the original CT images with rescale slope and intercept"
    if slope is None or intercept is None:
        raise SeriesError("an image has no rescale slope and intercept, both are needed for Hounsfield units", hint=hint)
    if not (math.isfinite(slope) and math.isfinite(intercept) and 0 < slope <= 100 and abs(intercept) <= 100_000):
        raise SeriesError(
            f"the rescale slope is {slope:g} and the intercept {intercept:g} HU, must be above 0 to 100 and within 100000 HU",
            hint=hint,
        )
    kind = header.text("RescaleType").upper()
    if kind not in ("", "HU", "US"):  # US: unspecified
        raise SeriesError("the rescale type is not Hounsfield units (HU)", hint=hint)
    return slope, intercept


def _padding(header: Header, signed: bool) -> tuple[int, int] | None:
    value = header.integer("PixelPaddingValue", signed=signed)
    if value is None:
        return None
    limit = header.integer("PixelPaddingRangeLimit", signed=signed)
    other = value if limit is None else limit
    return min(value, other), max(value, other)


def _refuse_truncated(header: Header, found: PixelFormat) -> None:
    there = min(header.pixels_bytes, header.size - (header.pixels_at or 0))
    needed = _MIN_ENCODED_BYTES if is_compressed(header) else found.bytes
    if there < needed:
        raise SeriesError(
            f"the pixel data of an image are cut off: {there} bytes, at least {needed} bytes",
            hint="ask the sender to send the series again",
        )
