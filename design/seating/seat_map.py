"""The map of wrong poses of a score, to be kept with the findings."""

from __future__ import annotations

import numpy as np

from batchone.design.seating.make import Score
from batchone.pipeline.values import SeatMap


def seat_map(part: str, found: Score) -> SeatMap:
    """What the pictures of a part's seat show."""
    where = found.uniqueness
    return SeatMap(
        part=part,
        pose=found.seated.pose,
        contact_mm=found.seated.body.seats_mm[:, :2].copy(),
        ends_mm=where.ends.shift_mm[:, :2].copy(),
        kinds=where.kind.astype(np.int32),
        seat_mm=found.seat.shift_mm[0, :2].copy(),
        push_mm=found.press.place_mm[:2].copy(),
        rests=np.array([(*rest.shift_mm[:2], rest.count, rest.away_mm, rest.away_deg) for rest in where.rests]).reshape(-1, 5),
        stuck=found.friction.stuck,
        lost=found.friction.lost,
    )
