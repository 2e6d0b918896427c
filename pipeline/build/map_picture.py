"""The plate map: what lies where, seen from above, with number, case, part and engraved text of each."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import shapely
from PIL import Image, ImageDraw

from batchone.pipeline.build.manifest import DEMONSTRATION, BuildManifest, Instance
from batchone.pipeline.job.annotate import Colour, font, png_bytes
from batchone.pipeline.machine import Machine
from batchone.pipeline.values import FloatArray

_PLATE_PX = 1200
_EDGE_PX = 50
_LEGEND_PX = 900
_LINE_PX = 30
_TIMES = 2  # drawn so many times larger and reduced
_GOLDEN = 0.618033988749895  # turns of hue from one to the next: neighbours in number differ most
_PAPER, _INK, _RULE, _RED = (255, 255, 255), (20, 24, 28), (150, 156, 162), (200, 16, 16)


def colour_of(index: int) -> tuple[float, float, float]:
    """The colour of the n-th body, 0 to 1; lighter and darker in turn, so that hues that meet again differ."""
    return colorsys.hsv_to_rgb((0.58 + index * _GOLDEN) % 1.0, 0.45 + 0.2 * (index % 2), 0.92 - 0.14 * (index % 3))


def map_png(manifest: BuildManifest, shadows: Sequence[shapely.Geometry], machine: Machine) -> bytes:
    """Draw the map.

    Parameters
    ----------
    manifest
        Everything that is said comes from it.
    shadows
        What each instance covers of the plate, in the order of the instances, mm.
    machine
        The outline of the plate.
    """
    width_mm, depth_mm, _ = machine.envelope_mm
    scale = _TIMES * _PLATE_PX / max(width_mm, depth_mm)
    edge, line_px = _TIMES * _EDGE_PX, _TIMES * _LINE_PX
    rows = len(manifest.instances) + 4 + len(manifest.left_out)
    width = int(width_mm * scale) + 3 * edge + _TIMES * _LEGEND_PX
    height = max(int(depth_mm * scale), rows * line_px) + 2 * edge
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(picture)

    def at(points_mm: FloatArray) -> list[tuple[float, float]]:
        x, y = edge + points_mm[:, 0] * scale, edge + (depth_mm - points_mm[:, 1]) * scale
        return list(zip(x.tolist(), y.tolist(), strict=True))

    margin = machine.plate_margin_mm
    for inset, ink in ((0.0, _INK), (margin, _RULE)):
        low, high = np.array([inset, inset]), np.array([width_mm - inset, depth_mm - inset])
        pen.line(at(np.array([low, (high[0], low[1]), high, (low[0], high[1]), low])), fill=ink, width=2 * _TIMES)
    low_first = sorted(range(len(shadows)), key=lambda k: (manifest.instances[k].box_low_mm[2], k))
    for k in low_first:  # what lies higher is drawn over what lies below
        _draw_shadow(pen, at, shadows[k], _rgb(colour_of(k)))
    for rank, k in enumerate(low_first):
        seen = shapely.difference(shadows[k], shapely.union_all([shadows[higher] for higher in low_first[rank + 1 :]]))
        (place,) = at(shapely.get_coordinates(shapely.point_on_surface(shadows[k] if seen.is_empty else _largest(seen))))
        number = str(manifest.instances[k].number)
        pen.text(place, number, font=font(_TIMES * 24, bold=True), fill=_INK, anchor="mm", stroke_width=6, stroke_fill=_PAPER)
    _draw_legend(pen, manifest, (int(width_mm * scale) + 2 * edge, edge), line_px)
    pen.text(
        (edge, height - edge / 2),
        f"x to the right, y up; plate {width_mm:g} x {depth_mm:g} mm, margin {margin:g} mm",
        font=font(_TIMES * 18, bold=False),
        fill=_INK,
        anchor="lm",
    )
    return png_bytes(picture.resize((width // _TIMES, height // _TIMES), Image.Resampling.LANCZOS))


def _largest(shape: shapely.Geometry) -> shapely.Geometry:
    pieces = shapely.get_parts(shape)
    return pieces[int(np.argmax(shapely.area(pieces)))]


def _draw_shadow(pen: ImageDraw.ImageDraw, at: object, shadow: shapely.Geometry, colour: Colour) -> None:
    for piece in shapely.get_parts(shadow):
        outer, *holes = [shapely.get_coordinates(ring) for ring in (piece.exterior, *piece.interiors)]
        pen.polygon(at(outer), fill=colour)  # type: ignore[operator]
        for hole in holes:
            pen.polygon(at(hole), fill=_PAPER)  # type: ignore[operator]
        for ring in (outer, *holes):
            pen.line(at(ring), fill=_INK, width=2 * _TIMES)  # type: ignore[operator]


def _draw_legend(pen: ImageDraw.ImageDraw, manifest: BuildManifest, corner: tuple[int, int], line_px: int) -> None:
    x, y = corner
    plate = manifest.plate
    head = f"build {manifest.build}"
    pen.text((x, y), head, font=font(_TIMES * 24, bold=True), fill=_INK, anchor="lm")
    what = f"{manifest.machine}, {manifest.process}, {plate.layers} layers, {plate.height_mm:.1f} mm high"
    pen.text((x, y + line_px), what, font=font(_TIMES * 18, bold=False), fill=_INK, anchor="lm")
    if manifest.demonstration:
        pen.text((x, y + 2 * line_px), DEMONSTRATION, font=font(_TIMES * 24, bold=True), fill=_RED, anchor="lm")
    y += 3 * line_px
    for k, one in enumerate(manifest.instances):
        box = (x, y - 0.38 * line_px, x + 0.9 * line_px, y + 0.38 * line_px)
        pen.rectangle(box, fill=_rgb(colour_of(k)), outline=_INK, width=_TIMES)
        pen.text((x + 1.3 * line_px, y), _words(one), font=font(_TIMES * 18, bold=False), fill=_INK, anchor="lm")
        y += line_px
    for left in manifest.left_out:
        words = f"no room: {left.case}, job {left.job}"
        pen.text((x + 1.3 * line_px, y), words, font=font(_TIMES * 18, bold=False), fill=_INK, anchor="lm")
        y += line_px


def _words(one: Instance) -> str:
    name = f"{'supports of ' if one.kind == 'supports' else ''}{one.part}"
    text = f'  "{one.engraved}"' if one.engraved else ""
    return f"{one.number}  {one.case}  {name}{text}  z {abs(one.box_low_mm[2]):.0f} to {one.box_high_mm[2]:.0f} mm"


def _rgb(colour: tuple[float, float, float]) -> Colour:
    red, green, blue = (round(255.0 * value) for value in colour)
    return (red, green, blue)
