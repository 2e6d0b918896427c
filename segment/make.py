"""The way into this room: a scan becomes an anatomy.

A backend, or a person, says which voxels are which bone; surfaces, frames and names are made here, the same for all.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from batchone.pipeline.config import Segmentation
from batchone.pipeline.errors import InputError, OrderError
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.side_by_side import beside, side_by_side
from batchone.pipeline.values import Anatomy, Bone, Edit, FieldOfView, Finding, Label, Landmark, Mesh, Reference, Scan
from batchone.segment.backends.edited import edited
from batchone.segment.backends.external import external
from batchone.segment.backends.separated import Separated
from batchone.segment.backends.threshold import NAME as THRESHOLD
from batchone.segment.backends.threshold import threshold
from batchone.segment.bone import ScanFigures, scan_figures
from batchone.segment.confirmed import from_above, level_findings, meant, open_levels, with_levels
from batchone.segment.frames.described import Described, described
from batchone.segment.frames.skull import skull_frame, vault_cover
from batchone.segment.label_map import compact, measured
from batchone.segment.ordered import SKULL, Wanted, ordered_labels, wanted_bones
from batchone.segment.quality import MIN_VAULT_COVER, bone_findings, label_findings, scan_findings
from batchone.segment.shapes import Shape, shape_of
from batchone.segment.surface import signed_volume_mm3

MAX_CUT_SIDES = 5  # of a scan's six: a bone may leave the scan, but some of it must be seen whole; project default, unverified
AUTOMATIC = Segmentation()
UNTOUCHED = Edit()


def segment(
    scan: Scan, order: Order, settings: Segmentation = AUTOMATIC, edit: Edit = UNTOUCHED, protocol: Protocol | None = None
) -> Anatomy:
    """Find the ordered bones and their surfaces.

    Parameters
    ----------
    scan
        A true volume.
    order
        ``target.bones`` names the bones; without it, the skull is meant. ``target.levels`` is a person's word on the vertebrae.
    settings
        Who tells the bones apart.
    edit
        Labels that a person gave back; they count instead of the backend's.
    protocol
        The family's: where it says that the device touches the bone's face, the surface is placed by the fitted cortex; where it
        confirms the level, one that nobody has confirmed fails the finding ``level_confirmed``.

    Returns
    -------
    Anatomy
        Without bones where an ordered level can only be found by a person: ``level_confirmed`` fails.

    Raises
    ------
    SegmentationError
        No bone, or no closed surface.
    OrderError
        The scan does not show an ordered bone, or shows the other side's.
    InputError
        The bone leaves the scan on all sides, or a person's labels do not belong to the scan.
    MachineError
        The external program is missing, failed, or gave what cannot be used.
    """
    wanted = wanted_bones(order)
    touched = protocol is not None and protocol.fits_cortex
    figures = scan_figures(scan.hu)
    separated, of_scan = beside(
        lambda: _separated(scan, figures, wanted, order, settings, edit), lambda: scan_findings(figures, scan)
    )
    labels = with_levels(replace(compact(separated.map), scan=scan.record.sources_digest), order.target)
    separated = replace(separated, map=replace(separated.map, labels=labels.labels))
    wanted = meant(wanted, from_above(labels))
    missing = open_levels(labels.labels, wanted, proposed=separated.source == THRESHOLD)
    boxes = measured(labels)[1]
    bones: list[Bone] = []
    landmarks: list[Landmark] = []
    references: list[Reference] = []
    findings: list[Finding] = []
    found_now = ordered_labels(labels.labels, tuple(one for one in wanted if one not in missing))
    chosen = () if missing else found_now

    def measure(label: Label) -> tuple[Shape, float | None, Described, Bone]:
        _refuse_inside(label, boxes[label.value], scan)
        shape = shape_of(label, boxes[label.value], separated, scan, figures, touched=touched)
        (cover, volume_mm3), about = beside(lambda: _sized(label, shape, named=separated.named), lambda: described(label, shape))
        return shape, cover, about, _bone(label, shape, about, cover, volume_mm3)

    for shape, cover, about, bone in side_by_side([partial(measure, label) for label in chosen]):
        bones.append(bone)
        findings += bone_findings(bone, shape.mask_mm3, cover, several=len(chosen) > 1)
        findings += [replace(one, what=f"{bone.name}: {one.what}") for one in shape.findings]
        findings += about.findings
        landmarks += about.landmarks
        references += about.references
    found = (
        *of_scan,
        *separated.findings,
        *label_findings(separated),
        *findings,
        *level_findings(labels, chosen, missing, needed=protocol is not None and protocol.confirms_level),
    )
    view = FieldOfView(scan.affine, (scan.hu.shape[0], scan.hu.shape[1], scan.hu.shape[2]))
    return Anatomy(tuple(bones), tuple(landmarks), view, found, labels, separated.source, tuple(references))


def _separated(
    scan: Scan, figures: ScanFigures, wanted: tuple[Wanted, ...], order: Order, settings: Segmentation, edit: Edit
) -> Separated:
    if edit.labels is not None:
        return edited(scan, edit)
    if settings.backend == "external" and settings.external is not None:
        return external(scan, settings.external)
    return threshold(scan, figures, wanted, order.side)


def _refuse_inside(label: Label, box: npt.NDArray[np.int64], scan: Scan) -> None:
    """Refuse a bone that leaves the scan on all six sides: what is seen of it has no shape."""
    sides = int(np.sum(box[:, 0] <= 0) + np.sum(box[:, 1] >= np.array(scan.hu.shape)))
    if sides > MAX_CUT_SIDES:
        raise InputError(
            f"{label.title} is cut by the end of the scan on {sides} sides, at most {MAX_CUT_SIDES}",
            hint="ask for a scan that shows the whole bone, or at least one of its ends",
        )


def _sized(label: Label, shape: Shape, *, named: bool) -> tuple[float | None, float]:
    """How much of a vault a skull covers, None for other bones; and the volume within the surface, mm3."""
    cover = _checked_cover(shape.mesh, named=named) if label.name == SKULL else None
    return cover, signed_volume_mm3(shape.mesh)


def _bone(label: Label, shape: Shape, about: Described, cover: float | None, volume_mm3: float) -> Bone:
    return Bone(
        name=label.name,
        side=label.side,
        complete=label.complete,
        confidence=round(label.confidence * (1.0 if cover is None else cover), 4),
        volume_mm3=volume_mm3,
        mesh=shape.mesh,
        frame=about.frame,
        uncertainty_mm=shape.sigma_mm,
        numbering=label.numbering,
        evidence=label.evidence,
    )


def _checked_cover(mesh: Mesh, *, named: bool) -> float:
    """Share of a vault that is there; too little refuses a skull that only the order calls one."""
    cover = vault_cover(mesh, skull_frame(mesh))
    if cover < MIN_VAULT_COVER and not named:
        raise OrderError(
            f"the largest bone closes {100 * cover:.0f} % of a vault, a skull at least {100 * MIN_VAULT_COVER:.0f} %",
            hint="does the study show the head, down from the vertex? name another bone in [target] if the order means one",
        )
    return cover
