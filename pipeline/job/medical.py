"""What the layer file says of the scan and how the patient lies in each part: user data of CLI 2.0, appendix B; no identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from batchone.pipeline.values import FloatArray, Placement

if TYPE_CHECKING:
    from batchone.pipeline.job.describe import Case

SOURCE: Final = "batchone"  # source-id: this, and the part
_FRONT, _HEAD = np.array([0.0, -1.0, 0.0]), np.array([0.0, 0.0, 1.0])  # spine to chest, feet to head, in LPS


def medical_blocks(case: Case) -> tuple[Mapping[str, str], ...]:
    """A block for each part on the plate, in the order of their labels. Institution and date are not known: they were removed."""
    return tuple(_block(case, placement) for placement in case.build.placements)


def _block(case: Case, placement: Placement) -> Mapping[str, str]:
    record = case.scan.record
    across_mm, down_mm = record.pixel_mm
    return {
        "source-id": f"{SOURCE} {placement.part}",
        "patient-id": case.order.case,
        "study-id": record.sources_digest[:16],
        "slice-thickness": f"{record.slice_thickness_mm:g}",
        "matrix-size": f"{case.scan.hu.shape[2]}x{case.scan.hu.shape[1]}",
        "pixel-size": f"{across_mm:g}" if across_mm == down_mm else f"{across_mm:g}x{down_mm:g}",
        "gantry-tilt": f"{record.gantry_tilt_deg:.3f}",
        **how_it_lies(placement.pose[:3, :3]),
    }


def how_it_lies(turn: FloatArray) -> dict[str, str]:
    """Where front and head of the patient lie after a turn (3, 3) from patient LPS to the plate's frame."""
    return {"front-vector": _vector(turn @ _FRONT), "head-vector": _vector(turn @ _HEAD)}


def _vector(vector: FloatArray) -> str:
    return "(" + ",".join(f"{value:.6f}" for value in np.round(vector, 6) + 0.0) + ")"
