"""The contours of a layer file: against sections of the meshes that manifold3d makes, in some layers of each part, and, in every
layer of every body, whether any material is outlined twice or inside out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import manifold3d
import numpy as np
import shapely

from batchone.pipeline.values import Finding, FloatArray, Mesh, judge
from batchone.slicer.clearances import solid_of
from batchone.slicer.cli_format import CliFile
from batchone.slicer.cli_header import SHORT_UNIT_MM
from batchone.slicer.layers import Layers, section_heights
from batchone.slicer.places import in_patient

_CONTOUR_MM: Final = 0.01  # requirement: mean distance of contours from the mesh's section: two units of the short layer file
HEIGHTS: Final = (0.08, 0.29, 0.5, 0.71, 0.92)  # shares of the layers that are compared contour by contour
_TRIES: Final = 20  # layers tried from there on
_COPLANAR_MM: Final = 1e-6  # numerical: faces this close to a plane may fall on either side of it
_COPLANAR_SHARE: Final = 1e-4  # numerical: change of area over that distance which only a horizontal face makes
_SLIVER_MM: Final = 2.0 * SHORT_UNIT_MM  # numerical: outlines that all but touch may cross by so much when they are rounded
_SLIVER_MM2: Final = _SLIVER_MM**2  # numerical: of a layer; less has no room for a piece that is wider than a sliver both ways
_SOURCE: Final = "project default"


def contour_findings(
    cli: CliFile, placed: Sequence[Mesh], names: Sequence[str], poses: Sequence[FloatArray | None]
) -> list[Finding]:
    """How far the outlines of each body lie from its sections on average; if too far, also where. ``poses`` lead to LPS."""
    findings = []
    for index, mesh in enumerate(placed):
        solid = solid_of(mesh, f"part {names[index]!r}")
        sections = {layer: outline for layer, outline in _references(solid, mesh, cli)}
        off_mm = {layer: _mean_distance_mm(cli.layers.loops(layer, index), outline) for layer, outline in sections.items()}
        worst = max(off_mm, key=lambda layer: off_mm[layer])
        finding = judge(
            "layers.contours",
            f"mean distance of contours of {names[index]} from independent sections of its mesh",
            off_mm[worst],
            "mm",
            high=_CONTOUR_MM,
            source=_SOURCE,
        )
        if finding.verdict != "pass":  # the search takes seconds on an outline of thousands of corners
            spot_mm = _furthest_spot_mm(cli.layers.loops(worst, index), sections[worst])
            height_mm = float(section_heights(float(mesh.vertices_mm[:, 2].max()), cli.layers.layer_mm)[worst])
            place = None if spot_mm is None else in_patient(np.array([*spot_mm, height_mm]), poses[index])
            finding = replace(finding, where_mm=place)
        findings.append(finding)
    return findings


def _references(solid: manifold3d.Manifold, mesh: Mesh, cli: CliFile) -> Iterator[tuple[int, manifold3d.CrossSection]]:
    """Some layers of a part and its sections there, from near the bottom to near the top.

    A layer whose plane lies in a horizontal face is passed over for the next: there the section depends on rounding.
    """
    heights = section_heights(float(mesh.vertices_mm[:, 2].max()), cli.layers.layer_mm)
    low = int(np.searchsorted(heights, float(mesh.vertices_mm[:, 2].min())))  # a part of a cake begins above others
    for share in HEIGHTS:
        first = min(len(heights) - 1, low + int(share * (len(heights) - low)))
        for layer in range(first, min(first + _TRIES, len(heights))):
            below = solid.slice(float(heights[layer]) - _COPLANAR_MM)
            above = solid.slice(float(heights[layer]) + _COPLANAR_MM)
            if abs(above.area() - below.area()) <= _COPLANAR_SHARE * below.area():
                yield layer, below
                break


def _mean_distance_mm(contours: Sequence[FloatArray], reference: manifold3d.CrossSection) -> float:
    """Area that only one of both covers, per length of the reference's outline: sees mirroring, shift and missing holes."""
    written = manifold3d.CrossSection(list(contours), manifold3d.FillRule.Positive)
    outline = sum(float(np.linalg.norm(np.roll(p, -1, axis=0) - p, axis=1).sum()) for p in reference.to_polygons())
    if outline == 0.0:
        return 0.0 if not contours else float("inf")
    only_one = (written - reference).area() + (reference - written).area()
    return float(only_one / outline)


def _furthest_spot_mm(contours: Sequence[FloatArray], reference: manifold3d.CrossSection) -> FloatArray | None:
    """(2,) where outlines differ most from a section: of all that only one of both covers, the point furthest from the other's
    outline; None where they agree."""
    written = manifold3d.CrossSection(list(contours), manifold3d.FillRule.Positive)
    most, spot = 0.0, None
    for one, other in ((written, reference), (reference, written)):
        rings, outlines = (one - other).to_polygons(), other.to_polygons()
        if not rings:
            continue
        points = np.concatenate(rings)
        if not outlines:
            return points[0]
        lines = shapely.multilinestrings([shapely.linearrings(ring) for ring in outlines])
        away = shapely.distance(shapely.points(points), lines)
        if away.max() > most:
            most, spot = float(away.max()), points[int(away.argmax())]
    return spot


def twice_findings(layers: Layers, names: Sequence[str], poses: Sequence[FloatArray | None]) -> list[Finding]:
    """Whether outlines of one body cross: where they do, volume counts twice, and lines are drawn twice or left out.

    The area that the outlines of a body cover in a layer is measured against the sum of their signed areas, whatever the process.
    ``layers`` holds the outlines of the bodies alone; ``poses`` lead to LPS.
    """
    most: list[tuple[float, int, manifold3d.CrossSection | None]] = [(0.0, 0, None)] * len(names)
    group = np.flatnonzero(np.diff(layers.loop_layer, prepend=-1) | np.diff(layers.loop_part, prepend=-1))
    signed_mm2 = np.add.reduceat(layers.loop_area_mm2, group) if len(group) else np.empty(0)
    for first, last, sum_mm2 in zip(
        group.tolist(), [*group[1:].tolist(), len(layers.loop_part)], signed_mm2.tolist(), strict=True
    ):
        loops = [layers.points_mm[layers.loop_start[i] : layers.loop_start[i + 1]] for i in range(first, last)]
        if abs(manifold3d.CrossSection(loops, manifold3d.FillRule.NonZero).area() - sum_mm2) <= _SLIVER_MM2:
            continue
        wrong = _twice(loops)
        body = int(layers.loop_part[first])
        if wrong.area() > most[body][0]:
            most[body] = wrong.area(), int(layers.loop_layer[first]), wrong
    findings = []
    for name, pose, (area_mm2, layer, where) in zip(names, poses, most, strict=True):
        finding = judge(
            "layers.twice",
            f"largest area of a layer of {name} that its outlines enclose twice or inside out, wider than {_SLIVER_MM:g} mm",
            area_mm2,
            "mm2",
            high=0.0,
            hint="the part crosses itself: unite its shells, or run the design and its checks again",
            source="requirement: each place of a layer is material once or not at all",
        )
        if where is not None:
            spot_mm = np.array([*where.to_polygons()[0][0], (layer + 0.5) * layers.layer_mm])
            finding = replace(finding, where_mm=in_patient(spot_mm, pose))
        findings.append(finding)
    return findings


def _twice(loops: Sequence[FloatArray]) -> manifold3d.CrossSection:
    """What outlines go around twice, or the wrong way, without slivers."""
    any_way, odd, backward = (
        manifold3d.CrossSection(loops, rule)
        for rule in (manifold3d.FillRule.NonZero, manifold3d.FillRule.EvenOdd, manifold3d.FillRule.Negative)
    )
    pieces = (any_way - odd + backward).decompose()
    return manifold3d.CrossSection.batch_boolean(
        [piece for piece in pieces if not piece.offset(-0.5 * _SLIVER_MM, manifold3d.JoinType.Miter).is_empty()],
        manifold3d.OpType.Add,
    )
