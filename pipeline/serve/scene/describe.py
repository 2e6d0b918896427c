"""What a screen is told of a scene: names, places and looks; triangles and voxels come for themselves."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import quote

import numpy as np

from batchone.pipeline.findings import number_words
from batchone.pipeline.serve.scene.content import Content
from batchone.pipeline.serve.scene.reduce import CELL_MM, NEAR_MM
from batchone.pipeline.serve.scene.sections import Section, shown_sections
from batchone.pipeline.serve.scene.surfaces import Shown, shown_surfaces
from batchone.pipeline.serve.scene.volume import shown_grid
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Axis, Curve, Finding, Plane

WINDOW_HU = (-250.0, 1350.0)  # as in the report's sections: skin, brain and bone apart
PLANE_MM = 60.0  # side of the square that shows a plane
MOST_POINTS = 400  # of a curve on the screen


def scene_digest(case: CaseFolder) -> str:
    """SHA-256 (hex) that differs whenever anything of a scene may differ; quick, for an ETag."""
    return Content(case).digest


def shapes_digest(case: CaseFolder) -> str:
    """The same of voxels, triangles and sections alone."""
    return Content(case).shapes_digest


def device_digest(case: CaseFolder) -> str:
    """See :attr:`Content.device_digest`."""
    return Content(case).device_digest


def scene_description(case: CaseFolder, *, findings: bool) -> dict[str, Any]:
    """The scene as a JSON tree; addresses are relative to that of the scene itself.

    Parameters
    ----------
    findings
        Whether the findings are told: they are for those who judge a device.

    Raises
    ------
    InputError
        The case has no scan yet.
    """
    content = Content(case)
    scan, region = content.scan, content.region
    grid, whole = shown_grid(scan, region), shown_grid(scan, None, full=True)
    sections = tuple(shown_sections(content))
    plan = content.plan
    centre = None if region is None else ((region.low_mm + region.high_mm) / 2.0).tolist()
    return {
        "case": case.path.name,
        "digest": content.digest,
        "shapes": content.shapes_digest,
        "frame": "LPS",
        "unit": "mm",
        "volume": {
            "url": "volume",
            "full_url": None if grid.count == whole.count else "volume?full=1",
            "voxels": list(grid.count),
            "spacing_mm": list(grid.spacing_mm),
            "full_voxels": list(whole.count),
            "full_spacing_mm": list(whole.spacing_mm),
            "resampled": grid.step is None,
            "window_hu": list(WINDOW_HU),
        },
        "surfaces": [_surface(one) for one in shown_surfaces(content)],
        "reduced": {"exact_within_mm": NEAR_MM, "cell_mm": CELL_MM},
        "trajectories": [] if plan is None else [_trajectory(one, sections) for one in plan.axes if one.length_mm is not None],
        "axes": [] if plan is None else [_axis(one) for one in plan.axes if one.length_mm is None],
        "planes": [] if plan is None else [_plane(one) for one in plan.planes],
        "curves": [] if plan is None else [_curve(one) for one in plan.curves],
        "findings": [_finding(name, one) for name, one in content.findings] if findings else [],
        "sections": [_section(one, content.shapes_digest) for one in sections],
        "landmarks": []
        if content.anatomy is None
        else [{"name": one.name, "point": list(one.point_mm), "spread_mm": one.spread_mm} for one in content.anatomy.landmarks],
        "box": None if region is None else {"centre": centre, "size": (region.high_mm - region.low_mm).tolist()},
    }


def _surface(one: Shown) -> dict[str, Any]:
    url = f"surface/{quote(one.name, safe='')}"
    scale = one.scale
    return {
        "name": one.name,
        "title": one.title,
        "kind": one.kind,
        "url": url,
        "full_url": f"{url}?full=1",
        "colour": one.colour,
        "opacity": one.opacity,
        "visible": one.visible,
        "base": one.base,
        "values": None if scale is None else {"what": scale.what, "unit": scale.unit, "low": scale.low, "high": scale.high},
    }


def _trajectory(axis: Axis, sections: tuple[Section, ...]) -> dict[str, Any]:
    found = next((one.diameter_mm for one in sections if one.way.name == axis.name and one.diameter_mm), None)
    target = axis.at_mm(axis.length_mm or 0.0)
    return {"name": axis.name, "entry": list(axis.origin_mm), "target": list(target), "diameter_mm": found}


def _axis(axis: Axis) -> dict[str, Any]:
    return {"name": axis.name, "point": list(axis.origin_mm), "direction": list(axis.direction)}


def _plane(plane: Plane) -> dict[str, Any]:
    return {"name": plane.name, "point": list(plane.origin_mm), "normal": list(plane.normal), "side_mm": PLANE_MM}


def _curve(curve: Curve) -> dict[str, Any]:
    step = max(1, -(-len(curve.points_mm) // MOST_POINTS))
    return {"name": curve.name, "points": np.round(curve.points_mm[::step], 3).tolist(), "closed": curve.closed}


def _finding(name: str, one: Finding) -> dict[str, Any]:
    known = math.isfinite(one.value)
    text = f"{one.what}: {number_words(one.value, 4)} {one.unit}".rstrip()
    return {
        "id": name,
        "check": one.check,
        "text": text,
        "value": one.value if known else None,
        "unit": one.unit,
        "limit": one.limit,
        "status": one.verdict,
        "points": [] if one.where_mm is None else [list(one.where_mm)],
    }


def _section(one: Section, shapes: str) -> dict[str, Any]:
    url = f"section/{quote(one.name, safe='')}?of={shapes}"
    middle = one.way.at_mm(0.0)
    return {
        "name": one.name,
        "part": one.part,
        "point": list(middle),
        "axis": list(one.way.direction),
        "across": list(one.across),
        "length_mm": one.way.length_mm,
        "diameter_mm": one.diameter_mm,
        "urls": [url, f"{url}&across=1"],
    }
