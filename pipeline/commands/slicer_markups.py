"""Curves that a person drew in 3D Slicer (``*.mrk.json``, schema 1.0.0 to 1.0.3), as curves of an order in patient LPS mm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchone.pipeline.errors import OrderError

MAX_MARKUPS_BYTES = 10_000_000  # ten thousand points take about 4 MB; project default

_CURVES = {"ClosedCurve": True, "Curve": False}  # type -> closed
_SIGNS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
_DRAW = "draw a closed curve in 3D Slicer's Markups module and save it as .mrk.json"


def read_curves(setting: str) -> list[dict[str, Any]]:
    """The curves of ``[NAME=]FILE`` as tables for ``plan.curves`` of an order.

    A file with one curve gives it the NAME (without one: ``rim``, what the families look for); several keep their own names.

    Raises
    ------
    OrderError
        Not readable, no curve in it, or in a coordinate system or unit that is not known.
    """
    name, _, place = setting.rpartition("=")
    markups = _markups(Path(place))
    curves = [one for one in markups if one.get("type") in _CURVES]
    if not curves:
        kinds = ", ".join(sorted({str(one.get("type")) for one in markups})) or "nothing"
        raise OrderError(f"the markups hold 0 curves (they hold {kinds}), at least 1 is needed", hint=_DRAW)
    if len(curves) == 1:
        return [_curve(curves[0], name or "rim")]
    return [_curve(one, str(one.get("name") or f"curve-{number}")) for number, one in enumerate(curves, start=1)]


def _markups(path: Path) -> list[Mapping[str, Any]]:
    try:
        size = path.stat().st_size
        if size > MAX_MARKUPS_BYTES:
            raise OrderError(f"the markups are {size} bytes, at most {MAX_MARKUPS_BYTES} bytes", hint="is this the markups file?")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OrderError(f"the markups cannot be read: {error.strerror}", hint="check the path given with --markups") from error
    except (ValueError, RecursionError) as error:
        raise OrderError("the markups are not a JSON document", hint=_DRAW) from error
    markups = found.get("markups") if isinstance(found, dict) else None
    if not isinstance(markups, list) or not all(isinstance(one, dict) for one in markups):
        raise OrderError("the markups file holds no list of markups", hint=_DRAW)
    return markups


def _curve(markup: Mapping[str, Any], name: str) -> dict[str, Any]:
    system, unit = str(markup.get("coordinateSystem", "LPS")), markup.get("coordinateUnits", "mm")
    unit = unit[0] if isinstance(unit, list) and unit else unit  # a code: value, scheme, meaning
    if system not in _SIGNS or unit != "mm":
        raise OrderError(f"curve {name} is in {system} {unit}, must be LPS or RAS in mm", hint="save it from 3D Slicer again")
    return {"name": name, "closed": _CURVES[str(markup["type"])], "points_mm": _points(markup, _SIGNS[system], name)}


def _points(markup: Mapping[str, Any], signs: tuple[float, float, float], name: str) -> list[list[float]]:
    points: list[list[float]] = []
    try:
        for point in markup.get("controlPoints", ()):
            if point.get("positionStatus", "defined") == "defined":
                points.append([sign * float(value) + 0.0 for sign, value in zip(signs, point["position"], strict=True)])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise OrderError(f"point {len(points) + 1} of curve {name} has no position of three numbers", hint=_DRAW) from error
    return points
