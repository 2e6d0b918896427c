"""The way into this room: a scan becomes an anatomy."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.errors import OrderError
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Bone, FieldOfView, Finding, FloatArray, Mesh, Scan, Side, moved_points
from batchone.segment.bone import cropped, filled, packed_box, scan_figures
from batchone.segment.cortex import cortex_surface
from batchone.segment.landmarks import principal_frame, skull_frame, skull_landmarks, vault_cover
from batchone.segment.quality import MIN_VAULT_COVER, bone_findings, confidence, scan_findings
from batchone.segment.separate import Chosen, chosen
from batchone.segment.surface import edge_field, signed_volume_mm3, surface
from batchone.segment.uncertainty import surface_sigma_mm

SKULL = "skull"  # the target when the order names none: both families of this version begin with a head
IN_TISSUE = 0.5  # less of the bone's surroundings than this is air: a patient, not a dry skull
MIDLINE_MM = 20.0  # a paired bone's centre lies further from the body's middle than this; project default, unverified
# bones of which a body has a left and a right one
PAIRED = ("calcaneus", "clavicle", "femur", "fibula", "hip", "humerus", "patella", "radius", "scapula", "talus", "tibia", "ulna")


def segment(scan: Scan, order: Order, protocol: Protocol | None = None) -> Anatomy:
    """Find the ordered bone and its surface.

    Parameters
    ----------
    scan
        A true volume.
    order
        ``target.bones`` names the bone (the first one counts); without it, the skull is meant.
    protocol
        The family's: where it says that the device touches the bone's face, the surface is placed by the fitted cortex.

    Raises
    ------
    SegmentationError
        No bone, or no closed surface.
    OrderError
        The scan does not show the ordered bone, or shows the other side's.
    """
    name = order.target.bones[0].lower() if order.target.bones else SKULL
    figures = scan_figures(scan.hu)
    found = chosen(scan.hu, scan.spacing_mm, figures)
    grid = cropped(scan.hu, scan.affine, found.box)
    solid = filled(packed_box(found.words, grid), grid)
    mesh = surface(edge_field(solid, grid, in_tissue=found.main.exposure < IN_TISSUE), grid.affine)
    cortex: tuple[Finding, ...] = ()
    if protocol is not None and protocol.fits_cortex:
        mesh, sigma_mm, cortex = cortex_surface(mesh, grid, figures, np.ones(len(mesh.vertices_mm), dtype=np.bool_))
    else:
        sigma_mm = surface_sigma_mm(mesh, grid, figures.noise_hu)
    frame = skull_frame(mesh) if name == SKULL else principal_frame(mesh)
    cover = _checked_cover(mesh, frame) if name == SKULL else None
    bone = Bone(
        name=name,
        side=_side(name, order.side, mesh, scan),
        complete=not _touches_edge(found, scan),
        confidence=confidence(found, cover),
        volume_mm3=signed_volume_mm3(mesh),
        mesh=mesh,
        frame=frame,
        uncertainty_mm=sigma_mm,
    )
    mask_mm3 = float(np.bitwise_count(solid).sum()) * grid.voxel_mm3
    findings = (*scan_findings(figures, scan), *found.findings, *bone_findings(bone, mask_mm3, cover), *cortex)
    view = FieldOfView(scan.affine, (scan.hu.shape[0], scan.hu.shape[1], scan.hu.shape[2]))
    return Anatomy((bone,), skull_landmarks(mesh, sigma_mm) if name == SKULL else (), view, findings)


def _checked_cover(mesh: Mesh, frame: FloatArray) -> float:
    cover = vault_cover(mesh, frame)
    if cover < MIN_VAULT_COVER:
        raise OrderError(
            f"the largest bone closes {100 * cover:.0f} % of a vault, a skull at least {100 * MIN_VAULT_COVER:.0f} %",
            hint="does the study show the head, down from the vertex? name another bone in [target] if the order means one",
        )
    return cover


def _touches_edge(found: Chosen, scan: Scan) -> bool:
    return bool(np.any(found.box[:, 0] <= 0) or np.any(found.box[:, 1] >= np.array(scan.hu.shape)))


def _side(name: str, ordered: Side, mesh: Mesh, scan: Scan) -> Side:
    """The side of a paired bone, from its place in the body; a skull and other single bones lie in the midline.

    Raises
    ------
    OrderError
        The bone lies on the other side of the body than ordered.
    """
    if name not in PAIRED:
        return "midline"
    offset_mm = float(mesh.vertices_mm[:, 0].mean()) - _body_middle_mm(scan)
    if abs(offset_mm) < MIDLINE_MM:  # one limb alone in the scan: the image does not say
        return ordered
    seen: Side = "left" if offset_mm > 0.0 else "right"
    if seen != ordered:
        raise OrderError(
            f"{name} lies {abs(offset_mm):.0f} mm to the {seen} of the body's middle, ordered side is {ordered}",
            hint="correct the side in the order; a device is never mirrored",
        )
    return seen


def _body_middle_mm(scan: Scan) -> float:
    """Patient x of the middle of everything denser than air."""
    step = 4
    slices, rows, columns = np.nonzero(scan.hu[::step, ::step, ::step] > -300)
    if len(columns) == 0:
        return 0.0
    index = np.stack([columns, rows, slices], axis=1).astype(np.float64) * step
    return float(np.median(moved_points(scan.affine, index)[:, 0]))
