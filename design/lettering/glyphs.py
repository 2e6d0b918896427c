"""The letters of the font that labels are engraved in, as small pictures to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from batchone.design.lettering.picture import PIXELS_PER_HEIGHT, BoolArray
from batchone.design.solid import CAP_HEIGHT, font_file

CHARACTERS = "".join(chr(code) for code in range(ord("!"), ord("~") + 1))  # all that a label may hold, but the blank
_HALF, _SHARE = 127, 0.5  # numerical: grey value and share of a pixel from which it is dark
FINER = 4  # numerical: letters are drawn so many times larger and averaged: a hint of the font moves no edge by a pixel


@dataclass(frozen=True, slots=True, eq=False)
class Glyph:
    """A character: (rows, columns) where it is dark, cropped, the lowest row first; and its lowest row above the baseline."""

    character: str
    dark: BoolArray
    bottom: int


@lru_cache(maxsize=FINER)
def glyphs(phase: int) -> tuple[Glyph, ...]:
    """All characters, ``phase`` quarters of a pixel higher, drawn by FreeType from the outlines that the engraving is made of."""
    return tuple(_coarse(character, fine, bottom + phase) for character, fine, bottom in _fine())


@lru_cache(maxsize=1)
def _fine() -> tuple[tuple[str, BoolArray, int], ...]:
    """Each character with its large picture, the lowest row first, and that row's place above the baseline."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file()), FINER * PIXELS_PER_HEIGHT / CAP_HEIGHT, layout_engine=ImageFont.Layout.BASIC)
    drawn = []
    for character in CHARACTERS:
        left, top, right, bottom = (int(place) for place in font.getbbox(character, anchor="ls"))
        canvas = Image.new("L", (right - left, bottom - top))
        ImageDraw.Draw(canvas).text((-left, -top), character, fill=255, font=font, anchor="ls")
        drawn.append((character, np.asarray(canvas)[::-1] > _HALF, -bottom))
    return tuple(drawn)


def _coarse(character: str, fine: BoolArray, bottom: int) -> Glyph:
    below = bottom % FINER
    tall, wide = -(-(fine.shape[0] + below) // FINER), -(-fine.shape[1] // FINER)
    room = np.zeros((tall * FINER, wide * FINER), dtype=np.uint8)
    room[below : below + fine.shape[0], : fine.shape[1]] = fine
    grey = sum(room[i::FINER, j::FINER] for i in range(FINER) for j in range(FINER))
    dark = np.asarray(grey >= _SHARE * FINER**2)
    rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
    cropped = dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Glyph(character, np.ascontiguousarray(cropped), (bottom - below) // FINER + int(rows[0]))
