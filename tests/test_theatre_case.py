"""A whole case in guide resin, at a site with tables of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import bone_scan
import nibabel
import numpy as np
import pytest

from batchone.pipeline.job.manifest import JobManifest

PROGRAM = Path(__file__).with_name("bone_program.py")
DRILLS = "name,diameter_mm,source\n"
ORDER = """\
case = "resin-1"
device = "anatomical-model"
side = "left"
process = "guide-resin"
machine = "sim-01"
due = 2026-11-24T08:00:00Z

[target]
bones = ["L1"]

[instruments]
drill = "ours"

[parameters]
engrave = false
scale_cube = false
"""


def set_table(site: Path, text: str) -> None:
    path = site / "tables" / "instruments" / "drills.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a study, an order, and a program that tells its bones apart."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(PROGRAM), "{image}", "{labels}", "{names}"]
    (folder / "site.toml").write_text(
        f'[segmentation]\nbackend = "external"\n[segmentation.external]\nprogram = {json.dumps(command)}\nversion = "1.0"\n'
    )
    scan, _ = bone_scan.bones_scan()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
    nibabel.save(nibabel.Nifti1Image(scan.hu.transpose(2, 1, 0), affine), folder / "study.nii.gz")
    (folder / "order.toml").write_text(ORDER)
    return folder


def batchone(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: a whole case takes memory that other tests here measure."""
    order, study = str(site / "order.toml"), str(site / "study.nii.gz")
    command = [sys.executable, "-m", "batchone.pipeline", "run", order, "--study", study, "--out", str(site), "--json"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_case_in_guide_resin_runs_to_its_job_folder_with_the_instruments_of_the_site(site: Path) -> None:
    case = site / "cases" / "resin-1"

    # an instrument that nobody knows, or a faulty table, stops the case before anything has run
    unknown = batchone(site)
    assert (unknown.returncode, "drill is 'ours'; known: drill-1.5" in unknown.stderr) == (2, True), unknown.stderr
    set_table(site, DRILLS + "ours,0,caliper\n")
    faulty = batchone(site)
    assert (faulty.returncode, "tables/instruments/drills.csv:2: diameter_mm" in faulty.stderr) == (5, True), faulty.stderr
    assert not (case / "intake").exists()

    set_table(site, DRILLS + "ours,3.5,caliper\n")
    done = batchone(site, "--approve-as", "tester")
    assert done.returncode == 0, done.stderr
    folder = Path(json.loads(done.stdout)["job"])
    kept = json.loads((case / "tables.json").read_text())
    assert kept["drills"][-1] == {"name": "ours", "diameter_mm": 3.5, "source": "caliper", "origin": "site"}
    job = JobManifest.model_validate_json((folder / "job.json").read_bytes())
    assert (job.process, job.parts[0].material) == ("guide-resin", "guide resin")
    assert (folder / "build" / "layers.cli").stat().st_size > 0
    warned = {finding.check for finding in job.findings if finding.stage == "slice" and finding.verdict == "warn"}
    assert "layers.images" not in warned
    assert job.build.images is not None
    assert job.build.images.figures.images == job.build.layers
    assert (folder / "build" / "layers.sl1").stat().st_size > 0
    assert any("121 C" in step for step in job.after_printing)

    # a changed table is a changed input: the stages that take it run again; what they give is the same, so the approval stands
    set_table(site, DRILLS + "ours,3.6,caliper\n")
    again = batchone(site)
    tree = json.loads(again.stdout)
    assert (tree["status"], tree["job"]) == ("done", str(folder)), again.stderr
    assert {stage for stage, seconds in tree["stages"].items() if seconds > 0.0} == {"plan", "design", "check"}
