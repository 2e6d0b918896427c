"""How sure the bone surface is, as coloured pictures with their scale: for reviewer and hospital."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import annotated, font
from batchone.pipeline.job.pictures import SIDES, Picture, fitting_camera, middle_of, place_of
from batchone.pipeline.job.raster import Body, Canvas, Rgb, make_body
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray

STEPS_MM = (0.03, 0.06, 0.1, 0.2, 0.3, 0.5)  # upper ends of the colours: the same in every report, so that pictures compare.
#                                             A fitted cortex has 0.02 to 0.05, a half level 0.1, a fit is lost beyond 0.3
COLOURS: tuple[Rgb, ...] = (  # dark to light along viridis, then warning colours: told apart without red and green too
    (0.27, 0.00, 0.33),
    (0.23, 0.32, 0.55),
    (0.13, 0.57, 0.55),
    (0.37, 0.79, 0.38),
    (0.99, 0.91, 0.15),
    (0.96, 0.56, 0.11),
    (0.80, 0.11, 0.11),
)
UNKNOWN: Rgb = (0.75, 0.75, 0.75)
VIEWS = 2  # pictures: of the sides that look at the device most
_BRIGHT = 1.25  # the shading darkens what faces the viewer to 0.8: the colours come out as in the scale
_SWATCH_PX, _LEFT_PX, _TOP_PX = 20, 14, 14
_INK, _RIM = (20, 20, 20), (90, 90, 90)


def sureness_pictures(anatomy: Anatomy, device: Device) -> tuple[Picture, ...]:
    """The bones, coloured by one standard deviation of their surface, from the sides that look at the device.

    Returns
    -------
    tuple of Picture
        ``sureness-<side>.png``; none when there is no bone.
    """
    if not anatomy.bones:
        return ()
    bodies = tuple(body for bone in anatomy.bones for body in _banded(bone))
    return tuple(_drawn(bodies, side) for side in _sides_towards(_direction(anatomy, device)))


def _direction(anatomy: Anatomy, device: Device) -> FloatArray:
    bones = middle_of(tuple(bone.mesh for bone in anatomy.bones))
    return middle_of(tuple(part.mesh for part in device.parts)) - bones if device.parts else np.zeros(3)


def _sides_towards(direction: FloatArray) -> tuple[str, ...]:
    """Names of the sides that see what lies in this direction; the first of ``SIDES`` where none sees it more."""
    seen = [-float(np.dot(np.array(forward), direction)) for _, forward, _ in SIDES]
    order = sorted(range(len(SIDES)), key=lambda n: (-round(seen[n], 3), n))
    return tuple(SIDES[n][0] for n in order[:VIEWS])


def _banded(bone: Bone) -> list[Body]:
    """One body for each colour that the bone shows, of the triangles whose corners are that sure on average."""
    known = len(bone.uncertainty_mm) == len(bone.mesh.vertices_mm)
    sigma_mm = bone.uncertainty_mm[bone.mesh.faces].mean(axis=1) if known else np.full(len(bone.mesh.faces), np.nan)
    band = np.where(np.isnan(sigma_mm), len(COLOURS), np.searchsorted(np.array(STEPS_MM), sigma_mm))
    whole = make_body(bone.mesh, UNKNOWN)
    return [
        Body(whole.points_mm, np.ascontiguousarray(whole.faces[band == n]), _shown(colour), whole.normals)
        for n, colour in enumerate((*COLOURS, UNKNOWN))
        if np.any(band == n)
    ]


def _shown(colour: Rgb) -> Rgb:
    return (colour[0] * _BRIGHT, colour[1] * _BRIGHT, colour[2] * _BRIGHT)


def _drawn(bodies: tuple[Body, ...], side: str) -> Picture:
    forward, up = next((forward, up) for name, forward, up in SIDES if name == side)
    canvas = Canvas(fitting_camera(bodies, forward=forward, up=up))
    canvas.add(bodies)
    picture = Image.fromarray(canvas.image())
    _draw_scale(ImageDraw.Draw(picture))
    right, upward, _ = canvas.camera.axes
    caption = f"one standard deviation of the bone surface, seen from the {place_of(side)}"
    image = np.asarray(picture, dtype=np.uint8)
    png = annotated(image, right=right, up=upward, mm_per_px=canvas.camera.mm_per_px, title=f"seen from the {place_of(side)}")
    return Picture(f"sureness-{side}.png", caption, png)


def _draw_scale(pen: ImageDraw.ImageDraw) -> None:
    """The colours with their ends in mm, at the top left."""
    small = font(15, bold=False)
    words = [f"to {STEPS_MM[0]:g} mm", *(f"{a:g} to {b:g}" for a, b in pairwise(STEPS_MM))]
    for n, (colour, word) in enumerate(zip(COLOURS, (*words, f"over {STEPS_MM[-1]:g}"), strict=True)):
        top = _TOP_PX + n * _SWATCH_PX
        fill = (round(255 * colour[0]), round(255 * colour[1]), round(255 * colour[2]))
        pen.rectangle((_LEFT_PX, top, _LEFT_PX + 26, top + _SWATCH_PX - 3), fill=fill, outline=_RIM)
        pen.text((_LEFT_PX + 34, top + _SWATCH_PX / 2 - 1), word, font=small, fill=_INK, anchor="lm", stroke_width=2,
                 stroke_fill=(255, 255, 255))  # fmt: skip
