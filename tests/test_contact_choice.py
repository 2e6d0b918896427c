"""The underside of a shell, and the choice of the shell that seats best, on bones of known shape."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from batchone.design.booleans import difference, face_areas, to_part
from batchone.design.contact.ground import ground_of
from batchone.design.contact.neighbours import Neighbours
from batchone.design.contact.seat import CONTACT, Ground, Seat, make_seat
from batchone.design.contact.shell import Shell, make_shell
from batchone.design.isosurface import zero_mesh
from batchone.design.nearest import nearest_mm
from batchone.design.seating.choose import LEAST_AREA, Chosen, best_made, finalists
from batchone.design.seating.underside import Shape, Underside
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Bone, FloatArray, Mesh, Part

pytestmark = pytest.mark.slow

OFFSET_MM, RELIEF_MM = 0.2, 1.2
FLAT_MM, SLOPE = 10.0, 0.7  # half width of a table, and how its sides fall


def block(height: FloatArray, grid: FloatArray, z: FloatArray) -> Mesh:
    """A closed block whose top is a height over a square grid."""
    walls = np.maximum(np.abs(grid)[:, None], np.abs(grid)[None]) - (float(grid[-1]) - 1.0)
    field = np.maximum(np.maximum(z - height[:, :, None], walls[:, :, None]), float(z[0]) + 1.0 - z)
    return zero_mesh(field.astype(np.float32), np.array([grid[0], grid[0], z[0]]), float(grid[1] - grid[0]))


@cache
def bone() -> Bone:
    """A flat table of 20 by 20 mm with four sloping sides."""
    grid, z = np.arange(-26.0, 26.0, 0.5) + 0.0137, np.arange(-18.0, 6.0, 0.5) + 0.0071
    x, y = np.meshgrid(grid, grid, indexing="ij")
    top = -SLOPE * np.maximum(np.maximum(np.abs(x), np.abs(y)) - FLAT_MM, 0.0)
    mesh = block(top, grid, z)
    return Bone("table", "midline", True, 1.0, 7000.0, mesh, np.eye(4), np.full(len(mesh.vertices_mm), 0.05))


@cache
def table() -> Ground:
    low, high = np.array([-20.0, -20.0, -10.0]), np.array([20.0, 20.0, 6.0])
    return ground_of(bone(), Neighbours(()), np.eye(4), low, high, offset_mm=OFFSET_MM)


def drawn(shape: Shape, lowest_mm: float = -12.0) -> tuple[Seat, Shell]:
    seat = make_seat(table(), zones=shape.zones, offset_mm=OFFSET_MM, relief_mm=RELIEF_MM, apart_mm=1.5)
    shell = make_shell(
        table(), seat, footprint_mm=shape.footprint_mm, floor_mm=np.full(shape.zones.shape, lowest_mm),
        cap_mm=np.full(shape.zones.shape, 5.0), outside_mm=OFFSET_MM + 4.0, wall_mm=1.0,
    )  # fmt: skip
    return seat, shell


def underside(lowest_mm: float = -12.0) -> Underside:
    def draw(shape: Shape) -> Mesh:
        seat, shell = drawn(shape, lowest_mm)
        return shell.surface(seat)

    x, y = np.broadcast_arrays(table().lattice.x_mm, table().lattice.y_mm)
    height = -SLOPE * np.maximum(np.maximum(np.abs(x), np.abs(y)) - FLAT_MM, 0.0)
    nothing = Mesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int32))
    return Underside(
        table(), height, draw, offset_mm=OFFSET_MM, outside_mm=OFFSET_MM + 4.0, above=nothing,
        open_=np.zeros(height.shape, dtype=np.bool_),
    )  # fmt: skip


def square(half_mm: float, edge_mm: float = 1.0) -> Shape:
    """A square shell that touches up to ``edge_mm`` inside of its edge."""
    lattice = table().lattice
    out = np.maximum(np.abs(lattice.x_mm), np.abs(lattice.y_mm)) - half_mm
    return Shape(out <= -edge_mm, out)


def made(shape: Shape) -> tuple[Part, list[tuple[str, float]]]:
    seat, shell = drawn(shape)
    return to_part(difference(shell.solid(), seat.solid(), what="shell"), "guide-table"), [("zones", 1.0)]


def sound(part: Part) -> bool:
    return len(part.mesh.faces) > 0


@cache
def shapes() -> tuple[Shape, ...]:
    def frame(values: tuple[float, ...]) -> Shape:
        """A square shell of some half width that touches outside of another square."""
        whole, lattice = square(values[0]), table().lattice
        outside = np.maximum(np.abs(lattice.x_mm), np.abs(lattice.y_mm)) >= values[1]
        return Shape(whole.zones & outside, whole.footprint_mm)

    return finalists(underside(), square(10.0), frame, ((17.0, 13.0), (0.0, 10.0)))


@cache
def found() -> Chosen:
    return best_made(shapes(), made, sound, bone(), np.eye(4))


def test_an_underside_touches_at_the_offset_and_nothing_of_it_is_nearer() -> None:
    under = underside().of(square(14.0))
    assert under is not None
    gap_mm = nearest_mm(
        under.body.points_mm + under.middle_mm, bone().mesh
    )  # of the bone itself: a grid of .6 mm rounds its edges
    assert np.abs(gap_mm[: under.body.carrying] - OFFSET_MM).max() < 0.06
    assert gap_mm.min() > OFFSET_MM - 0.06
    assert gap_mm[under.body.carrying :].max() > RELIEF_MM


def test_the_area_that_touches_is_that_of_the_slopes() -> None:
    flat, sides = 4.0 * FLAT_MM**2, 4.0 * (12.5**2 - FLAT_MM**2) * np.hypot(1.0, SLOPE)
    assert abs(underside().of(square(13.5)).area_mm2 / (flat + sides) - 1.0) < 0.06  # edges of zones are rounded


def test_a_shell_ends_at_its_floor() -> None:
    under, whole = (underside(low).of(square(17.0)) for low in (-1.0, -12.0))
    assert under.area_mm2 < whole.area_mm2
    low_mm = (under.body.points_mm[:, 2] - under.body.seats_mm[:, 2].max()).min()
    assert abs(low_mm + 1.0 + OFFSET_MM) < 0.1


def test_contact_leaves_a_table_for_its_sloping_sides_and_seats_there() -> None:
    assert found().before[1] > 0.9  # a flat contact slides off or stays where it was put down
    assert found().after[1] < found().before[1] / 2.0  # what is left hangs on the table's corners
    assert found().after[0] <= 0.01


def test_chosen_contact_is_no_larger_than_the_plain_one_nor_far_smaller() -> None:
    plain_mm2 = face_areas(made(square(10.0))[0])[CONTACT]
    assert LEAST_AREA * plain_mm2 <= face_areas(found().part)[CONTACT] <= plain_mm2


def test_a_part_that_touches_more_or_cannot_be_made_is_not_chosen() -> None:
    def refuses(shape: Shape) -> tuple[Part, list[tuple[str, float]]]:
        if shape is not shapes()[0]:
            raise DesignError("no", hint="")
        return made(shape)

    for make, may in ((refuses, sound), (made, lambda part: False)):
        kept = best_made(shapes()[:3], make, may, bone(), np.eye(4))
        assert kept.after == kept.before == found().before
    small = square(5.0)
    assert (
        face_areas(best_made((small, *shapes()[1:3]), made, sound, bone(), np.eye(4)).part)[CONTACT]
        <= face_areas(made(small)[0])[CONTACT]
    )


def test_what_is_chosen_seats_no_worse_than_a_plain_shell_that_seats_well() -> None:
    chosen = next(one for one in shapes() if np.array_equal(made(one)[0].mesh.vertices_mm, found().part.mesh.vertices_mm))
    again = best_made((chosen, square(10.0)), made, sound, bone(), np.eye(4))
    assert again.after[1] <= again.before[1] < found().before[1] / 2.0


def test_figures_name_both_shares_before_and_after() -> None:
    figures = dict(found().figures)
    assert figures["zones"] == 1.0
    assert figures["contact_stuck_or_lost_percent_before"] == 100.0 * found().before[1]
    assert figures["contact_wrong_seats_percent_after"] == 100.0 * found().after[0]
