"""The room's way in: an approved device to everything the machine needs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from batchone.pipeline.errors import CheckFailed, MachineError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process
from batchone.pipeline.values import Approval, Build, CheckedDevice, Finding, FloatArray, Mesh, Part, Placement, Support, judge
from batchone.slicer.cli_format import read_cli, write_cli
from batchone.slicer.cups import without_cups
from batchone.slicer.estimate import estimate, scanned_s
from batchone.slicer.hatch import hatch
from batchone.slicer.layers import slice_parts
from batchone.slicer.orient import Stance, stances
from batchone.slicer.plate import place, usable_box_mm
from batchone.slicer.readback import read_back, volume_mm3
from batchone.slicer.supports.bodies import Supported, carried_way, lift_mm
from batchone.slicer.supports.findings import support_findings
from batchone.slicer.threemf import Item, write_3mf

_WRITERS: Final = 2  # files written at a time: packing lets other threads run


def slice_device(checked: CheckedDevice, approval: Approval, process: Process, machine: Machine) -> Build:
    """Orient, place and slice an approved device, write its files, and read them back.

    Parameters
    ----------
    checked
        The device and its findings.
    approval
        The signed word on it; that its digest is the device's is verified by the caller.
    process, machine
        Profiles.

    Raises
    ------
    CheckFailed
        A finding of the device failed and was not waived, a vat would seal a cup whichever way up the part is made, a piece of a
        layer lies on nothing, or a support touches a functional face.
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
    ways, cups = _ways(parts, process, machine)
    if any(cup.verdict == "fail" for cup in cups):
        raise CheckFailed(
            f"a vat seals cups of {', '.join(part.name for part, cup in zip(parts, cups, strict=True) if cup.verdict == 'fail')}",
            (*checked.findings, *cups),
            hint=cups[0].hint,
        )
    placements = place(parts, [stance for stance, _ in ways], process=process, machine=machine, lift_mm=lift_mm(process))
    placed = [part.mesh.moved(placement.pose) for part, placement in zip(parts, placements, strict=True)]
    made = [one.moved(_corner_mm(mesh)) for (_, one), mesh in zip(ways, placed, strict=True)]
    supports = tuple(one.support for one in made if one.support is not None)
    layers = slice_parts([*placed, *(support.mesh for support in supports)], process.layer_mm)
    filled = layers if process.supports is None or process.supports.hatched else layers.of_first(len(parts))
    lines = hatch(filled, process.scan) if process.scan else None
    layers_cli = write_cli(layers, [*(part.name for part in parts), *(support.name for support in supports)], lines)
    carrying = support_findings(placements, made, read_cli(layers_cli).layers, process)
    _refuse_failed(checked, carrying)
    plate_3mf, part_3mf = _models(checked.device.family, parts, placements, supports, approval)
    findings = read_back(
        parts,
        placements,
        supports=supports,
        layers_cli=layers_cli,
        plate_3mf=plate_3mf,
        part_3mf=part_3mf,
        process=process,
        machine=machine,
    )
    volume = sum(volume_mm3(part.mesh) for part in parts)
    return Build(
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
            scanned_s=scanned_s(layers, lines, process.scan) if lines and process.scan else None,
        ),
        findings=(*findings, *cups, *carrying, *_image_findings(process)),
        part_3mf=part_3mf,
        supports=supports,
    )


def _ways(parts: tuple[Part, ...], process: Process, machine: Machine) -> tuple[list[tuple[Stance, Supported]], list[Finding]]:
    """How each part stands and what carries it; in a vat so that no cup is sealed, and what is sealed of each."""
    width, depth, height = usable_box_mm(machine)
    box_mm = (width, depth, height - lift_mm(process))
    if process.kind != "vat":
        return [carried_way(part, stances(part, process, box_mm=box_mm), process) for part in parts], []
    found = [without_cups(part, stances(part, process, box_mm=box_mm), process) for part in parts]
    ways = [carried_way(part, [stance], process) for part, (stance, _) in zip(parts, found, strict=True)]
    return ways, [finding for _, finding in found]


def _corner_mm(placed: Mesh) -> FloatArray:
    """Where on the plate the box of a part begins, (3,)."""
    x, y = placed.vertices_mm[:, :2].min(axis=0).tolist()
    return np.array([x, y, 0.0])


def _refuse_failed(checked: CheckedDevice, findings: tuple[Finding, ...]) -> None:
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if failed:
        text = "; ".join(f"{f.what}: {f.value:g} {f.unit}".rstrip() + f", {f.limit}" for f in failed)
        raise CheckFailed(f"the part cannot be carried as it stands: {text}", (*checked.findings, *findings), hint=failed[0].hint)


def _refuse_mismatch(process: Process, machine: Machine) -> None:
    if process.name not in machine.processes:
        raise MachineError(
            f"machine {machine.name} does not run {process.name}; it runs {', '.join(machine.processes)}",
            hint="name another machine or process in the order",
        )


def _models(
    family: str,
    parts: tuple[Part, ...],
    placements: tuple[Placement, ...],
    supports: tuple[Support, ...],
    approval: Approval,
) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """The plate with its supports in the machine's frame, and each part in the patient's, as 3MF."""
    approved = {"approved": approval.digest}
    in_plate = "parts in patient LPS, mm; supports and build items in the machine's plate frame, mm, origin at the corner, z up"
    in_patient = "patient LPS, mm: x to the left, y to the back, z to the head"
    placed = [Item(part.name, part.mesh, placement.pose) for part, placement in zip(parts, placements, strict=True)]
    placed += [Item(support.name, support.mesh, np.eye(4)) for support in supports]
    with ThreadPoolExecutor(_WRITERS) as pool:  # each file is its own, whichever thread writes it
        plate = pool.submit(write_3mf, placed, title=f"{family}, build plate", notes={"frame": in_plate, **approved})
        single = [
            pool.submit(
                write_3mf,
                [Item(part.name, part.mesh, np.eye(4))],
                title=f"{family}, {part.name}",
                notes={"frame": in_patient, **approved},
            )
            for part in parts
        ]
        return plate.result(), tuple((part.name, file.result()) for part, file in zip(parts, single, strict=True))


def _image_findings(process: Process) -> list[Finding]:
    """A resin machine shows images; this file holds the contours of the layers: advice to the workshop."""
    if process.kind != "vat":
        return []
    what = "layer images in the files: layers.cli holds contours"
    hint = "let the machine's own preparation make the images of build/plate.3mf"
    return [judge("layers.images", what, 0.0, "", low=1.0, gate=False, hint=hint, source="project default")]
