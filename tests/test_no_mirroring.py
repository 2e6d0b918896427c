"""The letter on the right stays on the right: from DICOM through STL, 3MF and layers.

Points 0.7 mm below the phantom's surface lie in the letter's groove (empty) on the right, and in bone at the mirrored place.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import stl
from point_cloud_utils import signed_distance_to_mesh

from batchone.pipeline.values import FloatArray, moved_points
from batchone.samples.demo import demo_scan
from batchone.samples.dicom import write_demo
from batchone.samples.head import Phantom
from batchone.slicer.cli_format import CliFile, read_cli
from batchone.slicer.threemf import read_3mf

pytestmark = pytest.mark.slow

DEPTH_MM = 0.8  # from the strokes' centre, 0.1 mm above the surface, to well inside the groove of 1.5 mm


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    order, study = write_demo(folder / "sample", device="anatomical-model")
    command = [sys.executable, "-m", "batchone.pipeline", "run", str(order), "--study", str(study), "--out", str(folder)]
    done = subprocess.run([*command, "--approve-as", "tester", "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["job"])


@pytest.fixture(scope="module")
def groove_mm() -> FloatArray:
    phantom = demo_scan("anatomical-model").scan
    assert isinstance(phantom, Phantom)
    outward = phantom.letter_mm - phantom.pose[:3, 3]
    return phantom.letter_mm - DEPTH_MM * outward / np.linalg.norm(outward, axis=1, keepdims=True)


def mirrored(points_mm: FloatArray) -> FloatArray:
    return points_mm * np.array([-1.0, 1.0, 1.0])


def test_the_letter_is_on_the_right_of_the_stl(job: Path, groove_mm: FloatArray) -> None:
    corners = stl.mesh.Mesh.from_file(str(job / "parts" / "model.stl")).vectors.reshape(-1, 3).astype(np.float64)
    faces = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
    _expect_letter(lambda points: signed_distance_to_mesh(points, corners, faces)[0] < 0.0, groove_mm)


def test_the_letter_is_on_the_right_of_the_3mf(job: Path, groove_mm: FloatArray) -> None:
    [item] = read_3mf((job / "parts" / "model.3mf").read_bytes())
    placed = item.mesh.moved(item.pose)
    _expect_letter(lambda points: signed_distance_to_mesh(points, placed.vertices_mm, placed.faces)[0] < 0.0, groove_mm)


def test_the_letter_is_on_the_right_of_the_layers(job: Path, groove_mm: FloatArray) -> None:
    build = json.loads((job / "job.json").read_text())["build"]
    [pose] = [np.array(entry["pose"]) for entry in build["placements"] if entry["part"] == "model"]
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0, abs=1e-6)
    layers = read_cli((job / "build" / "layers.cli").read_bytes())  # of the bodies, without what a beam follows
    _expect_letter(lambda points: np.array([_in_layer(layers, p) for p in moved_points(pose, points)]), groove_mm)


def _expect_letter(inside: object, groove_mm: FloatArray) -> None:
    assert callable(inside)
    assert np.mean(inside(groove_mm)) < 0.1, "the groove on the right is filled"
    assert np.mean(inside(mirrored(groove_mm))) > 0.9, "the left side has a groove"


def _in_layer(found: CliFile, point_mm: FloatArray) -> bool:
    layer = int(np.searchsorted(found.top_mm, point_mm[2]))
    crossings, outlines = 0, found.outlines
    for part in range(len(found.labels)):
        for loop in outlines.loops(layer, part):
            a, b = loop, np.roll(loop, -1, axis=0)
            spans = (a[:, 1] > point_mm[1]) != (b[:, 1] > point_mm[1])
            x = a[spans, 0] + (point_mm[1] - a[spans, 1]) / (b[spans, 1] - a[spans, 1]) * (b[spans, 0] - a[spans, 0])
            crossings += int(np.count_nonzero(x > point_mm[0]))
    return crossings % 2 == 1
