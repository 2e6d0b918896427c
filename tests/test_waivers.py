"""A failed gate stops a case before slicing; where the family allows it, a signed reason lets it stand, in sight of all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import nibabel
import numpy as np
import pytest
from typer.testing import CliRunner

from batchone.design.families import load_families
from batchone.pipeline.approval import finding_words, shown
from batchone.pipeline.case import run_case, waive_check
from batchone.pipeline.case_order import read_case_order
from batchone.pipeline.cli import app
from batchone.pipeline.commands.gates import print_findings
from batchone.pipeline.errors import BatchoneError, CheckFailed, MachineError, OrderError
from batchone.pipeline.findings import Finding, judge
from batchone.pipeline.job.manifest import JobManifest, canonical_json, read_manifest
from batchone.pipeline.job.signature import approval_key, sign_waiver, verify_waiver, write_allowed_signers
from batchone.pipeline.job.verify import verify_job
from batchone.pipeline.limits import Limit
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import CheckedDevice, Device, Waiver
from batchone.samples.head import CENTRE_MM, SHAPE, Defect, head_phantom

ORDER = """\
case = "small"
device = "cranial-implant"
side = "left"
process = "ti64-lpbf"
machine = "sim-01"
due = 2026-11-24T08:00:00Z
[parameters]
engrave = false
"""
SMALL = Defect(azimuth_deg=80.0, elevation_deg=32.0, diameter_mm=22.0, edge_angle_deg=10.0)  # in-plane envelope: 25 mm and more
CHECK = "size"
REASON = "burr hole of an earlier operation, agreed with the surgeon"


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CheckFailed]:
    """A site with the case of a defect below the design envelope, and what its run ended with."""
    folder = tmp_path_factory.mktemp("waivers")
    x, y, z = CENTRE_MM
    head = head_phantom(shape=(90, *SHAPE[1:]), centre_mm=(x, y, z + 35.0), defect=SMALL)
    nibabel.save(nibabel.Nifti1Image(head.hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine), folder / "s.nii")
    (folder / "order.toml").write_text(ORDER)
    order = read_case_order(folder / "order.toml")
    with pytest.raises(CheckFailed) as caught:
        run_case(order, folder / "s.nii", site=folder / "site", approve_as="tester")
    return folder / "site", caught.value


def copied(site: Path, into: Path) -> Path:
    shutil.copytree(site, into / "site")
    return into / "site"


def batchone(*arguments: object) -> tuple[int, str]:
    """Exit code and standard output; an expected failure gives its own exit code."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    code = done.exception.exit_code if isinstance(done.exception, BatchoneError) else done.exit_code
    return code, done.stdout


def test_a_failed_gate_exits_4_keeps_the_device_and_slices_nothing(stopped: tuple[Path, CheckFailed]) -> None:
    site, error = stopped
    case = site / "cases" / "small"
    assert error.exit_code == 4
    assert {f.check for f in error.findings if f.verdict == "fail"} == {CHECK}
    assert f"--waive {CHECK}" in error.hint
    assert (case / "design" / "implant.stl").stat().st_size > 0
    assert json.loads((case / "check" / "findings.json").read_text())
    assert not (case / "slice").exists()
    assert not (case / "job").exists()


def test_a_waived_gate_stays_in_sight_up_to_the_job_folder(stopped: tuple[Path, CheckFailed], tmp_path: Path) -> None:
    site = copied(stopped[0], tmp_path)
    code, text = batchone("review", "small", "--waive", CHECK, "--reason", REASON, "--as", "chief", "--site", site, "--json")
    assert code == 0
    tree = json.loads(text)
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/run.schema.json").read_text())
    jsonschema.validate(tree, schema)
    assert tree["status"] == "awaiting-approval"
    assert "waived" in {f["verdict"] for f in tree["findings"] if f["check"] == CHECK}
    assert REASON in (site / "cases" / "small" / "events.jsonl").read_text()
    code, text = batchone("review", "small", "--approve", "--checked", "all", "--as", "tester", "--site", site)
    assert code == 0
    assert "waived" in text
    job = next(path for path in (site / "cases" / "small" / "job").iterdir() if path.is_dir())
    manifest = read_manifest((job / "job.json").read_bytes())
    assert {(w.name, w.reason) for w in manifest.approval.waivers} == {("chief", REASON)}
    assert [f.waivable for f in manifest.findings if f.verdict == "waived"] == [True] * len(manifest.approval.waivers)
    assert verify_job(job, signers=site / "keys").ok
    assert {p.text.split(":")[0] for p in _broken(job, manifest, tmp_path, reason="another")} >= {"waiver", "approval"}
    assert any("no waiver is for it" in p.text for p in _broken(job, manifest, tmp_path, finding="border: gap"))


def _broken(job: Path, manifest: JobManifest, folder: Path, **changes: str) -> tuple[Any, ...]:
    """What verification says of the job with its waivers changed."""
    copy = folder / f"job-{'-'.join(changes)}"
    shutil.copytree(job, copy)
    tree = manifest.model_dump(mode="json", by_alias=True)
    for waiver in tree["approval"]["waivers"]:
        waiver.update(changes)
    (copy / "job.json").write_bytes(canonical_json(tree))
    return verify_job(copy, signers=folder / "site" / "keys").problems


def test_a_waiver_counts_for_its_device_and_its_finding_alone(stopped: tuple[Path, CheckFailed], tmp_path: Path) -> None:
    site = copied(stopped[0], tmp_path)
    case = CaseFolder(site / "cases" / "small")
    order = read_case_order(case.path / "order.toml")
    waive_check(site, order, CHECK, who="chief", reason=REASON)
    assert run_case(order, None, site=site, until="check").status == "awaiting-approval"
    checked: CheckedDevice = case.load("check")
    waivers: tuple[Waiver, ...] = case.load("waivers")
    assert not checked.failed(waivers)
    worse = replace(checked, findings=tuple(replace(f, value=f.value - 0.5) for f in checked.findings))
    assert worse.failed(waivers)
    shutil.rmtree(case.path / "check")  # the same device is checked again: the waiver still counts
    assert run_case(order, None, site=site, until="check").status == "awaiting-approval"
    code, _ = batchone("design", "small", "--set", "border_gap_mm=0.6", "--site", site)
    assert code == 4


def test_at_a_site_that_says_who_is_what_a_gate_is_waived_by_the_roles_of_its_limit_alone(
    stopped: tuple[Path, CheckFailed], tmp_path: Path
) -> None:
    site = copied(stopped[0], tmp_path)
    order = read_case_order(site / "cases" / "small" / "order.toml")
    (site / "site.toml").write_text('[people]\nchief = ["clinician"]\nclerk = ["office"]\n')
    for who, what in (("clerk", "clerk is office"), ("nobody", "not among the people")):
        with pytest.raises(OrderError, match=f"{who} may not waive {CHECK}: it takes engineer or clinician.*{what}"):
            waive_check(site, order, CHECK, who=who, reason=REASON)
    assert not (site / "cases" / "small" / "waivers").exists()
    waive_check(site, order, CHECK, who="chief", reason=REASON)
    assert run_case(order, None, site=site, until="check").status == "awaiting-approval"


@pytest.mark.parametrize("check", ["mesh", "nothing"])
def test_what_did_not_fail_cannot_be_waived(stopped: tuple[Path, CheckFailed], tmp_path: Path, check: str) -> None:
    site = copied(stopped[0], tmp_path)
    order = read_case_order(site / "cases" / "small" / "order.toml")
    with pytest.raises(OrderError, match=f"no finding of the check '{check}' failed; failed and not waived: {CHECK}"):
        waive_check(site, order, check, who="chief", reason=REASON)
    with pytest.raises(OrderError, match="needs a reason"):
        waive_check(site, order, CHECK, who="chief", reason=" ")
    for seen, words in (("0" * 64, "0" * 12), ("", "not told")):
        with pytest.raises(OrderError, match=f"the device that was seen is {words}, that of the case is"):
            waive_check(site, order, CHECK, who="chief", reason=REASON, device=seen)


def test_a_gate_that_is_not_waivable_is_refused_by_name(
    stopped: tuple[Path, CheckFailed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = copied(stopped[0], tmp_path)
    case = CaseFolder(site / "cases" / "small")
    checked: CheckedDevice = case.load("check")
    fixed = replace(checked, findings=tuple(replace(f, waivable=False) for f in checked.findings))
    monkeypatch.setattr(CaseFolder, "load", lambda self, name: fixed)
    with pytest.raises(CheckFailed, match=f"{CHECK} may not be waived") as caught:
        waive_check(site, read_case_order(case.path / "order.toml"), CHECK, who="chief", reason=REASON)
    assert caught.value.exit_code == 4


def failed(*, waivable: bool) -> Finding:
    return judge("envelope", "longest", 130.0, "mm", high=120.0, waivable=waivable)


def waiver_of(finding: Finding, keys: Path, name: str = "chief") -> Waiver:
    import datetime as dt

    time = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)
    return sign_waiver(Waiver(name, time, "seen", REASON, finding_words(finding), "ab" * 32, ""), approval_key(keys, name))


def test_a_finding_of_a_gate_that_is_not_waivable_stays_failed_whatever_is_signed(tmp_path: Path) -> None:
    waiver = waiver_of(failed(waivable=False), tmp_path)
    device = CheckedDevice(Device("x", ()), (failed(waivable=False),))
    assert device.failed((waiver,)) == device.findings
    assert shown((failed(waivable=True),), (waiver,))[0].verdict == "waived"


@pytest.mark.parametrize("change", [{"reason": "other"}, {"finding": "mesh: open"}, {"digest": "cd" * 32}, {"name": "other"}])
def test_a_waiver_with_another_word_does_not_verify(tmp_path: Path, change: dict[str, str]) -> None:
    waiver = waiver_of(failed(waivable=True), tmp_path)
    approval_key(tmp_path, "other")
    write_allowed_signers(tmp_path)
    verify_waiver(waiver, tmp_path)
    with pytest.raises(MachineError):
        verify_waiver(replace(waiver, **change), tmp_path)


def test_only_design_envelopes_and_what_a_hand_can_judge_of_a_seat_are_waivable_and_each_says_why() -> None:
    for family in load_families().values():
        seats = {"seating_slip_stop", "seating_cone_deg_stop"} if family.name.endswith("-guide") else set()
        assert {name for name, limit in family.limits.gates.items() if limit.waivable} == seats, family.name
        assert [name for name, limit in family.limits.envelope.items() if limit.waivable and limit.waivable_by], family.name
    with pytest.raises(ValueError, match="go together"):
        Limit(high=1.0, unit="mm", source="x", waivable=True)


def test_the_table_of_gates_shows_the_worst_first_and_counts_what_passes(capsys: pytest.CaptureFixture[str]) -> None:
    good = [judge("bore", f"diameter {k}", 2.0, "mm", high=3.0) for k in range(3)]
    why = {"source": "a source of " + "many words " * 12, "hint": "a hint of " + "many words " * 12}
    warned = judge("budget", "off [at] the target", 2.5, "mm", high=2.0, gate=False, where_mm=(1.0, -22.25, 333.0), **why)
    print_findings([*good, warned, replace(failed(waivable=True), verdict="waived"), failed(waivable=False)])
    text = capsys.readouterr().out
    assert "Gates: 1 failed, 1 waived, 1 warned, 3 passed" in text
    places = [text.index(word) for word in ("│ fail ", "│ waived ", "│ warn ", "│ 3 pass ")]
    assert places == sorted(places)
    assert "diameter" not in text
    assert "130 mm" in text
    assert "at most 120 mm" in text
    for words in ("off [at] the target", "limit from: a source of many", "at: (1.0, -22.2, 333.0) mm", "to do: a hint of many"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 100
