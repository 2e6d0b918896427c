"""Thin-plate splines over the directions around a defect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator

from batchone.pipeline.values import FloatArray

_MAP_MM = 80.0  # the plane is drawn at this distance from the centre, so that its unit is about a millimetre on the bone
_MOST = 1500  # data points that take part at most; more change nothing and cost time


@dataclass(frozen=True, slots=True, eq=False)
class PolarPlane:
    """The azimuthal-equidistant plane about a direction: distances from its middle are true."""

    middle: FloatArray
    across: FloatArray
    along: FloatArray

    @staticmethod
    def around(direction: FloatArray) -> PolarPlane:
        """The plane about ``direction`` (3,)."""
        middle = direction / np.linalg.norm(direction)
        seed = np.eye(3)[int(np.argmin(np.abs(middle)))]
        across = np.cross(seed, middle)
        across /= np.linalg.norm(across)
        return PolarPlane(middle, across, np.cross(middle, across))

    def flat(self, directions: FloatArray) -> FloatArray:
        """(n, 2) mm in the plane of (n, 3) unit directions."""
        angle = np.arccos(np.clip(directions @ self.middle, -1.0, 1.0))
        x, y = directions @ self.across, directions @ self.along
        length = np.hypot(x, y)
        scale = np.where(length > 0.0, angle * _MAP_MM / np.maximum(length, 1e-12), 0.0)
        return np.stack([x * scale, y * scale], axis=1)


def spline(points: FloatArray, values: FloatArray, *, smooth: float) -> Callable[[FloatArray], FloatArray]:
    """Thin-plate spline through (n, 2) ``points`` with (n,) ``values``; ``smooth`` > 0 lets it miss them."""
    stride = max(1, -(-len(points) // _MOST))
    fitted = RBFInterpolator(points[::stride], values[::stride], kernel="thin_plate_spline", smoothing=smooth)
    return lambda at: np.asarray(fitted(at))
