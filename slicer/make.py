"""The room's way in: an approved device to everything the machine needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Final

import numpy as np

from batchone.pipeline.errors import CheckFailed, MachineError, OrderError
from batchone.pipeline.findings import places_of_breaches
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.side_by_side import beside, side_by_side
from batchone.pipeline.values import (
    Approval,
    Build,
    CheckedDevice,
    Finding,
    FloatArray,
    Mesh,
    Part,
    Placement,
    Support,
    Vector,
)
from batchone.slicer.cli_format import read_cli
from batchone.slicer.cups import uncupped
from batchone.slicer.draw import draw
from batchone.slicer.estimate import estimate, toolpath_estimate
from batchone.slicer.gcode import config_text, make_toolpath, setting
from batchone.slicer.images import image_findings, no_images, write_sl1
from batchone.slicer.layers import Layers, refuse_dust, slice_parts
from batchone.slicer.motion import simulate
from batchone.slicer.moves import read_moves
from batchone.slicer.orient import Stance, functional_finding, stances
from batchone.slicer.plate import place, usable_box_mm
from batchone.slicer.readback import read_back, refuse_failed, volume_mm3
from batchone.slicer.recoater import blade_finding, off_blade
from batchone.slicer.supports.bodies import Supported, carried_way, lift_mm, upright
from batchone.slicer.supports.findings import support_findings
from batchone.slicer.threemf import Item, write_3mf
from batchone.slicer.thumbnail import thumbnail_png
from batchone.slicer.toolpath import functional_supports, leans_on_functional, toolpath_findings

_TOOLPATHS: Final = 4  # ways up for which the program is asked where its supports stand; project default
_WRITERS: Final = 2  # files written at a time: packing lets other threads run


def slice_device(
    checked: CheckedDevice, approval: Approval, process: Process, machine: Machine, order: Order | None = None
) -> Build:
    """Orient, place and slice an approved device, write its files, and read them back.

    Parameters
    ----------
    checked
        The device and its findings.
    approval
        The signed word on it; that its digest is the device's is verified by the caller.
    process, machine
        Profiles.
    order
        Where a person fixed which way up a part is built.

    Raises
    ------
    CheckFailed
        A finding of the device failed and was not waived, a functional face needs a support whichever way up the part is made, a
        vat would seal a cup, a piece of a layer lies on nothing, or a support touches a functional face or stands right below it.
    MachineError
        The machine does not take the process, a part does not fit, a mesh cannot be sliced, or a file reads back wrong.
    """
    failed = checked.failed(approval.waivers)
    if failed:
        names = ", ".join(f.check for f in failed)
        raise CheckFailed(
            f"{len(failed)} findings failed, at most 0 may be sliced: {names}",
            checked.findings,
            hint="change the parameters and run the design again",
        )
    _refuse_mismatch(process, machine)
    parts = checked.device.parts
    for part in parts:
        refuse_dust(part.mesh, part.name)
    fixed = order.build.up if order else {}
    ways, cups = _ways(parts, process, machine, fixed)
    functional = [functional_finding(part, stance, process) for part, (stance, _) in zip(parts, ways, strict=True)]
    blade = [one for part, (stance, _) in zip(parts, ways, strict=True) for one in blade_finding(part, stance, process, machine)]
    _refuse_supports_on_functional(checked, functional, fixed)
    if any(cup.verdict == "fail" for cup in cups):
        raise CheckFailed(
            f"a vat seals cups of {', '.join(part.name for part, cup in zip(parts, cups, strict=True) if cup.verdict == 'fail')}",
            (*checked.findings, *cups),
            hint=cups[0].hint,
        )
    standing = [part.mesh.moved(upright(part, stance, process)) for part, (stance, _) in zip(parts, ways, strict=True)]
    bodies = [[mesh, *([one.support.mesh] if one.support else [])] for mesh, (_, one) in zip(standing, ways, strict=True)]
    placements = place(parts, [stance for stance, _ in ways], bodies, process=process, machine=machine)
    placed = [part.mesh.moved(placement.pose) for part, placement in zip(parts, placements, strict=True)]
    made = [one.moved(_corner_mm(mesh)) for (_, one), mesh in zip(ways, placed, strict=True)]
    supports = tuple(one.support for one in made if one.support is not None)
    layers = slice_parts([*placed, *(support.mesh for support in supports)], process.layer_mm)
    labels = [*(part.name for part in parts), *(support.name for support in supports)]
    layers_cli, drawing_s = draw(layers, labels, process, parts=len(parts))

    def models() -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
        return _models(checked, placements, supports, approval, process, thumbnail_png(layers))

    written, (plate_3mf, part_3mf) = beside(partial(read_cli, layers_cli), models)

    def carried() -> tuple[Finding, ...]:
        found = support_findings(placements, made, written.outlines, process)
        _refuse_uncarried(checked, found)
        return found

    def measured() -> tuple[Finding, ...]:
        return read_back(
            parts,
            placements,
            supports=supports,
            written=written,
            plate_3mf=plate_3mf,
            part_3mf=part_3mf,
            process=process,
            machine=machine,
        )

    carrying, findings = beside(carried, measured)
    volume = sum(volume_mm3(part.mesh) for part in parts)
    build = Build(
        process=process.name,
        machine=machine.name,
        placements=placements,
        plate_3mf=plate_3mf,
        layers_cli=layers_cli,
        estimate=estimate(
            process,
            layers=layers.count,
            volume_mm3=volume,
            support_mm3=sum(support.volume_mm3 for support in supports),
            scanned_s=float(drawing_s.sum()) if process.scan else None,
        ),
        findings=(*findings, *places_of_breaches((*functional, *blade, *cups, *carrying))),
        part_3mf=part_3mf,
        supports=supports,
    )
    if process.kind == "fff":
        return _with_toolpath(build, checked, layers, process, machine)
    return _with_images(build, layers, machine) if process.kind == "vat" else build


def _with_toolpath(build: Build, checked: CheckedDevice, layers: Layers, process: Process, machine: Machine) -> Build:
    """The build with the moves of the nozzle, measured against the parts, and the time that they take."""
    parts = checked.device.parts
    toolpath = make_toolpath(parts, build.placements, process=process, machine=machine)
    moves = read_moves(toolpath.gcode)
    motion, config = simulate(moves), config_text(process)
    findings = toolpath_findings(
        toolpath.gcode,
        moves,
        motion,
        parts=parts,
        placements=build.placements,
        layers=layers,
        config=config,
        process=process,
        machine=machine,
    )
    carrying = tuple(finding for finding in findings if finding.check == "toolpath.functional_supports")
    _refuse_uncarried(checked, carrying)
    refuse_failed([finding for finding in findings if finding not in carrying])
    took = toolpath_estimate(
        process,
        motion,
        layers=layers.count,
        volume_mm3=build.estimate.part_volume_mm3,
        filament_diameter_mm=setting(config, "filament_diameter"),
    )
    return replace(build, toolpath=toolpath, estimate=took, findings=(*build.findings, *places_of_breaches(findings)))


def _with_images(build: Build, layers: Layers, machine: Machine) -> Build:
    """The build with what the mask shows, read back and measured; without where the machine's mask is not described."""
    if machine.mask is None:
        return replace(build, findings=(*build.findings, no_images()))
    images = write_sl1(layers, machine.mask, name=build.process, seconds=build.estimate.seconds)
    findings = image_findings(images, layers, machine.mask)
    refuse_failed(findings)
    return replace(build, images=images, findings=(*build.findings, *findings))


def _ways(
    parts: tuple[Part, ...], process: Process, machine: Machine, up: Mapping[str, Vector]
) -> tuple[list[tuple[Stance, Supported]], list[Finding]]:
    """How each part stands and what carries it; in a vat so that no cup is sealed, and what is sealed of each."""
    width, depth, height = usable_box_mm(machine)
    box_mm = (width, depth, height - lift_mm(process))
    if unknown := sorted(set(up) - {part.name for part in parts}):
        raise OrderError(
            f"build.up names {', '.join(map(repr, unknown))}; the parts are {', '.join(part.name for part in parts)}",
            hint="give the direction of a part of this device",
        )

    def way_of(part: Part) -> tuple[tuple[Stance, Supported], Finding | None]:
        ways = stances(part, process, box_mm=box_mm, up=up.get(part.name))
        ways = off_blade(part, ways, process, machine, np.array(box_mm))
        if process.kind == "fff":
            return (_fff_way(part, ways, process, machine), Supported(None, 0.0)), None
        return _vat_way(part, ways, process) if process.kind == "vat" else (carried_way(part, ways, process), None)

    each: list[Callable[[], tuple[tuple[Stance, Supported], Finding | None]]] = [partial(way_of, part) for part in parts]
    # each run of the program may take all the memory of its limit
    found = [one() for one in each] if process.kind == "fff" else side_by_side(each)
    return [way for way, _ in found], [cup for _, cup in found if cup is not None]


def _vat_way(part: Part, ways: Iterable[Stance], process: Process) -> tuple[tuple[Stance, Supported], Finding]:
    """The first way up in which no cup is sealed and no piece of a layer lies on nothing, and what is said of cups."""
    cups: list[tuple[Stance, Finding]] = []

    def open_ways() -> Iterator[Stance]:
        for stance, cup in uncupped(part, ways, process):
            cups.append((stance, cup))
            yield stance

    way = carried_way(part, open_ways(), process)
    return way, next(cup for stance, cup in cups if stance is way[0])


def _fff_way(part: Part, ways: Iterable[Stance], process: Process, machine: Machine) -> Stance:
    """The first way up in which the program puts no support right below a functional face of the part alone, or the first."""
    first: Stance | None = None
    for stance in islice(ways, _TOOLPATHS):
        first = first or stance
        if stance.functional_overhang_mm2 > 0.0:
            break  # those in which a functional face needs a support come last
        body = part.mesh.moved(upright(part, stance, process))
        (placement,) = place([part], [stance], [[body]], process=process, machine=machine)
        placed = part.mesh.moved(placement.pose).vertices_mm
        if not len(leans_on_functional(part, placed, process)):
            return stance
        moves = read_moves(make_toolpath([part], [placement], process=process, machine=machine).gcode)
        if functional_supports(moves, part, placed, config_text(process), process).verdict == "pass":
            return stance
    assert first is not None
    return first


def _corner_mm(placed: Mesh) -> FloatArray:
    """Where on the plate the box of a part begins, (3,)."""
    x, y = placed.vertices_mm[:, :2].min(axis=0).tolist()
    return np.array([x, y, 0.0])


def _refuse_uncarried(checked: CheckedDevice, findings: tuple[Finding, ...]) -> None:
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if failed:
        text = "; ".join(f"{f.what}: {f.value:g} {f.unit}".rstrip() + f", {f.limit}" for f in failed)
        raise CheckFailed(f"the part cannot be carried as it stands: {text}", (*checked.findings, *findings), hint=failed[0].hint)


def _refuse_supports_on_functional(checked: CheckedDevice, findings: Sequence[Finding], up: Mapping[str, Vector]) -> None:
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if failed:
        of = [part.name for part, one in zip(checked.device.parts, findings, strict=True) if one.verdict == "fail"]
        fixed = any(name in up for name in of)
        said = "; ".join(f"{finding.what} is {finding.value:.1f} mm2, at most 0 mm2" for finding in failed)
        hint = "give another direction in [build] up of the order, or none" if fixed else failed[0].hint
        raise CheckFailed(f"supports would touch functional faces: {said}", (*checked.findings, *findings), hint=hint)


def _refuse_mismatch(process: Process, machine: Machine) -> None:
    if process.name not in machine.processes:
        raise MachineError(
            f"machine {machine.name} does not run {process.name}; it runs {', '.join(machine.processes)}",
            hint="name another machine or process in the order",
        )


def _models(
    checked: CheckedDevice,
    placements: tuple[Placement, ...],
    supports: tuple[Support, ...],
    approval: Approval,
    process: Process,
    thumbnail: bytes,
) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """The plate with its supports in the machine's frame, and each part in the patient's, as 3MF."""
    family, parts, approved = checked.device.family, checked.device.parts, {"approved": approval.digest}
    in_plate = "parts in patient LPS, mm; supports and build items in the machine's plate frame, mm, origin at the corner, z up"
    in_patient = "patient LPS, mm: x to the left, y to the back, z to the head"
    placed = [Item(part.name, part.mesh, placement.pose) for part, placement in zip(parts, placements, strict=True)]
    placed += [Item(support.name, support.mesh, np.eye(4)) for support in supports]
    with ThreadPoolExecutor(_WRITERS) as pool:  # each file is its own, whichever thread writes it
        plate = pool.submit(
            write_3mf,
            placed,
            title=f"{family}, build plate",
            notes={"frame": in_plate, **approved},
            manifest=_manifest(parts, approval, process),
            thumbnail=thumbnail,
        )
        single = [
            pool.submit(
                write_3mf,
                [Item(part.name, part.mesh, np.eye(4))],
                title=f"{family}, {part.name}",
                notes={"frame": in_patient, **approved},
                manifest=_manifest((part,), approval, process),
            )
            for part in parts
        ]
        return plate.result(), tuple((part.name, file.result()) for part, file in zip(parts, single, strict=True))


def _manifest(parts: tuple[Part, ...], approval: Approval, process: Process) -> bytes:
    """What whoever changes the file has to keep: process, approved device, functional faces and their tolerances."""
    tree = {
        "approved": approval.digest,
        "process": process.name,
        "layer_mm": process.layer_mm,
        "parts": [
            {
                "name": part.name,
                "functional_faces": [
                    {"label": face.label, "purpose": face.purpose, "tolerance_mm": face.tolerance_mm}
                    for face in part.functional_faces
                ],
            }
            for part in parts
        ],
    }
    return json.dumps(tree, indent=1).encode()
