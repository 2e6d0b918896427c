"""How flush the outer face lies with the skull: the step between the two, carried on to the middle of the rim's gap."""

from __future__ import annotations

import numpy as np

from batchone.design.cranial.rays import Scene
from batchone.design.cranial.rim_gap import near_bone
from batchone.pipeline.values import FloatArray, Mesh

_STATIONS = 240  # numerical: places along the rim
_NEAR_MM, _FAR_MM = 2.0, 4.0  # on either side of the rim, clear of rounded edges; a straight line through both reaches the rim
_HIGH_MM = 8.0  # numerical: rays start this far above the rim
_REACH_MM = 12.0  # numerical: and end this far below their start, above the inner table


def rim_steps(implant: Mesh, bone: Mesh, rim_mm: FloatArray, *, outward: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Step (n,) mm of the implant's face above the skull's at rim places (n, 3); NaN where either is not met.

    Parameters
    ----------
    implant, bone
        Closed surfaces in one frame, mm.
    rim_mm
        (k, 3) closed rim.
    outward
        (3,) direction out of the head at the middle of the rim.
    """
    middle = rim_mm.mean(axis=0)
    closed = np.vstack([rim_mm, rim_mm[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    wanted = np.linspace(0.0, along[-1], _STATIONS, endpoint=False)
    places = np.column_stack([np.interp(wanted, along, closed[:, axis]) for axis in range(3)])
    tangent = np.roll(places, -3, axis=0) - np.roll(places, 3, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    across = np.cross(tangent, outward)
    across *= np.where(np.einsum("ij,ij->i", across, places - middle) >= 0.0, 1.0, -1.0)[:, None]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    skull = near_bone(implant, bone)
    if len(skull.faces) == 0:
        return np.full(_STATIONS, np.nan), places
    beyond, within = (Scene(Mesh(mesh.vertices_mm - middle, mesh.faces)) for mesh in (skull, implant))
    heights = [
        _height_mm(scene, places - middle + side * reach * across, outward)
        for scene, side in ((beyond, 1.0), (within, -1.0))
        for reach in (_NEAR_MM, _FAR_MM)
    ]
    share = _NEAR_MM / (_FAR_MM - _NEAR_MM)
    at_rim = [near + share * (near - far) for near, far in ((heights[0], heights[1]), (heights[2], heights[3]))]
    return np.asarray(at_rim[1] - at_rim[0]), places


def _height_mm(scene: Scene, points_mm: FloatArray, outward: FloatArray) -> FloatArray:
    rays = np.broadcast_to(-outward, points_mm.shape)
    return np.asarray(_HIGH_MM - scene.first(points_mm + _HIGH_MM * outward, rays, _REACH_MM + _HIGH_MM).distance_mm)
