"""Runs of equal bytes as a block of a deflate stream (RFC 1951): a byte, then matches of the byte before it.

The code is the same for every block, and lies in front of it: short for whole matches, black and white, long for greys.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.uint32]

_ADLER: Final = 65521  # RFC 1950
_LONGEST: Final = 258  # RFC 1951: bytes of one match
_END: Final = 256  # RFC 1951: symbol that ends a block; lengths follow
_ORDER: Final = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)  # RFC 1951: in which widths are given
# widths of the codes, bits: what is left by whole matches, black and white, and other lengths is shared by the greys
_WHOLE, _BLACK_WHITE, _LENGTH, _GREY, _RARE, _WIDER = 2, 3, 7, 9, 10, 33


def _symbol_widths() -> list[int]:
    """Bits of each symbol, 0 to 285; they leave no code unused, as readers demand."""
    greys = [_GREY] * _WIDER + [_RARE] * (254 - _WIDER)
    return [_BLACK_WHITE, *greys, _BLACK_WHITE, _RARE, *[_LENGTH] * 28, _WHOLE]


def _codes(widths: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Canonical code of each symbol (RFC 1951, 3.2.2), its bits in the order in which they are written, and its width."""
    found, code, before = {}, 0, 0
    for symbol, width in sorted(widths.items(), key=lambda one: (one[1], one[0])):
        code <<= width - before
        found[symbol] = int(f"{code:0{width}b}"[::-1], 2), width
        code, before = code + 1, width
    return found


def _head() -> tuple[Bits, Bytes]:
    """What stands before a block: that it is not the last, and its code; the one distance is 1, of one bit."""
    widths = [*_symbol_widths(), 1]
    used = {_RARE: 2, _LENGTH: 2, 1: 3, _WHOLE: 3, _BLACK_WHITE: 3, _GREY: 3}
    codes = _codes(used)
    words = [(0b100, 3), (len(widths) - 1 - 257, 5), (0, 5), (len(_ORDER) - 4, 4)]
    words += [(used.get(width, 0), 3) for width in _ORDER] + [codes[width] for width in widths]
    return np.array([word for word, _ in words], dtype=np.uint32), np.array([width for _, width in words], dtype=np.uint8)


def _words() -> tuple[Bits, Bytes]:
    """Bits and their number: of a byte, of the end at 256, and of a match of n bytes at 256 + n."""
    codes = _codes(dict(enumerate(_symbol_widths())))
    words = [codes[symbol] for symbol in range(_END + 1)] + [(0, 0)] * 2
    symbol, extra = _END + 1, 0
    while len(words) < _END + _LONGEST:  # RFC 1951, 3.2.5: eight lengths of one byte each, then four of each number of bits more
        code, width = codes[symbol]
        words += [(code | more << width, width + extra + 1) for more in range(1 << extra)]
        symbol += 1
        extra = max(0, (symbol - _END - 1) // 4 - 1)
    words = [*words[: _END + _LONGEST], (codes[285][0], codes[285][1] + 1)]
    return np.array([word for word, _ in words], dtype=np.uint32), np.array([width for _, width in words], dtype=np.uint8)


_HEAD: Final = _head()
_WORDS: Final = _words()


def block_of(length: npt.NDArray[np.int64], value: Bytes, *, before: int, after: int) -> tuple[Bytes, int]:
    """Pack runs as a block that ends on a whole byte and refers to nothing before it, so that blocks can be joined.

    Parameters
    ----------
    length, value
        (r,) of each run, from 1; neighbours differ.
    before, after
        How many bytes of 0 stand before and after the block in the stream.

    Returns
    -------
    tuple
        The block, (n,) uint8, and the Adler-32 sum (RFC 1950) of the stream.
    """
    return _packed(length, value, *_HEAD, *_WORDS, before, after)


@njit("Tuple((u1[::1], i8))(i8[::1], u1[::1], u4[::1], u1[::1], u4[::1], u1[::1], i8, i8)", cache=True, nogil=True)
def _packed(length, value, head, head_width, word, width, before, after):  # type: ignore[no-untyped-def]
    total = 0
    for r in range(length.shape[0]):
        total += length[r]
    # a head of at most 2 bytes a word; a run takes at most a byte, two more and a match; a whole match no more than a byte
    out = np.empty(2 * head.shape[0] + 8 * length.shape[0] + total // _LONGEST + 16, np.uint8)
    at, bits, held = 0, np.uint64(0), np.uint64(0)
    for k in range(head.shape[0]):
        bits |= np.uint64(head[k]) << held
        held += np.uint64(head_width[k])
        while held >= np.uint64(8):
            out[at] = np.uint8(bits & np.uint64(255))
            at, bits, held = at + 1, bits >> np.uint64(8), held - np.uint64(8)
    one, two = 1, before % _ADLER
    for r in range(length.shape[0] + 1):
        left, first = 0, _END
        if r < length.shape[0]:
            n, v = int(length[r]), int(value[r])
            some = n % _ADLER
            two = (two + some * one + v * ((n * (n + 1) // 2) % _ADLER)) % _ADLER
            one = (one + v * some) % _ADLER
            left, first = n - 1, v
        index = first
        while True:
            bits |= np.uint64(word[index]) << held
            held += np.uint64(width[index])
            while held >= np.uint64(8):
                out[at] = np.uint8(bits & np.uint64(255))
                at, bits, held = at + 1, bits >> np.uint64(8), held - np.uint64(8)
            if left == 0:
                break
            step = min(left, _LONGEST) if left > 2 else 1
            index = _END + step if step > 2 else first
            left -= step
    held += np.uint64(3)  # an empty stored block: three bits of 0, the rest of the byte, and no bytes
    while held > np.uint64(0):
        out[at] = np.uint8(bits & np.uint64(255))
        at, bits = at + 1, bits >> np.uint64(8)
        held = held - np.uint64(8) if held > np.uint64(8) else np.uint64(0)
    out[at], out[at + 1], out[at + 2], out[at + 3] = 0, 0, 255, 255
    two = (two + (after % _ADLER) * one) % _ADLER
    return out[: at + 4].copy(), two << 16 | one
