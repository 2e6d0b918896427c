"""Zones and contact efficiency on plates and pyramids whose zones are known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from batchone.design.isosurface import zero_mesh
from batchone.design.seating.contacts import BoolArray, Landscape, landscape
from batchone.design.seating.covered import LEAST_ZONE_MM2, ZONE_MM, Covered, covered
from batchone.pipeline.values import FloatArray, Mesh

GAP_MM, RELIEF_MM, STEP_MM = 0.2, 1.2, 0.5


def flat(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.zeros(np.broadcast_shapes(x.shape, y.shape))


def pyramid(x: FloatArray, y: FloatArray) -> FloatArray:
    """Four faces of 35 degrees."""
    return 8.0 - 0.7 * np.maximum(np.abs(x), np.abs(y))


@cache
def bone(height: object) -> Mesh:
    grid = np.arange(-22.0, 22.1, 0.5) + 0.0137
    z = np.arange(-14.0, 12.0, 0.5) + 0.0071
    x, y = np.meshgrid(grid, grid, indexing="ij")
    walls = np.maximum(np.abs(x), np.abs(y)) - 20.0
    top = z[None, None] - height(x, y)[:, :, None]  # type: ignore[operator]
    field = np.maximum(np.maximum(top, walls[:, :, None]), -12.0 - z[None, None])
    return zero_mesh(field.astype(np.float32), np.array([grid[0], grid[0], z[0]]), 0.5)


def sheet(height: object, box: tuple[float, float, float, float], above_mm: float) -> Mesh:
    """What looks down on a bone over a rectangle (x from, x to, y from, y to), so far above it."""
    x, y = (np.linspace(low, high, round((high - low) / STEP_MM) + 1) for low, high in (box[:2], box[2:]))
    xs, ys = np.meshgrid(x, y, indexing="ij")
    points = np.column_stack([xs.ravel(), ys.ravel(), height(xs, ys).ravel() + above_mm])  # type: ignore[operator]
    index = np.arange(len(points)).reshape(xs.shape)
    a, b, c, d = (one.ravel() for one in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    return Mesh(points, np.concatenate([np.column_stack([a, c, b]), np.column_stack([a, d, c])]).astype(np.int32))


def measured(
    height: object, pads: list[tuple[float, float, float, float]], spare: list[tuple[float, float, float, float]]
) -> Covered:
    sheets = [sheet(height, box, GAP_MM) for box in pads] + [sheet(height, box, RELIEF_MM) for box in spare]
    first = np.cumsum([0] + [len(one.vertices_mm) for one in sheets])
    mesh = Mesh(
        np.concatenate([one.vertices_mm for one in sheets]),
        np.concatenate([one.faces + start for one, start in zip(sheets, first, strict=False)]).astype(np.int32),
    )
    touching: BoolArray = np.repeat([True] * len(pads) + [False] * len(spare), [len(one.faces) for one in sheets])
    ground: Landscape = landscape(bone(height), mesh.vertices_mm, pad_mm=6.0)
    return covered(mesh, touching, ~touching, ground)


def test_three_pads_of_a_plate_are_three_zones_with_their_areas_and_middles() -> None:
    pads = [(-9.0, -3.0, -2.0, 2.0), (3.0, 8.0, 3.0, 8.0), (-1.0, 9.0, -8.0, -5.0)]
    found = measured(flat, pads, [(-3.0, 3.0, -2.0, 2.0)])
    assert [zone.area_mm2 for zone in found.zones] == pytest.approx([30.0, 25.0, 24.0])
    middles = np.array([zone.middle_mm for zone in found.zones])
    assert middles == pytest.approx(np.array([[4.0, -6.5, GAP_MM], [5.5, 5.5, GAP_MM], [-6.0, 0.0, GAP_MM]]))
    assert found.efficiency is None  # a plate slides on a plane, however much of it touches
    assert measured(flat, pads, []).efficiency is None


def test_a_piece_below_the_least_zone_is_none() -> None:
    for side, count in ((np.sqrt(LEAST_ZONE_MM2) - 0.05, 1), (np.sqrt(LEAST_ZONE_MM2) + 0.05, 2)):
        found = measured(flat, [(-9.0, -3.0, -2.0, 2.0), (3.0, 3.0 + side, 3.0, 3.0 + side)], [])
        assert len(found.zones) == count
        assert (found.weakest is None) == (count == 1)


WEST, EAST, SOUTH, NORTH = (-9.0, -5.0, -4.0, 4.0), (5.0, 9.0, -4.0, 4.0), (-4.0, 4.0, -9.0, -5.0), (-4.0, 4.0, 5.0, 9.0)


def test_efficiency_is_one_where_all_touches_and_falls_with_each_face_that_does_not() -> None:
    faces = [WEST, EAST, SOUTH, NORTH]
    found = [measured(pyramid, faces[:count], faces[count:]) for count in (4, 3, 2)]
    shares = [one.efficiency for one in found]
    assert shares[0] == 1.0
    assert found[0].add_mm is None
    assert shares[1] is not None
    assert shares[2] is not None
    assert 1.0 > shares[1] >= shares[2]
    assert shares[1] < 0.7  # three faces dock only as far as the fourth is not needed
    narrow = [(-9.0, -5.0, -2.0, 2.0), (5.0, 9.0, -2.0, 2.0), (-2.0, 2.0, -9.0, -5.0), (-2.0, 2.0, 5.0, 9.0)]
    beside = [(-9.0, -5.0, 2.0, 4.0), (-9.0, -5.0, -4.0, -2.0), (5.0, 9.0, 2.0, 4.0), (5.0, 9.0, -4.0, -2.0)]
    some = measured(pyramid, narrow, beside).efficiency
    assert some is not None
    assert 0.0 < some < 1.0


@pytest.mark.parametrize("left_out", range(4))
def test_the_zone_to_add_is_on_the_face_that_nothing_touches(left_out: int) -> None:
    faces = [WEST, EAST, SOUTH, NORTH]
    missing = faces.pop(left_out)
    found = measured(pyramid, faces, [missing, (-2.0, 2.0, -2.0, 2.0)])
    assert found.add_mm is not None
    x, y, _ = found.add_mm
    assert measured(pyramid, [EAST], [(4.0, 5.0, -4.0, 4.0)]).add_mm is None  # the edge of what touches is no place for a zone
    assert missing[0] - ZONE_MM / 2 <= x <= missing[1] + ZONE_MM / 2
    assert missing[2] - ZONE_MM / 2 <= y <= missing[3] + ZONE_MM / 2


def test_of_two_zones_on_one_face_the_small_one_holds_least() -> None:
    faces = [EAST, SOUTH, NORTH, (-9.0, -5.0, -5.0, 1.0), (-9.0, -6.0, 2.0, 5.0)]
    found = measured(pyramid, faces, [])
    assert found.weakest is not None
    assert found.weakest.area_mm2 == min(zone.area_mm2 for zone in found.zones)
    assert found.weakest.middle_mm[:2] == pytest.approx([-7.5, 3.5], abs=0.2)
    assert all(0.0 <= zone.share <= 1.0 for zone in found.zones)
    assert found.weakest.share < 0.5
