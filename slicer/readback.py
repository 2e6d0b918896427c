"""Read the emitted bytes back, and measure them against the meshes they were made from.

Nothing here uses the slicer's own sections: contours come from the bytes of the layer file, the reference from manifold3d.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import shapely

from batchone.pipeline.errors import FilesError, MachineError
from batchone.pipeline.findings import number_words, place_words, places_of_breaches
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process, Region, ScanStrategy
from batchone.pipeline.values import Finding, FloatArray, Mesh, Part, Placement, Support, judge
from batchone.slicer.cli_format import CliFile
from batchone.slicer.cli_header import SHORT_UNIT_MM, region_label, region_of, written_label
from batchone.slicer.contour_check import HEIGHTS, contour_findings, twice_findings
from batchone.slicer.exposure import filled_bodies, labels_of
from batchone.slicer.hatch import hatched_regions, lengths_mm
from batchone.slicer.layers import Layers, layer_count
from batchone.slicer.places import furthest, in_patient, poses_of
from batchone.slicer.scan_check import expected_mm, material_of, path_findings
from batchone.slicer.threemf import Item, read_3mf

_VOLUME_PERCENT: Final = 0.5  # requirement: volume of the layers against the mesh; project default
_FILE_VOLUME_PPM: Final = 1.0  # requirement: relative volume of a re-read mesh; float32 coordinates give about 0.1
_POSITION_MM: Final = 0.001  # requirement: vertex of the re-read file from where it belongs; float32 at 1 m gives 6e-5 mm
_DETERMINANT: Final = 1e-6  # numerical: float32 rotation
_READERS: Final = 2  # of 3MF files, and of lines, at a time
_LENGTH_PERCENT: Final = (98.0, 102.0)  # requirement: no line left out, none drawn twice; ends are rounded; project default
_THIN_PERCENT: Final = 1.0  # project default, unverified: a tip or two at the top of a part
_MOST_SKIN: Final = 3  # layers of most skin that are looked at
_SOURCE: Final = "project default"


def read_back(
    parts: Sequence[Part],
    placements: Sequence[Placement],
    *,
    written: CliFile,
    plate_3mf: bytes,
    part_3mf: Sequence[tuple[str, bytes]] | None = None,
    process: Process,
    machine: Machine,
    supports: Sequence[Support] = (),
) -> tuple[Finding, ...]:
    """Measure the files of a build.

    Parameters
    ----------
    parts, placements
        What was to be written, in the same order.
    written
        What the layer file says, read from its bytes.
    plate_3mf, part_3mf
        The bytes to be measured; None where no files of single parts were made.
    process, machine
        Layer thickness and envelope.
    supports
        What carries the parts: bodies of their own on the plate and in the layers.

    Raises
    ------
    FilesError
        A measurement is outside its limit; all of those are in the message.
    MachineError
        A file cannot be read.
    """
    placed = [part.mesh.moved(placement.pose) for part, placement in zip(parts, placements, strict=True)]
    placed += [support.mesh for support in supports]
    names = [*(part.name for part in parts), *(support.name for support in supports)]
    poses = poses_of(placements, supports)
    filled = names[: filled_bodies(names, process, parts=len(parts))]
    wanted = tuple(map(written_label, labels_of(names, process, parts=len(parts))))
    if written.labels != wanted:
        raise MachineError(
            f"labels of the layers are {', '.join(written.labels)}; must be {', '.join(wanted)}", hint="slice again"
        )
    with ThreadPoolExecutor(_READERS) as pool:  # lib3mf lets other threads run
        files = [pool.submit(read_3mf, data) for data in (plate_3mf, *(data for _, data in part_3mf or ()))]
        lines = pool.submit(_hatch_findings, written, filled, process)  # so does shapely
        findings = [
            *_layer_findings(written, placed, process),
            *_envelope_findings(written, machine),
            *contour_findings(written, placed, names, poses),
            *twice_findings(written.outlines, names, poses),
            *lines.result(),
        ]
        plate, *singles = (file.result() for file in files)
    findings += _plate_findings(plate, [*parts, *map(_as_part, supports)], [*placements, *map(_in_place, supports)], poses)
    if part_3mf is not None:
        findings += _part_findings([name for name, _ in part_3mf], singles, parts)
    refuse_failed(findings := list(places_of_breaches(findings)))
    return tuple(findings)


def refuse_failed(findings: Sequence[Finding]) -> None:
    """Refuse files of which a measurement is outside its limit.

    Raises
    ------
    FilesError
        All of those are in the message; it carries every finding, and says of the first of those what to do.
    """
    broken = [f for f in findings if f.verdict == "fail"]
    if broken:
        text = "; ".join(map(_told, broken))
        hint = broken[0].hint or "do not print; slice again"
        raise FilesError(f"build files differ from the approved device: {text}", tuple(findings), hint=hint)


def _told(finding: Finding) -> str:
    place = "" if finding.where_mm is None else f", at {place_words(finding.where_mm)}"
    return f"{finding.what} is {number_words(finding.value)} {finding.unit}".rstrip() + f", limit {finding.limit}{place}"


def _as_part(support: Support) -> Part:
    return Part(support.name, support.mesh, np.zeros(len(support.mesh.faces), dtype=np.int16), ("support",))


def _in_place(support: Support) -> Placement:
    return Placement(support.name, np.eye(4), "")


def volume_mm3(mesh: Mesh) -> float:
    """Signed volume of a closed mesh, mm3; positive when it is oriented outward."""
    x, y, z = np.ascontiguousarray((mesh.vertices_mm - mesh.vertices_mm.mean(axis=0)).T)
    a, b, c = np.ascontiguousarray(mesh.faces.T)
    minors = z[a] * (x[b] * y[c] - x[c] * y[b]), x[a] * (y[b] * z[c] - y[c] * z[b]), y[a] * (z[b] * x[c] - z[c] * x[b])
    return float((minors[0] + minors[1] + minors[2]).sum() / 6.0)


def _layer_findings(cli: CliFile, placed: Sequence[Mesh], process: Process) -> list[Finding]:
    layers = cli.outlines
    top_mm = max(float(mesh.vertices_mm[:, 2].max()) for mesh in placed)
    wanted = layer_count(top_mm, process.layer_mm)
    findings = [
        judge("layers.count", "number of layers", layers.count, "", low=wanted, high=wanted, source="height / layer thickness"),
        judge(
            "layers.blank",
            "blank layers where there is a part",
            int((layers.area_mm2()[_reached(placed, layers)] <= 0).sum()),
            "",
            high=0,
            source=_SOURCE,
        ),
        judge(
            "layers.pitch",
            "largest deviation of a layer's upper surface from layer number x thickness",
            float(np.abs(cli.top_mm - np.arange(1, layers.count + 1) * process.layer_mm).max()),
            "mm",
            high=1e-4,
            source="numerical: float32",
        ),
    ]
    for index, mesh in enumerate(placed):
        height = float(mesh.vertices_mm[:, 2].max())
        volume = volume_mm3(mesh)
        percent = 100.0 * (_layer_volume(layers, index, height, process.layer_mm) - volume) / volume
        findings.append(
            judge(
                "layers.volume",
                f"volume of the layers of {cli.labels[index]} against its mesh",
                percent,
                "%",
                low=-_VOLUME_PERCENT,
                high=_VOLUME_PERCENT,
                source=_SOURCE,
            )
        )
    return findings


def _reached(placed: Sequence[Mesh], layers: Layers) -> npt.NDArray[np.bool_]:
    """(count,) layers between the lowest and the highest place of a part: in a cake some may hold powder alone."""
    middles = (np.arange(layers.count) + 0.5) * layers.layer_mm
    reached = np.zeros(layers.count, dtype=bool)
    for mesh in placed:
        low, high = float(mesh.vertices_mm[:, 2].min()), float(mesh.vertices_mm[:, 2].max())
        reached |= (middles > low) & (middles < high)
    return reached


def _layer_volume(layers: Layers, part: int, height_mm: float, layer_mm: float) -> float:
    """Sum of area x thickness; the last layer counts with what the part fills of it."""
    area = layers.area_mm2(part)
    count = layer_count(height_mm, layer_mm)
    thickness = np.full(count, layer_mm)
    thickness[-1] = height_mm - (count - 1) * layer_mm
    thickness = np.concatenate([thickness, np.full(max(0, len(area) - count), layer_mm)])
    return float((area * thickness[: len(area)]).sum())


def _envelope_findings(cli: CliFile, machine: Machine) -> list[Finding]:
    x, y = cli.layers.points_mm[:, 0], cli.layers.points_mm[:, 1]
    margin = machine.plate_margin_mm
    width, depth, height = machine.envelope_mm
    room = [x.min() - margin, y.min() - margin, width - margin - x.max(), depth - margin - y.max(), height - cli.top_mm[-1]]
    return [
        judge(
            "build.envelope",
            "least distance of the layers from the walls of the machine's usable box",
            float(min(room)),
            "mm",
            low=-SHORT_UNIT_MM,  # outlines are rounded to the file's unit
            hint="choose a larger machine",
            source=machine.sources.get("envelope_mm", _SOURCE),
        )
    ]


def _hatch_findings(cli: CliFile, names: Sequence[str], process: Process) -> list[Finding]:
    """Lines against contours: whether each has contours about it, and, in some layers of each part, where they lie and how long
    they are together against an independent construction."""
    if process.scan is None:
        return []
    scan = process.scan
    body = np.array([cli.labels.index(_body(label)) for label in cli.labels])
    loops_of = set(zip(cli.layers.loop_layer.tolist(), cli.layers.loop_part.tolist(), strict=True))
    drawn_of = zip(cli.hatches.layer.tolist(), body[cli.hatches.part].tolist(), strict=True)
    stray = sum(group not in loops_of for group in drawn_of)
    findings = [judge("layers.hatches_stray", "layers of a part with lines and no contour", stray, "", high=0, source=_SOURCE)]
    for index, name in enumerate(names):
        own = np.unique(cli.layers.loop_layer[cli.layers.loop_part == index])
        some = sorted({int(own[min(len(own) - 1, int(share * len(own)))]) for share in HEIGHTS})
        nearer = thin_mm2 = whole_mm2 = 0.0
        for layer in some:
            solid = material_of(cli.layers.loops(layer, index))
            lines = np.concatenate([cli.hatches.of(layer, label) for label in np.flatnonzero(body == index).tolist()])
            nearer = max(nearer, scan.inset_mm - _least_inside_mm(solid, lines))
            thin_mm2, whole_mm2 = thin_mm2 + _thin_mm2(solid, scan.beam_mm), whole_mm2 + solid.area
        what = f"by how much lines of {name} come nearer to an outline than {scan.inset_mm:g} mm, in some layers"
        findings.append(judge("layers.hatches_off", what, nearer, "mm", high=2.0 * SHORT_UNIT_MM, source=_SOURCE))
        what = f"area of {name} in pieces that are thinner than the beam and are not drawn, in some layers"
        findings.append(
            judge(
                "layers.thin", what, 100.0 * thin_mm2 / whole_mm2, "%",
                high=_THIN_PERCENT, gate=False, hint="thicker walls: the beam has no place within them", source=_SOURCE,
            )
        )  # fmt: skip
        findings += path_findings(cli, index, some, scan)
        for region in hatched_regions(scan):
            findings.append(
                _length_finding(cli, index, region, sorted({*some, *_steps(cli.layers.area_mm2(index), region)}), scan)
            )
    return findings


def _body(label: str) -> str:
    region = region_of(label)
    return label if region is None else label.removesuffix(f" {region}")


def _steps(area_mm2: FloatArray, region: Region) -> list[int]:
    """The layers that shrink most to the next above or below, where there is most skin; none of the core."""
    if region == "core":
        return []
    beside = np.append(area_mm2[1:], 0.0) if region == "up-skin" else np.insert(area_mm2[:-1], 0, 0.0)
    most = np.argsort(beside - area_mm2, kind="stable")[:_MOST_SKIN]
    return [int(layer) for layer in most if area_mm2[layer] > beside[layer]]


def _length_finding(cli: CliFile, index: int, region: Region, layers: Sequence[int], scan: ScanStrategy) -> Finding:
    name, label = cli.labels[index], cli.labels.index(region_label(cli.labels[index], region))
    drawn = least = most = 0.0
    for layer in layers:
        drawn += float(lengths_mm(cli.hatches.of(layer, label)).sum())
        shorter, longer = expected_mm(cli, index, layer, region, scan)
        least, most = least + shorter, most + longer
    what = f"length of the {region} lines of {name} against that of lines through polygons of its outlines, in some layers"
    right = min(max(drawn, least), most)
    percent = 100.0 * drawn / right if right > 0.0 else 100.0 if drawn == 0.0 else np.inf
    low, high = _LENGTH_PERCENT
    return judge("layers.hatches_length", what, percent, "%", low=low, high=high, source=_SOURCE)


def _least_inside_mm(solid: shapely.Geometry, lines_mm: FloatArray) -> float:
    """Least distance of whole lines (n, 4) to the outlines of a solid, below 0 where one lies outside; infinite without lines."""
    if len(lines_mm) == 0:
        return np.inf
    corners, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(solid)), return_index=True)
    along = np.flatnonzero(ring[1:] == ring[:-1])
    if len(along) == 0:
        return -np.inf
    edges = shapely.STRtree(shapely.linestrings(np.stack([corners[along], corners[along + 1]], axis=1)))
    lines = shapely.linestrings(lines_mm.reshape(-1, 2, 2))
    which, away = edges.query_nearest(lines, return_distance=True, all_matches=False)
    distance = np.empty(len(lines))
    distance[which[0]] = away
    shapely.prepare(solid)
    middles = 0.5 * (lines_mm[:, :2] + lines_mm[:, 2:])
    inside = shapely.contains_xy(solid, middles[:, 0], middles[:, 1])
    return float(np.where(inside, distance, -np.maximum(distance, SHORT_UNIT_MM)).min())


def _thin_mm2(solid: shapely.MultiPolygon, beam_mm: float) -> float:
    """Area of the pieces in which the beam's middle has no place, mm2."""
    return float(sum(piece.area for piece in solid.geoms if piece.buffer(-beam_mm).is_empty))


def _plate_findings(
    items: Sequence[Item], parts: Sequence[Part], placements: Sequence[Placement], poses: Sequence[FloatArray | None]
) -> list[Finding]:
    names = [item.name for item in items]
    if names != [part.name for part in parts]:
        raise MachineError(
            f"plate holds {len(names)} bodies, expected {len(parts)} parts and supports in order", hint="slice again"
        )
    findings = []
    for item, part, placement, pose in zip(items, parts, placements, poses, strict=True):
        turn = float(np.linalg.det(item.pose[:3, :3]))
        wanted_mm = part.mesh.moved(placement.pose).vertices_mm
        off_mm, worst = furthest(item.mesh.moved(item.pose).vertices_mm, wanted_mm)
        findings += [
            judge(
                "plate.determinant",
                f"determinant of the transform of {part.name}",
                turn,
                "",
                low=1.0 - _DETERMINANT,
                high=1.0 + _DETERMINANT,
                source="never mirrored, never scaled",
            ),
            _volume_finding("plate.volume", item.mesh, part),
            judge(
                "plate.position",
                f"largest distance of a vertex of {part.name} on the plate from where it belongs",
                off_mm,
                "mm",
                high=_POSITION_MM,
                source=_SOURCE,
                where_mm=None if worst is None else in_patient(wanted_mm[worst], pose),
            ),
        ]
    return findings


def _part_findings(names: list[str], files: Sequence[Sequence[Item]], parts: Sequence[Part]) -> list[Finding]:
    if names != [part.name for part in parts]:
        raise MachineError(f"{len(names)} part files, expected {len(parts)} in order", hint="slice again")
    findings = []
    for (item,), part in zip(files, parts, strict=True):
        off_mm, worst = furthest(item.mesh.moved(item.pose).vertices_mm, part.mesh.vertices_mm)
        findings.append(_volume_finding("part.volume", item.mesh, part))
        findings.append(
            judge(
                "part.position",
                f"largest distance of a vertex of {part.name} in its file from patient LPS",
                off_mm,
                "mm",
                high=_POSITION_MM,
                source=_SOURCE,
                where_mm=None if worst is None else in_patient(part.mesh.vertices_mm[worst], np.eye(4)),
            )
        )
    return findings


def _volume_finding(check: str, mesh: Mesh, part: Part) -> Finding:
    wanted = volume_mm3(part.mesh)
    corners = part.mesh.vertices_mm[part.mesh.faces]
    area = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum()
    rounding_mm = float(np.spacing(np.float32(np.abs(part.mesh.vertices_mm).max())))
    return judge(
        check,
        f"relative difference of volume of {part.name} in the file",
        1e6 * abs(volume_mm3(mesh) - wanted) / abs(wanted),
        "ppm",
        high=max(_FILE_VOLUME_PPM, float(1e6 * rounding_mm * area / abs(wanted))),
        source="1 ppm, or the whole surface off by one step of float32",
    )
