"""Cuts through a bone: planes with a way for the blade, from landmarks or as drawn. All in the bone's own frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design.cranial.columns import to_local
from batchone.design.cranial.rays import Scene
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.osteotomy.approach import way_out
from batchone.design.osteotomy.section import Section, section
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.values import Anatomy, Bone, FloatArray, Mesh

HINGE_MM = (5.0, 10.0)  # bone left at the far cortex of a wedge; common practice in high tibial osteotomy
MOST_ASTRAY_MM = 30.0  # a plane drawn so far from where it cuts was drawn for something else; project default
_LEAST_SLOPE = 0.5  # cosine between the way of a blade and its plane; project default
_FAR_MM = 200.0  # numerical: rays start so far outside
_DIAGONAL = np.sqrt(0.5)
_FACES = {  # towards the midline, and to the front; project default
    "medial": (1.0, 0.0),
    "anteromedial": (_DIAGONAL, _DIAGONAL),
    "anterior": (0.0, 1.0),
    "anterolateral": (-_DIAGONAL, _DIAGONAL),
    "lateral": (-1.0, 0.0),
    "posterior": (0.0, -1.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One cut.

    Attributes
    ----------
    origin_mm
        (3,) where the blade enters the bone, on the plane, in the middle of what it cuts.
    normal
        (3,) unit; points into the bone whose cut face lies on the plane: the kerf is on the other side.
    advance
        (3,) unit, in the plane: the way of the blade.
    depth_mm
        From the near cortex to where the blade stops.
    through_mm
        From the near cortex to the far one.
    """

    origin_mm: FloatArray
    normal: FloatArray
    advance: FloatArray
    depth_mm: float
    through_mm: float

    @property
    def end_mm(self) -> FloatArray:
        """(3,) where the blade stops, in the middle."""
        return np.asarray(self.origin_mm + self.depth_mm * self.advance)


def unit(vector: FloatArray) -> FloatArray:
    """The vector with length 1."""
    return np.asarray(vector / np.linalg.norm(vector))


def title_of(bone: Bone) -> str:
    """Name and side of a bone as landmarks and parts have it: ``tibia-left``."""
    return f"{bone.name}-{bone.side}"


def facing(bone: Bone, approach: str) -> FloatArray:
    """(3,) out of the bone on the named face, in its frame."""
    inward, forward = _FACES[approach]
    medial = -1.0 if bone.side == "left" else 1.0  # the frame's x points to the patient's left
    return np.array([medial * inward, -forward, 0.0])


def sawn(mesh: Mesh, origin_mm: FloatArray, normal: FloatArray, name: str) -> Section:
    """Where a plane goes through the bone.

    Raises
    ------
    OrderError
        It misses it.
    """
    found = section(mesh, origin_mm, normal)
    if found is None:
        miss = float(np.abs((mesh.vertices_mm - origin_mm) @ normal).min())
        raise OrderError(
            f"plane {name} misses the bone: it passes {miss:.1f} mm beside it",
            hint="was it drawn in this study, in patient space? move it, or change the parameters that place it",
        )
    astray = float(np.linalg.norm(found.points_mm - origin_mm, axis=1).min())
    if astray > MOST_ASTRAY_MM:
        raise OrderError(
            f"plane {name} lies {astray:.0f} mm beside the bone that it cuts, at most {MOST_ASTRAY_MM:g} mm",
            hint="place its middle in the bone that it is meant for",
        )
    return found


def cut(found: Section, normal: FloatArray, toward: FloatArray, *, hinge_mm: float, name: str) -> Cut:
    """The cut in a plane, its blade along ``toward`` as near as the plane allows; it stops ``hinge_mm`` before the far cortex.

    Raises
    ------
    OrderError
        The way of the blade crosses the plane.
    """
    advance = toward - normal * float(toward @ normal)
    slope = float(np.linalg.norm(advance)) / float(np.linalg.norm(toward))
    if slope < _LEAST_SLOPE:
        raise OrderError(
            f"plane {name} lies across the way of the blade: {np.degrees(np.arccos(slope)):.0f} deg to it, at most 60 deg",
            hint="another approach, or draw the plane as it is sawn",
        )
    advance = unit(advance)
    near, far = found.along(advance)
    return Cut(_entry(found, normal, advance), normal, advance, far - near - hinge_mm, far - near)


def proposed_cuts(anatomy: Anatomy, bone: Bone, mesh: Mesh, chosen: OsteotomyGuideParameters) -> tuple[Cut, ...]:
    """The cuts that the parameters ask for.

    Parameters
    ----------
    mesh
        The bone in its own frame.

    Raises
    ------
    OrderError
        The landmarks that they hang on were not found, or a plane misses the bone.
    """
    first = _proximal(anatomy, bone, mesh, chosen) if chosen.site == "proximal" else _across(anatomy, bone, mesh, chosen)
    return (first,) if chosen.wedge != "closing" else (first, _closing(mesh, first, chosen))


def hinge_mm(chosen: OsteotomyGuideParameters) -> float:
    """Bone that is left at the far cortex: none where the bone is cut through, as every shaft is; a wedge ends there."""
    return 0.0 if chosen.wedge == "none" or chosen.site == "shaft" else chosen.hinge_mm


def _proximal(anatomy: Anatomy, bone: Bone, mesh: Mesh, chosen: OsteotomyGuideParameters) -> Cut:
    """From the near cortex below the plateau to the far cortex higher up; it holds the plateau's slope from front to back."""
    title = title_of(bone)
    medial, lateral, knee = (
        _landmark(anatomy, bone, f"{title}-{what}") for what in ("plateau-medial", "plateau-lateral", "knee-centre")
    )
    plateau = _direction(anatomy, bone, f"{title}-plateau")
    outward = medial - lateral if chosen.approach in ("site", "medial", "anteromedial") else lateral - medial
    outward = unit(outward - plateau * float(outward @ plateau))
    scene = Scene(mesh)
    ends = []
    for below, way in ((chosen.cut_mm, -outward), (chosen.aim_mm, outward)):
        level = knee - below * plateau
        hit = scene.first((level - _FAR_MM * way)[None], way[None], 2.0 * _FAR_MM)
        if hit.face[0] < 0:
            raise OrderError(
                f"plane cut-1 misses {title}: no bone {below:g} mm below its plateau", hint="change cut_mm or aim_mm"
            )
        ends.append(level + (float(hit.distance_mm[0]) - _FAR_MM) * way)
    start, aim = ends
    sideways = unit(np.cross(plateau, outward))
    normal = unit(np.cross(sideways, aim - start))
    normal = normal if float(normal @ plateau) > 0.0 else -normal
    return cut(sawn(mesh, start, normal, "cut-1"), normal, aim - start, hinge_mm=hinge_mm(chosen), name="cut-1")


def _across(anatomy: Anatomy, bone: Bone, mesh: Mesh, chosen: OsteotomyGuideParameters) -> Cut:
    """Across the shaft; the blade comes from the face that the approach names, square to where that is flattest."""
    shaft = next((r for r in anatomy.references if r.name == f"{title_of(bone)}-shaft"), None)
    if shaft is None:
        raise _without(bone, f"{title_of(bone)}-shaft")
    axis = unit(np.array(shaft.direction) @ bone.frame[:3, :3])
    axis = axis if axis[2] > 0.0 else -axis
    origin = to_local(bone.frame, np.array([shaft.origin_mm]))[0]
    along = (mesh.vertices_mm - origin) @ axis
    place = origin + (along.min() + 0.01 * chosen.shaft_percent * np.ptp(along)) * axis
    outward = way_out(mesh, place, axis, facing(bone, approach_of(chosen)), width_mm=chosen.plate_mm).direction
    return cut(sawn(mesh, place, axis, "cut-1"), axis, -outward, hinge_mm=hinge_mm(chosen), name="cut-1")


def approach_of(chosen: OsteotomyGuideParameters) -> str:
    """The face that the saw comes from."""
    if chosen.approach != "site":
        return chosen.approach
    return "medial" if chosen.site == "proximal" else "anteromedial"


def _closing(mesh: Mesh, first: Cut, chosen: OsteotomyGuideParameters) -> Cut:
    """The other face of a wedge: the first plane, turned about the hinge to below."""
    c, s = np.cos(np.radians(chosen.wedge_deg)), np.sin(np.radians(chosen.wedge_deg))
    advance = c * first.advance + s * first.normal
    normal = s * first.advance - c * first.normal
    found = section(mesh, first.end_mm - 0.5 * first.depth_mm * advance, normal)
    if found is None:
        raise DesignError("plane cut-2 misses the bone: the wedge is as high as the bone", hint="a smaller wedge_deg")
    near, far = found.along(advance)
    left = far - float(first.end_mm @ advance)
    if hinge_mm(chosen) > 0.0 and not HINGE_MM[0] <= left <= HINGE_MM[1]:
        raise DesignError(
            f"plane cut-2 leaves a hinge of {left:.1f} mm at the far cortex where cut-1 leaves {chosen.hinge_mm:g} mm, "
            f"must be {HINGE_MM[0]:g} to {HINGE_MM[1]:g} mm",
            hint=f"a {'smaller' if left > HINGE_MM[1] else 'larger'} hinge_mm",
        )
    return Cut(_entry(found, normal, advance), normal, advance, float(first.end_mm @ advance) - near, far - near)


def _entry(found: Section, normal: FloatArray, advance: FloatArray) -> FloatArray:
    """As deep as the blade first meets the bone, in the middle of what it cuts: where on a flat it meets it first, is chance."""
    across = np.cross(normal, advance)
    middle = 0.5 * sum(found.along(across))
    return np.asarray(
        middle * across + found.along(advance)[0] * advance + float(found.points_mm[0] @ normal) * normal, dtype=np.float64
    )


def _landmark(anatomy: Anatomy, bone: Bone, name: str) -> FloatArray:
    mark = next((m for m in anatomy.landmarks if m.name == name), None)
    if mark is None:
        raise _without(bone, name)
    return np.asarray(to_local(bone.frame, np.array([mark.point_mm]))[0])


def _direction(anatomy: Anatomy, bone: Bone, name: str) -> FloatArray:
    found = next((r for r in anatomy.references if r.name == name), None)
    if found is None:
        raise _without(bone, name)
    direction = np.array(found.direction) @ bone.frame[:3, :3]
    return np.asarray(np.round(direction if direction[2] > 0.0 else -direction, 9))


def _without(bone: Bone, name: str) -> OrderError:
    return OrderError(
        f"{title_of(bone)} has no {name}: 0 found, 1 needed to propose a plane",
        hint="is the bone whole in the scan, and the one that was ordered? another site, or draw the planes: [plan] markups",
    )
