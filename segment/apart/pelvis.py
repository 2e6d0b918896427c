"""Pelvis: sacrum against hip bones, left against right, and each femur out of its socket."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import Side
from batchone.segment.apart.cut import Ground, box_around, cut_in_two, ground
from batchone.segment.apart.draft import Draft, Entry
from batchone.segment.apart.grid import BoolArray, Float32Array, WorkVolume
from batchone.segment.apart.hip_joint import FemoralHead, femoral_heads
from batchone.segment.apart.mask import BoneMask
from batchone.segment.apart.pieces import components, touching
from batchone.segment.apart.ribs import beside_canal
from batchone.segment.apart.spine import Spine
from batchone.segment.apart.table import (
    CREST_OVER_DISC_MM,
    HEAD_CORE,
    HIP_CLEAR_MM,
    ILIUM_SIDE_MM,
    JOINT_DISCOUNT,
    JOINT_SHELL_MM,
    PELVIS_BODY_MM,
    SACRUM_BACK_MM,
    SACRUM_BACK_SIDE_MM,
    SACRUM_FRONT_MM,
    SACRUM_SIDE_MM,
    SACRUM_WALL_MM,
    SEED_OFF_DISC_MM,
    SEED_RADIUS,
    SHAFT_PIECE_MM3,
    SOCKET_MOST_HU,
    SYMPHYSIS_MM,
)
from batchone.segment.apart.vertebrae import in_disc


def femur_of(place: Ground, bone: BoolArray, head: FemoralHead) -> BoolArray:
    """The femur's bone in a box, cut out of the socket along the head's sphere."""
    places = place.places_mm(bone)
    up = places[0] - np.float32(head.centre_mm[0])
    back = places[1] - np.float32(head.centre_mm[1])
    out = (places[2] - np.float32(head.centre_mm[2])) * np.float32(head.out)
    distance = np.sqrt(up * up + back * back + out * out)
    radius = head.radius_mm
    femur = (distance < HEAD_CORE * radius) | ((out > radius + HIP_CLEAR_MM) & (up < radius))
    hip = (distance > radius + HIP_CLEAR_MM) & ((up > radius + HIP_CLEAR_MM) | (out < -radius - HIP_CLEAR_MM))
    hip |= (back > radius) & (out < 0.0) & (up > -radius)
    near = bone.copy()
    near[bone] = (np.abs(out) < 90.0) & (up < radius + 40.0)
    shell = np.ones(bone.shape, dtype=np.float32)
    shell[bone] = np.where(np.abs(distance - radius - 1.0) < JOINT_SHELL_MM, JOINT_DISCOUNT, 1.0)
    eased = Ground(place.box, place.step_mm, place.bone, place.valley, place.cost * shell)
    return cut_in_two(eased, near, near & _spread(bone, femur & ~hip), near & _spread(bone, hip & ~femur))


def _spread(bone: BoolArray, chosen: BoolArray) -> BoolArray:
    whole = np.zeros_like(bone)
    whole[bone] = chosen
    return whole


def sacrum_of(
    place: Ground, bone: BoolArray, left: Float32Array, back: Float32Array, first: BoolArray, level_mm: float
) -> BoolArray:
    """The sacrum's bone below the last disc.

    Parameters
    ----------
    place, bone
        A box, and the bone in it that is cut: no vertebra, no femur.
    left, back
        (slices, columns) and (slices, rows) mm off the canal.
    first
        The first sacral body's seed.
    level_mm
        Height of the femoral heads' tops: the sacroiliac joints lie above it.
    """
    side = np.broadcast_to(np.abs(left)[:, None, :], bone.shape)
    depth = np.broadcast_to(back[:, :, None], bone.shape)
    height = (np.arange(bone.shape[0]) + place.box[0].start) * place.step_mm
    high = np.broadcast_to((height > level_mm)[:, None, None], bone.shape)
    wide = np.where(depth < SACRUM_WALL_MM, SACRUM_SIDE_MM, SACRUM_BACK_SIDE_MM)
    axial = bone & ((side < wide) & (depth > -SACRUM_FRONT_MM) & (depth < SACRUM_BACK_MM) | first)
    iliac = bone & ((side > ILIUM_SIDE_MM) | (~high & (depth < -SACRUM_FRONT_MM)))
    return cut_in_two(place, bone, axial & ~iliac, iliac & ~first)


def left_half(place: Ground, bone: BoolArray, left: Float32Array) -> BoolArray:
    """The bone on the patient's left, cut where the symphysis is darkest."""
    side = np.broadcast_to(left[:, None, :], bone.shape)
    return cut_in_two(place, bone, bone & (side > SYMPHYSIS_MM), bone & (side < -SYMPHYSIS_MM))


def add_pelvis(draft: Draft, mask: BoneMask, volume: WorkVolume, spine: Spine) -> tuple[FemoralHead, ...]:
    """Label femora, sacrum and hip bones below the first disc; returns the femoral heads that were seen."""
    first = spine.discs[0]
    top_mm = first.middle_mm[0] + CREST_OVER_DISC_MM
    box = box_around(
        volume.hu.shape, (0.0, 0.0, 0.0), (top_mm, *(n * volume.step_mm for n in volume.hu.shape[1:])), volume.step_mm
    )
    place = ground(mask, volume.step_mm, box)
    left, back = beside_canal(spine.canal, place)
    midline_mm = float(np.median(spine.canal.points_mm[:, 2]))
    bone = place.bone & (draft.labels[box] == 0)
    heads = femoral_heads(mask, place, midline_mm)
    for head in heads:
        femur = touching_ball(place, femur_of(place, bone, head) & bone, head)
        bone &= ~femur
        draft.add(box, femur, Entry("femur", _side(head.out), _sure(head), evidence=_HEAD.format(head.ridge_hu)))
    seed = np.zeros_like(bone)
    up, front, across = in_disc(first, place.places_mm(bone))
    radius = SEED_RADIUS * first.depth_mm
    seed[bone] = (up < -SEED_OFF_DISC_MM) & (up > -PELVIS_BODY_MM) & (front * front + across * across < radius * radius)
    level_mm = max((head.centre_mm[0] + head.radius_mm for head in heads), default=0.0)
    below = bone.copy()
    below[bone] = up < 0.0
    sacrum = touching(sacrum_of(place, bone, left, back, seed, level_mm) & (below | seed), seed)
    bone &= ~sacrum
    draft.add(box, sacrum, Entry("sacrum", "midline", 0.8, evidence="below the last disc; no disc follows"))
    on_left = left_half(place, bone, left)
    for half, out in ((on_left, 1.0), (bone & ~on_left, -1.0)):
        hip = _hip(place, half & bone)
        draft.add(box, hip, Entry("hip", _side(out), 0.8, evidence="beside the sacrum, cut at the joint and the symphysis"))
    return heads


_HEAD = "its head lies in a socket whose wall stands out by {:.0f} HU"


def _side(out: float) -> Side:
    return "left" if out > 0.0 else "right"


def _sure(head: FemoralHead) -> float:
    return round(min(0.9, 0.5 + 0.4 * head.ridge_hu / SOCKET_MOST_HU), 2)


def touching_ball(place: Ground, bone: BoolArray, head: FemoralHead) -> BoolArray:
    """The parts of a bone that reach into the head's core."""
    places = place.places_mm(bone)
    offsets = [axis - np.float32(centre) for axis, centre in zip(places, head.centre_mm, strict=True)]
    near = np.sqrt(offsets[0] ** 2 + offsets[1] ** 2 + offsets[2] ** 2) < HEAD_CORE * head.radius_mm
    shaft = (offsets[2] * np.float32(head.out) > head.radius_mm) & (offsets[0] < head.radius_mm)
    numbers, voxels = components(bone)
    reached = np.unique(numbers[_spread(bone, near)])
    beside = np.unique(numbers[_spread(bone, shaft)])
    large = np.flatnonzero(voxels * place.step_mm**3 >= SHAFT_PIECE_MM3)
    keep = np.union1d(reached, np.intersect1d(beside, large))
    return np.asarray(np.isin(numbers, keep[keep > 0]))


def _hip(place: Ground, bone: BoolArray) -> BoolArray:
    """The hip bone on one side: its largest piece."""
    numbers, voxels = components(bone)
    if len(voxels) < 2 or voxels.max() * place.step_mm**3 < SHAFT_PIECE_MM3:
        return np.zeros_like(bone)
    return np.asarray(numbers == int(voxels.argmax()))
