"""What a guide's label says: case, bone or level with side, part i of n, depths, a mark of the revision; as much as has room."""

from __future__ import annotations

import hashlib

from batchone.design.guide.label import letters_mm, long_mm
from batchone.design.solid import CAP_HEIGHT, font_file
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process

_REVISION_SIGNS = 4  # of the digest: two versions of one case share a mark once in 65 536
_NOT_IN_REVISION = {"due", "machine", "prescription"}  # of an order: they change nothing about the device
_ROUNDING_MM = 0.1  # numerical: between the widths of FreeType and of the solid letters
_FONT_PX = 200  # numerical: size at which widths are measured


def revision(order: Order) -> str:
    """A mark that tells versions of one case apart: it changes with whatever in the order makes the device."""
    text = order.model_dump_json(exclude=_NOT_IN_REVISION)
    return "#" + hashlib.sha256(text.encode()).hexdigest()[:_REVISION_SIGNS].upper()


def wordings(order: Order, what: str, *, number: int, of: int, depths: str = "") -> tuple[tuple[str, ...], ...]:
    """What a label may say, the fullest first: what is left out comes from the end, the revision first, part i of n last.

    Parameters
    ----------
    what
        Bone or level, with its side.
    number, of
        Which guide of how many in this order.
    depths
        How deep an instrument goes in; empty where a stop says it.
    """
    part = f"{what} {number}of{of}"
    second = [what, part, *([f"{part} {depths}"] if depths else [])]
    return tuple((order.case, line) for line in (f"{second[-1]} {revision(order)}", *second[::-1]))


def fitting(choices: tuple[tuple[str, ...], ...], process: Process, *, length_mm: float) -> tuple[str, ...]:
    """The fullest wording that fits a length, or the shortest one."""
    fits = (lines for lines in choices if label_mm(lines, process) + _ROUNDING_MM <= length_mm)
    return next(fits, choices[-1])


def label_mm(lines: tuple[str, ...], process: Process) -> float:
    """Length of a label, arrow and margins included; rather too long than too short: some letters are set closer together."""
    from PIL import ImageFont

    font = ImageFont.truetype(str(font_file()), _FONT_PX, layout_engine=ImageFont.Layout.BASIC)
    boxes = [font.getmask(line).getbbox() for line in lines]
    widest = max(float(right - left) for left, _, right, _ in boxes) / (_FONT_PX * CAP_HEIGHT) * letters_mm(process)
    return long_mm(lines, widest, process)
