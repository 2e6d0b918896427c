"""Ribs, sternum and scapulae: what is left of the bone beside and in front of a spine, named by its place and shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchone.pipeline.values import FloatArray, Side
from batchone.segment.apart.draft import Draft, Entry
from batchone.segment.apart.grid import BoolArray, WorkVolume
from batchone.segment.apart.spine import Spine
from batchone.segment.apart.table import (
    CHEST_AXIS_MM,
    RIB_HEAD_NEAR_MM,
    RIB_INNER_MM,
    RIB_NEAR_MM,
    RIB_SECTION_MM2,
    RIB_TOUCH_MM,
    SCAPULA_OVER_RIB_MM,
    STERNUM_FRONT_MM,
    STERNUM_SIDE_MM,
)


@dataclass(frozen=True, slots=True)
class Rib:
    """A piece of a rib: its label's value, its side, the value of the vertebra it belongs to (0: none in the scan), and the
    place (3,) mm of its head where the head was reached."""

    value: int
    side: Side
    vertebra: int
    head_mm: FloatArray | None


def name_chest(draft: Draft, spine: Spine, volume: WorkVolume, values: list[int]) -> tuple[Rib, ...]:
    """Name the labels ``values`` as far as place and shape say; returns the ribs."""
    ribs = []
    canal = spine.canal.points_mm[np.argsort(spine.canal.points_mm[:, 0])]
    for value in values:
        points = np.argwhere(draft.labels == value) * volume.step_mm
        row, column = (np.interp(points[:, 0], canal[:, 0], canal[:, axis]) for axis in (1, 2))
        left, front = points[:, 2] - column, row - points[:, 1]
        entry = draft.entries[value - 1]
        size = points.max(axis=0) - points.min(axis=0)
        section = len(points) * volume.step_mm**3 / max(float(np.linalg.norm(size)), 1.0)
        if abs(np.median(left)) < STERNUM_SIDE_MM and np.median(front) > STERNUM_FRONT_MM:
            _set(entry, "sternum", "midline", 0.7, "in the midline, in front of the spine")
            continue
        side: Side = "left" if np.median(left) > 0.0 else "right"
        inner = float(np.abs(left).min())
        if section > RIB_SECTION_MM2 or (inner > RIB_NEAR_MM and _over_rib(draft, value, points, row, column, volume)):
            name = "scapula" if inner > RIB_NEAR_MM and np.median(front) < CHEST_AXIS_MM and section < 4 * RIB_SECTION_MM2 else "bone"
            _set(entry, name, side, 0.5, "outside the ribs, behind" if name == "scapula" else "")
            continue
        vertebra = _touched(draft, spine, points[np.abs(left) < inner + RIB_INNER_MM], volume) if inner < RIB_NEAR_MM else 0
        head = points[np.abs(left).argmin()] if vertebra and inner < RIB_HEAD_NEAR_MM else None
        _set(entry, "rib", side, 0.8 if vertebra else 0.6, "" if vertebra else "its vertebra was not seen to touch it")
        ribs.append(Rib(value, side, vertebra, head))
    return tuple(ribs)


def _set(entry: Entry, name: str, side: Side, confidence: float, evidence: str) -> None:
    entry.name, entry.side, entry.confidence, entry.evidence = name, side, confidence, evidence


def _over_rib(draft: Draft, value: int, points: FloatArray, row: FloatArray, column: FloatArray, volume: WorkVolume) -> bool:
    """Whether another bone lies just below this one, seen from the middle of the chest, for most of it."""
    some = points[:: max(1, len(points) // 200)]
    axis = np.stack([some[:, 0], row[:: max(1, len(points) // 200)] - CHEST_AXIS_MM, column[:: max(1, len(points) // 200)]], axis=1)
    way = axis - some
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1.0)
    covered: BoolArray = np.zeros(len(some), dtype=np.bool_)
    for distance in np.arange(6.0, SCAPULA_OVER_RIB_MM, volume.step_mm):
        index = np.rint((some + distance * way) / volume.step_mm).astype(np.int64)
        index = np.clip(index, 0, np.array(draft.labels.shape) - 1)
        seen = draft.labels[tuple(index.T)]
        covered |= (seen != 0) & (seen != value)
    return bool(covered.mean() > 0.5)


def _touched(draft: Draft, spine: Spine, points: FloatArray, volume: WorkVolume) -> int:
    """The value of the vertebra that the inner end of a rib touches most; 0 for none."""
    reach = max(1, round(RIB_TOUCH_MM / volume.step_mm))
    counts = np.zeros(256, dtype=np.int64)
    index = np.rint(points / volume.step_mm).astype(np.int64)
    top = np.array(draft.labels.shape) - 1
    for axis in range(3):
        for shift in range(-reach, reach + 1):
            moved = index.copy()
            moved[:, axis] += shift
            counts += np.bincount(draft.labels[tuple(np.clip(moved, 0, top).T)], minlength=256)
    vertebrae = np.array([k for k, entry in enumerate(draft.entries, start=1) if entry.name.startswith("vertebra")], dtype=np.int64)
    if not len(vertebrae) or counts[vertebrae].max() == 0:
        return 0
    return int(vertebrae[counts[vertebrae].argmax()])
