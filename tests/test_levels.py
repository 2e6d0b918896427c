"""Levels of the spine that a person names: renaming, contradictions, the gate of families that need it, the numbered picture."""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from batchone.design.families import load_families
from batchone.pipeline.errors import OrderError
from batchone.pipeline.job.levels import levels_picture, to_be_named
from batchone.pipeline.labels import unconfirmed_levels
from batchone.pipeline.order import Order, Target, order_text, parse_order
from batchone.pipeline.values import Label, VoxelLabels
from batchone.segment.confirmed import confirmed
from batchone.segment.label_map import LabelMap, compact
from batchone.segment.ordered import wanted_bones, without_level

COUNTED = tuple(Label(k, f"vertebra-{k}", "midline", True, 0.5, "estimated", "counted") for k in range(1, 5))
GUESSED = (
    Label(1, "t10", "midline", True, 0.5, "estimated", "one anchor"),
    Label(2, "t11", "midline", True, 0.5, "estimated", "one anchor"),
    Label(3, "rib-11", "left", True, 0.5, "estimated", "touches t11"),
    Label(4, "sternum", "midline", True, 0.9),
)


def named(labels: tuple[Label, ...], **levels: str) -> dict[int, str]:
    target = Target(levels={key.replace("_", "-"): value for key, value in levels.items()}, level_confirmed_by="code-17")
    return {label.value: label.name for label in confirmed(labels, target)}


def order(*bones: str, levels: dict[str, str] | None = None, by: str | None = None) -> Order:
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    target = Target(bones=bones, levels=levels or {}, level_confirmed_by=by)
    return Order(case="t-1", device="pedicle-guide", side="midline", process="pa12-sls", machine="sim-01", due=due, target=target)


def test_one_vertebra_named_names_all() -> None:
    assert named(COUNTED, vertebra_2="T9") == {1: "t8", 2: "t9", 3: "t10", 4: "t11"}
    assert named(COUNTED, vertebra_2="T12") == {1: "t11", 2: "t12", 3: "l1", 4: "l2"}


def test_a_named_level_is_certain_and_says_by_whom() -> None:
    found = confirmed(COUNTED, Target(levels={"vertebra-2": "T9"}, level_confirmed_by="code-17"))
    assert {label.numbering for label in found} == {"certain"}
    assert found[1].evidence.startswith("named by code-17: vertebra-2 = t9")


def test_a_guessed_spine_is_shifted_with_its_ribs_and_nothing_else() -> None:
    assert named(GUESSED, t11="T12") == {1: "t11", 2: "t12", 3: "rib-12", 4: "sternum"}
    assert named(GUESSED, t11="L1") == {1: "t12", 2: "l1", 3: "rib", 4: "sternum"}  # a rib of L1 has no number


def test_two_names_that_agree_are_taken_and_two_that_do_not_are_refused() -> None:
    assert named(COUNTED, vertebra_1="T8", vertebra_4="T11")[2] == "t9"
    with pytest.raises(OrderError, match="do not agree"):
        named(COUNTED, vertebra_1="T8", vertebra_4="T10")


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ({"vertebra_9": "T9"}, "vertebra-9 is no vertebra of this scan"),
        ({"vertebra_1": "T14"}, "T14 is no level"),
        ({"vertebra_4": "C3"}, "beyond C1 or L5"),
        ({"vertebra_1": "L3"}, "beyond C1 or L5"),
    ],
)
def test_impossible_names_are_refused(levels: dict[str, str], message: str) -> None:
    with pytest.raises(OrderError, match=message):
        named(COUNTED, **levels)


def test_the_first_and_the_last_level_are_possible() -> None:
    assert named(COUNTED, vertebra_1="C1")[4] == "c4"
    assert named(COUNTED, vertebra_4="L5")[1] == "l2"


def test_levels_without_a_person_are_refused_in_the_order() -> None:
    with pytest.raises(ValidationError, match="level_confirmed_by does not say by whom"):
        Target(levels={"vertebra-4": "T9"})


def test_an_order_with_levels_reads_back_as_it_was() -> None:
    import tomllib

    one = order("T9", levels={"vertebra-4": "T9"}, by="code-17")
    models = {name: family.parameters for name, family in load_families().items()}
    assert parse_order(tomllib.loads(order_text(one)), models).target == one.target


def test_only_levels_that_nothing_numbers_wait_for_a_person() -> None:
    wanted = wanted_bones(order("T9", "sacrum"))
    assert [one.name for one in without_level(COUNTED, wanted)] == ["t9"]
    assert without_level(GUESSED, wanted) == ()  # numbered: T9 is not in this scan, and that is said
    assert without_level(confirmed(COUNTED, Target(levels={"vertebra-2": "T9"}, level_confirmed_by="a")), wanted) == ()


def test_a_counted_vertebra_stays_open_whoever_confirms_it() -> None:
    assert unconfirmed_levels([("t9", "estimated"), ("vertebra-4", "estimated")], "code-17") == ("vertebra-4",)
    assert unconfirmed_levels([("t9", "estimated")], None) == ("t9",)
    assert unconfirmed_levels([("t9", "certain")], None) == ()


def test_families_for_a_level_ask_for_a_person() -> None:
    asking = {name for name, family in load_families().items() if family.limits.protocol.confirms_level}
    assert asking == {"pedicle-guide"}


def test_the_numbered_picture_shows_the_head_up_and_the_patients_right_on_the_left() -> None:
    voxels = np.zeros((60, 40, 80), dtype=np.uint8)  # slices towards the head, rows to the back, columns to the left
    voxels[40:55, 15:25, 35:45] = 1
    voxels[20:35, 15:25, 35:45] = 2
    voxels[40:50, 15:25, 48:70] = 3  # a rib on the patient's left
    labels = compact(LabelMap(voxels, np.eye(4), (*COUNTED[:2], Label(3, "rib", "left", True, 0.5))))
    assert isinstance(labels, VoxelLabels)
    assert to_be_named(labels)
    image = np.asarray(Image.open(io.BytesIO(levels_picture(labels))).convert("RGB")).astype(int)
    blue = (image[:, :, 2] > image[:, :, 0] + 12).nonzero()
    front = image[:, : image.shape[1] // 2]
    sand = ((front[:, :, 0] > front[:, :, 2] + 8) & (front[:, :, 0] > 150)).nonzero()
    spine = (front[:, :, 2] > front[:, :, 0] + 12).nonzero()
    assert len(blue[0]) > 0
    assert sand[1].mean() > spine[1].mean()  # the left rib is on the right of the picture
    assert sand[0].mean() < spine[0].mean()  # and at the upper vertebra


@pytest.mark.data
def test_the_real_thorax_waits_for_a_level_and_goes_on_when_it_is_named(test_data: Path) -> None:
    from batchone.pipeline.intake.make import intake
    from batchone.segment.make import segment

    protocol = load_families()["pedicle-guide"].limits.protocol.model_copy(update={"fits_cortex": False})
    scan, _ = intake(test_data / "thorax.zip", order("T9"), protocol)
    open_ = segment(scan, order("T9"), protocol=protocol)
    assert open_.bones == ()
    assert [f.verdict for f in open_.findings if f.check == "level_confirmed"] == ["fail"]
    closed = segment(scan, order("T9", levels={"vertebra-4": "T9"}, by="code-17"), protocol=protocol)
    assert [bone.name for bone in closed.bones] == ["t9"]
    assert all(f.verdict == "pass" for f in closed.findings if f.check == "level_confirmed")
