"""Ribs, sternum and scapulae: what is left of the bone beside and in front of a spine, named by its place and shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from batchone.pipeline.values import FloatArray, Side
from batchone.segment.apart.draft import Draft, Entry
from batchone.segment.apart.grid import BoolArray, WorkVolume
from batchone.segment.apart.ribs import near_end
from batchone.segment.apart.spine import Spine
from batchone.segment.apart.table import (
    CHEST_AXIS_MM,
    RIB_HEAD_NEAR_MM,
    RIB_INNER_MM,
    RIB_NEAR_MM,
    RIB_PIECE_MM3,
    RIB_SECTION_MM2,
    RIB_TOUCH_MM,
    SCAPULA_OVER_RIB_MM,
    STERNUM_FRONT_MM,
    STERNUM_MM3,
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


def name_chest(draft: Draft, spine: Spine, volume: WorkVolume, values: list[int], may_bear: list[int]) -> tuple[Rib, ...]:
    """Name the labels ``values`` as far as place and shape say; returns the ribs.

    ``may_bear`` are the vertebrae that may bear ribs, from below upwards.
    """
    canal = spine.canal.points_mm[np.argsort(spine.canal.points_mm[:, 0])]
    ribs: dict[str, list[tuple[FloatArray, int, dict[int, int], bool]]] = {"left": [], "right": []}
    boxes = find_objects(draft.labels)
    for value in values:
        box = boxes[value - 1]
        first = [edge.start for edge in box]
        points = (np.argwhere(draft.labels[box] == value) + first) * volume.step_mm
        row, column = (np.interp(points[:, 0], canal[:, 0], canal[:, axis]) for axis in (1, 2))
        left, front = points[:, 2] - column, row - points[:, 1]
        entry = draft.entries[value - 1]
        volume_mm3 = len(points) * volume.step_mm**3
        section = volume_mm3 / max(float(np.linalg.norm(np.ptp(points, axis=0))), 1.0)
        if abs(np.median(left)) < STERNUM_SIDE_MM:
            if np.median(front) > STERNUM_FRONT_MM and volume_mm3 >= STERNUM_MM3:
                _set(entry, "sternum", "midline", 0.7, "in the midline, in front of the spine")
            continue
        side: Side = "left" if np.median(left) > 0.0 else "right"
        entry.side = side
        inner = float(np.abs(left).min())
        if section > RIB_SECTION_MM2 or (volume_mm3 < RIB_PIECE_MM3 and not _at_end(draft.labels[box] == value, box, volume)):
            continue
        if inner > RIB_NEAR_MM and _over_rib(draft, value, points, row, column, volume):
            _set(entry, "scapula", side, 0.5, "outside the ribs, behind")
            continue
        _set(entry, "rib", side, 0.6, "its vertebra was not seen to touch it")
        seen = _contacts(draft, points[np.abs(left) < inner + RIB_INNER_MM], volume) if inner < RIB_NEAR_MM else {}
        ribs[side].append((points[np.abs(left).argmin()], value, seen, inner < RIB_HEAD_NEAR_MM))
    found = []
    for pieces in ribs.values():
        pieces.sort(key=lambda piece: float(piece[0][0]))
        for (inner_end, value, _, reached), vertebra in zip(pieces, in_order([p[2] for p in pieces], may_bear), strict=True):
            if vertebra:
                _set(draft.entries[value - 1], "rib", draft.entries[value - 1].side, 0.8, "")
            found.append(Rib(value, draft.entries[value - 1].side, vertebra, inner_end if vertebra and reached else None))
    return tuple(found)


def _at_end(piece: BoolArray, box: tuple[slice, ...], volume: WorkVolume) -> bool:
    """Whether a piece in its box comes within a slice of where the field of view ends above or below."""
    if box[0].start <= 1 or box[0].stop >= volume.hu.shape[0] - 1:
        return True
    wide = (slice(box[0].start - 1, box[0].stop + 1), *box[1:])
    return bool((near_end(volume.inside[wide], 1)[1:-1] & piece).any())


def _set(entry: Entry, name: str, side: Side, confidence: float, evidence: str) -> None:
    entry.name, entry.side, entry.confidence, entry.evidence = name, side, confidence, evidence


def _over_rib(draft: Draft, value: int, points: FloatArray, row: FloatArray, column: FloatArray, volume: WorkVolume) -> bool:
    """Whether another bone lies just below this one, seen from the middle of the chest, for most of it."""
    some = points[:: max(1, len(points) // 200)]
    axis = np.stack(
        [some[:, 0], row[:: max(1, len(points) // 200)] - CHEST_AXIS_MM, column[:: max(1, len(points) // 200)]], axis=1
    )
    way = axis - some
    way /= np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1.0)
    covered: BoolArray = np.zeros(len(some), dtype=np.bool_)
    for distance in np.arange(6.0, SCAPULA_OVER_RIB_MM, volume.step_mm):
        index = np.rint((some + distance * way) / volume.step_mm).astype(np.int64)
        index = np.clip(index, 0, np.array(draft.labels.shape) - 1)
        seen = draft.labels[tuple(index.T)]
        covered |= (seen != 0) & (seen != value)
    return bool(covered.mean() > 0.5)


def _contacts(draft: Draft, points: FloatArray, volume: WorkVolume) -> dict[int, int]:
    """How many places of each vertebra the inner end of a rib touches, by the vertebra's value."""
    reach = max(1, round(RIB_TOUCH_MM / volume.step_mm))
    counts = np.zeros(256, dtype=np.int64)
    index = np.rint(points / volume.step_mm).astype(np.int64)
    top = np.array(draft.labels.shape) - 1
    for axis in range(3):
        for shift in range(-reach, reach + 1):
            moved = index.copy()
            moved[:, axis] += shift
            counts += np.bincount(draft.labels[tuple(np.clip(moved, 0, top).T)], minlength=256)
    names = enumerate(draft.entries, start=1)
    return {k: int(counts[k]) for k, entry in names if entry.name.startswith("vertebra") and counts[k] > 0}


def in_order(touching: list[dict[int, int]], vertebrae: list[int]) -> list[int]:
    """For ribs of one side from below upwards the vertebra of each (0: none): the most contact with no vertebra used twice.

    A rib's head lies between two vertebrae, so contact alone may give two ribs to one.
    """
    shares = [{v: n / max(sum(seen.values()), 1) for v, n in seen.items()} for seen in touching]
    best: dict[int, tuple[float, list[int]]] = {-1: (0.0, [])}  # by the position of the last vertebra used
    for seen in shares:
        new = {last: (score, [*way, 0]) for last, (score, way) in best.items()}
        for last, (score, way) in best.items():
            for place, vertebra in enumerate(vertebrae):
                gain = score + seen.get(vertebra, 0.0)
                if place > last and vertebra in seen and gain > new.get(place, (-1.0, []))[0]:
                    new[place] = (gain, [*way, vertebra])
        best = new
    return max(best.values(), key=lambda value: value[0])[1]
