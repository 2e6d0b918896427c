"""An inspection window: a hole through the shell over bone that it touches, through which is seen whether the guide lies down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.design import solid
from batchone.design.booleans import Solid
from batchone.design.contact.field import Lattice
from batchone.design.contact.seat import BoolArray
from batchone.design.contact.shell import capsule_mm
from batchone.design.cranial.rays import Scene
from batchone.design.family import FamilyLimits
from batchone.design.guide.checks import judged
from batchone.design.guide.crosslink import Crosslink
from batchone.design.guide.sleeve import Sleeve
from batchone.pipeline.errors import DesignError
from batchone.pipeline.process import Process
from batchone.pipeline.values import Axis, Finding, FloatArray, FunctionalFace, Mesh, Part

WINDOW = "window"
_WALL_MM = 1.5  # of shell round a window, and from it to what stands above; preferred wall of generic SLS design guides
_LONG_MM = 120.0  # numerical: the hole is cut so far both ways
_INSIDE = 0.95  # numerical: of the radius, within which lines of sight must be free; facets lie inside of the circle
_RINGS, _SPOKES, _FAR_MM = 5, 24, 300.0  # numerical: lines of sight


@dataclass(frozen=True, slots=True)
class Window:
    """Where a window stands (x, y) in the guide's frame, and its diameter, mm; it leads along z."""

    x_mm: float
    y_mm: float
    diameter_mm: float

    def hole(self) -> solid.Feature:
        """What is cut out."""
        return solid.cylinder(
            WINDOW,
            start_mm=(self.x_mm, self.y_mm, -_LONG_MM),
            axis=(0.0, 0.0, 1.0),
            diameter_mm=self.diameter_mm,
            length_mm=2.0 * _LONG_MM,
        )

    def face(self, process: Process) -> FunctionalFace:
        """Its functional face."""
        return FunctionalFace(WINDOW, "shows the bone: the guide lies down", process.tolerance_mm)


def taken_mm(
    lattice: Lattice, sleeves: tuple[Sleeve, ...], bars: tuple[Crosslink, ...] = (), blocks: tuple[Solid, ...] = ()
) -> FloatArray:
    """(x, y) signed distance of each column to what stands above the shell, negative under it."""
    found = np.full(lattice.shape[:2], np.inf)
    for sleeve in sleeves:
        found = np.minimum(found, capsule_mm(lattice, sleeve.entry_mm, sleeve.at_mm(sleeve.top_mm), 0.5 * sleeve.outer_mm))
    for bar in bars:
        for start, end in zip(bar.corners_mm, bar.corners_mm[1:], strict=False):
            found = np.minimum(found, capsule_mm(lattice, start, end, np.sqrt(0.5) * bar.width_mm))
    for block in blocks:
        bounds = np.array(block.manifold.bounding_box()).reshape(2, 3)
        x = np.maximum(bounds[0, 0] - lattice.x_mm, lattice.x_mm - bounds[1, 0])
        y = np.maximum(bounds[0, 1] - lattice.y_mm, lattice.y_mm - bounds[1, 1])
        outside = np.hypot(np.maximum(x, 0.0), np.maximum(y, 0.0))
        found = np.minimum(found, outside + np.minimum(np.maximum(x, y), 0.0))
    return found


def window_in(
    name: str, lattice: Lattice, zones: BoolArray, shell_mm: FloatArray, above_mm: FloatArray, *, diameter_mm: float
) -> Window:
    """Place a window where there is most room for it over bone that the guide touches.

    Parameters
    ----------
    name
        Of the guide, for messages.
    zones
        (x, y) columns over which the guide touches.
    shell_mm, above_mm
        (x, y) signed distance to the shell's edge (negative inside), and to what stands above.

    Raises
    ------
    DesignError
        Nowhere is room enough.
    """
    room = np.where(zones, np.minimum(-shell_mm, above_mm), -np.inf)
    best = np.unravel_index(int(np.argmax(room)), room.shape)
    found, need = float(room[best]), 0.5 * diameter_mm + _WALL_MM
    if found < need:
        raise DesignError(
            f"{name}: a window of {diameter_mm:g} mm needs {need:.1f} mm round its middle, there are {max(found, 0.0):.1f} mm",
            hint="a smaller window_mm, a larger pad_mm or plate_mm, or window_mm = 0",
        )
    return Window(float(lattice.x_mm[best[0], 0]), float(lattice.y_mm[0, best[1]]), diameter_mm)


def window_findings(part: Part, bone: Mesh, way: Axis, limits: FamilyLimits) -> tuple[Finding, ...]:
    """How much of a window shows bone: lines of sight along the way out that meet nothing of the guide before."""
    points = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(WINDOW)])]
    z = np.array(way.direction)
    x = np.cross(np.eye(3)[int(np.argmin(np.abs(z)))], z)
    x /= np.linalg.norm(x)
    axes = np.column_stack([x, np.cross(z, x), z])
    flat = points @ axes[:, :2]
    middle = 0.5 * (flat.min(axis=0) + flat.max(axis=0))
    radius = _INSIDE * float(np.linalg.norm(flat - middle, axis=1).min())
    turn = np.linspace(0.0, 2.0 * np.pi, _SPOKES, endpoint=False)
    rings = radius * np.linspace(0.0, 1.0, _RINGS)[:, None, None] * np.column_stack([np.cos(turn), np.sin(turn)])
    places = np.column_stack([(middle + rings).reshape(-1, 2), np.zeros(_RINGS * _SPOKES)])
    shift = axes @ np.array([middle[0], middle[1], float((points @ z).mean())])
    eyes = (places - np.append(middle, 0.0)) @ axes.T + _FAR_MM * z
    looking = np.broadcast_to(-z, eyes.shape)
    near, far = (
        Scene(Mesh(mesh.vertices_mm - shift, mesh.faces)).meets(eyes, looking, 2.0 * _FAR_MM)[0] for mesh in (part.mesh, bone)
    )
    free = np.isfinite(far) & ~(near < far)
    what = f"{part.name}: window, share of it through which bone is seen"
    hint = "report this order: something stands before the window"
    return (judged(limits.gates["window_free_percent"], "window", what, 100.0 * float(free.mean()), hint),)
