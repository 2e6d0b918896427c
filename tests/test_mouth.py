"""Mouths of drill bores on planes and cliffs of known slope."""

from __future__ import annotations

import numpy as np
import pytest

from batchone.design.booleans import Solid, box_solid, difference, pieces, to_part, union
from batchone.design.checks.sharp import sharp_findings
from batchone.design.checks.walls import measure_walls
from batchone.design.contact.field import Float32Array, Lattice, lattice_over
from batchone.design.contact.seat import Ground, Look
from batchone.design.guide.mouth import MOST_MM, Mouth, mouth_of
from batchone.design.guide.sleeve import Sleeve
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Mesh

WALL_MM = 1.0
SLEEVE = Sleeve("L3-left", np.zeros(3), np.array([0.0, 0.0, 1.0]), 3.0, 7.0, 30.0)
LATTICE = lattice_over(np.array([-8.0, -8.0, -30.0]), np.array([8.0, 8.0, 30.0]), 0.3)


def ground(distance_mm: Float32Array) -> Ground:
    look = Look(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int32))
    return Ground(Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32)), LATTICE, distance_mm, None, look)


def places(lattice: Lattice) -> tuple[Float32Array, Float32Array]:
    """x and z of every voxel."""
    x, _, z = np.broadcast_arrays(lattice.x_mm[:, :, None], lattice.y_mm[:, :, None], lattice.z_mm)
    return x.astype(np.float32), z.astype(np.float32)


def slope(deg: float) -> Ground:
    """Bone below a plane through the entry that rises along x by so many degrees."""
    x, z = places(LATTICE)
    return ground((z * np.cos(np.radians(deg)) - x * np.sin(np.radians(deg))).astype(np.float32))


def cliff(high_mm: float) -> Ground:
    """Flat bone, and a wall of it so high, half a millimetre beside the bore."""
    x, z = places(LATTICE)
    return ground(np.minimum(z, np.maximum(0.5 * SLEEVE.bore_mm + 0.5 - x, z - np.float32(high_mm))))


def mouth(where: Ground) -> Mouth:
    return mouth_of(SLEEVE, where, offset_mm=0.0, apart_mm=1.5, wall_mm=WALL_MM)


def cut(deg: float, *tools: Solid) -> tuple[float, float]:
    """Thinnest spot and longest sharp edge of a sleeve on a shell on a slope, mm, with its bore and more cut out."""
    turn = np.radians(deg)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 2] = [np.cos(turn), 0.0, np.sin(turn)], [-np.sin(turn), 0.0, np.cos(turn)]
    bone = box_solid(np.array([-60.0, -60.0, -60.0]), np.array([60.0, 60.0, 0.0]), "contact", pose=pose)
    shell = box_solid(np.array([-20.0, -12.0, -1.0]), np.array([20.0, 12.0, 4.0]), "shell", pose=pose)
    body = union(shell, SLEEVE.tube(), what="shell, sleeve")
    part = to_part(pieces(difference(body, bone, SLEEVE.cut(), *tools, what="sleeve"))[0], "sleeve")
    return measure_walls(part.mesh).thinnest_spot(part.mesh, 1.2 * WALL_MM)[0], sharp_findings(part)[0].value


@pytest.mark.parametrize("deg", [0.0, 20.0, 40.0])
def test_bone_that_faces_the_drill_keeps_its_contact_up_to_the_bore(deg: float) -> None:
    found = mouth(slope(deg))
    assert not found.cuts
    assert found.led_from_mm == pytest.approx(1.5 * np.tan(np.radians(deg)), abs=0.25)  # the uphill rim, in steps of the grid


@pytest.mark.parametrize("deg", [64.0, 70.0, 76.0])
def test_along_a_steep_flank_the_feather_edge_goes(deg: float) -> None:
    found = mouth(slope(deg))
    assert found.cuts
    spot_mm, edge_mm = cut(deg)
    assert edge_mm > 0.5
    spot_mm, edge_mm = cut(deg, found.tool())
    assert spot_mm >= WALL_MM
    assert edge_mm == 0.0


def test_a_mouth_takes_only_the_side_on_which_bone_runs_along_the_bore() -> None:
    found = mouth(slope(70.0))
    uphill = int(np.argmax(found.height_mm))
    across = found.across.T @ np.array([np.cos(turn := 2.0 * np.pi * uphill / len(found.height_mm)), np.sin(turn)])
    assert across[0] > 0.9
    downhill = (uphill + len(found.height_mm) // 2) % len(found.height_mm)
    assert found.reach_mm[downhill] < 0.5 * SLEEVE.bore_mm + 0.1


def test_a_wall_of_bone_beside_a_bore_is_refused_by_name_from_eight_millimetres_on() -> None:
    assert mouth(cliff(MOST_MM - 0.3)).cuts
    with pytest.raises(DesignError, match=r"sleeve L3-left: bone stands within 1\.2 mm of its bore up to 8\.\d mm"):
        mouth(cliff(MOST_MM + 0.5))
