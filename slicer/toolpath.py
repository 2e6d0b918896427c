"""Measure a toolpath against the parts: layers, volume, place, outlines, supports, time. From the G-code's moves alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import manifold3d
import numpy as np
import numpy.typing as npt
import shapely

from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Part, Placement, judge
from batchone.slicer.gcode import setting
from batchone.slicer.layers import Layers
from batchone.slicer.motion import Motion
from batchone.slicer.moves import OUTLINE, PART, SUPPORT, E, Moves, X, Y, Z
from batchone.slicer.overhang import protected

_NEAR_MM: Final = 2.0  # numerical: a line belongs to the part in whose box, so much wider, it lies
_VOLUME_PERCENT: Final = (90.0, 106.0)  # requirement, of filled parts: rounding of lines to whole ones; project default
_SPARSE_PERCENT: Final = 80.0  # requirement: least share of the ordered filling in parts that are not filled; project default
_OUTLINE_MM: Final = (
    0.1  # requirement: middle distance of outlines from where half a line inside of the contour is; project default
)
_BED_MM: Final = 1e-3  # numerical: coordinates have three decimals
_FOOTER_PERCENT: Final = 5.0  # requirement: time of the moves against what the program says; the estimate's stated accuracy
_FILAMENT_PERCENT: Final = 0.1  # requirement: filament against what the program says: coordinates have five decimals
_SHARES: Final = (0.08, 0.29, 0.5, 0.71, 0.92)  # of the layers: those whose outlines are measured
_REACH: Final = 3.0  # layers below a functional face in which a support would carry it; numerical
_HINT: Final = "run the slicing again; look at build/toolpath.gcode in a viewer"
_TURN: Final = "give another direction in [build] up of the order, or choose a process whose supports are made here"
_SOURCE: Final = "project default"
_UNITS_S: Final = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


def toolpath_findings(
    gcode: bytes,
    moves: Moves,
    motion: Motion,
    *,
    parts: Sequence[Part],
    placements: Sequence[Placement],
    layers: Layers,
    config: str,
    process: Process,
    machine: Machine,
) -> list[Finding]:
    """Measure a toolpath.

    Parameters
    ----------
    gcode, moves, motion
        The file, what was read of it, and what it takes.
    parts, placements, layers
        What was to be printed, where, and its sections at the middle of each layer.
    config
        What the program was told.
    process, machine
        Layer height and envelope.
    """
    placed = [part.mesh.moved(placement.pose).vertices_mm for part, placement in zip(parts, placements, strict=True)]
    lines = _Lines(moves, placed, process.layer_mm, setting(config, "filament_diameter"))
    width_mm = setting(config, "external_perimeter_extrusion_width")
    findings = _envelope_findings(lines, moves, machine)
    for index, part in enumerate(parts):
        findings += _part_findings(lines, layers, index, part.name, width_mm=width_mm, filling=setting(config, "fill_density"))
        if part.functional_faces:
            findings.append(_functional_supports(lines, part, placed[index], process))
    return [*findings, *_footer_findings(gcode, motion)]


class _Lines:
    """The extruded lines of a toolpath.

    Ends (n, 2) mm, height (n,) mm, layer (n,) from 0, volume (n,) mm3, role (n,), and the part (n,) that a line belongs to: -1
    for what is none's, as supports and brims are.
    """

    def __init__(self, moves: Moves, placed: Sequence[FloatArray], layer_mm: float, filament_diameter_mm: float) -> None:
        table = moves.table
        before = np.vstack([np.zeros((1, 2)), table[:-1, [X, Y]]])
        drawn = (table[:, E] > 0.0) & (np.abs(table[:, [X, Y]] - before).max(axis=1) > 0.0) & (moves.layer > 0)
        self.begin, self.end = before[drawn], table[drawn][:, [X, Y]]
        self.z = table[drawn, Z]
        self.layer = np.rint(self.z / layer_mm).astype(np.int64) - 1
        self.mm3 = table[drawn, E] * (0.25 * np.pi * filament_diameter_mm**2)
        self.role = moves.role[drawn]
        self.part = np.full(len(self.z), -1)
        for index, points in enumerate(placed):
            low, high = points[:, :2].min(axis=0) - _NEAR_MM, points[:, :2].max(axis=0) + _NEAR_MM
            inside = ((self.begin >= low) & (self.begin <= high) & (self.end >= low) & (self.end <= high)).all(axis=1)
            self.part[inside & (self.role >= PART)] = index
        self.stray = int(np.count_nonzero((self.part < 0) & (self.role >= PART)))


def _envelope_findings(lines: _Lines, moves: Moves, machine: Machine) -> list[Finding]:
    reached = moves.table[moves.layer > 0][:, [X, Y, Z]]
    off = float(max((-reached).max(initial=0.0), (reached - np.array(machine.envelope_mm)).max(initial=0.0)))
    return [
        judge("toolpath.envelope", "how far the nozzle leaves the machine's envelope", off, "mm", high=_BED_MM,
              hint="choose a larger machine, or print the parts in several builds", source="envelope of the machine"),
        judge("toolpath.stray", "lines that belong to no part", lines.stray, "", high=0, hint=_HINT, source=_SOURCE),
    ]  # fmt: skip


def _part_findings(lines: _Lines, layers: Layers, index: int, name: str, *, width_mm: float, filling: float) -> list[Finding]:
    own = lines.part == index
    area = layers.area_mm2(index)
    count = int(np.flatnonzero(area)[-1]) + 1
    deposited = np.bincount(np.clip(lines.layer[own], 0, layers.count - 1), lines.mm3[own], minlength=layers.count)
    blank = sum(
        _is_wide(layers.loops(layer, index), width_mm) for layer in np.flatnonzero(deposited[: count - 1] <= 0.0).tolist()
    )
    top_mm, height_mm = float(lines.z[own].max(initial=0.0)), count * layers.layer_mm
    percent = 100.0 * float(deposited.sum() / (area.sum() * layers.layer_mm))
    low, high = _VOLUME_PERCENT if filling >= 1.0 else (filling * _SPARSE_PERCENT, _VOLUME_PERCENT[1])
    return [
        judge("toolpath.blank", f"layers of {name} without a line where one has room", blank, "", high=0, hint=_HINT,
              source="a blank layer is a fault"),
        judge("toolpath.height", f"height of the last line of {name}", top_mm, "mm", high=height_mm + _BED_MM, hint=_HINT,
              source="layers of the part; those that no line has room in are left out"),
        judge("toolpath.volume", f"extruded volume of {name} against its layers", percent, "%", low=low, high=high, hint=_HINT,
              source=f"{_SOURCE}; filling {100.0 * filling:g} %"),
        judge("toolpath.outline", f"middle distance of outlines of {name} from half a line inside of its contours, some layers",
              _outline_mm(lines, layers, index, width_mm), "mm", high=_OUTLINE_MM, hint=_HINT, source=_SOURCE),
    ]  # fmt: skip


def _is_wide(loops: Sequence[FloatArray], width_mm: float) -> bool:
    """Whether a section has room for a closed line."""
    return bool(manifold3d.CrossSection(list(loops), manifold3d.FillRule.Positive).offset(-width_mm).area() > 0.0)


def _outline_mm(lines: _Lines, layers: Layers, index: int, width_mm: float) -> float:
    """The worst of some layers: sees a part that is moved, turned, mirrored or scaled."""
    filled = np.unique(layers.loop_layer[layers.loop_part == index])
    away = []
    for layer in sorted({int(filled[min(len(filled) - 1, int(share * len(filled)))]) for share in _SHARES}):
        contours = shapely.MultiLineString([np.vstack([ring, ring[:1]]) for ring in layers.loops(layer, index)])
        shapely.prepare(contours)
        chosen = (lines.layer == layer) & (lines.role == OUTLINE) & (lines.part == index)
        middles = shapely.points(0.5 * (lines.begin[chosen] + lines.end[chosen]))
        off = np.abs(shapely.distance(contours, middles) - 0.5 * width_mm)
        away.append(_middle(off, np.hypot(*(lines.end[chosen] - lines.begin[chosen]).T)))
    return max(away)


def _middle(value: FloatArray, weight: FloatArray) -> float:
    """Weighted median; infinite where there is nothing."""
    if len(value) == 0:
        return float("inf")
    order = np.argsort(value, kind="stable")
    share = np.cumsum(weight[order])
    return float(value[order][int(np.searchsorted(share, 0.5 * share[-1]))])


def leans_on_functional(part: Part, placed: FloatArray, process: Process) -> FloatArray:
    """(k, 3, 3) triangles of functional faces that overhang beyond the limit: the program would put supports right below them."""
    corners = placed[part.mesh.faces[protected(part)]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return corners[-normals[:, 2] > np.sin(np.radians(process.max_overhang_deg)) * np.linalg.norm(normals, axis=1)]


def functional_supports(moves: Moves, part: Part, placed: FloatArray, config: str, process: Process) -> Finding:
    """Judge the length of supports right below the functional faces of a part, whose vertices lie at ``placed``: they carry these
    faces, though none begins on them.
    """
    return _functional_supports(
        _Lines(moves, [placed], process.layer_mm, setting(config, "filament_diameter")), part, placed, process
    )


def _functional_supports(lines: _Lines, part: Part, placed: FloatArray, process: Process) -> Finding:
    supports = lines.role == SUPPORT
    begin, end = lines.begin[supports], lines.end[supports]
    down = leans_on_functional(part, placed, process)
    carried = _below(down, 0.5 * (begin + end), lines.z[supports], process.layer_mm * _REACH)
    length_mm = float(np.hypot(*(end - begin)[carried].T).sum())
    what = f"length of supports right below functional faces of {part.name}"
    return judge("toolpath.functional_supports", what, length_mm, "mm", high=0.0, hint=_TURN,
                 source="functional faces stay free of supports")  # fmt: skip


def _below(triangles: FloatArray, points: FloatArray, z: FloatArray, reach_mm: float) -> npt.NDArray[np.bool_]:
    """(n,) which points lie at most ``reach_mm`` below one of some triangles (k, 3, 3)."""
    found = np.zeros(len(points), dtype=bool)
    if len(triangles) == 0 or len(points) == 0:
        return found
    tree = shapely.STRtree(shapely.polygons(triangles[:, :, :2]))
    point, triangle = tree.query(shapely.points(points), predicate="intersects")
    a, b, c = (triangles[triangle, k] for k in range(3))
    normal = np.cross(b - a, c - a)
    height = a[:, 2] - (normal[:, :2] * (points[point] - a[:, :2])).sum(axis=1) / normal[:, 2]
    above = height - z[point]
    found[point[(above >= 0.0) & (above <= reach_mm)]] = True
    return found


def _footer_findings(gcode: bytes, motion: Motion) -> list[Finding]:
    """The program's own figures: another simulator of the same moves."""
    told = re.search(rb"^; estimated printing time \(normal mode\) = ([\d dhms]+)$", gcode, re.MULTILINE)
    used = re.search(rb"^; filament used \[mm\] = ([\d.]+)$", gcode, re.MULTILINE)
    seconds = sum(int(n) * _UNITS_S[unit] for n, unit in re.findall(r"(\d+)([dhms])", told[1].decode())) if told else 0
    filament_mm = float(used[1]) if used else 0.0
    ratios = [
        100.0 * (ours / theirs - 1.0) if theirs else np.inf
        for ours, theirs in ((motion.seconds, seconds), (motion.filament_mm, filament_mm))
    ]
    return [
        judge("toolpath.time", "time of the moves against what the program says", ratios[0], "%", low=-_FOOTER_PERCENT,
              high=_FOOTER_PERCENT, gate=False, hint="trust neither time", source="stated accuracy of the estimate"),
        judge("toolpath.filament", "filament of the moves against what the program says", ratios[1], "%", low=-_FILAMENT_PERCENT,
              high=_FILAMENT_PERCENT, hint=_HINT, source=_SOURCE),
    ]  # fmt: skip
