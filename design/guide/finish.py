"""The last step of a body: fewer triangles, where that costs nothing."""

from __future__ import annotations

from batchone.design.booleans import Solid, pieces, simplify, to_mesh
from batchone.design.crossings import crossing_pairs

_SIMPLER_MM = (0.005, 0.002, 0.001)  # tried in turn: no face moves further; far below every tolerance of a guide
_CROSSING_MM = 2e-5  # numerical: stricter than the mesh check, which measures after rounding to single precision


def finished(body: Solid) -> Solid:
    """The largest piece of a body with fewer triangles, none of which passes through another; itself where that fails."""
    whole = pieces(body)[0]
    for tolerance_mm in _SIMPLER_MM:
        fewer = pieces(simplify(whole, tolerance_mm))[0]  # without what was pinched off
        if len(crossing_pairs(to_mesh(fewer)[0], tolerance_mm=_CROSSING_MM)) == 0:
            return fewer
    return whole
