"""Time of G-code: single moves by hand, junctions by their rule, and what makes a file unreadable."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchone.pipeline.errors import MachineError
from batchone.slicer.motion import planned_s, simulate, trapezoid_s
from batchone.slicer.moves import ACCELERATION, CRUISE, JUNCTION, LENGTH, OTHER, OUTLINE, PART, STOP, SUPPORT, read_moves

# no axis may jump: every move starts and ends at rest unless it goes straight on
STILL = "M201 X5000 Y5000 Z5000 E5000\nM203 X500 Y500 Z500 E500\nM204 P1000 R500 T2000\nM205 X0 Y0 Z0 E0\nG90\nM83\n"


def seconds(lines: str, head: str = STILL) -> float:
    return simulate(read_moves((head + lines).encode())).seconds


def test_a_long_move_is_a_trapezoid_and_a_short_one_a_triangle() -> None:
    # 50 mm at 100 mm/s and 1000 mm/s2: 0.1 s up over 5 mm, 40 mm at 100 mm/s, 0.1 s down
    assert seconds("G1 X50 E1 F6000") == pytest.approx(0.1 + 0.4 + 0.1)
    # 2.5 mm: 1.25 mm up in sqrt(2 x 1.25 / 1000) s, and down again
    assert seconds("G1 X2.5 E1 F6000") == pytest.approx(2.0 * math.sqrt(2.0 * 1.25 / 1000.0))
    # travel has its own acceleration, and so has filament alone
    assert seconds("G1 X50 F6000") == pytest.approx(0.05 + 0.05 + (50.0 - 5.0) / 100.0)
    assert seconds("G1 E-2 F6000") == pytest.approx(2.0 * math.sqrt(2.0 / 500.0))


def test_jerk_is_where_a_move_starts_and_stops() -> None:
    head = STILL.replace("M205 X0 Y0", "M205 X10 Y10").replace("E0", "E10")
    # from 10 to 100 and back to 10 mm/s at 1000 mm/s2
    assert seconds("G1 X50 E0.001 F6000", head) == pytest.approx(0.18 + (50.0 - 2 * (100.0**2 - 10.0**2) / 2000.0) / 100.0)


def test_straight_on_costs_no_stop_a_corner_does() -> None:
    whole = seconds("G1 X60 E1.2 F6000")
    assert seconds("G1 X20 E.4 F6000\nG1 X40 E.4\nG1 X60 E.4") == pytest.approx(whole, rel=1e-9)
    assert seconds("G1 X30 E.6 F6000\nG1 Y30 E.6") == pytest.approx(2.0 * seconds("G1 X30 E.6 F6000"))
    loose = STILL.replace("X0 Y0", "X8 Y8").replace("E0", "E9")  # a corner at 8 mm/s
    rest = (100.0 - 8.0) / 1000.0
    one = 2 * rest + (30.0 - (100.0**2 - 8.0**2) / 1000.0) / 100.0
    assert seconds("G1 X30 E.001 F6000\nG1 Y30 E.001", loose) == pytest.approx(2.0 * one, rel=1e-6)


def test_the_slowest_axis_sets_the_pace() -> None:
    slow_z = STILL.replace("Z500 E500", "Z10 E500").replace("Y5000 Z5000", "Y5000 Z100")
    # 20 mm of height at 10 mm/s and 100 mm/s2
    assert seconds("G1 Z20 F6000", slow_z) == pytest.approx(0.1 + 0.1 + (20.0 - 1.0) / 10.0)


def test_dwelling_and_layers_are_counted_where_they_are() -> None:
    text = STILL + "G1 X10 E1 F6000\n;LAYER_CHANGE\nG4 P500\nG1 X20 E1\n;LAYER_CHANGE\nG1 X30 E1\nG4 S2\n"
    found = simulate(read_moves(text.encode()))
    move = 2.0 * math.sqrt(10.0 / 1000.0)
    half = trapezoid_s(10.0, 0.0, 100.0, 100.0, 1000.0) + trapezoid_s(10.0, 100.0, 100.0, 0.0, 1000.0)  # 10 mm up, 10 mm down
    np.testing.assert_allclose(found.layer_s, [move, 0.5 + half / 2.0, half / 2.0 + 2.0], rtol=1e-9)
    assert found.filament_mm == pytest.approx(3.0)


def test_retracted_filament_is_not_used_up() -> None:
    assert simulate(
        read_moves((STILL + "G1 X9 E5 F600\nG1 E-2\nG1 X0\nG1 E2\nG1 X9 E1\n").encode())
    ).filament_mm == pytest.approx(6.0)


def test_relative_and_absolute_places_are_the_same_way() -> None:
    here = read_moves((STILL + "G1 X10 Y5 E1 F600\nG1 X4 E.5").encode()).table
    there = read_moves((STILL.replace("G90", "G91") + "M83\nG1 X10 Y5 E1 F600\nG1 X-6 E.5").encode()).table
    zeroed = read_moves((STILL.replace("M83", "M82") + "G1 X10 Y5 E1 F600\nG92 E0\nG1 X4 E.5").encode()).table
    np.testing.assert_allclose(here, there, atol=1e-12)
    np.testing.assert_allclose(here, zeroed, atol=1e-12)


def test_what_is_extruded_is_told_by_its_comment() -> None:
    kinds = (
        "Custom",
        "Skirt/Brim",
        "Support material interface",
        "External perimeter",
        "Overhang perimeter",
        "Gap fill",
        "Solid infill",
    )
    text = STILL + "F600\n" + "".join(f";TYPE:{kind}\nG1 X{k + 1} E1 F600\n" for k, kind in enumerate(kinds))
    assert read_moves(text.encode()).role.tolist() == [OTHER, OTHER, SUPPORT, OUTLINE, OUTLINE, PART, PART]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("G2 X5 Y5 I1 J1 F600", "arcs"),
        ("G20", "inches"),
        ("G10", "firmware retraction"),
        ("M221 S90", "overrides"),
        ("G1 Xabc F600", "number"),
        ("G1 X1e5 F600", "number"),
        ("G1 X5 F0", "without speed"),
        ("G1 X F600", "number"),
    ],
)
def test_what_would_be_misread_is_refused_with_its_line(line: str, what: str) -> None:
    with pytest.raises(MachineError, match=f"{what}.* in line 8"):
        read_moves((STILL + "G1 X1 F600\n" + line + "\n").encode())


@pytest.mark.parametrize("data", [b"", b"\n\n", b"; nothing\nM104 S200\n", b"\x00\xff\xfe", b"G"])
def test_a_file_without_moves_is_refused(data: bytes) -> None:
    with pytest.raises(MachineError, match="no moves"):
        read_moves(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    try:
        found = simulate(read_moves(STILL.encode() + b"G1 X1 F600\n" + tail))
    except MachineError:
        return
    assert found.seconds > 0.0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_speeds_are_within_every_limit_and_no_plan_is_faster_than_its_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    table = np.zeros((count, 11))
    table[:, LENGTH], table[:, CRUISE] = rng.uniform(0.01, 20.0, count), rng.uniform(5.0, 150.0, count)
    table[:, ACCELERATION] = rng.uniform(100.0, 3000.0, count)
    table[:, STOP] = np.minimum(table[:, CRUISE], rng.uniform(0.0, 10.0, count))
    before = np.minimum(table[:, CRUISE], np.roll(table[:, CRUISE], 1))
    table[:, JUNCTION] = before * rng.uniform(0.0, 1.0, count)
    table[0, JUNCTION], table[0, 10] = table[0, STOP], 1.0
    made = planned_s(table)
    assert (made >= table[:, LENGTH] / table[:, CRUISE] - 1e-12).all()
    stops = table.copy()  # from rest to rest each
    stops[:, JUNCTION] = stops[:, STOP] = 0.0
    assert made.sum() <= planned_s(stops).sum() + 1e-9
    slower = table.copy()
    slower[:, ACCELERATION] *= 0.5
    assert planned_s(slower).sum() >= made.sum() - 1e-9
