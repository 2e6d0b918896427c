"""Where a guide comes to rest when it is set down wrongly: the map of wrong poses, and where to push."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from batchone.design.seating.uniqueness import START_DEG, START_MM
from batchone.pipeline.job.annotate import Colour, annotated, font
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX
from batchone.pipeline.seat_map import OFF, PLANNED, WRONG, SeatMap
from batchone.pipeline.values import FloatArray

_SEAT: Colour = (38, 130, 142)
_WRONG: Colour = (204, 40, 40)
_OFF: Colour = (150, 150, 150)
_FOOT: Colour = (222, 226, 232)
_INK: Colour = (20, 20, 20)
_WHITE: Colour = (255, 255, 255)
_MARGIN_MM = 12.0  # shown about the contact: further off a guide has fallen
_NAMED = 4  # wrong seats that are named
_DOT_PX, _SEAT_PX = 3, 6


def seat_pictures(seats: Sequence[SeatMap]) -> tuple[Picture, ...]:
    """For each part whose seat was scored: its contact from outside, and where its middle lies after each wrong start.

    Returns
    -------
    tuple of Picture
        ``seat-<part>.png``.
    """
    return tuple(map(_drawn, seats))


def _drawn(found: SeatMap) -> Picture:
    places = found.contact_mm
    half = np.abs(places).max(axis=0) + _MARGIN_MM
    scale = max(2.0 * float(half[0]) / WIDTH_PX, 2.0 * float(half[1]) / HEIGHT_PX)
    picture = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), _WHITE)
    pen = ImageDraw.Draw(picture)

    def dot(place: FloatArray, radius: float, fill: Colour, outline: Colour | None = None) -> tuple[float, float]:
        x, y = WIDTH_PX / 2 + float(place[0]) / scale, HEIGHT_PX / 2 - float(place[1]) / scale
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill, outline=outline)
        return x, y

    for place in places:
        dot(place, 1.0 / scale, _FOOT)
    starts = len(found.kinds)
    shown = np.hypot(found.ends_mm[:, 0], found.ends_mm[:, 1]) < _MARGIN_MM + float(half.max())
    for kind, colour in ((OFF, _OFF), (WRONG, _WRONG), (PLANNED, _SEAT)):
        for place in found.ends_mm[(found.kinds == kind) & shown]:
            dot(place, _DOT_PX, colour)
    words = [(f"{100.0 * found.share(PLANNED):.0f} % of {starts} starts reach the seat", _SEAT)]
    words.append((f"{100.0 * found.share(WRONG):.1f} % rest elsewhere and look seated", _WRONG))
    words.append((f"{100.0 * found.share(OFF):.0f} % fall off", _OFF))
    dot(found.seat_mm, _SEAT_PX, _SEAT, _INK)
    for number, (*place, count, away_mm, away_deg) in enumerate(found.rests[:_NAMED].tolist(), 1):
        x, y = dot(np.array(place), _SEAT_PX, _WRONG, _INK)
        pen.text((x + 10, y), str(number), font=font(17, bold=True), fill=_INK, anchor="lm", stroke_width=2, stroke_fill=_WHITE)
        share = 100.0 * count / starts
        words.append((f"{number}: {share:.1f} %, {away_mm:.1f} mm and {away_deg:.0f} deg away", _INK))
    x, y = WIDTH_PX / 2 + found.push_mm[0] / scale, HEIGHT_PX / 2 - found.push_mm[1] / scale
    pen.line((x - 12, y, x + 12, y), fill=_INK, width=3)
    pen.line((x, y - 12, x, y + 12), fill=_INK, width=3)
    pen.text((x + 14, y - 12), "push here", font=font(17, bold=True), fill=_INK, anchor="lb", stroke_width=2, stroke_fill=_WHITE)
    words.append(
        (f"with friction: {100.0 * found.stuck:.1f} % stick over 1 mm away, {100.0 * found.lost:.1f} % do not land", _INK)
    )
    for line, (text, colour) in enumerate(words):
        pen.text((16, 14 + 23 * line), text, font=font(17, bold=False), fill=colour, stroke_width=2, stroke_fill=_WHITE)
    right, up = found.pose[:3, 0], found.pose[:3, 1]
    title = f"{found.part}: where its middle comes to rest from starts within {START_MM:g} mm and {START_DEG:g} deg, from outside"
    image = np.asarray(picture, dtype=np.uint8)
    caption = f"{found.part}: wrong seats, and where to push"
    return Picture(f"seat-{found.part}.png", caption, annotated(image, right=right, up=up, mm_per_px=scale, title=title))
