"""A site's own settings: read strictly, stricter than the families', and judged anew when they change."""

from __future__ import annotations

import datetime as dt
import json
from importlib import resources
from pathlib import Path

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from batchone.pipeline.case import run_case
from batchone.pipeline.case_order import read_case_order
from batchone.pipeline.cli import app
from batchone.pipeline.config import ScanSettings, SiteSettings, protocol_at, read_site_settings
from batchone.pipeline.errors import InputError, MachineError, SeriesError
from batchone.pipeline.inspection import family_protocols
from batchone.pipeline.order import Order, order_text
from batchone.samples.dicom import write_series

AGE_DAYS = 100
PROTOCOL = family_protocols()["anatomical-model"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound CT study."""
    hu = np.full((70, 48, 48), -1000, dtype=np.int16)
    hu[8:62, 10:38, 10:38] = 40
    hu[8:62, 14:24, 14:24] = 1200
    hu += np.random.default_rng(5).integers(-8, 9, hu.shape, dtype=np.int16)
    folder = tmp_path_factory.mktemp("studies") / "study"
    write_series(np.maximum(hu, -1024), np.diag([0.45, 0.45, 0.6, 1.0]), folder)
    return folder


@pytest.fixture
def order(study: Path, tmp_path: Path) -> Order:
    """An order that is due so many days after the scan."""
    made = dt.datetime.strptime(pydicom.dcmread(next(study.iterdir())).StudyDate, "%Y%m%d").replace(tzinfo=dt.UTC)
    due = made + dt.timedelta(days=AGE_DAYS)
    order = Order(case="c-0001", device="anatomical-model", side="midline", process="pa12-sls", machine="sim-01", due=due)
    (tmp_path / "order.toml").write_text(order_text(order))
    return read_case_order(tmp_path / "order.toml")


def set_age(site: Path, text: str) -> None:
    site.mkdir(parents=True, exist_ok=True)
    (site / "site.toml").write_text(f"[scan]\n{text}\n")


def test_a_site_without_settings_leaves_the_protocol_as_it_is(tmp_path: Path) -> None:
    settings = read_site_settings(tmp_path / "nowhere")
    assert settings == SiteSettings()
    assert protocol_at(settings, PROTOCOL) is PROTOCOL
    assert PROTOCOL.max_scan_age_days is None


def test_of_two_limits_the_stricter_counts() -> None:
    family = PROTOCOL.model_copy(update={"warn_scan_age_days": 90, "max_scan_age_days": 180})
    laxer = SiteSettings(scan=ScanSettings(warn_age_days=120, max_age_days=365))
    assert protocol_at(laxer, family) is family
    stricter = protocol_at(SiteSettings(scan=ScanSettings(max_age_days=179)), family)
    assert (stricter.warn_scan_age_days, stricter.max_scan_age_days) == (90, 179)
    assert "site.toml" in stricter.source


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[scan]\nmax_age_day = 10", "scan.max_age_day"),
        ("[scan]\nmax_age_days = 0", "scan.max_age_days"),
        ('[scan]\nmax_age_days = "10"', "scan.max_age_days"),
        ("colour = 1", "colour"),
        ("[scan", "not valid TOML"),
        ("#" * 100_001, "larger than 100000 bytes"),
    ],
)
def test_settings_that_are_none_are_told_to_the_workshop(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(MachineError, match=told) as caught:
        read_site_settings(tmp_path)
    assert "site.toml" in caught.value.hint


def test_a_scan_older_than_the_site_allows_is_refused_and_taken_when_it_allows_more(
    order: Order, study: Path, tmp_path: Path
) -> None:
    set_age(tmp_path, f"max_age_days = {AGE_DAYS - 1}")
    with pytest.raises(SeriesError, match="age of the scan is 5 months, at most 4 months"):
        run_case(order, study, site=tmp_path, until="intake")
    set_age(tmp_path, f"max_age_days = {AGE_DAYS}")
    assert run_case(order, study, site=tmp_path, until="intake").kept == ()


def test_a_changed_setting_is_judged_anew_and_an_unchanged_one_kept(order: Order, study: Path, tmp_path: Path) -> None:
    assert run_case(order, study, site=tmp_path, until="intake").kept == ()
    assert run_case(order, study, site=tmp_path, until="intake").kept == ("intake",)
    set_age(tmp_path, "warn_age_days = 30")
    again = run_case(order, study, site=tmp_path, until="intake")
    assert again.kept == ()
    assert [one.verdict for one in again.findings if one.check == "scan-age"] == ["warn"]
    set_age(tmp_path, "max_age_days = 30")
    with pytest.raises(InputError, match="must be read again"):
        run_case(order, None, site=tmp_path, until="intake")


def test_inspect_and_submit_judge_by_the_site(order: Order, study: Path, tmp_path: Path) -> None:
    """`inspect` counts from today, so the scan is older there than on the day of the order."""
    site, file = tmp_path / "site", tmp_path / "order.toml"
    asked = ["inspect", str(study), "--device", "anatomical-model", "--json", "--site", str(site)]
    free = json.loads(CliRunner().invoke(app, asked).stdout)
    set_age(site, "max_age_days = 1")
    bound = CliRunner().invoke(app, asked)
    tree = json.loads(bound.stdout)
    assert (free["refusal"], bound.exit_code) == (None, 2)
    assert "age of the scan" in tree["refusal"]
    sent = CliRunner().invoke(app, ["submit", str(file), str(study), "--to", str(site), "--keep", str(tmp_path / "keep")])
    assert isinstance(sent.exception, SeriesError)
    assert "age of the scan" in str(sent.exception)


def test_the_shipped_schema_is_that_of_the_model() -> None:
    shipped = json.loads(resources.files("batchone.pipeline").joinpath("schemas/site.schema.json").read_text())
    del shipped["$schema"]
    assert shipped == SiteSettings.model_json_schema()
