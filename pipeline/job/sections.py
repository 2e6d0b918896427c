"""Sections through the scan with the outlines of bone and device; for the clinical report only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import annotated
from batchone.pipeline.job.pictures import Picture, device_axis, outward_direction, side_of
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX
from batchone.pipeline.values import Anatomy, Axis, Device, FloatArray, Mesh, Plan, Scan, Vector, moved_points

_WINDOW_LOW_HU, _WINDOW_HIGH_HU = -250.0, 1350.0  # shows skin, brain and bone apart; a wide bone window
_BONE_LOW_HU = 120.0  # above skin, fat and muscle: a section in this window shows no face
_BONE_INK, _DEVICE_INK, _INK = (255, 214, 64), (72, 160, 255), (255, 255, 255)
_LINE_SAMPLES = 2  # outlines are drawn on a picture this many times larger, then averaged: smooth lines
_LINE_PX = 4  # width of an outline on the larger picture
_FULL_MARGIN_MM = 12.0  # shown around the bones
_NEAR_MARGIN_MM = 16.0  # shown around the device
_OUTSIDE_HU = -1024.0
_WAY_INK = (255, 90, 90)
_WAY_MM = 22.0  # shown around the middle of a planned way, beside half of its length
_STEEP = 0.9  # a way this close to the patient's left-right axis is cut along the front-back one

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    name: str
    caption: str
    right: FloatArray
    down: FloatArray
    middle_mm: FloatArray
    around_mm: FloatArray
    margin_mm: float
    way: Axis | None = None


def ct_sections(scan: Scan, anatomy: Anatomy, device: Device, plan: Plan) -> tuple[Picture, ...]:
    """Cut the scan through the device's middle: transverse, coronal, sagittal, and along the insertion axis when there is one.

    Transverse sections are seen from the feet (the patient's right is on the left of the picture), coronal ones from the front,
    sagittal ones from the patient's left.
    """
    device = device.without_models()
    parts = tuple(part.mesh for part in device.parts)
    bones = tuple(bone.mesh for bone in anatomy.bones)
    part_corners = _box_corners(parts)
    all_corners = np.concatenate((_box_corners(bones), part_corners)) if bones else part_corners
    middle = (part_corners.min(axis=0) + part_corners.max(axis=0)) / 2.0
    x, y, z = np.eye(3)
    x_mm, y_mm, z_mm = (float(value) for value in middle)
    cuts = [
        _Cut("transverse", f"transverse section at z = {z_mm:.1f} mm", x, y, middle, all_corners, _FULL_MARGIN_MM),
        _Cut("coronal", f"coronal section at y = {y_mm:.1f} mm", x, -z, middle, all_corners, _FULL_MARGIN_MM),
        _Cut("sagittal", f"sagittal section at x = {x_mm:.1f} mm", y, -z, middle, all_corners, _FULL_MARGIN_MM),
    ]
    axis = device_axis(plan)
    if axis is not None:
        outward = np.array(outward_direction(axis, anatomy, device))
        across = np.array(side_of((float(outward[0]), float(outward[1]), float(outward[2]))))
        along = np.cross(outward, across)
        words = "section along the device's axis"
        cuts += [
            _Cut("axis-1", f"{words}, first", along, -outward, middle, part_corners, _NEAR_MARGIN_MM),
            _Cut("axis-2", f"{words}, across the first", -across, -outward, middle, part_corners, _NEAR_MARGIN_MM),
        ]
    cuts += [cut for way in plan.axes if way.length_mm is not None for cut in _along(way)]
    with ThreadPoolExecutor(min(len(cuts), max(1, os.cpu_count() or 1))) as pool:
        return tuple(pool.map(lambda cut: _picture(scan, cut, bones=bones, parts=parts), cuts))


def way_sections(
    scan: Scan, anatomy: Anatomy, device: Device, way: Axis, *, towards: Vector | None = None
) -> tuple[Picture, ...]:
    """Two sections that hold one way, such as a sleeve's or a slot's.

    Parameters
    ----------
    way
        With a length.
    towards
        Direction that the first section holds beside the way; across the patient where it is not given.

    Returns
    -------
    tuple of Picture
        ``section-<way>-1.png``, and ``-2.png`` across it.
    """
    parts = tuple(part.mesh for part in device.without_models().parts)
    bones = tuple(bone.mesh for bone in anatomy.bones)
    return tuple(_picture(scan, cut, bones=bones, parts=parts) for cut in _along(way, towards))


def _along(way: Axis, towards: Vector | None = None) -> tuple[_Cut, ...]:
    """Two sections that hold a planned way, such as a screw's: across the patient, or as told, and across that."""
    down = np.array(way.direction)
    sideways = np.eye(3)[0 if abs(down[0]) < _STEEP else 1] if towards is None else np.array(towards)
    first = sideways - down * float(sideways @ down)
    first /= np.linalg.norm(first)
    middle = np.array(way.origin_mm) + 0.5 * (way.length_mm or 0.0) * down
    reach = _WAY_MM + 0.5 * (way.length_mm or 0.0)
    around = middle + reach * np.concatenate([np.eye(3), -np.eye(3)])
    return (
        _Cut(f"{way.name}-1", f"{way.name}, first section along it", first, down, middle, around, 0.0, way),
        _Cut(f"{way.name}-2", f"{way.name}, across the first", np.cross(down, first), down, middle, around, 0.0, way),
    )


def scan_sections(scan: Scan) -> tuple[Picture, ...]:
    """The three middle sections of the whole scan, bone alone: what was scanned, and how far it reaches."""
    last = np.array(scan.hu.shape[::-1], dtype=np.float64) - 1.0
    corners = np.array([[i, j, k] for i in (0.0, last[0]) for j in (0.0, last[1]) for k in (0.0, last[2])])
    around = moved_points(scan.affine, corners)
    middle = moved_points(scan.affine, last[None] / 2.0)[0]
    x, y, z = np.eye(3)
    cuts = (
        _Cut("scan-transverse", "middle of the scan, transverse", x, y, middle, around, 0.0),
        _Cut("scan-coronal", "middle of the scan, coronal", x, -z, middle, around, 0.0),
        _Cut("scan-sagittal", "middle of the scan, sagittal", y, -z, middle, around, 0.0),
    )
    return tuple(_picture(scan, cut, bones=(), parts=(), low_hu=_BONE_LOW_HU) for cut in cuts)


def plane_segments(mesh: Mesh, origin_mm: FloatArray, normal: FloatArray) -> Points:
    """Where a mesh meets a plane: (k, 2, 3) end points of one segment per triangle that crosses it."""
    height = (mesh.vertices_mm - origin_mm) @ normal
    above = height >= 0.0
    first, second, third = (above[mesh.faces[:, corner]] for corner in range(3))
    faces = mesh.faces[(first != second) | (second != third)]
    sides = above[faces]
    alone = np.where(sides.sum(axis=1) == 1, sides.argmax(axis=1), (~sides).argmax(axis=1))  # the corner on its own side
    row = np.arange(len(faces))
    ends = []
    for step in (1, 2):
        a, b = faces[row, alone], faces[row, (alone + step) % 3]
        share = height[a] / (height[a] - height[b])
        ends.append(mesh.vertices_mm[a] + share[:, None] * (mesh.vertices_mm[b] - mesh.vertices_mm[a]))
    return np.stack(ends, axis=1)


def _picture(scan: Scan, cut: _Cut, *, bones: Sequence[Mesh], parts: Sequence[Mesh], low_hu: float = _WINDOW_LOW_HU) -> Picture:
    normal = np.cross(cut.right, cut.down)
    view = np.stack((cut.around_mm @ cut.right, cut.around_mm @ cut.down), axis=1)
    low, high = view.min(axis=0) - cut.margin_mm, view.max(axis=0) + cut.margin_mm
    mm_per_px = max(float(high[0] - low[0]) / WIDTH_PX, float(high[1] - low[1]) / HEIGHT_PX)
    corner = (low + high) / 2.0 - np.array([WIDTH_PX, HEIGHT_PX]) * mm_per_px / 2.0
    start = cut.right * corner[0] + cut.down * corner[1] + normal * float(np.dot(cut.middle_mm, normal))
    grey = _resliced(scan, start, cut.right * mm_per_px, cut.down * mm_per_px, low_hu=low_hu)
    size = (WIDTH_PX * _LINE_SAMPLES, HEIGHT_PX * _LINE_SAMPLES)
    canvas = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    for meshes, ink in ((bones, _BONE_INK), (parts, _DEVICE_INK)):
        for mesh in meshes:
            segments = plane_segments(mesh, cut.middle_mm, normal)
            flat = np.stack((segments @ cut.right - corner[0], segments @ cut.down - corner[1]), axis=2) / mm_per_px
            for line in (flat * _LINE_SAMPLES).reshape(-1, 4).tolist():
                pen.line(line, fill=ink, width=_LINE_PX)
    if cut.way is not None:
        ends = np.array(cut.way.origin_mm) + np.array([[0.0], [cut.way.length_mm or 0.0]]) * np.array(cut.way.direction)
        flat = np.stack((ends @ cut.right - corner[0], ends @ cut.down - corner[1]), axis=1) / mm_per_px
        pen.line((flat * _LINE_SAMPLES).reshape(-1).tolist(), fill=_WAY_INK, width=_LINE_PX)
    image = np.asarray(canvas.reduce(_LINE_SAMPLES))
    png = annotated(image, right=cut.right, up=-cut.down, mm_per_px=mm_per_px, title=cut.caption, ink=_INK)
    return Picture(f"section-{cut.name}.png", cut.caption, png)


def _box_corners(meshes: Sequence[Mesh]) -> FloatArray:
    """The (8 n, 3) corners of the boxes of n meshes, mm."""
    found = []
    for mesh in meshes:
        sides = np.stack((mesh.vertices_mm.min(axis=0), mesh.vertices_mm.max(axis=0)))
        found += [[sides[i, 0], sides[j, 1], sides[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    return np.array(found, dtype=np.float64)


def _resliced(
    scan: Scan, start_mm: FloatArray, right_mm: FloatArray, down_mm: FloatArray, *, low_hu: float
) -> npt.NDArray[np.uint8]:
    """Sample the scan on a plane, linearly between voxels, and window it; (HEIGHT_PX, WIDTH_PX) uint8."""
    from scipy.ndimage import map_coordinates

    to_index = np.linalg.inv(scan.affine).astype(np.float64)
    step_right, step_down = to_index[:3, :3] @ right_mm, to_index[:3, :3] @ down_mm
    first = moved_points(to_index, start_mm[None, :])[0] + (step_right + step_down) / 2.0
    columns, rows = np.arange(WIDTH_PX), np.arange(HEIGHT_PX)[:, None]
    index = [first[axis] + columns * step_right[axis] + rows * step_down[axis] for axis in (2, 1, 0)]  # slice, row, column
    values = map_coordinates(scan.hu, index, output=np.float32, order=1, mode="constant", cval=_OUTSIDE_HU)
    share = (values - low_hu) / (_WINDOW_HIGH_HU - low_hu)
    grey: npt.NDArray[np.uint8] = np.round(np.clip(share, 0.0, 1.0) * 255.0).astype(np.uint8)
    return grey
