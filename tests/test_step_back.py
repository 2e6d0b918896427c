"""A part's STEP file, read back: each fault of a solid found at its place, nothing of a sound file."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from io import BytesIO

import cadquery as cq
import numpy as np
import pytest

from batchone.design.booleans import difference, solid_from_mesh, to_part
from batchone.design.solid import Feature, box, cylinder, placed, step_of, text
from batchone.design.step_reading import read_step
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.step_back import reread_step
from batchone.pipeline.values import Finding, FloatArray, FunctionalFace, Part
from batchone.slicer.readback import refuse_failed

POSE = np.array([[0.0, -1.0, 0.0, 30.0], [0.6, 0.0, -0.8, -40.0], [0.8, 0.0, 0.6, 90.0], [0.0, 0.0, 0.0, 1.0]])
UNIT = b"SI_UNIT(.MILLI.,.METRE.)"
SOLIDS = "solids in"
UNITS = "length units of"
BROKEN = "solids of parts/block.step that are open, invalid or of no volume"
DISTANCE = "largest distance"
ABSENT = "solids of parts/block.step of which block has no face"
ROUND = "round functional faces"


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
    body = solid_from_mesh(box("block", size_mm=(30.0, 16.0, 8.0), centre_mm=(15.0, 8.0, 4.0)).mesh, "block")
    tools = [solid_from_mesh(one.mesh, one.name.removesuffix(" text")) for one in features()]
    faces = tuple(FunctionalFace(label, "guides", 0.1) for label in ("bore-a", "bore-b", "slot-1", "label"))
    return to_part(
        difference(body, *tools, what="block"), "block", functional_faces=faces, step=step_of(features(), pose=POSE), pose=POSE
    )


def changed(name: str, motion: FloatArray) -> bytes:
    """The STEP file with one feature moved."""
    return step_of(tuple(placed(one, name, motion) if one.name == name else one for one in features()), pose=POSE)


def moved(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> FloatArray:
    motion = np.eye(4)
    motion[:3, 3] = x, y, z
    return motion


def failed(data: bytes) -> dict[str, Finding]:
    """The findings that failed, by the words that they begin with."""
    begins = (SOLIDS, UNITS, BROKEN, DISTANCE, ABSENT, ROUND)
    findings = reread_step(block(), data)
    assert len(findings) == len(begins)
    assert all(finding.check == "files" and finding.hint and finding.source for finding in findings)
    named = dict(zip(begins, findings, strict=True))
    assert all(finding.what.startswith(words) for words, finding in named.items())
    return {words: finding for words, finding in named.items() if finding.verdict == "fail"}


def in_block(finding: Finding) -> FloatArray:
    """The place of a finding in the frame of the block, mm."""
    assert finding.where_mm is not None
    return np.asarray((np.array(finding.where_mm) - POSE[:3, 3]) @ POSE[:3, :3])


def test_a_step_file_is_read_with_names_unit_and_what_bounds_each_solid() -> None:
    units, solids = read_step(block().step)
    assert units == ("millimetre",)
    assert [one.name for one in solids] == ["bore-a", "bore-b", "slot-1", "label text", "label text"]
    assert all(one.whole for one in solids)
    assert [len(one.rounds) for one in solids[:3]] == [1, 1, 0]
    assert [len(one.planes) for one in solids[:3]] == [2, 2, 6]
    assert solids[0].rounds[0, 6] == pytest.approx(1.6)
    assert np.abs(solids[1].rounds[0, 3:6] @ POSE[:3, :3]) == pytest.approx(np.array([0.0, 0.1, 1.0]) / np.hypot(0.1, 1.0))
    assert np.array(solids[2].centre_mm) == pytest.approx(POSE[:3, :3] @ (15.0, 6.0, 4.0) + POSE[:3, 3])
    above = POSE[:3, :3] @ (15.0, 6.0, 11.0) + POSE[:3, 3]  # 1 mm above the end of the slot
    assert solids[2].distances_mm(above[None]) == pytest.approx(1.0)


def test_a_sound_file_passes_with_every_corner_within_the_triangles_tolerance() -> None:
    assert failed(block().step) == {}
    findings = reread_step(block(), block().step)
    assert findings[3].value < 0.011  # mm: the features' triangles, 0.01 mm


@pytest.mark.parametrize("name", ["bore-a", "bore-b", "slot-1"])
@pytest.mark.parametrize(("off_mm", "refused"), [(0.012, False), (0.025, True), (0.5, True)])
def test_a_solid_that_is_shifted_is_found_by_how_far_and_where(name: str, off_mm: float, refused: bool) -> None:
    found = failed(changed(name, moved(x=off_mm)))
    assert (DISTANCE in found) == refused
    if refused:
        finding = found[DISTANCE]
        assert finding.value == pytest.approx(off_mm, abs=0.011)
        corners = block().mesh.vertices_mm[block().mesh.faces[block().face_labels == block().labels.index(name)]]
        assert np.linalg.norm(corners.reshape(-1, 3) - finding.where_mm, axis=1).min() < 1e-6
        with pytest.raises(MachineError, match=r"solid of parts/block\.step that made its face .* at most 0\.02 mm, at \("):
            refuse_failed(list(found.values()))


def test_letters_that_are_shifted_are_found() -> None:
    assert DISTANCE not in failed(changed("label text", np.eye(4)))
    motion = moved(y=0.4)
    data = step_of((*features()[:3], replace(placed(features()[3], "label text", motion))), pose=POSE)
    finding = failed(data)[DISTANCE]
    assert finding.value == pytest.approx(0.4, abs=0.05)
    assert in_block(finding)[1] == pytest.approx(11.0, abs=0.2), "their lower edge, left behind"


@pytest.mark.parametrize(("diameter_mm", "refused"), [(3.23, False), (3.26, True), (3.0, True)])
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


def test_a_mirrored_file_is_found() -> None:
    other = cylinder("bore-b", start_mm=(24.0, 5.0, -1.0), axis=(0.0, -0.1, 1.0), diameter_mm=4.0, length_mm=12.0)
    finding = failed(step_of((features()[0], other, *features()[2:]), pose=POSE))[DISTANCE]
    assert np.abs(in_block(finding)[0] - 24.0) < 2.1
    assert finding.value == pytest.approx(2.0 * 0.1 * 9.0, abs=0.1)


def test_a_bore_that_is_missing_or_too_many_is_found_at_its_axis() -> None:
    found = failed(step_of((features()[0], *features()[2:]), pose=POSE))
    assert set(found) == {ROUND}
    assert found[ROUND].value == 1.0
    assert np.linalg.norm(in_block(found[ROUND])[:2] - (24.0, 5.4)) < 1.0
    third = placed(features()[0], "bore-a", moved(x=3.7))
    found = failed(step_of((*features(), third), pose=POSE))
    assert set(found) == {ABSENT}
    assert np.linalg.norm(in_block(found[ABSENT])[:2] - (9.7, 5.0)) < 0.01


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
    assert {SOLIDS, BROKEN, ROUND} <= set(found)
    assert in_block(found[BROKEN]) == pytest.approx(np.zeros(3), abs=1e-6)
    with pytest.raises(MachineError, match=r"parts/block\.step cannot be read back"):
        reread_step(block(), b"solid block\n")
