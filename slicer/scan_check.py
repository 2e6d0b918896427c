"""What a laser draws, measured against the outlines of the same file by polygons: where contours of the beam lie, and how long
the lines of each region are. Nothing here uses the slicer's own erosion or its stretches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import manifold3d
import numpy as np
import shapely

from batchone.pipeline.process import CONTOURS, Region, ScanStrategy, Skin
from batchone.pipeline.values import Finding, FloatArray, judge
from batchone.slicer.cli_format import CliFile
from batchone.slicer.cli_header import SHORT_UNIT_MM, region_label

_CONTOUR_MM: Final = 0.01  # requirement: mean distance of contours from where they belong: two units of the short layer file
_ROUND: Final = 16  # numerical: sides of a quarter of a round corner
_SLACK_MM: Final = 2.0 * SHORT_UNIT_MM  # numerical: ends and outlines are rounded
_SOURCE: Final = "project default"

Spans = list[tuple[float, float]]
Rows = tuple[FloatArray, FloatArray, FloatArray]


def material_of(loops: Sequence[FloatArray]) -> shapely.MultiPolygon:
    """The material of a layer, whatever rounding has made of its contours."""
    pieces = manifold3d.CrossSection(list(loops), manifold3d.FillRule.Positive).decompose()
    rings = [
        sorted(piece.to_polygons(), key=lambda ring: -shapely.Polygon(ring).area) for piece in pieces if not piece.is_empty()
    ]
    return shapely.MultiPolygon([shapely.Polygon(outer, holes) for outer, *holes in rings])


def path_findings(cli: CliFile, index: int, layers: Sequence[int], scan: ScanStrategy) -> list[Finding]:
    """How far contours of the beam of a part lie from its outlines, eroded by their inset, in some layers."""
    name, findings = cli.labels[index], []
    for region in scan.order:
        if region not in CONTOURS:
            continue
        inset_mm, worst = scan.contour_inset_mm(region), 0.0
        label = cli.labels.index(region_label(name, region))
        for layer in layers:
            wanted = material_of(cli.layers.loops(layer, index)).buffer(-inset_mm, quad_segs=_ROUND)
            off_mm2 = wanted.symmetric_difference(material_of(cli.layers.loops(layer, label))).area
            worst = max(worst, off_mm2 / wanted.length if wanted.length > 0.0 else off_mm2)
        what = f"mean distance of the beam's {region} of {name} from {inset_mm:g} mm inside of its outline, in some layers"
        findings.append(judge("layers.beam", what, worst, "mm", high=_CONTOUR_MM, source=_SOURCE))
    return findings


def expected_mm(cli: CliFile, index: int, layer: int, region: Region, scan: ScanStrategy) -> tuple[float, float]:
    """Least and greatest length of the lines that a region of a layer of a part should have, mm: outlines are rounded, and what
    is hardly as long as the least line may be there or not."""
    room = material_of(cli.layers.loops(layer, index)).buffer(-scan.inset_mm, quad_segs=_ROUND)
    if room.is_empty:
        return 0.0, 0.0
    rows = _rows(room, layer, scan, scan.spacing_mm(region))
    inner = _spans(rows, room)
    above, below = _covered(cli, index, layer, scan.up_skin, 1), _covered(cli, index, layer, scan.down_skin, -1)
    lengths = []
    for slack_mm in (-_SLACK_MM, _SLACK_MM):  # skins as small, and as large, as they may be
        bare = [
            inner if cover is None else _less(inner, _spans(rows, cover.buffer(-slack_mm, quad_segs=_ROUND)))
            for cover in (below, above)
        ]
        for least_mm in (scan.least_mm - _SLACK_MM, scan.least_mm + _SLACK_MM):
            down = [[] if below is None else _long(spans, least_mm) for spans in bare[0]]
            up = [[] if above is None else _long(_minus(spans, own), least_mm) for spans, own in zip(bare[1], down, strict=True)]
            lengths.append(sum(map(_length, _lines(region, inner, down, up, least_mm, scan))))
    return min(lengths), max(lengths)


def _lines(
    region: Region, inner: list[Spans], down: list[Spans], up: list[Spans], least_mm: float, scan: ScanStrategy
) -> list[Spans]:
    if region == "core":
        return [_long(_minus(_minus(one, d), u), least_mm) for one, d, u in zip(inner, down, up, strict=True)]
    skins = down if region == "down-skin" else up
    return [_drawn_out(one, room, scan.overlap_mm(region)) for one, room in zip(skins, inner, strict=True)]


def _covered(cli: CliFile, index: int, layer: int, skin: Skin | None, step: int) -> shapely.Geometry | None:
    """What all of the next layers cover; None where no skin is made."""
    if skin is None:
        return None
    solids = [material_of(cli.layers.loops(layer + step * (n + 1), index)) for n in range(skin.layers)]
    return shapely.intersection_all(np.array(solids, dtype=object)) if len(solids) > 1 else solids[0]


def _rows(room: shapely.Geometry, layer: int, scan: ScanStrategy, spacing_mm: float) -> Rows:
    """Heights (n,) of lines through some room, ascending, and the directions along and across them."""
    angle = np.radians((scan.first_deg + scan.turn_deg * layer) % 180.0)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    v = shapely.get_coordinates(room) @ across
    heights = (np.arange(np.floor(v.min() / spacing_mm), np.ceil(v.max() / spacing_mm)) + 0.5) * spacing_mm
    return heights, along, across


def _spans(rows: Rows, solid: shapely.Geometry) -> list[Spans]:
    """From where to where each line lies in a solid, rising: between one crossing of its outlines and the next."""
    heights, along, across = rows
    corners, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(solid)), return_index=True)
    u, v = corners @ along, corners @ across
    start = np.flatnonzero(ring[1:] == ring[:-1])
    low = np.searchsorted(heights, np.minimum(v[start], v[start + 1]))  # a corner on a line is below it for both its edges
    count = np.searchsorted(heights, np.maximum(v[start], v[start + 1])) - low
    edge = np.repeat(start, count)
    row = np.arange(len(edge)) + np.repeat(low - (np.cumsum(count) - count), count)
    share = (heights[row] - v[edge]) / (v[edge + 1] - v[edge])
    at = u[edge] + share * (u[edge + 1] - u[edge])
    order = np.lexsort((at, row))
    spans: list[Spans] = [[] for _ in range(len(heights))]
    for k, begin, end in zip(row[order][::2].tolist(), at[order][::2].tolist(), at[order][1::2].tolist(), strict=True):
        if end > begin:
            spans[k].append((begin, end))
    return spans


def _less(of: list[Spans], taken: list[Spans]) -> list[Spans]:
    return [_minus(one, other) for one, other in zip(of, taken, strict=True)]


def _minus(of: Spans, taken: Spans) -> Spans:
    found = []
    for low, high in of:
        at = low
        for begin, end in taken:
            if begin >= high or end <= at:
                continue
            found.append((at, begin))
            at = end
        found.append((at, high))
    return [(a, b) for a, b in found if b > a]


def _long(spans: Spans, least_mm: float) -> Spans:
    return [(a, b) for a, b in spans if b - a >= least_mm]


def _length(spans: Spans) -> float:
    return sum(b - a for a, b in spans)


def _drawn_out(skins: Spans, room: Spans, by_mm: float) -> Spans:
    """Skins drawn out at both ends, within their room and never over each other."""
    wide = [
        next((max(a, s - by_mm), min(b, e + by_mm)) for a, b in room if a - _SLACK_MM <= s and e <= b + _SLACK_MM)
        for s, e in skins
    ]
    return [(max(a, wide[i - 1][1]) if i else a, b) for i, (a, b) in enumerate(wide)]
