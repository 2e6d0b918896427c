"""Good devices of every family give no failing finding; every end of every parameter: ``python -m benchmarks.good_devices``."""

from __future__ import annotations

import pytest

from batchone.design.checks.channels import channel_findings
from batchone.samples.faulty.good import bones, good
from batchone.samples.faulty.judging import all_findings

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
def test_a_narrow_nook_between_two_features_that_opens_into_a_wider_one_is_no_channel() -> None:
    device = good("pedicle-guide", *bones("pedicle-guide")[2])
    (found,) = channel_findings(device.device.parts[0], device.process)
    assert (found.verdict, found.where_mm) == ("pass", None)
