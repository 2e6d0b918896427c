"""Ribs off the vertebrae: bone that reaches far out to the side, against bodies and arches."""

from __future__ import annotations

import numpy as np

from batchone.segment.apart.canal import Canal
from batchone.segment.apart.cut import Ground, cut_in_two
from batchone.segment.apart.grid import BoolArray, Float32Array
from batchone.segment.apart.pieces import counted_in, touching
from batchone.segment.apart.table import (
    ARCH_BACK_MM,
    ARCH_FRONT_MM,
    ARCH_SIDE_MM,
    CORE_LEVELS,
    RIB_CUT_MM,
    RIB_END_MM,
    RIB_NECK_FRONT_MM,
    RIB_NECK_PULL,
    RIB_NECK_SIDE_MM,
    RIB_NECK_SLANT_MM,
    RIB_REACH_MM,
    RIB_SEED_MM,
)
from batchone.segment.bits import packed, unpacked
from batchone.segment.runs import labelled


def beside_canal(canal: Canal, place: Ground) -> tuple[Float32Array, Float32Array]:
    """(slices, columns) mm to the left, and (slices, rows) mm to the back of the canal, in each slice of a box.

    Beyond the canal's ends its last place counts.
    """
    height = (np.arange(place.bone.shape[0]) + place.box[0].start) * place.step_mm
    order = np.argsort(canal.points_mm[:, 0], kind="stable")
    points = canal.points_mm[order]
    row = np.interp(height, points[:, 0], points[:, 1])
    column = np.interp(height, points[:, 0], points[:, 2])
    rows = (np.arange(place.bone.shape[1]) + place.box[1].start) * place.step_mm
    columns = (np.arange(place.bone.shape[2]) + place.box[2].start) * place.step_mm
    return (columns[None, :] - column[:, None]).astype(np.float32), (rows[None, :] - row[:, None]).astype(np.float32)


def ribs_apart(
    place: Ground, canal: Canal, bodies: BoolArray, where: BoolArray, inside: BoolArray, lowest_neck: int
) -> BoolArray:
    """The bone of a box that belongs to ribs.

    A shaft has less bone across than the two joints of its head and tubercle, so the cheapest cut alone leaves necks on
    vertebrae. Where a neck passes, in front of the transverse process, bone is therefore drawn to the rib a little.

    Parameters
    ----------
    place
        A box wide enough for the inner half of the ribs.
    canal
        The spine's canal.
    bodies
        Voxels that surely are vertebra.
    where
        Where ribs may be: above the sacrum.
    inside
        Within the field of view, on the box: a scan that lies oblique to the patient ends at other heights left and right.
    lowest_neck
        The box's slice below which no rib's neck passes in front of a transverse process: loin, and the last two ribs.
    """
    left, back = beside_canal(canal, place)
    side = np.broadcast_to(np.abs(left)[:, None, :], place.bone.shape)
    depth = np.broadcast_to(back[:, :, None], place.bone.shape)
    bone = place.bone & where
    goal = side > RIB_REACH_MM
    ends = max(1, round(RIB_END_MM / place.step_mm))
    goal |= near_end(inside, ends) & (side > RIB_SEED_MM + RIB_END_MM)  # it goes on beyond the end of the scan
    outer = _reaching(bone & (side > RIB_SEED_MM), goal)
    spine = bone & (bodies | ((side < ARCH_SIDE_MM) & (depth > -ARCH_FRONT_MM) & (depth < ARCH_BACK_MM)))
    outer &= ~spine
    rib_seed, spine_seed = grown_seeds(place, bone, outer, spine)
    within = bone & (side < RIB_CUT_MM)
    neck = within & ~spine_seed & (side > RIB_NECK_SIDE_MM) & (depth > -RIB_NECK_FRONT_MM) & (depth < side - RIB_NECK_SLANT_MM)
    neck[:lowest_neck] = False
    ribs = cut_in_two(place, within, within & rib_seed, within & spine_seed, neck & ~rib_seed, weak_pull=RIB_NECK_PULL)
    return (bone & outer) | touching(ribs, rib_seed)  # a place drawn to a rib that is not there, as in the loin, is spine


def near_end(inside: BoolArray, slices: int) -> BoolArray:
    """Where the field of view (slices, rows, columns) ends within that many slices above or below; the box's ends are ends."""
    out = np.ones_like(inside)
    out[slices:-slices] = ~(inside[: -2 * slices] & inside[2 * slices :])
    return out


def _reaching(mask: BoolArray, goal: BoolArray) -> BoolArray:
    """The components of a mask that go on to a goal."""
    columns = mask.shape[2]
    runs = labelled(packed(mask), columns)
    return unpacked(runs.painted(counted_in(runs, packed(goal)) > 0), columns)


def grown_seeds(place: Ground, bone: BoolArray, first: BoolArray, second: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Two seeds grown to the pieces into which the bone falls without its valleys, from coarse pieces to fine ones.

    A piece that holds one seed only belongs to it; one that holds both is broken up at the next level. So a seed reaches
    the joint wherever a valley marks it, and the cut has no reason to take a shorter way through a shaft.
    """
    columns = bone.shape[2]
    one, two = packed(first), packed(second)
    quantiles = np.quantile(place.valley[bone], CORE_LEVELS) if bone.any() else np.zeros(len(CORE_LEVELS))
    for level in quantiles:
        runs = labelled(packed(bone & (place.valley <= level)), columns)
        has_one, has_two = counted_in(runs, one) > 0, counted_in(runs, two) > 0
        one |= runs.painted(has_one & ~has_two)
        two |= runs.painted(has_two & ~has_one)
    return unpacked(one, columns), unpacked(two, columns)
