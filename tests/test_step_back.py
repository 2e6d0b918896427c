"""A part's STEP file, read back: each fault of a solid found at its place, nothing of a sound file."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from io import BytesIO

import cadquery as cq
import numpy as np
import pytest

from batchone.design.booleans import difference, solid_from_mesh, to_part
from batchone.design.nearest import nearest_mm
from batchone.design.solid import Feature, box, cylinder, placed, step_of, text
from batchone.design.step_reading import read_step
from batchone.design.tessellation import triangles_of
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.measure import measure_mesh
from batchone.pipeline.job.step_back import reread_step
from batchone.pipeline.job.straight_faces import is_straight
from batchone.pipeline.values import Finding, FloatArray, FunctionalFace, Mesh, Part
from batchone.slicer.readback import refuse_failed

POSE = np.array([[0.0, -1.0, 0.0, 30.0], [0.6, 0.0, -0.8, -40.0], [0.8, 0.0, 0.6, 90.0], [0.0, 0.0, 0.0, 1.0]])
UNIT = b"SI_UNIT(.MILLI.,.METRE.)"
SOLIDS = "solids in"
UNITS = "length units of"
BROKEN = "solids of parts/block.step that are open, invalid or of no volume"
DISTANCE = "largest distance"
ABSENT = "solids of parts/block.step of which block has no face"
MISSING = "straight functional faces"
EMPTY = "functional faces of block without a triangle"


@cache
def features() -> tuple[Feature, ...]:
    """What is cut out of a block: two bores, one of them aslant, a slot, and letters."""
    return (
        cylinder("bore-a", start_mm=(6.0, 5.0, -1.0), axis=(0.0, 0.0, 1.0), diameter_mm=3.2, length_mm=12.0),
        cylinder("bore-b", start_mm=(24.0, 5.0, -1.0), axis=(0.0, 0.1, 1.0), diameter_mm=4.0, length_mm=12.0),
        box("slot-1", size_mm=(1.2, 6.0, 12.0), centre_mm=(15.0, 6.0, 4.0)),
        text(
            "label text", "L3", height_mm=3.0, depth_mm=0.5, above_mm=0.5,
            origin=(15.0, 12.5, 8.0), x_direction=(1.0, 0.0, 0.0), normal=(0.0, 0.0, 1.0),
        ),
    )  # fmt: skip


@cache
def block() -> Part:
    """A block with the features cut out, somewhere in the patient."""
    return cut_block(features())


def cut_block(tools: tuple[Feature, ...], *, also: tuple[str, ...] = ()) -> Part:
    """A block with features cut out of it, each a functional face, and ``also`` functional faces of these names."""
    body = solid_from_mesh(box("block", size_mm=(30.0, 16.0, 8.0), centre_mm=(15.0, 8.0, 4.0)).mesh, "block")
    labels = [one.name.removesuffix(" text") for one in tools]
    cut = [solid_from_mesh(one.mesh, label) for one, label in zip(tools, labels, strict=True)]
    faces = tuple(FunctionalFace(label, "guides", 0.1) for label in dict.fromkeys((*labels, *also)))
    return to_part(
        difference(body, *cut, what="block"), "block", functional_faces=faces, step=step_of(tools, pose=POSE), pose=POSE
    )


def changed(name: str, motion: FloatArray) -> bytes:
    """The STEP file with one feature moved."""
    return step_of(tuple(placed(one, name, motion) if one.name == name else one for one in features()), pose=POSE)


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> FloatArray:
    motion = np.eye(4)
    motion[:3, 3] = x, y, z
    return motion


def failed(data: bytes, part: Part | None = None) -> dict[str, Finding]:
    """The findings of a part, by itself the block, that failed, by the words that they begin with."""
    begins = (SOLIDS, UNITS, BROKEN, DISTANCE, ABSENT, MISSING, EMPTY)
    findings = reread_step(part or block(), data)
    assert len(findings) == len(begins)
    assert all(finding.check == "files" and finding.hint and finding.source for finding in findings)
    named = dict(zip(begins, findings, strict=True))
    assert all(finding.what.startswith(words) for words, finding in named.items())
    return {words: finding for words, finding in named.items() if finding.verdict == "fail"}


def in_block(finding: Finding) -> FloatArray:
    """The place of a finding in the frame of the block, mm."""
    assert finding.where_mm is not None
    return np.asarray((np.array(finding.where_mm) - POSE[:3, 3]) @ POSE[:3, :3])


def test_a_step_file_is_read_with_names_unit_and_the_surface_of_each_solid() -> None:
    units, solids = read_step(block().step)
    assert units == ("millimetre",)
    assert [one.name for one in solids] == ["bore-a", "bore-b", "slot-1", "label text", "label text"]
    assert all(one.whole for one in solids)
    assert np.array(solids[2].centre_mm) == pytest.approx(POSE[:3, :3] @ (15.0, 6.0, 4.0) + POSE[:3, 3])
    for solid, feature in zip(solids[:3], features(), strict=False):
        assert len(solid.mesh.faces) == len(feature.mesh.faces)
        assert nearest_mm(feature.mesh.moved(POSE).vertices_mm, solid.mesh) == pytest.approx(0.0, abs=1e-9)
        assert measure_mesh(solid.mesh).volume_mm3 == pytest.approx(measure_mesh(feature.mesh).volume_mm3), "outward"


def test_a_sound_file_passes_and_tells_no_place() -> None:
    assert failed(block().step) == {}
    findings = reread_step(block(), block().step)
    assert findings[3].value < 0.011  # mm: the triangles of curves, 0.01 mm
    assert all(finding.where_mm is None for finding in findings), "a place that is rounding says nothing"


@pytest.mark.parametrize("name", ["bore-a", "bore-b", "slot-1"])
@pytest.mark.parametrize(("off_mm", "refused"), [(0.048, False), (0.052, True), (0.5, True)])
def test_a_solid_that_is_shifted_is_found_by_how_far_and_where(name: str, off_mm: float, refused: bool) -> None:
    found = failed(changed(name, moved(x=off_mm)))
    assert (DISTANCE in found) == refused
    if refused:
        finding = found[DISTANCE]
        assert finding.value == pytest.approx(off_mm, abs=0.011)
        corners = block().mesh.vertices_mm[block().mesh.faces[block().face_labels == block().labels.index(name)]]
        places = np.vstack([corners.reshape(-1, 3), corners.mean(axis=1)])
        assert np.linalg.norm(places - finding.where_mm, axis=1).min() < 1e-6
        with pytest.raises(MachineError, match=r"solid of parts/block\.step that made it .* at most 0\.05 mm, at \("):
            refuse_failed(list(found.values()))


def test_letters_that_are_shifted_are_found() -> None:
    assert DISTANCE not in failed(changed("label text", np.eye(4)))
    motion = moved(y=0.4)
    data = step_of((*features()[:3], placed(features()[3], "label text", motion)), pose=POSE)
    finding = failed(data)[DISTANCE]
    assert finding.value == pytest.approx(0.4, abs=0.05)
    assert in_block(finding)[1] == pytest.approx(11.0, abs=0.2), "their lower edge, left behind"


@pytest.mark.parametrize(("diameter_mm", "refused"), [(3.28, False), (3.32, True), (3.0, True)])
def test_a_bore_of_another_diameter_is_found(diameter_mm: float, refused: bool) -> None:
    other = cylinder("bore-a", start_mm=(6.0, 5.0, -1.0), axis=(0.0, 0.0, 1.0), diameter_mm=diameter_mm, length_mm=12.0)
    found = failed(step_of((other, *features()[1:]), pose=POSE))
    assert (DISTANCE in found) == refused
    if refused:
        assert found[DISTANCE].value == pytest.approx(abs(diameter_mm - 3.2) / 2.0, abs=0.006)
        assert np.linalg.norm(in_block(found[DISTANCE])[:2] - (6.0, 5.0)) == pytest.approx(1.6, abs=0.01)


def in_inches() -> bytes:
    """The file with every number in inches, and saying so."""
    from OCP.Interface import Interface_Static

    Interface_Static.SetCVal_s("write.step.unit", "INCH")
    try:
        return step_of(features(), pose=POSE)
    finally:
        Interface_Static.SetCVal_s("write.step.unit", "MM")


def test_a_file_in_inches_or_by_another_scale_is_found() -> None:
    step_of(features()[:1])  # the setting is there from the first file on
    found = failed(in_inches())
    assert set(found) == {UNITS}
    assert found[UNITS].value == 1.0
    assert step_of(features(), pose=POSE) == block().step
    found = failed(block().step.replace(UNIT, b"SI_UNIT(.CENTI.,.METRE.)"))
    assert found[UNITS].value == 1.0
    assert found[DISTANCE].value > 10.0
    small = tuple(
        cylinder(name, start_mm=(x / 25.4, 5.0 / 25.4, -1.0 / 25.4), axis=axis, diameter_mm=size / 25.4, length_mm=12.0 / 25.4)
        for name, x, axis, size in (("bore-a", 6.0, (0.0, 0.0, 1.0), 3.2), ("bore-b", 24.0, (0.0, 0.1, 1.0), 4.0))
    )
    assert {DISTANCE, ABSENT} <= set(failed(step_of((*small, *features()[2:]), pose=POSE)))


def mirrored(feature: Feature) -> Feature:
    """The feature on the other side of the block's middle, left and right exchanged."""
    stream = BytesIO()
    cq.Shape.importBrep(BytesIO(feature.brep)).mirror("YZ", (15.0, 0.0, 0.0)).exportBrep(stream)
    return Feature(feature.name, feature.mesh, stream.getvalue())


def test_a_mirrored_file_is_found() -> None:
    found = failed(step_of(tuple(map(mirrored, features())), pose=POSE))
    assert found[DISTANCE].value > 10.0
    finding = failed(step_of((*features()[:3], mirrored(features()[3])), pose=POSE))[DISTANCE]
    assert finding.value > 0.3, "letters alone, in their own place"
    assert in_block(finding)[0] == pytest.approx(15.0, abs=3.0)


def test_a_bore_that_leans_the_other_way_is_found() -> None:
    other = cylinder("bore-b", start_mm=(24.0, 5.0, -1.0), axis=(0.0, -0.1, 1.0), diameter_mm=4.0, length_mm=12.0)
    finding = failed(step_of((features()[0], other, *features()[2:]), pose=POSE))[DISTANCE]
    assert np.abs(in_block(finding)[0] - 24.0) < 2.1
    assert finding.value == pytest.approx(2.0 * 0.1 * 9.0, abs=0.1)


@pytest.mark.parametrize(("wide_mm", "refused"), [(1.28, False), (1.32, True), (3.0, True), (10.0, True), (0.4, True)])
def test_a_slot_of_another_width_is_found(wide_mm: float, refused: bool) -> None:
    other = box("slot-1", size_mm=(wide_mm, 6.0, 12.0), centre_mm=(15.0, 6.0, 4.0))
    found = failed(step_of((*features()[:2], other, features()[3]), pose=POSE))
    assert (DISTANCE in found) == refused
    assert refused or not found
    if refused and wide_mm < 6.0:
        assert found[DISTANCE].value == pytest.approx(0.5 * abs(wide_mm - 1.2), abs=1e-6)


@pytest.mark.parametrize(("side", "way"), [(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)])
def test_one_wall_of_a_slot_moved_out_is_found_on_that_wall(side: int, way: float) -> None:
    size, centre = [1.2, 6.0, 12.0], [15.0, 6.0, 4.0]
    size[side] += 1.0
    centre[side] += 0.5 * way
    other = box("slot-1", size_mm=(size[0], size[1], size[2]), centre_mm=(centre[0], centre[1], centre[2]))
    finding = failed(step_of((*features()[:2], other, features()[3]), pose=POSE))[DISTANCE]
    assert 0.3 < finding.value <= 1.001
    wall = (15.0, 6.0)[side] + way * (0.6, 3.0)[side]
    assert in_block(finding)[side] == pytest.approx(wall, abs=1e-6)


def rounded(long_mm: float, wide_mm: float) -> Feature:
    """A slot with round ends, through the block."""
    stream = BytesIO()
    solid = cq.Workplane().slot2D(long_mm, wide_mm).extrude(12.0).val().moved(cq.Location(cq.Vector(15.0, 8.0, -2.0)))
    assert isinstance(solid, cq.Shape)
    solid.exportBrep(stream)
    return Feature("slot-r", triangles_of("slot-r", solid), stream.getvalue())


def test_a_rounded_slot_that_is_too_large_is_found() -> None:
    part = cut_block((rounded(10.0, 3.0),))
    assert failed(part.step, part) == {}
    found = failed(step_of((rounded(12.0, 4.0),), pose=POSE), part)
    assert found[DISTANCE].value == pytest.approx(1.0, abs=0.1)
    assert set(failed(step_of((rounded(10.08, 3.08),), pose=POSE), part)) == set()
    assert DISTANCE in failed(step_of((rounded(10.12, 3.12),), pose=POSE), part)


def blind(deep_mm: float) -> Feature:
    return cylinder("bore-c", start_mm=(6.0, 5.0, 8.0 - deep_mm), axis=(0.0, 0.0, 1.0), diameter_mm=3.2, length_mm=deep_mm + 3.0)


def other_bore() -> Feature:
    return cylinder("bore-d", start_mm=(20.0, 8.0, -1.0), axis=(0.0, 0.0, 1.0), diameter_mm=3.0, length_mm=12.0)


def test_a_blind_bore_that_is_too_deep_or_missing_is_found() -> None:
    part = cut_block((blind(5.0), other_bore()))
    assert failed(part.step, part) == {}
    finding = failed(step_of((blind(7.0), other_bore()), pose=POSE), part)[DISTANCE]
    assert in_block(finding)[2] == pytest.approx(3.0, abs=1e-6), "its floor"
    assert finding.value > 0.5
    found = failed(step_of((other_bore(),), pose=POSE), part)
    assert set(found) == {MISSING}
    assert np.linalg.norm(in_block(found[MISSING])[:2] - (6.0, 5.0)) < 1.0


def test_a_countersunk_bore_that_is_missing_is_found() -> None:
    stream = BytesIO()
    solid = cq.Workplane().circle(1.5).extrude(10.0).faces(">Z").workplane().circle(1.5).workplane(offset=3.0).circle(4.0).loft()
    shape = solid.val().moved(cq.Location(cq.Vector(8.0, 8.0, -4.0)))  # type: ignore[union-attr]
    shape.exportBrep(stream)
    part = cut_block((Feature("bore-c", triangles_of("bore-c", shape), stream.getvalue()), other_bore()))
    assert failed(part.step, part) == {}
    assert set(failed(step_of((other_bore(),), pose=POSE), part)) == {MISSING}


@pytest.mark.parametrize("left_out", [0, 1, 2, 3])
def test_a_feature_that_is_missing_is_found_where_it_was(left_out: int) -> None:
    found = failed(step_of(tuple(one for one in features() if one is not features()[left_out]), pose=POSE))
    assert set(found) == {MISSING}
    assert found[MISSING].value == 1.0
    middle = ((6.0, 5.0), (24.0, 5.4), (15.0, 6.0), (15.0, 12.5))[left_out]
    assert np.linalg.norm(in_block(found[MISSING])[:2] - middle) < 2.0


def test_a_solid_too_many_is_found_whatever_its_name() -> None:
    for name in ("bore-a", "bore-c"):
        third = placed(features()[0], name, moved(x=3.7))
        found = failed(step_of((*features(), third), pose=POSE))
        assert set(found) == {ABSENT}
        assert np.linalg.norm(in_block(found[ABSENT])[:2] - (9.7, 5.0)) < 0.01
    renamed = placed(features()[2], "cut-1", np.eye(4))
    assert set(failed(step_of((*features()[:2], renamed, features()[3]), pose=POSE))) == {ABSENT, MISSING}


def test_a_functional_face_without_a_triangle_is_found() -> None:
    other = block().labels.index("bore-b")
    labels = np.where(block().face_labels == other, block().labels.index("block"), block().face_labels)
    assert set(failed(block().step, replace(block(), face_labels=labels.astype(np.int16)))) == {ABSENT, EMPTY}


def test_a_face_that_is_not_functional_may_end_within_its_solid_but_not_outside() -> None:
    deep = cylinder("hole", start_mm=(6.0, 5.0, 1.0), axis=(0.0, 0.0, 1.0), diameter_mm=3.2, length_mm=12.0)
    part = cut_block((cylinder("hole", start_mm=(6.0, 5.0, 3.0), axis=(0.0, 0.0, 1.0), diameter_mm=3.2, length_mm=12.0),))
    assert set(failed(step_of((deep,), pose=POSE), part)) == {DISTANCE}
    part = replace(part, functional_faces=())
    assert failed(step_of((deep,), pose=POSE), part) == {}
    assert DISTANCE in failed(step_of((placed(deep, "hole", moved(z=4.0)),), pose=POSE), part)


def test_a_face_that_follows_a_bone_needs_no_solid() -> None:
    ball = cq.Solid.makeSphere(2.0, angleDegrees1=-90.0)
    assert not is_straight(triangles_of("contact", ball))
    flat = block().mesh.faces[block().face_labels == block().labels.index("block")]
    corners = block().mesh.vertices_mm[flat]
    upward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) @ POSE[:3, 2] > 1e-6
    assert not is_straight(Mesh(block().mesh.vertices_mm, flat[upward])), "a single flat, such as a stop"


def with_loose_face(feature: Feature) -> Feature:
    """The feature with a face beside it that bounds nothing."""
    stream = BytesIO()
    beside = cq.Face.makePlane(2.0, 2.0, (15.0, 8.0, 20.0))
    cq.Compound.makeCompound([cq.Shape.importBrep(BytesIO(feature.brep)), beside]).exportBrep(stream)
    return Feature(feature.name, feature.mesh, stream.getvalue())


def test_a_face_beside_the_solids_is_found() -> None:
    found = failed(step_of((with_loose_face(features()[0]), *features()[1:]), pose=POSE))
    assert set(found) == {BROKEN}
    assert found[BROKEN].value == 1.0
    assert in_block(found[BROKEN]) == pytest.approx((15.0, 8.0, 20.0), abs=1e-6)


def test_an_open_solid_is_found_and_so_is_a_file_without_any() -> None:
    start = block().step.index(b"CLOSED_SHELL(")
    first = block().step[start : block().step.index(b";", start)]
    faces = first[first.rindex(b"(") :]
    open_shell = first.replace(faces, b"(" + faces[1:].split(b",", 1)[1])
    found = failed(block().step.replace(first, open_shell, 1))
    assert found[BROKEN].value == 1.0
    assert np.linalg.norm(in_block(found[BROKEN])[:2] - (6.0, 5.0)) < 1.0
    sheet = BytesIO()
    cq.Face.makePlane(2.0, 2.0).exportBrep(sheet)
    found = failed(step_of((Feature("sheet", features()[0].mesh, sheet.getvalue()),), pose=POSE))
    assert {SOLIDS, BROKEN, MISSING} <= set(found)
    assert in_block(found[BROKEN]) == pytest.approx(np.zeros(3), abs=1e-6)


@pytest.mark.parametrize(
    "data", [b"", b"solid block\n", b"ISO-10303-21;\nHEADER;\nENDSEC;\nDATA;\n#1=FOO(;\nENDSEC;\nEND-ISO-10303-21;\n"]
)
def test_a_file_that_cannot_be_read_is_a_finding_and_nothing_is_printed(data: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    findings = reread_step(block(), data)
    assert any(one.verdict == "fail" for one in findings)
    assert data[:3] == b"ISO" or (findings[0].what, len(findings)) == ("files parts/block.step that cannot be read back", 1)
    cq.Workplane().box(1.0, 1.0, 1.0)  # flush what the library holds back
    assert capfd.readouterr().out == ""
