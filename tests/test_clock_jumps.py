"""The clock of the day steps an hour, forward or back, between what happens to a case: nothing is lost or doubled."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest
import site_server

from batchone.pipeline import case_approval, case_decisions
from batchone.pipeline.audit import audit_site
from batchone.pipeline.case_approval import sign_case, standing_approval
from batchone.pipeline.case_decisions import decide
from batchone.pipeline.case_order import order_digest, read_case_order
from batchone.pipeline.commands.cases import site_cases
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.events import read_chain
from batchone.pipeline.job.withdrawal import read_decisions
from batchone.pipeline.revisions import keep_revision
from batchone.pipeline.store import CaseFolder

ORDER = (
    'case = "case-0001"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
    "due = 2030-02-01T08:00:00Z\n"
)
SIGNED = {"who": "eva", "passphrase": "a word of a clock"}


@pytest.mark.parametrize("steps_h", [(1, 2), (-1, -2), (1, -1), (-1, 1)], ids=str)
def test_an_approval_and_its_withdrawal_stand_in_the_order_in_which_they_were_said(
    steps_h: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = [0]

    class Stepped(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return dt.datetime.now(tz) + dt.timedelta(hours=ahead[0])

    for module in (case_approval, case_decisions):
        monkeypatch.setattr(module, "dt", SimpleNamespace(datetime=Stepped, UTC=dt.UTC, timedelta=dt.timedelta))
    site = tmp_path / "site"
    case = CaseFolder(site_server.make_case(site, "case-0001"))
    (case.path / "order.toml").write_text(ORDER)
    keep_revision(case, order_digest(read_case_order(case.path / "order.toml")))
    device = case.record("check")["value_digest"]  # type: ignore[index]
    first = sign_case(site, case.path.name, device=device, ticked=None, **SIGNED)
    ahead[0] = steps_h[0]
    for _ in range(2):  # said twice
        decide(site, case.path.name, "revise", reason="too thick", **SIGNED)
    assert standing_approval(case, device, site / "keys") is None
    assert case_status("case-0001", site).status == "awaiting-approval"
    ahead[0] = steps_h[1]
    keep_revision(case, order_digest(read_case_order(case.path / "order.toml")))
    second = sign_case(site, case.path.name, device=device, ticked=None, **SIGNED)
    assert sign_case(site, case.path.name, device=device, ticked=None, **SIGNED) == second  # said twice
    assert second.time - first.time > dt.timedelta(hours=steps_h[1] - 0.1)
    assert standing_approval(case, device, site / "keys") == second
    assert [one.what for one in read_decisions(case.path)] == ["revise"]
    assert [one.what for one in read_chain(case.path / "events.jsonl").events].count("approved") == 2
    assert not [fault for trail in audit_site(site) for fault in trail.faults]
    assert case_status("case-0001", site).status == "in-progress"
    assert [files.case for files, _ in site_cases(site, dt.datetime.now(dt.UTC)).cases] == ["case-0001"]
