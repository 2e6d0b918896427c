"""The engraved label: case code and an arrow to the top of the head, of the same depth all over the curved face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from batchone.design import solid
from batchone.design.booleans import Solid, intersection, solid_from_mesh, union
from batchone.design.cranial.blank import Blank
from batchone.design.cranial.columns import BoolArray
from batchone.design.cranial.layout import layout
from batchone.pipeline.errors import DesignError
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, IntArray, Mesh, Vector

LABEL = "label"

_STROKE_PER_HEIGHT = 0.19  # thinnest stroke of DejaVu Sans Bold per height of a capital; measured on its capitals
_LINE_PITCH = 1.5  # baseline distance per height of a capital
_ARROW_PER_HEIGHT = 1.6  # length of the arrow per height of one line, at least
_ARROW_WIDTH = 0.6  # width of the arrow's head per its length
_MARGIN_MM = 1.0  # kept free around the label
_BORDER_MM = 2.0  # from the label to the border of the implant; project default, unverified
_MAX_TILT_DEG = 28.0  # between the face's normals at the middle and at the corners of the label: letters stay readable
_MAX_LINES = 4
_LEAST_DEPTH_MM = 0.15  # shallowest engraving that is still seen (LPBF, line 0.4 mm); generic design guides of metal printing
_LEAST_WALL_MM = 1.0  # left below the letters, whatever the process can print; project default, unverified
_WALL_RESERVE_MM = 0.05  # numerical: for triangles that cut corners of the curved faces
_LATTICE_MM = 2.5  # numerical: places tried lie this far apart
_GRID_MM = 0.5  # numerical: triangles of the shell that gives the letters their depth
_ABOVE_MM = 1.0  # numerical: the tool reaches this far out of the face
_BELOW_MM = 1.0  # numerical: letters reach this far below the shell before they are cut to depth


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """Where and what.

    Attributes
    ----------
    lines
        The text.
    height_mm, depth_mm
        Height of a capital; depth below the face.
    size_mm
        Width and height of the whole label, margins included.
    pose
        (4, 4) from the label's plane (x: reading direction, y: up, z: to the reader) to the local frame; origin on the face.
    text_width_mm
        Width of the longest line.
    """

    lines: tuple[str, ...]
    height_mm: float
    depth_mm: float
    size_mm: tuple[float, float]
    pose: FloatArray
    text_width_mm: float

    def covers(self, points_mm: FloatArray, *, margin_mm: float) -> BoolArray:
        """Which of the points (n, 3) lie over the label, seen along its normal."""
        flat = (points_mm - self.pose[:3, 3]) @ self.pose[:3, :3]
        return np.asarray((np.abs(flat[:, :2]) <= np.array(self.size_mm) / 2.0 + margin_mm).all(axis=1))


def place_label(blank: Blank, code: str, process: Process, *, taken_mm: FloatArray, taken_radius_mm: float) -> Label:
    """Find the place nearest to the middle where the label fits: flat enough, off the border and off ``taken_mm`` (n, 3).

    Raises
    ------
    DesignError
        It fits nowhere, or the implant is too thin for it.
    """
    height = max(process.font_height_mm, process.engrave_line_mm / _STROKE_PER_HEIGHT)
    border = cKDTree(blank.face_vertices("border", "edge", "skirt"))
    places = _places(blank)
    room, _ = border.query(np.array([pose[:3, 3] for pose in places]).reshape(-1, 3))
    sizes: list[tuple[float, float]] = []
    for count in range(1, min(_MAX_LINES, len(code)) + 1):
        lines = _wrapped(code, count)
        text_width = max(_width_mm(line, height) for line in lines)
        size = _size_mm(lines, height, text_width)
        sizes.append(size)
        for pose, free in zip(places, room, strict=True):
            if free >= 0.5 * min(size) + _BORDER_MM and _fits(
                blank, pose, size, border=border, taken_mm=taken_mm, taken_radius_mm=taken_radius_mm
            ):
                return Label(lines, height, _depth_mm(blank, pose, size, process), size, pose, text_width)
    wanted = " or ".join(f"{w:.0f} x {h:.0f}" for w, h in sizes)
    raise DesignError(
        f"the label needs {wanted} mm on the outer face, at most {_MAX_TILT_DEG:g} degrees curved; the implant has no such place",
        hint="a shorter case code, or engrave = false",
    )


def label_features(label: Label) -> tuple[solid.Feature, ...]:
    """Letters and arrow as straight prisms in the local frame, long enough to pass through the curved face."""
    half_width, half_height = label.size_mm[0] / 2.0, label.size_mm[1] / 2.0
    deep = _BELOW_MM + label.depth_mm + _sag_mm(label)
    right, up, normal, origin = (label.pose[:3, k] for k in range(4))
    length = _arrow_mm(len(label.lines), label.height_mm)
    arrow_x = -half_width + _MARGIN_MM + 0.5 * _ARROW_WIDTH * length
    text_x = half_width - _MARGIN_MM - 0.5 * label.text_width_mm
    features = [
        solid.arrow(
            "label arrow", length_mm=length, width_mm=_ARROW_WIDTH * length, depth_mm=deep, above_mm=_ABOVE_MM,
            origin=_vector(origin + arrow_x * right), direction=_vector(up), normal=_vector(normal),
        )
    ]  # fmt: skip
    top = half_height - _MARGIN_MM - 0.5 * (label.size_mm[1] - 2.0 * _MARGIN_MM - _text_mm(len(label.lines), label.height_mm))
    for row, line in enumerate(label.lines):
        y = top - label.height_mm * (0.5 + _LINE_PITCH * row)
        features.append(
            solid.text(
                "label text", line, height_mm=label.height_mm, depth_mm=deep, above_mm=_ABOVE_MM,
                origin=_vector(origin + text_x * right + y * up), x_direction=_vector(right), normal=_vector(normal),
            )
        )  # fmt: skip
    return tuple(features)


def engraving_tool(blank: Blank, label: Label, features: tuple[solid.Feature, ...]) -> Solid:
    """The letters cut to the label's depth below the outer face, everywhere the same.

    Raises
    ------
    DesignError
        The letters miss the face.
    """
    letters = union(*(solid_from_mesh(feature.mesh, LABEL) for feature in features), what="label")
    shell = solid_from_mesh(_shell(blank, label), LABEL)
    return intersection(letters, shell, what="label on the outer face")


def _wrapped(code: str, count: int) -> tuple[str, ...]:
    length = -(-len(code) // count)
    return tuple(code[start : start + length] for start in range(0, len(code), length))


def _width_mm(line: str, height_mm: float) -> float:
    right, normal = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    flat = solid.text("width", line, height_mm=height_mm, depth_mm=1.0, origin=(0.0, 0.0, 0.0), x_direction=right, normal=normal)
    return float(np.ptp(flat.mesh.vertices_mm[:, 0]))


def _text_mm(lines: int, height_mm: float) -> float:
    return height_mm * (1.0 + _LINE_PITCH * (lines - 1))


def _arrow_mm(lines: int, height_mm: float) -> float:
    return max(_ARROW_PER_HEIGHT * height_mm, _text_mm(lines, height_mm))


def _size_mm(lines: tuple[str, ...], height_mm: float, text_width_mm: float) -> tuple[float, float]:
    arrow = _arrow_mm(len(lines), height_mm)
    space = 0.6 * height_mm
    return (2.0 * _MARGIN_MM + _ARROW_WIDTH * arrow + space + text_width_mm, 2.0 * _MARGIN_MM + arrow)


def _sag_mm(label: Label) -> float:
    half = np.hypot(*label.size_mm) / 2.0
    return float(half * np.tan(np.radians(_MAX_TILT_DEG)))


def _places(blank: Blank) -> list[FloatArray]:
    """Poses on the outer face, reading upright, the one nearest to the middle first."""
    grid = layout(blank)
    reach = int(np.ceil(grid.reach_mm / _LATTICE_MM))
    steps = np.array([(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)], dtype=np.float64) * _LATTICE_MM
    order = np.argsort((steps**2).sum(axis=1), kind="stable")
    points = grid.points_mm(blank, steps[order])
    points = points[blank.holds(points)]
    normals = blank.shape.outer.normals(points)
    up = grid.up - normals * (normals @ grid.up)[:, None]
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    poses = np.tile(np.eye(4), (len(points), 1, 1))
    poses[:, :3, 0], poses[:, :3, 1] = np.cross(up, normals), up
    poses[:, :3, 2], poses[:, :3, 3] = normals, points
    return list(poses)


def _fits(
    blank: Blank, pose: FloatArray, size_mm: tuple[float, float], *, border: cKDTree, taken_mm: FloatArray, taken_radius_mm: float
) -> bool:
    """Does a label of this size lie on the face: inside the border, off what is taken, and flat enough?"""
    x, y = (np.linspace(-0.5, 0.5, 9) * length for length in size_mm)
    flat = np.array([(a, b) for a in x for b in y])
    points = pose[:3, 3] + flat @ pose[:3, :2].T
    rays = np.broadcast_to(pose[:3, 2], points.shape)
    points = blank.on_outer_face(points, rays)
    if not blank.holds(points).all() or float(border.query(points)[0].min()) < _BORDER_MM:
        return False
    if float((blank.shape.outer.normals(points) @ pose[:3, 2]).min()) < np.cos(np.radians(_MAX_TILT_DEG)):
        return False
    if len(taken_mm) == 0:
        return True
    local = (taken_mm - pose[:3, 3]) @ pose[:3, :3]
    outside = np.maximum(np.abs(local[:, :2]) - np.array(size_mm) / 2.0, 0.0)
    return bool((np.hypot(outside[:, 0], outside[:, 1]) > taken_radius_mm).all())


def _depth_mm(blank: Blank, pose: FloatArray, size_mm: tuple[float, float], process: Process) -> float:
    """The process' depth, or what leaves its thinnest wall below the letters."""
    corners = pose[:3, 3] + np.array([(a * size_mm[0], b * size_mm[1]) for a in (-0.5, 0.0, 0.5) for b in (-0.5, 0.0, 0.5)]) @ (
        pose[:3, :2].T
    )
    on_face = blank.on_outer_face(corners, np.broadcast_to(pose[:3, 2], corners.shape))
    thinnest = float(blank.thickness_mm(on_face).min())
    wall = max(process.min_wall_mm, _LEAST_WALL_MM) + _WALL_RESERVE_MM
    depth = min(process.engrave_depth_mm, thinnest - wall)
    if depth < _LEAST_DEPTH_MM:
        raise DesignError(
            f"the engraving can be {depth:.2f} mm deep, {thinnest:.2f} mm less a wall of {wall:.2f} mm; "
            f"at least {_LEAST_DEPTH_MM:.2f} mm",
            hint="a thicker implant, or engrave = false",
        )
    return depth


def _shell(blank: Blank, label: Label) -> Mesh:
    """Closed slab over the label: its underside is the outer face sunk by the label's depth."""
    counts = [int(np.ceil(length / _GRID_MM)) + 1 for length in label.size_mm]
    x, y = (np.linspace(-0.5, 0.5, count) * length for count, length in zip(counts, label.size_mm, strict=True))
    flat = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    points = label.pose[:3, 3] + flat @ label.pose[:3, :2].T
    rays = np.broadcast_to(label.pose[:3, 2], points.shape)
    under = blank.on_outer_face(points, rays, depth_mm=label.depth_mm)
    over = blank.on_outer_face(points, rays) + _ABOVE_MM * rays
    return Mesh(np.vstack([under, over]), _slab_faces(counts[0], counts[1]))


def _slab_faces(nx: int, ny: int) -> IntArray:
    """Triangles of a closed slab between two (nx, ny) grids of vertices, the lower one first."""
    grid = np.arange(nx * ny).reshape(nx, ny)
    quads = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], axis=-1).reshape(-1, 4)
    ring = np.concatenate([grid[:-1, 0], grid[-1, :-1], grid[:0:-1, -1], grid[0, :0:-1]])
    after = np.roll(ring, -1)
    top = nx * ny
    sides = np.column_stack([ring, after, after + top, ring + top])
    quads = np.vstack([quads[:, ::-1], quads + top, sides])
    return np.ascontiguousarray(np.vstack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]), dtype=np.int32)


def _vector(values: FloatArray) -> Vector:
    return (float(values[0]), float(values[1]), float(values[2]))
