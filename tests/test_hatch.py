"""Lines of the laser: where they lie against shapely, their order, the file that holds them, and the time they take."""

from __future__ import annotations

import io
import math
import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import test_cli_format as shapes
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapely.geometry import LineString, Polygon

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.layer_picture import layer_png
from batchone.pipeline.process import ScanStrategy, Skin
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.cli_header import SHORT_UNIT_MM
from batchone.slicer.exposure import Exposure, expose
from batchone.slicer.hatch import Hatches, hatch, lengths_mm, no_hatches
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.profiles import load_process
from batchone.slicer.readback import _hatch_findings
from batchone.slicer.scan_time import drawn_s

SHORT_BODY, SHORT_HEADER, SQUARE, plug, stack = (
    shapes.SHORT_BODY,
    shapes.SHORT_HEADER,
    shapes.SQUARE,
    shapes.plug,
    shapes.stack,
)

SCAN = ScanStrategy(
    hatch_mm=0.1, beam_mm=0.05, hatch_gap_mm=0.05, first_deg=0.0, turn_deg=67.0, least_mm=0.001,
    hatch_mm_per_s=1000.0, contour_mm_per_s=500.0, line_s=0.002, corner_s=0.004,
    jump_mm_per_s=5000.0, jump_mm_per_s2=1e6, jump_s=0.001, sources={},
    order=("contour", "core"), parameters={"contour": "contour", "core": "core"},
)  # fmt: skip


def scan(**changes: float | None) -> ScanStrategy:
    return SCAN.model_copy(update=changes)


def with_skins(of: ScanStrategy, *, overlap_mm: float, up: dict[str, Any], down: dict[str, Any]) -> ScanStrategy:
    """The same with skins of one layer, lines as in its core where nothing else is said."""
    every = {"layers": 1, "overlap_mm": overlap_mm, "hatch_mm": of.hatch_mm, "hatch_mm_per_s": of.hatch_mm_per_s, "sources": {}}
    order = ("contour", "down-skin", "core", "up-skin")
    more = {"up_skin": Skin(**{**every, **up}), "down_skin": Skin(**{**every, **down}), "order": order}
    return ScanStrategy.model_validate({**dict(of), **more, "parameters": {region: region for region in order}})


def block(size_mm: float = 10.0, count: int = 1, low_mm: float = 20.0) -> Layers:
    corners = low_mm + size_mm * (SQUARE - 1.0)
    return stack(*((k, corners, size_mm**2) for k in range(count)), count=count)


def turned(layers: Layers, angle_deg: float) -> Layers:
    cos, sin = math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))
    return replace(layers, points_mm=layers.points_mm @ np.array([[cos, sin], [-sin, cos]]))


def test_lines_of_a_square_are_where_arithmetic_puts_them() -> None:
    lines = hatch(block(), SCAN).vectors_mm
    assert len(lines) == 98  # odd multiples of 0.05 mm from 20.15 to 29.85: 20.05 and 29.95 are nearer to the edge than 0.1
    np.testing.assert_allclose(lines[:, 1], lines[:, 3], atol=1e-12)
    np.testing.assert_allclose(np.sort(lines[:, 1]), 20.15 + 0.1 * np.arange(98), atol=1e-9)
    np.testing.assert_allclose(np.sort(lines[:, [0, 2]], axis=1), np.tile([20.1, 29.9], (98, 1)), atol=1e-9)
    assert (np.sign(lines[1:, 2] - lines[1:, 0]) == -np.sign(lines[:-1, 2] - lines[:-1, 0])).all()  # to and fro


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05, 0.2, 0.7]), st.floats(0.0, 179.9))
def test_lines_are_those_of_the_eroded_polygon(seed: int, inset_mm: float, angle_deg: float) -> None:
    rng = np.random.default_rng(seed)

    def star(corners: int, low: float, high: float) -> FloatArray:
        angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, corners))
        return 20.0 + rng.uniform(low, high, corners)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    outer, hole = star(int(rng.integers(8, 50)), 2.0, 8.0), star(int(rng.integers(6, 20)), 0.4, 1.2)
    shape = Polygon(outer, [hole])
    if not shape.is_valid or not Polygon(outer).exterior.is_ccw or not Polygon(hole).exterior.is_ccw:
        return
    layers = stack((0, outer, 1.0), (0, hole[::-1], -1.0), count=1)
    made = hatch(layers, scan(beam_mm=inset_mm, hatch_gap_mm=0.0, first_deg=angle_deg, hatch_mm=0.3, least_mm=1e-6)).vectors_mm
    room = shape.buffer(-inset_mm, quad_segs=128) if inset_mm else shape
    along = np.array([math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))])
    across = np.array([-along[1], along[0]])
    heights = layers.points_mm @ across
    wanted = 0.0
    for k in range(math.floor(heights.min() / 0.3) - 1, math.ceil(heights.max() / 0.3) + 1):
        middle = (k + 0.5) * 0.3 * across
        wanted += room.intersection(LineString([middle - 99.0 * along, middle + 99.0 * along])).length
    assert lengths_mm(made).sum() == pytest.approx(wanted, rel=1e-3, abs=1e-2)
    allowed = room.buffer(2e-3)
    assert all(allowed.contains(LineString(line.reshape(2, 2))) for line in made)


def test_each_layer_is_turned_and_each_part_filled() -> None:
    pair = stack((0, 20.0 + SQUARE, 1.0), (0, 30.0 + SQUARE, 1.0), (1, 20.0 + SQUARE, 1.0), count=2)
    pair = replace(pair, loop_part=np.array([0, 1, 0], dtype=np.int32))
    made = hatch(pair, SCAN)
    assert list(zip(made.layer.tolist(), made.part.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0)]
    for layer, wanted_deg in ((0, 0.0), (1, 67.0)):
        lines = made.of(layer)
        angle = np.degrees(np.arctan2(lines[:, 3] - lines[:, 1], lines[:, 2] - lines[:, 0])) % 180.0
        np.testing.assert_allclose(np.minimum(abs(angle - wanted_deg), 180.0 - abs(angle - wanted_deg)), 0.0, atol=1e-6)
    assert len(made.of(0)) == len(made.of(0, 0)) + len(made.of(0, 1))
    assert made.of(1, 1).shape == (0, 4)


def test_lines_turn_with_the_part_and_are_never_mirrored() -> None:
    hook = np.array([[1.0, 1.0], [9.0, 1.0], [9.0, 3.0], [3.0, 3.0], [3.0, 7.0], [1.0, 7.0]])
    layers = stack((0, hook, 24.0), count=1)
    still, moved = hatch(layers, SCAN).vectors_mm, hatch(turned(layers, 40.0), scan(first_deg=40.0)).vectors_mm
    cos, sin = math.cos(math.radians(40.0)), math.sin(math.radians(40.0))
    wanted = (still.reshape(-1, 2) @ np.array([[cos, sin], [-sin, cos]])).reshape(-1, 4)
    np.testing.assert_allclose(moved, wanted, atol=1e-9)


def test_stripes_cut_lines_and_lose_nothing() -> None:
    whole, cut = hatch(block(), SCAN).vectors_mm, hatch(block(), scan(stripe_mm=3.0, least_mm=0.4)).vectors_mm
    assert lengths_mm(cut).sum() == pytest.approx(lengths_mm(whole).sum(), rel=1e-12)
    assert lengths_mm(cut).max() <= 3.4
    stripes = np.floor(0.5 * (cut[:, 0] + cut[:, 2]) / 3.0)
    assert (np.diff(stripes) >= 0).all()  # one after the other
    begun = np.flatnonzero(np.diff(stripes) > 0) + 1
    assert len(begun) == 3
    jumps = np.hypot(*(cut[1:, :2] - cut[:-1, 2:]).T)
    assert jumps.max() < 3.5  # the next stripe begins beside the end of the last


@pytest.mark.parametrize(("least_mm", "there"), [(0.799, True), (0.801, False)])
def test_a_line_just_shorter_than_the_least_is_left_out(least_mm: float, there: bool) -> None:
    assert (len(hatch(block(1.0), scan(least_mm=least_mm)).vectors_mm) > 0) is there


@pytest.mark.parametrize(("width_mm", "there"), [(0.26, True), (0.19, False)])
def test_a_wall_too_thin_for_the_beam_has_no_lines(width_mm: float, there: bool) -> None:
    wall = 20.0 + (SQUARE - 1.0) * np.array([5.0, width_mm])
    assert (len(hatch(stack((0, wall, 5.0 * width_mm), count=1), SCAN).vectors_mm) > 0) is there


def test_any_number_of_runs_gives_the_same_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, found = block(count=37), []
    for points in (1_000_000, 74, 31, 1):
        monkeypatch.setattr("batchone.slicer.hatch._RUN", points)
        found.append(hatch(layers, SCAN))
    for other in found[1:]:
        np.testing.assert_array_equal(other.vectors_mm, found[0].vectors_mm)
        np.testing.assert_array_equal(other.start, found[0].start)


def plug_hatches(shift_mm: float = 0.0) -> Hatches:
    lines = shift_mm + np.array([[1.1, 1.1, 1.9, 1.1], [1.9, 1.2, 1.1, 1.2], [1.1, 1.1, 1.1, 1.9]])
    return Hatches(lines, np.array([0, 2, 3]), np.array([0, 1], dtype=np.int32), np.zeros(2, dtype=np.int32))


def test_hatches_have_exactly_the_bytes_of_the_specification() -> None:
    at = SHORT_BODY.index(struct.pack("<2H", 128, 40))
    first = struct.pack("<11H", 131, 1, 2, 220, 220, 380, 220, 380, 240, 220, 240)
    second = struct.pack("<7H", 131, 1, 1, 220, 220, 220, 380)
    data = write_cli(plug(), ["plug"], plug_hatches())
    assert data == SHORT_HEADER + SHORT_BODY[:at] + first + SHORT_BODY[at:] + second


@pytest.mark.parametrize(("shift_mm", "command"), [(0.0, 131), (-4.0, 132)])
def test_hatches_read_back_by_both_readers(shift_mm: float, command: int) -> None:
    data, wanted = write_cli(plug(shift_mm), ["plug"], plug_hatches(shift_mm)), plug_hatches(shift_mm)
    assert struct.pack("<H", command) in data
    found = read_cli(data).hatches
    np.testing.assert_allclose(found.vectors_mm, wanted.vectors_mm, atol=1e-6)
    for name in ("start", "layer", "part"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    figures = cli_figures(data)
    assert (figures.hatches, figures.contours) == (3, 3)
    assert figures.hatches_mm == pytest.approx(2.4, abs=1e-5)
    assert figures.volume_mm3 == pytest.approx(0.192, abs=1e-6)


def test_more_lines_than_a_command_can_count_are_one_group_again() -> None:
    many = np.tile(plug_hatches().vectors_mm[:1], (70_000, 1))
    lines = Hatches(many, np.array([0, 70_000]), np.zeros(1, dtype=np.int32), np.zeros(1, dtype=np.int32))
    data = write_cli(plug(), ["plug"], lines)
    found = read_cli(data).hatches
    assert found.start.tolist() == [0, 70_000]
    assert cli_figures(data).hatches == 70_000


def test_a_line_that_rounds_to_a_point_is_left_out() -> None:
    lines = replace(plug_hatches(), vectors_mm=np.array([[1.1, 1.1, 1.102, 1.1], [1.9, 1.2, 1.1, 1.2], [1.5, 1.5, 1.5, 1.501]]))
    found = read_cli(write_cli(plug(), ["plug"], lines)).hatches
    assert (len(found.vectors_mm), found.layer.tolist()) == (1, [0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((131, 1, 2, 220, 220, 380, 220), "2 hatches announced, 1 are left"),
        ((131, 2, 1, 220, 220, 380, 220), "of part 2"),
        ((131, 1, 0), "0 hatches"),
        ((131, 1), "truncated"),
        ((131, 1, 1, 220, 220, 220, 220), "no length"),
        ((131, 1, 1, 220, 220, 9000, 220), "outside"),
        ((132, 1, 0, 1, 0), "command 132"),
    ],
)
def test_damaged_hatches_are_refused(words: tuple[int, ...], reason: str) -> None:
    with pytest.raises(MachineError, match=reason):
        read_cli(SHORT_HEADER + SHORT_BODY + struct.pack(f"<{len(words)}H", *words))


def findings_of(
    lines: Hatches | None, layers: Layers, names: tuple[str, ...] = ("plug",), by: ScanStrategy = SCAN
) -> dict[str, str]:
    """The worst verdict of each check; ``lines`` of the core in place of those that are made."""
    process = load_process("pa12-sls").model_copy(update={"scan": by})
    drawn = expose(layers, names, process, parts=len(names))
    of_core = None if lines is None else replace(lines, part=len(names) + 2 * lines.part + 1)
    cli = read_cli(write_cli(drawn.layers, drawn.labels, of_core or drawn.hatches))
    rank = {"pass": 0, "warn": 1, "fail": 2}
    worst: dict[str, str] = {}
    for finding in _hatch_findings(cli, names, process):
        worst[finding.check] = max(worst.get(finding.check, "pass"), finding.verdict, key=lambda verdict: rank[verdict])
    return worst


OFF, LENGTH, STRAY, THIN = "layers.hatches_off", "layers.hatches_length", "layers.hatches_stray", "layers.thin"
ALL_PASS = dict.fromkeys((OFF, LENGTH, STRAY, THIN, "layers.beam"), "pass")


def kept(lines: Hatches, chosen: npt.NDArray[np.bool_]) -> Hatches:
    sizes = [chosen[a:b].sum() for a, b in zip(lines.start, lines.start[1:], strict=False)]
    return replace(lines, vectors_mm=lines.vectors_mm[chosen], start=np.concatenate([[0], np.cumsum(sizes)]))


def test_lines_that_were_moved_left_out_or_drawn_twice_fail_when_read_back() -> None:
    layers = block(count=7)
    made = hatch(layers, SCAN)
    assert findings_of(made, layers) == ALL_PASS
    for shift_mm, verdict in ((SHORT_UNIT_MM, "pass"), (0.03, "fail")):
        moved = replace(made, vectors_mm=made.vectors_mm + shift_mm)
        assert findings_of(moved, layers)[OFF] == verdict
    corner = made.vectors_mm.copy()
    corner[made.start[3], :2] = 20.01, 20.01  # one end in the corner, in the layer in the middle
    assert findings_of(replace(made, vectors_mm=corner), layers)[OFF] == "fail"
    for every, verdict in ((20, "fail"), (98, "pass")):  # one line in so many is missing; a layer has 98
        fewer = kept(made, np.arange(len(made.vectors_mm)) % every != 0)
        assert findings_of(fewer, layers)[LENGTH] == verdict
    twice = replace(made, vectors_mm=np.repeat(made.vectors_mm, 2, axis=0), start=2 * made.start)
    assert findings_of(twice, layers)[LENGTH] == "fail"
    assert findings_of(no_hatches(), layers)[LENGTH] == "fail"


def test_a_hole_that_is_hatched_over_fails_when_read_back() -> None:
    plate, hole = 20.0 + 30.0 * (SQUARE - 1.0), 25.0 + 3.0 * (SQUARE - 1.0)[::-1]
    pierced = stack((0, plate, 900.0), (0, hole, -9.0), count=1)
    assert findings_of(hatch(pierced, SCAN), pierced)[OFF] == "pass"
    assert findings_of(hatch(stack((0, plate, 900.0), count=1), SCAN), pierced)[OFF] == "fail"


def test_a_short_part_beside_a_tall_one_is_looked_at() -> None:
    loops = [(k, 20.0 + 10.0 * (SQUARE - 1.0), 100.0) for k in range(100)]
    tall = stack(*loops, (0, 40.0 + 10.0 * (SQUARE - 1.0), 100.0), count=100)
    order = np.argsort(tall.loop_layer, kind="stable")
    points = tall.points_mm.reshape(-1, 4, 2)[order].reshape(-1, 2)
    part = (np.arange(101) == 100).astype(np.int32)[order]
    pair = replace(tall, points_mm=points, loop_layer=tall.loop_layer[order], loop_part=part)
    made = hatch(pair, SCAN)
    assert findings_of(made, pair, ("a", "b")) == ALL_PASS
    of_b = np.repeat(made.part == 1, np.diff(made.start))
    assert findings_of(kept(made, ~of_b), pair, ("a", "b"))[LENGTH] == "fail"
    moved = made.vectors_mm + np.where(of_b, -15.0, 0.0)[:, None]
    assert findings_of(replace(made, vectors_mm=moved), pair, ("a", "b"))[OFF] == "fail"
    stray = replace(made, part=np.where(np.arange(len(made.part)) == 50, 1, made.part).astype(np.int32))
    assert findings_of(stray, pair, ("a", "b"))[STRAY] == "fail"


@pytest.mark.parametrize("name", ["pa12-sls", "ti64-lpbf"])
@pytest.mark.parametrize("times", [1.0, 1.2, 1.5, 2.0])
@pytest.mark.parametrize("shift_mm", [0.0, 0.06, 0.13, 0.2])
def test_walls_as_thin_as_a_process_holds_are_no_fault_of_their_lines(name: str, times: float, shift_mm: float) -> None:
    process = load_process(name)
    assert process.scan is not None
    wall, plate = times * process.min_wall_mm, 20.0 + shift_mm + 30.0 * (SQUARE - 1.0)
    inner = 20.0 + shift_mm + wall + (30.0 - 2.0 * wall) * (SQUARE - 1.0)[::-1]
    loops = [(k, loop, area) for k in range(4) for loop, area in ((plate, 900.0), (inner, -((30.0 - 2.0 * wall) ** 2)))]
    tube = stack(*loops, count=4)
    assert set(findings_of(None, tube, by=process.scan).values()) == {"pass"}


def test_a_line_through_a_corner_is_there_without_any_inset() -> None:
    for k in range(20, 400):  # among them heights that rounding puts on either side of the corner
        middle = (k + 0.5) * 0.1
        diamond = np.array([[50.0, middle - 1.0], [51.0, middle], [50.0, middle + 1.0], [49.0, middle]])
        lines = hatch(stack((0, diamond, 2.0), count=1), scan(beam_mm=0.0, hatch_gap_mm=0.0)).vectors_mm
        assert lengths_mm(lines).sum() == pytest.approx(20.0, abs=0.02)


def test_a_stripe_narrower_than_the_least_line_is_no_profile() -> None:
    with pytest.raises(ValueError, match="stripe_mm"):
        ScanStrategy.model_validate({**SCAN.model_dump(), "stripe_mm": 0.1, "least_mm": 0.5})


@pytest.mark.parametrize(
    "words",
    [
        struct.pack("<2H", 131, 1) + struct.pack("<H", 0),
        struct.pack("<Hii", 132, 1, -1) + struct.pack("<4f", 1.0, 1.0, 2.0, 1.0),
        struct.pack("<Hii", 132, 1, -(2**31)),
        struct.pack("<Hiii", 130, 1, 1, 0),
        struct.pack("<Hiii", 130, 1, 1, 4) + struct.pack("<8f", 1, 1, math.nan, 1, 2, 2, 1, 1),
        struct.pack("<Hii", 132, 1, 1) + struct.pack("<4f", 1.0, 1.0, math.inf, 1.0),
        struct.pack("<Hf", 127, math.nan),
    ],
)
def test_the_verifiers_reader_refuses_counts_below_one_and_what_is_no_number(words: bytes) -> None:
    with pytest.raises(MachineError):
        cli_figures(SHORT_HEADER + SHORT_BODY + words)


@pytest.mark.parametrize("box", ["9" * 400 + ".0,1.0,0.0,2.0,2.0,0.2", "2.0,1.0,0.0,1.0,2.0,0.2"])
def test_a_dimension_that_is_no_box_is_refused(box: str) -> None:
    data = SHORT_HEADER.replace(b"1.000000,1.000000,0.000000,2.000000,2.000000,0.200000", box.encode()) + SHORT_BODY
    with pytest.raises(MachineError, match="DIMENSION"):
        read_cli(data)


def test_the_time_is_that_of_lines_contours_and_jumps() -> None:
    lines = Hatches(
        np.array([[1.1, 1.1, 1.9, 1.1], [1.9, 1.2, 1.1, 1.2]]), np.array([0, 2]), np.zeros(1, np.int32), np.zeros(1, np.int32)
    )
    layers = stack((0, SQUARE, 1.0), count=1)
    contour_s, lines_s = 4.0 / 500.0 + 3 * 0.5 * 0.004 + 0.002, 1.6 / 1000.0 + 2 * 0.002
    jumps_s = 2 * math.sqrt(math.hypot(0.1, 0.1) / 1e6) + 2 * math.sqrt(0.1 / 1e6) + 2 * 0.001  # too short to reach the speed

    def seconds(outlines: Layers, of: Hatches, by: ScanStrategy) -> FloatArray:
        """Of a body that is drawn along its outline, its lines under a label of their own."""
        return drawn_s(Exposure(("a", "a core"), outlines, replace(of, part=of.part + 1), np.array([500.0, 1000.0])), by)

    assert seconds(layers, lines, SCAN) == pytest.approx([contour_s + lines_s + jumps_s], rel=1e-12)
    quick = SCAN.model_copy(update={"jump_mm_per_s": 100.0})
    jumps_s = (math.hypot(0.1, 0.1) + 0.1) / 100.0 + 2 * 100.0 / 1e6 + 2 * 0.001
    assert seconds(layers, lines, quick) == pytest.approx([contour_s + lines_s + jumps_s], rel=1e-12)
    two = stack((0, SQUARE, 1.0), (2, SQUARE, 1.0), count=3)  # nothing is jumped from layer to layer
    assert seconds(two, no_hatches(), SCAN) == pytest.approx([contour_s, 0.0, contour_s], rel=1e-12)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Mesh:
    whole = trimesh.creation.box(bounds=[low, high])
    return Mesh(np.asarray(whole.vertices, dtype=np.float64), np.asarray(whole.faces, dtype=np.int32))


def wedge() -> Mesh:
    corners = [[5, 5, 0], [25, 5, 0], [25, 15, 0], [5, 15, 0], [5, 5, 10], [15, 5, 10], [15, 15, 10], [5, 15, 10]]
    whole = trimesh.convex.convex_hull(np.array(corners, dtype=np.float64))
    return Mesh(np.asarray(whole.vertices, dtype=np.float64), np.asarray(whole.faces, dtype=np.int32))


@pytest.mark.parametrize(
    ("name", "bodies"),
    [
        ("cube", [box((5, 5, 0), (15, 15, 10))]),
        ("two cubes", [box((5, 5, 0), (15, 15, 10)), box((115, 5, 0), (125, 15, 10))]),
        ("wedge", [wedge()]),
        ("cube with skins", [box((5, 5, 0), (15, 15, 10))]),
    ],
)
def test_the_time_of_a_plate_is_what_is_worked_out_by_hand(name: str, bodies: list[Mesh]) -> None:
    scan = SCAN.model_copy(
        update={
            "hatch_mm": 1.0, "beam_mm": 0.2, "hatch_gap_mm": 0.2, "turn_deg": 0.0, "least_mm": 0.2,
            "line_s": 1e-4, "corner_s": 1e-4, "jump_mm_per_s2": 2e7, "jump_s": 2e-4,
        }
    )  # fmt: skip
    page = (Path(__file__).parents[1] / "docs" / "estimates.md").read_text(encoding="utf-8")
    found = re.search(rf"^\| {name} \| ([0-9.]+) s \|$", page, re.MULTILINE)
    assert found is not None
    layers = slice_parts(bodies, 1.0)
    if name == "cube with skins":
        scan = with_skins(scan, overlap_mm=0.0, up={"hatch_mm_per_s": 500.0}, down={"hatch_mm_per_s": 2000.0})
    process = load_process("pa12-sls").model_copy(update={"scan": scan})
    drawn = expose(layers, [str(k) for k in range(len(bodies))], process, parts=len(bodies))
    assert drawn_s(drawn, scan).sum() == pytest.approx(float(found[1]), rel=1e-4)


def test_the_picture_of_a_layer_shows_outline_lines_and_hole() -> None:
    layers = plug()
    data = layer_png(read_cli(write_cli(layers, ["plug"], plug_hatches())), 1)
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert pixels.shape[:2] == (1680 + 130 + 52, 1680)  # the foot says what is seen, with a row for the lines
    assert (pixels[0, 0] > 250).all()  # paper
    at = lambda x, y: pixels[round(40 + (2.0 - y) * 1600), round(40 + (x - 1.0) * 1600)]  # noqa: E731
    assert (at(1.25, 1.3) > 250).all()  # in the hole
    assert (at(1.8, 1.8) < 245).all()  # solid
    assert at(2.0, 1.5).max() < 100  # outline
    red, green, blue = at(1.1, 1.5)  # the only line of this layer, thin on the solid
    assert green < min(red, blue) < 150
