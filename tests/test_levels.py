"""Levels of vertebrae: what a person says is counted on through the spine, and what contradicts it or the scan is refused."""

from __future__ import annotations

import datetime as dt
import io
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchone.design.families import load_families
from batchone.pipeline.case import case_folder, run_case
from batchone.pipeline.case_labels import confirm_levels
from batchone.pipeline.case_order import read_case_order
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.errors import OrderError
from batchone.pipeline.job.levels import levels_picture
from batchone.pipeline.labels import VERTEBRAE, Label, VoxelLabels
from batchone.pipeline.order import Target, order_text, parse_order
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Anatomy, Scan, SeriesRecord, Side
from batchone.segment.confirmed import from_above, level_findings, meant, open_levels, with_levels
from batchone.segment.label_map import LabelMap, compact
from batchone.segment.ordered import Wanted, wanted_bones

RECORD = SeriesRecord("CT", "", "", "", "HFS", 1, 1.0, 1.0, (1.0, 1.0), 0.0, "", "5" * 64)
STEP = 12  # voxels of 2 mm from one vertebra to the next


def spine(count: int, *, named: str = "", missing: int = 0, ribs: bool = False, sacrum: bool = False) -> VoxelLabels:
    """A column of blocks, counted from above or named from ``named`` on; after the ``missing``-th one place is empty."""
    voxels = np.zeros((STEP * (count + 2), 20, 60), dtype=np.uint8)
    labels: list[Label] = []

    def add(name: str, at: int, columns: slice, side: Side = "midline", *, number: str = "none", beside: int = 0) -> int:
        value = len(labels) + 1
        voxels[max(at, 0) : at + STEP - 3, 4:16, columns] = value
        labels.append(Label(value, name, side, True, 0.5, number, "counted", beside))  # type: ignore[arg-type]
        return value

    first = VERTEBRAE.index(named) if named else 0
    for k in range(1, count + 1):
        at = STEP * (count + 1 - k - (1 if missing and k > missing else 0))
        name = VERTEBRAE[first + k - 1] if named else f"vertebra-{k}"
        value = add(name, at, slice(24, 36), number="estimated")
        if ribs:
            add("rib", at, slice(40, 50), "left", number="estimated", beside=value)
            add("rib", at, slice(10, 20), "right", number="estimated", beside=value)
    if sacrum:
        add("sacrum", 0, slice(24, 36))
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return replace(compact(LabelMap(voxels, affine, tuple(labels))), scan=RECORD.sources_digest)


def word(counted: int, **levels: str) -> Target:
    return Target(
        levels={key.replace("_", "-"): level for key, level in levels.items()}, counted=counted, level_confirmed_by="me"
    )


def names(labels: VoxelLabels) -> list[str]:
    return [label.name for label in from_above(labels)]


# --- counting on --------------------------------------------------------------------------------------------------------------


def test_one_named_vertebra_names_all_others_and_their_ribs_in_order() -> None:
    found = with_levels(spine(8, ribs=True), word(8, vertebra_4="T9"))
    assert names(found) == ["t6", "t7", "t8", "t9", "t10", "t11", "t12", "l1"]
    assert {label.numbering for label in found.labels} == {"confirmed"}
    ribs = [label.title for label in found.labels if label.name.startswith("rib")]
    assert ribs[:2] == ["rib-6 left", "rib-6 right"]
    assert ribs[-2:] == ["rib left", "rib right"]  # of L1: no number
    evidence = from_above(found)[0].evidence
    assert evidence == "vertebra-4 is T9: confirmed by me, the others counted on; the scan itself: counted"


def test_vertebrae_are_counted_from_above_whatever_way_the_scan_was_stored() -> None:
    labels = spine(5)
    voxels = np.zeros(labels.shape, dtype=np.uint8)
    flat = voxels.reshape(-1)
    for start, length, value in zip(labels.start, labels.length, labels.value, strict=True):
        flat[start : start + length] = value
    turned = labels.affine @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, labels.shape[0] - 1], [0, 0, 0, 1]])
    other = compact(LabelMap(np.ascontiguousarray(voxels[::-1]), turned, labels.labels))
    assert [label.value for label in from_above(other)] == [label.value for label in from_above(labels)]


@pytest.mark.parametrize(
    ("count", "place", "level", "reason"),
    [
        (8, 2, "C2", None),
        (8, 3, "C2", "leaves room for 1 vertebrae above, the scan shows 2"),
        (8, 6, "L3", None),
        (8, 6, "L4", "leaves room for 1 vertebrae below, the scan shows 2"),
        (8, 8, "L5", None),
        (8, 9, "T9", "names vertebra-9, the scan shows 8 vertebrae"),
        (3, 2, "L6", "leaves room for 0 vertebrae below, the scan shows 1"),
        (3, 3, "L6", None),
    ],
)
def test_a_spine_must_fit_between_c1_and_l5(count: int, place: int, level: str, reason: str | None) -> None:
    target = word(count, **{f"vertebra_{place}": level})
    if reason is None:
        assert names(with_levels(spine(count), target))[place - 1] == level.lower()
        return
    with pytest.raises(OrderError, match=reason):
        with_levels(spine(count), target)


def test_two_words_that_disagree_are_refused_and_two_that_agree_are_not() -> None:
    assert names(with_levels(spine(4), word(4, vertebra_1="T11", vertebra_3="L1"))) == ["t11", "t12", "l1", "l2"]
    with pytest.raises(OrderError, match=r"vertebra-1 = T12 makes vertebra-3 L2, not L1"):
        with_levels(spine(4), word(4, vertebra_1="T12", vertebra_3="L1"))
    with pytest.raises(OrderError, match=r"vertebra-1 = L1 makes vertebra-2 L2, not T12"):
        with_levels(spine(4), word(4, vertebra_1="L1", vertebra_2="T12"))


def test_a_thirteenth_thoracic_vertebra_counts_only_where_it_is_named() -> None:
    assert names(with_levels(spine(4), word(4, vertebra_2="T13"))) == ["t12", "t13", "l1", "l2"]
    assert names(with_levels(spine(4), word(4, vertebra_1="T12"))) == ["t12", "l1", "l2", "l3"]


def test_another_number_of_vertebrae_than_the_picture_showed_is_refused() -> None:
    with pytest.raises(OrderError, match=r"counted is 7, the scan shows 8 vertebrae"):
        with_levels(spine(8), word(7, vertebra_4="T9"))
    unstated = Target(levels={"vertebra-4": "T9"}, level_confirmed_by="me")
    assert names(with_levels(spine(8), unstated))[3] == "t9"
    with pytest.raises(OrderError, match=r"counted is 8, the scan shows 0 vertebrae"):
        with_levels(replace(spine(1), labels=()), word(8, vertebra_4="T9"))


# --- what the scan shows ------------------------------------------------------------------------------------------------------


def test_ribs_on_both_sides_make_no_lumbar_vertebra_and_are_odd_at_l1() -> None:
    labels = spine(3, ribs=True)
    with pytest.raises(OrderError, match=r"would make vertebra-3 L2, but it bears ribs on both sides"):
        with_levels(labels, word(3, vertebra_3="L2"))
    found = with_levels(labels, word(3, vertebra_3="L1"))
    findings = level_findings(found, from_above(found)[:1], (), needed=True)
    assert [(f.check, f.verdict) for f in findings] == [("level_confirmed", "pass"), ("level_ribs", "warn")]
    found = with_levels(labels, word(3, vertebra_3="T12"))
    assert [f.check for f in level_findings(found, from_above(found)[:1], (), needed=True)] == ["level_confirmed"]


def test_above_the_sacrum_lies_a_last_lumbar_vertebra() -> None:
    labels = spine(3, sacrum=True)
    assert names(with_levels(labels, word(3, vertebra_3="L4")))[-1] == "l4"  # a sacrum that has taken L5 in
    with pytest.raises(OrderError, match=r"would make vertebra-3 L3, but the sacrum lies right below it"):
        with_levels(labels, word(3, vertebra_3="L3"))


def test_nobody_counts_across_a_gap_in_which_a_vertebra_may_be_missing() -> None:
    with pytest.raises(OrderError, match=r"vertebra-3 and vertebra-4 lie 48 mm apart, their neighbours 24 mm"):
        with_levels(spine(6, missing=3), word(6, vertebra_2="T9"))


def test_two_anchors_are_not_overruled_by_a_word() -> None:
    labels = spine(3, named="l1")
    certain = replace(labels, labels=tuple(replace(one, numbering="certain") for one in labels.labels))
    assert names(with_levels(certain, word(3, vertebra_1="L1"))) == ["l1", "l2", "l3"]
    with pytest.raises(OrderError, match=r"would make vertebra-1 L2, the scan shows that it is L1"):
        with_levels(certain, word(3, vertebra_1="L2"))


def test_an_estimate_is_taken_as_confirmed_or_overruled() -> None:
    labels = spine(3, named="t9")
    alone = with_levels(labels, Target(level_confirmed_by="me"))
    assert [(one.name, one.numbering) for one in from_above(alone)] == [
        ("t9", "confirmed"),
        ("t10", "confirmed"),
        ("t11", "confirmed"),
    ]
    assert names(with_levels(labels, word(3, vertebra_1="T8"))) == ["t8", "t9", "t10"]
    counted = with_levels(spine(3), Target(level_confirmed_by="me"))
    assert {one.numbering for one in counted.labels} == {"estimated"}  # a count is no proposal


def test_ribs_of_a_program_move_with_its_vertebrae() -> None:
    labels = spine(3, named="t9", ribs=True)
    number = iter((9, 9, 10, 10, 11, 11))
    named = tuple(replace(one, name=f"rib-{next(number)}", vertebra=0) if one.name == "rib" else one for one in labels.labels)
    found = with_levels(replace(labels, labels=named), word(3, vertebra_1="T8"))
    assert [one.name for one in found.labels if one.name.startswith("rib")] == [f"rib-{n}" for n in (8, 8, 9, 9, 10, 10)]


# --- what waits, and what a person is told ------------------------------------------------------------------------------------


def test_a_level_waits_where_vertebrae_are_only_counted_and_is_refused_where_they_are_known() -> None:
    wanted = (Wanted("t9", None), Wanted("sternum", None))
    counted = spine(3).labels
    assert open_levels(counted, wanted, proposed=False) == (Wanted("t9", None),)
    estimated = spine(3, named="l1").labels
    assert open_levels(estimated, wanted, proposed=True) == (Wanted("t9", None),)
    assert open_levels(estimated, wanted, proposed=False) == ()
    confirmed = with_levels(spine(3), word(3, vertebra_1="L1")).labels
    assert open_levels(confirmed, wanted, proposed=True) == ()


def test_a_guide_waits_for_a_level_that_a_model_is_only_warned_of() -> None:
    labels = spine(3, named="t9")
    (t9, *_) = from_above(labels)
    for needed, verdict in ((True, "fail"), (False, "warn")):
        (finding,) = level_findings(labels, (t9,), (), needed=needed)
        assert (finding.check, finding.verdict, finding.value) == ("level_confirmed", verdict, 1.0)
        assert "--level vertebra-1=T9 --as NAME`, if it is as the scan proposes" in finding.hint
        assert '[target] levels = {vertebra-1 = "T9"}, counted = 3, level_confirmed_by = "NAME"' in finding.hint
    femur = Label(9, "femur", "left", True, 0.9)
    assert level_findings(labels, (femur,), (), needed=True) == ()


def test_a_bone_that_is_ordered_by_its_count_is_found_under_its_confirmed_name() -> None:
    found = from_above(with_levels(spine(3), word(3, vertebra_1="T9")))
    assert meant((Wanted("vertebra-2", None), Wanted("vertebra-4", None)), found)[0].name == "t10"
    assert meant((Wanted("vertebra-4", None),), found)[0].name == "vertebra-4"  # there is none: refused later, by name


def test_families_for_a_level_ask_for_a_person() -> None:
    asking = {name for name, family in load_families().items() if family.limits.protocol.confirms_level}
    assert asking == {"pedicle-guide"}


def test_an_order_carries_the_word_and_refuses_half_of_one() -> None:
    models = {name: family.parameters for name, family in load_families().items()}
    base = {"case": "a", "device": "anatomical-model", "side": "midline", "process": "pa12-sls", "machine": "sim-01"}
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    whole = {"bones": ["T9"], "levels": {"vertebra-4": "T9"}, "counted": 8, "level_confirmed_by": "code-17"}
    order = parse_order({**base, "due": due, "target": whole}, models)
    assert parse_order(tomllib.loads(order_text(order)), models) == order
    assert wanted_bones(order) == (Wanted("t9", None),)
    for part, reason in (
        ({"levels": {"vertebra-4": "T9"}}, "level_confirmed_by does not say by whom"),
        ({"levels": {"vertebra-4": "T14"}, "counted": 8, "level_confirmed_by": "a"}, r"target.levels.vertebra-4"),
        ({"levels": {"4": "T9"}, "counted": 8, "level_confirmed_by": "a"}, r"target.levels.4"),
        ({"counted": 8}, "counted is given, but no levels"),
    ):
        with pytest.raises(OrderError, match=reason):
            parse_order({**base, "due": due, "target": part}, models)


def test_the_numbered_picture_shows_both_views_whatever_way_the_scan_was_stored() -> None:
    labels = spine(4)
    voxels = np.zeros(labels.shape, dtype=np.uint8)
    for start, length, value in zip(labels.start, labels.length, labels.value, strict=True):
        voxels.reshape(-1)[start : start + length] = value
    hu = np.where(voxels > 0, 600, 40).astype(np.int16)
    png = levels_picture(Scan(hu, labels.affine, RECORD), labels)
    assert png is not None
    picture = np.asarray(Image.open(io.BytesIO(png)))
    assert picture.shape[1] > 500
    last = [labels.shape[2] - 1, 0, labels.shape[0] - 1, 1]
    flipped = labels.affine @ np.column_stack([np.diag([-1.0, 1.0, -1.0, 0.0])[:, :3], last])
    turned = compact(LabelMap(np.ascontiguousarray(voxels[::-1, :, ::-1]), flipped, labels.labels))
    again = levels_picture(Scan(np.ascontiguousarray(hu[::-1, :, ::-1]), flipped, RECORD), turned)
    assert again == png
    assert levels_picture(Scan(hu, labels.affine, RECORD), replace(labels, labels=())) is None


def test_a_vertebra_far_beside_the_others_is_in_the_picture() -> None:
    voxels = np.zeros((20, 10, 300), dtype=np.uint8)
    voxels[12:18, 3:7, 2:8] = 1
    voxels[2:8, 3:7, 290:296] = 2
    named = tuple(Label(value, f"vertebra-{value}", "midline", True, 0.5, "estimated") for value in (1, 2))
    labels = compact(LabelMap(voxels, np.eye(4), named))
    assert levels_picture(Scan(voxels.astype(np.int16) * 300, np.eye(4), RECORD), labels) is not None


# --- a real scan --------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_a_real_thorax_waits_for_a_person_and_then_has_t9_to_t11_in_order(test_data: Path, tmp_path: Path) -> None:
    (tmp_path / "order.toml").write_text(
        'case = "thorax-1"\ndevice = "anatomical-model"\nside = "midline"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
        'due = 2026-11-24T08:00:00Z\n[target]\nbones = ["T9", "T10", "T11"]\n'
    )
    order = read_case_order(tmp_path / "order.toml")
    waiting = run_case(order, test_data / "thorax.zip", site=tmp_path, approve_as="tester")
    assert (waiting.status, waiting.job) == ("awaiting-level", None)
    (finding,) = [f for f in waiting.findings if f.check == "level_confirmed"]
    assert (finding.verdict, finding.value) == ("fail", 3.0)
    assert "segment/levels.png" in finding.hint
    assert "counted = 8" in finding.hint
    folder = case_folder(tmp_path, "thorax-1")
    with Image.open(folder / "segment" / "levels.png") as picture:
        assert min(picture.size) > 800
    assert case_status("thorax-1", tmp_path).status == "awaiting-level"
    before = (folder / "order.toml").read_bytes()
    for level, reason in (("vertebra-4=T13", "bears ribs"), ("vertebra-4=L3", "room for 2"), ("vertebra-4=X1", "vertebra-4")):
        with pytest.raises(OrderError, match=reason):
            confirm_levels(tmp_path, order, [level], who="code-17")
    assert (folder / "order.toml").read_bytes() == before
    order = confirm_levels(tmp_path, order, ["vertebra-4=T9"], who="code-17")
    assert run_case(order, None, site=tmp_path, until="segment").status == "awaiting-approval"
    anatomy: Anatomy = CaseFolder(folder).load("segment")
    assert [(bone.name, bone.numbering, bone.complete) for bone in anatomy.bones] == [
        ("t9", "confirmed", True),
        ("t10", "confirmed", True),
        ("t11", "confirmed", True),
    ]
    heights = [float(bone.mesh.vertices_mm[:, 2].mean()) for bone in anatomy.bones]
    assert heights == sorted(heights, reverse=True)
    assert all("code-17" in bone.evidence for bone in anatomy.bones)
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    (event,) = [one for one in events if one["what"] == "level confirmed: vertebra-4 is T9"]
    assert event["who"] == "code-17"
    assert order.target.counted == 8
