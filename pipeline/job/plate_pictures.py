"""Pictures of the whole plate, from above and from a corner, with every body in its colour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import font, png_bytes
from batchone.pipeline.job.pictures import DEVICE_COLOURS, Picture
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX, Body, Camera, Rgb, draw, make_body
from batchone.pipeline.machine import Machine
from batchone.pipeline.values import Build, Device, IntArray, Mesh, Vector

_PLATE_MM = 2.0  # the plate is drawn as thick as that
_PLATE_COLOUR: Rgb = (0.80, 0.81, 0.83)
_SUPPORT: Rgb = (0.95, 0.55, 0.10)  # as in supports.png
_FILLED = 0.9  # of the picture
_LINE_PX = 26
_INK = (20, 20, 20)
_VIEWS: tuple[tuple[str, Vector, Vector, str], ...] = (
    ("plate-above", (0.0, 0.0, -1.0), (0.0, 1.0, 0.0), "from above, x to the right, y up"),
    ("plate-oblique", (-0.45, 0.65, -0.61), (0.0, 0.0, 1.0), "from a corner"),
)


def job_on_plate(build: Build, device: Device, machine: Machine) -> tuple[Picture, ...]:
    """``plate-above.png`` and ``plate-oblique.png`` of a job: parts in colours of their own, named, supports orange."""
    meshes = {part.name: part.mesh for part in device.parts}
    tones = [DEVICE_COLOURS[k % len(DEVICE_COLOURS)] for k in range(len(build.placements))]
    bodies = [
        (meshes[placement.part].moved(placement.pose), tone) for placement, tone in zip(build.placements, tones, strict=True)
    ]
    bodies += [(support.mesh, _SUPPORT) for support in build.supports]
    legend = [(placement.part, tone) for placement, tone in zip(build.placements, tones, strict=True)]
    legend += [("supports", _SUPPORT)] if build.supports else []
    return plate_pictures([mesh for mesh, _ in bodies], [tone for _, tone in bodies], machine, legend=legend)


def plate_pictures(
    meshes: Sequence[Mesh], colours: Sequence[Rgb], machine: Machine, *, legend: Sequence[tuple[str, Rgb]] = ()
) -> tuple[Picture, ...]:
    """``plate-above.png`` and ``plate-oblique.png`` of placed bodies (plate frame, mm); ``legend`` says what a colour is."""
    bodies = [make_body(mesh, colour) for mesh, colour in zip(meshes, colours, strict=True)]
    top_mm = max(float(mesh.vertices_mm[:, 2].max()) for mesh in meshes)
    bodies.append(make_body(_slab(machine), _PLATE_COLOUR))
    width_mm, depth_mm, _ = machine.envelope_mm
    plate = f"plate of {machine.name}, {width_mm:g} x {depth_mm:g} mm, built {top_mm:.1f} mm high"
    return tuple(
        Picture(f"{name}.png", f"{plate}, {text}", _view(bodies, machine, top_mm, forward, up, f"{plate}, {text}", legend))
        for name, forward, up, text in _VIEWS
    )


def _view(
    bodies: Sequence[Body],
    machine: Machine,
    top_mm: float,
    forward: Vector,
    up: Vector,
    text: str,
    legend: Sequence[tuple[str, Rgb]],
) -> bytes:
    width_mm, depth_mm, _ = machine.envelope_mm
    corners = np.array([(x, y, z) for x in (0.0, width_mm) for y in (0.0, depth_mm) for z in (-_PLATE_MM, top_mm)])
    middle = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
    axes = Camera((0.0, 0.0, 0.0), forward, up, 1.0).axes
    across, along = (float(np.ptp(corners @ axis)) for axis in axes[:2])
    mm_per_px = max(across / WIDTH_PX, along / HEIGHT_PX) / _FILLED
    x, y, z = middle.tolist()
    picture = Image.fromarray(draw(bodies, Camera((x, y, z), forward, up, mm_per_px), hollows=False))  # the plate is none
    pen, words = ImageDraw.Draw(picture), font(17, bold=False)
    pen.text((14, HEIGHT_PX - 14), text, font=words, fill=_INK, anchor="lb")
    for row, (name, colour) in enumerate(legend):
        top = 14 + _LINE_PX * row
        red, green, blue = (round(255.0 * value) for value in colour)
        pen.rectangle((14, top, 34, top + 18), fill=(red, green, blue), outline=_INK)
        pen.text((42, top + 9), name, font=words, fill=_INK, anchor="lm")
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
