"""A flat bar beside a sleeve that stands alone: it carries the label where there is no crosslink."""

from __future__ import annotations

import numpy as np

from batchone.design.contact.field import Float32Array, Lattice
from batchone.design.guide.crosslink import FREE_MM, STEP_MM, Crosslink, heights_mm, need_mm
from batchone.design.guide.sleeve import Sleeve

_SAMPLES = 24  # numerical: along the bar


def flag(
    sleeve: Sleeve,
    lattice: Lattice,
    free_mm: Float32Array,
    *,
    length_mm: float,
    width_mm: float,
    apart_mm: float,
    raise_mm: float,
) -> Crosslink | None:
    """Find a place beside the sleeve for a label, as low as the bone allows; None where there is none.

    Parameters
    ----------
    lattice, free_mm, width_mm, apart_mm, raise_mm
        As for :func:`batchone.design.guide.crosslink.crosslink`.
    length_mm
        Of the label.
    """
    highest, lowest = heights_mm((sleeve,))
    need = need_mm(width_mm, apart_mm)
    outward = 1.0 if float(sleeve.outward[0]) >= 0.0 else -1.0
    reach = 0.5 * sleeve.outer_mm + FREE_MM + length_mm - 0.5 * width_mm
    heights = np.concatenate([np.arange(highest, lowest, -STEP_MM), np.arange(highest + STEP_MM, highest + raise_mm, STEP_MM)])
    for height in heights:
        for sign in (outward, -outward):
            near = sleeve.at_height_mm(float(height))
            far = near + np.array([sign * reach, 0.0, 0.0])
            share = np.linspace(0.0, 1.0, _SAMPLES)[:, None]
            if float(lattice.at(free_mm, near + share * (far - near)).min()) >= need:
                ends = (near, far) if sign > 0.0 else (far, near)
                return Crosslink(np.stack([ends[0], ends[0], ends[1], ends[1]]), width_mm, np.array([0.0, 0.0, 1.0]))
    return None
