"""How sure the bone surface is, as coloured pictures with their scale: for reviewer and hospital."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.job.bands import banded, drawn
from batchone.pipeline.job.pictures import SIDES, Picture, middle_of, place_of
from batchone.pipeline.job.raster import Body
from batchone.pipeline.values import Anatomy, Bone, Device, FloatArray

STEPS_MM = (0.03, 0.06, 0.1, 0.2, 0.3, 0.5)  # upper ends of the colours: the same in every report, so that pictures compare.
#                                             A fitted cortex has 0.02 to 0.05, a half level 0.1, a fit is lost beyond 0.3
VIEWS = 2  # pictures: of the sides that look at the device most


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
    """Coloured by how sure the corners of each triangle are on average."""
    known = len(bone.uncertainty_mm) == len(bone.mesh.vertices_mm)
    sigma_mm = bone.uncertainty_mm[bone.mesh.faces].mean(axis=1) if known else np.full(len(bone.mesh.faces), np.nan)
    return banded(bone.mesh, sigma_mm, STEPS_MM)


def _drawn(bodies: tuple[Body, ...], side: str) -> Picture:
    forward, up = next((forward, up) for name, forward, up in SIDES if name == side)
    caption = f"one standard deviation of the bone surface, seen from the {place_of(side)}"
    title = f"seen from the {place_of(side)}"
    return drawn(f"sureness-{side}.png", caption, bodies, STEPS_MM, forward=forward, up=up, title=title)
