"""Which way up a part is built, among all directions that were tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Orientation:
    """Which way up a part is built, among all that were tried.

    Attributes
    ----------
    fixed
        A person chose it.
    names
        What was measured in each direction, the unit in the name.
    directions
        (k, 3) float64 unit vectors that are up, patient LPS.
    measures
        (k, n) float64.
    costs
        (k,) float64, dimensionless: the lower the better.
    chosen
        The direction in which it is built.
    next_best
        Others, the cheapest first: none that was tried is better in all that is weighed up.
    """

    fixed: bool
    names: tuple[str, ...]
    directions: FloatArray
    measures: FloatArray
    costs: FloatArray
    chosen: int
    next_best: tuple[int, ...]
