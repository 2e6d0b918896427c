"""What a person moved in a plan: each entry before and after, with the distance in mm and the turn in degrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from batchone.pipeline.markups.read import PlanTables
from batchone.pipeline.values import FloatArray

SAME_MM, SAME_DEG = 1e-3, 1e-3  # numerical: below what 3D Slicer writes


@dataclass(frozen=True, slots=True)
class Moved:
    """One entry of a plan; patient LPS, mm and degrees.

    ``shift_mm`` is how far that point of it went that went farthest, None where there is nothing to compare; ``turn_deg`` the
    angle between its directions, None where it has none. ``before`` and ``after`` are its numbers in words.
    """

    kind: str
    name: str
    shift_mm: float | None
    turn_deg: float | None
    before: str
    after: str

    @property
    def same(self) -> bool:
        """Whether it stayed where it was."""
        return self.shift_mm is not None and self.shift_mm < SAME_MM and (self.turn_deg or 0.0) < SAME_DEG


def moved(before: PlanTables, after: PlanTables) -> tuple[Moved, ...]:
    """Every entry of a plan that was sent back, beside what had its kind and name before."""
    known = {(kind, one["name"]): one for kind, entries in before.items() for one in entries}
    return tuple(_moved(kind, known.get((kind, one["name"])), one) for kind, entries in after.items() for one in entries)


def not_sent(before: PlanTables, after: PlanTables) -> tuple[tuple[str, str], ...]:
    """Kind and name of every entry that a plan had before, and that what was sent back does not hold."""
    sent = {(kind, one["name"]) for kind, entries in after.items() for one in entries}
    had = ((kind, str(one["name"])) for kind, entries in before.items() for one in entries)
    return tuple(one for one in had if one not in sent)


def _moved(kind: str, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> Moved:
    shift_mm = turn_deg = None
    if old is not None:
        first, second = _points(old), _points(new)
        if first.shape == second.shape:
            shift_mm = float(np.linalg.norm(first - second, axis=1).max())
        ways = (_way(old), _way(new))
        if ways[0] is not None and ways[1] is not None:
            across = float(np.linalg.norm(np.cross(ways[0], ways[1])))
            turn_deg = float(np.degrees(np.arctan2(across, float(ways[0] @ ways[1]))))
    return Moved(kind, new["name"], shift_mm, turn_deg, "" if old is None else _words(old), _words(new))


def _points(entry: Mapping[str, Any]) -> FloatArray:
    """(n, 3) points of an entry, mm."""
    keys = ("start_mm", "end_mm", "origin_mm", "point_mm")
    return np.asarray(entry.get("points_mm") or [entry[key] for key in keys if key in entry], dtype=np.float64)


def _way(entry: Mapping[str, Any]) -> FloatArray | None:
    """Unit vector of a line or plane."""
    if "normal" in entry:
        return np.asarray(entry["normal"], dtype=np.float64)
    if "start_mm" not in entry:
        return None
    way = np.subtract(entry["end_mm"], entry["start_mm"], dtype=np.float64)
    length_mm = float(np.linalg.norm(way))
    return way / length_mm if length_mm > 0.0 else None


def _words(entry: Mapping[str, Any]) -> str:
    if "points_mm" in entry:
        return f"{len(entry['points_mm'])} points"
    if "start_mm" in entry:
        return f"{_place(entry['start_mm'])} to {_place(entry['end_mm'])}"
    if "normal" in entry:
        return f"{_place(entry['origin_mm'])}, normal {' '.join(f'{value:.4f}' for value in entry['normal'])}"
    return _place(entry["point_mm"])


def _place(point: Any) -> str:
    return " ".join(f"{value:.2f}" for value in point)
