"""The isthmus of a pedicle: the smallest section between body and arch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from batchone.pipeline.values import FloatArray, Mesh
from batchone.segment.frames.occupancy import occupancy

ISTHMUS_MM2 = (8.0, 500.0)  # smallest section of a pedicle: thoracic from 20, lumbar to 250; textbook anatomy with room
SECTION_MM = 0.5  # between sections through a pedicle, and of their cells; numerical
BACK = 0.65  # standard deviations of an elliptic hole that lie before 70 % of it: behind, the laminae begin; geometry
INNER, WIDEST, REACH = 1.0, 1.6, 2.0  # and those aside that hold 60, 90 and 100 % of it; geometry
NEARLY = 0.3  # a section larger than the smallest by this share counts 1/e: a long pedicle has no one smallest section; default


@dataclass(frozen=True, slots=True, eq=False)
class Canal:
    """The canal seen along the body's z: middle (2,) of its hole in the body's frame, and standard deviation (2,), mm."""

    middle_mm: FloatArray
    spread_mm: FloatArray


def isthmus(
    mesh: Mesh, body: FloatArray, canal: Canal, *, sign: float, half_depth_mm: float, height_mm: float
) -> list[FloatArray] | None:
    """Middle of the smallest sections between body and arch on one side (+1 left), and the centres of those nearly as small.

    ``body`` (4, 4) is the frame across whose y the sections lie, behind the body's back wall at ``half_depth_mm``. The middle is
    weighted by how small a section is, so that it depends continuously on the surface where several are alike.
    """
    front, back = half_depth_mm, canal.middle_mm[1] + BACK * canal.spread_mm[1]
    inner, widest, reach = (share * canal.spread_mm[0] for share in (INNER, WIDEST, REACH))
    low = np.array([-45.0, front, -30.0])
    shape = (round(90.0 / SECTION_MM), max(2, round((back - front) / SECTION_MM)), round(60.0 / SECTION_MM))
    solid = occupancy(mesh, body, low, shape, SECTION_MM)
    x = sign * (low[0] + SECTION_MM * np.arange(shape[0]) - canal.middle_mm[0])
    solid[x < inner] = False
    areas: list[float] = []
    centres: list[FloatArray] = []
    for j in range(shape[1]):
        parts, _ = ndimage.label(solid[:, j])
        beside = np.bincount(parts[(x >= inner) & (x < reach + 4.0)].reshape(-1))[1:]  # the pedicle begins at the canal
        if not len(beside):
            continue
        cells = np.argwhere(parts == 1 + int(np.argmax(beside)))
        area_mm2 = len(cells) * SECTION_MM**2
        centre = low + SECTION_MM * np.array([cells[:, 0].mean(), j, cells[:, 1].mean()])
        lies = (
            abs(centre[2]) <= 0.5 * height_mm and sign * (centre[0] - canal.middle_mm[0]) >= widest
        )  # beside the canal, behind the body
        if lies and ISTHMUS_MM2[0] <= area_mm2 <= ISTHMUS_MM2[1]:
            areas.append(area_mm2)
            centres.append(body[:3, 3] + body[:3, :3] @ centre)
    if not areas:
        return None
    over = np.array(areas) / min(areas) - 1.0
    middle = np.average(centres, axis=0, weights=np.exp(-over / NEARLY))
    return [middle, *(centre for centre, more in zip(centres, over, strict=True) if more <= NEARLY)]
