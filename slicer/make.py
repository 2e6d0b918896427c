"""The room's way in: an approved device to everything the machine needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from batchone.pipeline.errors import CheckFailed, MachineError, OrderError
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Approval, Build, CheckedDevice, Finding, Part, Placement, Vector, judge
from batchone.slicer.cli_format import write_cli
from batchone.slicer.cups import without_cups
from batchone.slicer.estimate import estimate, scanned_s
from batchone.slicer.hatch import hatch
from batchone.slicer.layers import slice_parts
from batchone.slicer.orient import Stance, functional_finding, stances, stand
from batchone.slicer.plate import place, usable_box_mm
from batchone.slicer.readback import read_back, volume_mm3
from batchone.slicer.supports import support_findings
from batchone.slicer.threemf import Item, write_3mf

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
        A finding of the device failed and was not waived, a functional face needs a support whichever way up the part is made,
        or a vat would seal a cup.
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
    stances, cups = _stances(parts, process, machine, order.build.up if order else {})
    functional = [functional_finding(part, stance, process) for part, stance in zip(parts, stances, strict=True)]
    _refuse_supports_on_functional(checked, functional, fixed=bool(order and order.build.up))
    if any(cup.verdict == "fail" for cup in cups):
        raise CheckFailed(
            f"a vat seals cups of {', '.join(part.name for part, cup in zip(parts, cups, strict=True) if cup.verdict == 'fail')}",
            (*checked.findings, *cups),
            hint=cups[0].hint,
        )
    placements = place(parts, stances, process=process, machine=machine)
    placed = [part.mesh.moved(placement.pose) for part, placement in zip(parts, placements, strict=True)]
    layers = slice_parts(placed, process.layer_mm)
    lines = hatch(layers, process.scan) if process.scan else None
    layers_cli = write_cli(layers, [part.name for part in parts], lines)
    plate_3mf, part_3mf = _models(checked.device.family, parts, placements, approval)
    findings = read_back(
        parts,
        placements,
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
            scanned_s=scanned_s(layers, lines, process.scan) if lines and process.scan else None,
        ),
        findings=(*findings, *functional, *cups, *support_findings(parts, stances, process), *_image_findings(process)),
        part_3mf=part_3mf,
    )


def _stances(
    parts: tuple[Part, ...], process: Process, machine: Machine, up: Mapping[str, Vector]
) -> tuple[list[Stance], list[Finding]]:
    """How each part stands; in a vat so that no cup is sealed, and what is sealed of each."""
    box_mm = usable_box_mm(machine)
    if unknown := sorted(set(up) - {part.name for part in parts}):
        raise OrderError(
            f"build.up names {', '.join(map(repr, unknown))}; the parts are {', '.join(part.name for part in parts)}",
            hint="give the direction of a part of this device",
        )
    if process.kind != "vat":
        return [stand(part, process, box_mm=box_mm, up=up.get(part.name)) for part in parts], []
    found = [without_cups(part, stances(part, process, box_mm=box_mm, up=up.get(part.name)), process) for part in parts]
    return [stance for stance, _ in found], [finding for _, finding in found]


def _refuse_supports_on_functional(checked: CheckedDevice, findings: Sequence[Finding], *, fixed: bool) -> None:
    failed = [finding for finding in findings if finding.verdict == "fail"]
    if failed:
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
    family: str, parts: tuple[Part, ...], placements: tuple[Placement, ...], approval: Approval
) -> tuple[bytes, tuple[tuple[str, bytes], ...]]:
    """The plate in the machine's frame and each part in the patient's, as 3MF."""
    approved = {"approved": approval.digest}
    in_plate = "objects in patient LPS, mm; build items in the machine's plate frame, mm, origin at the corner, z up"
    in_patient = "patient LPS, mm: x to the left, y to the back, z to the head"
    placed = [Item(part.name, part.mesh, placement.pose) for part, placement in zip(parts, placements, strict=True)]
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
