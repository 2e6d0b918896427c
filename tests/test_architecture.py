"""The floors: who may import whom, what the command line may load, how modules may be named."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = ("segment", "design", "slicer")
TOP = (
    "pipeline.stages",
    "pipeline.run",
    "pipeline.case",
    "pipeline.case_waivers",
    "pipeline.case_labels",
    "pipeline.engine",
    "pipeline.serve",
    "pipeline.cli",
    "pipeline.__main__",
)
TOP += ("pipeline.progress", "pipeline.inspection", "pipeline.diagnosis", "pipeline.commands")
TOP += (
    "pipeline.case_answers",
    "pipeline.case_comments",
    "pipeline.case_decisions",
    "pipeline.case_handover",
    "pipeline.case_workshop",
    "pipeline.case_order",
    "pipeline.revisions",
    "pipeline.preview",
)
TOP += ("pipeline.audit", "pipeline.case_approval", "pipeline.backup", "pipeline.retention", "pipeline.site_diagnosis")
VOCABULARY = tuple(
    f"pipeline.{name}"
    for name in (
        "values",
        "approval",
        "findings",
        "labels",
        "landmarks",
        "source_images",
        "orientation",
        "seat_map",
        "errors",
        "limits",
        "order",
        "process",
        "machine",
        "config",
        "waiver",
        "side_by_side",
        "program",
        "toolpath",
    )
)
UPPER = ("factory", "samples", "pipeline.intake", "pipeline.job", "pipeline.hospital", "pipeline.editing", "pipeline.markups")
UPPER += ("pipeline.build",)
UPPER += ("pipeline.store", "pipeline.clock")
GROUND = ("pipeline.codec", "pipeline.disk", "pipeline.memory", "pipeline.events", "pipeline.telemetry")
PACKAGES = ("pipeline", *ROOMS, "factory", "samples")
BANNED_NAMES = {"utils", "helpers", "common", "base", "misc"}


def _files() -> list[tuple[str, Path]]:
    found = []
    for package in PACKAGES:
        root = Path(importlib.import_module(f"batchone.{package}").__file__ or "").parent
        for path in sorted(root.rglob("*.py")):
            relative = path.relative_to(root).with_suffix("")
            parts = [part for part in relative.parts if part != "__init__"]
            found.append((".".join([package, *parts]), path))
    return found


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("batchone.") for name in names if name.startswith("batchone.")}


def _below(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


@pytest.mark.parametrize(("module", "path"), _files(), ids=[name for name, _ in _files()])
def test_a_module_imports_only_from_its_own_floor_and_below(module: str, path: Path) -> None:
    room = module.split(".")[0]
    for name in _imports(path):
        if _below(module, TOP) or not _below(name, PACKAGES):
            continue
        if _below(module, VOCABULARY):
            allowed = VOCABULARY
        elif room in ROOMS:
            allowed = (*VOCABULARY, room)
        elif _below(module, GROUND):
            allowed = (*VOCABULARY, *GROUND)
        else:
            own = tuple(upper for upper in UPPER if _below(module, (upper,)))
            if "pipeline.intake" in own:  # what another site hands over is signed
                own += ("pipeline.job.signature", "pipeline.job.withdrawal")
            if "pipeline.hospital" in own:  # the way in and the way out: it packs for the intake and sends what the job holds
                own += ("pipeline.intake", "pipeline.job", "pipeline.store", "pipeline.markups")
            if "factory" in own:  # what happens to a job folder or a plate: it reads and proves them as they are written
                own += ("pipeline.job", "pipeline.build", "pipeline.store")
            if "pipeline.build" in own:  # a plate of many released jobs: sealed and verified as they are
                own += ("pipeline.job", "pipeline.store")
            if (
                "pipeline.editing" in own
            ):  # labels out and back: an input of the case, with the job's codes for anatomy and its mesh files
                own += ("pipeline.job.dicom_codes", "pipeline.job.dicom_header", "pipeline.job.dicom_seg", "pipeline.job.measure")
                own += ("pipeline.store", "pipeline.intake.pseudonym")
            allowed = (*VOCABULARY, *ROOMS, *GROUND, *own)
        assert _below(name, allowed) or name in ("pipeline", *ROOMS), f"{module} imports {name}"


def test_nothing_below_imports_the_top_floor() -> None:
    for module, path in _files():
        if not _below(module, TOP):
            assert not [name for name in _imports(path) if _below(name, TOP)], module


def test_no_module_has_a_name_that_says_nothing_or_hides_the_standard_library() -> None:
    for module, _ in _files():
        last = module.rsplit(".", 1)[-1]
        assert last not in BANNED_NAMES, module
        assert last not in sys.stdlib_module_names or last == "__main__", module


def test_no_module_grows_past_450_lines() -> None:
    for module, path in _files():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 450, module


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from batchone.pipeline.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'cadquery', 'vtk', 'vtkmodules', 'SimpleITK', 'numba', 'trimesh', 'scipy', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_labels_are_never_wiped() -> None:
    for module, path in _files():
        assert "as_original(" not in path.read_text(encoding="utf-8"), module


def test_the_packages_are_never_imported_by_their_bare_name() -> None:
    for module, path in _files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in PACKAGES, module
