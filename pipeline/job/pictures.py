"""The pictures of a job: bone, device and both together, from several sides, with orientation letters and a scale bar."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from batchone.pipeline.job.annotate import Colours, annotated
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX, Body, Camera, Canvas, Rgb, make_body
from batchone.pipeline.values import Anatomy, Axis, Device, FloatArray, IntArray, Mesh, Part, Plan, Vector

BONE_COLOURS: tuple[Rgb, ...] = ((0.93, 0.88, 0.76), (0.86, 0.83, 0.78), (0.90, 0.82, 0.70))
DEVICE_COLOURS: tuple[Rgb, ...] = ((0.25, 0.52, 0.80), (0.20, 0.66, 0.62), (0.55, 0.45, 0.78))

_FILL = 0.86  # share of the picture that the subject fills
_CROP_MARGIN_MM = 18.0  # bone shown around the device in the pictures for the workshop: enough to see how it seats
_LEAST_SHARE = 0.05  # of the bone around a device: a smaller piece that the picture's box has cut loose is left out
_NEARER_MM = 0.05  # where device and bone coincide, the device is drawn
_STEEP = 0.9  # a view this close to the head-foot axis takes the front of the patient as up
_MARKS = ("label", "side-mark")  # functional faces that are engraved
_MARK_TONE = 0.4  # of the part's own colour
_ORDER = ("together-", "fit-", "device-", "bone-")
_FINE = ("fit-", "device-")  # pictures with large smooth surfaces
_OBLIQUE_DEG = 40.0  # tilt of the three-quarter view of a device

SIDES: tuple[tuple[str, Vector, Vector], ...] = (
    ("front", (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    ("left", (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    ("right", (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    ("back", (0.0, -1.0, 0.0), (0.0, 0.0, 1.0)),
    ("top", (0.0, 0.0, -1.0), (0.0, -1.0, 0.0)),
    ("bottom", (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One finished picture: file name without folder, what it shows, PNG bytes."""

    name: str
    caption: str
    png: bytes


@dataclass(frozen=True, slots=True)
class _Shot:
    """One or two pictures by one camera: of ``bodies``, and of them with ``more`` added."""

    name: str
    caption: str
    bodies: tuple[Body, ...]
    forward: Vector
    up: Vector
    more: tuple[Body, ...] = ()
    more_name: str = ""
    more_caption: str = ""


def make_pictures(anatomy: Anatomy, device: Device, plan: Plan, *, only: str = "") -> tuple[Picture, ...]:
    """Draw the pictures of a job, or ``only`` the one of that name (without ending); the same values give the same bytes.

    Returns
    -------
    tuple of Picture
        ``together-*`` (bone and device), then, with an insertion axis, ``fit-*`` (the device in the bone around it, seen
        along the axis from outside, from inside, from the side and at an angle), ``device-*``, and ``bone-*``.
    """
    device = device.without_models()
    bones = _bone_bodies(tuple(bone.mesh for bone in anatomy.bones))
    parts = tuple(
        body for i, part in enumerate(device.parts) for body in _part_bodies(part, DEVICE_COLOURS[i % len(DEVICE_COLOURS)])
    )
    shots = [_side_shot(side, bones, parts, forward=forward, up=up) for side, forward, up in SIDES]
    axis = device_axis(plan)
    if axis is None:
        shots += [_Shot(f"device-{s}", f"device, seen from the {place_of(s)}", parts, f, u) for s, f, u in SIDES]
    else:
        shots += _axis_shots(anatomy, device, parts=parts, bones=bones, outward=outward_direction(axis, anatomy, device))
    shots = [shot for shot in shots if only in ("", shot.name, shot.more_name)]
    workers = max(1, min(4, os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:  # each picture is its own, whichever thread draws it
        taken = [picture for pictures in pool.map(_take, shots) for picture in pictures]
    return tuple(
        picture
        for prefix in _ORDER
        for picture in taken
        if picture.name.startswith(prefix) and only in ("", picture.name.removesuffix(".png"))
    )


def fitting_camera(bodies: Sequence[Body], *, forward: Vector, up: Vector) -> Camera:
    """An orthographic camera in which all bodies fit."""
    camera = Camera((0.0, 0.0, 0.0), forward, up, 1.0)
    axes = camera.axes
    along = [[body.points_mm @ axis for axis in axes.astype(np.float32)] for body in bodies]  # one axis at a time: quick extremes
    low = np.min([[view.min() for view in views] for views in along], axis=0).astype(np.float64)
    high = np.max([[view.max() for view in views] for views in along], axis=0).astype(np.float64)
    size = np.maximum(high - low, 1e-6)
    scale = max(float(size[0]) / WIDTH_PX, float(size[1]) / HEIGHT_PX) / _FILL
    x, y, z = ((low + high) / 2.0) @ axes
    return replace(camera, centre_mm=(float(x), float(y), float(z)), mm_per_px=scale)


def side_of(axis_direction: Vector) -> Vector:
    """A unit vector across a direction, towards the head or, when that is along it, towards the front."""
    direction = np.array(axis_direction)
    hint = np.array((0.0, 0.0, 1.0) if abs(direction[2]) < _STEEP else (0.0, -1.0, 0.0))
    across = hint - direction * float(np.dot(hint, direction))
    return _vector(across / np.linalg.norm(across))


def device_axis(plan: Plan) -> Axis | None:
    """The axis along which the device goes in, when the plan has one."""
    return next((axis for axis in plan.axes if axis.name.split("-")[0] == "insertion"), None)


def outward_direction(axis: Axis, anatomy: Anatomy, device: Device) -> Vector:
    """The axis as a unit vector that points away from the middle of the bone that lies under or over the device."""
    direction = np.array(axis.direction) / np.linalg.norm(axis.direction)
    device = device.without_models()
    device_middle = middle_of(tuple(part.mesh for part in device.parts))
    points = np.concatenate([bone.mesh.vertices_mm for bone in anatomy.bones] or [device_middle[None]]) - device_middle
    along = points @ direction
    aside = np.linalg.norm(points - along[:, None] * direction, axis=1)
    reach_mm = max(float(np.ptp(part.mesh.vertices_mm, axis=0).max()) for part in device.parts) / 2.0
    near = along[aside <= max(reach_mm, float(aside.min()))]  # far ends of a long bone say nothing about what is outward here
    return _vector(direction if float(near.min() + near.max()) <= 0.0 else -direction)


def cropped(mesh: Mesh, low_mm: FloatArray, high_mm: FloatArray) -> Mesh:
    """The triangles with every corner in a box; the patch is open."""
    inside = np.all((mesh.vertices_mm >= low_mm) & (mesh.vertices_mm <= high_mm), axis=1)
    held = inside[mesh.faces[:, 0]] & inside[mesh.faces[:, 1]] & inside[mesh.faces[:, 2]]
    faces = _without_corners(mesh, held)
    used = np.zeros(len(mesh.vertices_mm), dtype=np.bool_)
    used[faces] = True
    renumbered: IntArray = np.cumsum(used, dtype=np.int32) - 1
    return Mesh(mesh.vertices_mm[used], np.ascontiguousarray(renumbered[faces], dtype=np.int32))


def _without_corners(mesh: Mesh, held: npt.NDArray[np.bool_]) -> IntArray:
    """The triangles of a patch without the small pieces that only the box cut loose: they would seem to float.

    A fragment that is loose by itself lies whole in the box, and stays.
    """
    faces = mesh.faces[held]
    if len(faces) == 0:
        return faces
    count = len(mesh.vertices_mm)
    rows, columns = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    links = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(count, count))
    piece = connected_components(links, directed=False)[1]
    size = np.bincount(piece[faces[:, 0]], minlength=int(piece.max()) + 1)
    cut = np.zeros(len(size), dtype=np.bool_)
    cut[piece[mesh.faces[~held].ravel()]] = True
    return faces[~(cut & (size < _LEAST_SHARE * len(faces)))[piece[faces[:, 0]]]]


def _axis_shots(
    anatomy: Anatomy, device: Device, *, parts: tuple[Body, ...], bones: tuple[Body, ...], outward: Vector
) -> list[_Shot]:
    out = np.array(outward)
    across = side_of(outward)
    aside = _vector(np.cross(out, np.array(across)))
    angle = np.radians(_OBLIQUE_DEG)
    oblique = _vector(-(out * np.cos(angle) + np.array(aside) * np.sin(angle)))
    corners = np.concatenate([part.mesh.vertices_mm for part in device.parts])
    low, high = corners.min(axis=0) - _CROP_MARGIN_MM, corners.max(axis=0) + _CROP_MARGIN_MM
    patches = tuple(cropped(bone.mesh, low, high) for bone in anatomy.bones)
    near = _bone_bodies(tuple(patch for patch in patches if len(patch.faces)), two_sided=True)
    ways: tuple[tuple[str, str, Vector, Vector], ...] = (
        ("outside", "seen along its axis from outside", _vector(-out), across),
        ("inside", "seen along its axis from inside", outward, across),
        ("side", "seen from its side", _vector(-np.array(aside)), outward),
        ("oblique", "seen at an angle", oblique, across),
    )
    shots = [_Shot("together-axis", "bone and device, seen along the axis", bones + parts, _vector(-out), across)]
    shots += [_Shot(f"fit-{n}", f"device in the bone around it, {w}", near + parts, f, u) for n, w, f, u in ways]
    shots += [_Shot(f"device-{n}", f"device, {w}", parts, f, u) for n, w, f, u in ways]
    return shots


def _side_shot(side: str, bones: tuple[Body, ...], parts: tuple[Body, ...], *, forward: Vector, up: Vector) -> _Shot:
    """The bone from one side, and the same with the device: the bone is drawn once."""
    place = f"seen from the {place_of(side)}"
    return _Shot(f"bone-{side}", f"bone, {place}", bones, forward, up, parts, f"together-{side}", f"bone and device, {place}")


def _take(shot: _Shot) -> list[Picture]:
    canvas = Canvas(fitting_camera(shot.bodies + shot.more, forward=shot.forward, up=shot.up))
    taken = []
    if shot.bodies:
        canvas.add(shot.bodies)
        taken.append(_finished(canvas, shot.name, shot.caption))
    if shot.more:
        canvas.add(shot.more)
        taken.append(_finished(canvas, shot.more_name, shot.more_caption))
    return taken


def _finished(canvas: Canvas, name: str, caption: str) -> Picture:
    right, up, _ = canvas.camera.axes
    colours: Colours = "fine" if name.startswith(_FINE) else "quick"
    png = annotated(canvas.image(), right=right, up=up, mm_per_px=canvas.camera.mm_per_px, title=caption, colours=colours)
    return Picture(name + ".png", caption, png)


def _bone_bodies(meshes: tuple[Mesh, ...], *, two_sided: bool = False) -> tuple[Body, ...]:
    return tuple(make_body(mesh, BONE_COLOURS[i % len(BONE_COLOURS)], two_sided=two_sided) for i, mesh in enumerate(meshes))


def _part_bodies(part: Part, colour: Rgb) -> tuple[Body, ...]:
    """A part, and its engraved marks in a darker tone: floor and face of an engraving would look alike."""
    marks = [index for index, label in enumerate(part.labels) if label.startswith(_MARKS)]
    marked = np.isin(part.face_labels, marks)
    dark = (colour[0] * _MARK_TONE, colour[1] * _MARK_TONE, colour[2] * _MARK_TONE)
    pieces = ((~marked, colour), (marked, dark))
    return tuple(
        make_body(Mesh(part.mesh.vertices_mm, np.ascontiguousarray(part.mesh.faces[chosen])), tone, nearer_mm=_NEARER_MM)
        for chosen, tone in pieces
        if chosen.any()
    )


def place_of(side: str) -> str:
    """A side in words."""
    return {"left": "patient's left", "right": "patient's right"}.get(side, side)


def middle_of(meshes: tuple[Mesh, ...]) -> FloatArray:
    """The middle of the box around surfaces."""
    low = np.min([mesh.vertices_mm.min(axis=0) for mesh in meshes], axis=0)
    high = np.max([mesh.vertices_mm.max(axis=0) for mesh in meshes], axis=0)
    return np.asarray((low + high) / 2.0, dtype=np.float64)


def _vector(values: FloatArray) -> Vector:
    x, y, z = (float(value) for value in values)
    return (x, y, z)
