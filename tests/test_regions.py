"""Regions of a layer: skins and core against polygons, the path of the beam, their labels in the file, and who finds a fault."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.manifest import drawn_entries, drawn_faults
from batchone.pipeline.process import InnerContour, Process, ScanStrategy, Skin
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.draw import draw
from batchone.slicer.exposure import Exposure, beam_path, expose, straightened
from batchone.slicer.hatch import lengths_mm
from batchone.slicer.layers import Layers
from batchone.slicer.profiles import load_process
from batchone.slicer.readback import _hatch_findings
from batchone.slicer.scan_time import drawn_s

ORDER = ("contour", "down-skin", "core", "up-skin")
SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])


def skin(layers: int = 1, **changes: Any) -> Skin:
    return Skin(**{"layers": layers, "overlap_mm": 0.0, "hatch_mm": 0.1, "hatch_mm_per_s": 800.0, "sources": {}, **changes})


def process(up: Skin | None, down: Skin | None, **changes: Any) -> Process:
    """Laser sintering with skins; lines along x."""
    order = [region for region in ORDER if region not in {"up-skin": up, "down-skin": down} or (up if "up" in region else down)]
    scan = {
        "hatch_mm": 0.1, "beam_mm": 0.08, "hatch_gap_mm": 0.02, "first_deg": 0.0, "turn_deg": 0.0, "least_mm": 0.2,
        "hatch_mm_per_s": 1000.0, "contour_mm_per_s": 500.0, "line_s": 1e-4, "corner_s": 1e-4, "jump_mm_per_s": 5000.0,
        "jump_mm_per_s2": 2e7, "jump_s": 2e-4, "sources": {}, "up_skin": up, "down_skin": down, "order": order,
        "parameters": {region: f"set of {region}" for region in order},
    }  # fmt: skip
    return load_process("pa12-sls").model_copy(update={"scan": ScanStrategy.model_validate({**scan, **changes})})


def stack(*layers: list[FloatArray]) -> Layers:
    """Layers of one part: contours of each, mm."""
    loops = [(k, loop) for k, some in enumerate(layers) for loop in some]
    points = np.concatenate([loop for _, loop in loops])
    start = np.concatenate([[0], np.cumsum([len(loop) for _, loop in loops])]).astype(np.int64)
    number = np.array([k for k, _ in loops], dtype=np.int32)
    x, y = points.T
    area = [
        0.5 * float(np.sum(u * np.roll(v, -1) - np.roll(u, -1) * v)) for u, v in ((x[a:b], y[a:b]) for a, b in pairwise(start))
    ]
    return Layers(0.03, len(layers), points, start, number, np.zeros(len(loops), dtype=np.int32), np.array(area))


def rectangle(low_x: float, low_y: float, high_x: float, high_y: float) -> FloatArray:
    return np.array([low_x, low_y]) + SQUARE * np.array([high_x - low_x, high_y - low_y])


def drawn(layers: Layers, by: Process) -> Exposure:
    return expose(layers, ["body"], by, parts=1)


def lines_of(made: Exposure, region: str, layer: int) -> FloatArray:
    return made.hatches.of(layer, made.labels.index(f"body {region}"))


STEP = stack([rectangle(20, 20, 30, 25)], [rectangle(20, 20, 30, 25)], [rectangle(20, 20, 25, 25)])
"""Two layers of 10 mm, one of 5 mm: half of the middle layer is open to above."""


def test_a_step_has_skin_where_arithmetic_puts_it() -> None:
    made = drawn(STEP, process(skin(), skin()))
    assert made.labels == ("body", "body contour", "body down-skin", "body core", "body up-skin")
    up, core = lines_of(made, "up-skin", 1), lines_of(made, "core", 1)
    assert (len(up), len(core)) == (48, 48)  # 20.15 to 24.85
    np.testing.assert_allclose(np.sort(up[:, [0, 2]], axis=1), np.tile([25.0, 29.9], (48, 1)), atol=1e-9)
    np.testing.assert_allclose(np.sort(core[:, [0, 2]], axis=1), np.tile([20.1, 25.0], (48, 1)), atol=1e-9)
    assert [len(lines_of(made, "down-skin", k)) for k in range(3)] == [48, 0, 0]  # nothing carries the first layer
    assert [len(lines_of(made, "core", k)) for k in range(3)] == [0, 48, 0]
    assert [len(lines_of(made, "up-skin", k)) for k in range(3)] == [0, 48, 48]  # what is both is down-skin


@pytest.mark.parametrize(("layers", "wanted"), [(1, [0, 48, 48]), (2, [48, 48, 48])])
def test_a_skin_is_as_many_layers_deep_as_the_process_says(layers: int, wanted: list[int]) -> None:
    made = drawn(STEP, process(skin(layers), None))
    assert [len(lines_of(made, "up-skin", k)) for k in range(3)] == wanted


def test_lines_of_a_skin_have_their_own_distance_and_go_on_into_the_core_but_not_into_the_contour() -> None:
    up = lines_of(drawn(STEP, process(skin(overlap_mm=0.3, hatch_mm=0.2), None)), "up-skin", 1)
    assert len(up) == 24
    np.testing.assert_allclose(np.diff(np.sort(up[:, 1])), 0.2, atol=1e-9)
    np.testing.assert_allclose(np.sort(up[:, [0, 2]], axis=1), np.tile([24.7, 29.9], (24, 1)), atol=1e-9)


@pytest.mark.parametrize(("ledge_mm", "there"), [(0.299, False), (0.301, True)])
def test_a_skin_shorter_than_the_least_line_is_left_to_the_core(ledge_mm: float, there: bool) -> None:
    layers = stack([rectangle(20, 20, 30, 25)], [rectangle(20, 20, 30 - ledge_mm, 25)])
    made = drawn(layers, process(skin(), None))
    assert (len(lines_of(made, "up-skin", 0)) > 0) is there
    wanted = 9.8 if not there else 9.9 - ledge_mm
    np.testing.assert_allclose(lengths_mm(lines_of(made, "core", 0)), wanted, atol=1e-9)


def star(rng: np.random.Generator, low: float, high: float) -> FloatArray:
    angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, int(rng.integers(6, 30))))
    return 20.0 + rng.uniform(low, high, len(angle))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 179.9), st.integers(1, 2))
def test_regions_are_those_of_polygons(seed: int, angle_deg: float, deep: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [shapely.Polygon(star(rng, 3.0, 8.0)) for _ in range(5)]
    if not all(shape.is_valid and shape.exterior.is_ccw for shape in shapes):
        return
    layers = stack(*([np.asarray(shape.exterior.coords)[:-1]] for shape in shapes))
    by = process(skin(deep), skin(deep), first_deg=angle_deg, least_mm=1e-7, hatch_mm=0.1)
    made, room = drawn(layers, by), shapes[2].buffer(-0.1, quad_segs=64)
    above, below = (shapely.intersection_all(near) for near in (shapes[3 : 3 + deep], shapes[2 - deep : 2]))
    down = room - below
    up = room - above - down
    along = np.array([math.cos(math.radians(angle_deg)), math.sin(math.radians(angle_deg))])
    across = np.array([-along[1], along[0]])
    rows = (np.arange(-400, 400) + 0.5)[:, None] * 0.1 * across
    grid = shapely.linestrings(np.stack([rows - 99 * along, rows + 99 * along], axis=1))
    whole, of_down, of_up = (shapely.length(shapely.intersection(grid, where)).sum() for where in (room, down, up))
    for region, where, wanted in (
        ("down-skin", down, of_down),
        ("up-skin", up, of_up),
        ("core", room - down - up, whole - of_down - of_up),
    ):
        lines = lines_of(made, region, 2)
        assert lengths_mm(lines).sum() == pytest.approx(wanted, abs=0.05)  # mm; round corners have sides
        if len(lines):
            inside = shapely.length(shapely.intersection(shapely.linestrings(lines.reshape(-1, 2, 2)), where.buffer(1e-3)))
            np.testing.assert_allclose(inside, lengths_mm(lines), atol=1e-6)


def test_the_beam_runs_within_the_outline_and_thin_places_have_none() -> None:
    hook = np.array([[1, 1], [9, 1], [9, 3], [3, 3], [3, 7], [1, 7]], dtype=np.float64) + 20.0
    thin = rectangle(40, 20, 40.15, 25)
    outlines = stack([hook, thin, rectangle(50, 20, 50.17, 25)], [hook])
    path = beam_path(outlines, 0.08, np.array([4], dtype=np.int32))
    assert path.loop_part.tolist() == [4] * 3  # 0.15 mm is thinner than the beam, 0.17 mm is not
    wanted = shapely.Polygon(hook).buffer(-0.08, quad_segs=64)
    for layer in (0, 1):
        found = shapely.Polygon(path.loops(layer, 4)[0])
        assert found.symmetric_difference(wanted).area < 1e-3  # mm2, of 32 mm: 30 nm
    assert path.loop_area_mm2[-1] == pytest.approx(wanted.area, abs=1e-3)


def test_straightened_contours_keep_their_shape() -> None:
    turn = np.linspace(0.0, 2.0 * np.pi, 5000, endpoint=False)
    circle = 20.0 + 8.0 * np.column_stack([np.cos(turn), np.sin(turn)])
    start = np.array([0, 5000, 5004], dtype=np.int64)
    points, begins = straightened(np.concatenate([circle, rectangle(1, 1, 2, 3)]), start, 0.001)
    assert begins[1] < 320  # sides of up to 0.18 mm
    np.testing.assert_array_equal(points[begins[1] :], rectangle(1, 1, 2, 3))
    away = shapely.distance(shapely.LinearRing(points[: begins[1]]), shapely.points(circle))
    assert away.max() <= 0.001 + 1e-9
    same, _ = straightened(circle, start[:2], 0.0)
    np.testing.assert_array_equal(same, circle)


def test_a_second_contour_lies_within_the_first_and_lines_within_both() -> None:
    inner = InnerContour(gap_mm=0.1, contour_mm_per_s=300.0, sources={})
    order = ("inner-contour", "contour", "core")
    by = process(None, None, inner_contour=inner, order=order, parameters={region: region for region in order})
    made = drawn(STEP, by)
    assert made.labels[1:] == ("body inner-contour", "body contour", "body core")
    assert made.mm_per_s.tolist() == [0.0, 300.0, 500.0, 1000.0]
    for region, inset_mm in (("contour", 0.08), ("inner-contour", 0.18)):
        loop = made.layers.loops(0, made.labels.index(f"body {region}"))[0]
        np.testing.assert_allclose(
            [loop.min(axis=0), loop.max(axis=0)], [[20 + inset_mm] * 2, [30 - inset_mm, 25 - inset_mm]], atol=1e-6
        )
    assert made.hatches.vectors_mm[:, [0, 2]].min() == pytest.approx(20.2)
    assert {f.verdict for f in findings(made, by)} == {"pass"}


def test_supports_are_drawn_along_their_outline_and_parts_are_not() -> None:
    by = load_process("ti64-lpbf")
    both = replace(STEP, loop_part=np.array([0, 0, 1], dtype=np.int32))
    made = expose(both, ["body", "supports-body"], by, parts=1)
    assert made.mm_per_s[:2].tolist() == [0.0, 600.0]
    entries = {one.label: one for one in drawn_entries(cli_figures(write_cli(made.layers, made.labels, made.hatches)), by)}
    assert "body" not in entries
    assert (entries["supports-body"].inset_mm, entries["supports-body"].length_mm) == (0.0, 20.0)
    assert entries["body contour"].length_mm == pytest.approx(2 * (30.0 - 8 * 0.08))
    assert (entries["body down-skin"].hatch_mm, entries["body down-skin"].mm_per_s) == (
        0.1,
        1500.0,
    )  # three layers deep: all of it


def findings(made: Exposure, by: Process) -> Any:
    return _hatch_findings(read_cli(write_cli(made.layers, made.labels, made.hatches)), ["body"], by)


SKINNED = process(skin(2, overlap_mm=0.1), skin(2, overlap_mm=0.1))
TOWER = stack(*[[rectangle(20, 20, 32, 28)]] * 9, *[[rectangle(20, 20, 26, 28)]] * 3)


def verdicts(made: Exposure) -> set[str]:
    return {f.check for f in findings(made, SKINNED) if f.verdict == "fail"}


def test_what_is_drawn_elsewhere_or_under_another_label_fails_when_read_back() -> None:
    made = drawn(TOWER, SKINNED)
    assert verdicts(made) == set()
    core, up = made.labels.index("body core"), made.labels.index("body up-skin")
    named = made.hatches.part.copy()
    named[made.hatches.part == up] = core
    assert "layers.hatches_length" in verdicts(replace(made, hatches=replace(made.hatches, part=named)))
    beam = made.layers.loop_part == made.labels.index("body contour")
    for away_mm, fails in ((0.004, False), (0.02, True)):
        moved = made.layers.points_mm + np.repeat(np.where(beam, away_mm, 0.0), np.diff(made.layers.loop_start))[:, None]
        assert ("layers.beam" in verdicts(replace(made, layers=replace(made.layers, points_mm=moved)))) is fails
    bare = drawn(TOWER, process(None, None))  # no skin at all where the process asks for some
    lost = replace(made, hatches=replace(bare.hatches, part=np.full_like(bare.hatches.part, core)))
    assert "layers.hatches_length" in verdicts(lost)


def test_the_verifier_counts_by_label() -> None:
    made = drawn(TOWER, SKINNED)
    figures = cli_figures(write_cli(made.layers, made.labels, made.hatches))
    assert figures.volume_mm3 == pytest.approx(0.03 * (9 * 96 + 3 * 48), rel=1e-6)  # of the outlines alone
    said = drawn_entries(figures, SKINNED)
    assert [one.region for one in said] == list(ORDER)
    assert [one.parameters for one in said] == [f"set of {region}" for region in ORDER]
    assert drawn_faults(said, figures) == ()
    named = np.where(made.hatches.part == 4, 3, made.hatches.part).astype(np.int32)
    moved = cli_figures(write_cli(made.layers, made.labels, replace(made.hatches, part=named)))
    assert any("body up-skin is not there" in fault for fault in drawn_faults(said, moved))
    assert any("body core has 0 contours" in fault for fault in drawn_faults(said, moved))
    assert any("body core is drawn, and not said to be" in fault for fault in drawn_faults(said[:2], figures))


def test_any_number_of_runs_gives_the_same_file_and_times(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SKINNED.scan is not None
    made = drawn(TOWER, SKINNED)
    whole, seconds = write_cli(made.layers, made.labels, made.hatches), drawn_s(made, SKINNED.scan)
    for points in (1_000_000, 9, 1):
        monkeypatch.setattr("batchone.slicer.draw._RUN", points)
        written, took = draw(TOWER, ["body"], SKINNED, parts=1)
        assert written == whole
        np.testing.assert_array_equal(took, seconds)


def test_contours_that_only_become_too_long_for_the_short_form_when_drawn_make_all_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchone.slicer.draw._RUN", 1)
    angle = np.array([[20, 20], [30, 20], [30, 22], [22, 22], [22, 30], [20, 30]], dtype=np.float64)
    hollow = stack([rectangle(20, 20, 30, 30)], [angle], [rectangle(20, 20, 30, 30)])
    longest = int(np.diff(drawn(hollow, SKINNED).layers.loop_start).max())
    assert longest > np.diff(hollow.loop_start).max()  # by its round corner
    for most, unit_mm in ((longest + 1, 0.005), (longest, 1.0)):
        monkeypatch.setattr("batchone.slicer.cli_format._LONGEST", most)
        written = read_cli(draw(hollow, ["body"], SKINNED, parts=1)[0])
        assert written.header.unit_mm == unit_mm
        assert np.unique(written.layers.loop_layer).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"order": ("core", "contour")}, "contours come before lines"),
        ({"order": ("contour",)}, "must name each of contour, core once"),
        ({"order": ("contour", "core", "up-skin")}, "must name each of contour, core once"),
        ({"parameters": {"core": "a"}}, "parameters are for core"),
    ],
)
def test_a_profile_whose_regions_do_not_agree_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        process(None, None, **changes)
