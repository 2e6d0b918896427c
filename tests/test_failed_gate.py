"""A failed gate of any family, from DICOM: exit 4, the device is kept with pictures of its findings, and nothing is sliced."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from batchone.pipeline.case import run_case
from batchone.pipeline.case_order import read_case_order, replace_order
from batchone.pipeline.cli import app
from batchone.pipeline.errors import BatchoneError, CheckFailed
from batchone.pipeline.order import PlanInput, PlanLine, PlanNoGo
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Plan
from batchone.samples.bone_ct import BoneScan, Scanner, scene
from batchone.samples.dicom import write_series
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_scene

HEAD = """\
case = "gate"
side = "{side}"
process = "pa12-sls"
machine = "sim-01"
due = 2026-11-24T08:00:00Z
device = "{device}"
[target]
{target}
[parameters]
{parameters}
"""


def case_of(folder: Path, scan: BoneScan, *, part: str, **words: str) -> Path:
    write_series(scan.hu, scan.affine, folder / "study", body_part=part)
    (folder / "order.toml").write_text(HEAD.format(**words))
    return folder / "site" / "cases" / "gate"


def stopped(folder: Path) -> CheckFailed:
    with pytest.raises(CheckFailed) as caught:
        run_case(read_case_order(folder / "order.toml"), folder / "study", site=folder / "site", approve_as="tester")
    return caught.value


def assert_kept(case: Path, error: CheckFailed, check: str, *, pictured: bool) -> None:
    assert error.exit_code == 4
    assert check in {finding.check for finding in error.findings if finding.verdict == "fail"}
    assert list((case / "design").glob("*.stl"))
    kept = json.loads((case / "check" / "findings.json").read_text())
    assert check in {finding["check"] for finding in kept if finding["verdict"] == "fail"}
    assert ((case / "check" / f"finding-{check}.png").is_file()) is pictured
    assert not (case / "slice").exists()
    assert not (case / "job").exists()


@pytest.mark.slow
def test_a_model_larger_than_the_machine_is_kept_and_not_sliced_and_the_command_line_says_so(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    scan = scene([bone_surface(340.0)]).scanned(seed=1, scanner=Scanner((1.25, 1.2, 1.2), fwhm_mm=1.6))
    case = case_of(tmp_path, scan, part="LEG", side="left", device="anatomical-model", target='bones = ["tibia"]', parameters="")
    arguments = [
        "run",
        str(tmp_path / "order.toml"),
        "--study",
        str(tmp_path / "study"),
        "--out",
        str(tmp_path / "site"),
        "--json",
    ]
    done = CliRunner().invoke(app, [*arguments, "--approve-as", "tester"])
    code = done.exception.exit_code if isinstance(done.exception, BatchoneError) else done.exit_code
    assert code == 4
    assert_kept(case, stopped(tmp_path), "placement", pictured=False)  # a size has no place
    tree = json.loads(done.stdout)
    jsonschema.validate(tree, json.loads(resources.files("batchone.pipeline").joinpath("schemas/run.schema.json").read_text()))
    assert (tree["status"], tree["job"], tree["error"]["exit_code"]) == ("failed", None, 4)
    assert "fail" in {finding["verdict"] for finding in tree["findings"]}


@pytest.mark.slow
def test_a_guide_whose_pin_holds_too_little_bone_is_kept_and_not_sliced(tmp_path: Path) -> None:
    scan = scene([bone_surface(180.0)]).scanned(seed=1, scanner=Scanner((1.0, 0.6, 0.6), fwhm_mm=1.2))
    parameters = 'site = "shaft"\nwedge = "none"\nbone_model = false'
    case = case_of(
        tmp_path, scan, part="LEG", side="left", device="osteotomy-guide", target='bones = ["tibia"]', parameters=parameters
    )
    order = read_case_order(tmp_path / "order.toml")
    run_case(order, tmp_path / "study", site=tmp_path / "site", until="plan")
    proposal: Plan = CaseFolder(case).load("plan")
    pin = proposal.axis("pin-1")
    x, y, z = (np.array(pin.origin_mm) + 8.0 * np.array(pin.direction)).tolist()
    short = PlanInput(lines=(PlanLine(name="pin-1", start_mm=pin.origin_mm, end_mm=(x, y, z)),))
    with CaseFolder(case).locked():
        replace_order(CaseFolder(case), order.model_copy(update={"plan": short}), "test")
    with pytest.raises(CheckFailed) as caught:
        run_case(read_case_order(case / "order.toml"), None, site=tmp_path / "site", approve_as="tester")
    assert_kept(case, caught.value, "pin", pictured=True)


@pytest.mark.slow
def test_a_guide_whose_drill_ends_at_a_declared_vessel_is_kept_with_a_picture_and_not_sliced(tmp_path: Path) -> None:
    scan = spine_scene().scanned(seed=1, scanner=Scanner((1.0, 0.6, 0.6), fwhm_mm=1.2))
    target = 'bones = ["vertebra-3"]\nlevel_confirmed_by = "code-17"'
    case = case_of(
        tmp_path, scan, part="SPINE", side="midline", device="pedicle-guide", target=target, parameters="bone_model = false"
    )
    order = read_case_order(tmp_path / "order.toml")
    run_case(order, tmp_path / "study", site=tmp_path / "site", until="plan")
    proposal: Plan = CaseFolder(case).load("plan")
    way = next(axis for axis in proposal.axes if axis.length_mm is not None)
    x, y, z = (np.array(way.origin_mm) + ((way.length_mm or 0.0) + 3.0) * np.array(way.direction)).tolist()
    vessel = PlanInput(no_go=(PlanNoGo(name="aorta", points_mm=((x, y, z),), radius_mm=1.5),))
    with CaseFolder(case).locked():
        replace_order(CaseFolder(case), order.model_copy(update={"plan": vessel}), "test")
    with pytest.raises(CheckFailed) as caught:
        run_case(read_case_order(case / "order.toml"), None, site=tmp_path / "site", approve_as="tester")
    assert_kept(case, caught.value, "no-go", pictured=True)
