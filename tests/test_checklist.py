"""The checklist at signing: every point is confirmed, and what was confirmed is signed; approvals of before hold."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest
import site_server

from batchone.design.families import load_families
from batchone.pipeline import codec
from batchone.pipeline.case_approval import confirmed_points, sign_case, standing_approval
from batchone.pipeline.commands.checklist import ticked_points
from batchone.pipeline.errors import MachineError, OrderError
from batchone.pipeline.job.signature import approval_key, sign_approval, verify_approval
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Approval

FAMILY = "anatomical-model"
POINTS = tuple(load_families()[FAMILY].limits.checklist)
TIME = dt.datetime(2026, 11, 22, 10, tzinfo=dt.UTC)


@pytest.fixture
def case(tmp_path: Path) -> tuple[CaseFolder, str]:
    folder = CaseFolder(site_server.make_case(tmp_path, "listed"))
    return folder, str((folder.record("check") or {})["value_digest"])


@pytest.mark.parametrize("name", sorted(load_families()))
def test_every_family_asks_for_side_or_level_and_for_the_three_planes(name: str) -> None:
    points = load_families()[name].limits.checklist
    assert {"planes"} < set(points)
    assert {"side", "level"} & set(points)
    assert all(point.text.isprintable() and point.source for point in points.values())


def test_every_point_must_be_ticked_and_no_other(case: tuple[CaseFolder, str], tmp_path: Path) -> None:
    folder, device = case
    for left_out in POINTS:
        ticked = [name for name in POINTS if name != left_out]
        with pytest.raises(OrderError, match=f"1 of the {len(POINTS)} points .* must be 0: {left_out}"):
            sign_case(tmp_path, "listed", who="eva", device=device, passphrase=site_server.PASSWORD, ticked=ticked)
    with pytest.raises(OrderError, match="has no point colour"):
        sign_case(tmp_path, "listed", who="eva", device=device, passphrase=site_server.PASSWORD, ticked=[*POINTS, "colour"])
    assert folder.record("review") is None
    assert not any("approved" in line for line in (folder.path / "events.jsonl").read_text().splitlines())


def test_what_was_confirmed_is_signed_word_by_word(case: tuple[CaseFolder, str], tmp_path: Path) -> None:
    _, device = case
    sign_case(tmp_path, "listed", who="eva", device=device, passphrase=site_server.PASSWORD, ticked=POINTS)
    approval = standing_approval(case[0], device, tmp_path / "keys")
    assert approval is not None
    assert approval.checklist == confirmed_points(FAMILY, POINTS)
    assert approval.confirmed == "one by one"
    (name, text), *others = approval.checklist
    faked: tuple[Approval, ...] = (
        replace(approval, checklist=tuple(others)),
        replace(approval, checklist=((name, text + " not"), *others)),
        replace(approval, checklist=(*approval.checklist, ("more", "also this"))),
        replace(approval, confirmed="all at once"),
        replace(approval, confirmed=""),
        replace(approval, checklist=(), confirmed=""),
    )
    for one in faked:
        with pytest.raises(MachineError):
            verify_approval(one, tmp_path / "keys")
    key = approval_key(tmp_path / "keys", "eva", passphrase=site_server.PASSWORD)
    with pytest.raises(MachineError, match="one line of printable text"):
        sign_approval(replace(approval, checklist=(("side", "yes\ndemonstration: no"),)), key)


def test_what_is_confirmed_as_a_whole_says_so(case: tuple[CaseFolder, str], tmp_path: Path) -> None:
    approval = sign_case(tmp_path, "listed", who="eva", device=case[1], passphrase=site_server.PASSWORD, ticked=None)
    assert (approval.checklist, approval.confirmed) == (confirmed_points(FAMILY, None), "all at once")


def test_an_approval_of_before_checklists_keeps_digest_words_and_signature(tmp_path: Path) -> None:
    approval = sign_approval(Approval("eva", TIME, "released", "ab" * 32, ""), approval_key(tmp_path, "eva"))
    names = ("name", "meaning", "digest", "public_key", "signature", "demonstration")
    tree = {
        "$type": "Approval",
        "time": {"$time": "2026-11-22T10:00:00+00:00"},
        "waivers": {"$tuple": []},
        **{name: getattr(approval, name) for name in names},
    }
    assert codec.digest(approval) == codec.tree_digest(tree)
    assert codec.restore(tree) == approval
    words = f"name: eva\ntime: 2026-11-22T10:00:00+00:00\nmeaning: released\ndigest: {'ab' * 32}\ndemonstration: no\n"
    assert approval.text().decode() == "batchone approval 1\n" + words
    verify_approval(codec.restore(tree), tmp_path)
    listed = replace(approval, checklist=(("side", "looked at"),), confirmed="one by one")
    assert codec.digest(listed) != codec.digest(approval)
    assert codec.restore(codec.flatten(listed)[0]) == listed


def test_the_command_line_takes_all_or_every_id(capfd: pytest.CaptureFixture[str]) -> None:
    assert ticked_points(FAMILY, "all") is None
    assert ticked_points(FAMILY, ", ".join(POINTS)) == POINTS
    for given in ("", POINTS[0], "all,none"):  # no terminal here: nothing is asked
        with pytest.raises(OrderError, match="checklist"):
            ticked_points(FAMILY, given)
