"""Plans for 3D Slicer: as they are, unmirrored, valid under the published schemas, and read back as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from batchone.pipeline.markups.read import read_markups
from batchone.pipeline.markups.write import SHOWN_MM, write_markups
from batchone.pipeline.order import PlanInput
from batchone.pipeline.values import Axis, Curve, Plan, Plane

FLIP = np.diag([-1.0, -1.0, 1.0])
FLIP4 = np.diag([-1.0, -1.0, 1.0, 1.0])
NORMAL = (np.array([0.36, -0.48, 0.8])).tolist()

ASYMMETRIC = Plan(
    family="toy",
    proposed=True,
    side="left",
    axes=(
        Axis("t9-left", (31.25, -12.5, 104.75), (-0.6, 0.48, -0.64), 38.5),
        Axis("t9 Right", (-29.1, -13.3, 105.2), tuple((np.array([0.5, 0.7, -0.2]) / np.linalg.norm([0.5, 0.7, -0.2])).tolist())),
    ),
    planes=(
        Plane("cut", (12.0, -34.0, 56.0), (NORMAL[0], NORMAL[1], NORMAL[2])),
        Plane("level", (0.0, 0.0, 3.0), (0.0, 0.0, -1.0)),
    ),
    curves=(
        Curve("rim", np.array([[10.0, 20.0, 30.0], [-10.0, 1 / 3, 30.0], [0.0, -20.0, 31.0]]), True),
        Curve("über", np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0], [6.0, 5.0, 9.5]]), False),
    ),
)


def test_a_plan_is_written_as_it_is_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "plan.mrk.json"
    path.write_bytes(write_markups(ASYMMETRIC))
    plan = PlanInput.model_validate(read_markups(path))
    for axis, line in zip(ASYMMETRIC.axes, plan.lines, strict=True):
        length_mm = SHOWN_MM if axis.length_mm is None else axis.length_mm
        end_mm = np.array(axis.origin_mm) + length_mm * np.array(axis.direction)
        assert (line.name, line.locked) == (axis.name, False)
        np.testing.assert_allclose(line.start_mm, axis.origin_mm, atol=1e-6)
        np.testing.assert_allclose(line.end_mm, end_mm, atol=1e-6)
    for given, plane_ in zip(ASYMMETRIC.planes, plan.planes, strict=True):
        assert (plane_.name, plane_.locked) == (given.name, False)
        np.testing.assert_allclose(plane_.origin_mm, given.origin_mm, atol=1e-6)
        np.testing.assert_allclose(plane_.normal, given.normal, atol=1e-9)
    for drawn, curve in zip(ASYMMETRIC.curves, plan.curves, strict=True):
        assert (curve.name, curve.closed) == (drawn.name, drawn.closed)
        np.testing.assert_allclose(curve.points_mm, drawn.points_mm, atol=1e-6)


def test_slicer_sees_the_written_planes_where_they_are() -> None:
    """What Slicer does on reading (``UpdateMarkupsNodeFromJsonValue``): negate rows, chain the matrices, all in RAS."""
    planes = [one for one in json.loads(write_markups(ASYMMETRIC))["markups"] if one["type"] == "Plane"]
    for given, written in zip(ASYMMETRIC.planes, planes, strict=True):
        base = FLIP4 @ np.reshape(written["baseToNode"], (4, 4))
        whole = base @ (FLIP4 @ np.reshape(written["objectToBase"], (4, 4)))
        assert np.linalg.det(base[:3, :3]) == pytest.approx(1.0)
        np.testing.assert_allclose(base[:3, :3].T @ base[:3, :3], np.eye(3), atol=1e-12)
        np.testing.assert_allclose(FLIP @ whole[:3, 2], given.normal, atol=1e-12)
        np.testing.assert_allclose(FLIP @ whole[:3, 3], given.origin_mm, atol=1e-12)
        assert written["planeType"] == "pointNormal"
        assert written["controlPoints"][0]["position"] == list(given.origin_mm)


def test_a_mirrored_plan_is_written_mirrored(tmp_path: Path) -> None:
    mirror = np.array([-1.0, 1.0, 1.0])

    def mirrored(vector: Any) -> Any:
        return tuple((mirror * np.array(vector)).tolist())

    other = Plan(
        family="toy",
        proposed=True,
        side="right",
        axes=tuple(Axis(a.name, mirrored(a.origin_mm), mirrored(a.direction), a.length_mm) for a in ASYMMETRIC.axes),
        planes=tuple(Plane(p.name, mirrored(p.origin_mm), mirrored(p.normal)) for p in ASYMMETRIC.planes),
        curves=tuple(Curve(c.name, c.points_mm * mirror, c.closed) for c in ASYMMETRIC.curves),
    )
    found = []
    for number, plan in enumerate((ASYMMETRIC, other)):
        path = tmp_path / f"{number}.mrk.json"
        path.write_bytes(write_markups(plan))
        found.append(PlanInput.model_validate(read_markups(path)))
    for one, two in zip(found[0].lines, found[1].lines, strict=True):
        np.testing.assert_allclose(mirrored(one.end_mm), two.end_mm, atol=1e-9)
    for here, there in zip(found[0].planes, found[1].planes, strict=True):
        np.testing.assert_allclose(mirrored(here.normal), there.normal, atol=1e-12)
        np.testing.assert_allclose(mirrored(here.origin_mm), there.origin_mm, atol=1e-9)


def test_left_and_right_have_colours_of_their_own_and_the_bytes_are_the_same_again() -> None:
    left, right, cut, *_ = json.loads(write_markups(ASYMMETRIC))["markups"]
    colours = [one["display"]["color"] for one in (left, right, cut)]
    assert colours[0] != colours[1]
    assert colours[2] == colours[0]  # without a side of its own it has the plan's
    assert write_markups(ASYMMETRIC) == write_markups(ASYMMETRIC)


@pytest.mark.data
@pytest.mark.parametrize("version", ["1.0.0", "1.0.3"])
def test_the_written_file_keeps_the_published_schemas(test_data: Path, version: str) -> None:
    schema = json.loads((test_data / "schemas" / "slicer-markups" / f"markups-schema-v{version}.json").read_text())
    written = json.loads(write_markups(ASYMMETRIC))
    jsonschema.Draft7Validator(schema).validate(written)
    wrong = {**written, "markups": [{**written["markups"][0], "type": "Trajectory"}]}
    assert not jsonschema.Draft7Validator(schema).is_valid(wrong)
