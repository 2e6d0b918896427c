"""Notches between a shell and what stands on it: too narrow ones to be printed open are filled.

Where a wall of a block or a bar meets the shell at a sharp angle, a wedge of air is left that ends at nothing: powder or resin
stays in it, and somewhere it is printed shut. It is filled up to where a ball of the least gap's radius goes in, as a mason does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from batchone.design.contact.field import Float32Array
from batchone.design.contact.seat import BoolArray, Seat
from batchone.design.contact.shell import Shell
from batchone.design.winding import winding
from batchone.pipeline.values import Mesh

_INTO_MM = 3.0  # numerical: the filling reaches so far into what it joins: notches end thinner than the grid shows
_SURE, _LEFT = 1.0, 0.6  # numerical: steps beyond the ball's reach: what no flat face has on the grid, and what is left open at
_MOUTH = 1.5  # numerical: the mouth of a notch, so many steps from there
_TOUCHING = np.ones((3, 3, 3), dtype=np.bool_)  # numerical: voxels that share a corner belong to one notch


def without_notches(shell: Shell, seat: Seat, above: Mesh, *, ball_mm: float) -> Shell:
    """The shell with its notches against what stands on it filled.

    Parameters
    ----------
    shell, seat
        What the seat takes is still in the shell; no filling comes near it, so that the contact stays as it is.
    above
        What stands on it, closed, in its frame; it is not made part of the shell.
    ball_mm
        Radius of the ball that stays outside. Faces that meet at 30 degrees are 1.5 of it apart where the filling ends, less half
        a step of the grid; sharper ones more.
    """
    step_mm = shell.lattice.step_mm
    room = int(np.ceil((2.0 * ball_mm + step_mm) / step_mm)) + 1  # voxels: about a place, all that decides about it
    field = np.pad(shell.out_mm, room, constant_values=1.0)
    own = field < 0.0
    box = (
        slice(shell.box[0].start - room, shell.box[0].stop + room),
        slice(shell.box[1].start - room, shell.box[1].stop + room),
        slice(shell.box[2].start - room, shell.box[2].stop + room),
    )
    first = shell.lattice.origin_mm + np.array([side.start for side in box]) * step_mm
    solid = own | (winding(above, first, step_mm, field.shape) != 0)
    open_to = ~ndimage.binary_dilation(solid, structure=_ball(ball_mm / step_mm))  # where the middle of the ball may be
    beyond = _to_mm(open_to, step_mm) - np.float32(ball_mm)  # the ball's reach
    shut = ~solid & (beyond > _SURE * step_mm)
    away = np.pad(seat.free_mm[shell.box] > (_MOUTH + 1.0) * step_mm, room, constant_values=False)
    narrow = _beside(own, shut & away)
    if not narrow.any():
        return shell
    out = field.copy()
    part = _about(narrow, int(np.ceil(_INTO_MM / step_mm)) + 1)
    apart, beyond = _to_mm(narrow[part], step_mm), beyond[part]
    inside = np.maximum(apart - np.float32(_INTO_MM), np.float32(_SURE * step_mm) - beyond)
    others = ndimage.binary_dilation((shut & ~narrow)[part], structure=_TOUCHING)
    inside[others & ~narrow[part]] = step_mm  # other notches stay open
    mouth = np.maximum(apart - np.float32(_MOUTH * step_mm), np.float32(_LEFT * step_mm) - beyond)
    out[part] = np.minimum(out[part], np.minimum(inside, mouth))
    return replace(shell, box=box, out_mm=out)


def _ball(radius: float) -> BoolArray:
    """What lies nearer to the middle than a radius, in voxels."""
    reach = int(np.ceil(radius))
    x, y, z = np.mgrid[-reach : reach + 1, -reach : reach + 1, -reach : reach + 1]
    return np.asarray(x**2 + y**2 + z**2 < radius**2)


def _about(places: BoolArray, more: int) -> tuple[slice, slice, slice]:
    """The box about some places, so many voxels larger."""
    ends = [np.flatnonzero(places.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    x, y, z = (slice(max(0, int(one[0]) - more), int(one[-1]) + 1 + more) for one in ends)
    return x, y, z


def _beside(own: BoolArray, narrow: BoolArray) -> BoolArray:
    """Narrow places of notches that touch the shell."""
    label, _ = ndimage.label(narrow, structure=_TOUCHING)
    touching = np.unique(label[ndimage.binary_dilation(own, structure=_TOUCHING)])
    return np.asarray(np.isin(label, touching[touching > 0]))


def _to_mm(places: BoolArray, step_mm: float) -> Float32Array:
    """(x, y, z) from the middle of each voxel to that of the nearest of some places."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(places.astype(np.uint8))
    distance = SimpleITK.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=False)
    return np.asarray(np.maximum(SimpleITK.GetArrayFromImage(distance), 0.0) * step_mm, dtype=np.float32)
