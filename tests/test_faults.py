"""Faces that lie on each other, and files that are not the part that was checked: found just outside the limit, not inside."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from batchone.design.checks.coincident import coincident_triangles
from batchone.design.model.reduction import reduced
from batchone.pipeline.errors import FilesError
from batchone.pipeline.findings import number_words
from batchone.pipeline.job.measure import stl_bytes
from batchone.pipeline.job.readback import reread_3mf, reread_plate, reread_stl
from batchone.pipeline.values import Build, Estimate, Finding, FloatArray, Mesh, Part, Placement, Support, judge
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_segment
from batchone.slicer.places import furthest
from batchone.slicer.readback import refuse_failed
from batchone.slicer.threemf import Item, write_3mf


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


def written(part: Part, mesh: Mesh, kind: str) -> tuple[Finding, ...]:
    """What is found on the file of a mesh that should be the part's."""
    if kind == "stl":
        return reread_stl(part, stl_bytes(mesh))[1]
    return reread_3mf(part, write_3mf([Item(part.name, mesh, np.eye(4))], title="fault", notes={}))


def failed(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    """The findings that failed, by the first words of what they measured."""
    assert {finding.check for finding in findings} == {"files"}
    assert all(finding.source and finding.hint for finding in findings)
    for finding in findings:
        unplaced = finding.verdict == "pass" or finding.unit == "ppm"  # a volume is nowhere
        assert (finding.where_mm is None) == unplaced, finding.what
    return {finding.what.split(" of ")[0]: finding for finding in findings if finding.verdict == "fail"}


@pytest.mark.parametrize("kind", ["stl", "3mf"])
@pytest.mark.parametrize(
    ("what", "scale", "shift_mm", "volume"),
    [
        ("inches", (1 / 25.4,) * 3, 0.0, 1.0 - 25.4**-3),
        ("metres", (1e-3,) * 3, 0.0, 1.0),
        ("mirrored", (-1.0, 1.0, 1.0), 0.0, 2.0),
        ("shrunk by 0.5 %", (0.995,) * 3, 0.0, 1.0 - 0.995**3),
        ("shifted by 0.5 mm", (1.0,) * 3, 0.5, 0.0),
    ],
)
def test_a_file_of_another_scale_side_or_place_than_the_checked_part_is_refused(
    what: str, scale: tuple[float, float, float], shift_mm: float, volume: float, kind: str
) -> None:
    for part in good():
        mesh = Mesh(part.mesh.vertices_mm * scale + shift_mm, part.mesh.faces)
        found = failed(written(part, mesh, kind))
        assert set(found) == {"largest distance", *(["relative difference"] if volume else [])}
        if volume:
            assert found["relative difference"].value == pytest.approx(1e6 * volume, rel=1e-3)
        off_mm = np.abs(mesh.vertices_mm - part.mesh.vertices_mm).max(axis=1)
        assert found["largest distance"].value == pytest.approx(off_mm.max(), abs=1e-4)
        place = found["largest distance"].where_mm
        vertex = int(np.linalg.norm(part.mesh.vertices_mm - place, axis=1).argmin())
        assert off_mm[vertex] == pytest.approx(off_mm.max(), abs=1e-4), "the place is that of a vertex that is furthest off"
        with pytest.raises(FilesError, match=r"from where it belongs is .* mm, limit at most 0\.001 mm, at \(.*patient LPS"):
            refuse_failed(tuple(found.values()))


@pytest.mark.parametrize("kind", ["stl", "3mf"])
@pytest.mark.parametrize(("off_mm", "refused"), [(0.0008, False), (0.002, True)])
def test_a_file_with_one_vertex_elsewhere_is_refused_just_outside_the_limit(off_mm: float, refused: bool, kind: str) -> None:
    for part in good():
        vertex = int(part.mesh.faces[len(part.mesh.faces) // 2, 0])
        vertices = part.mesh.vertices_mm.copy()
        middle = 0.5 * (vertices.min(axis=0) + vertices.max(axis=0))
        vertices[vertex, 2] += np.copysign(off_mm, middle[2] - vertices[vertex, 2])  # inward: the box stays as it is
        found = failed(written(part, Mesh(vertices, part.mesh.faces), kind))
        assert set(found) == ({"largest distance"} if refused else set())
        for finding in found.values():
            assert finding.value == pytest.approx(off_mm, abs=2e-5)
            assert np.linalg.norm(np.array(finding.where_mm) - part.mesh.vertices_mm[vertex]) < 1e-6


def test_a_file_without_a_triangle_says_where_it_is_missing() -> None:
    for part in good():
        lost = len(part.mesh.faces) // 3
        found = failed(written(part, Mesh(part.mesh.vertices_mm, np.delete(part.mesh.faces, lost, axis=0)), "stl"))
        assert (found["triangles"].value, found["triangles"].low) == (len(part.mesh.faces) - 1, len(part.mesh.faces))
        corners = part.mesh.vertices_mm[part.mesh.faces[lost]]
        assert np.linalg.norm(corners - found["triangles"].where_mm, axis=1).min() < 1.0


def test_a_byte_of_a_corner_that_is_no_number_any_more_is_found_where_it_was() -> None:
    for part in good():
        data = bytearray(stl_bytes(part.mesh))
        triangle = len(part.mesh.faces) // 2
        first = 84 + 50 * triangle + 12  # x of its first corner
        data[first + 3], data[first + 2] = 0x7F, data[first + 2] | 0xC0
        figures, findings = reread_stl(part, bytes(data))
        assert figures is None
        assert set(failed(findings)) == {"relative difference", "largest distance"}
        corner = part.mesh.vertices_mm[part.mesh.faces[triangle, 0]]
        assert np.linalg.norm(corner - failed(findings)["largest distance"].where_mm) < 1e-6
        data[first + 3], data[first + 2] = stl_bytes(part.mesh)[first + 3] ^ 0x80, stl_bytes(part.mesh)[first + 2]  # its sign
        finding = failed(reread_stl(part, bytes(data))[1])["largest distance"]
        assert finding.value == pytest.approx(2.0 * abs(corner[0]), rel=1e-5)
        assert np.linalg.norm(corner - finding.where_mm) < 1e-6


@cache
def placed() -> tuple[Part, Build]:
    """The vertebra on the plate, turned, and what stands in for its supports."""
    part = good()[0]
    turn = np.eye(4)
    turn[:3, :3] = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    turn[:3, 3] = (100.0, 80.0, 60.0)
    foot = Mesh(part.mesh.moved(turn).vertices_mm * 0.25 + (5.0, 5.0, 0.0), part.mesh.faces)
    support = Support(part.name, ("block",), foot, 1.0, 1.0, 1)
    guess = Estimate(1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, "none")
    build = Build("p", "m", (Placement(part.name, turn, ""),), b"", b"", guess, (), supports=(support,))
    return part, replace(build, plate_3mf=plate(part.mesh, turn, foot))


def plate(mesh: Mesh, pose: FloatArray, foot: Mesh) -> bytes:
    items = [Item("vertebra", mesh, pose), Item("supports-vertebra", foot, np.eye(4))]
    return write_3mf(items, title="plate", notes={})


@pytest.mark.parametrize(("off_mm", "refused"), [(0.0008, False), (0.002, True)])
def test_a_plate_with_a_body_elsewhere_says_which_and_where_in_the_patient(off_mm: float, refused: bool) -> None:
    part, build = placed()
    pose, foot = build.placements[0].pose, build.supports[0].mesh
    assert failed(reread_plate(build, (part,))[1:]) == {}
    vertices = part.mesh.vertices_mm.copy()
    vertices[321, 1] += off_mm
    found = failed(reread_plate(replace(build, plate_3mf=plate(Mesh(vertices, part.mesh.faces), pose, foot)), (part,))[1:])
    assert bool(found) == refused
    for finding in found.values():
        assert "vertebra on build/plate.3mf" in finding.what
        assert np.linalg.norm(part.mesh.vertices_mm[321] - finding.where_mm) < 1e-6
    lower = Mesh(foot.vertices_mm - (0.0, 0.0, off_mm), foot.faces)
    found = failed(reread_plate(replace(build, plate_3mf=plate(part.mesh, pose, lower)), (part,))[1:])
    assert [finding.what for finding in found.values()] == refused * [
        "largest distance of a corner of supports-vertebra on build/plate.3mf from where it belongs"
    ]


def test_a_plate_without_a_body_is_refused() -> None:
    part, build = placed()
    one = write_3mf([Item("vertebra", part.mesh, build.placements[0].pose)], title="plate", notes={})
    (bodies,) = reread_plate(replace(build, plate_3mf=one), (part,))
    assert (bodies.verdict, bodies.value, bodies.low, bodies.what) == ("fail", 1.0, 2.0, "bodies on build/plate.3mf")


@pytest.mark.parametrize(("off_ppm", "refused"), [(9.0, False), (11.0, True)])
def test_a_volume_is_held_in_millionths_just_inside_its_limit_and_not_outside(off_ppm: float, refused: bool) -> None:
    """Each corner of a body of 0.3 m is off by a micrometre at most: the volume alone tells."""
    corners = np.array([[x, y, z] for x in (0.0, 256.0) for y in (0.0, 256.0) for z in (0.0, 1.0 / 16.0)])
    faces = [
        [0, 1, 3],
        [0, 3, 2],
        [4, 6, 7],
        [4, 7, 5],
        [0, 4, 5],
        [0, 5, 1],
        [2, 3, 7],
        [2, 7, 6],
        [0, 2, 6],
        [0, 6, 4],
        [1, 5, 7],
    ]
    part = part_of("slab", Mesh(corners, np.array([*faces, [1, 7, 3]], dtype=np.int32)))
    other = corners * (1.0, 1.0, 1.0 + 1e-6 * off_ppm)
    findings = reread_stl(part, stl_bytes(Mesh(other, part.mesh.faces)))[1]
    assert set(failed(findings)) == ({"relative difference"} if refused else set())
    assert findings[1].limit == "at most 10 ppm"
    assert findings[1].value == pytest.approx(off_ppm, abs=0.15)  # 32-bit steps at 1/16 mm are 0.06 ppm


def test_files_that_cannot_be_read_are_findings_too() -> None:
    part, build = placed()
    read = [
        reread_stl(part, stl_bytes(part.mesh)[:-1])[1],
        reread_3mf(part, b"PK"),
        reread_plate(replace(build, plate_3mf=b"PK"), (part,)),
    ]
    for name, (fault,) in zip(("parts/vertebra.stl", "parts/vertebra.3mf", "build/plate.3mf"), read, strict=True):
        assert (fault.verdict, fault.value, fault.high, fault.where_mm) == ("fail", 1.0, 0.0, None)
        assert name in fault.what
        assert fault.hint


def test_a_refusal_carries_every_finding_and_the_hint_of_the_first_that_failed() -> None:
    right = judge("files", "solids", 1, "", low=1, hint="never told")
    many = judge("files", "triangles", 1_234_567, "", low=1_234_568, high=1_234_568, hint="package again")
    off = judge("files", "distance", 0.0123456789, "mm", high=0.001, hint="slice again", where_mm=(1.0, 2.0, 3.0))
    told = re.escape("triangles is 1234567, limit 1234568; distance is 0.0123457 mm, limit at most 0.001 mm")
    with pytest.raises(FilesError, match=told) as met:
        refuse_failed([right, many, off])
    assert (met.value.exit_code, met.value.hint, met.value.findings) == (5, "package again", (right, many, off))
    with pytest.raises(FilesError) as met:
        refuse_failed([replace(off, hint="")])
    assert met.value.hint == "do not print; slice again"
    refuse_failed([right])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (999_999.0, "999999"),
        (28_804_123.0, "28804123"),
        (0.5, "0.5"),
        (1234567.5, "1.23457e+06"),
        (np.inf, "inf"),
        (1e16, "1e+16"),
    ],
)
def test_whole_numbers_are_told_in_full(value: float, words: str) -> None:
    assert number_words(value) == words
    assert judge("a", "", 0.0, "mm", high=value).limit == f"at most {words} mm"
    assert number_words(28_804.0, 4) == "28804"
    assert number_words(28_804.4, 4) == "2.88e+04"


def test_the_furthest_point_is_found_where_some_are_missing_or_are_no_numbers() -> None:
    points = np.arange(12.0).reshape(4, 3)
    none = points[:0]
    assert furthest(none, none) == (0.0, None)
    assert furthest(points, none) == (np.inf, None)
    assert furthest(none, points) == (np.inf, 0)
    assert furthest(points[:3], points) == (np.inf, 3)
    assert furthest(points, points[:3]) == (np.inf, 2)
    strange = points.copy()
    strange[1, 2] = np.nan
    assert furthest(strange[:3], points) == (np.inf, 1), "a NaN is the first that differs"
    strange[3, 0] += 5.0
    off_mm, worst = furthest(strange, points)
    assert (np.isnan(off_mm), worst) == (True, 1)
