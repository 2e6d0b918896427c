"""Good devices of every family give no failing finding (every end of every parameter: ``python -m benchmarks.good_devices``), and
stand so that their functional faces carry no support (every kind by every process: ``python -m benchmarks.carrying``)."""

from __future__ import annotations

import datetime as dt

import pytest

from batchone.design.checks.channels import channel_findings
from batchone.design.make import design, plan
from batchone.pipeline.values import Approval, CheckedDevice
from batchone.samples.faulty.good import bones, good, order
from batchone.samples.faulty.judging import all_findings
from batchone.slicer.make import slice_device
from batchone.slicer.profiles import load_machine, load_process

# each family on bones of another shape, at ends that change its shape most
DEVICES = [
    ("pedicle-guide", 2, {"sleeve_mm": 30.0, "hook_mm": 0.0}),
    ("tibial-guide", 2, {"approach": "lateral", "engrave": False}),
    ("resin-guide", 0, {}),
    ("cranial-implant", 1, {"thickness_mm": 6.0}),
    ("cranial-implant", 2, {"perforation_mm": 4.0, "perforation_pitch_mm": 10.0}),
    ("anatomical-model", 1, {"simplify_mm": 0.2}),
    ("hollow-model", 2, {"escape_holes": 6}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "bone", "parameters"), DEVICES)
def test_a_good_device_gives_no_failing_finding(kind: str, bone: int, parameters: dict[str, object]) -> None:
    found = all_findings(good(kind, *bones(kind)[bone], **parameters))
    assert [f"{one.what}: {one.value:.4g} ({one.limit})" for one in found if one.verdict == "fail"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "process"),
    [
        ("tibial-guide", "ti64-lpbf"),  # its slit leaves lips that begin in the air in most ways up
        ("pedicle-guide", "peek-fff"),  # its letters have places that no line has room in
        ("anatomical-model", "guide-resin"),  # all faces of its cube but one are measured
    ],
)
def test_functional_faces_of_a_device_carry_no_support_in_the_way_up_that_is_chosen(kind: str, process: str) -> None:
    anatomy, proposal = bones(kind)[0]
    wanted = order(kind).model_copy(update={"process": process})
    device = design(anatomy, proposal or plan(anatomy, wanted), wanted, load_process(process))
    approval = Approval("TEST^ALPHA", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "release", "ab" * 32, "")
    build = slice_device(CheckedDevice(device, ()), approval, load_process(process), load_machine("sim-01"))
    gates = {"orient.functional", "supports.on_functional", "supports.islands", "toolpath.functional_supports"}
    judged = [finding for finding in build.findings if finding.check in gates]
    assert len(judged) >= len(device.parts)
    assert [finding.value for finding in judged] == [0.0] * len(judged)
    assert [finding.check for finding in build.findings if finding.verdict == "fail"] == []


@pytest.mark.slow
def test_a_narrow_nook_between_two_features_that_opens_into_a_wider_one_is_no_channel() -> None:
    device = good("pedicle-guide", *bones("pedicle-guide")[2])
    (found,) = channel_findings(device.device.parts[0], device.process)
    assert (found.verdict, found.where_mm) == ("pass", None)
