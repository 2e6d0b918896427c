"""Anatomy to Plan to Device to CheckedDevice: the room's way in, one function per stage. Without ``tables``, the shipped ones."""

from __future__ import annotations

from batchone.design.families import load_families
from batchone.design.family import Checked, CheckSet, Family
from batchone.design.table_files import shipped_tables
from batchone.design.tables import Tables
from batchone.pipeline.errors import DesignError, OrderError
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, CheckedDevice, Device, Finding, Part, Plan, Preview


def plan(anatomy: Anatomy, order: Order, tables: Tables | None = None) -> Plan:
    """Say what is to be made where.

    Raises
    ------
    OrderError
        Unknown family, a bone is missing, or the order contradicts the anatomy.
    DesignError
        No plan could be proposed.
    """
    family = _family(order)
    missing = [name for name in family.needs if anatomy.bone(name) is None]
    if missing:
        found = ", ".join(bone.name for bone in anatomy.bones) or "none"
        raise OrderError(
            f"{family.name} needs {', '.join(missing)}; bones found: {found}",
            hint="send the series that shows it, or order another device",
        )
    return family.propose(anatomy, order, tables or shipped_tables())


def design(anatomy: Anatomy, plan: Plan, order: Order, process: Process, tables: Tables | None = None) -> Device:
    """Build the device.

    Raises
    ------
    OrderError
        A parameter is below what the process can hold, or a clearance is in no table.
    DesignError
        No closed device with its functional faces exists.
    """
    device = _family(order).build(anatomy, plan, order, process, tables or shipped_tables())
    if not device.parts:
        raise DesignError(f"{device.family}: 0 parts were built, at least 1", hint="report this order")
    for part in device.parts:
        _assert_sound(part)
    return device


def check(
    device: Device,
    anatomy: Anatomy,
    plan: Plan,
    order: Order,
    process: Process,
    machine: Machine,
    tables: Tables | None = None,
    *,
    only: CheckSet = "release",
) -> CheckedDevice:
    """Measure everything, then judge: what every device must be, then what only this family has.

    ``only="interactive"`` leaves out what takes too long after each changed parameter; nothing is released on that.
    """
    from batchone.design.checks.device import device_findings
    from batchone.design.checks.functional_faces import face_findings
    from batchone.design.checks.part import part_findings
    from batchone.design.seating.seat_map import seat_map
    from batchone.pipeline.side_by_side import beside

    family = _family(order)
    limits = family.limits
    faces = [face_findings(part) for part in device.parts]
    case = Checked(device, anatomy, plan, order, process, machine, tables or shipped_tables(), limits, only)

    def of_all() -> tuple[Finding, ...]:
        found: list[Finding] = []
        for part in device.parts:
            wall = limits.gates.get("bone_wall_mm" if part.purpose == "bone-model" else "wall_mm")
            found += part_findings(part, process, wall, only=only)
        return (*found, *device_findings(case))

    def of_family() -> tuple[Finding, ...]:
        if any(finding.verdict == "fail" for whole in faces for finding in whole):
            return ()  # a face is lost: nothing to measure
        return tuple(finding for measure in family.checks_of(only) for finding in measure(case))

    own, general = beside(of_family, of_all)
    seats = tuple(seat_map(name, case.scores[name]) for name in sorted(case.scores))
    return CheckedDevice(device, (*general, *own), seats)


def preview(
    device: Device,
    anatomy: Anatomy,
    plan: Plan,
    order: Order,
    process: Process,
    machine: Machine,
    tables: Tables | None = None,
) -> Preview:
    """What :func:`check` finds with its interactive set."""
    checked = check(device, anatomy, plan, order, process, machine, tables, only="interactive")
    return Preview(checked.findings, checked.seats)


def _family(order: Order) -> Family:
    families = load_families()
    if order.device not in families:
        raise OrderError(
            f"device is {order.device!r}; known devices: {', '.join(sorted(families))}", hint="see `batchone devices`"
        )
    return families[order.device]


def _assert_sound(part: Part) -> None:
    """Refuse an open part, or one whose faces have lost their labels."""
    from batchone.design.booleans import face_areas
    from batchone.design.checks.mesh import is_closed, mesh_volume_mm3

    volume_mm3 = mesh_volume_mm3(part.mesh)
    if not is_closed(part.mesh) or volume_mm3 <= 0.0:
        raise DesignError(
            f"part {part.name} of {len(part.mesh.faces)} triangles is not closed (volume {volume_mm3:.3f} mm3)",
            hint="change the parameter set last, or report this order",
        )
    if len(part.face_labels) != len(part.mesh.faces):
        raise DesignError(
            f"part {part.name} has {len(part.face_labels)} labels for {len(part.mesh.faces)} triangles", hint="report this order"
        )
    areas = face_areas(part)
    lost = [face.label for face in part.functional_faces if areas.get(face.label, 0.0) <= 0.0]
    if lost:
        raise DesignError(f"part {part.name} has lost its functional faces {', '.join(lost)}", hint="report this order")
