"""``batchone submit`` and ``batchone status``: one command from the PACS export to a case, and where that case is."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import typer
from pydicom import dcmread
from typer.testing import CliRunner

from batchone.pipeline import codec
from batchone.pipeline.commands.status import case_status, status
from batchone.pipeline.commands.submit import submit
from batchone.pipeline.errors import BatchoneError, InputError, OrderError, SeriesError
from batchone.pipeline.events import append_event
from batchone.pipeline.findings import Finding, Verdict, judge
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import pack
from batchone.pipeline.intake.inbox import accept, accept_all
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import JobFolder
from batchone.samples.dicom import write_series

CASE = "case-0001"
ORDER = (
    f'case = "{CASE}"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
    "due = 2026-02-01T08:00:00Z\n"
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    hu = np.full((24, 48, 48), -1000, dtype=np.int16)
    hu[:, 8:40, 8:40] = 40
    hu[:, 16:32, 18:28] = 900
    write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), folder, mess=True)
    return folder


@pytest.fixture
def order(tmp_path: Path) -> Path:
    path = tmp_path / "order.toml"
    path.write_text(ORDER)
    return path


def _call(command: Any, *arguments: object) -> tuple[dict[str, Any] | None, BaseException | None]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    tree = json.loads(result.stdout) if result.stdout else None
    if tree is not None:
        schema = files("batchone.pipeline").joinpath(f"schemas/{command.__name__}.schema.json")
        jsonschema.validate(tree, json.loads(schema.read_text(encoding="utf-8")))
    return tree, None if isinstance(result.exception, SystemExit) else result.exception


def test_one_command_makes_a_case_and_again_it_is_the_same_case(tmp_path: Path, study: Path, order: Path) -> None:
    arguments = (order, study, "--to", tmp_path / "site", "--keep", tmp_path / "keep")
    tree, error = _call(submit, *arguments)
    assert error is None
    assert tree is not None
    assert (tree["case"], tree["status"], tree["new"], tree["images"]) == (CASE, "received", True, 24)
    assert tree["folder"] == str(tmp_path / "site" / "cases" / CASE)
    assert tree["left_out"]["localizers"] == 1
    assert {one["name"] for one in tree["warnings"]} <= {"recognisable-face", "burned-in-text"}
    assert list((tmp_path / "keep" / "outbox").iterdir()) == []
    again, _ = _call(submit, *arguments)
    assert again is not None
    assert (again["parcel"], again["new"]) == (tree["parcel"], False)
    where, _ = _call(status, CASE, "--site", tmp_path / "site")
    assert where is not None
    assert (where["status"], where["images"], where["stages"]) == ("received", 24, {})


def test_a_study_that_the_device_cannot_use_is_refused_before_anything_is_packed(
    tmp_path: Path, study: Path, order: Path
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in study.iterdir():
        item = dcmread(path, force=True)
        if "ConvolutionKernel" not in item or float(item.get("SliceLocation", 99)) < 2.5:
            shutil.copy(path, few)
    tree, error = _call(submit, order, few, "--to", tmp_path / "site", "--keep", tmp_path / "keep")
    assert isinstance(error, SeriesError)
    assert "number of slices" in str(error)
    assert tree is not None
    assert (tree["status"], tree["error"]["exit_code"]) == ("failed", 2)
    assert not (tmp_path / "keep").exists()
    assert not (tmp_path / "site").exists()


def test_an_order_that_is_not_valid_or_a_volume_file_is_refused(tmp_path: Path, study: Path, order: Path) -> None:
    order.write_text(ORDER.replace("anatomical-model", "unheard-of"))
    _, error = _call(submit, order, study, "--to", tmp_path / "site", "--keep", tmp_path / "keep")
    assert isinstance(error, OrderError)
    order.write_text(ORDER)
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD0004\n")
    _, error = _call(submit, order, tmp_path / "scan.nrrd", "--to", tmp_path / "site", "--keep", tmp_path / "keep")
    assert isinstance(error, SeriesError)
    assert "no headers to de-identify" in str(error)


def test_nothing_that_submit_says_names_the_patient(tmp_path: Path, study: Path, order: Path) -> None:
    code = (
        "import sys, typer\nfrom batchone.pipeline.commands.submit import submit\nimport logging\n"
        "logging.basicConfig(level=logging.DEBUG)\napp = typer.Typer()\napp.command()(submit)\napp()\n"
    )
    shutil.copytree(study, tmp_path / "TEST^ALPHA")
    arguments = [str(order), str(tmp_path / "TEST^ALPHA"), "--to", str(tmp_path / "site"), "--keep", str(tmp_path / "keep")]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert f"Case {CASE}: received; 24 images" in done.stdout
    for seed in ("ALPHA", "TEST-0001", "19700101", "TEST-A-0001", "REFERRER"):
        assert seed not in done.stdout + done.stderr


def test_status_follows_a_case_from_the_inbox_to_its_job_folder(tmp_path: Path, study: Path, order: Path) -> None:
    site, keep = tmp_path / "site", Keep.open(tmp_path / "keep")
    receipt = deliver(pack(study, keep, order=order), site)
    assert case_status(CASE, site).status == "in-inbox"
    folder = accept(site, receipt.place).folder
    case = CaseFolder(folder)
    assert case_status(CASE, site).status == case_status(str(folder), tmp_path / "elsewhere").status == "received"
    _publish(case, "intake", 1.25)
    found = case_status(CASE, site)
    assert (found.status, found.stages) == ("in-progress", (("intake", 1.25),))
    _publish(case, "check", 2.5, verdict="fail")
    assert case_status(CASE, site).status == "check-failed"
    _publish(case, "check", 2.5, verdict="pass")
    assert case_status(CASE, site).status == "awaiting-approval"
    append_event(folder / "events.jsonl", who="TEST", what="returned: rim too thin", when="2026-01-01T00:00:00+00:00")
    assert (case_status(CASE, site).status, case_status(CASE, site).returned) == ("returned", "rim too thin")
    append_event(folder / "events.jsonl", who="TEST", what="approved", when="2026-01-01T00:00:00+00:00")
    _publish(case, "review", 0.0, taken="another device")
    assert case_status(CASE, site).status == "awaiting-approval"  # the approval of a device that is no longer there
    _publish(case, "review", 0.0)
    assert case_status(CASE, site).status == "in-progress"
    _publish(case, "job", 3.0, value=JobFolder("0123456789abcdef", "job/0123456789abcdef", "0" * 64))
    tree, _ = _call(status, folder)
    assert tree is not None
    assert (tree["status"], tree["job"]) == ("done", str(folder / "job" / "0123456789abcdef"))
    _publish(case, "review", 1.0, digest="another approval")
    assert case_status(CASE, site).status == "in-progress"  # of the same device: the old job folder tells of the old approval
    _publish(case, "review", 1.0)
    assert case_status(CASE, site).status == "done"
    _publish(case, "check", 2.5, verdict="pass", digest="a new device")
    assert case_status(CASE, site).status == "awaiting-approval"  # the old job folder is of another device


def test_status_prints_the_gates_of_the_checks_that_have_run(tmp_path: Path, study: Path, order: Path) -> None:
    receipt = deliver(pack(study, Keep.open(tmp_path / "keep"), order=order), tmp_path / "site")
    case = CaseFolder(accept(tmp_path / "site", receipt.place).folder)
    app = typer.Typer()
    app.command()(status)
    assert "Gates" not in CliRunner().invoke(app, [str(case.path)]).stdout
    tree, _ = _call(status, case.path)
    assert tree is not None
    assert tree["findings"] == []
    wall = judge("walls", "part: wall", 0.5, "mm", low=1.0, hint="thicken it", source="a guide", where_mm=(1.0, 2.0, 3.0))
    unknown = judge("gap", "part: gap", float("nan"), "mm", low=1.0, gate=False)

    with case.locked():
        _publish(case, "check", 1.0, findings=(wall, unknown))
    said = CliRunner().invoke(app, [str(case.path)]).stdout
    for words in (
        "Gates: 1 failed, 1 warned",
        "0.5 mm",
        "at least 1 mm",
        "limit from: a guide",
        "at: (1.0, 2.0, 3.0) mm",
        "to do: thicken it",
    ):
        assert words in said
    tree, _ = _call(status, case.path)
    assert tree is not None
    assert tree["findings"] == [
        {**asdict(wall), "limit": "at least 1 mm", "where_mm": [1.0, 2.0, 3.0]},
        {**asdict(unknown), "limit": "at least 1 mm", "value": None},
    ]


def test_status_tells_what_every_stage_found_of_the_device_and_the_approval_that_are_there(
    tmp_path: Path, study: Path, order: Path
) -> None:
    receipt = deliver(pack(study, Keep.open(tmp_path / "keep"), order=order), tmp_path / "site")
    case = CaseFolder(accept(tmp_path / "site", receipt.place).folder)
    for stage in ("intake", "check", "review", "slice", "job"):
        _publish(case, stage, 1.0, findings=(judge(f"of {stage}", "what", 1.0, "mm", high=2.0),))

    def told() -> list[str]:
        tree, error = _call(status, case.path)
        assert tree is not None, error
        return [one["check"] for one in tree["findings"]]

    assert told() == ["of intake", "of check", "of review", "of slice", "of job"]
    _publish(case, "review", 1.0, digest="another approval", findings=())
    assert told() == ["of intake", "of check"]
    _publish(case, "review", 1.0, findings=())
    assert told() == ["of intake", "of check", "of slice", "of job"]
    _publish(case, "check", 1.0, digest="another device", findings=())
    assert told() == ["of intake"]


def test_findings_that_are_none_are_left_out_of_status_with_a_word(tmp_path: Path, study: Path, order: Path) -> None:
    receipt = deliver(pack(study, Keep.open(tmp_path / "keep"), order=order), tmp_path / "site")
    case = CaseFolder(accept(tmp_path / "site", receipt.place).folder)
    _publish(case, "intake", 1.0, findings=(judge("sound", "what", 1.0, "mm", high=2.0),))
    _publish(case, "check", 1.0, findings=(judge("odd", "what", 1.0, "mm", high=2.0),))
    path = case.path / "check" / "stage.json"
    whole = path.read_text()
    changes: list[tuple[Any, bool]] = [
        ({"value": math.nan}, True),
        ({"value": math.inf, "low": -math.inf}, True),
        ({"where_mm": {"$tuple": [1.0, math.nan, 2.0]}}, True),
        ({"where_mm": {"$tuple": [1.0, 2.0]}}, False),
        ({"where_mm": [1.0, 2.0, 3.0]}, False),
        ({"value": None}, False),
        ({"value": "1.0"}, False),
        ({"high": True}, False),
        ({"verdict": "perhaps"}, False),
        ({"what": 7}, False),
        ({"of_a_later_version": 1}, False),
        ("no finding", False),
    ]
    app = typer.Typer()
    app.command()(status)
    for change, read in changes:
        record = json.loads(whole)
        found = record["findings"]["$tuple"]
        found[0] = found[0] | change if isinstance(change, dict) else change
        path.write_text(json.dumps(record))
        tree, error = _call(status, case.path)
        assert error is None, change
        assert tree is not None
        assert [one["check"] for one in tree["findings"]] == ["sound", *(["odd"] if read else [])], change
        said = CliRunner().invoke(app, [str(case.path)])
        assert said.exit_code == 0, change
        assert ("findings in stage.json of check cannot be read" in said.stderr) == (not read), change


def _publish(
    case: CaseFolder,
    stage: str,
    seconds: float,
    *,
    verdict: Verdict = "pass",
    taken: str = "d",
    digest: str = "d",
    value: Any = None,
    findings: tuple[Finding, ...] | None = None,
) -> None:
    """Put a stage's result into a case, with one finding of a verdict where none are given."""
    found = (replace(judge("any", "what", 1.0, "mm"), verdict=verdict),) if findings is None else findings

    def write(folder: Path) -> dict[str, Any]:
        if value is not None:
            codec.save(value, folder)
        on_build = {"CheckedDevice": taken, "Approval": "d"}
        given = {"review": {"CheckedDevice": taken}, "slice": on_build, "job": on_build}
        tree = codec.flatten(found)[0]
        return {"taken": given.get(stage, {}), "seconds": seconds, "value_digest": digest, "findings": tree}

    case.publish(stage, write)


def test_status_tells_of_refused_parcels_and_of_studies_that_wait_for_an_order(tmp_path: Path, study: Path, order: Path) -> None:
    site, keep = tmp_path / "site", Keep.open(tmp_path / "keep")
    alone = deliver(pack(study, keep, order=None), site)
    assert accept_all(site)[0].case == alone.case
    assert case_status(alone.case, site).status == "awaiting-order"
    accept(site, deliver(pack(study, keep, order=order), site).place)
    order.write_text(ORDER.replace('"left"', '"right"'))
    place = deliver(pack(study, keep, order=order), site).place
    with pytest.raises(InputError):
        accept(site, place)
    found = case_status(CASE, site)
    assert (found.status, len(found.refusals)) == ("received", 1)
    shutil.rmtree(site / "cases" / CASE)
    tree, _ = _call(status, CASE, "--site", site)
    assert tree is not None
    assert tree["status"] == "refused"
    assert "another order or study" in tree["refusals"][0]["reason"]
    for unknown in ("case-0002", "../case-0001", "", "."):
        with pytest.raises(BatchoneError) as caught:
            case_status(unknown, site)
        assert caught.value.exit_code == 2


def test_a_submitted_case_is_known_to_run(tmp_path: Path, study: Path, order: Path) -> None:
    """The case folder that intake made is continued, not refused, by the runner of stages."""
    from batchone.pipeline.case import run_case
    from batchone.pipeline.case_order import read_case_order

    _call(submit, order, study, "--to", tmp_path / "site", "--keep", tmp_path / "keep")
    folder = tmp_path / "site" / "cases" / CASE
    outcome: list[str] = []
    with contextlib.suppress(BatchoneError):  # a block is no bone; the intake itself must have taken the study
        run_case(
            read_case_order(folder / "order.toml"),
            folder / "study",
            site=tmp_path / "site",
            until="check",
            progress=lambda stage, done: outcome.append(stage) if done else None,
        )
    assert outcome[:1] == ["intake"]
    who = json.loads((folder / "intake" / "identity.json").read_text(encoding="utf-8"))
    relink = Keep.open(tmp_path / "keep").recall(CASE)
    assert relink is not None
    assert who["patient_name"] == CASE
    assert dict(relink.uids)[who["study_instance_uid"]] == relink.identity.study_instance_uid
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):  # even identity.json knows the pseudonyms only
        content = path.read_bytes()
        assert not [seed for seed in (b"ALPHA", b"TEST-0001", b"TEST-A-0001", b"19700101", b"REFERRER") if seed in content], (
            path.name
        )
