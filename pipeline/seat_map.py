"""Where a guide comes to rest from wrong starts: what the score of a seat found, kept for the pictures of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

PLANNED, WRONG, OFF = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class SeatMap:
    """The map of wrong poses of one part, seen from outside; shares are of all starts.

    Attributes
    ----------
    part
        Its name.
    pose
        (4, 4) float64, seat frame to patient LPS: z is the way out, the origin the middle of the contact.
    contact_mm
        (m, 2) float64 places of the contact, x and y of the seat frame.
    ends_mm, kinds
        (n, 2) float64 where each start ended, and (n,) int32: ``PLANNED`` at the seat, ``WRONG`` at rest elsewhere,
        ``OFF`` without a rest.
    seat_mm, push_mm
        (2,) float64 where the planned seat is, and where to push.
    rests
        Wrong seats, the most frequent first: (k, 5) float64 x and y, how many starts, and mm and degrees from the planned seat.
    stuck, lost
        With friction: share that sticks more than 1 mm away, and that does not land.
    """

    part: str
    pose: FloatArray
    contact_mm: FloatArray
    ends_mm: FloatArray
    kinds: IntArray
    seat_mm: FloatArray
    push_mm: FloatArray
    rests: FloatArray
    stuck: float
    lost: float

    def share(self, kind: int) -> float:
        """Share of the starts that ended so."""
        return float((self.kinds == kind).mean())
