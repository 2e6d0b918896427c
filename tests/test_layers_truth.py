"""Layers of 30 um against independent sections: of every family's devices, of real bones, of random bodies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import manifold3d
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from batchone.pipeline.values import Mesh
from batchone.samples.faulty.good import bones, good
from batchone.samples.layer_truth import LayerTruth, layer_truth, on_the_plate
from batchone.slicer.cli_format import write_cli
from batchone.slicer.layers import Layers
from batchone.slicer.orient import stand

Solid = manifold3d.Manifold
LAYER_MM = 0.03


def assert_true(mesh: Mesh) -> LayerTruth:
    found = layer_truth(mesh, LAYER_MM)
    assert found.holds, found
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pedicle-guide", "tibial-guide", "cranial-implant", "hollow-model"])
def test_layers_of_every_family(kind: str) -> None:
    case = good(kind, *bones(kind)[0])
    for part in case.device.parts:
        turned = part.mesh.vertices_mm @ stand(part, case.process, box_mm=(240.0, 240.0, 325.0)).rotation.T
        assert assert_true(on_the_plate(turned, part.mesh.faces)).holds_flat


@pytest.mark.parametrize("name", ["Left_Bone_Talus", "Right_Bone_Patella", "Left_Bone_Sacrum"])
def test_layers_of_real_bones(test_data: Path, name: str) -> None:
    bone = trimesh.load(test_data / "bones" / f"VHF_{name}_smooth.stl")
    assert assert_true(on_the_plate(np.asarray(bone.vertices, dtype=np.float64), bone.faces)).holds_flat


@st.composite
def bodies(draw: st.DrawFn) -> Solid:
    """Boxes, tori and nested shells side by side, within each other and turned; some with faces in the planes of sections."""
    whole = Solid()
    for _ in range(draw(st.integers(1, 3))):
        size = [draw(st.integers(20, 200)) * LAYER_MM for _ in range(3)]
        at = [draw(st.integers(-100, 100)) * 0.5 * LAYER_MM for _ in range(3)]
        kind = draw(st.sampled_from(["box", "torus", "shell"]))
        if kind == "box":
            one = Solid.cube(size)
        elif kind == "torus":
            ring = manifold3d.CrossSection.circle(0.3 * size[0], draw(st.integers(3, 12))).translate((size[0], 0.0))
            one = Solid.revolve(ring, draw(st.integers(3, 16)))
        else:
            one = Solid.sphere(size[0], 12) - Solid.sphere(0.8 * size[0], draw(st.sampled_from([8, 12])))
        turned = draw(st.sampled_from([(0.0, 0.0, 0.0), (90.0, 0.0, 0.0), (90.0, 90.0, 0.0), (33.0, 21.0, 7.0)]))
        whole += one.rotate(turned).translate(at)
    return whole


@settings(max_examples=40, deadline=None)
@given(bodies())
def test_layers_of_random_bodies(body: Solid) -> None:
    mesh = body.to_mesh64()
    solid = on_the_plate(np.asarray(mesh.vert_properties, dtype=np.float64)[:, :3], np.asarray(mesh.tri_verts))
    if len(solid.faces):
        assert_true(solid)


def test_what_steps_allow_is_what_a_level_face_errs_by_and_no_more() -> None:
    """A block with a ledge: its lower half is wide up to a level face, on, or ``off`` layers above, a surface of layers."""

    def of(off: float) -> LayerTruth:
        solid = Solid.cube((4.0, 4.0, (50 + off) * LAYER_MM)) + Solid.cube((2.0, 4.0, 100 * LAYER_MM))
        mesh = solid.to_mesh64()
        return layer_truth(on_the_plate(np.asarray(mesh.vert_properties)[:, :3], np.asarray(mesh.tri_verts)), LAYER_MM)

    whole = of(0.0)
    assert max(whole.volume, whole.file_volume) < 1e-9
    assert whole.steps < 1e-9
    for off in (0.25, 0.4, 0.6, 0.75):
        found = of(off)
        assert found.holds
        assert found.volume == pytest.approx(found.steps, rel=1e-6)
        assert found.steps == pytest.approx(8.0 * min(off, 1.0 - off) / (16.0 * (50 + off) + 8.0 * (50 - off)), rel=1e-6)


def test_a_file_without_a_layer_or_with_other_outlines_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = Solid.cube((4.0, 4.0, 3.0)).to_mesh64()
    solid = on_the_plate(np.asarray(mesh.vert_properties)[:, :3], np.asarray(mesh.tri_verts))
    assert layer_truth(solid, LAYER_MM).holds_flat

    def changed(change: Callable[[Layers], Layers]) -> LayerTruth:
        with monkeypatch.context() as patched:
            patched.setattr("batchone.samples.layer_truth.write_cli", lambda layers, labels: write_cli(change(layers), labels))
            return layer_truth(solid, LAYER_MM)

    blank = changed(lambda layers: layers.between(0, layers.count - 1))
    assert (blank.blank, blank.holds) == (1, False)
    for wider, holds in ((1.0004, True), (1.02, False)):  # 0.08 %, of which rounding leaves nothing; 4 %
        found = changed(lambda layers, wider=wider: replace(layers, points_mm=layers.points_mm * wider))
        assert (found.volume, found.holds) == (pytest.approx(0.0, abs=1e-9), holds)
