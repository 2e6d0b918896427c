"""Places of a part, or of the room about it, that are narrow both ways across: in a pin, or in a channel.

Rays straight across find what is narrow one way (see `walls`); about the middle of that, across it, the shortest chord is the
other way, and at right angles to both runs the axis of a pin or a channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchone.design.checks.walls import measure_walls
from batchone.design.cranial.rays import Scene, scene_of
from batchone.design.triangles import area_vectors
from batchone.pipeline.values import FloatArray, Mesh

ENGRAVED = ("label", "side-mark")  # stroke and depth of letters have limits of their own
FACETS_MM = 0.02  # numerical: facets of something round lie so much nearer to each other than its diameter
_CHORDS = 16  # numerical: ways across that are tried, 11 degrees apart: a round section is told within 0.5 %
_FEW = 4  # numerical: of these first: what is twice as wide as looked for by them is so by all
_COARSE = 1.0 / np.cos(np.radians(22.5))  # numerical: by how much the shortest of so few may be longer
_APART = 0.25  # numerical: places looked at, per width that is looked for


@dataclass(frozen=True, slots=True, eq=False)
class Narrow:
    """Places that are narrow both ways across, about the middle of the part's box (see ``scene_of``).

    Attributes
    ----------
    middle_mm
        (n, 3) float64.
    across
        (n, 3) float64 unit vector along the first way.
    axis
        (n, 3) float64 unit vector at right angles to both ways.
    width_mm
        (n,) float64, the larger of both ways.
    """

    middle_mm: FloatArray
    across: FloatArray
    axis: FloatArray
    width_mm: FloatArray

    def of(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Narrow:
        """Some of the places."""
        return Narrow(self.middle_mm[chosen], self.across[chosen], self.axis[chosen], self.width_mm[chosen])


def narrow_places(mesh: Mesh, considered: npt.NDArray[np.bool_], up_to_mm: float, *, outside: bool) -> tuple[Scene, Narrow]:
    """The surface ready for rays, and places up to so wide both ways, behind the considered triangles (m,) or before them."""
    scene, shift = scene_of(mesh)
    walls = measure_walls(mesh, considered, outside=outside, up_to_mm=up_to_mm)
    vectors = area_vectors(mesh)[walls.face]
    across = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    half = 0.5 * walls.thickness_mm[:, None] * (1.0 if outside else -1.0)
    middles = mesh.vertices_mm[mesh.faces[walls.face]].mean(axis=1) - shift + half * across
    _, one_each = np.unique(np.floor(middles / (_APART * up_to_mm)).astype(np.int64), axis=0, return_index=True)
    one_each.sort()
    found = Narrow(middles[one_each], across[one_each], across[one_each], walls.thickness_mm[one_each])
    for chords, most_mm in ((_FEW, _COARSE * up_to_mm), (_CHORDS, up_to_mm)):
        second_mm, axis = _second(scene, found, chords, most_mm)
        kept = second_mm <= most_mm
        width_mm = np.maximum(found.width_mm, second_mm) if chords == _CHORDS else found.width_mm
        found = Narrow(found.middle_mm, found.across, axis, width_mm).of(kept)
    return scene, found


def _second(scene: Scene, places: Narrow, chords: int, reach_mm: float) -> tuple[FloatArray, FloatArray]:
    """(n,) shortest chord at right angles to the first way, infinite where none is so short, and (n, 3) what is across both."""
    u, v = sides_of(places.across)
    turns = np.pi * np.arange(chords) / chords
    ways = np.cos(turns)[None, :, None] * u[:, None] + np.sin(turns)[None, :, None] * v[:, None]
    long_mm = chord_mm(scene, np.repeat(places.middle_mm, chords, axis=0), ways.reshape(-1, 3), reach_mm).reshape(-1, chords)
    best = np.argmin(long_mm, axis=1) if len(long_mm) else np.empty(0, dtype=np.intp)
    rows = np.arange(len(best))
    return long_mm[rows, best], np.cross(places.across, ways[rows, best])


def chord_mm(scene: Scene, places_mm: FloatArray, ways: FloatArray, reach_mm: float) -> FloatArray:
    """(n,) from face to face through places (n, 3) along unit vectors (n, 3); infinite where one side is farther than reach."""
    before, after = sides_mm(scene, places_mm, ways, reach_mm)
    return before + after


def sides_mm(scene: Scene, places_mm: FloatArray, ways: FloatArray, reach_mm: float) -> tuple[FloatArray, FloatArray]:
    """(n,) distance to the first face against and along unit vectors (n, 3), infinite beyond reach."""
    found, _ = scene.meets(np.concatenate([places_mm, places_mm]), np.concatenate([-ways, ways]), reach_mm)
    both = np.where(np.isnan(found), np.inf, found)
    return both[: len(ways)], both[len(ways) :]


def sides_of(ways: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Two unit vectors (n, 3) at right angles to unit vectors (n, 3) and to each other."""
    helper = np.eye(3)[np.argmin(np.abs(ways), axis=1)] if len(ways) else np.empty((0, 3))
    u = np.cross(ways, helper)
    u /= np.maximum(np.linalg.norm(u, axis=1, keepdims=True), 1e-30)
    return u, np.cross(ways, u)
