"""A family in a package of its own, as docs/own-family.md makes it, keeps the promises of the shipped ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import pytest

from batchone.samples.demo import DEFECT
from batchone.samples.head import CENTRE_MM, SHAPE, head_phantom

HERE = Path(__file__).parent
TUTORIAL = HERE.parent / "docs" / "own-family.md"
PACKAGE = TUTORIAL.with_suffix("")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, as pip installs it: what has that folder on its path has the family."""
    into = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(into), str(PACKAGE)], check=True, timeout=120)
    return into


def python(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment)


def batchone(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    return python("-m", "batchone.pipeline", *arguments, path=path)


@pytest.mark.slow
def test_it_keeps_the_promises_of_every_family_and_its_own(installed: Path) -> None:
    suites = [str(HERE / name) for name in ("test_families.py", "drill_template_cases.py")]
    done = python("-m", "pytest", "-v", "-p", "no:cacheprovider", *suites, path=installed)
    assert done.returncode == 0, done.stdout
    assert "test_it_is_found_under_its_name[drill-template] PASSED" in done.stdout
    assert "skipped" not in done.stdout


def test_it_is_listed_where_it_is_installed_and_unknown_elsewhere(installed: Path) -> None:
    tree = json.loads(batchone("devices", "drill-template", "--json", path=installed).stdout)
    assert (tree["name"], tree["title"]) == ("drill-template", "Drill template")
    assert tree["parameters"]["properties"]["sleeve_mm"]["maximum"] == 30.0
    assert tree["limits"]["gates"]["between_holes_mm"]["low"] == 2.0
    for name, path in (("drill-template", None), ("drill-templates", installed)):
        refused = batchone("devices", name, path=path)
        assert (refused.returncode, f"device is '{name}'; known devices:" in refused.stderr) == (2, True)


def test_the_tutorial_shows_what_the_files_hold_and_links_to_what_there_is() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    files = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml")]
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        assert any(block in file for file in files), block
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert (TUTORIAL.parent / link).exists(), link


@pytest.mark.slow
def test_the_order_of_the_tutorial_runs_on_the_head_of_the_demo(installed: Path, tmp_path: Path) -> None:
    x, y, z = CENTRE_MM
    head = head_phantom(shape=(90, *SHAPE[1:]), centre_mm=(x, y, z + 35.0), defect=DEFECT)  # its upper part, to save time
    study, site = tmp_path / "head.nii", tmp_path / "site"
    nibabel.save(nibabel.Nifti1Image(head.hu.transpose(2, 1, 0), np.diag([-1.0, -1.0, 1.0, 1.0]) @ head.affine), study)
    done = batchone("run", str(PACKAGE / "order.toml"), "--study", str(study), "--out", str(site), "--json", path=installed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "awaiting-approval"
    design = site / "cases" / "template-1" / "design"
    assert (design / "drill-template.stl").stat().st_size > 0
    made_by = json.loads((design / "stage.json").read_text())["made_by"]
    assert made_by == {"batchone": version("batchone"), "drill-template": "0.1.0"}
    judged = json.loads(batchone("inspect", str(study), "--json", path=installed).stdout)["families"]
    assert judged["drill-template"]["verdict"] == "warn"  # slices 1 mm apart, 0.75 mm are advised
