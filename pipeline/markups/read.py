"""A plan that a person drew in 3D Slicer (``*.mrk.json``, schema 1.x), as tables for ``[plan]`` of an order in patient LPS mm.

3D Slicer writes a markup without its name: on the way back it takes the file's. What is read is what 3D Slicer shows
(``vtkMRMLMarkupsJsonStorageNode``, Slicer 4.11 to 5.8): the positions of a file are LPS unless it says RAS; only points whose
position is ``defined`` count; measurements and looks are not part of a plan.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batchone.pipeline.errors import OrderError
from batchone.pipeline.markups.plane import read_plane

MAX_MARKUPS_BYTES = 10_000_000  # ten thousand points take about 4 MB; project default
MAX_MARKUPS = 256  # markups in one file; project default
PlanTables = dict[str, list[dict[str, Any]]]
"""Kind (``curves``, ``lines``, ``planes``, ``points``, ``no_go``) -> entries as an order has them."""
NO_GO = "no-go-"  # what the name of a structure begins with that must not be touched

_KINDS = {"Line": "lines", "Plane": "planes", "Curve": "curves", "ClosedCurve": "curves", "Fiducial": "points"}
_FLIPS = {"LPS": 1.0, "RAS": -1.0, "1": 1.0, "0": -1.0}  # of x and y; numbers: Slicer before 4.11
_SUFFIXES = (".mrk.json", ".json")
_DRAW = "draw it in 3D Slicer's Markups module and save it as .mrk.json"
_log = logging.getLogger(__name__)


def read_markups(path: Path, name: str = "", *, lone_curve: str = "") -> PlanTables:
    """The markups of a file, in the order of the file.

    Parameters
    ----------
    path
        A ``.mrk.json`` file.
    name
        What its one markup is called; without it: its own name, else the file's. Several without a name are
        ``<file>-1``, ``<file>-2``... The points of a list have their labels.
    lone_curve
        What a closed curve without a name is called that is alone in its file.

    Returns
    -------
    Tables for ``[plan]`` of an order; positions LPS mm, normals of length 1. Not yet checked against an order's limits.

    Raises
    ------
    OrderError
        Not readable, nothing of a plan in it, half placed, in a coordinate system or unit that is not known, or a plane
        that contradicts itself.
    """
    placed, told = _placed(path)
    if not placed:
        raise OrderError(
            f"the markups hold 0 placed lines, planes, curves and points (they hold {told or 'nothing'})", hint=_DRAW
        )
    if told:
        _log.warning("markups left out, for a plan has none of their kind or they were not placed: %s", told)
    if name and len(placed) > 1:
        raise OrderError(
            f"{name}= names one markup, the file holds {len(placed)}", hint="give the file without a name; they have their own"
        )
    stem = next((path.name[: -len(end)] for end in _SUFFIXES if path.name.lower().endswith(end)), path.stem)
    tables: PlanTables = {}
    for number, (markup, points) in enumerate(placed, start=1):
        called = name or _text(markup, "name")
        if not called and len(placed) == 1:
            called = lone_curve if lone_curve and _text(markup, "type") == "ClosedCurve" else stem
        if not called and not stem:
            raise OrderError(
                f"markup {number} has no name, and its file none for it", hint="save it as what it is called: t9-left.mrk.json"
            )
        called = called or f"{stem}-{number}"
        kind, entries = _entries(markup, points, called, named=bool(name))
        if called.startswith(NO_GO):
            kind, entries = "no_go", _no_go(entries, called.removeprefix(NO_GO))
        tables.setdefault(kind, []).extend(entries)
    return tables


def left_out(path: Path) -> str:
    """What a file holds beside a plan, of another kind or not placed, in words (``2 Angle, 1 Line``); empty for nothing.

    Raises
    ------
    OrderError
        Not readable as markups.
    """
    return _placed(path)[1]


def _placed(path: Path) -> tuple[list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]], str]:
    """The markups of a plan that were placed, with their points; and what is left out, in words."""
    found = _document(path)
    placed = [(markup, points) for markup in found if _text(markup, "type") in _KINDS and (points := _points(markup))]
    beside = Counter(_text(markup, "type")[:32] or "unknown" for markup in found)
    beside.subtract(_text(markup, "type") for markup, _ in placed)
    return placed, ", ".join(f"{count} {kind}" for kind, count in sorted(beside.items()) if count)


def _document(path: Path) -> list[Mapping[str, Any]]:
    try:
        if not path.is_file():
            raise OrderError("the markups cannot be read: no such file", hint="check the path of the markups")
        with path.open("rb") as stream:
            content = stream.read(MAX_MARKUPS_BYTES + 1)
        if len(content) > MAX_MARKUPS_BYTES:
            raise OrderError(
                f"the markups are more than {MAX_MARKUPS_BYTES} bytes, at most that", hint="is this the markups file?"
            )
        found = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise OrderError(f"the markups cannot be read: {error.strerror}", hint="check the path of the markups") from error
    except (ValueError, RecursionError) as error:
        raise OrderError("the markups are not a JSON document", hint=_DRAW) from error
    markups = found.get("markups") if isinstance(found, dict) else None
    if not isinstance(markups, list) or not all(isinstance(one, dict) for one in markups):
        raise OrderError("the markups file holds no list of markups", hint=_DRAW)
    if len(markups) > MAX_MARKUPS:
        raise OrderError(f"the file holds {len(markups)} markups, at most {MAX_MARKUPS}", hint="save only those of the plan")
    version = re.search(r"v(\d+)\.\d+\.\d+", _text(found, "@schema"))
    if version is not None and version[1] != "1":
        raise OrderError(f"the markups have schema {version[0][1:17]}, known is 1.x", hint="save them with a 3D Slicer of today")
    return markups


def _entries(
    markup: Mapping[str, Any], points: list[Mapping[str, Any]], name: str, *, named: bool
) -> tuple[str, list[dict[str, Any]]]:
    """What one markup is in an order: its kind, and one entry, or as many as a list has points."""
    flip, what = _flip(markup, name), _text(markup, "type")
    positions = [_position(point, flip, f"point {number} of {what} {name}") for number, point in enumerate(points, start=1)]
    entry: dict[str, Any] = {"name": name, "locked": markup.get("locked") is True}
    if what == "Fiducial":
        names = _labels(points, name, named=named)
        return "points", [
            {"name": label, "locked": entry["locked"] or point.get("locked") is True, "point_mm": position}
            for label, point, position in zip(names, points, positions, strict=True)
        ]
    if what == "Line":
        if len(positions) != 2:
            raise OrderError(f"line {name} has {len(positions)} placed points, must be 2: entry, target", hint=_DRAW)
        return "lines", [{**entry, "start_mm": positions[0], "end_mm": positions[1]}]
    if what == "Plane":
        origin_mm, normal = read_plane(markup, positions, flip, name)
        return "planes", [{**entry, "origin_mm": origin_mm, "normal": normal}]
    return "curves", [{**entry, "closed": what == "ClosedCurve", "points_mm": positions}]


def _no_go(entries: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """A drawn line or curve, or each of several points, as a structure that must not be touched."""
    found = []
    for number, entry in enumerate(entries, start=1):
        if "normal" in entry:
            raise OrderError(f"plane {NO_GO}{name} cannot be a structure to keep away from", hint="draw a line, curve or points")
        drawn = [entry["point_mm"]] if "point_mm" in entry else entry.get("points_mm") or [entry["start_mm"], entry["end_mm"]]
        points = [*drawn, drawn[0]] if entry.get("closed") else drawn
        called = name if len(entries) == 1 else f"{name}-{number}"
        found.append({"name": called, "points_mm": points, "locked": entry["locked"]})
    return found


def _flip(markup: Mapping[str, Any], name: str) -> float:
    """What x and y of the file are multiplied by to be LPS."""
    system, unit = str(markup.get("coordinateSystem", "LPS")), markup.get("coordinateUnits", "mm")
    unit = unit[0] if isinstance(unit, list) and unit else unit  # a code: value, scheme, meaning
    if system not in _FLIPS or unit != "mm":
        given = f"{system[:32]} {str(unit)[:32]}"
        raise OrderError(f"{markup['type']} {name} is in {given}, must be LPS or RAS in mm", hint="save it from 3D Slicer again")
    return _FLIPS[system]


def _points(markup: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The control points that were placed."""
    points = markup.get("controlPoints", [])
    if not isinstance(points, list) or not all(isinstance(point, dict) for point in points):
        raise OrderError(f"the control points of a {markup['type']} are no list of points", hint=_DRAW)
    return [point for point in points if point.get("positionStatus", "defined") == "defined"]


def _position(point: Mapping[str, Any], flip: float, what: str) -> list[float]:
    given = point.get("position")
    numbers = isinstance(given, list) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in given)
    if not isinstance(given, list) or not numbers or len(given) != 3 or not all(abs(value) < math.inf for value in given):
        raise OrderError(f"{what} has no position of three numbers", hint=_DRAW)
    try:
        x, y, z = map(float, given)
    except OverflowError:
        raise OrderError(f"{what} has no position of three numbers", hint=_DRAW) from None
    return [flip * x + 0.0, flip * y + 0.0, z + 0.0]


def _labels(points: list[Mapping[str, Any]], name: str, *, named: bool) -> list[str]:
    """The names of a list's points: their labels where each has its own; a single one may have a description instead."""
    if len(points) == 1:
        return [name if named else _text(points[0], "label") or _text(points[0], "description") or name]
    labels = [_text(point, "label") for point in points]
    if all(labels) and len(set(labels)) == len(labels):
        return labels
    return [f"{name}-{number}" for number in range(1, len(points) + 1)]


def _text(tree: Mapping[str, Any], key: str) -> str:
    text = tree.get(key)
    return text.strip() if isinstance(text, str) else ""
