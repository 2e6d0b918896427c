"""Surfaces coloured by a value in mm, in steps, with their scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import annotated, font
from batchone.pipeline.job.pictures import Picture, fitting_camera
from batchone.pipeline.job.raster import Body, Canvas, Rgb, make_body
from batchone.pipeline.values import Mesh, Vector

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
STEPS = len(COLOURS) - 1  # upper ends of all colours but the last
_BRIGHT = 1.25  # the shading darkens what faces the viewer to 0.8: the colours come out as in the scale
_SWATCH_PX, _LEFT_PX, _TOP_PX = 20, 14, 14
_INK, _RIM = (20, 20, 20), (90, 90, 90)


def banded(mesh: Mesh, values_mm: npt.NDArray[np.float64], steps_mm: Sequence[float]) -> list[Body]:
    """One body for each colour that a surface shows; ``values_mm`` (m,) one for each triangle, not a number where unknown."""
    band = np.where(np.isnan(values_mm), len(COLOURS), np.searchsorted(np.array(steps_mm), values_mm))
    whole = make_body(mesh, UNKNOWN)
    return [
        Body(whole.points_mm, np.ascontiguousarray(whole.faces[band == n]), _shown(colour), whole.normals)
        for n, colour in enumerate((*COLOURS, UNKNOWN))
        if np.any(band == n)
    ]


def drawn(
    name: str, caption: str, bodies: Sequence[Body], steps_mm: Sequence[float], *, forward: Vector, up: Vector, title: str
) -> Picture:
    """The coloured bodies seen along ``forward``, with the scale at the top left."""
    canvas = Canvas(fitting_camera(bodies, forward=forward, up=up))
    canvas.add(tuple(bodies))
    picture = Image.fromarray(canvas.image())
    _draw_scale(ImageDraw.Draw(picture), steps_mm)
    right, upward, _ = canvas.camera.axes
    image = np.asarray(picture, dtype=np.uint8)
    return Picture(name, caption, annotated(image, right=right, up=upward, mm_per_px=canvas.camera.mm_per_px, title=title))


def _shown(colour: Rgb) -> Rgb:
    return (colour[0] * _BRIGHT, colour[1] * _BRIGHT, colour[2] * _BRIGHT)


def _draw_scale(pen: ImageDraw.ImageDraw, steps_mm: Sequence[float]) -> None:
    """The colours with their ends in mm."""
    small = font(15, bold=False)
    words = [f"to {steps_mm[0]:g} mm", *(f"{a:g} to {b:g}" for a, b in pairwise(steps_mm))]
    for n, (colour, word) in enumerate(zip(COLOURS, (*words, f"over {steps_mm[-1]:g}"), strict=True)):
        top = _TOP_PX + n * _SWATCH_PX
        fill = (round(255 * colour[0]), round(255 * colour[1]), round(255 * colour[2]))
        pen.rectangle((_LEFT_PX, top, _LEFT_PX + 26, top + _SWATCH_PX - 3), fill=fill, outline=_RIM)
        pen.text((_LEFT_PX + 34, top + _SWATCH_PX / 2 - 1), word, font=small, fill=_INK, anchor="lm", stroke_width=2,
                 stroke_fill=(255, 255, 255))  # fmt: skip
