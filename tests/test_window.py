"""Inspection windows: where they stand, what is refused, and what is seen through them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError

from batchone.design.booleans import box_solid, difference, solid_from_mesh, to_part, union
from batchone.design.contact.field import Lattice
from batchone.design.families import load_families
from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
from batchone.design.families.pedicle_guide import PedicleGuideParameters
from batchone.design.guide.sleeve import Sleeve
from batchone.design.guide.slot import Slot
from batchone.design.guide.window import (
    MARKS,
    WINDOW,
    Opening,
    mark_findings,
    marks_beside,
    refuse_narrow,
    taken_mm,
    window_findings,
    window_in,
)
from batchone.design.solid import cylinder
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.values import Axis, Bone, FloatArray, Mesh, Part
from batchone.slicer.profiles import load_process

LIMITS = load_families()["pedicle-guide"].limits
WAY = Axis("insertion", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
LATTICE = Lattice(np.array([-15.0, -15.0, 0.0]), 0.25, (121, 121, 5))


@cache
def bone() -> Mesh:
    return to_part(box_solid(np.array([-20.0, -20.0, -10.0]), np.array([20.0, 20.0, 0.0]), "bone"), "bone").mesh


def plate(*, bar_mm: float = 0.0, x_mm: float = 0.0) -> Part:
    """A plate 4 mm thick with a window of 5 mm, before which a bar of some width may lie."""
    hole = Opening(WINDOW, "shows the bone", x_mm, 0.0, 5.0).hole()
    body = box_solid(np.array([-12.0, -8.0, 0.2]), np.array([22.0, 8.0, 4.2]), "plate")
    body = difference(body, solid_from_mesh(hole.mesh, WINDOW), what="window")
    if bar_mm > 0.0:
        side = cylinder("bar", start_mm=(-10.0, 0.0, 4.2), axis=(1.0, 0.0, 0.0), diameter_mm=bar_mm, length_mm=20.0)
        body = union(body, solid_from_mesh(side.mesh, "bar"), what="bar")
    return to_part(body, "guide")


@pytest.mark.parametrize(
    ("part", "verdict"), [(plate(), "pass"), (plate(bar_mm=0.3), "fail"), (plate(x_mm=17.0), "pass"), (plate(x_mm=19.0), "fail")]
)
def test_a_window_shows_bone_and_nothing_else(part: Part, verdict: str) -> None:
    (found,) = window_findings(part, bone(), WAY, LIMITS)  # the bone ends at x = 20 mm
    assert found.verdict == verdict


def shell() -> FloatArray:
    """Signed distance to the edge of a shell of 20 x 10 mm."""
    x, y = np.abs(LATTICE.x_mm) - 10.0, np.abs(LATTICE.y_mm) - 5.0
    return np.asarray(np.maximum(x, y))


def test_a_window_stands_where_most_room_is() -> None:
    zones = shell() < -1.0
    sleeve = Sleeve("pin", np.array([-2.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), 2.8, 6.8, 12.0)
    above = taken_mm(LATTICE, (sleeve,))
    found = window_in("guide", LATTICE, zones, shell(), above, diameter_mm=5.0)
    assert found.x_mm - 0.5 * 6.8 + 2.0 >= 0.5 * 5.0 + 1.5  # off the sleeve
    assert abs(found.y_mm) <= 1.0
    only = zones & (LATTICE.x_mm < -5.0)
    with pytest.raises(DesignError, match=r"guide: a window of 5 mm needs 4\.0 mm round its middle, there are [0-3]\.\d mm"):
        window_in("guide", LATTICE, only, shell(), above, diameter_mm=5.0)


@pytest.mark.parametrize("family", [PedicleGuideParameters, OsteotomyGuideParameters])
def test_a_window_too_small_or_too_large_to_be_one_is_refused_by_name(
    family: type[PedicleGuideParameters | OsteotomyGuideParameters],
) -> None:
    for good in (0.0, 3.0, 8.0):
        assert family.model_validate({"window_mm": good}).window_mm == good
    for bad in (2.9, 8.1, -1.0):
        with pytest.raises(ValidationError, match="window_mm"):
            family.model_validate({"window_mm": bad})


def slot(*, normal_y: float = 1.0) -> Slot:
    """A saw slot of 2 mm across the plate's middle."""
    return Slot("1", np.zeros(3), np.array([0.0, normal_y, 0.0]), np.array([0.0, 0.0, -1.0]), 2.0, (-10.0, 10.0), (-20.0, 3.0))


@pytest.mark.parametrize("normal_y", [1.0, -1.0])
def test_marks_stand_on_both_sides_of_a_slot_at_one_x_where_the_pair_has_most_room(normal_y: float) -> None:
    sleeve = Sleeve("pin", np.array([-4.0, 3.0, 0.0]), np.array([0.0, 0.0, 1.0]), 2.8, 6.8, 12.0)
    above, flat = taken_mm(LATTICE, (sleeve,)), np.zeros(LATTICE.shape[:2])
    first, second = marks_beside("guide", LATTICE, flat, (slot(normal_y=normal_y),), shell(), above, diameter_mm=1.0)
    assert first.x_mm == second.x_mm
    assert first.x_mm >= 1.4  # off the sleeve
    assert (first.y_mm, second.y_mm) == pytest.approx((3.0, -3.0), abs=0.25)  # half way from the slot's face to the edge
    marks_beside("guide", LATTICE, flat, (slot(),), shell(), above, diameter_mm=0.9)  # 2 mm of room round each, 1.5 mm are wall
    with pytest.raises(DesignError, match=r"marks of 1\.5 mm on both sides of the cut need 2\.2 mm .*are [12]\.\d mm"):
        marks_beside("guide", LATTICE, flat, (slot(),), shell(), above, diameter_mm=1.5)
    nowhere = np.where(LATTICE.y_mm > 0.0, np.nan, flat)
    with pytest.raises(DesignError, match=r"there are 0\.0 mm"):  # no bone above the cut
        marks_beside("guide", LATTICE, nowhere, (slot(),), shell(), above, diameter_mm=1.0)


def marked(*, aside_mm: float = 0.0, bar: bool = False) -> Part:
    """A plate with two marks 10 mm apart along y, the second so far aside, before which a bar may lie."""
    body = box_solid(np.array([-12.0, -8.0, 0.2]), np.array([12.0, 8.0, 4.2]), "plate")
    for name, x, y in ((MARKS[0], 0.0, 5.0), (MARKS[1], aside_mm, -5.0)):
        body = difference(body, solid_from_mesh(Opening(name, "", x, y, 2.5).hole().mesh, name), what=name)
    if bar:
        side = cylinder("bar", start_mm=(-10.0, -5.0, 4.2), axis=(1.0, 0.0, 0.0), diameter_mm=1.0, length_mm=20.0)
        body = union(body, solid_from_mesh(side.mesh, "bar"), what="bar")
    return to_part(body, "guide", functional_faces=())


@pytest.mark.parametrize(
    ("part", "verdicts"),
    [
        (marked(), ["pass", "pass"]),
        (marked(bar=True), ["fail", "pass"]),
        (marked(aside_mm=0.08), ["pass", "pass"]),  # 0.46 deg
        (marked(aside_mm=-0.1), ["pass", "fail"]),  # 0.57 deg
    ],
)
def test_marks_must_show_bone_and_lie_along_it(part: Part, verdicts: list[str]) -> None:
    frame = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])  # z along y
    long_bone = Bone("tibia", "left", True, 1.0, 1.0, bone(), frame, np.full(len(bone().vertices_mm), 0.05))
    found = mark_findings(part, long_bone, WAY, load_families()["osteotomy-guide"].limits)
    assert [finding.verdict for finding in found] == verdicts


def test_a_mark_too_small_or_too_large_to_be_one_is_refused_by_name() -> None:
    for good in (0.0, 2.0, 4.0):
        assert OsteotomyGuideParameters.model_validate({"mark_mm": good}).mark_mm == good
    for bad in (1.9, 4.1, -1.0):
        with pytest.raises(ValidationError, match="mark_mm"):
            OsteotomyGuideParameters.model_validate({"mark_mm": bad})


def test_an_opening_that_the_process_prints_shut_is_refused_by_name() -> None:
    process = load_process("pa12-sls")
    refuse_narrow({"window_mm": 0.0, "mark_mm": 1.5}, process)
    with pytest.raises(OrderError, match=r"parameters\.mark_mm is 1\.4 mm, at least 1\.5 mm for pa12-sls"):
        refuse_narrow({"window_mm": 4.0, "mark_mm": 1.4}, process)
