"""Every seeded fault is found by the check that is there for it, at its place; good parts give no finding."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from batchone.design.checks.coincident import coincident_triangles
from batchone.design.checks.part import PART_CHECKS, part_findings
from batchone.design.model.reduction import reduced
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.measure import stl_bytes
from batchone.pipeline.job.readback import reread_stl
from batchone.pipeline.values import Mesh, Part
from batchone.samples.faults import KINDS, WHOLE_KINDS, Fault, faults, table
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_segment
from batchone.slicer.profiles import load_process

PROCESS = load_process("pa12-sls")
WITHIN_MM = 1.0
PLACES = 4
DOCUMENT = Path(__file__).parents[1] / "docs" / "checks.md"


def part_of(name: str, mesh: Mesh) -> Part:
    return Part(name, mesh, np.zeros(len(mesh.faces), dtype=np.int16), ("body",))


@cache
def good() -> tuple[Part, ...]:
    """A vertebra, a long bone, and a plate with three bores."""
    import manifold3d

    plate = manifold3d.Manifold.cube((40.0, 20.0, 6.0), True)
    for x in (-12.0, 0.0, 12.0):
        plate -= manifold3d.Manifold.cylinder(20.0, 2.0, 2.0, 48, True).translate((x, 1.0, 0.0))
    solid = plate.refine_to_length(2.0).to_mesh64()
    return (
        part_of("vertebra", reduced(spine_segment(3).vertebrae[1], 0.05)[0]),
        part_of("long-bone", bone_surface(rings=60, spokes=40)),
        part_of("plate", Mesh(np.array(solid.vert_properties[:, :3]), np.array(solid.tri_verts, dtype=np.int32))),
    )


@cache
def corpus() -> tuple[Fault, ...]:
    return tuple(fault for seed, part in enumerate(good()) for fault in faults(part, places=PLACES, seed=seed))


def found(fault: Fault) -> bool:
    """Does the check that is there for it find the fault at its place?"""
    findings = part_findings(fault.part, PROCESS, None)
    broken = [finding for finding in findings if finding.check == fault.check and finding.verdict != "pass"]
    if fault.region_mm is None:
        return bool(broken)
    return any(f.where_mm is not None and fault.distance_mm(f.where_mm) <= WITHIN_MM for f in broken)


def test_the_corpus_holds_120_different_faults_or_more() -> None:
    assert len(corpus()) >= 120
    assert len({fault.kind for fault in corpus()}) == len(KINDS) + len(WHOLE_KINDS)
    meshes = {(f.part.name, f.part.mesh.vertices_mm.tobytes(), f.part.mesh.faces.tobytes()) for f in corpus()}
    assert len(meshes) == len(corpus())


@pytest.mark.parametrize("part", good(), ids=lambda part: part.name)
def test_a_good_part_gives_no_finding(part: Part) -> None:
    assert not [finding for finding in part_findings(part, PROCESS, None) if finding.verdict != "pass"]


def test_every_seeded_fault_is_found_by_its_check_within_1_mm() -> None:
    assert not [f"{fault.kind} on {fault.part.name}" for fault in corpus() if not found(fault)]


@pytest.mark.parametrize("check", PART_CHECKS)
def test_without_any_one_of_the_checks_a_fault_goes_unfound(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = next(fault for fault in corpus() if fault.check == check)
    assert found(fault)
    monkeypatch.delitem(PART_CHECKS, check)
    assert not found(fault)


def test_the_documents_table_of_faults_is_that_of_the_generator() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8")


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
