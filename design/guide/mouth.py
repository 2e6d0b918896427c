"""The mouth of a drill bore: where it comes out along a steep flank of bone, the feather edge is taken off.

A bore that leaves through the contact face at a grazing angle runs out into a lip as thin as one likes. There the mouth is cut
back to where the wall is whole, with a face that widens by 45 degrees towards the bone, so that every edge it leaves is blunt;
round the rest of the bore, where bone faces the drill, nothing is taken and the contact stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.booleans import Solid, solid_from_mesh
from batchone.design.contact.field import Lattice, nearest_on_the_way
from batchone.design.contact.seat import Ground
from batchone.design.guide.sleeve import Sleeve
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, IntArray, Mesh

MOUTH = "mouth"
MOST_MM = 8.0  # a mouth higher above the rim of its bore means a wall of bone beside the drill; project default, unverified
_SPARE = 1.2  # of the least wall: the wall that must be there where a mouth ends, as far as thin spots are looked at
_REACH = 2.0  # walls that a mouth reaches aside of its bore: there bone no longer runs along it; project default, unverified
_BLUNT = 3.0  # from an edge of 45 degrees on a mouth is cut, as deep as the lip from one of 37 on (1 + 1 / 3); numerical
_ALONG = 1.5  # a mouth ends along the rim by falling so steeply; project default, unverified
_STEP_MM = 0.1  # numerical: places along the bore
_AROUND, _ASIDE = 72, 5  # numerical: places round the bore, and across its wall
_BELOW_MM = 1.0  # numerical: what is not cut lies so far below the rim
_LEAST_ASIDE_MM = 0.05  # numerical: a mouth is nowhere narrower than its bore and this
_INSIDE = 0.9  # numerical: share of the bore's radius from which the cutting face begins


@dataclass(frozen=True, slots=True, eq=False)
class Mouth:
    """Where the wall of a bore is whole.

    Attributes
    ----------
    sleeve
        Its bore is meant.
    across
        (2, 3) directions across the axis; places round the bore are counted from the first to the second.
    height_mm
        (n,) above the entry along the axis, evenly round the bore: below, the mouth is cut.
    rim_mm
        The highest place where the bore meets the room of the bone.
    reach_mm
        (n,) radius of the mouth.
    cuts
        Whether there is a mouth.
    """

    sleeve: Sleeve
    across: FloatArray
    height_mm: FloatArray
    rim_mm: float
    reach_mm: FloatArray
    cuts: bool

    @property
    def led_from_mm(self) -> float:
        """Above the entry: from here on the bore leads the drill all round."""
        return max(self.rim_mm, float(self.height_mm.max())) if self.cuts else self.rim_mm

    def tool(self) -> Solid:
        """What is cut: from the cone about the bore down into the room of the bone."""
        bore = 0.5 * self.sleeve.bore_mm
        radii = np.stack([np.full(_AROUND, _INSIDE * bore), self.reach_mm, self.reach_mm])
        heights = self.height_mm + bore - radii
        floor = float(heights.min()) - _BELOW_MM
        heights[2] = floor
        rings = self._ring(radii, heights)
        middles = self.sleeve.entry_mm + np.array([[float(heights[0].mean())], [floor]]) * self.sleeve.outward
        return solid_from_mesh(Mesh(np.concatenate([rings.reshape(-1, 3), middles]), _faces(_AROUND)), MOUTH)

    def _ring(self, radii: FloatArray, heights: FloatArray) -> FloatArray:
        """(k, n, 3) rings of some radii and heights (k, n)."""
        aside = _spokes() @ self.across
        return np.asarray(self.sleeve.entry_mm + radii[:, :, None] * aside + heights[:, :, None] * self.sleeve.outward)


def mouth_of(sleeve: Sleeve, ground: Ground, *, offset_mm: float, apart_mm: float, wall_mm: float) -> Mouth:
    """Find where the wall of a sleeve's bore becomes whole.

    Parameters
    ----------
    sleeve
        Its ``top_mm`` is not asked.
    ground
        Bone and grid.
    offset_mm, apart_mm
        Distance from the bone under a sleeve, and from what must not be touched.
    wall_mm
        The least wall.

    Raises
    ------
    DesignError
        Bone runs along the bore for too long.
    """
    across = np.linalg.svd(sleeve.outward[None])[2][1:]
    across[1] *= np.sign(np.linalg.det(np.stack([*across, sleeve.outward])))
    bore, whole = 0.5 * sleeve.bore_mm, _SPARE * wall_mm
    reach = bore + _REACH * whole
    radii = np.linspace(bore, bore + whole, _ASIDE)
    along = np.arange(-2.0 * reach, MOST_MM + 2.0 * reach, _STEP_MM)
    aside = radii[:, None, None] * (_spokes() @ across)
    places = sleeve.entry_mm + aside[:, :, None] + along[:, None] * sleeve.outward
    blocked = _room_mm(ground, places, offset_mm, apart_mm) < 0.0
    height = np.where(blocked.any(axis=2), along[-1] - _STEP_MM * np.argmax(blocked[:, :, ::-1], axis=2), along[0])
    rim = height[0]
    lip = height.max(axis=0) - rim
    deep = np.clip(_BLUNT * (lip - whole), 0.0, lip)
    highest = float(rim.max())
    over = float((rim + deep).max()) - highest
    if over > MOST_MM:
        raise DesignError(
            f"sleeve {sleeve.name}: bone stands within {whole:.1f} mm of its bore up to {over:.1f} mm above its mouth, at most"
            f" {MOST_MM:g} mm: the wall there would be thinner than {wall_mm:g} mm",
            hint="draw a way that leaves more room beside the bone behind its entry, or a thinner drill",
        )
    wanted = np.where(deep > 0.0, rim + deep, rim - _BELOW_MM)
    turn = np.arange(_AROUND)
    between = np.abs(turn[:, None] - turn)
    arc = np.minimum(between, _AROUND - between) * (2.0 * np.pi * (bore + 0.5 * whole) / _AROUND)
    ramp = np.where(deep > 0.0, rim + deep, -np.inf) - _ALONG * arc
    aside_mm = np.maximum(np.where(deep > 0.0, reach, -np.inf) - arc, bore + _LEAST_ASIDE_MM).max(axis=1)
    return Mouth(sleeve, across, np.maximum(wanted, ramp.max(axis=1)), highest, aside_mm, bool((deep > 0.0).any()))


def _room_mm(ground: Ground, places_mm: FloatArray, offset_mm: float, apart_mm: float) -> FloatArray:
    """How far places (..., 3) are out of the seat under a sleeve, negative in it."""
    lattice, shape = ground.lattice, places_mm.shape[:-1]
    points = places_mm.reshape(-1, 3)
    first = np.floor((points.min(axis=0) - lattice.origin_mm) / lattice.step_mm).astype(int)[:2]
    last = np.ceil((points.max(axis=0) - lattice.origin_mm) / lattice.step_mm).astype(int)[:2] + 1
    first, last = np.clip(first, 0, np.array(lattice.shape[:2]) - 2), np.clip(last, 2, lattice.shape[:2])
    columns = (slice(first[0], last[0]), slice(first[1], last[1]))
    room = nearest_on_the_way(ground.distance_mm[columns]) - np.float32(offset_mm)
    if ground.others_mm is not None:
        room = np.minimum(room, nearest_on_the_way(ground.others_mm[columns]) - np.float32(apart_mm))
    origin = lattice.origin_mm + np.array([*first, 0]) * lattice.step_mm
    size = (int(room.shape[0]), int(room.shape[1]), int(room.shape[2]))
    return Lattice(origin, lattice.step_mm, size).at(room, points).reshape(shape)


def _spokes() -> FloatArray:
    """(n, 2) directions evenly round."""
    turn = 2.0 * np.pi * np.arange(_AROUND) / _AROUND
    return np.column_stack([np.cos(turn), np.sin(turn)])


def _faces(count: int) -> IntArray:
    """Triangles of three rings (inner and outer of the top, outer of the floor) and of the middles of top and floor."""
    here = np.arange(count)
    then = (here + 1) % count
    top, floor = 3 * count, 3 * count + 1
    strips = [
        np.column_stack([np.full(count, top), here, then]),
        *(
            np.concatenate(
                [
                    np.column_stack([k * count + here, (k + 1) * count + here, (k + 1) * count + then]),
                    np.column_stack([k * count + here, (k + 1) * count + then, k * count + then]),
                ]
            )
            for k in (0, 1)
        ),
        np.column_stack([np.full(count, floor), 2 * count + then, 2 * count + here]),
    ]
    return np.concatenate(strips).astype(np.int32)
