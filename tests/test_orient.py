"""Which way up: what of an overhang needs a support, measures against known bodies, the choice, a person's word."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace

import manifold3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchone.design.families import load_families
from batchone.pipeline.errors import CheckFailed, OrderError
from batchone.pipeline.job.orientation_picture import orientation_png
from batchone.pipeline.order import BuildWishes, Order, parse_order
from batchone.pipeline.values import Approval, CheckedDevice, Device, FloatArray, FunctionalFace, Mesh, Part
from batchone.slicer.directions import MEASURES, scores
from batchone.slicer.make import slice_device
from batchone.slicer.orient import functional_finding, stances, stand
from batchone.slicer.overhang import overhang, protected, surface, unreachable_mm2
from batchone.slicer.profiles import load_machine, load_process

Solid = manifold3d.Manifold
TI, RESIN, POWDER, PEEK = (load_process(name) for name in ("ti64-lpbf", "guide-resin", "pa12-sls", "peek-fff"))
BOX_MM = (240.0, 240.0, 325.0)
UP = np.array([0.0, 0.0, 1.0])
STRICT = TI.model_copy(update={"least_support_mm2": 0.0})


def part_of(solid: Solid, *, functional: tuple[float, float, float] | None = None) -> Part:
    """A part; its faces with that normal are functional."""
    out = solid.to_mesh64()
    mesh = Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))
    corners = mesh.vertices_mm[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    wanted = np.array(functional or (0.0, 0.0, 0.0))
    facing = cross @ wanted > 0.999 * np.linalg.norm(cross, axis=1) if functional else np.zeros(len(cross), dtype=np.bool_)
    return Part("part", mesh, facing.astype(np.int16), ("rest", "contact"), (FunctionalFace("contact", "fit", 0.1),))


def in_need(solid: Solid, process: object, up: FloatArray = UP) -> float:
    """Area above the bottom that needs a support, mm2: what lies on the plate always does."""
    part = part_of(solid)
    found = overhang(surface(part), up, process)  # type: ignore[arg-type]
    middles = part.mesh.vertices_mm[part.mesh.faces].mean(axis=1) @ up
    return float(found.needing_mm2[middles > middles.min() + 0.5].sum())


def holed(diameter_mm: float) -> Solid:
    return Solid.cube((20, 20, 20), True) - Solid.cylinder(60, diameter_mm / 2, diameter_mm / 2, 96, True).rotate((0, 90, 0))


def slotted(width_mm: float) -> Solid:
    return Solid.cube((60, 20, 20), True) - Solid.cube((width_mm, 40, 5), True)


def shelf(width_mm: float) -> Solid:
    return Solid.cube((10, 10, 20), True) + Solid.cube((width_mm, 10, 2)).translate((5, -5, 3))


@pytest.mark.parametrize(
    ("body", "process", "inside_mm", "outside_mm"),
    [
        (holed, STRICT, 5.9, 6.2), (slotted, STRICT, 1.9, 2.1), (shelf, STRICT, 0.45, 0.6),
        (slotted, RESIN, 20.9, 21.3), (shelf, RESIN, 0.95, 1.1),
    ],
)  # fmt: skip
def test_holes_bridges_and_ledges_are_free_up_to_their_limit(body, process, inside_mm, outside_mm) -> None:  # type: ignore[no-untyped-def]
    assert in_need(body(inside_mm), process) == 0.0
    assert in_need(body(outside_mm), process) > 0.0


@pytest.mark.parametrize(
    ("process", "wide_mm", "inside_mm", "outside_mm"), [(RESIN, 0.4, 1.95, 2.3), (TI, 1.0, 2.6, 2.9), (PEEK, 0.4, 0.75, 0.95)]
)
def test_what_is_small_is_free_as_far_as_a_square_of_it_beyond_the_ledge(process, wide_mm, inside_mm, outside_mm) -> None:  # type: ignore[no-untyped-def]
    """A rib is narrow however far it stands out."""
    for reach_mm, needs in ((inside_mm, False), (outside_mm, True), (3.4, True)):
        rib = Solid.cube((10, 10, 20), True) + Solid.cube((reach_mm, wide_mm, 1)).translate((5, 0, 3))
        assert (in_need(rib, process) > 0.0) is needs


@pytest.mark.parametrize("tilt", [(0.0, 5.0, 0.0), (0.0, 30.0, 0.0), (30.0, 0.0, 0.0)])
def test_a_small_hole_is_free_however_it_slopes(tilt: tuple[float, float, float]) -> None:
    found = overhang(surface(part_of(holed(2.0).rotate(tilt))), UP, STRICT)
    assert found.needing_mm2.sum() == pytest.approx(400.0)  # the block's lower side alone


@pytest.mark.parametrize(("slope_deg", "needs"), [(44.9, False), (45.1, True)])
def test_a_slope_needs_a_support_beyond_the_limit(slope_deg: float, needs: bool) -> None:
    reach = 10.0 * math.tan(math.radians(slope_deg))
    corbel = manifold3d.CrossSection([[(0, 0), (5, 0), (5, 10), (5 + reach, 20), (0, 20)]])
    solid = Solid.extrude(corbel, 10.0).rotate((90, 0, 0))
    assert (in_need(solid, TI) > 0.0) is needs


def test_a_ball_needs_its_cap_of_closed_form_and_a_table_all_but_a_ledge_about_its_leg() -> None:
    found = overhang(surface(part_of(Solid.sphere(5, 192))), UP, TI)
    assert found.needing_mm2.sum() == pytest.approx(2 * math.pi * 25 * (1 - math.sin(math.pi / 4)), rel=0.01)  # faceting
    table = Solid.cube((4, 4, 20), True).translate((0, 0, -9)) + Solid.cube((20, 20, 2), True).translate((0, 0, 2))
    ledge = 5.0**2 - 4.0**2  # 0.5 mm all round, rounded at the corners
    assert in_need(table, TI) == pytest.approx(400 - 16 - ledge, abs=2.0)


def test_a_tip_that_begins_in_the_air_needs_a_support_however_steep_it_is() -> None:
    def hanging(low_mm: float) -> Solid:
        cone = Solid.cylinder(6, 0.0, 1.0, 48).translate((20, 0, low_mm))
        return Solid.cube((6, 6, 30), True).translate((0, 0, 15)) + Solid.cube((20, 1, 1)).translate((0, -0.5, low_mm + 5)) + cone

    part = part_of(hanging(10.0))
    needing = overhang(surface(part), UP, RESIN).needing
    tip = np.flatnonzero(np.all(np.abs(part.mesh.vertices_mm - [20, 0, 10]) < 1e-6, axis=1))
    assert needing[np.isin(part.mesh.faces, tip).any(axis=1)].all()


def test_nothing_needs_a_support_in_powder_and_only_functional_faces_are_protected() -> None:
    part = part_of(Solid.cube((30, 20, 6)), functional=(0.0, 0.0, -1.0))
    found = overhang(surface(part), UP, POWDER)
    assert not found.needing.any()
    assert not found.functional.any()
    found = overhang(surface(part), UP, TI)
    assert np.array_equal(found.functional, protected(part))
    assert found.functional.sum() == 2
    assert np.array_equal(found.needing, found.functional)


# measures of a direction


def measured(solid: Solid, up: FloatArray = UP) -> dict[str, float]:
    return dict(zip(MEASURES, scores(surface(part_of(solid)), up[None], TI)[0].tolist(), strict=True))


def test_supports_reach_to_the_plate_or_to_the_part_below() -> None:
    table = measured(Solid.cube((4, 4, 20), True).translate((0, 0, -9)) + Solid.cube((20, 20, 2), True).translate((0, 0, 2)))
    assert table["support_mm3"] == pytest.approx((400 - 16) * 20, rel=1e-6)
    assert table["section_mm2"] == pytest.approx(400, rel=1e-6)
    assert table["height_mm"] == pytest.approx(22, rel=1e-9)
    window = measured(Solid.cube((40, 20, 30)) - Solid.cube((20, 30, 10)).translate((10, -5, 10)))
    assert window["support_mm3"] == pytest.approx(20 * 20 * 10, rel=1e-6)
    assert window["contact_mm2"] == pytest.approx(800 + 2 * 400, rel=1e-6)  # bottom, and the window's roof and floor
    assert window["section_mm2"] == pytest.approx(800, rel=1e-6)
    assert table["powder_mm3"] == 0.0
    assert window["powder_mm3"] == pytest.approx(20 * 20 * 10, rel=1e-6)


def test_powder_leaves_a_tube_that_stands_and_stays_in_one_that_lies() -> None:
    tube = Solid.cylinder(40, 8, 8, 96) - Solid.cylinder(42, 5, 5, 96).translate((0, 0, -1))
    assert measured(tube)["powder_mm3"] == 0.0
    lying = measured(tube, np.array([0.6, 0.8, 0.0]))
    assert lying["powder_mm3"] == pytest.approx(math.pi * 25 * 40, rel=0.06)  # cells of 1/48
    blind = tube + Solid.cylinder(2, 8, 8, 96)
    assert measured(blind)["powder_mm3"] == 0.0
    shut = measured(blind, -UP)["powder_mm3"]  # mouth down: the plate closes it
    assert shut == pytest.approx(math.pi * 25 * 38, rel=0.01)
    notched = measured(blind - Solid.cube((20, 4, 25)).translate((0, -2, 20)), -UP)["powder_mm3"]
    assert notched == pytest.approx(math.pi * 25 * 18, rel=0.1)  # it falls out sideways up to the notch's end


@pytest.mark.parametrize("tilt_deg", [0.0, 25.0])
def test_powder_leaves_what_is_open_to_a_side_above_the_plate(tilt_deg: float) -> None:
    """A bowl with its mouth up holds what can be poured out, and stands free; with its mouth down the plate closes it."""
    up = np.array([math.sin(math.radians(tilt_deg)), 0.0, math.cos(math.radians(tilt_deg))])
    bowl = (Solid.sphere(20, 96) - Solid.sphere(17, 96)) ^ Solid.cube((50, 50, 25)).translate((-25, -25, -25))
    assert measured(bowl)["powder_mm3"] == 0.0
    inside_mm3 = 2.0 / 3.0 * math.pi * 17.0**3
    assert measured(bowl, -up)["powder_mm3"] > (0.9 if tilt_deg == 0.0 else 0.2) * inside_mm3
    assert measured(bowl, -UP)["powder_mm3"] == pytest.approx(inside_mm3, rel=0.1)


def test_a_ball_has_its_closed_forms_in_every_direction() -> None:
    directions = np.random.default_rng(3).normal(size=(40, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    table = scores(surface(part_of(Solid.sphere(20, 128))), directions, TI)
    limit = math.sin(math.pi / 4)
    wanted = {
        "overhang_mm2": 2 * math.pi * 400 * (1 - limit),
        "section_mm2": math.pi * 400,
        "shrink_mm2": 0.8 * math.pi * 400,  # integral of A^2 over that of A
        "support_mm3": math.pi * 20**3 * ((1 - limit**2) - 2 / 3 * (1 - limit**3)),
    }
    for name, value in wanted.items():
        np.testing.assert_allclose(table[:, MEASURES.index(name)], value, rtol=0.06, err_msg=name)  # cells of 1/48


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: math.hypot(*v) > 0.1), st.integers(0, 5))
def test_measures_move_with_the_part(axis: tuple[float, float, float], quarter: int) -> None:
    up = np.array(axis) / math.hypot(*axis)
    part = part_of(Solid.cube((30, 20, 6)) + Solid.cylinder(20, 4, 3, 24).translate((8, 8, 0)))
    turn = np.linalg.qr(np.random.default_rng(quarter).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, (5.0, -80.0, 30.0)
    moved = replace(part, mesh=part.mesh.moved(pose))
    one, other = scores(surface(part), up[None], TI)[0], scores(surface(moved), (turn @ up)[None], TI)[0]
    exact = [MEASURES.index(name) for name in ("overhang_mm2", "functional_mm2", "stair_mm", "height_mm")]
    np.testing.assert_allclose(other[exact], one[exact], rtol=1e-6, atol=1e-6)


# the choice


def test_the_table_of_directions_goes_with_the_stance_and_the_next_best_are_not_beaten() -> None:
    stance = stand(part_of(Solid.cube((30, 20, 6)), functional=(0.0, 0.0, -1.0)), TI, box_mm=BOX_MM)
    of = stance.orientation
    assert of is not None
    assert not of.fixed
    assert len(of.costs) >= 1000
    np.testing.assert_allclose(stance.rotation[2], of.directions[of.chosen], atol=1e-12)
    table = of.measures[:, [of.names.index(name) for name in ("height_mm", "support_mm3", "functional_mm2")]]
    for index in of.next_best:
        assert not (np.all(table <= table[index], axis=1) & np.any(table < table[index], axis=1)).any()
    first, second = orientation_png("part", of), orientation_png("part", of)
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_a_way_up_that_protects_comes_before_one_that_does_not() -> None:
    part = part_of(Solid.cube((30, 20, 6)), functional=(0.0, 0.0, -1.0))
    areas = [stance.functional_overhang_mm2 for stance in stances(part, TI, box_mm=(30.1, 20.1, 6.1))]
    assert areas[0] == 0.0
    assert areas[-1] == pytest.approx(600.0)
    assert areas == sorted(areas)


@pytest.mark.parametrize("name", ["peek-fff", "ti64-lpbf"])
def test_what_supports_keep_off_is_known_whoever_makes_them(name: str) -> None:
    """A box whose lower face is functional: all of it hangs as it lies, nothing upside down."""
    of = surface(part_of(Solid.cube((20, 10, 5)), functional=(0.0, 0.0, -1.0)))
    lies, turned = unreachable_mm2(of, np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]), load_process(name))
    assert lies == pytest.approx(200.0)
    assert turned == pytest.approx(0.0)


def checked(part: Part) -> CheckedDevice:
    return CheckedDevice(Device("anatomical-model", (part,)), ())


def order_with(up: dict[str, tuple[float, float, float]]) -> Order:
    model = {"case": "c-1", "device": "anatomical-model", "side": "left", "process": "ti64-lpbf", "machine": "sim-01"}
    table = {**model, "due": dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "prescription": {"prescriber": "c"}, "build": {"up": up}}
    return parse_order(table, {name: family.parameters for name, family in load_families().items()})


def test_a_person_fixes_the_direction_and_is_refused_where_functional_faces_would_need_supports() -> None:
    approval = Approval("TEST^ALPHA", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "release", "ab" * 32, "")
    machine = load_machine("sim-01")
    part = part_of(Solid.cube((30, 20, 6)), functional=(0.0, 0.0, -1.0))
    build = slice_device(checked(part), approval, TI, machine, order_with({"part": (0.0, 0.6, 0.8)[::-1]}))
    placed = build.placements[0]
    assert placed.orientation is not None
    assert placed.orientation.fixed
    np.testing.assert_allclose(placed.pose[2, :3], [0.8, 0.6, 0.0], atol=1e-9)
    with pytest.raises(CheckFailed, match=r"contact\) is 600\.0 mm2, at most 0 mm2") as refused:
        slice_device(checked(part), approval, TI, machine, order_with({"part": (0.0, 0.0, 1.0)}))
    assert refused.value.exit_code == 4
    assert "another direction" in refused.value.hint
    with pytest.raises(OrderError, match="'lid'; the parts are part"):
        slice_device(checked(part), approval, TI, machine, order_with({"lid": (0.0, 0.0, 1.0)}))


def test_a_device_all_of_whose_sides_are_functional_is_refused() -> None:
    part = part_of(Solid.cube((30, 20, 6)))
    part = replace(part, face_labels=np.ones(len(part.face_labels), np.int16))
    stance = stand(part, TI, box_mm=BOX_MM)
    finding = functional_finding(part, stance, TI)
    assert finding.verdict == "fail"
    assert finding.value == stance.functional_overhang_mm2 > 5.0
    assert functional_finding(part, stand(part, POWDER, box_mm=BOX_MM), POWDER).verdict == "pass"


@pytest.mark.parametrize("length", [1.0 - 2e-6, 0.5, 0.0])
def test_a_fixed_direction_has_length_one(length: float) -> None:
    with pytest.raises(OrderError, match=r"up of part 'part' has length .* must be 1 within 1e-06"):
        order_with({"part": (0.0, 0.0, length)})
    assert BuildWishes(up={"part": (0.0, 0.0, 1.0 + 5e-7)}).up["part"][2] > 1.0
