"""The label of a part: GS1 DataMatrix of its UDI, check digit proved by us, the symbol read back before it is used."""

from __future__ import annotations

import datetime as dt
import io
from typing import Final

import numpy as np

from batchone.pipeline.errors import MachineError

_GS: Final = "\x1d"  # ends a value of variable length (GS1 General Specifications, section 7.8)
_MOST: Final = 20  # characters of lot (10) and serial number (21)
_GTIN_DIGITS: Final = 14
_NOT_82: Final = "#$@[\\]^`"  # within its range of codes, but not in set 82
_MODULE_PX: Final = 8


def check_digit(digits: str) -> int:
    """GS1 modulo 10 of a number without its check digit: weights 3, 1, 3, ... from the right."""
    return -sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits))) % 10


def valid_gtin(gtin: str) -> str:
    """A GTIN of 14 digits whose check digit is right.

    Raises
    ------
    ValueError
        It is none.
    """
    if len(gtin) != _GTIN_DIGITS or not (gtin.isascii() and gtin.isdigit()):
        raise ValueError(f"GTIN {gtin} must have {_GTIN_DIGITS} digits")
    if check_digit(gtin[:-1]) != int(gtin[-1]):
        raise ValueError(f"GTIN {gtin} has check digit {gtin[-1]}, must be {check_digit(gtin[:-1])}")
    return gtin


def label_text(text: str) -> str:
    """A lot or serial number that GS1 can hold and people write in brackets.

    Raises
    ------
    ValueError
        It is none.
    """
    if not 0 < len(text) <= _MOST or not all(33 <= ord(c) <= 122 and c not in _NOT_82 for c in text):
        raise ValueError(f"{text!r} must have 1 to {_MOST} characters of GS1's set 82")
    return text


def element_string(*, gtin: str | None, produced: dt.date, lot: str, serial: str) -> str:
    """(01) GTIN where there is one, (11) production date, (10) lot, (21) serial number, in the brackets that people read.

    Raises
    ------
    ValueError
        A wrong check digit, or a lot or serial number that GS1 cannot hold.
    """
    head = f"[01]{valid_gtin(gtin)}" if gtin is not None else ""
    return f"{head}[11]{produced:%y%m%d}[10]{label_text(lot)}[21]{label_text(serial)}"


def datamatrix_png(elements: str) -> bytes:
    """The symbol as a PNG, read back with its own reader: of type GS1, and byte for byte what the elements say.

    Raises
    ------
    MachineError
        What is read is not what was written.
    """
    import zxingcpp
    from PIL import Image

    symbol = zxingcpp.create_barcode(elements, zxingcpp.BarcodeFormat.DataMatrix, gs1=True)
    pixels = np.array(zxingcpp.write_barcode_to_image(symbol, scale=_MODULE_PX, add_quiet_zones=True))
    found = zxingcpp.read_barcodes(pixels)
    if len(found) != 1 or found[0].content_type != zxingcpp.ContentType.GS1 or found[0].bytes != _raw(elements):
        read = found[0].text if found else "nothing"
        raise MachineError(f"the label reads {read!r}, must read {elements!r}", hint="this is a fault of ours: report it")
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _raw(elements: str) -> bytes:
    """What a reader gives: identifiers and values in a row, FNC1 as GS after the lot, which may end anywhere."""
    return elements.replace("[21]", f"{_GS}21").replace("[", "").replace("]", "").encode("ascii")
