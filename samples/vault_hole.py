"""A closed piece of an ellipsoidal vault with a round hole in it, and the true plan of an implant for that hole."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from batchone.design.cranial.columns import Columns
from batchone.design.cranial.field import zero_surface
from batchone.pipeline.values import Anatomy, Axis, Bone, Curve, FieldOfView, FloatArray, Mesh, Plan, Surface, Vector

OUTER_MM = np.array([72.0, 88.0, 75.0])  # half axes of the outer table
THICK_MM = 6.0
HOLE_MM = 42.0
OUT = np.array([0.75, 0.25, 0.61]) / np.linalg.norm([0.75, 0.25, 0.61])
STEP_MM = 0.8


def hole_axes() -> FloatArray:
    """(3, 3) columns: two directions across the hole, and out of it."""
    first = np.cross([0.0, 1.0, 0.0], OUT)
    first /= np.linalg.norm(first)
    return np.column_stack([first, np.cross(OUT, first), OUT])


def to_ellipsoid_mm(points: FloatArray, half_axes: FloatArray) -> FloatArray:
    """First-order signed distance of points (..., 3) to an ellipsoid about the origin, mm; negative inside."""
    scaled = points / half_axes
    size = np.linalg.norm(scaled, axis=-1)
    return np.asarray(size * (size - 1.0) / np.linalg.norm(scaled / half_axes, axis=-1))


def _radius(directions: FloatArray, half_axes: FloatArray) -> FloatArray:
    return np.asarray(1.0 / np.linalg.norm(directions / half_axes, axis=-1))


@lru_cache(maxsize=8)
def skull(angle_deg: float = 0.0, *, cleft_mm: float = 0.0) -> Anatomy:
    """A closed piece of vault with a round hole that opens outward by ``angle_deg``, and a cleft through its side."""
    basis, half = hole_axes(), HOLE_MM / 2.0 + 12.0
    at_top = float(_radius(OUT, OUTER_MM))
    low = np.array([-half - 2.0 * STEP_MM, -half - 2.0 * STEP_MM, at_top - 26.0])
    shape = (int(2.0 * half / STEP_MM) + 5, int(2.0 * half / STEP_MM) + 5, int(30.0 / STEP_MM))
    grid = low + STEP_MM * np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    points = grid @ basis.T
    across, along = np.hypot(grid[..., 0], grid[..., 1]), grid[..., 2] - at_top
    wall = (HOLE_MM / 2.0 + along * np.tan(np.radians(angle_deg)) - across) * np.cos(np.radians(angle_deg))
    if cleft_mm:
        wall = np.maximum(wall, np.minimum(cleft_mm / 2.0 - np.abs(grid[..., 0]), grid[..., 1]))
    shell = np.maximum(to_ellipsoid_mm(points, OUTER_MM), -to_ellipsoid_mm(points, OUTER_MM - THICK_MM))
    field = np.maximum.reduce([shell, wall, across - half, -22.0 - along]).astype(np.float32)
    field[np.abs(field) < 1e-3] = 1e-3
    for axis in range(3):
        np.moveaxis(field, axis, 0)[[0, -1]] = 5.0
    none = np.zeros((1, 1))
    mesh, _ = zero_surface(field, Columns(low, STEP_MM, shape, none, none.astype(np.bool_)))
    mesh = Mesh(np.ascontiguousarray(mesh.vertices_mm @ basis.T), mesh.faces)
    bone = Bone("skull", "midline", True, 1.0, 1.0, mesh, np.eye(4), np.zeros(len(mesh.vertices_mm)))
    return Anatomy((bone,), (), FieldOfView(np.eye(4), (200, 200, 200)))


def _rim(angle_deg: float) -> FloatArray:
    """Where the hole meets the outer table."""
    basis, at_top = hole_axes(), float(_radius(OUT, OUTER_MM))
    turns = np.linspace(0.0, 2.0 * np.pi, 240, endpoint=False)
    low, high = np.zeros(240), np.full(240, 1.0)
    for _ in range(50):
        tilt = 0.5 * (low + high)
        rays = np.column_stack([np.cos(turns) * np.sin(tilt), np.sin(turns) * np.sin(tilt), np.cos(tilt)])
        points = rays * _radius(rays @ basis.T, OUTER_MM)[:, None]
        beyond = np.hypot(points[:, 0], points[:, 1]) > HOLE_MM / 2.0 + (points[:, 2] - at_top) * np.tan(np.radians(angle_deg))
        low, high = np.where(beyond, low, tilt), np.where(beyond, tilt, high)
    return np.asarray(points @ basis.T)


def _vector(point: FloatArray) -> Vector:
    return (float(point[0]), float(point[1]), float(point[2]))


def plan_for(angle_deg: float = 0.0, *, proud_mm: float = 0.0) -> Plan:
    """The true plan of :func:`skull`; ``proud_mm`` raises the contour above the skull."""
    spread = np.linspace(-0.62, 0.62, 75)
    u, v = np.meshgrid(spread, spread, indexing="ij")
    rays = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ hole_axes().T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    index = np.arange(75 * 75).reshape(75, 75)
    a, b, c, d = (x.ravel() for x in (index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]))
    faces = np.vstack([np.column_stack([a, b, c]), np.column_stack([a, c, d])]).astype(np.int32)
    outer, inner = (Mesh(rays * (_radius(rays, axes) + proud_mm)[:, None], faces) for axes in (OUTER_MM, OUTER_MM - THICK_MM))
    rim = _rim(angle_deg)
    middle = rim.mean(axis=0)
    return Plan(
        "cranial-implant",
        True,
        "left",
        curves=(Curve("rim", rim, True),),
        axes=(
            Axis("vault-centre", (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
            Axis(
                "insertion", (float(middle[0]), float(middle[1]), float(middle[2])), (float(OUT[0]), float(OUT[1]), float(OUT[2]))
            ),
        ),
        surfaces=(Surface("contour-outer", outer), Surface("contour-inner", inner)),
    )
