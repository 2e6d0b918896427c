"""Comments inside compressed pixels: JPEG, JPEG-LS and JPEG 2000 carry free text, and a scanner may write a name there.

Their content is overwritten by zeros in place, so every length and offset stays what it was, and the pixels decode to the
same values. Marker codes: ITU-T T.81 B.1.1.3 (JPEG), T.87 C.1 (JPEG-LS), T.800 A.2 (JPEG 2000).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_JPEG: Final = frozenset({"50", "51", "57", "70", "80", "81"})
_JPEG_2000: Final = frozenset({"90", "91", "92", "93", "201", "202", "203"})
_RLE: Final = "1.2.840.10008.1.2.5"
_FAMILY: Final = "1.2.840.10008.1.2.4."
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

_SOI, _SOC_SIZ = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
_NEXT_IN_JPEG = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_NEXT_IN_JPEG_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_SOT, _SOD, _EOC, _COMMENT_2000 = 0xFF90, 0xFF93, 0xFFD9, 0xFF64


class UnknownStreamError(ValueError):
    """Compressed pixels whose structure cannot be followed, so that nobody knows what else they hold."""


def without_comments(encapsulated: bytes, syntax: str) -> bytes:
    """The fragments of compressed pixel data with the content of all comments and application segments set to zero.

    Parameters
    ----------
    encapsulated
        The items of the pixel data, offset table first, without or with the sequence delimiter.
    syntax
        The transfer syntax.

    Raises
    ------
    UnknownStreamError
        The syntax is not a known still-image one, or the stream does not follow it.
    """
    if syntax == _RLE:
        return encapsulated
    number = syntax.removeprefix(_FAMILY) if syntax.startswith(_FAMILY) else ""
    if number not in _JPEG | _JPEG_2000:
        raise UnknownStreamError("transfer syntax")
    fragments = _fragments(encapsulated)
    joined = b"".join(encapsulated[at : at + size] for at, size in fragments)
    starts = _frame_starts(encapsulated, fragments, _SOC_SIZ if number in _JPEG_2000 else _SOI)
    cleaned = bytearray(joined)
    for start, end in zip(starts, [*starts[1:], len(joined)], strict=True):
        frame = joined[start:end]
        blanks = _blanks_2000(frame) if number in _JPEG_2000 else _blanks_jpeg(frame, near=number in ("80", "81"))
        for at, size in blanks:
            cleaned[start + at : start + at + size] = bytes(size)
    return _put_back(encapsulated, fragments, bytes(cleaned))


def _fragments(encapsulated: bytes) -> list[tuple[int, int]]:
    """Place and size of every fragment after the offset table."""
    found = []
    at = 0
    while at + 8 <= len(encapsulated) and encapsulated[at : at + 4] == _ITEM:
        size = int.from_bytes(encapsulated[at + 4 : at + 8], "little")
        found.append((at + 8, size))
        at += 8 + size
    if at > len(encapsulated) or len(found) < 2 or encapsulated[at : at + 4] not in (b"", _END):
        raise UnknownStreamError("fragments")
    return found[1:]


def _frame_starts(encapsulated: bytes, fragments: list[tuple[int, int]], mark: bytes) -> list[int]:
    """Where in the joined fragments a frame starts; a frame always starts a fragment (PS3.5 A.4)."""
    starts, done = [], 0
    for at, size in fragments:
        if encapsulated[at : at + len(mark)] == mark:
            starts.append(done)
        done += size
    if not starts or starts[0] != 0:
        raise UnknownStreamError("start of image")
    return starts


def _put_back(encapsulated: bytes, fragments: list[tuple[int, int]], joined: bytes) -> bytes:
    result, done = bytearray(encapsulated), 0
    for at, size in fragments:
        result[at : at + size] = joined[done : done + size]
        done += size
    return bytes(result)


def _blanks_jpeg(frame: bytes, *, near: bool) -> Iterator[tuple[int, int]]:
    """Comments, application segments, and whatever lies behind the end of image."""
    following = _NEXT_IN_JPEG_LS if near else _NEXT_IN_JPEG
    at = 2
    while True:
        if frame[at : at + 1] != b"\xff":
            raise UnknownStreamError("marker")
        while frame[at + 1 : at + 2] == b"\xff":  # fill bytes
            at += 1
        code = frame[at + 1] if at + 1 < len(frame) else -1
        if code == _EOI:
            yield at + 2, len(frame) - at - 2
            return
        size = int.from_bytes(frame[at + 2 : at + 4], "big")
        if code < 0 or size < 2 or at + 2 + size > len(frame):
            raise UnknownStreamError("segment")
        if code == _COM or 0xE0 <= code <= 0xEF:
            yield at + 4, size - 2
        at += 2 + size
        if code == _SOS:
            found = following.search(frame, at)
            if found is None:
                return  # cut off without end of image: nothing lies behind it
            at = found.start()


def _blanks_2000(frame: bytes) -> Iterator[tuple[int, int]]:
    """Comments of the main header and of each tile part, and whatever lies behind the end of the codestream."""
    at = 2
    while True:
        code = int.from_bytes(frame[at : at + 2], "big")
        if code == _EOC:
            yield at + 2, len(frame) - at - 2
            return
        size = int.from_bytes(frame[at + 2 : at + 4], "big")
        if code < 0xFF00 or size < 2 or at + 2 + size > len(frame):
            raise UnknownStreamError("segment")
        if code != _SOT:
            if code == _COMMENT_2000:
                yield at + 6, size - 4
            at += 2 + size
            continue
        length = int.from_bytes(frame[at + 6 : at + 10], "big")
        end = at + length if length else len(frame)
        yield from _blanks_tile(frame, at + 2 + size, min(end, len(frame)))
        if end >= len(frame):
            return
        at = end


def _blanks_tile(frame: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    while True:
        code = int.from_bytes(frame[at : at + 2], "big")
        if code == _SOD:
            return
        size = int.from_bytes(frame[at + 2 : at + 4], "big")
        if code < 0xFF00 or size < 2 or at + 2 + size > end:
            raise UnknownStreamError("tile segment")
        if code == _COMMENT_2000:
            yield at + 6, size - 4
        at += 2 + size
