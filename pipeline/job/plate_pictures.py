"""Pictures of the whole plate: from above and from a corner, in the colours of the map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import font, png_bytes
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX, Body, Camera, draw, make_body
from batchone.pipeline.machine import Machine
from batchone.pipeline.values import IntArray, Mesh, Vector

_PLATE_MM = 2.0  # the plate is drawn as thick as that
_PLATE_COLOUR = (0.80, 0.81, 0.83)
_FILLED = 0.9  # of the picture
_VIEWS: tuple[tuple[str, Vector, Vector, str], ...] = (
    ("plate-above", (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), "the plate from above, y up"),
    ("plate-oblique", (-0.45, 0.65, -0.61), (0.0, 0.0, 1.0), "the plate from a corner"),
)


def plate_pictures(meshes: Sequence[Mesh], colours: Sequence[tuple[float, float, float]], machine: Machine) -> dict[str, bytes]:
    """PNG files by name, of placed bodies (plate frame, mm)."""
    bodies = [make_body(mesh, colour) for mesh, colour in zip(meshes, colours, strict=True)]
    top_mm = max(float(mesh.vertices_mm[:, 2].max()) for mesh in meshes)
    bodies.append(make_body(_slab(machine), _PLATE_COLOUR))
    return {f"pictures/{name}.png": _view(bodies, machine, top_mm, forward, up, text) for name, forward, up, text in _VIEWS}


def _view(bodies: Sequence[Body], machine: Machine, top_mm: float, forward: Vector, up: Vector, text: str) -> bytes:
    width_mm, depth_mm, _ = machine.envelope_mm
    corners = np.array([(x, y, z) for x in (0.0, width_mm) for y in (0.0, depth_mm) for z in (-_PLATE_MM, top_mm)])
    middle = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
    axes = Camera((0.0, 0.0, 0.0), forward, up, 1.0).axes
    across, along = (float(np.ptp(corners @ axis)) for axis in axes[:2])
    mm_per_px = max(across / WIDTH_PX, along / HEIGHT_PX) / _FILLED
    x, y, z = middle.tolist()
    picture = Image.fromarray(draw(bodies, Camera((x, y, z), forward, up, mm_per_px)))
    ImageDraw.Draw(picture).text((14, HEIGHT_PX - 14), text, font=font(17, bold=False), fill=(20, 20, 20), anchor="lb")
    return png_bytes(picture)


def _slab(machine: Machine) -> Mesh:
    width, depth, _ = machine.envelope_mm
    vertices = np.array([(x, y, z) for z in (-_PLATE_MM, -0.05) for y in (0.0, depth) for x in (0.0, width)])
    faces: IntArray = np.array(
        [
            (0, 2, 1),
            (1, 2, 3),
            (4, 5, 6),
            (5, 7, 6),
            (0, 1, 4),
            (1, 5, 4),
            (2, 6, 3),
            (3, 6, 7),
            (0, 4, 2),
            (2, 4, 6),
            (1, 3, 5),
            (3, 7, 5),
        ],
        dtype=np.int32,
    )
    return Mesh(vertices, faces)
