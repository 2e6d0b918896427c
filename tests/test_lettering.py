"""Engraved text on a block of known size is read back from its picture; mirrored, shallow, hidden or spoilt text is not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from batchone.design.booleans import Solid, box_solid, difference, solid_from_mesh, to_part, union
from batchone.design.families import load_families
from batchone.design.guide.label import LABEL, engraved, letters_mm
from batchone.design.guide.label_checks import label_findings
from batchone.design.guide.label_text import fitting, label_mm, revision, wordings
from batchone.design.lettering.glyphs import CHARACTERS
from batchone.design.lettering.picture import LEAST_DEPTH_MM, pictured
from batchone.design.lettering.reading import LEAST_LEAD, LEAST_MATCH, Reading, read
from batchone.design.solid import cylinder
from batchone.pipeline.order import Order
from batchone.pipeline.values import FloatArray, Mesh, Part
from batchone.slicer.profiles import load_process

PROCESS = load_process("pa12-sls")
LIMITS = load_families()["pedicle-guide"].limits
LINES = ("demo-0001", "T9 L 1of2 #3FA2")
ALL = CHARACTERS.replace('"', "")  # a double quote is two single ones


def pose() -> FloatArray:
    found = np.eye(4)
    found[:3, :3] = Rotation.from_euler("xyz", [10.0, 20.0, 37.0], degrees=True).as_matrix()
    found[:3, 3] = (40.0, -25.0, 130.0)
    return found


def block(lines: tuple[str, ...], *, deep_mm: float = 1.0, more: Solid | None = None) -> Part:
    """A flat block with a label in its upper face; ``more`` is put on top."""
    turned = pose()
    process = PROCESS.model_copy(update={"engrave_depth_mm": deep_mm})
    marks = engraved(
        lines, process, middle_mm=turned[:3, 3], right=turned[:3, 0], up=turned[:3, 1], length_mm=100.0, thick_mm=4.0
    )
    solid = box_solid(np.array([-50.0, -12.0, -4.0]), np.array([50.0, 12.0, 0.0]), "block", pose=turned)
    solid = difference(solid, *(solid_from_mesh(mark.mesh, LABEL) for mark in marks), what="label")
    return to_part(solid if more is None else union(solid, more, what="block"), "block")


@cache
def plain() -> Part:
    return block(LINES)


def said(part: Part) -> Reading:
    found = pictured(part, LABEL, height_mm=letters_mm(PROCESS))
    assert found is not None
    return read(found)


def bar(diameter_mm: float) -> Solid:
    """A round bar that stands in the middle of the label."""
    x, y, z = pose()[:3, 3]
    axis = pose()[:3, 2]
    feature = cylinder("bar", start_mm=(x, y, z), axis=tuple(axis), diameter_mm=diameter_mm, length_mm=5.0)
    return solid_from_mesh(feature.mesh, "bar")


def test_a_label_is_read_from_its_picture_and_its_arrow_found() -> None:
    found = said(plain())
    assert found.lines == ("demo-0001", "T9L1of2#3FA2")
    assert found.match > 0.9
    assert found.lead > 0.05
    assert found.up == pytest.approx(pose()[:3, 1], abs=1e-3)


def test_every_character_of_the_font_is_told_from_every_other() -> None:
    found = said(block((ALL[:31], ALL[31:62], ALL[62:])))
    assert "".join(found.lines) == ALL
    assert found.match > LEAST_MATCH
    assert found.lead > LEAST_LEAD


def test_a_mirrored_label_is_not_read() -> None:
    part = plain()
    mirrored = Part(
        part.name, Mesh(part.mesh.vertices_mm * [-1.0, 1.0, 1.0], part.mesh.faces[:, ::-1]), part.face_labels, part.labels
    )
    assert said(mirrored).lines == ()
    assert said(block(("H8H", "AOA"))).lines == ("H8H", "AOA")  # letters that are their own mirror images


@pytest.mark.parametrize(("deep_mm", "lines"), [(LEAST_DEPTH_MM + 0.02, ("T9", "L")), (LEAST_DEPTH_MM - 0.02, ())])
def test_a_label_too_shallow_to_be_seen_is_not_read(deep_mm: float, lines: tuple[str, ...]) -> None:
    assert said(block(("T9", "L"), deep_mm=deep_mm)).lines == lines


def test_a_label_that_something_hides_is_not_read() -> None:
    found = said(block(LINES, more=bar(6.0)))
    assert "".join(found.lines) != "demo-0001T9L1of2#3FA2"


def test_a_part_without_a_label_has_no_picture() -> None:
    solid = box_solid(np.zeros(3), np.ones(3), "block")
    assert pictured(to_part(solid, "block"), LABEL, height_mm=2.0) is None


def order(**changed: object) -> Order:
    given = {
        "case": "demo-0001",
        "device": "pedicle-guide",
        "side": "left",
        "process": "pa12-sls",
        "machine": "sim-01",
        "due": "2026-11-30T08:00:00Z",
    }
    return Order.model_validate({**given, **changed}, strict=False)


def verdicts(part: Part, choices: tuple[tuple[str, ...], ...], turned_deg: float = 0.0) -> list[str]:
    up, right = pose()[:3, 1], pose()[:3, 0]
    head = np.cos(np.radians(turned_deg)) * up + np.sin(np.radians(turned_deg)) * right
    return [f.verdict for f in label_findings(part, (head,), choices, PROCESS, LIMITS)]


def test_what_is_read_is_judged_against_what_was_meant() -> None:
    assert verdicts(plain(), (LINES,)) == ["pass", "pass"]
    assert verdicts(plain(), (("demo-0001", "T9 L 1of2 #0000"), LINES)) == ["pass", "pass"]
    assert verdicts(plain(), (("demo-0001", "T8 L 1of2 #3FA2"),)) == ["fail", "pass"]
    assert verdicts(block(("demo-", "0001", LINES[1])), (LINES,)) == ["pass", "pass"]  # broken to a line more
    bare = to_part(box_solid(np.zeros(3), np.ones(3), "block"), "block")
    assert verdicts(bare, (LINES,)) == ["fail", "fail"]


@pytest.mark.parametrize(("turned_deg", "verdict"), [(44.5, "pass"), (45.5, "fail"), (-44.5, "pass"), (180.0, "fail")])
def test_the_arrow_is_judged_against_the_head(turned_deg: float, verdict: str) -> None:
    assert verdicts(plain(), (LINES,), turned_deg) == ["pass", verdict]


def test_an_arrow_may_point_along_any_of_some_directions() -> None:
    up, right = pose()[:3, 1], pose()[:3, 0]
    assert [f.verdict for f in label_findings(plain(), (right, up), (LINES,), PROCESS, LIMITS)] == ["pass", "pass"]
    assert [f.verdict for f in label_findings(plain(), (right, -up), (LINES,), PROCESS, LIMITS)] == ["pass", "fail"]


def test_what_has_no_room_is_left_out_from_the_end_and_named() -> None:
    one = order(case="d-1")
    choices = wordings(one, "T9 L", number=1, of=2)
    assert choices == (("d-1", f"T9 L 1of2 {revision(one)}"), ("d-1", "T9 L 1of2"), ("d-1", "T9 L"))
    for choice in choices:
        assert fitting(choices, PROCESS, length_mm=label_mm(choice, PROCESS) + 0.2) == choice
    deep = wordings(one, "T9 L", number=1, of=2, depths="SAW 61/58")
    assert deep == (("d-1", f"T9 L 1of2 SAW 61/58 {revision(one)}"), ("d-1", "T9 L 1of2 SAW 61/58"), *choices[1:])
    short = fitting(choices, PROCESS, length_mm=5.0)
    (found, _) = label_findings(block(short), (pose()[:3, 1],), choices, PROCESS, LIMITS)
    assert found.what.endswith(f"no room for 1of2 {revision(one)}")


def test_the_length_of_a_label_is_that_of_its_letters() -> None:
    part = plain()
    own = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(LABEL)])]
    spare = label_mm(LINES, PROCESS) - 2 * 1.1 - float(np.ptp(own @ pose()[:3, 0]))  # 1.1 mm of margin at both ends
    assert -0.05 <= spare <= 0.6


def test_the_revision_changes_with_what_makes_the_device_and_with_nothing_else() -> None:
    assert revision(order()) == revision(order(due="2027-01-01T08:00:00Z", machine="other"))
    assert revision(order()) != revision(order(instruments={"drill_mm": 3.2}))
    assert revision(order()) != revision(order(side="right"))
