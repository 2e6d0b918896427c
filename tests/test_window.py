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
from batchone.design.guide.window import WINDOW, Window, taken_mm, window_findings, window_in
from batchone.design.solid import cylinder
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Axis, FloatArray, Mesh, Part

LIMITS = load_families()["pedicle-guide"].limits
WAY = Axis("insertion", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))
LATTICE = Lattice(np.array([-15.0, -15.0, 0.0]), 0.25, (121, 121, 5))


@cache
def bone() -> Mesh:
    return to_part(box_solid(np.array([-20.0, -20.0, -10.0]), np.array([20.0, 20.0, 0.0]), "bone"), "bone").mesh


def plate(*, bar_mm: float = 0.0, x_mm: float = 0.0) -> Part:
    """A plate 4 mm thick with a window of 5 mm, before which a bar of some width may lie."""
    hole = Window(x_mm, 0.0, 5.0).hole()
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
