"""Where a guide comes to rest when it is set down wrongly: the map of wrong poses, and where to push."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from batchone.design.guide.body import guide_pose
from batchone.design.nearest import nearest_mm
from batchone.design.seating.make import Score, score
from batchone.design.seating.uniqueness import OFF, PLANNED, START_DEG, START_MM, WRONG
from batchone.pipeline.job.annotate import Colour, annotated, font
from batchone.pipeline.job.gaps import CONTACT
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX
from batchone.pipeline.values import Anatomy, Device, FloatArray, Part, Plan

_SEAT: Colour = (38, 130, 142)
_WRONG: Colour = (204, 40, 40)
_OFF: Colour = (150, 150, 150)
_FOOT: Colour = (222, 226, 232)
_INK: Colour = (20, 20, 20)
_WHITE: Colour = (255, 255, 255)
_MARGIN_MM = 12.0  # shown about the contact: further off a guide has fallen
_NAMED = 4  # wrong seats that are named
_DOT_PX, _SEAT_PX = 3, 6


def seat_pictures(anatomy: Anatomy, device: Device, plan: Plan) -> tuple[Picture, ...]:
    """For each part that touches bone: its contact from outside, and where its middle lies after each wrong start.

    Returns
    -------
    tuple of Picture
        ``seat-<part>.png``; none for devices that have no contact faces, or no axis along which they go on.
    """
    axes = [axis for axis in plan.axes if axis.name.split("-")[0] == "insertion"]
    if not axes or not anatomy.bones:
        return ()
    found = []
    for part in device.without_models().parts:
        if CONTACT not in part.labels:
            continue
        middle = part.mesh.vertices_mm.mean(axis=0)
        axis = min(axes, key=lambda one: float(np.linalg.norm(np.array(one.origin_mm) - middle)))
        bone = min(anatomy.bones, key=lambda one: float(nearest_mm(_contact(part), one.mesh).mean()))
        found.append(_drawn(part.name, score(part, bone, guide_pose(axis, bone))))
    return tuple(found)


def _contact(part: Part) -> FloatArray:
    touching = part.mesh.faces[part.face_labels == part.labels.index(CONTACT)]
    return np.asarray(part.mesh.vertices_mm[touching[:: max(1, len(touching) // 200)]].mean(axis=1))


def _drawn(name: str, found: Score) -> Picture:
    places = found.seated.body.seats_mm[:, :2]
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
    where = found.uniqueness
    shown = np.hypot(where.ends.shift_mm[:, 0], where.ends.shift_mm[:, 1]) < _MARGIN_MM + float(half.max())
    for kind, colour in ((OFF, _OFF), (WRONG, _WRONG), (PLANNED, _SEAT)):
        for place in where.ends.shift_mm[(where.kind == kind) & shown]:
            dot(place, _DOT_PX, colour)
    words = [(f"{100.0 * where.reached:.0f} % of {where.starts} starts reach the seat", _SEAT)]
    words.append((f"{100.0 * where.wrong:.1f} % rest elsewhere and look seated", _WRONG))
    words.append((f"{100.0 * where.off:.0f} % fall off", _OFF))
    dot(found.seat.shift_mm[0], _SEAT_PX, _SEAT, _INK)
    for number, rest in enumerate(where.rests[:_NAMED], 1):
        x, y = dot(rest.shift_mm, _SEAT_PX, _WRONG, _INK)
        pen.text((x + 10, y), str(number), font=font(17, bold=True), fill=_INK, anchor="lm", stroke_width=2, stroke_fill=_WHITE)
        share = 100.0 * rest.count / where.starts
        words.append((f"{number}: {share:.1f} %, {rest.away_mm:.1f} mm and {rest.away_deg:.0f} deg away", _INK))
    x, y = WIDTH_PX / 2 + found.press.place_mm[0] / scale, HEIGHT_PX / 2 - found.press.place_mm[1] / scale
    pen.line((x - 12, y, x + 12, y), fill=_INK, width=3)
    pen.line((x, y - 12, x, y + 12), fill=_INK, width=3)
    pen.text((x + 14, y - 12), "push here", font=font(17, bold=True), fill=_INK, anchor="lb", stroke_width=2, stroke_fill=_WHITE)
    stuck = found.friction
    words.append(
        (f"with friction: {100.0 * stuck.stuck:.1f} % stick over 1 mm away, {100.0 * stuck.lost:.1f} % do not land", _INK)
    )
    for line, (text, colour) in enumerate(words):
        pen.text((16, 14 + 23 * line), text, font=font(17, bold=False), fill=colour, stroke_width=2, stroke_fill=_WHITE)
    right, up = found.seated.pose[:3, 0], found.seated.pose[:3, 1]
    title = f"{name}: where its middle comes to rest from starts within {START_MM:g} mm and {START_DEG:g} deg, from outside"
    image = np.asarray(picture, dtype=np.uint8)
    caption = f"{name}: wrong seats, and where to push"
    return Picture(f"seat-{name}.png", caption, annotated(image, right=right, up=up, mm_per_px=scale, title=title))
