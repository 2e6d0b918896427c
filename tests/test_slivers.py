"""Triangles without height: taken out, with every face left where it is and every label's area kept."""

from __future__ import annotations

import numpy as np
import pytest
from manifold3d import Manifold

from batchone.design.booleans import LabelArray, box_solid, face_areas, to_mesh, union
from batchone.design.checks.mesh import measure_mesh
from batchone.design.slivers import without_slivers
from batchone.pipeline.values import Mesh, Part


def split(mesh: Mesh, labels: LabelArray, face: int, *, share: float) -> tuple[Mesh, LabelArray]:
    """A triangle whose first side has got a corner in its middle that only this triangle knows: a sliver closes the side."""
    a, b, c = mesh.faces[face].tolist()
    middle = mesh.vertices_mm[a] + share * (mesh.vertices_mm[b] - mesh.vertices_mm[a])
    new = len(mesh.vertices_mm)
    faces = mesh.faces.copy()
    faces[face] = [a, new, c]
    more = np.array([[new, b, c], [a, b, new]], dtype=np.int32)
    return (
        Mesh(np.vstack([mesh.vertices_mm, middle]), np.vstack([faces, more])),
        np.concatenate([labels, [labels[face], 1 - labels[face]]]).astype(np.int16),
    )


@pytest.mark.parametrize("share", [0.5, 0.1, 1e-7])
def test_a_sliver_on_a_side_or_with_a_short_side_is_taken_out(share: float) -> None:
    box = to_mesh(box_solid(np.zeros(3), np.array([20.0, 10.0, 5.0]), "box"))[0]
    mesh, labels = split(box, np.zeros(len(box.faces), dtype=np.int16), 3, share=share)
    assert measure_mesh(mesh).slivers >= 1
    made, left = without_slivers(mesh, labels)
    measured = measure_mesh(made)
    assert (measured.slivers, measured.open_edges, measured.branching_edges, measured.flipped_edges, measured.pieces) == (
        0,
        0,
        0,
        0,
        1,
    )
    assert measured.volume_mm3 == pytest.approx(1000.0, abs=1e-4)
    areas = face_areas(Part("box", made, left, ("one", "other")))
    assert sum(areas.values()) == pytest.approx(700.0, abs=1e-4)
    assert areas["other"] == pytest.approx(0.0, abs=1e-5)


def test_a_body_without_slivers_stays_as_it_is() -> None:
    body = union(
        box_solid(np.zeros(3), np.array([4.0, 4.0, 4.0]), "one"),
        box_solid(np.array([1.0, 1.0, 3.0]), np.full(3, 7.0), "two"),
        what="both",
    )
    mesh, labels, _ = to_mesh(body)
    made, left = without_slivers(mesh, labels)
    assert made is mesh
    assert left is labels


def test_many_slivers_side_by_side_go_and_the_surface_stays_closed() -> None:
    raw = Manifold.sphere(10.0, 40).to_mesh64()
    mesh = Mesh(np.array(raw.vert_properties)[:, :3].copy(), np.array(raw.tri_verts, dtype=np.int32))
    labels = np.zeros(len(mesh.faces), dtype=np.int16)
    rng = np.random.default_rng(7)
    before = measure_mesh(mesh).volume_mm3
    for face in rng.choice(len(mesh.faces), 150, replace=False).tolist():
        mesh, labels = split(mesh, labels, face, share=float(rng.choice([1e-7, 0.2, 0.5])))
    assert measure_mesh(mesh).slivers >= 150
    made, left = without_slivers(mesh, labels)
    after = measure_mesh(made)
    assert (after.slivers, after.open_edges, after.branching_edges, after.flipped_edges, after.pinched_vertices) == (
        0,
        0,
        0,
        0,
        0,
    )
    assert after.volume_mm3 == pytest.approx(before, rel=1e-7)
    assert face_areas(Part("ball", made, left, ("one", "other")))["other"] == pytest.approx(0.0, abs=1e-4)
