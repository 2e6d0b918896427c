"""The error budget against closed forms: facts, DEVICES 4, and METHODS C.6."""

from __future__ import annotations

import math

import numpy as np
import pytest

from batchone.design.budget import drill, saw
from batchone.design.budget.breach import breach
from batchone.design.budget.drill import drilled
from batchone.design.budget.play import aside_mm, in_sleeve, in_slot, tilt_deg
from batchone.design.budget.rim import PLATES_SIGMA_MM, Rim, at_rim
from batchone.design.budget.saw import between_deg, sawn
from batchone.design.budget.sources import Seats
from batchone.design.seating.settle import Poses
from batchone.design.seating.uniqueness import turns
from batchone.pipeline.values import Axis, FloatArray, Mesh
from batchone.slicer.profiles import load_process

COUNT = 10_000
EXACT = load_process("pa12-sls").model_copy(update={"tolerance_mm": 1e-9})
PROCESS = load_process("pa12-sls")


def still(count: int = COUNT) -> Poses:
    return Poses(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)))


def seats(sure: Poses | None = None, unsure: Poses | None = None) -> Seats:
    return Seats(sure or still(), unsure or sure or still(), np.eye(4))


def lead(clearance_mm: float, led_mm: float, below_mm: float, *, drawn: bool = False) -> drill.Lead:
    return drill.Lead(Axis("way", (1.0, 2.0, 3.0), (0.0, 0.0, -1.0), below_mm), clearance_mm, led_mm, 0.0, drawn)


def slot(clearance_mm: float = 0.5, led_mm: float = 15.0, depth_mm: float = 50.0) -> saw.Lead:
    return saw.Lead(
        (0.0, 0.0, 0.0), np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0]), depth_mm, clearance_mm, led_mm, 0.0, 25.0
    )


@pytest.mark.parametrize(
    ("clearance", "led", "below", "degrees", "millimetres"),
    [(0.1, 15.0, 30.0, 0.38, 0.25), (0.2, 10.0, 30.0, 1.15, 0.70), (0.2, 20.0, 30.0, 0.57, 0.40), (0.41, 4.0, 0.0, 5.85, 0.205)],
)
def test_tilt_and_offset_of_a_sleeve_are_those_of_the_literature(
    clearance: float, led: float, below: float, degrees: float, millimetres: float
) -> None:
    assert tilt_deg(clearance, led) == pytest.approx(degrees, rel=0.01)
    assert aside_mm(clearance, led, below) == pytest.approx(millimetres, rel=0.01)


@pytest.mark.parametrize(
    ("clearance", "led", "degrees"), [(0.5, 15.0, 1.91), (0.5, 10.0, 2.86), (0.8, 15.0, 3.05), (0.1, 15.0, 0.38)]
)
def test_tilt_of_a_slot_is_that_of_the_literature(clearance: float, led: float, degrees: float) -> None:
    assert tilt_deg(clearance, led) == pytest.approx(degrees, rel=0.01)


@pytest.mark.parametrize(("clearance", "led", "below"), [(0.2, 10.0, 30.0), (0.1, 15.0, 30.0), (0.41, 4.0, 12.0)])
def test_no_sample_of_a_sleeve_passes_the_worst_case_and_some_reach_it(clearance: float, led: float, below: float) -> None:
    play = in_sleeve(np.random.default_rng(1), np.full(400_000, clearance), led)
    off = np.linalg.norm(play.at(below), axis=1)
    tilt = np.degrees(np.arctan(np.linalg.norm(play.slope, axis=1)))
    worst_mm, worst_deg = aside_mm(clearance, led, below), tilt_deg(clearance, led)
    assert off.max() <= worst_mm + 1e-12
    assert off.max() == pytest.approx(worst_mm, rel=0.02)  # uniform samples come near the corner, and do not reach it
    assert tilt.max() == pytest.approx(worst_deg, rel=0.02)
    assert tilt.max() <= worst_deg + 1e-12


def test_samples_of_a_slot_are_those_of_the_facts() -> None:
    """c 0.5, L 15, 50 deep: worst 1.91 deg and 1.92 mm, P95 1.52 and 1.59 (METHODS C.6)."""
    low, slope = in_slot(np.random.default_rng(2), np.full(200_000, 0.5), 15.0)
    off, tilt = np.abs(low + 50.0 * slope), np.degrees(np.arctan(np.abs(slope)))
    assert off.max() == pytest.approx(1.92, rel=0.01)
    assert tilt.max() == pytest.approx(1.91, rel=0.01)
    assert np.percentile(off, 95) == pytest.approx(1.52, rel=0.05)
    assert np.percentile(tilt, 95) == pytest.approx(1.48, rel=0.05)


def test_a_guide_that_sits_and_is_made_as_drawn_leaves_the_play_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "HOLE_SIGMA_MM", 0.0)
    found = drilled(lead(0.2, 10.0, 30.0), seats(), EXACT).errors
    assert found.mm.max() <= 0.70 * 1.001
    assert found.deg.max() <= 1.15 * 1.001
    assert found.percentile(95.0)[0] == pytest.approx(0.82 * 0.70, rel=0.06)  # METHODS C.6: 0.82 of the worst case
    assert dict(found.shares)["clearance"] == pytest.approx(1.0)
    assert found.largest[0] == "clearance"


def test_a_turned_seat_turns_the_drill_by_as_much() -> None:
    tilt = np.tile(np.radians([2.0, 0.0, 0.0]), (COUNT, 1))
    sure = Poses(turns(tilt), np.zeros((COUNT, 3)))
    found = drilled(lead(0.0, 10.0, 30.0), seats(sure), EXACT).errors
    assert np.median(found.deg) == pytest.approx(2.0, abs=0.1)
    assert found.largest[0] == "seating"


def test_shares_tell_bone_from_seating() -> None:
    rng = np.random.default_rng(3)
    sure, unsure = (
        Poses(still().turn, np.column_stack([sigma * rng.standard_normal((COUNT, 2)), np.zeros(COUNT)])) for sigma in (0.1, 0.5)
    )
    shares = dict(drilled(lead(0.01, 15.0, 30.0), seats(sure, unsure), EXACT).errors.shares)
    assert shares["bone"] / shares["seating"] == pytest.approx(24.0, rel=0.1)
    assert sum(shares.values()) == pytest.approx(1.0)


def test_a_drawn_plan_adds_its_own_error() -> None:
    shares = [
        dict(drilled(lead(0.2, 15.0, 30.0, drawn=drawn), seats(), PROCESS).errors.shares)["plan"] for drawn in (False, True)
    ]
    assert shares[0] == 0.0
    assert shares[1] > 0.05


def test_the_same_seed_gives_the_same_samples() -> None:
    one, other = (drilled(lead(0.2, 10.0, 30.0), seats(), PROCESS).errors.mm for _ in range(2))
    assert np.array_equal(one, other)


def test_two_cuts_of_one_guide_err_by_their_slots_and_not_by_its_seat() -> None:
    tilt = np.tile(np.radians([5.0, 0.0, 0.0]), (COUNT, 1))
    turned = seats(Poses(turns(tilt), np.zeros((COUNT, 3))))
    one, other = (sawn(slot(), turned, EXACT, seed=seed) for seed in (1, 2))
    assert np.percentile(one.errors.deg, 50) > 4.0
    assert np.percentile(between_deg(one, other), 95) < 3.0


def test_a_saw_in_a_slot_alone_errs_by_its_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saw, "HOLE_SIGMA_MM", 0.0)
    found = sawn(slot(), seats(), EXACT)
    assert found.errors.mm.max() == pytest.approx(1.92, rel=0.02)
    assert np.abs(found.wedge_deg).max() == pytest.approx(1.91, rel=0.02)


def slab(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    import trimesh

    box = trimesh.creation.box(bounds=[low, high]).subdivide_to_size(2.0)
    return Mesh(np.asarray(box.vertices), np.asarray(box.faces, dtype=np.int32))


class TestBreach:
    """A straight pedicle to the left of the middle: x from 8 to 16 mm, 40 mm long; a screw of 4 mm has 2 mm on each side."""

    BONE = ((8.0, -30.0, -5.0), (16.0, 30.0, 5.0))

    def found(self, aside_mm: FloatArray, radius_mm: float = 2.0) -> dict[str, float]:
        entries = np.column_stack([12.0 + aside_mm, np.full(len(aside_mm), 29.0), np.zeros(len(aside_mm))])
        result = breach(
            slab(*self.BONE), entries, np.tile([0.0, -1.0, 0.0], (len(aside_mm), 1)), radius_mm=radius_mm, from_mm=5.0,
            to_mm=40.0, left=True, wall_errors_mm=np.zeros(len(aside_mm)),
        )  # fmt: skip
        return {**dict(result.classes), **dict(result.walls)}

    @pytest.mark.parametrize(("aside", "grade"), [(-1.7, "A"), (-2.3, "B"), (-3.7, "B"), (-4.3, "C"), (-6.4, "D"), (-8.6, "E")])
    def test_each_class_begins_where_it_should(self, aside: float, grade: str) -> None:
        assert self.found(np.array([aside]))[grade] == 1.0

    def test_the_worst_place_of_a_way_is_where_its_screws_leave_the_bone(self) -> None:
        """Screws that turn towards the canal as they go: their ends are furthest out."""
        turned = np.tile(np.array([-0.1, -1.0, 0.0]) / np.hypot(0.1, 1.0), (50, 1))
        found = breach(
            slab(*self.BONE), np.tile([12.0, 29.0, 0.0], (50, 1)), turned, radius_mm=2.0, from_mm=5.0, to_mm=40.0, left=True,
            wall_errors_mm=np.zeros(50),
        )  # fmt: skip
        assert found.along_mm == pytest.approx(40.0, abs=0.5)

    def test_walls_are_told_apart(self) -> None:
        found = self.found(np.array([-3.0, 3.0, 3.0, 0.0]))
        assert (found["medial"], found["lateral"], found["A"]) == (0.25, 0.5, 0.25)

    def test_a_normal_error_breaches_as_its_integral_says(self) -> None:
        """2 mm of room and an error of 1 mm: 2.28 % on each side."""
        found = self.found(np.random.default_rng(4).standard_normal(40_000))
        assert found["medial"] == pytest.approx(0.0228, abs=0.003)
        assert found["lateral"] == pytest.approx(0.0228, abs=0.003)


def ring(gap_mm: float, *, slope: float = 0.0, stations: int = 240) -> Rim:
    """A round rim, 100 mm across."""
    turn = 2.0 * np.pi * np.arange(stations) / stations
    outward = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return Rim(np.full(stations, gap_mm), np.zeros(stations), np.full(stations, slope), 50.0 * outward, outward)


def test_an_implant_lies_anywhere_in_a_round_gap() -> None:
    found = at_rim(ring(0.6), EXACT, bone_mm=0.0, drawn=False)
    for percent in (50.0, 95.0):
        assert np.percentile(found.gap_mm, percent) == pytest.approx(0.6 * (1.0 + np.sqrt(percent / 100.0)), rel=0.01)
    assert not found.tight.any()
    assert dict(found.gap_shares)["shift"] == pytest.approx(1.0)


def test_the_step_is_what_plates_leave_and_what_a_shift_along_a_sloping_skull_adds() -> None:
    flat, steep = (at_rim(ring(0.6, slope=slope), EXACT, bone_mm=0.0, drawn=False) for slope in (0.0, 0.5))
    rng = np.random.default_rng(3)
    lift, tilt = PLATES_SIGMA_MM * rng.standard_normal(200_000), PLATES_SIGMA_MM * np.sqrt(rng.chisquare(2, 200_000))
    assert np.percentile(flat.step_mm, 95.0) == pytest.approx(np.percentile(np.abs(lift) + tilt, 95.0), rel=0.02)
    assert dict(flat.step_shares)["plates"] == pytest.approx(1.0)
    # mean squares: of a shift within a disc, a quarter of radius squared along any line; of plates, lift and half of two tilts
    moved, held = 0.25 * (0.6 * 0.5) ** 2, PLATES_SIGMA_MM**2 * (1.0 + 0.5 * 2.0)
    assert dict(steep.step_shares)["shift"] == pytest.approx(moved / (moved + held), rel=0.05)


def test_implants_are_too_wide_as_often_as_process_and_bone_say() -> None:
    sigma = 0.25 * PROCESS.tolerance_mm
    found = at_rim(ring(0.2), PROCESS, bone_mm=0.15, drawn=False)
    expected = 0.5 * math.erfc(0.2 / math.hypot(sigma, 0.15) / math.sqrt(2.0))
    assert found.tight.mean() == pytest.approx(expected, rel=0.06)
    assert dict(found.gap_shares)["bone"] / dict(found.gap_shares)["process"] == pytest.approx((0.15 / sigma) ** 2, rel=0.05)
    again = at_rim(ring(0.2), PROCESS, bone_mm=0.15, drawn=False)
    assert (found.gap_mm == again.gap_mm).all()


def test_a_drawn_rim_adds_to_the_gap() -> None:
    proposed, drawn = (at_rim(ring(0.5), PROCESS, bone_mm=0.1, drawn=drawn) for drawn in (False, True))
    assert np.percentile(drawn.gap_mm, 95.0) > np.percentile(proposed.gap_mm, 95.0) + 0.1
    assert dict(proposed.gap_shares)["plan"] == 0.0 < dict(drawn.gap_shares)["plan"]
