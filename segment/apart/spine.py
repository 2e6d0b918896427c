"""The spine in a scan: canal, discs, ribs off it, and its vertebrae, on one box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from batchone.pipeline.side_by_side import beside
from batchone.segment.apart.canal import Canal, canal_of
from batchone.segment.apart.cut import Ground, box_around, ground, marrow_filled
from batchone.segment.apart.discs import Disc, discs_of
from batchone.segment.apart.grid import BoolArray, LabelArray, WorkVolume
from batchone.segment.apart.march import marched
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.pieces import touching
from batchone.segment.apart.ribs import ribs_apart
from batchone.segment.apart.table import (
    LUMBAR_LEAST,
    NECKLESS_RIBS,
    PELVIS_BELOW_MM,
    SPINE_BACK_MM,
    SPINE_FRONT_MM,
    SPINE_SIDE_MM,
)
from batchone.segment.apart.vertebrae import body_seeds, cut_vertebrae, part_above


@dataclass(frozen=True, slots=True, eq=False)
class Spine:
    """What was found of a spine.

    Attributes
    ----------
    canal, discs
        The canal, and the discs from below upwards.
    place
        The box round the spine.
    levels
        (slices, rows, columns) uint8 on the box: number of the vertebra from 1 below the first disc, 0 elsewhere.
    lateral
        (slices, rows, columns) bool on the box: bone that was cut off the spine to the side.
    seeds
        (slices, rows, columns) uint8 on the box: vertebra a voxel surely belongs to.
    pelvis
        Below the first disc lies a sacrum, not a vertebra.
    """

    canal: Canal
    discs: tuple[Disc, ...]
    place: Ground
    levels: LabelArray
    lateral: BoolArray
    seeds: LabelArray
    pelvis: bool


def spine_of(volume: WorkVolume, mask: BoneMask, body: BoolArray) -> Spine | None:
    """Find the spine; None when there is none."""
    canal = canal_of(volume, mask, body)
    if canal is None:
        return None
    _, front, right = canal.points_mm.min(axis=0) - np.array([0.0, SPINE_FRONT_MM, SPINE_SIDE_MM])
    _, back, left = canal.points_mm.max(axis=0) + np.array([0.0, SPINE_BACK_MM, SPINE_SIDE_MM])
    top = volume.hu.shape[0] * volume.step_mm
    column = box_around(volume.hu.shape, (0.0, front, right), (top, back, left), volume.step_mm)
    discs, grey = beside(lambda: marched(volume, mask, discs_of(volume, mask, canal)), lambda: marrow_filled(mask, column))
    if not discs:
        return None
    pelvis = discs[0].middle_mm[0] > PELVIS_BELOW_MM  # the march ended though the scan goes on: no disc follows
    bottom = max(0.0, discs[0].middle_mm[0] - SPINE_FRONT_MM) if pelvis else 0.0
    box = box_around(volume.hu.shape, (bottom, front, right), (top, back, left), volume.step_mm)
    place = ground(mask, volume.step_mm, box, np.ascontiguousarray(grey[box[0].start - column[0].start :]))
    seeds = np.zeros(place.bone.shape, dtype=np.uint8)
    seeds[place.bone] = body_seeds(discs, place.places_mm(place.bone))
    where = np.ones(place.bone.shape, dtype=np.bool_)
    if pelvis:
        where[: max(0, int(discs[0].middle_mm[0] / volume.step_mm) - box[0].start)] = False
    with_necks = discs[LUMBAR_LEAST + NECKLESS_RIBS :]  # counted from the sacrum
    above = 0.0 if not pelvis else with_necks[0].middle_mm[0] if with_necks else top
    lowest_neck = max(0, int(above / volume.step_mm) - box[0].start)
    lateral = ribs_apart(place, canal, seeds > 0, where, volume.inside[box], lowest_neck)
    seeds[lateral] = 0
    levels = cut_vertebrae(place, place.bone & ~lateral, discs, seeds)
    return Spine(canal, discs, place, _seeded(part_above(place, levels, discs, seeds), seeds), lateral, seeds, pelvis)


def _seeded(levels: LabelArray, seeds: LabelArray) -> LabelArray:
    """The parts of each level that hold one of its seeds: a calcified vessel beside a body is no vertebra."""
    out = np.zeros_like(levels)
    for value, box in enumerate(find_objects(levels), start=1):
        if box is None:
            continue
        own = levels[box] == value
        seed = own & (seeds[box] == value)
        out[box][touching(own, seed) if seed.any() else own] = value
    return out
