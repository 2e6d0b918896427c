"""Every surface of a scene: what it is called and looks like, and its triangles for the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np

from batchone.pipeline.errors import InputError
from batchone.pipeline.labels import bone_names
from batchone.pipeline.order import PlanNoGo
from batchone.pipeline.serve.scene.content import Content
from batchone.pipeline.serve.scene.deviation import deviation_mm
from batchone.pipeline.serve.scene.layers import (
    DEVIATION,
    GAP,
    UNCERTAINTY,
    WALL,
    Scale,
    bone_gap_mm,
    known_uncertainty_mm,
    wall_mm,
)
from batchone.pipeline.serve.scene.mz3 import mz3_bytes
from batchone.pipeline.serve.scene.reduce import reduced
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Bone, FloatArray, IntArray, Mesh, Part

Kind = Literal["bone", "device", "bone model", "no-go", "reference", "contact gap", "wall thickness", "uncertainty", "deviation"]

BONE_COLOUR = "#eadfc8"  # ivory
DEVICE_COLOURS = ("#3f8ae0", "#2fb5a5", "#8f7bd6")
NO_GO_COLOUR = "#e0483e"
REFERENCE_COLOUR = "#a58bd0"
MODEL_COLOUR = "#cdb98a"
PLAIN = "#8a8f98"  # where a coloured surface has no value
LEAST_RADIUS_MM = 0.5  # a structure that was drawn without a radius is shown with this one
_SIDES = 24  # of the tube about a line

Shape = tuple[Mesh, FloatArray | None]


@dataclass(frozen=True, slots=True)
class Shown:
    """A surface of the scene: ``made`` gives its triangles in LPS mm, and one value for each vertex where it has a ``scale``.

    A coloured one stands in for the surface named ``base``, whose triangles it shares.
    """

    name: str
    title: str
    kind: Kind
    colour: str
    opacity: float
    visible: bool
    made: Callable[[], Shape]
    scale: Scale | None = None
    base: str = ""


def shown_surfaces(content: Content) -> Iterator[Shown]:
    """The surfaces of a case, in the order in which a list shows them."""
    device_colours = iter(DEVICE_COLOURS * (1 + len(content.parts)))
    bones = () if content.anatomy is None else content.anatomy.bones
    names = bone_names([(bone.name, bone.side) for bone in bones])
    surfaces = () if content.plan is None else content.plan.surfaces
    for part in content.parts:
        made = partial(_plain, part.mesh)
        if part.purpose != "bone-model":
            yield Shown(f"part-{part.name}", part.name, "device", next(device_colours), 1.0, True, made)
        else:
            yield Shown(f"part-{part.name}", f"{part.name} (model)", "bone model", MODEL_COLOUR, 1.0, False, made)
    for name, bone in zip(names, bones, strict=True):
        yield Shown(f"bone-{name}", name.replace("-", " "), "bone", BONE_COLOUR, 1.0, True, partial(_plain, bone.mesh))
    for structure in content.drawn.no_go:
        made = partial(_plain, _tube(structure))
        yield Shown(f"no-go-{structure.name}", structure.name, "no-go", NO_GO_COLOUR, 1.0, True, made)
    for one in surfaces:
        made = partial(_plain, one.mesh)
        yield Shown(f"plan-{one.name}", one.name, "reference", REFERENCE_COLOUR, 0.6, False, made)
    yield from _layers(content, dict(zip(names, bones, strict=True)))


def _layers(content: Content, bones: dict[str, Bone]) -> Iterator[Shown]:
    """The coloured surfaces: of the device's parts, then of the bones by their names."""
    parts = [part for part in content.parts if part.purpose == "device"]
    for part in parts if bones else ():
        made = partial(_gap, part.mesh, tuple(bone.mesh for bone in bones.values()))
        yield _layer(f"gap-{part.name}", f"{part.name}: gap to the bone", "contact gap", made, GAP, f"part-{part.name}")
    for part in parts:
        made = partial(_wall, part.mesh)
        yield _layer(f"wall-{part.name}", f"{part.name}: wall", "wall thickness", made, WALL, f"part-{part.name}")
    for part in parts:
        if content.previous is not None and part.name in content.previous_names:
            made = partial(_deviation, content, part)
            title = f"{part.name}: change since revision {content.previous.number}"
            yield _layer(f"deviation-{part.name}", title, "deviation", made, DEVIATION, f"part-{part.name}")
    for name, bone in bones.items():
        made, title = partial(_uncertainty, bone), f"{name.replace('-', ' ')}: uncertainty"
        yield _layer(f"uncertainty-{name}", title, "uncertainty", made, UNCERTAINTY, f"bone-{name}")


def _layer(name: str, title: str, kind: Kind, made: Callable[[], Shape], scale: Scale, base: str) -> Shown:
    return Shown(name, title, kind, PLAIN, 1.0, False, made, scale, base)


def surface_bytes(case: CaseFolder, name: str, full: bool = False) -> bytes:
    """One surface as MZ3 (RAS mm), reduced for the screen as :func:`reduced` does, or with all of its triangles.

    Raises
    ------
    InputError
        The case has no such surface.
    """
    content = Content(case)
    found = next((one for one in shown_surfaces(content) if one.name == name), None)
    if found is None:
        raise InputError(f"the case has no surface {name[:80]!r}", hint="the case's scene lists its surfaces")
    mesh, values = found.made()
    if not full:
        made = [part.mesh.vertices_mm for part in content.parts if part.purpose == "device"]
        mesh, values = reduced(mesh, np.concatenate(made) if made else np.empty((0, 3)), values)
    return mz3_bytes(mesh, values)


def _plain(mesh: Mesh) -> Shape:
    return mesh, None


def _gap(mesh: Mesh, bones: tuple[Mesh, ...]) -> Shape:
    return mesh, bone_gap_mm(mesh, bones)


def _wall(mesh: Mesh) -> Shape:
    return mesh, wall_mm(mesh)


def _deviation(content: Content, part: Part) -> Shape:
    return part.mesh, deviation_mm(part.mesh, content.previous_part(part.name).mesh)


def _uncertainty(bone: Bone) -> Shape:
    return bone.mesh, known_uncertainty_mm(bone)


def _tube(structure: PlanNoGo) -> Mesh:
    """The ball about each point of a structure, and the tube about each line between two."""
    radius = max(structure.radius_mm, LEAST_RADIUS_MM)
    points = np.array(structure.points_mm, dtype=np.float64)
    pieces = [_ball(point, radius) for point in points]
    pieces += [_pipe(start, end, radius) for start, end in pairwise(points) if np.linalg.norm(end - start) > 0.0]
    starts = np.cumsum([0, *(len(piece.vertices_mm) for piece in pieces[:-1])])
    faces = [piece.faces + first for piece, first in zip(pieces, starts, strict=True)]
    return Mesh(np.concatenate([piece.vertices_mm for piece in pieces]), np.concatenate(faces).astype(np.int32))


def _ball(middle: FloatArray, radius_mm: float) -> Mesh:
    """Rings of points from pole to pole."""
    up, round_ = np.meshgrid(np.linspace(-0.5 * np.pi, 0.5 * np.pi, _SIDES // 2 + 1), _turns(), indexing="ij")
    unit = np.stack([np.cos(up) * np.cos(round_), np.cos(up) * np.sin(round_), np.sin(up)], axis=2).reshape(-1, 3)
    return Mesh(middle + radius_mm * unit, _rings(_SIDES // 2 + 1))


def _pipe(start: FloatArray, end: FloatArray, radius_mm: float) -> Mesh:
    """The wall of a tube, open at both ends: balls close it."""
    along = (end - start) / np.linalg.norm(end - start)
    first = np.cross(along, np.eye(3)[int(np.argmin(np.abs(along)))])
    first /= np.linalg.norm(first)
    ring = radius_mm * (np.cos(_turns())[:, None] * first + np.sin(_turns())[:, None] * np.cross(along, first))
    return Mesh(np.concatenate([start + ring, end + ring]), _rings(2))


def _turns() -> FloatArray:
    return np.linspace(0.0, 2.0 * np.pi, _SIDES, endpoint=False)


def _rings(count: int) -> IntArray:
    """Triangles between rings of ``_SIDES`` points that follow each other upwards, counter-clockwise from outside."""
    row, column = np.meshgrid(np.arange(count - 1) * _SIDES, np.arange(_SIDES), indexing="ij")
    here, beside = (row + column).ravel(), (row + (column + 1) % _SIDES).ravel()
    quads = np.stack([here, beside, beside + _SIDES, here, beside + _SIDES, here + _SIDES], axis=1)
    return np.ascontiguousarray(quads.reshape(-1, 3), dtype=np.int32)
