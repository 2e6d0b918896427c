"""Parametric features: closed triangles, volumes, readable text, STEP files without time."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from batchone.design.checks.mesh import is_closed, mesh_volume_mm3
from batchone.design.solid import Feature, arrow, box, cone, cylinder, placed, step_of, text
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Mesh

UP = (0.0, 0.0, 1.0)
RIGHT = (1.0, 0.0, 0.0)


def letters(string: str) -> Feature:
    return text("label", string, height_mm=5.0, depth_mm=1.0, above_mm=0.5, origin=(0.0, 0.0, 0.0), x_direction=RIGHT, normal=UP)


def test_every_kind_of_feature_is_closed_and_keeps_its_volume() -> None:
    bar = cylinder("bar", start_mm=(1, 2, 3), axis=(0, 0.6, 0.8), diameter_mm=4.0, length_mm=10.0)
    sink = cone("sink", start_mm=(0, 0, 0), axis=UP, start_diameter_mm=2.0, end_diameter_mm=6.0, length_mm=2.0)
    block = box("block", size_mm=(1, 2, 3), centre_mm=(5, 5, 5))
    sign = arrow("sign", length_mm=10.0, width_mm=5.0, depth_mm=1.0, origin=(0, 0, 0), direction=(0, 1, 0), normal=UP)
    expected = {
        bar: np.pi * 4.0 * 10.0,
        sink: np.pi * 2.0 / 3.0 * (1.0 + 3.0 + 9.0),
        block: 6.0,
        sign: 5.5 * 2.0 + 0.5 * 4.5 * 5.0,
    }
    for feature, volume in expected.items():
        assert is_closed(feature.mesh), feature.name
        assert mesh_volume_mm3(feature.mesh) == pytest.approx(volume, rel=0.02), feature.name  # chords inside the circle


def test_a_cylinder_starts_at_its_start_and_points_along_its_axis() -> None:
    bar = cylinder("bar", start_mm=(1, 2, 3), axis=(0, 0, -2), diameter_mm=4.0, length_mm=10.0).mesh.vertices_mm
    assert bar[:, 2].max() == pytest.approx(3.0)
    assert bar[:, 2].min() == pytest.approx(-7.0)
    assert bar[:, :2].mean(axis=0) == pytest.approx([1.0, 2.0], abs=0.05)


def test_a_capital_has_the_ordered_height_and_depth_and_is_centred() -> None:
    points = letters("H").mesh.vertices_mm
    assert np.ptp(points[:, 1]) == pytest.approx(5.0, abs=0.01)
    assert (points[:, 2].min(), points[:, 2].max()) == pytest.approx((-1.0, 0.5))
    assert points[:, 0].min() == pytest.approx(-points[:, 0].max(), abs=0.01)


def test_letters_are_not_mirrored_and_read_along_x() -> None:
    points = letters("L").mesh
    low = points.vertices_mm[:, 1] < -2.0
    assert points.vertices_mm[low, 0].max() == pytest.approx(points.vertices_mm[:, 0].max())  # the foot of an L points right
    two = letters("L.").mesh.vertices_mm
    assert np.ptp(two[two[:, 0] > two[:, 0].max() - 1.0, 1]) < 2.0  # the dot stands on the right


def test_the_shipped_font_is_used() -> None:
    area = mesh_volume_mm3(letters("H").mesh) / 1.5
    stem, bar = 0.1885, 0.1538  # widths per font size of DejaVu Sans Bold, measured on its outline
    size = 5.0 / 0.729
    width = np.ptp(letters("H").mesh.vertices_mm[:, 0])
    assert width == pytest.approx(0.6533 * size, rel=0.01)
    assert area == pytest.approx(2 * stem * size * 5.0 + bar * size * (width - 2 * stem * size), rel=0.1)


def test_text_that_is_not_printable_is_refused() -> None:
    for string in ("", " ", "a\nb", "Zoë"):
        with pytest.raises(DesignError, match="printable"):
            letters(string)


def test_a_size_of_zero_is_refused_by_name() -> None:
    with pytest.raises(DesignError, match="length is 0 mm"):
        cylinder("bar", start_mm=(0, 0, 0), axis=UP, diameter_mm=1.0, length_mm=0.0)


def test_a_placed_copy_is_the_same_feature_elsewhere() -> None:
    pose = np.array([[0.0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    original = letters("F")
    copy = placed(original, "copy", pose)
    assert copy.mesh.vertices_mm == pytest.approx(original.mesh.moved(pose).vertices_mm)
    assert box_of(copy.step) == pytest.approx(box_of_mesh(copy.mesh), abs=0.02)


def test_a_step_file_holds_every_feature_by_name_in_the_patient_frame() -> None:
    pose = np.array([[0.0, -1, 0, 5], [1, 0, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    features = (letters("AB"), cylinder("pin 1", start_mm=(8, 0, 0), axis=UP, diameter_mm=2.0, length_mm=3.0))
    step = step_of(features, pose=pose)
    assert b"'001 label'" in step
    assert b"'002 pin 1'" in step
    both = Mesh(np.vstack([feature.mesh.vertices_mm for feature in features]), features[0].mesh.faces)
    assert box_of(step) == pytest.approx(box_of_mesh(both.moved(pose)), abs=0.02)
    assert step_of(()) == b""


def test_a_step_file_has_no_time_and_the_same_bytes_in_every_process() -> None:
    first = fingerprint()
    for _ in range(4):  # running numbers of the writer gain a digit on the way
        assert fingerprint() == first
    code = (
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('solid_under_test', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.fingerprint())\n"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=dict(os.environ))
    assert there.stdout.strip() == first


def fingerprint() -> str:
    features = (
        letters("demo-7"),
        cylinder("bar", start_mm=(1, 2, 3), axis=(0, 0.6, 0.8), diameter_mm=4.0, length_mm=10.0),
        box("block", size_mm=(1, 2, 3), centre_mm=(5, 5, 5)),
    )
    digest = hashlib.sha256(step_of(features))
    for feature in features:
        digest.update(feature.mesh.vertices_mm.tobytes() + feature.mesh.faces.tobytes() + feature.brep)
    return digest.hexdigest()


def box_of_mesh(mesh: Mesh) -> list[float]:
    return [*mesh.vertices_mm.min(axis=0), *mesh.vertices_mm.max(axis=0)]


def box_of(step: bytes) -> list[float]:
    """Read a STEP file back with OCCT."""
    import tempfile
    from pathlib import Path

    import cadquery as cq

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "read.step"
        path.write_bytes(step)
        shape = cq.importers.importStep(str(path))
    bounds = cq.Compound.makeCompound(shape.vals()).BoundingBox(0.001)
    return [bounds.xmin, bounds.ymin, bounds.zmin, bounds.xmax, bounds.ymax, bounds.zmax]
