"""The decoding child: a program of its own that gets encoded bytes on one pipe and answers with pixels on another.

It is started by path, without the rest of batchone, and loads only the one codec that a series needs: that makes it quick to
start and small. The rows and columns that a codestream states are compared with what the image header states before any codec
sees it, the processor time of each image and the memory are limited, and no file can be written.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

MAX_IMAGE_CPU_S = 3  # the slowest codec takes 0.1 s for 512 x 512; whole seconds, as the kernel counts them; project default
MAX_EXTRA_BYTES = 256_000_000  # memory beyond what interpreter, codec and twelve copies of the image hold; project default
IMAGE_COPIES = 12  # JPEG 2000 works on 32-bit values, several at a time
REQUEST = struct.Struct("<II")  # length of the JSON head, length of the codestream
DECODED, FAILED = b"\1", b"\0"

_END_OF_IMAGE = b"\xff\xd9"  # of JPEG-LS
_JPEG_LOSSLESS = frozenset({"1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"})
_JPEG = _JPEG_LOSSLESS | {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"}
_JPEG_LS = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
_RLE = "1.2.840.10008.1.2.5"
_FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error)
_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})  # baseline, extended, progressive, lossless, JPEG-LS
_RLE_HEAD = struct.Struct("<16I")

Head = dict[str, Any]  # syntax, rows, columns, bits_stored, signed
Decoder = Callable[[bytes, Head], bytes]


def serve(requests: BinaryIO, answers: int) -> None:
    """Decode what comes until the other end closes."""
    held: int | None = None
    while len(sizes := requests.read(REQUEST.size)) == REQUEST.size:
        head_bytes, data_bytes = REQUEST.unpack(sizes)
        head = json.loads(requests.read(head_bytes))
        data = requests.read(data_bytes)
        decoder = decoder_of(head["syntax"])
        held = _held_bytes() if held is None else held
        _limit(held + MAX_EXTRA_BYTES + IMAGE_COPIES * 2 * head["rows"] * head["columns"])
        _answer(answers, decoded(data, head, decoder))


def decoded(data: bytes, head: Head, decoder: Decoder) -> bytes | None:
    """The pixels as 16-bit little-endian values; None when the codestream is damaged or of another size than ``head`` states."""
    pixels = head["rows"] * head["columns"]
    try:
        values = decoder(data, head)
    except _FAULTS:
        return None
    if len(values) == pixels:
        values = _widened(values, signed=head["signed"])
    return bytes(values) if len(values) == 2 * pixels else None


def decoder_of(syntax: str) -> Decoder:
    """The decoder of a transfer syntax; its library is loaded here, before memory is limited."""
    if syntax == _RLE:
        return _run_length
    if syntax in _JPEG_LS:
        return _jpeg_ls()
    if syntax in _JPEG:
        return _jpeg()
    return _jpeg_2000()


def _jpeg_ls() -> Decoder:
    codec: Any = import_module("jpeg_ls")

    def decode(data: bytes, head: Head) -> bytes:
        _refuse_other_size(_jpeg_size(data), head)
        # CharLS searches many seconds in a stream that ends without this marker; behind a whole image it is not read
        return bytes(codec.decode_pixel_data(data + _END_OF_IMAGE)[0])

    return decode


def _jpeg_2000() -> Decoder:
    codec: Any = import_module("openjpeg")

    def decode(data: bytes, head: Head) -> bytes:
        _refuse_other_size(_jpeg_2000_size(data), head)
        return bytes(codec.decode_pixel_data(data, version=2))

    return decode


def _jpeg() -> Decoder:
    gdcm: Any = import_module("gdcm")
    jpeg: Any = import_module("batchone.pipeline.intake.jpeg")

    def decode(data: bytes, head: Head) -> bytes:
        # GDCM ends its process on many damaged streams: it gets none whose structure is not sound
        processes = frozenset({jpeg.LOSSLESS}) if head["syntax"] in _JPEG_LOSSLESS else jpeg.DCT
        size = {name: head[name] for name in ("rows", "columns", "bits_stored")}
        jpeg.refuse_unsound_jpeg(data, processes=processes, **size)
        return _gdcm_pixels(gdcm, data, head)

    return decode


def _gdcm_pixels(gdcm: Any, data: bytes, head: Head) -> bytes:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(data)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((head["columns"], head["rows"], 1))
    image.SetDataElement(element)
    grey = gdcm.PhotometricInterpretation.GetPIType("MONOCHROME2")
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(head["syntax"])))
    stored = head["bits_stored"]
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, stored, stored - 1, int(head["signed"])))
    pixels: bytes = image.GetBuffer().encode("utf-8", "surrogateescape")  # GDCM gives its bytes as a text
    return pixels


def _refuse_other_size(stated: tuple[int, int, int], head: Head) -> None:
    if stated != (head["rows"], head["columns"], 1):
        raise ValueError("the codestream is of another size than the image")


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components that a JPEG or JPEG-LS stream states."""
    at = 2
    while data[:2] == b"\xff\xd8" and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _START_OF_FRAME:
            rows, columns, components = struct.unpack_from(">HHB", data, at + 5)
            return rows, columns, components
        at += 2 + max(length, 2)
    raise ValueError("no frame header")


def _jpeg_2000_size(data: bytes) -> tuple[int, int, int]:
    """Rows, columns and components that a JPEG 2000 codestream states, with or without the boxes of a file around it."""
    at = 0 if data[:2] == b"\xff\x4f" else data.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    return bottom - top, right - left, int.from_bytes(data[at + 40 : at + 42], "big")


def _run_length(data: bytes, head: Head) -> bytes:
    """RLE of DICOM PS3.5 Annex G: one segment for each byte of a pixel, the high bytes first."""
    pixels = head["rows"] * head["columns"]
    count, *places = _RLE_HEAD.unpack_from(data)
    if count != 2:
        raise ValueError("a 16-bit image has two segments")
    values = bytearray(2 * pixels)
    values[1::2] = _unpacked(data[places[0] : places[1]], pixels)
    values[0::2] = _unpacked(data[places[1] :], pixels)
    return bytes(values)


def _unpacked(packed: bytes, size: int) -> bytes:
    found, at = bytearray(), 0
    while len(found) < size:
        control = packed[at]
        if control < 128:
            found += packed[at + 1 : at + 2 + control]
            at += 2 + control
        else:
            if control > 128:
                found += packed[at + 1 : at + 2] * (257 - control)
            at += 1 if control == 128 else 2
    return bytes(found[:size])


def _widened(values: bytes, *, signed: bool) -> bytes:
    """One byte a pixel to two."""
    wide = bytearray(2 * len(values))
    wide[0::2] = values
    if signed:
        wide[1::2] = bytes(0xFF if value > 127 else 0 for value in values)
    return bytes(wide)


def _answer(answers: int, pixels: bytes | None) -> None:
    rest = memoryview(FAILED if pixels is None else DECODED + pixels)
    while rest:
        rest = rest[os.write(answers, rest) :]


def _held_bytes() -> int:
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 1 << 30


def _limit(memory_bytes: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime) + 1 + MAX_IMAGE_CPU_S
    for kind, soft in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory_bytes)):
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _close_in() -> int:
    """Keep the answers' pipe, and send everything that codecs print to nowhere; no file may be written, no core left."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return answers


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    serve(sys.stdin.buffer, _close_in())
