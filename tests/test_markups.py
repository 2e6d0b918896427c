"""Plans from 3D Slicer and back: every spelling that its versions write, LPS and RAS; what contradicts itself is refused.

The files are made here as Slicer's writer makes them (``vtkMRMLMarkupsJsonStorageNode``, ``vtkMRMLMarkupsPlaneJsonStorageNode``):
inside, Slicer has RAS; written in LPS, the first two rows of points, vectors and matrices are negated.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from batchone.pipeline.errors import OrderError
from batchone.pipeline.markups.order_file import changed_plan, read_order_file
from batchone.pipeline.markups.read import MAX_MARKUPS, MAX_MARKUPS_BYTES, PlanTables, read_markups
from batchone.pipeline.order import Order, Parameters, PlanLine, PlanPlane, order_text, parse_order

SCHEMAS = "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v"
ORDER = 'case = "c-1"\ndevice = "toy"\nside = "left"\nprocess = "p"\nmachine = "m"\ndue = 2026-11-24T08:00:00Z\n'
MODELS = {"toy": Parameters, "cranial-implant": Parameters}
FLIP = np.diag([-1.0, -1.0, 1.0])
FLIP4 = np.diag([-1.0, -1.0, 1.0, 1.0])

ENTRY, TARGET = [31.25, -12.5, 104.75], [19.0, -40.125, 98.5]  # LPS: patient's left, in front, up
ORIGIN = np.array([12.0, -34.0, 56.0])
TURN = np.linalg.qr(np.array([[2.0, 1.0, 0.3], [0.5, 3.0, -1.0], [-0.7, 0.2, 1.0]]))[0]
TURN = TURN * np.sign(np.linalg.det(TURN))  # right-handed, no axis along another's
NORMAL = TURN[:, 2]


def control(place: Any, number: int = 1, **more: Any) -> dict[str, Any]:
    """A control point as Slicer 5 writes it."""
    return {
        "id": str(number),
        "label": f"F-{number}",
        "description": "",
        "associatedNodeID": "vtkMRMLScalarVolumeNode1",
        "position": place if isinstance(place, str) else np.asarray(place).tolist(),
        "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],
        "selected": True,
        "locked": False,
        "visibility": True,
        "positionStatus": "defined",
        **more,
    }


def markup(kind: str, places: Any, system: str = "LPS", **more: Any) -> dict[str, Any]:
    """A markup at LPS places, as Slicer writes it in either system: without a name."""
    turned = [place if isinstance(place, str) or system == "LPS" else FLIP @ np.asarray(place) for place in places]
    return {
        "type": kind,
        "coordinateSystem": system,
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(places),
        "controlPoints": [control(place, number) for number, place in enumerate(turned, start=1)],
        "measurements": [{"name": "length", "enabled": False, "value": 31.0, "units": "mm", "printFormat": "%-#4.4g%s"}],
        "display": {"visibility": True, "opacity": 1.0, "color": [0.4, 1.0, 1.0]},
        **more,
    }


def plane(system: str = "LPS", kind: str = "pointNormal", moved: np.ndarray | None = None) -> dict[str, Any]:
    """The plane through ORIGIN with NORMAL (LPS), as Slicer 5 writes it; ``moved`` is its ``objectToBase``."""
    to_object = np.eye(4) if moved is None else moved
    object_to_node = np.eye(4)
    object_to_node[:3] = FLIP @ np.column_stack([TURN, ORIGIN])  # in RAS
    base_to_node = object_to_node @ np.linalg.inv(to_object)
    rows = FLIP4 if system == "LPS" else np.eye(4)
    points = [ORIGIN]
    if kind == "threePoints":
        base = FLIP4 @ base_to_node
        points = [base[:3, 3], base[:3, 3] + 21.0 * base[:3, 0], base[:3, 3] + 4.0 * base[:3, 0] + 17.0 * base[:3, 1]]
    if kind == "planeFit":
        across = [(20.0, 1.0), (-9.0, 16.0), (-11.0, -17.0)]
        points = [ORIGIN + TURN[:, :2] @ np.array(place) for place in across]
    return markup(
        "Plane",
        points,
        system,
        planeType=kind,
        sizeMode="auto",
        autoScalingSizeFactor=1.0,
        center=(rows[:3, :3] @ object_to_node[:3, 3]).tolist(),
        normal=(rows[:3, :3] @ object_to_node[:3, 2]).tolist(),
        objectToBase=(rows @ to_object).ravel().tolist(),
        baseToNode=(rows @ base_to_node).ravel().tolist(),
        orientation=(rows[:3, :3] @ object_to_node[:3, :3]).ravel().tolist(),
        size=[100.0, 100.0, 0.0],
        planeBounds=[-50.0, 50.0, -50.0, 50.0],
    )


def without(tree: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in keys}


def saved(folder: Path, *markups: dict[str, Any], name: str = "plan", version: str = "1.0.3") -> Path:
    path = folder / f"{name}.mrk.json"
    path.write_text(json.dumps({"@schema": f"{SCHEMAS}{version}.json#", "markups": list(markups)}, indent=4))
    return path


def read(folder: Path, *markups: dict[str, Any], **more: Any) -> PlanTables:
    return read_markups(saved(folder, *markups), **more)


def refusal(folder: Path, *markups: dict[str, Any], **more: Any) -> str:
    with pytest.raises(OrderError) as caught:
        read(folder, *markups, **more)
    assert caught.value.hint
    return str(caught.value)


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize("version", ["1.0.0", "1.0.1", "1.0.3"])
def test_a_line_is_a_trajectory_from_entry_to_target_under_the_name_of_its_file(
    tmp_path: Path, system: str, version: str
) -> None:
    drawn = markup("Line", [ENTRY, TARGET], system, locked=True)
    if version == "1.0.0":
        drawn = without(drawn, "coordinateUnits", "fixedNumberOfControlPoints", "lastUsedControlPointNumber")
    tables = read_markups(saved(tmp_path, drawn, name="T9 left", version=version))
    assert tables == {"lines": [{"name": "T9 left", "start_mm": ENTRY, "end_mm": TARGET, "locked": True}]}


MOVED = np.eye(4)
MOVED[:3, :3] = [[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]]
MOVED[:3, 3] = [3.0, -5.0, 7.0]


@pytest.mark.parametrize("system", ["LPS", "RAS"])
@pytest.mark.parametrize(
    "spelling",
    [
        *("pointNormal", "threePoints", "planeFit", "moved", "threePoints moved", "points only", "two points", "normal only"),
        *("matrix only", "matrix at 0", "older names", "three points, no matrix"),
    ],
)
def test_a_plane_is_the_same_however_slicer_wrote_it(tmp_path: Path, system: str, spelling: str) -> None:
    matrices = ("objectToBase", "baseToNode", "orientation")
    along = markup("Plane", [ORIGIN, ORIGIN + 12.0 * NORMAL], system, planeType="pointNormal")
    three = plane(system, "threePoints")
    at_0 = np.array(plane(system)["baseToNode"]).reshape(4, 4)
    at_0[:3, 3] = 0.0
    spellings = {
        "pointNormal": plane(system),
        "threePoints": three,
        "planeFit": plane(system, "planeFit"),
        "moved": plane(system, moved=MOVED)
        | {"controlPoints": [control((FLIP4 if system == "RAS" else np.eye(4))[:3, :3] @ _base())]},
        "threePoints moved": plane(system, "threePoints", MOVED),
        "points only": without(three, "planeType", "center", "normal", "size", "sizeMode", *matrices),  # schema 1.0.0
        "two points": along,  # 4.13, where a second point was dragged along the normal
        "normal only": without(plane(system), *matrices),
        "matrix only": without(plane(system), "center", "normal", "orientation", "objectToBase"),
        "matrix at 0": without(plane(system), "center", "normal", "orientation") | {"baseToNode": at_0.ravel().tolist()},
        "older names": without(plane(system), "center") | {"origin": plane(system)["center"], "planeType": "PointNormal"},
        "three points, no matrix": without(three, "baseToNode", "orientation"),
    }
    (found,) = read(tmp_path, spellings[spelling])["planes"]
    assert found["name"] == "plan"
    np.testing.assert_allclose(found["origin_mm"], ORIGIN, atol=1e-9)
    np.testing.assert_allclose(found["normal"], NORMAL, atol=1e-12)
    PlanPlane(**found)


def _base() -> np.ndarray:
    """Where the base of the moved plane lies, LPS mm."""
    whole = np.eye(4)
    whole[:3] = np.column_stack([TURN, ORIGIN])
    return np.asarray((whole @ np.linalg.inv(MOVED))[:3, 3])


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_what_contradicts_itself_in_a_plane_is_refused_with_both_values(tmp_path: Path, system: str) -> None:
    good = plane(system)
    told = refusal(tmp_path, good | {"normal": (-np.array(good["normal"])).tolist()})
    assert "180 deg apart, at most 0.02 deg" in told
    assert "by its controlPoints and baseToNode" in told
    assert "by its normal" in told
    assert f"{NORMAL[0]:.4f}" in told
    told = refusal(tmp_path, good | {"center": [12.0, 34.0, 56.0]})
    assert "mm apart, at most 0.01 mm" in told
    assert "(12.0000, -34.0000, 56.0000)" in told
    other = plane("RAS" if system == "LPS" else "LPS")
    for key in ("baseToNode", "orientation", "normal", "center"):  # one key of the other system: a mirrored mix
        assert "apart" in refusal(tmp_path, good | {key: other[key]}), key
    three = plane(system, "threePoints")
    assert "by its controlPoints" in refusal(tmp_path, three | {"controlPoints": three["controlPoints"][::-1]})
    assert "apart" in refusal(tmp_path, plane(system, "planeFit") | {"controlPoints": three["controlPoints"]})
    slightly = np.array(good["normal"]) + 1e-5  # as written with five digits
    assert read(tmp_path, good | {"normal": slightly.tolist()})["planes"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"planeType": "quadric"}, "is of type 'quadric', must be pointNormal, threePoints, planeFit"),
        ({"planeType": "threePoints"}, "has 1 placed points, must be 3"),
        ({"planeType": "planeFit"}, "has 1 placed points, at least 3"),
        ({"controlPoints": [control([0, 0, 0])] * 3}, "has 3 placed points, must be 1 or 2"),
        (
            {"planeType": "threePoints", "controlPoints": [control([k, 0.0, 0.0]) for k in (0, 9, 20)]},
            "of one line, at least 0.1 mm",
        ),
        ({"baseToNode": [1.0] * 9}, "baseToNode of plane plan is not 16 numbers"),
        ({"normal": [0.0, 0.0, 0.0]}, "has length 0 by its normal"),
        ({"normal": [0.0, "x", 1.0]}, "normal of plane plan is not 3 numbers"),
        ({"center": [0.0, float("nan"), 1.0]}, "center of plane plan is not 3 numbers"),
        ({"orientation": [True] * 9}, "orientation of plane plan is not 9 numbers"),
    ],
)
def test_a_plane_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    assert told in refusal(tmp_path, plane() | change)


def test_a_plane_fitted_to_very_many_points_is_read(tmp_path: Path) -> None:
    across = np.random.default_rng(3).normal(size=(20_000, 2)) * [30.0, 20.0]
    across -= across.mean(axis=0)
    points = [{"position": (ORIGIN + TURN[:, :2] @ place).tolist()} for place in across]  # U of a full SVD would take 3 GB
    (found,) = read(tmp_path, plane(kind="planeFit") | {"controlPoints": points})["planes"]
    np.testing.assert_allclose(found["origin_mm"], ORIGIN, atol=1e-9)


def test_a_plane_needs_something_that_says_which_way_it_looks(tmp_path: Path) -> None:
    stated = ("normal", "orientation", "baseToNode", "objectToBase")
    assert "a point and no normal" in refusal(tmp_path, without(plane(), *stated))
    assert "no normal says which side is up" in refusal(tmp_path, without(plane(kind="planeFit"), *stated))
    assert "objectToBase that its points do not explain" in refusal(tmp_path, without(plane(moved=MOVED), "baseToNode"))


@pytest.mark.parametrize("system", ["LPS", "RAS"])
def test_curves_and_points_come_in_patient_lps(tmp_path: Path, system: str) -> None:
    ring = [[10.0, 20.0, 30.0], [-10.0, 20.5, 30.0], [0.0, -20.0, 31.0], [3.0, -21.0, 31.5]]
    tables = read(
        tmp_path,
        markup("ClosedCurve", ring, system, name="rim"),
        markup("Curve", ring[:3], system),
        markup("Fiducial", ring[:1], system, name="F"),
    )
    assert tables == {
        "curves": [
            {"name": "rim", "closed": True, "points_mm": ring, "locked": False},
            {"name": "plan-2", "closed": False, "points_mm": ring[:3], "locked": False},
        ],
        "points": [{"name": "F-1", "point_mm": ring[0], "locked": False}],
    }


def test_points_are_named_by_their_labels(tmp_path: Path) -> None:
    def names(*labels: str, **more: Any) -> list[str]:
        points = [control([k, 0.0, 0.0], k, label=label, **more) for k, label in enumerate(labels)]
        return [one["name"] for one in read(tmp_path, markup("Fiducial", [], controlPoints=points))["points"]]

    assert names("hinge") == ["hinge"]
    assert names("", description="hinge pin") == ["hinge pin"]
    assert names("") == ["plan"]
    assert names("lateral", "medial") == ["lateral", "medial"]
    assert names("pin", "pin", "other") == ["plan-1", "plan-2", "plan-3"]
    assert names("a", "") == ["plan-1", "plan-2"]
    one = markup("Fiducial", [[1.0, 2.0, 3.0]])
    assert read(tmp_path, one, name="hinge")["points"][0]["name"] == "hinge"


def test_locked_is_that_of_the_markup_or_of_the_point(tmp_path: Path) -> None:
    points = [control([1, 2, 3], 1, locked=True), control([4, 5, 6], 2)]
    assert [one["locked"] for one in read(tmp_path, markup("Fiducial", [], controlPoints=points))["points"]] == [True, False]
    unlocked = without(markup("Line", [ENTRY, TARGET]), "locked")  # Slicer reads it as not locked, whatever the schema's default
    assert not read(tmp_path, unlocked)["lines"][0]["locked"]


def test_points_that_were_not_placed_do_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    waiting = [control("", 7, positionStatus=status) for status in ("undefined", "preview", "missing")]
    tentative = control([0.0, 0.0, 0.0], 8, positionStatus="preview")
    line = markup("Line", [ENTRY, TARGET])
    line["controlPoints"] += [*waiting, tentative]
    assert read(tmp_path, line)["lines"][0]["end_mm"] == TARGET
    half = markup("Line", [ENTRY])
    half["controlPoints"] += waiting
    assert "line plan has 1 placed points, must be 2" in refusal(tmp_path, half)
    empty = markup("Line", [], controlPoints=waiting)
    assert read(tmp_path, markup("Line", [ENTRY, TARGET]), empty)["lines"][0]["name"] == "plan"
    assert "1 Line" in caplog.text
    assert "0 placed lines, planes, curves and points (they hold 1 Line)" in refusal(tmp_path, empty)


def test_what_is_no_part_of_a_plan_is_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box, angle = markup("ROI", [ORIGIN], roiType="Box", size=[10.0, 10.0, 10.0]), markup("Angle", [ENTRY, TARGET, [0, 0, 0]])
    assert list(read(tmp_path, box, markup("Line", [ENTRY, TARGET]), angle, angle)) == ["lines"]
    assert "2 Angle, 1 ROI" in caplog.text
    assert "(they hold 1 Angle, 1 ROI)" in refusal(tmp_path, box, angle)
    assert "(they hold nothing)" in refusal(tmp_path)


def test_a_closed_curve_alone_may_have_the_name_that_the_device_looks_for(tmp_path: Path) -> None:
    ring = [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]
    curve = markup("ClosedCurve", ring)
    assert read(tmp_path, curve, lone_curve="rim")["curves"][0]["name"] == "rim"
    assert read(tmp_path, curve | {"name": "edge"}, lone_curve="rim")["curves"][0]["name"] == "edge"
    assert read(tmp_path, curve, name="zone", lone_curve="rim")["curves"][0]["name"] == "zone"
    assert read(tmp_path, markup("Curve", ring), lone_curve="rim")["curves"][0]["name"] == "plan"
    assert "rim= names one markup, the file holds 2" in refusal(tmp_path, curve, curve, name="rim")


@pytest.mark.parametrize("unit", ["mm", ["mm", "UCUM", "millimeter"]])
def test_millimetres_are_known_in_both_spellings(tmp_path: Path, unit: Any) -> None:
    assert read(tmp_path, markup("Line", [ENTRY, TARGET], coordinateUnits=unit))


def test_the_systems_of_old_files_are_known_and_others_refused(tmp_path: Path) -> None:
    line = markup("Line", [ENTRY, TARGET])
    assert read(tmp_path, line | {"coordinateSystem": "1"}) == read(tmp_path, without(line, "coordinateSystem"))
    assert read(tmp_path, markup("Line", [ENTRY, TARGET], "RAS") | {"coordinateSystem": "0"})["lines"][0]["start_mm"] == ENTRY
    for change in ({"coordinateSystem": "IJK"}, {"coordinateUnits": "um"}, {"coordinateUnits": ["cm", "UCUM", "centimeter"]}):
        assert "must be LPS or RAS in mm" in refusal(tmp_path, line | change)
    with pytest.raises(OrderError, match=r"schema 2\.0\.0, known is 1\.x"):
        read_markups(saved(tmp_path, line, version="2.0.0"))


HOSTILE = {
    "deep": b"[" * 200_000,
    "no list": b'{"markups": {"type": "Line"}}',
    "no objects": b'{"markups": [1, 2]}',
    "not utf-8": b'{"markups": "\xff"}',
    "a digit too many": b'{"markups": [{"type": "Line", "controlPoints": [{"position": [' + b"9" * 5000 + b", 0, 0]}]}]}",
    "large number": b'{"markups": [{"type": "Line", "controlPoints": [{"position": [' + b"9" * 400 + b", 0, 0]}]}]}",
    "infinity": b'{"markups": [{"type": "Line", "controlPoints": [{"position": [1e999, 0, 0]}]}]}',
    "not a number": b'{"markups": [{"type": "Line", "controlPoints": [{"position": [NaN, 0, 0]}]}]}',
    "truth": b'{"markups": [{"type": "Line", "controlPoints": [{"position": [true, 0, 0]}]}]}',
    "four numbers": b'{"markups": [{"type": "Line", "controlPoints": [{"position": [1, 2, 3, 4]}]}]}',
    "no position": b'{"markups": [{"type": "Line", "controlPoints": [{}]}]}',
    "points no list": b'{"markups": [{"type": "Line", "controlPoints": 5}]}',
    "a type that is none": b'{"markups": [{"type": "Line", "controlPoints": [5]}]}',
    "an endless unit": b'{"markups": [{"type": "Line", "coordinateUnits": [[]], "controlPoints": [{"position": [1, 2, 3]}]}]}',
    "many": b'{"markups": [' + b"{}," * MAX_MARKUPS + b"{}]}",
    "large": b'{"markups": []' + b" " * MAX_MARKUPS_BYTES + b"}",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "plan.mrk.json"
    path.write_bytes(content)
    with pytest.raises(OrderError) as caught:
        read_markups(path)
    assert caught.value.hint
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (["Line"], "0 placed"),  # a type that cannot be looked up
        ({"a": 1}, "0 placed"),
        (None, "0 placed"),
    ],
)
def test_a_type_that_is_no_word_is_left_out(tmp_path: Path, kind: Any, told: str) -> None:
    assert told in refusal(tmp_path, markup("Line", [ENTRY, TARGET]) | {"type": kind})


def test_a_folder_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mrk.json")
    for place in (tmp_path, tmp_path / "pipe.mrk.json", tmp_path / "absent.mrk.json"):
        with pytest.raises(OrderError, match="cannot be read"):
            read_markups(place)


def ordered(folder: Path, plan: str, device: str = "toy") -> Order:
    path = folder / "order.toml"
    path.write_text(ORDER.replace('"toy"', f'"{device}"') + f"[plan]\n{plan}\n")
    return read_order_file(path, MODELS)


def test_an_order_takes_its_plan_from_the_files_beside_it_and_then_stands_for_itself(tmp_path: Path) -> None:
    (tmp_path / "slicer").mkdir()
    saved(tmp_path / "slicer", markup("Line", [ENTRY, TARGET], "RAS", locked=True), name="t9-left")
    saved(tmp_path, plane(), markup("Fiducial", [ORIGIN]), name="rest")
    plan = 'markups = ["slicer/t9-left.mrk.json", "rest.mrk.json", "cut=rest-plane.mrk.json"]\n'
    plan += 'lines = [{name = "mine", start_mm = [0.0, 0.0, 0.0], end_mm = [0.0, 0.0, 9.0]}]'
    saved(tmp_path, plane("RAS", "threePoints"), name="rest-plane")
    order = ordered(tmp_path, plan)
    assert [line.name for line in order.plan.lines] == ["mine", "t9-left"]
    assert order.plan.line("t9-left") == PlanLine(name="t9-left", start_mm=tuple(ENTRY), end_mm=tuple(TARGET), locked=True)
    assert [one.name for one in order.plan.planes] == ["rest-1", "cut"]
    cut, point = order.plan.plane("cut"), order.plan.point("F-1")
    assert cut is not None
    assert point is not None
    np.testing.assert_allclose(cut.normal, NORMAL, atol=1e-12)
    assert (point.point_mm, order.plan.line("other"), order.plan.curve("rim")) == (tuple(ORIGIN), None, None)
    (tmp_path / "kept").mkdir()
    kept = tmp_path / "kept" / "order.toml"
    kept.write_text(order_text(order))
    assert "markups" not in kept.read_text()
    assert read_order_file(kept, MODELS) == order


def test_a_cranial_implants_lone_closed_curve_is_its_rim(tmp_path: Path) -> None:
    saved(tmp_path, markup("ClosedCurve", [[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]), name="CC")
    assert ordered(tmp_path, 'markups = ["CC.mrk.json"]', "cranial-implant").plan.curve("rim") is not None
    assert ordered(tmp_path, 'markups = ["CC.mrk.json"]').plan.curve("CC") is not None


def test_an_order_reaches_no_file_outside_of_its_folder(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "order"
    outside.mkdir()
    folder.mkdir()
    secret = saved(outside, markup("Line", [ENTRY, TARGET]))
    (folder / "link.mrk.json").symlink_to(secret)
    (folder / "ring").symlink_to(folder / "ring")
    (folder / "down").mkdir()
    places = [
        "../outside/plan.mrk.json",
        str(secret),
        "link.mrk.json",
        "down/../../outside/plan.mrk.json",
        "a=../x",
        "nul\\u0000",
    ]
    for place in places:
        with pytest.raises(OrderError, match="must lie in the folder of the order"):
            ordered(folder, f'markups = ["{place}"]')
    with pytest.raises(OrderError, match=r"cannot be read|must lie"):
        ordered(folder, 'markups = ["ring"]')


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("markups = []", "names 0 files, must be 1 to 64"),
        ('markups = "plan.mrk.json"', "no list of file names"),
        ("markups = [1]", "no list of file names"),
        (f"markups = {['x'] * 65}", "names 65 files"),
        ('markups = ["absent.mrk.json"]', "cannot be read: no such file"),
        ('markups = ["plan.mrk.json", "plan.mrk.json"]', "more than one is named 'plan'"),
        ('markups = ["plan.mrk.json"]\nlines = 3', "plan.lines is int, must be a list"),
        ('markups = ["plan.mrk.json"]\nlinse = []', "plan.linse: unknown key"),
        ('markups = ["far.mrk.json"]', "plan.lines.0.end_mm.2"),
        ('markups = ["short.mrk.json"]', "line 'short' is 0.5 mm long, at least 1 mm"),
        ('markups = ["halved.mrk.json"]', "plan.lines.0.name"),
        ('markups = ["large.mrk.json"]', "bytes with its plan, at most 1000000 bytes"),
    ],
)
def test_a_plan_that_breaks_the_limits_of_an_order_is_refused_by_name(tmp_path: Path, plan: str, told: str) -> None:
    saved(tmp_path, markup("Line", [ENTRY, TARGET]))
    saved(tmp_path, markup("Line", [ENTRY, [0.0, 0.0, 9000.0]]), name="far")
    saved(tmp_path, markup("Line", [[0.0, 0.0, 0.0], [0.5, 0.0, 0.0]]), name="short")
    saved(tmp_path, markup("Line", [ENTRY, TARGET], name="half a pair \ud800"), name="halved")
    many = (np.random.default_rng(1).random((9000, 3)) * 100.0).tolist()
    bare = {"type": "Curve", "controlPoints": [{"position": place} for place in many]}
    saved(tmp_path, bare, bare, name="large")
    with pytest.raises(OrderError) as caught:
        ordered(tmp_path, plan)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 900
    assert caught.value.hint


def test_a_normal_is_one_long_or_refused_with_the_one_to_write() -> None:
    plan = {"planes": [{"name": "cut", "origin_mm": [0.0, 0.0, 0.0], "normal": [0.71, 0.71, 0.0]}]}
    due = {"case": "c", "device": "toy", "side": "left", "process": "p", "machine": "m"}
    with pytest.raises(
        OrderError, match=r"has length 1\.0040.*must be 1 within 1e-06; write \[0\.707106781, 0\.707106781, 0\.0\]"
    ):
        parse_order({**due, "plan": plan}, MODELS)


def test_a_moved_line_takes_the_place_of_the_one_of_its_name(tmp_path: Path) -> None:
    saved(tmp_path, markup("Line", [ENTRY, TARGET], name="left"), markup("Line", [TARGET, ENTRY], name="right"), plane())
    order = ordered(tmp_path, 'markups = ["plan.mrk.json"]')
    moved = saved(tmp_path, markup("Line", [ENTRY, [20.0, -41.0, 98.0]], "RAS"), name="left")
    changed = changed_plan(order, [str(moved), f"new={saved(tmp_path, markup('Line', [TARGET, ENTRY]), name='other')}"])
    assert [line.name for line in changed.plan.lines] == ["right", "left", "new"]
    line = changed.plan.line("left")
    assert line is not None
    assert line.end_mm == (20.0, -41.0, 98.0)
    assert (changed.plan.planes, changed.plan.line("right")) == (order.plan.planes, order.plan.line("right"))
    assert changed.model_copy(update={"plan": order.plan}) == order
    assert changed_plan(order, []) == order


@pytest.mark.data
def test_the_files_of_these_tests_keep_the_schema_that_they_name(test_data: Path) -> None:
    schema = json.loads((test_data / "schemas" / "slicer-markups" / "markups-schema-v1.0.3.json").read_text())
    drawn = [plane(system, kind) for system in ("LPS", "RAS") for kind in ("pointNormal", "threePoints", "planeFit")]
    drawn += [markup("Line", [ENTRY, TARGET]), markup("Fiducial", [ORIGIN], "RAS"), markup("ClosedCurve", [ORIGIN] * 3)]
    jsonschema.Draft7Validator(schema).validate({"@schema": f"{SCHEMAS}1.0.3.json#", "markups": drawn})


def test_a_markup_named_no_go_is_a_structure_of_its_own_with_the_size_that_the_order_gives_it(tmp_path: Path) -> None:
    drawn = {
        "no-go-nerve": markup("Curve", [ENTRY, TARGET, ORIGIN], "RAS"),
        "no-go-ring": markup("ClosedCurve", [ENTRY, TARGET, ORIGIN]),
        "no-go-clips": markup("Fiducial", [ENTRY, TARGET]),
    }
    for name, one in drawn.items():
        (tmp_path / f"{name}.mrk.json").write_text(json.dumps({"markups": [one]}))
    files = ", ".join(f'"{name}.mrk.json"' for name in drawn)
    sizes = '{name = "nerve", radius_mm = 1.5, keep_mm = 4.0}, {name = "clips", keep_mm = 1.0}'
    one = tmp_path / "order.toml"
    one.write_text(f"{ORDER}[plan]\nmarkups = [{files}]\nno_go = [{sizes}]\n")
    order = read_order_file(one, MODELS)
    assert order.plan.curves == order.plan.points == ()
    found = {one.name: one for one in order.plan.no_go}
    assert list(found) == ["nerve", "ring", "clips-1", "clips-2"]
    assert np.allclose(found["nerve"].points_mm, [ENTRY, TARGET, ORIGIN])
    assert (found["nerve"].radius_mm, found["nerve"].keep_mm) == (1.5, 4.0)
    assert np.allclose(found["ring"].points_mm, [ENTRY, TARGET, ORIGIN, ENTRY])
    assert (found["ring"].radius_mm, found["ring"].keep_mm) == (0.0, 2.0)
    assert found["clips-1"].points_mm == (tuple(ENTRY),)
    assert found["clips-2"].keep_mm == 1.0
    (tmp_path / "moved.mrk.json").write_text(json.dumps({"markups": [markup("Curve", [TARGET, ORIGIN, ENTRY])]}))
    moved = changed_plan(order, [f"no-go-nerve={tmp_path / 'moved.mrk.json'}"]).plan.no_go
    assert np.allclose(moved[-1].points_mm, [TARGET, ORIGIN, ENTRY])
    assert (moved[-1].name, moved[-1].radius_mm) == ("nerve", 1.5)


def test_a_size_for_a_structure_that_nobody_drew_and_a_plane_as_a_structure_are_refused(tmp_path: Path) -> None:
    (tmp_path / "no-go-nerve.mrk.json").write_text(json.dumps({"markups": [markup("Line", [ENTRY, TARGET])]}))
    one = tmp_path / "order.toml"
    one.write_text(f'{ORDER}[plan]\nmarkups = ["no-go-nerve.mrk.json"]\nno_go = [{{name = "vein", radius_mm = 2.0}}]\n')
    with pytest.raises(OrderError, match=r"plan\.no_go\.0\.points_mm: Field required"):
        read_order_file(one, MODELS)
    one.write_text(f'{ORDER}[plan]\nmarkups = ["no-go-nerve=plane.mrk.json"]\n')
    plane = markup("Plane", [ORIGIN, ORIGIN + TURN[:, 0], ORIGIN + TURN[:, 1]], planeType="3points")
    (tmp_path / "plane.mrk.json").write_text(json.dumps({"markups": [plane]}))
    with pytest.raises(OrderError, match="plane no-go-nerve cannot be a structure"):
        read_order_file(one, MODELS)
