"""What a compressed image says of itself before its pixels: the markers of JPEG, JPEG-LS and JPEG 2000, read without a codec.

Marker codes and segments: ITU-T T.81 Annex B and H (JPEG), T.87 Annex C (JPEG-LS), T.800 Annex A (JPEG 2000). It imports nothing
of batchone, so that the decoding child can load it alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

LOSSLESS, JPEG_LS = 0xC3, 0xF7  # start of frame: lossless with Huffman codes, JPEG-LS
DCT: Final = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive
_SOI, _EOI, _SOS, _DHT, _DQT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDB, 0xDD
_STARTS = DCT | {LOSSLESS, JPEG_LS}
_SEGMENTS = _STARTS | {_DHT, _DQT, _DRI, 0xF8, 0xFE} | frozenset(range(0xE0, 0xF0))  # F8: JPEG-LS parameters; FE: comment
_IN_SCAN = re.compile(rb"\xff+([^\x00\xff])")
_MAX_CATEGORY = 16  # of a difference of two 16-bit values
_SOT, _SOD, _COD, _COC = 0xFF90, 0xFF93, 0xFF52, 0xFF53
_WITHOUT_LENGTH = range(0xFF30, 0xFF40)
_IRREVERSIBLE = 0  # wavelet 9-7; 1 is 5-3


class Opening(NamedTuple):
    """What stands before the entropy-coded data of a JPEG or JPEG-LS stream.

    ``first`` and ``low`` are the first of the three parameters of the scan and the low half of the last: predictor and point
    transform in lossless JPEG, NEAR and point transform in JPEG-LS.
    """

    process: int
    precision: int
    rows: int
    columns: int
    components: int
    first: int
    low: int
    restarts: bool
    scan_at: int


def read_opening(data: bytes) -> Opening:
    """Read a JPEG or JPEG-LS stream up to its first scan.

    Raises
    ------
    ValueError
        A segment is cut off or does not hold what it must, or one that is needed is missing.
    """
    frame: tuple[int, ...] | None = None
    restarts, tables = False, set[int]()
    for marker, start, end in _jpeg_segments(data):
        if marker in _STARTS:
            if frame is not None:
                raise ValueError("two frames")
            frame = _frame(marker, data[start:end])
        elif marker == _DHT:
            tables |= _huffman_tables(data[start:end])
        elif marker == _DRI:
            if end - start != 2:
                raise ValueError("restart interval")
            restarts = any(data[start:end])
        elif marker == _SOS:
            if frame is None:
                raise ValueError("no frame before the scan")
            process, precision, rows, columns, components, name = frame
            first, low = _scan(data[start:end], process, name, tables)
            return Opening(process, precision, rows, columns, components, first, low, restarts, end)
    raise ValueError("no scan")


def refuse_unsound_jpeg(data: bytes, *, processes: frozenset[int], rows: int, columns: int, bits_stored: int) -> None:
    """Refuse a stream that a decoder might trip over: all of its structure is sound, and it is the image that it must be.

    Parameters
    ----------
    data
        The stream of one grey image.
    processes
        Starts of frame that its transfer syntax allows.
    rows, columns, bits_stored
        What the image header states.

    Raises
    ------
    ValueError
        It is not.
    """
    found = read_opening(data)
    if found.process not in processes or (found.rows, found.columns, found.components) != (rows, columns, 1):
        raise ValueError("another process, size or number of components than the header states")
    if not (8 if bits_stored > 8 else 2) <= found.precision <= 16:
        raise ValueError("another precision than the header states")
    if found.process == LOSSLESS and not (1 <= found.first <= 7 and found.low < found.precision):
        raise ValueError("predictor or point transform")
    _refuse_unsound_scan(data, found)


def loses(syntax: str, data: bytes) -> bool:
    """Whether a stream under a transfer syntax that promises none was compressed with loss.

    JPEG-LS with a difference allowed (NEAR), JPEG of another process than lossless, bits that were shifted out (point transform),
    JPEG 2000 with the irreversible wavelet.

    Parameters
    ----------
    syntax
        The last part of the transfer syntax: ``80`` of 1.2.840.10008.1.2.4.80.
    data
        The stream, at least up to its first scan or tile.

    Raises
    ------
    ValueError
        It cannot be followed so far.
    """
    if syntax in ("57", "70"):
        opening = read_opening(data)
        return opening.process != LOSSLESS or opening.low > 0
    if syntax == "80":
        opening = read_opening(data)
        return opening.process != JPEG_LS or opening.first > 0 or opening.low > 0
    if syntax in ("90", "91", "201", "202", "203"):
        return any(wavelet == _IRREVERSIBLE for wavelet in _wavelets(data))
    return False


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the content of each segment after the start of image."""
    if data[:2] != b"\xff\xd8":
        raise ValueError("no start of image")
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at + 4 > len(data) or data[at] != 0xFF:
            raise ValueError("no marker where one must be")
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if (marker not in _SEGMENTS and marker != _SOS) or length < 2 or at + 2 + length > len(data):
            raise ValueError("segment")
        yield marker, at + 4, at + 2 + length
        at += 2 + length


def _frame(marker: int, content: bytes) -> tuple[int, int, int, int, int, int]:
    """Process, precision, rows, columns, components, and the name of the first component."""
    if len(content) < 9 or len(content) != 6 + 3 * content[5]:
        raise ValueError("frame header")
    if any(not (1 <= part >> 4 <= 4 and 1 <= part & 15 <= 4) for part in content[7::3]):
        raise ValueError("sampling")
    rows, columns = (int.from_bytes(content[at : at + 2], "big") for at in (1, 3))
    return marker, content[0], rows, columns, content[5], content[6]


def _huffman_tables(content: bytes) -> set[int]:
    """The tables that a segment defines: class and number in one byte."""
    found, at = set[int](), 0
    while at < len(content):
        counts = content[at + 1 : at + 17]
        symbols = content[at + 17 : at + 17 + sum(counts)]
        if len(counts) < 16 or not symbols or len(symbols) != sum(counts) or content[at] not in (0, 1, 2, 3, 16, 17, 18, 19):
            raise ValueError("Huffman table")
        if sum(count << (15 - length) for length, count in enumerate(counts)) > 1 << 16 or len(set(symbols)) != len(symbols):
            raise ValueError("Huffman codes")
        if content[at] < 16 and max(symbols) > _MAX_CATEGORY:
            raise ValueError("Huffman category")
        found.add(content[at])
        at += 17 + len(symbols)
    return found


def _scan(content: bytes, process: int, name: int, tables: set[int]) -> tuple[int, int]:
    """First parameter, and low half of the last, of the scan of one or more components."""
    if not content or not 1 <= content[0] <= 4 or len(content) != 4 + 2 * content[0]:
        raise ValueError("scan header")
    first, _, last = content[-3:]
    if content[1] != name or (process == LOSSLESS and (content[-2] or last >> 4)):
        raise ValueError("scan header")
    if process != JPEG_LS and content[2] >> 4 not in tables:
        raise ValueError("the scan names a Huffman table that is not there")
    return first, last & 15


def _refuse_unsound_scan(data: bytes, opening: Opening) -> None:
    """One scan, whole to its end, with restart markers in their turn and none where none were promised."""
    following = 0
    for found in _IN_SCAN.finditer(data, opening.scan_at):
        marker = found[1][0]
        if marker == _EOI:
            if found.start() == opening.scan_at:
                break
            return
        if opening.process in DCT:
            continue  # a progressive image has many scans; its decoder is not the one that trips
        if not opening.restarts or marker != 0xD0 + following % 8:
            break
        following += 1
    raise ValueError("the scan is empty, cut off or damaged")


def _wavelets(data: bytes) -> list[int]:
    """The wavelets of the main header and of the first tile part, with or without the boxes of a file around them."""
    at = (0 if data[:2] == b"\xff\x4f" else data.index(b"\xff\x4f\xff\x51")) + 2
    found = []
    while True:
        code, length = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        if code == _SOD:
            break
        if code in _WITHOUT_LENGTH:
            at += 2
            continue
        if code < 0xFF00 or length < 2 or at + 2 + length > len(data):
            raise ValueError("segment")
        if code in (_COD, _COC):
            place = at + 4 + (9 if code == _COD else 6)  # one byte names the component: there are fewer than 257
            if place >= at + 2 + length:
                raise ValueError("coding style")
            found.append(data[place])
        at += 2 + length
    if not found:
        raise ValueError("no coding style")
    return found
