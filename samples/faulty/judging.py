"""Judge a device by the checks that can see a fault, by all of them, or by all but one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

from batchone.design.checks.device import DEVICE_CHECKS
from batchone.design.checks.part import PART_CHECKS
from batchone.design.cranial import checks as cranial
from batchone.design.families import load_families
from batchone.design.family import Checked
from batchone.design.make import check
from batchone.design.model import checks as model
from batchone.design.osteotomy import checks as osteotomy
from batchone.design.pedicle import checks as pedicle
from batchone.pipeline.values import Finding, Placement
from batchone.samples.faulty.case import Fault, Seeded
from batchone.slicer.cups import uncupped
from batchone.slicer.layers import slice_parts
from batchone.slicer.orient import functional_finding, stances
from batchone.slicer.plate import usable_box_mm
from batchone.slicer.supports.bodies import carried_way, upright
from batchone.slicer.supports.findings import support_findings

Measure = Callable[[Checked], tuple[Finding, ...]]

_OWN: dict[str, ModuleType] = {
    "pedicle-guide": pedicle, "osteotomy-guide": osteotomy, "cranial-implant": cranial, "anatomical-model": model,
}  # fmt: skip
# findings that bear another name than their check
_WITHIN = {"envelope": "placement", "orient.functional": "supports"}
_TUPLES = ("CHECKS", "RELEASE_CHECKS")


def measures(case: Checked) -> dict[str, Measure]:
    """Every check of a device by its name: those of any part, of any device, of what a vat makes, and of its family."""
    own = _OWN.get(case.order.device)
    found: dict[str, Measure] = {name: _of_parts(name) for name in PART_CHECKS}
    found |= DEVICE_CHECKS
    found |= VAT_CHECKS if case.process.kind == "vat" else {}
    for name in _TUPLES if own else ():
        found |= {f"{case.order.device}: {measure.__name__}": measure for measure in getattr(own, name, ())}
    if own is None:
        checks = load_families()[case.order.device].checks_of("release")
        found |= {f"{case.order.device}: {measure.__name__}": measure for measure in checks}
    return found


def _cups(case: Checked) -> tuple[Finding, ...]:
    """What a vat seals of each part as it stands; measured when it is sliced, for no other stage knows which way is up."""
    box_mm = usable_box_mm(case.machine)
    ways = (uncupped(part, stances(part, case.process, box_mm=box_mm), case.process) for part in case.device.parts)
    return tuple(next(way)[1] for way in ways)


def _supports(case: Checked) -> tuple[Finding, ...]:
    """What needs a support and may have none, of each part as it stands in a vat; what nothing carries, what supports touch."""
    box_mm, process = usable_box_mm(case.machine), case.process
    findings: list[Finding] = []
    for part in case.device.parts:
        open_ways = (stance for stance, _ in uncupped(part, stances(part, process, box_mm=box_mm), process))
        stance, made = carried_way(part, open_ways, process)
        findings.append(functional_finding(part, stance, process))
        placement = Placement(part.name, upright(part, stance, process), stance.criterion)
        bodies = [part.mesh.moved(placement.pose), *([made.support.mesh] if made.support else [])]
        findings += support_findings([placement], [made], slice_parts(bodies, process.layer_mm), process)
    return tuple(findings)


VAT_CHECKS: dict[str, Measure] = {"cups": _cups, "supports": _supports}


def _of_parts(name: str) -> Measure:
    def measure(case: Checked) -> tuple[Finding, ...]:
        findings: list[Finding] = []
        for part in case.device.parts:
            wall = case.limits.gates.get("bone_wall_mm" if part.purpose == "bone-model" else "wall_mm")
            findings += PART_CHECKS[name](part, case.process, wall)
        return tuple(findings)

    return measure


def measure_of(fault: Fault, case: Checked) -> str:
    """The name of the check that must find a fault."""
    return f"{case.order.device}: {fault.by}" if fault.by else _WITHIN.get(fault.check, fault.check)


def findings_for(fault: Fault, case: Checked) -> tuple[Finding, ...]:
    """What the fault's own check says about the device."""
    return measures(case)[measure_of(fault, case)](case)


def all_findings(case: Checked) -> tuple[Finding, ...]:
    """What `batchone run` would say about the device."""
    found = check(case.device, case.anatomy, case.plan, case.order, case.process, case.machine, case.tables).findings
    later = VAT_CHECKS.values() if case.process.kind == "vat" else ()
    return (*found, *(finding for measure in later for finding in measure(case)))


@contextmanager
def without(name: str, device: str) -> Iterator[None]:
    """Take one check away, by its name in :func:`measures`, from all devices of a family."""
    registries: tuple[dict[str, Any], ...] = (PART_CHECKS, DEVICE_CHECKS, VAT_CHECKS)
    registry = next((one for one in registries if name in one), None)
    if registry is not None:
        kept = dict(registry)
        del registry[name]
        try:
            yield
        finally:
            registry.clear()
            registry.update(kept)  # in the order that it had
        return
    families, wanted = load_families(), name.split(": ")[1]
    family, own = families[device], _OWN.get(device)
    names = [one for one in _TUPLES if hasattr(own, one)]
    tuples = {one: getattr(own, one) for one in names}
    for one in names:
        setattr(own, one, _but(tuples[one], wanted))
    if own is None:
        families[device] = replace(family, checks=_but(family.checks, wanted), release_checks=_but(family.release_checks, wanted))
    try:
        yield
    finally:
        for one in names:
            setattr(own, one, tuples[one])
        families[device] = family


def _but(measures: tuple[Measure, ...], name: str) -> tuple[Measure, ...]:
    return tuple(measure for measure in measures if measure.__name__ != name)


def says(fault: Fault, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings that are about the fault, the worst verdict first."""
    worst = {"fail": 0, "warn": 1, "pass": 2}
    mine = [finding for finding in found if finding.check == fault.check and fault.what in finding.what]
    return tuple(sorted(mine, key=lambda finding: worst[finding.verdict]))


def is_right(fault: Fault, seeded: Seeded, found: tuple[Finding, ...], of_good: tuple[Finding, ...] = ()) -> bool:
    """Does the right check say it, as gravely as it must, within 1 mm of its place?

    Of what is just inside a limit, that check must pass and none may say more than it does of the good device: ``of_good``.
    """
    said = says(fault, found)
    if fault.sound:
        return bool(said) and said[0].verdict == "pass" and not new_findings(of_good, found)
    return bool(said) and said[0].verdict == fault.verdict and away_mm(seeded, said[0]) <= 1.0


def new_findings(of_good: tuple[Finding, ...], found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """What fails or warns, and does not so of the good device."""
    grave = {"pass": 0, "warn": 1, "fail": 2}
    known: dict[tuple[str, str], int] = {}
    for finding in of_good:
        known[_said(finding)] = max(grave[finding.verdict], known.get(_said(finding), 0))
    return tuple(finding for finding in found if grave[finding.verdict] > known.get(_said(finding), 0))


def _said(finding: Finding) -> tuple[str, str]:
    """What is measured, whatever figures and words are told with it."""
    return finding.check, re.sub(r"[0-9.]+", "#", re.sub(r"\(.*\)|, worst: .*", "", finding.what))


def good_as(case: Checked, seeded: Seeded) -> Checked:
    """The good device by the process of the seeded one."""
    return replace(case, process=seeded.case.process)


def away_mm(seeded: Seeded, finding: Finding) -> float:
    """From a finding to what was changed, mm; 0 where the fault has no place, infinite where the finding has none."""
    if seeded.where_mm is None:
        return 0.0
    if finding.where_mm is None:
        return float("inf")
    return float(np.linalg.norm(np.atleast_2d(seeded.where_mm) - finding.where_mm, axis=1).min())
