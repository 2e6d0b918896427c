"""Pelvis: sacrum against hip bones, left against right, and each femur out of its socket."""

from __future__ import annotations

import numpy as np

from batchone.segment.apart.cut import Ground, cut_in_two
from batchone.segment.apart.grid import BoolArray, Float32Array
from batchone.segment.apart.socket import FemoralHead
from batchone.segment.apart.table import (
    HEAD_CORE,
    HIP_CLEAR_MM,
    ILIUM_SIDE_MM,
    JOINT_DISCOUNT,
    JOINT_SHELL_MM,
    SACRUM_BACK_MM,
    SACRUM_FRONT_MM,
    SACRUM_SIDE_MM,
    SYMPHYSIS_MM,
)


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


def sacrum_of(place: Ground, bone: BoolArray, left: Float32Array, back: Float32Array, first: BoolArray, level_mm: float) -> BoolArray:
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
    axial = bone & ((side < SACRUM_SIDE_MM) & (depth > -SACRUM_FRONT_MM) & (depth < SACRUM_BACK_MM) | first)
    iliac = bone & ((side > ILIUM_SIDE_MM) | (~high & (depth < -SACRUM_FRONT_MM)))
    return cut_in_two(place, bone, axial & ~iliac, iliac & ~first)


def left_half(place: Ground, bone: BoolArray, left: Float32Array) -> BoolArray:
    """The bone on the patient's left, cut where the symphysis is darkest."""
    side = np.broadcast_to(left[:, None, :], bone.shape)
    return cut_in_two(place, bone, bone & (side > SYMPHYSIS_MM), bone & (side < -SYMPHYSIS_MM))
