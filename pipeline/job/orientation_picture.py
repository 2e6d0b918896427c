"""Which way up a part is built, as a picture: the directions coloured by cost, and height against what it costs in supports."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import Colour, font, png_bytes
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.values import Build, FloatArray, Orientation

_WIDTH_PX, _HEIGHT_PX = 1500, 620
_RADIUS_PX = 215
_DOT_PX = 9
_PAPER, _INK, _GREY, _CHOSEN, _NEXT = (255, 255, 255), (20, 20, 20), (150, 150, 150), (200, 30, 30), (20, 20, 20)
_CHEAP, _DEAR = np.array([253.0, 200.0, 60.0]), np.array([60.0, 20.0, 100.0])
_FOOT = {True: "a person chose it", False: "the lowest cost that keeps functional faces free"}


def orientation_pictures(build: Build) -> tuple[Picture, ...]:
    """One picture for each part whose directions were scored: ``orientation-<part>.png``."""
    return tuple(
        Picture(f"orientation-{one.part}.png", f"{one.part}: which way is up", orientation_png(one.part, one.orientation))
        for one in build.placements
        if one.orientation is not None
    )


def orientation_png(part: str, orientation: Orientation) -> bytes:
    """The same values give the same bytes."""
    picture = Image.new("RGB", (_WIDTH_PX, _HEIGHT_PX), _PAPER)
    pen = ImageDraw.Draw(picture)
    rank = np.empty(len(orientation.costs))
    rank[np.argsort(orientation.costs, kind="stable")] = np.linspace(0.0, 1.0, len(rank))
    colours = [(int(r), int(g), int(b)) for r, g, b in (_CHEAP + rank[:, None] * (_DEAR - _CHEAP)).tolist()]
    pen.text((20, 16), f"{part}: {len(rank)} directions for up, by cost (light: low)", font=font(22, bold=True), fill=_INK)
    for column, side in enumerate((1.0, -1.0)):
        _half(pen, orientation, colours, middle=(255 + 510 * column, 325), side=side)
    _trade_off(pen, orientation, colours)
    chosen = orientation.directions[orientation.chosen]
    said = ", ".join(f"{value:+.3f}" for value in chosen)
    foot = f"ring: chosen, up = ({said}) in patient LPS, {_FOOT[orientation.fixed]}; circles: next best"
    pen.text((20, _HEIGHT_PX - 34), foot, font=font(17, bold=False), fill=_INK)
    return png_bytes(picture.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def _half(pen: ImageDraw.ImageDraw, of: Orientation, colours: list[Colour], *, middle: tuple[int, int], side: float) -> None:
    """Half of the sphere of directions, towards the head or the feet, as in an axial image, flattened with equal areas."""
    x, y, z = of.directions.T
    facing = side * z >= 0.0
    spread = np.sqrt(1.0 / (1.0 + np.abs(z)))  # Lambert's projection, its rim is the horizon
    at = np.stack([middle[0] + _RADIUS_PX * x * spread, middle[1] + _RADIUS_PX * y * spread], axis=1)
    pen.ellipse(_box(np.array(middle, dtype=np.float64), _RADIUS_PX + _DOT_PX), outline=_GREY)
    for index in np.flatnonzero(facing).tolist():
        pen.ellipse(_box(at[index], _DOT_PX), fill=colours[index])
    _mark(pen, of, at, facing)
    small = font(17, bold=False)
    pen.text((middle[0], 54), "up is towards the " + ("head" if side > 0 else "feet"), font=small, fill=_INK, anchor="mt")
    edge = _RADIUS_PX + 16
    for text, place, anchor in (
        ("R", (-edge, 0), "rm"), ("L", (edge, 0), "lm"), ("A", (0, -edge), "mb"), ("P", (0, edge), "mt"),
    ):  # fmt: skip
        pen.text((middle[0] + place[0], middle[1] + place[1]), text, font=font(20, bold=True), fill=_INK, anchor=anchor)


def _trade_off(pen: ImageDraw.ImageDraw, of: Orientation, colours: list[Colour]) -> None:
    """Height to the right, supports (flat faces where there are none) upwards."""
    height = of.measures[:, of.names.index("height_mm")]
    support = of.measures[:, of.names.index("support_mm3")]
    what, unit, scale = "volume of supports", "cm3", 1e-3
    if not support.any():
        support, what, unit, scale = of.measures[:, of.names.index("flat_mm2")], "area flat in the layers", "cm2", 1e-2
    left, right, top, bottom = 1070, 1470, 105, 535
    pen.line([(left, top), (left, bottom), (right, bottom)], fill=_INK, width=2)
    low, high = float(height.min()), float(height.max())
    most = float(support.max()) or 1.0
    along = (height - low) / (high - low if high > low else 1.0)
    at = np.stack([left + 12 + along * (right - left - 24), bottom - 12 - support / most * (bottom - top - 24)], axis=1)
    for index in range(len(at)):
        pen.ellipse(_box(at[index], 4), fill=colours[index])
    _mark(pen, of, at, np.ones(len(at), dtype=np.bool_))
    small = font(17, bold=False)
    pen.text((left, bottom + 8), f"{low:.0f}", font=small, fill=_INK, anchor="lt")
    pen.text((right, bottom + 8), f"{high:.0f} mm", font=small, fill=_INK, anchor="rt")
    pen.text(((left + right) / 2, bottom + 8), "height", font=small, fill=_INK, anchor="mt")
    pen.text((left, top - 12), f"{what}, 0 to {most * scale:.1f} {unit}", font=small, fill=_INK, anchor="lb")


def _mark(pen: ImageDraw.ImageDraw, of: Orientation, at: FloatArray, seen: np.ndarray) -> None:
    for index in of.next_best:
        if seen[index]:
            pen.ellipse(_box(at[index], _DOT_PX + 1), outline=_NEXT, width=2)
    if seen[of.chosen]:
        pen.ellipse(_box(at[of.chosen], _DOT_PX + 5), outline=_CHOSEN, width=5)


def _box(middle: FloatArray, radius: float) -> tuple[float, float, float, float]:
    return (float(middle[0] - radius), float(middle[1] - radius), float(middle[0] + radius), float(middle[1] + radius))
