"""A picture of the parts as they stand on the plate, with what carries them."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.job.annotate import annotated
from batchone.pipeline.job.pictures import Picture, fitting_camera
from batchone.pipeline.job.raster import Body, Canvas, Rgb, make_body
from batchone.pipeline.values import Build, Device, Mesh, Part, Vector
from batchone.slicer.overhang import protected

_PART: Rgb = (0.72, 0.72, 0.72)
_PROTECTED: Rgb = (0.20, 0.42, 0.80)
_SUPPORT: Rgb = (0.95, 0.55, 0.10)
_FORWARD: Vector = (-0.45, 0.80, 0.38)  # seen from the front, somewhat from the right and from below: where supports touch
_UP: Vector = (0.0, 0.0, 1.0)


def support_picture(build: Build, device: Device) -> tuple[Picture, ...]:
    """``supports.png``: parts grey, their functional faces blue, supports orange; nothing without supports."""
    if not build.supports:
        return ()
    parts = {part.name: part for part in device.parts}
    bodies = [body for placement in build.placements for body in _bodies(parts[placement.part], placement.pose)]
    bodies += [make_body(support.mesh, _SUPPORT) for support in build.supports]
    length = float(np.linalg.norm(_FORWARD))
    x, y, z = (value / length for value in _FORWARD)
    canvas = Canvas(fitting_camera(bodies, forward=(x, y, z), up=_UP))
    canvas.add(bodies)
    right, up, _ = canvas.camera.axes
    caption = "parts on the plate, seen somewhat from below: functional faces blue, supports orange"
    png = annotated(
        canvas.image(), right=right, up=up, mm_per_px=canvas.camera.mm_per_px, title=caption, colours="fine", letters=False
    )
    return (Picture("supports.png", caption, png),)


def _bodies(part: Part, pose: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[Body]:
    placed = part.mesh.moved(pose)
    kept_free = protected(part)
    pieces = ((~kept_free, _PART), (kept_free, _PROTECTED))
    return [
        make_body(Mesh(placed.vertices_mm, np.ascontiguousarray(placed.faces[chosen])), tone)
        for chosen, tone in pieces
        if chosen.any()
    ]
