"""A plan as 3D Slicer's markups, for a person to move and send back.

Written after the published schema 1.0.3 (valid under 1.0.0 too) so that 3D Slicer 5 shows each markup under its name; Slicer
4.11 shows the first one only.
"""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from batchone.pipeline.values import Axis, Curve, Plan, Plane, Side, Vector

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
)
SHOWN_MM = 50.0  # how long an axis without an end is drawn; project default
PLANE_MM = 80.0  # how broad a plane is drawn; project default

# blue, vermilion, green, yellow of Okabe and Ito (2008): told apart by every kind of colour vision
_COLOURS = {"left": [0.0, 0.45, 0.7], "right": [0.84, 0.37, 0.0], "": [0.0, 0.62, 0.45]}
_ACTIVE = [0.94, 0.89, 0.26]
_OBJECT_TO_BASE = [-1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]  # none, in a file in LPS


def write_markups(plan: Plan) -> bytes:
    """The axes, planes and curves of a plan as one ``.mrk.json`` file, in that order.

    An axis is a line from its origin (the entry) to its end, or over :data:`SHOWN_MM` where it has none. Surfaces are left
    out. Nothing is locked. The same plan gives the same bytes; every number reads back as it was.
    """
    markups = [_line(axis, plan.side) for axis in plan.axes]
    markups += [_plane(plane, plan.side) for plane in plan.planes]
    markups += [_curve(curve, plan.side) for curve in plan.curves]
    return (json.dumps({"@schema": SCHEMA, "markups": markups}, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _line(axis: Axis, side: Side) -> dict[str, Any]:
    length_mm = SHOWN_MM if axis.length_mm is None else axis.length_mm
    start = np.array(axis.origin_mm)
    ends = (start, start + length_mm * np.array(axis.direction))
    controls = [
        _point(number, label, place.tolist())
        for number, (label, place) in enumerate(zip(("entry", "target"), ends, strict=True), 1)
    ]
    return _markup("Line", axis.name, side, controls)


def _plane(plane: Plane, side: Side) -> dict[str, Any]:
    x, y, normal = _axes(plane.normal)
    turn = np.column_stack([x, y, normal])
    base = np.eye(4)
    base[:3] = np.column_stack([turn, plane.origin_mm])
    half_mm = PLANE_MM / 2.0
    stated = {
        "planeType": "pointNormal",
        "sizeMode": "absolute",
        "center": _floats(plane.origin_mm),
        "normal": _floats(normal),
        "objectToBase": _OBJECT_TO_BASE,
        "baseToNode": _floats(base.ravel()),
        "orientation": _floats(turn.ravel()),
        "size": [PLANE_MM, PLANE_MM, 0.0],
        "planeBounds": [-half_mm, half_mm, -half_mm, half_mm],
    }
    return _markup("Plane", plane.name, side, [_point(1, plane.name, plane.origin_mm)], **stated)


def _axes(normal: Vector) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two directions in a plane and its normal, right-handed; the first is the patient axis that lies flattest, straightened."""
    z = np.array(normal) / np.linalg.norm(normal)
    x = np.zeros(3)
    x[int(np.argmin(np.abs(z)))] = 1.0
    x -= (x @ z) * z
    x /= np.linalg.norm(x)
    return x, np.cross(z, x), z


def _curve(curve: Curve, side: Side) -> dict[str, Any]:
    controls = [_point(number, f"{curve.name}-{number}", place) for number, place in enumerate(curve.points_mm.tolist(), 1)]
    return _markup("ClosedCurve" if curve.closed else "Curve", curve.name, side, controls)


def _point(number: int, label: str, place: Any) -> dict[str, Any]:
    return {"id": str(number), "label": label, "position": _floats(place), "positionStatus": "defined"}


def _markup(kind: str, name: str, side: Side, controls: list[dict[str, Any]], **stated: Any) -> dict[str, Any]:
    words = set(re.findall("left|right", name.lower()))
    colour = _COLOURS.get(words.pop() if len(words) == 1 else side, _COLOURS[""])
    return {
        "type": kind,
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(controls),
        **stated,
        "controlPoints": controls,
        "display": {
            "visibility": True,
            "opacity": 1.0,
            "color": colour,
            "selectedColor": colour,
            "activeColor": _ACTIVE,
            "propertiesLabelVisibility": True,
            "pointLabelsVisibility": False,
        },
    }


def _floats(values: Any) -> list[float]:
    return [float(value) + 0.0 for value in values]
