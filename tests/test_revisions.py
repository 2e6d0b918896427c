"""The devices that a case has had: kept once each, with their orders, whole and never touched again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchone.pipeline import codec
from batchone.pipeline.revisions import FOLDER, keep_revision, made_for, revisions
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import CheckedDevice, Device


def check(case: CaseFolder, device: str) -> CheckedDevice:
    """A checked device in the case, as the stage leaves it."""
    value = CheckedDevice(Device(device, ()), ())

    def write(into: Path) -> dict[str, Any]:
        return {"started": "2026-01-01T00:00:00+00:00", "value_digest": codec.save(value, into), "findings": {"$tuple": []}}

    case.publish("check", write)
    (case.path / "order.toml").write_text(f'device = "{device}"\n')
    return value


@pytest.fixture
def case(tmp_path: Path) -> CaseFolder:
    return CaseFolder(tmp_path / "cases" / "c-1")


def test_each_device_is_kept_once_with_its_order_and_an_earlier_one_stays_as_it_was(case: CaseFolder) -> None:
    assert (revisions(case.path), made_for(case.path)) == ((), None)
    values = []
    for device, order, number in (("a", "1", 1), ("b", "2", 2), ("b", "3", 2), ("a", "1", 3)):
        values.append(check(case, device))
        assert keep_revision(case, order).number == number
        assert made_for(case.path) == order
    kept = revisions(case.path)
    assert [(one.number, one.order) for one in kept] == [(1, "1"), (2, "2"), (3, "1")]  # b was made for order 2 first
    for one, value in zip(kept, (values[0], values[1], values[3]), strict=True):
        assert one.device == codec.digest(codec.load(one.folder)) == codec.digest(value)
        assert value.device.family in (one.folder / "order.toml").read_text()


def test_what_a_dead_process_left_half_kept_is_no_revision(case: CaseFolder) -> None:
    check(case, "a")
    staging = case.staging(f"{FOLDER}-0001")
    (staging / "revision.json").write_text(json.dumps({"made": "", "device": "d", "order": "1"}))
    assert revisions(case.path) == ()
    with case.locked():
        assert not staging.exists()
        assert keep_revision(case, "1").number == 1
    assert [one.number for one in revisions(case.path)] == [1]


def test_a_file_system_without_second_names_gets_a_copy(case: CaseFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    check(case, "a")
    monkeypatch.setattr("os.link", refused)
    found = keep_revision(case, "1")
    assert (found.folder / "value.json").read_bytes() == (case.path / "check" / "value.json").read_bytes()
    assert (found.folder / "value.json").stat().st_nlink == 1
