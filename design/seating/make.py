"""The seating score of one part on one bone: everything about its seat, once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from batchone.design.contact.field import within
from batchone.design.contact.seat import CONTACT, RELIEF
from batchone.design.nearest import Index, indexed_once, nearest_points
from batchone.design.seating.contacts import (
    NEAR_MM,
    OTHERS_MM,
    SAMPLINGS,
    Contact,
    Landscape,
    contact,
    landscape,
    samplings,
    spacing_mm,
    turned_down,
)
from batchone.design.seating.covered import Covered, covered
from batchone.design.seating.friction import Spread
from batchone.design.seating.friction import spread as seated_spread
from batchone.design.seating.insertion import draft_deg, way_out
from batchone.design.seating.settle import Poses
from batchone.design.seating.stability import Press, Stability, stability
from batchone.design.seating.uniqueness import Uniqueness, docking_cone_deg, planned_seat, reference, uniqueness
from batchone.design.triangles import areas_mm2
from batchone.pipeline.values import Bone, FloatArray, Mesh, Part

RELEASE_STARTS, INTERACTIVE_STARTS = 500, 50  # DESIGN section 8
SEED = 20260105  # of all starts; any number will do


@dataclass(frozen=True, slots=True, eq=False)
class Seated:
    """A part on its bone, ready to be measured.

    ``pose`` (4, 4) leads from the seat frame to LPS; ``sigma_mm`` (points,) how unsure the bone is under each; ``bone``
    is its surface in the seat frame.
    """

    pose: FloatArray
    body: Contact
    ground: Landscape
    sigma_mm: FloatArray
    bone: Index


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """A seat in numbers.

    Attributes
    ----------
    seated
        What was measured.
    stability
        Linear measures.
    seat
        The planned seat: the rest from the drawn pose.
    rests
        The drawn pose leads to a rest beside it.
    cone_deg
        Least and median tilt of the push that the seat holds.
    weakest
        (3,) the way in which it holds least.
    uniqueness
        Where wrong starts end.
    friction
        Where a hand lands, with friction, on bone as it looks.
    way_out_mm, way_out_at_mm
        Least distance to bone on the way off, and (3,) where.
    draft_deg
        Least angle of the carrying faces to the way out.
    covered
        Zones and contact efficiency; None where no part was scored but a body alone.
    """

    seated: Seated
    stability: Stability
    seat: Poses
    rests: bool
    cone_deg: tuple[float, float]
    weakest: FloatArray
    uniqueness: Uniqueness
    friction: Spread
    way_out_mm: float
    way_out_at_mm: FloatArray
    draft_deg: float
    covered: Covered | None = None

    @property
    def press(self) -> Press:
        """The best push."""
        return self.stability.press

    def on_unsure_bone(self) -> Spread:
        """Where a hand lands, with friction, on bone as unsure as it is: what the error budget starts from."""
        body, ground, sigma_mm = self.seated.body, self.seated.ground, self.seated.sigma_mm
        starts = self.uniqueness.starts
        return seated_spread(body, ground, self.press, self.seat, count=starts, seed=SEED + 20, sigma_mm=sigma_mm)

    def lps(self, point_mm: FloatArray) -> FloatArray:
        """A place of the seat frame in LPS."""
        return np.asarray(self.seated.pose[:3, :3] @ point_mm + self.seated.pose[:3, 3])


def score(part: Part, bone: Bone, guide_pose: FloatArray, *, starts: int = RELEASE_STARTS) -> Score:
    """Score the seat of a part.

    Parameters
    ----------
    part
        With faces called ``contact``, LPS.
    bone
        That it sits on.
    guide_pose
        (4, 4) to LPS, z the way out.
    starts
        How many wrong starts are tried; 500 for a release.

    Raises
    ------
    DesignError
        The bone is inside out.
    """
    found = seated(part, bone, guide_pose)
    touching, relieved = (np.array([label == name for label in part.labels])[part.face_labels] for name in (CONTACT, RELIEF))
    mesh = part.mesh.moved(np.asarray(np.linalg.inv(found.pose)))
    return replace(scored(found, starts=starts), covered=covered(mesh, touching, relieved, found.ground))


def seated(part: Part, bone: Bone, guide_pose: FloatArray, *, count: int = SAMPLINGS) -> Seated:
    """Take the points of a part that may meet its bone, ``count`` samplings of them, and measure the bone about them."""
    back = np.linalg.inv(guide_pose).astype(np.float64)
    mesh = part.mesh.moved(back)
    touching = part.face_labels == part.labels.index(CONTACT)
    area = float(areas_mm2(Mesh(mesh.vertices_mm, mesh.faces[touching])).sum())
    carrying = samplings(mesh, touching, spacing_mm(area), count)
    middle = carrying[0].mean(axis=0)
    pose = guide_pose.copy()
    pose[:3, 3] += guide_pose[:3, :3] @ middle
    mesh, local = Mesh(mesh.vertices_mm - middle, mesh.faces), bone.mesh.moved(np.asarray(np.linalg.inv(pose)))
    surface = indexed_once(bone.mesh).asked_as(local, pose)
    underside = samplings(mesh, ~touching & turned_down(mesh), OTHERS_MM, count)
    near = np.split(within(np.concatenate(underside), surface, NEAR_MM), np.cumsum([len(one) for one in underside])[:-1])
    others = [one[kept] for one, kept in zip(underside, near, strict=True)]
    first, *again = (np.concatenate([one - middle, other]) for one, other in zip(carrying, others, strict=True))
    ground = landscape(local, first, surface=surface)
    body = contact(first[: len(carrying[0])], others[0], ground, tuple(again))
    face = nearest_points(body.points_mm, surface)[1]
    sigma = bone.uncertainty_mm[bone.mesh.faces[face]].max(axis=1)
    return Seated(pose, body, ground, sigma, surface)


def scored(seated: Seated, *, starts: int = RELEASE_STARTS) -> Score:
    """Measure everything about a seat."""
    body, ground = seated.body, seated.ground
    held = stability(body)
    rest = planned_seat(body, ground, held.press)
    seat = reference(body, rest)
    rests = bool(rest.at_rest[0]) and seat is rest.poses
    least, median, weakest = docking_cone_deg(body, ground, held.press, seat)
    where = uniqueness(body, ground, held.press, seat, count=starts, seed=SEED)
    rough = seated_spread(body, ground, held.press, seat, count=starts, seed=SEED + 10)
    out_mm, out_at = way_out(body, ground, seated.bone)
    return Score(
        seated,
        held,
        seat,
        rests,
        (least if rests else 0.0, median),
        weakest,
        where,
        rough,
        out_mm,
        out_at,
        draft_deg(body),
    )
