"""Puts patient-orientation letters, a scale bar and a title on a picture, and encodes it as PNG."""

from __future__ import annotations

import io
import textwrap
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray

Colour = tuple[int, int, int]
Colours = Literal["all", "fine", "quick"]

_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))  # towards plus and minus of x, y, z in LPS
_SHARE = 0.35  # a direction is named in a letter pair when it makes up at least this much of the unit vector
_BAR_STEPS_MM = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0)
_BAR_SHARE = 0.28  # of the picture's width: the bar is the longest step within it
_MARGIN_PX = 14
_TITLE_CHARACTERS = 38  # to a line: keeps clear of the letter in the middle
_TITLE_LINE_PX = 21
_PNG_LEVEL = 4  # zlib effort: twice as quick as 6 for a tenth more bytes
_COLOURS = 256  # of a drawn picture: a third of the bytes of full colour
_REDUCTIONS = {
    "fine": Image.Quantize.MEDIANCUT,  # smooth shades
    "quick": Image.Quantize.FASTOCTREE,  # a tenth of the time, slight steps in the shades
}


def direction_letters(direction: FloatArray) -> str:
    """Name a direction in LPS: ``L`` or, for an oblique one, ``LA``, the larger part first."""
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    return "".join(_LETTERS[axis][0 if unit[axis] > 0 else 1] for axis in order if abs(unit[axis]) >= _SHARE)


def annotated(
    image: npt.NDArray[np.uint8],
    *,
    right: FloatArray,
    up: FloatArray,
    mm_per_px: float,
    title: str,
    ink: Colour = (20, 20, 20),
    colours: Colours = "all",
    letters: bool = True,
) -> bytes:
    """Annotate a (rows, columns, 3) picture whose screen axes are ``right`` and ``up`` in LPS; return PNG bytes.

    ``letters=False`` leaves the letters of the patient's directions out: what is shown stands in another frame.
    """
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    width, height = picture.size
    large, small = font(26, bold=True), font(17, bold=False)
    places = (
        (-right, (_MARGIN_PX, height / 2), "lm"),
        (right, (width - _MARGIN_PX, height / 2), "rm"),
        (up, (width / 2, _MARGIN_PX), "mt"),
        (-up, (width / 2, height - _MARGIN_PX), "mb"),
    )
    for direction, place, anchor in places if letters else ():
        pen.text(
            place, direction_letters(direction), font=large, fill=ink, anchor=anchor, stroke_width=2, stroke_fill=_behind(ink)
        )
    lines = textwrap.wrap(title, _TITLE_CHARACTERS)
    for back, line in enumerate(reversed(lines)):
        pen.text(
            (_MARGIN_PX, height - _MARGIN_PX - back * _TITLE_LINE_PX),
            line,
            font=small,
            fill=ink,
            anchor="lb",
            stroke_width=2,
            stroke_fill=_behind(ink),
        )
    _draw_bar(pen, (width, height), mm_per_px, ink=ink)
    if colours != "all":
        picture = picture.quantize(_COLOURS, method=_REDUCTIONS[colours], dither=Image.Dither.NONE)
    return png_bytes(picture)


def png_bytes(picture: Image.Image) -> bytes:
    """Encode without time or software marks: the same picture gives the same bytes."""
    out = io.BytesIO()
    picture.save(out, format="PNG", compress_level=_PNG_LEVEL)
    return out.getvalue()


def _draw_bar(pen: ImageDraw.ImageDraw, size_px: tuple[int, int], mm_per_px: float, *, ink: Colour) -> None:
    width, height = size_px
    fitting = [step for step in _BAR_STEPS_MM if step / mm_per_px <= _BAR_SHARE * width]
    bar_mm = fitting[0] if fitting else _BAR_STEPS_MM[-1]
    right, bottom = width - _MARGIN_PX, height - _MARGIN_PX
    left = right - bar_mm / mm_per_px
    behind = _behind(ink)
    pen.rectangle((left - 3, bottom - 10, right + 3, bottom + 3), fill=behind)
    pen.line((left, bottom, right, bottom), fill=ink, width=3)
    for x in (left, right):
        pen.line((x, bottom - 7, x, bottom), fill=ink, width=2)
    middle = (left + right) / 2
    pen.text(
        (middle, bottom - 12),
        f"{bar_mm:g} mm",
        font=font(17, bold=False),
        fill=ink,
        anchor="mb",
        stroke_width=2,
        stroke_fill=behind,
    )


def _behind(ink: Colour) -> Colour:
    """Black behind light ink, white behind dark ink: readable on any picture."""
    return (0, 0, 0) if sum(ink) > 3 * 127 else (255, 255, 255)


@cache
def font(size_px: int, *, bold: bool) -> ImageFont.FreeTypeFont:
    """The font of all pictures."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    package = find_spec("matplotlib")  # found, not imported: only its font files are wanted
    if package is None or package.origin is None:
        raise MachineError("matplotlib, which holds the fonts, is not installed", hint="pip install 'batchone[site]'")
    path = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / name
    return ImageFont.truetype(str(path), size_px, layout_engine=ImageFont.Layout.BASIC)
