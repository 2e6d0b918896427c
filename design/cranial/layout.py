"""Where things go on the outer face: a flat map of it, about its middle, the top of the head upward.

Lengths on the map are arcs on a sphere of the face's own radius: a pitch on the map is the same pitch on the face, within the
difference of the skull from a sphere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.blank import Blank
from batchone.pipeline.values import FloatArray

NEAR_VERTEX = 0.35  # the top of the head is no direction on a face that looks up within about 20 degrees; project default


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A flat map of the outer face.

    Attributes
    ----------
    middle, right, up
        (3,) unit vectors in the local frame: from the vault centre to the map's origin, and the map's axes seen from outside.
    radius_mm
        Distance of the face from the vault centre at the origin.
    reach_mm
        No point of the rim is farther from the origin, on the map.
    points_up
        What ``up`` is in the patient: ``cranial``, or ``anterior`` at the vertex.
    """

    middle: FloatArray
    right: FloatArray
    up: FloatArray
    radius_mm: float
    reach_mm: float
    points_up: str

    def points_mm(self, blank: Blank, map_mm: FloatArray) -> FloatArray:
        """Points (n, 3) on the outer face of map positions (n, 2)."""
        length = np.linalg.norm(map_mm, axis=1)
        angle = length / self.radius_mm
        scale = np.sinc(angle / np.pi) / self.radius_mm
        across = scale[:, None] * (map_mm[:, :1] * self.right + map_mm[:, 1:] * self.up)
        rays = across + np.cos(angle)[:, None] * self.middle
        start = blank.local.centre_mm + self.radius_mm * rays
        return blank.on_outer_face(start, rays)


def layout(blank: Blank) -> Layout:
    """Map the outer face about the middle of the rim."""
    local = blank.local
    spokes = local.rim_mm - local.centre_mm
    middle = spokes.mean(axis=0)
    middle = middle / np.linalg.norm(middle)
    upward, name = local.cranial, "cranial"
    if float(np.linalg.norm(np.cross(upward, middle))) < NEAR_VERTEX:
        upward, name = local.anterior, "anterior"
    up = upward - middle * float(upward @ middle)
    up /= np.linalg.norm(up)
    start = local.centre_mm + middle * float(np.linalg.norm(spokes, axis=1).mean())
    origin = blank.on_outer_face(start[None, :], middle[None, :])[0]
    radius = float(np.linalg.norm(origin - local.centre_mm))
    cosine = (spokes @ middle) / np.linalg.norm(spokes, axis=1)
    reach = float(radius * np.arccos(np.clip(cosine, -1.0, 1.0)).max())
    return Layout(middle, np.cross(up, middle), up, radius, reach, name)
