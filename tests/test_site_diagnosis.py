"""What doctor says of a site: each limit just inside and just outside, and what to do."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from batchone.pipeline.cli import app
from batchone.pipeline.diagnosis import Check
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.job.signature import DEMONSTRATOR, approval_key, load_or_make_key, release_key
from batchone.pipeline.site_diagnosis import (
    LOW_FREE_GB,
    MAX_AHEAD_S,
    MAX_DATABASE_SKEW_S,
    MIN_FREE_GB,
    database_check,
    diagnose_site,
    disk_check,
)

NOW = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)


def checks(site: Path) -> dict[str, Check]:
    return {check.name: check for check in diagnose_site(site, now=NOW) if check.name != "disk"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with its three kinds of keys, whose last event is 5 s old."""
    release_key(tmp_path / "keys")
    for name in ("a", DEMONSTRATOR):
        approval_key(tmp_path / "keys", name)
    append_event(tmp_path / EVENTS, who="x", what="y", when=(NOW - dt.timedelta(seconds=5)).isoformat())
    return tmp_path


def test_a_sound_site_has_nothing_to_be_done_and_is_left_as_it_was(site: Path) -> None:
    before = sorted(site.rglob("*"))
    found = checks(site)
    assert {check.state for check in found.values()} == {"ok"}
    assert set(found) == {"settings", "file system", "clock", "key release", "key approval-a", "key approval-demo"}
    assert sorted(site.rglob("*")) == before


@pytest.mark.parametrize(
    ("free_gb", "state"),
    [(MIN_FREE_GB - 0.01, "broken"), (MIN_FREE_GB, "warn"), (LOW_FREE_GB - 0.01, "warn"), (LOW_FREE_GB, "ok")],
)
def test_a_disk_is_judged_by_what_is_free(free_gb: float, state: str) -> None:
    assert disk_check(free_gb).state == state
    assert "at least 2 GB" in disk_check(free_gb).text


@pytest.mark.parametrize(("ahead_s", "state"), [(MAX_AHEAD_S, "ok"), (MAX_AHEAD_S + 1.0, "broken")])
def test_a_clock_behind_the_last_event_is_told(site: Path, ahead_s: float, state: str) -> None:
    append_event(site / EVENTS, who="x", what="y", when=(NOW + dt.timedelta(seconds=ahead_s)).isoformat())
    assert checks(site)["clock"].state == state


@pytest.mark.parametrize(("mode", "state"), [(0o600, "ok"), (0o640, "broken")])
def test_a_key_that_others_may_read_is_told_with_the_command(site: Path, mode: int, state: str) -> None:
    (site / "keys" / "approval-a").chmod(mode)
    check = checks(site)["key approval-a"]
    assert check.state == state
    assert (check.hint == f"chmod 600 {site / 'keys' / 'approval-a'}") is (state == "broken")


def test_what_is_wrong_with_keys_is_told_each_with_what_to_do(site: Path) -> None:
    load_or_make_key(site / "keys", "approval-old")
    assert checks(site)["key approval-old"].hint == f"ssh-keygen -p -f {site / 'keys' / 'approval-old'}"
    (site / "keys").chmod(0o755)
    assert "mode 0755, at most 0700" in checks(site)["keys"].text
    (site / "keys").chmod(0o700)
    (site / "keys" / "release").unlink()
    found = checks(site)
    assert "release key is missing" in found["keys"].text
    assert "cannot be read" in found["key release"].text
    shutil.rmtree(site / "keys")
    assert checks(site)["keys"].state == "ok"
    (site / "cases" / "c-1").mkdir(parents=True)
    assert checks(site)["keys"].state == "broken"


def test_settings_programs_and_the_database_are_looked_at(site: Path) -> None:
    (site / "site.toml").write_text('[segmentation]\nbackend = "external"\n[segmentation.external]\n' + PROGRAM.format("/no/run"))
    assert checks(site)["segmentation"].state == "broken"
    (site / "site.toml").write_text(
        '[segmentation]\nbackend = "external"\n[segmentation.external]\n' + PROGRAM.format("/bin/true")
    )
    assert checks(site)["segmentation"].state == "ok"
    (site / "site.toml").write_text('[engine]\ndatabase = "postgresql://nobody@127.0.0.1:9/none"\n')
    database = checks(site)["database"]
    assert database.state == "broken"
    assert "start PostgreSQL" in database.hint
    (site / "site.toml").write_text("[scan\n")
    assert checks(site)["settings"].state == "broken"


PROGRAM = 'program = ["{}", "{{image}}", "{{labels}}", "{{names}}"]\nversion = "1"\n'


def test_a_database_that_answers_is_well(site: Path, postgres_server: Any) -> None:
    (site / "site.toml").write_text(f'[engine]\ndatabase = "{postgres_server.url}"\n')
    database = checks(site)["database"]
    assert database.state == "ok", database
    assert database.text.startswith("PostgreSQL ")


@pytest.mark.parametrize(("skew_s", "state"), [(-MAX_DATABASE_SKEW_S, "ok"), (MAX_DATABASE_SKEW_S + 0.1, "broken")])
def test_the_databases_clock_is_judged_both_ways(skew_s: float, state: str) -> None:
    assert database_check("15.1", skew_s).state == state


def test_a_file_system_that_refuses_is_told() -> None:
    proc = {check.name: check for check in diagnose_site(Path("/proc"), now=NOW)}
    assert proc["file system"].state == "broken"


def test_the_command_prints_one_document_and_ends_with_5_when_something_is_broken(site: Path) -> None:
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/doctor.schema.json").read_text())
    (site / "keys" / "approval-a").chmod(0o644)
    done = CliRunner().invoke(app, ["doctor", "--site", str(site), "--json"])
    assert done.exit_code == 5
    tree = json.loads(done.stdout)
    jsonschema.validate(tree, schema)
    assert not tree["healthy"]
    assert [check["name"] for check in tree["checks"] if check["state"] == "broken"] == ["key approval-a"]
    (line,) = [check for check in tree["checks"] if check["name"] == "key approval-a"]
    assert line["hint"].startswith("chmod 600 ")
