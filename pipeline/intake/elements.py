"""The elements of a DICOM data set, walked over without trust: no allocation by a stated length, no deep recursion."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_SEQUENCE_DEPTH = 16
MAX_VALUE_BYTES = 4096  # longer values of the elements read here are nonsense
UNDEFINED = 0xFFFFFFFF

_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_FLOAT_PIXEL_DATA = frozenset({0x7FE00008, 0x7FE00009})


class Unreadable(Exception):  # noqa: N818 - a verdict on one file, caught where the files are listed
    """A DICOM file whose header cannot be walked; the text says why, without any of its content."""


class NeedMore(Exception):  # noqa: N818 - control flow between this module and its caller
    """The walk reached the end of the bytes read so far."""


class Walk:
    """Walks the elements of a data set."""

    def __init__(self, data: bytes, *, implicit: bool, big_endian: bool, complete: bool) -> None:
        self.data = data
        self.implicit = implicit
        self.big_endian = big_endian
        self.complete = complete
        order = ">" if big_endian else "<"
        self._explicit_head = struct.Struct(order + "HH2sH")
        self._implicit_head = struct.Struct(order + "HHI")
        self._long = struct.Struct(order + "I")

    def element(self, at: int) -> tuple[int, int, int, bytes]:
        """Tag, place of the value, its length and its representation (empty when implicit) of the element at ``at``."""
        if at + 12 > len(self.data) and (at + 8 > len(self.data) or self.data[at + 4 : at + 6] in _LONG_VRS):
            raise NeedMore
        if self.implicit:
            group, number, length = self._implicit_head.unpack_from(self.data, at)
            return group << 16 | number, at + 8, length, b""
        group, number, vr, length = self._explicit_head.unpack_from(self.data, at)
        if vr in _LONG_VRS:
            return group << 16 | number, at + 12, self._long.unpack_from(self.data, at + 8)[0], vr
        if not vr.isalpha():
            raise Unreadable("an element has no valid value representation")
        return group << 16 | number, at + 8, length, vr

    def elements(
        self, at: int, values: dict[int, bytes], wanted: frozenset[int], *, places: dict[int, tuple[int, int]]
    ) -> tuple[int | None, int, bool]:
        """Walk to the pixel data; returns their place, length, and whether they are floating point.

        ``values`` gets the content of the wanted elements; ``places``, whose keys are the sequences asked for, gets where
        the content of each begins and ends.
        """
        data, total = self.data, len(self.data)
        while True:
            if at >= total and self.complete:
                if at > total:
                    raise Unreadable("an element is longer than the file")
                return None, 0, False
            tag, at, length, vr = self.element(at)
            if tag == _PIXEL_DATA or tag in _FLOAT_PIXEL_DATA:
                return at, length, tag != _PIXEL_DATA
            if length == UNDEFINED:
                start, at = at, self._after_sequence(at, 0, vr)
                if tag in places:
                    places[tag] = (start, at)
                continue
            if tag in places:
                if at + length > total:
                    raise NeedMore
                places[tag] = (at, at + length)
            if tag in wanted:
                if at + min(length, MAX_VALUE_BYTES) > total:
                    raise NeedMore
                values[tag] = data[at : at + min(length, MAX_VALUE_BYTES)]
            at += length

    def items(self, at: int, end: int) -> Iterator[tuple[int, int]]:
        """Where each item of a sequence begins and ends, given the place of the sequence's content."""
        while at + 8 <= end:
            tag, length = self._item_head(at)
            at += 8
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                raise Unreadable("a sequence holds something that is not an item")
            after = self._after_item(at, 0) if length == UNDEFINED else at + length
            if after > end:
                raise Unreadable("an item is longer than its sequence")
            yield at, after - 8 if length == UNDEFINED else after
            at = after

    def members(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Tag, beginning and end of each element of an item."""
        while at < end:
            tag, start, length, vr = self.element(at)
            at = self._after_sequence(start, 0, vr) if length == UNDEFINED else start + length
            if at > end:
                raise Unreadable("an element is longer than its item")
            yield tag, start, at

    def _after_sequence(self, at: int, depth: int, vr: bytes) -> int:
        """The place after a sequence of undefined length; inside an unknown (UN) one everything is implicit."""
        if depth >= MAX_SEQUENCE_DEPTH:
            raise Unreadable(f"sequences are nested deeper than {MAX_SEQUENCE_DEPTH}, at most {MAX_SEQUENCE_DEPTH}")
        if vr == b"UN" and not self.implicit:
            return Walk(self.data, implicit=True, big_endian=False, complete=self.complete)._after_sequence(at, depth, b"")
        while True:
            tag, length = self._item_head(at)
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise Unreadable("a sequence holds something that is not an item")
            at = self._after_item(at, depth) if length == UNDEFINED else at + length

    def _after_item(self, at: int, depth: int) -> int:
        while True:
            tag, length = self._item_head(at)
            if tag == _ITEM_END:
                return at + 8
            _, at, length, vr = self.element(at)
            at = self._after_sequence(at, depth + 1, vr) if length == UNDEFINED else at + length

    def _item_head(self, at: int) -> tuple[int, int]:
        if at + 8 > len(self.data):
            raise NeedMore
        group, number, length = self._implicit_head.unpack_from(self.data, at)
        return group << 16 | number, length
