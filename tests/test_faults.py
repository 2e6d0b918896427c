"""Faces that lie on each other, and files that are not the part that was checked: found just outside the limit, not inside."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from batchone.design.checks.coincident import coincident_triangles
from batchone.design.model.reduction import reduced
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.measure import stl_bytes
from batchone.pipeline.job.readback import reread_stl
from batchone.pipeline.values import Mesh, Part
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_segment


def part_of(name: str, mesh: Mesh) -> Part:
    return Part(name, mesh, np.zeros(len(mesh.faces), dtype=np.int16), ("body",))


@cache
def good() -> tuple[Part, ...]:
    """A vertebra and a long bone."""
    return (
        part_of("vertebra", reduced(spine_segment(3).vertebrae[1], 0.05)[0]),
        part_of("long-bone", bone_surface(rings=60, spokes=40)),
    )


@pytest.mark.parametrize(("apart_mm", "count"), [(0.9e-4 / 3.0, 2), (5e-4, 0)])
def test_faces_lie_on_each_other_just_inside_the_rounding_of_files_and_not_outside(apart_mm: float, count: int) -> None:
    triangle = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    lifted = triangle + np.array([0.0, 0.0, apart_mm])
    mesh = Mesh(np.vstack([triangle, lifted]), np.array([[0, 1, 2], [5, 4, 3]], dtype=np.int32))
    assert len(coincident_triangles(mesh)) == count


def test_needles_finer_than_the_rounding_of_files_do_not_lie_on_each_other() -> None:
    points = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [3.0, 1e-5, 0.0], [0.0, 1e-5, 0.0]])
    assert len(coincident_triangles(Mesh(points, np.array([[0, 1, 2], [0, 2, 3]], dtype=np.int32)))) == 0


@pytest.mark.parametrize(
    ("what", "scale", "shift_mm"),
    [
        ("inches", (1 / 25.4,) * 3, 0.0),
        ("metres", (1e-3,) * 3, 0.0),
        ("mirrored", (-1.0, 1.0, 1.0), 0.0),
        ("shrunk by 0.5 %", (0.995,) * 3, 0.0),
        ("shifted by 0.5 mm", (1.0,) * 3, 0.5),
    ],
)
def test_a_file_of_another_scale_side_or_place_than_the_checked_part_is_refused(
    what: str, scale: tuple[float, float, float], shift_mm: float
) -> None:
    for part in good():
        mesh = Mesh(part.mesh.vertices_mm * scale + shift_mm, part.mesh.faces)
        with pytest.raises(MachineError, match="read back"):
            reread_stl(part, stl_bytes(mesh))


@pytest.mark.parametrize(("off_mm", "refused"), [(0.0008, False), (0.002, True)])
def test_a_file_with_one_vertex_elsewhere_is_refused_just_outside_the_limit(off_mm: float, refused: bool) -> None:
    for part in good():
        vertex = int(part.mesh.faces[len(part.mesh.faces) // 2, 0])
        vertices = part.mesh.vertices_mm.copy()
        middle = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
        vertices[vertex, 2] += np.copysign(off_mm, middle[2] - vertices[vertex, 2])  # inward: the box stays as it is
        data = stl_bytes(Mesh(vertices, part.mesh.faces))
        if refused:
            with pytest.raises(MachineError, match=r"mm off, at most 0\.001 mm"):
                reread_stl(part, data)
        else:
            reread_stl(part, data)
