"""The body of a guide: a shell that lies on bone, the sleeves that stand on it, and the faces that must stay as they are.

Everything is in the guide's own frame: z the way out, y towards the head of the bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from batchone.design.booleans import Solid, difference, face_areas, pieces, union
from batchone.design.contact.ground import Relief
from batchone.design.contact.seat import CONTACT, BoolArray, Ground, Seat, make_seat
from batchone.design.contact.shell import Shell, capsule_mm, from_nearest, make_shell
from batchone.design.family import FamilyLimits
from batchone.design.guide.crosslink import Crosslink
from batchone.design.guide.sleeve import Sleeve
from batchone.pipeline.errors import DesignError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Axis, Bone, FloatArray, FunctionalFace, Part

APART_MM = 1.5  # from neighbouring bones: joint capsules, and how they move against each other; project default, unverified
MOST_SIGMA_MM = 0.3  # bone whose surface is less sure than this carries nothing; project default, unverified
EDGE_MM = 1.0  # the contact ends this far inside of the shell's edge; project default, unverified
LEAST_FACING = 0.35  # cosine between the bone's normal and the way out: steeper flanks carry nothing; project default, unverified
BELOW_MM = 6.0  # bone deeper than this below the entries is not reached; project default, unverified
OVER_EDGE_MM = 1.0  # the shell reaches so far below the contact; project default, unverified
_LEAST_ZONE_MM = 3.0  # narrower contact is relieved; project default, unverified
_WALLS = 1.3  # of the least wall: a shell is nowhere thinner, so that the grid's rounding leaves the least; numerical
_GAPS = 2.0  # of the least gap: nearer, shell and bar are one; project default, unverified
_SMOOTH = 4.0  # numerical: columns over which the floor is levelled, so that its lower edge is even
_ALONG = 0.999  # numerical: a way out nearer than this (cosine) to the bone's own z axis takes its y axis for up


@dataclass(frozen=True, slots=True, eq=False)
class Footing:
    """A guide without its sleeves, before it is a solid.

    Attributes
    ----------
    zones
        (x, y) columns over which it touches.
    seat
        The room of the bone, cut out of everything.
    shell
        What lies on the bone, the seat still in it.
    """

    zones: BoolArray
    seat: Seat
    shell: Shell


def guide_pose(way: Axis, bone: Bone) -> FloatArray:
    """(4, 4) from the guide's frame to LPS: z along the way out, y towards the bone's head, origin that of the way."""
    z = np.array(way.direction)
    head = bone.frame[:3, 2 if abs(float(bone.frame[:3, 2] @ z)) < _ALONG else 1]
    y = head - z * float(head @ z)
    y /= np.linalg.norm(y)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([np.cross(y, z), y, z])
    pose[:3, 3] = way.origin_mm
    return pose


def surface_points(ground: Ground, relief: Relief) -> FloatArray:
    """(n, 3) the bone's first face over each column that meets it."""
    x, y = np.broadcast_arrays(ground.lattice.x_mm, ground.lattice.y_mm)
    known = np.isfinite(relief.height_mm)
    return np.column_stack([x[known], y[known], relief.height_mm[known]])


def carrying(ground: Ground, relief: Relief, footprint_mm: FloatArray, *, low_mm: float, high_mm: float) -> BoolArray:
    """(x, y) where a guide touches: carrying bone between two heights, inside the footprint's edge, in no thin strips."""
    height = np.nan_to_num(relief.height_mm, nan=-np.inf)
    good = relief.carries & (footprint_mm <= -EDGE_MM) & (height <= high_mm) & (height >= low_mm)
    cells = max(1, round(0.5 * _LEAST_ZONE_MM / ground.lattice.step_mm))
    y, x = np.mgrid[-cells : cells + 1, -cells : cells + 1]
    return np.asarray(ndimage.binary_opening(good, structure=np.hypot(x, y) <= cells))


def shell_top_mm(offset_mm: float, relief_mm: float, shell_mm: float, process: Process) -> float:
    """Distance of a shell's outer face from bone: as thick as ordered where it touches, and where it is relieved no thinner than
    can be made."""
    return max(offset_mm + shell_mm, relief_mm + _WALLS * process.min_wall_mm)


def footing(
    ground: Ground,
    relief: Relief,
    zones: BoolArray,
    *,
    name: str,
    footprint_mm: FloatArray,
    deep_mm: FloatArray | float,
    cap_mm: float,
    offset_mm: float,
    relief_mm: float,
    shell_mm: float,
    process: Process,
    sleeves: tuple[Sleeve, ...] = (),
    carries: BoolArray | None = None,
    bars: tuple[Crosslink, ...] = (),
) -> Footing:
    """Lay out seat and shell.

    Parameters
    ----------
    ground, relief, zones
        Bone and grid, the bone seen from outside, and the columns that touch.
    name
        Of the guide, for messages.
    footprint_mm
        (x, y) signed distance to the edge of the shell, negative inside.
    deep_mm
        How far the shell reaches below the contact; one for all columns or (x, y).
    cap_mm
        Height of the highest contact.
    offset_mm, relief_mm, shell_mm
        Gap where it touches, gap elsewhere, thickness.
    sleeves
        What stands on the shell: below it there is no relief.
    carries
        (x, y) columns that may touch, where that is more than the zones: the shell's lower edge follows these.
    bars
        What is led over the shell: where it passes closely, the shell is led up to it, so that no crevice is left.

    Raises
    ------
    DesignError
        Nothing carries, or no shell lies there.
    """
    if not zones.any():
        raise DesignError(
            f"{name}: no bone that may carry lies under the guide (0 mm2)", hint="a larger pad_mm, or look at the bone"
        )
    close = shadows(ground, sleeves)
    seat = make_seat(ground, zones=zones, offset_mm=offset_mm, relief_mm=relief_mm, apart_mm=APART_MM, close=close)
    lowest = lowest_mm(zones if carries is None else carries, relief)
    shell = make_shell(
        ground,
        seat,
        footprint_mm=footprint_mm,
        floor_mm=lowest - deep_mm,
        cap_mm=np.full(zones.shape, cap_mm + shell_mm),
        outside_mm=shell_top_mm(offset_mm, relief_mm, shell_mm, process),
        wall_mm=max(shell_mm - relief_mm, _WALLS * process.min_wall_mm),
        above=tuple(above for one in bars for above in one.over(ground.lattice)),
        gap_mm=_GAPS * process.min_gap_mm,
    )
    return Footing(zones, seat, shell)


def shadows(ground: Ground, sleeves: tuple[Sleeve, ...]) -> BoolArray:
    """(x, y) columns that sleeves stand over."""
    found = np.zeros(ground.lattice.shape[:2], dtype=np.bool_)
    for sleeve in sleeves:
        found |= capsule_mm(ground.lattice, sleeve.entry_mm, sleeve.at_mm(sleeve.top_mm), 0.5 * sleeve.outer_mm) < 0.0
    return found


def lowest_mm(carries: BoolArray, relief: Relief) -> FloatArray:
    """(x, y) height of the nearest bone that carries, levelled."""
    return np.asarray(ndimage.gaussian_filter(from_nearest(np.where(carries, relief.height_mm, 0.0), carries), _SMOOTH))


def guide_body(base: Footing, above: Solid, sleeves: tuple[Sleeve, ...], *, name: str) -> Solid:
    """Join the shell and what stands above it, the sleeves among it, and take the bone's room out; bores are still to be drilled.

    Raises
    ------
    DesignError
        A boolean failed, or the seat cuts a sleeve off.
    """
    solid = union(base.shell.solid(), above, what=f"{name}: shell, sleeves, crosslink")
    return _whole(difference(solid, base.seat.solid(), what=f"{name}: seat"), name, sleeves)


def _whole(body: Solid, name: str, sleeves: tuple[Sleeve, ...]) -> Solid:
    """The largest piece, which must hold every sleeve."""
    parts = pieces(body)
    largest = parts[0]
    bounds = np.array(largest.manifold.bounding_box()).reshape(2, 3)
    for sleeve in sleeves:
        top = sleeve.at_mm(sleeve.top_mm - 1.0)
        if not bool(((top > bounds[0]) & (top < bounds[1])).all()):
            raise DesignError(
                f"{name}: the seat cuts the guide into {len(parts)} pieces and sleeve {sleeve.name} is not on the largest",
                hint="a larger pad_mm or shell_mm",
            )
    return largest


def refuse_little(part: Part, limits: FamilyLimits, *, hint: str) -> None:
    """A guide that would touch less bone than its release asks for is refused: it was ordered too small for this bone."""
    least_mm2, area_mm2 = limits.gates["contact_area_mm2"].low or 0.0, face_areas(part)[CONTACT]
    if area_mm2 < least_mm2:
        raise DesignError(f"{part.name} would touch {area_mm2:.0f} mm2 of bone, at least {least_mm2:g} mm2", hint=hint)


def guide_faces(sleeves: tuple[Sleeve, ...], process: Process) -> tuple[FunctionalFace, ...]:
    """The faces of a guide that later steps protect: contact, and bore and stop of each sleeve."""
    faces = [FunctionalFace(CONTACT, "sits on the bone", process.tolerance_mm)]
    for sleeve in sleeves:
        faces.append(FunctionalFace(sleeve.bore_label, "leads the drill", process.tolerance_mm))
        faces.append(FunctionalFace(sleeve.stop_label, "stops the drill", process.tolerance_mm))
    return tuple(faces)
