"""What a head has besides its vault: soft body, base, face, sinuses, openings; and an engraved letter on its right side.

All in the head frame (origin at the vault centre, x left, y back, z up, mm). Sizes are rounded adult means, drawn by hand;
they are there to give a scan the difficulties of a head, not to teach anatomy.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.samples.solids import Block, Ellipsoid, Rod, Solid, both_sides
from batchone.samples.vault import Vault

AIR, FAT, MUSCLE, SKIN, FLUID, EYE = -1000.0, -95.0, 55.0, 40.0, 12.0, 18.0  # HU, usual CT values
CORTICAL, SPONGY, PETROUS = 1250.0, 420.0, 1500.0  # HU, usual CT values of cortical, cancellous and petrous bone

SOFT_BODY: tuple[Solid, ...] = (
    Ellipsoid(SKIN, (0.0, -36.0, -60.0), (75.0, 64.0, 50.0)),  # face
    Rod(SKIN, (0.0, 30.0, -40.0), (0.0, 36.0, -130.0), 58.0, 52.0),  # neck
    Rod(SKIN, (0.0, -92.0, -24.0), (0.0, -112.0, -52.0), 9.0, 11.0),  # nose
    *both_sides(
        Ellipsoid(SKIN, (71.0, 14.0, -38.0), (9.0, 17.0, 28.0)),  # ears
        Ellipsoid(FAT, (42.0, -62.0, -72.0), (17.0, 22.0, 17.0)),  # cheek fat
        Ellipsoid(MUSCLE, (50.0, -34.0, -58.0), (12.0, 24.0, 40.0)),  # chewing muscles
        Ellipsoid(MUSCLE, (22.0, 66.0, -78.0), (20.0, 16.0, 40.0)),  # neck muscles
    ),
    Ellipsoid(FAT, (0.0, 84.0, -84.0), (44.0, 7.0, 34.0)),  # nape
)

BASE: tuple[Solid, ...] = (
    *both_sides(
        Rod(PETROUS, (58.0, 10.0, -41.0), (16.0, -10.0, -45.0), 11.0, 6.5),  # petrous bone
        Rod(CORTICAL, (57.0, 17.0, -40.0), (54.0, 17.0, -61.0), 12.0, 6.0),  # mastoid process
        Rod(SPONGY, (57.0, 17.0, -40.0), (54.0, 17.0, -60.0), 9.5, 4.0),
        Rod(CORTICAL, (17.0, 22.0, -60.0), (15.0, 32.0, -63.0), 7.0, 6.0),  # occipital condyle
    ),
    Rod(CORTICAL, (0.0, -24.0, -42.0), (0.0, 6.0, -60.0), 14.0, 8.0),  # sphenoid and clivus
    Rod(SPONGY, (0.0, -24.0, -42.0), (0.0, 6.0, -60.0), 12.0, 6.0),
)


def _orbit_rim() -> tuple[Rod, ...]:
    """The bony edge of the left orbit, a ring whose outer side lies further back."""
    turn = np.linspace(0.0, 2.0 * np.pi, 15)
    x = 29.5 + 20.0 * np.cos(turn)
    ring = np.column_stack([x, -84.0 + 0.42 * (x - 9.5), -33.0 + 17.5 * np.sin(turn)])
    ends = [(float(p[0]), float(p[1]), float(p[2])) for p in ring]
    return tuple(Rod(CORTICAL, a, b, 2.8, 2.8) for a, b in pairwise(ends))


FACE: tuple[Solid, ...] = (
    Ellipsoid(CORTICAL, (0.0, -66.0, -64.0), (34.0, 24.0, 20.0)),  # maxilla
    Ellipsoid(SPONGY, (0.0, -66.0, -66.0), (32.0, 22.0, 18.0)),
    *both_sides(
        Rod(CORTICAL, (4.5, -88.0, -20.0), (7.0, -95.0, -40.0), 3.0, 2.2),  # nasal bone
        Rod(CORTICAL, (44.0, -70.0, -48.0), (30.0, -74.0, -58.0), 8.0, 8.0),  # zygoma
        Rod(CORTICAL, (46.0, -68.0, -46.0), (46.0, -67.0, -20.0), 5.0, 4.5),  # its frontal process
        Rod(CORTICAL, (47.0, -66.0, -48.0), (63.0, -42.0, -46.0), 5.0, 3.8),  # zygomatic arch
        Rod(CORTICAL, (63.0, -42.0, -46.0), (67.0, -16.0, -42.0), 3.8, 3.6),
        Rod(CORTICAL, (67.0, -16.0, -42.0), (62.0, 2.0, -39.0), 3.6, 5.0),
        Rod(CORTICAL, (17.0, -36.0, -50.0), (19.0, -38.0, -74.0), 5.0, 3.0),  # pterygoid process
    ),
    Block(CORTICAL, (0.0, -64.0, -30.0), (11.0, 22.0, 11.0), 3.0),  # ethmoid and its cells
    *both_sides(
        Ellipsoid(AIR, (4.8, -54.0, -30.0), (3.6, 7.0, 8.5)),
        Ellipsoid(AIR, (4.8, -71.0, -30.0), (3.6, 7.0, 8.0)),
        Ellipsoid(CORTICAL, (29.5, -60.0, -33.0), (22.0, 26.0, 19.5)),  # orbit: wall, rim, fat, eye
        Ellipsoid(SKIN, (30.0, -88.0, -33.0), (22.0, 9.0, 19.0)),  # lids
        *_orbit_rim(),
        Rod(CORTICAL, (29.5, -60.0, -33.0), (13.0, -34.0, -30.0), 12.0, 6.0),
        Rod(FAT, (29.5, -60.0, -33.0), (13.0, -34.0, -30.0), 10.0, 3.5),
        Ellipsoid(FAT, (29.5, -64.0, -33.0), (19.0, 30.0, 16.5)),
        Ellipsoid(EYE, (30.0, -78.0, -33.0), (12.0, 12.0, 12.0)),
    ),
)

OPENINGS: tuple[Solid, ...] = (
    Rod(FLUID, (0.0, 31.0, -46.0), (0.0, 33.0, -84.0), 15.5, 16.5),  # foramen magnum and canal
    Rod(SKIN, (0.0, 31.0, -46.0), (0.0, 33.0, -84.0), 6.5, 6.0),  # cord
    *both_sides(
        Rod(SKIN, (23.0, -9.0, -36.0), (24.0, -9.0, -66.0), 3.4, 3.4),  # oval foramen
        Rod(SKIN, (31.0, -3.0, -36.0), (31.0, -3.0, -66.0), 1.6, 1.6),  # spinous foramen
        Rod(SKIN, (26.0, 19.0, -36.0), (27.0, 18.0, -68.0), 4.5, 4.5),  # jugular foramen
        Rod(FLUID, (8.0, 8.0, -46.0), (38.0, 11.0, -42.0), 2.4, 1.6),  # inner ear canal
    ),
)

CAVITIES: tuple[Solid, ...] = (
    Block(SKIN, (0.0, -67.0, -58.0), (14.0, 30.0, 18.0), 7.0),  # nasal lining, airway, septum, conchae
    Block(AIR, (0.0, -68.0, -58.0), (12.5, 30.0, 16.5), 6.0),
    Block(CORTICAL, (0.6, -62.0, -56.0), (0.8, 20.0, 19.0), 0.4),
    Rod(AIR, (0.0, -34.0, -58.0), (0.0, -26.0, -110.0), 10.0, 9.0),  # pharynx
    Rod(AIR, (5.0, -98.0, -60.0), (6.0, -108.0, -66.0), 4.0, 4.0),  # nostrils
    Rod(AIR, (-5.0, -98.0, -60.0), (-6.0, -108.0, -66.0), 4.0, 4.0),
    Ellipsoid(AIR, (0.0, -26.0, -43.0), (10.5, 11.0, 9.5)),  # sphenoid sinus
    Ellipsoid(AIR, (11.0, -84.5, -15.0), (9.0, 3.0, 7.0)),  # frontal sinus, unequal
    Ellipsoid(AIR, (-9.0, -85.0, -17.0), (6.5, 2.6, 5.0)),
    *both_sides(
        Block(SKIN, (9.5, -60.0, -54.0), (1.2, 17.0, 8.0), 0.6),  # conchae
        Ellipsoid(AIR, (23.5, -66.0, -62.0), (8.0, 14.0, 11.0)),  # maxillary sinus
        Rod(AIR, (84.0, 7.0, -39.0), (40.0, 5.0, -40.0), 4.2, 3.2),  # ear canal
        Ellipsoid(AIR, (55.0, 16.0, -50.0), (4.0, 4.5, 7.0)),  # mastoid cells
        Ellipsoid(AIR, (58.0, 24.0, -42.0), (3.0, 3.5, 4.0)),
        Ellipsoid(AIR, (52.0, 21.0, -43.0), (3.2, 2.6, 3.6)),
    ),
)

LETTER_HEIGHT_MM = 18.0
LETTER_STROKE_MM = 1.6  # mm, radius of the milled groove
LETTER_DEPTH_MM = 1.5  # mm, within the outer table
LETTER_DIRECTION = (-0.74, 0.56, -0.37)  # right, behind the ear, below the part of the vault that implants replace


def letter_strokes(vault: Vault, direction: FloatArray) -> tuple[Rod, ...]:
    """An "R" milled into the outer table, upright and readable from outside, filled with soft tissue.

    Parameters
    ----------
    direction
        (3,) from the vault centre to the middle of the letter.
    """
    middle = direction / np.linalg.norm(direction)
    right_hand = np.cross(middle, np.array([0.0, 0.0, 1.0]))  # to the right of a reader who looks at the head from outside
    right_hand /= -np.linalg.norm(right_hand)
    upward = np.cross(middle, right_hand)
    upward *= np.sign(upward[2])
    radius_mm = vault.outer_radius_mm(middle[None])[0]
    strokes = []
    for line in _letter_lines():
        flat = line * LETTER_HEIGHT_MM
        u = middle * radius_mm + flat[:, :1] * right_hand + flat[:, 1:] * upward
        u /= np.linalg.norm(u, axis=1)[:, None]
        path = u * (vault.outer_radius_mm(u) + LETTER_STROKE_MM - LETTER_DEPTH_MM)[:, None]
        for a, b in pairwise(path):
            strokes.append(Rod(MUSCLE, tuple(a.tolist()), tuple(b.tolist()), LETTER_STROKE_MM, LETTER_STROKE_MM))
    return tuple(strokes)


def _letter_lines() -> tuple[FloatArray, ...]:
    """Polylines of an "R" of height 1 about its middle, (n, 2): to the reader's right, up."""
    turn = np.linspace(0.5 * np.pi, -0.5 * np.pi, 7)
    bowl = np.column_stack([0.05 + 0.25 * np.cos(turn), 0.25 + 0.25 * np.sin(turn)])
    stem = np.column_stack([np.full(5, -0.3), np.linspace(-0.5, 0.5, 5)])
    top, bar = np.array([[-0.3, 0.5], [0.05, 0.5]]), np.array([[0.05, 0.0], [-0.3, 0.0]])
    leg = np.column_stack([np.linspace(0.0, 0.3, 4), np.linspace(0.0, -0.5, 4)])
    return stem, top, bowl, bar, leg
