"""Close pictures of where a finding lies: the worst of each check that failed, was waived, or warns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchone.design.nearest import nearest_points
from batchone.pipeline.findings import number_words, worst_first
from batchone.pipeline.job.annotate import annotated
from batchone.pipeline.job.pictures import DEVICE_COLOURS, Picture, side_of
from batchone.pipeline.job.raster import HEIGHT_PX, Camera, Canvas, Rgb, make_body
from batchone.pipeline.values import Device, Finding, FloatArray, Mesh, Vector

MOST = 8  # pictures: the worst come first; more would hide them
_ABOUT_MM = 5.0  # the surface within so far tells from where to look; project default
_SHOWN_MM = 30.0  # height of what is seen about the place; project default
_MARK_MM = 0.6  # radius of the ball at the place
_MARK: Rgb = (0.85, 0.12, 0.10)
_BEFORE_MM = 3.0  # the ball is drawn before what lies so far nearer: places inside a wall are seen too


def closeups(findings: Sequence[Finding], device: Device) -> tuple[Picture, ...]:
    """One picture for each check with something to look at, the worst first, ``MOST`` at most.

    Returns
    -------
    tuple of Picture
        ``finding-<check>.png``: the nearest part about the place, which bears a red ball, seen along the surface there.
    """
    worst: dict[str, Finding] = {}
    for finding in worst_first(one for one in findings if one.verdict != "pass" and one.where_mm is not None):
        worst.setdefault(finding.check, finding)
    return tuple(_closeup(finding, device) for finding in list(worst.values())[:MOST])


def _closeup(finding: Finding, device: Device) -> Picture:
    place = np.array(finding.where_mm)
    part = min(device.parts, key=lambda one: float(nearest_points(place[None], one.mesh)[0][0]))
    outward = _outward(part.mesh, place)
    forward = _vector(-np.array(outward))
    camera = Camera(_vector(place), forward, side_of(outward), _SHOWN_MM / HEIGHT_PX)
    canvas = Canvas(camera)
    canvas.add((make_body(part.mesh, DEVICE_COLOURS[0]), make_body(_ball(place), _MARK, nearer_mm=_BEFORE_MM)))
    value = f"{number_words(finding.value, 4)} {finding.unit}".strip()
    caption = f"{finding.verdict}: {finding.what}: {value}, {finding.limit}"
    right, up, _ = camera.axes
    png = annotated(canvas.image(), right=right, up=up, mm_per_px=camera.mm_per_px, title=caption, colours="fine")
    return Picture(f"finding-{finding.check.replace(' ', '-')}.png", caption, png)


def _outward(mesh: Mesh, place: FloatArray) -> Vector:
    """Across most of the surface about a place: into a hole, not against its wall; on the side of the nearest triangle."""
    _, face, _ = nearest_points(place[None], mesh)
    corners = mesh.vertices_mm[mesh.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    near = np.linalg.norm(corners.mean(axis=1) - place, axis=1) < _ABOUT_MM
    near[face[0]] = True
    length = np.maximum(np.linalg.norm(areas[near], axis=1), 1e-30)
    across = np.linalg.eigh((areas[near] / length[:, None]).T @ areas[near])[1][:, 2]
    sides = areas[near] @ across
    sign = float(areas[face[0]] @ across)
    if abs(sign) < 0.1 * float(np.linalg.norm(areas[face[0]])):  # a wall of a hole: the side that shows more
        sign = float(sides.sum())
    return _vector(across if sign >= 0.0 else -across)


def _ball(middle: FloatArray) -> Mesh:
    """A small ball of 128 triangles about a place: an octahedron, split twice."""
    points = np.vstack([np.eye(3), -np.eye(3)])
    faces = np.array([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    for _ in range(2):
        a, b, c = (points[faces[:, k]] for k in range(3))
        corners = np.stack([a, a + b, a + c, a + b, b, b + c, a + c, b + c, c, a + b, b + c, a + c], axis=1).reshape(-1, 3)
        points = corners / np.linalg.norm(corners, axis=1, keepdims=True)
        faces = np.arange(len(points)).reshape(-1, 3)
    return Mesh(middle + _MARK_MM * points, np.ascontiguousarray(faces, dtype=np.int32))


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
