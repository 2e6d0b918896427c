"""Long lists of small items, encoded at once: a hundred times as quick as one dataset for each item.

Explicit VR, little endian, defined lengths (PS3.5, sections 7.1.2 and 7.5).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

_LONG = frozenset({"OB", "OW", "SQ", "UN", "UT"})
_ITEM = struct.Struct("<HHI")


def element(keyword: str, value: bytes) -> bytes:
    """One element; the value is padded to even length."""
    tag, vr = _tag_and_vr(keyword)
    value += (b"\0" if vr in ("UI", "OB") else b" ") * (len(value) % 2)
    if vr in _LONG:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value


def items(contents: Iterable[bytes]) -> bytes:
    """The value of a sequence from the contents of its items."""
    return b"".join(_ITEM.pack(0xFFFE, 0xE000, len(content)) + content for content in contents)


def put_encoded(item: Dataset, keyword: str, value: bytes) -> None:
    """Set an element of a dataset to bytes that are written as they are."""
    tag, vr = _tag_and_vr(keyword)
    item[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


@functools.cache
def _tag_and_vr(keyword: str) -> tuple[int, str]:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag, "OB" if keyword == "PixelData" else str(dictionary_VR(tag))
