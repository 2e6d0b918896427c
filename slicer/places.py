"""Places on the plate in patient LPS, and how far points are from where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, Placement, Support, Vector

_OTHER_MM: Final = 1e-3  # numerical: another point, not the same rounded; float32 at 1 m gives 6e-5 mm


def in_patient(place_mm: FloatArray, pose: FloatArray | None) -> Vector | None:
    """A place (3,) on the plate in patient LPS, mm: ``pose`` (4, 4) of a placement undone; None where there is none."""
    if pose is None:
        return None
    x, y, z = ((place_mm - pose[:3, 3]) @ pose[:3, :3]).tolist()
    return (x, y, z)


def poses_of(placements: Sequence[Placement], supports: Sequence[Support]) -> list[FloatArray | None]:
    """The pose of each body of a build, parts first; that of supports is of the part that they carry, None where it has none."""
    by_part = {placement.part: placement.pose for placement in placements}
    return [*(placement.pose for placement in placements), *(by_part.get(support.part) for support in supports)]


def furthest(found_mm: npt.NDArray[np.floating], wanted_mm: npt.NDArray[np.floating]) -> tuple[float, int | None]:
    """The most that a coordinate of points (n, 3) is off, mm, and which wanted point that is; None where none is wanted.

    Infinite where there are not as many, with the first that differs; NaN counts as the most.
    """
    if len(wanted_mm) == 0:
        return (np.inf if len(found_mm) else 0.0), None
    both = min(len(found_mm), len(wanted_mm))
    off_mm = np.abs(found_mm[:both] - wanted_mm[:both]).max(axis=1)
    if len(found_mm) != len(wanted_mm):
        other = np.flatnonzero(~(off_mm <= _OTHER_MM))  # a NaN differs
        return np.inf, int(other[0]) if len(other) else min(both, len(wanted_mm) - 1)
    worst = int(off_mm.argmax())
    return float(off_mm[worst]), worst
