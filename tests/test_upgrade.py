"""A site as an earlier version left it, with files that it wrote itself: everything opens, and its cases go on.

``sites/site-0715fc2.tar.xz`` holds a site of that commit, before revisions, decisions and provenance were kept: a case that was
received and had just begun (its workflow is open), one that was reviewed and one that was returned, an approver's key, an
account with a token (``token``), settings, and the engine's tables. The devices are empty, for the arrays of real ones are large.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from batchone.pipeline.audit import audit_site
from batchone.pipeline.case_approval import standing_approval
from batchone.pipeline.case_decisions import decide
from batchone.pipeline.commands.cases import site_cases
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.config import ServerSettings, read_site_settings
from batchone.pipeline.engine.watch import ENGINE_VERSION, case_key
from batchone.pipeline.events import read_chain
from batchone.pipeline.serve.services import make_services
from batchone.pipeline.store import CaseFolder
from batchone.samples.storm_workers import Workers

SITE = Path(__file__).parent / "sites" / "site-0715fc2.tar.xz"
SIGNED = {"who": "eva", "passphrase": "a word of an old site"}
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    with tarfile.open(SITE) as opened:
        opened.extractall(tmp_path, filter="data")
    return tmp_path / "site"


def test_what_an_earlier_version_wrote_is_told_and_verified_as_before(site: Path) -> None:
    told = {case: case_status(case, site).status for case in ("received", "returned", "reviewed")}
    assert told == {"received": "received", "returned": "returned", "reviewed": "in-progress"}  # its job is to be made
    assert [case_status(case, site).images for case in told] == [4, 4, 4]
    assert case_status("returned", site).returned == "too thick"
    assert not [fault for trail in audit_site(site) for fault in trail.faults]
    assert len(site_cases(site, NOW).cases) == 3
    assert read_site_settings(site).clock.review_h == 3.0
    services = make_services(site, settings=ServerSettings(), clock=lambda: NOW.timestamp())
    actor = services.credentials.by_token((site.parent / "token").read_text())
    assert actor is not None
    assert (actor.name, actor.account.hospital) == ("ward", "H-1")
    assert services.accounts.is_password("ward", "the ward's own password")
    services.store.close()


def test_an_approval_of_an_earlier_version_stands_and_can_be_taken_back(site: Path) -> None:
    case = CaseFolder(site / "cases" / "reviewed")
    device = case.record("check")["value_digest"]  # type: ignore[index]
    approval = standing_approval(case, device, site / "keys")
    assert approval is not None
    assert approval.name == "eva"
    decide(site, "reviewed", "revise", reason="too thick", **SIGNED)
    assert standing_approval(case, device, site / "keys") is None
    assert case_status("reviewed", site).status == "awaiting-approval"
    assert not [fault for trail in audit_site(site) for fault in trail.faults]


@pytest.mark.slow
def test_a_worker_goes_on_with_the_tables_and_the_cases_of_an_earlier_version(site: Path, tmp_path: Path) -> None:
    events, log = site / "cases" / "received" / "events.jsonl", tmp_path / "log"
    crew = Workers(site, log)
    crew.start()
    try:
        end = time.monotonic() + 300.0
        while not (said := [one.what for one in read_chain(events).events if one.what.startswith("intake ")]):
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
    finally:
        crew.stop()
    assert said == ["intake failed: number of slices is 4, at least 20"]  # all that the four images of the archive allow
    assert "Traceback" not in log.read_text()
    with closing(sqlite3.connect(site / "engine.sqlite")) as tables:
        found = dict(tables.execute("SELECT workflow_uuid, status FROM workflow_status WHERE name = 'case'").fetchall())
    assert found.pop("received.21f415f05b95.1") == "CANCELLED"  # what the earlier version began
    (begun,) = [name for name in found if name.startswith("received.")]
    assert begun == f"received.{case_key(site / 'cases' / 'received')}.{ENGINE_VERSION}", found
    assert ENGINE_VERSION != "1"
    assert not [fault for trail in audit_site(site) for fault in trail.faults]
