"""Layers of 30 um against independent sections: of every family's devices, of real bones, of random bodies."""

from __future__ import annotations

from pathlib import Path

import manifold3d
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from batchone.pipeline.values import FloatArray, Mesh
from batchone.samples.faulty.good import bones, good
from batchone.slicer.layers import Layers, section_heights, slice_parts
from batchone.slicer.orient import stand
from batchone.slicer.readback import volume_mm3

Solid = manifold3d.Manifold
LAYER_MM, RANDOM, MOST_AREA, MOST_VOLUME = 0.03, 200, 0.005, 0.001
LEAST_MM2 = 1e-4
IN_A_PLANE_MM = 1e-7  # a face in the plane of a section may fall on either side of it by rounding


def on_the_plate(points: FloatArray, faces: FloatArray) -> Mesh:
    return Mesh(points - points.min(axis=0) + np.array([5.0, 5.0, 0.0]), np.asarray(faces, dtype=np.int32))


def largest_errors(mesh: Mesh, layers: Layers) -> tuple[float, float]:
    """Relative error of area, the largest of some layers, and of volume."""
    solid = Solid(manifold3d.Mesh64(mesh.vertices_mm, mesh.faces.astype(np.uint64)))
    assert solid.status() == manifold3d.Error.NoError
    top_mm = float(mesh.vertices_mm[:, 2].max())
    heights, area = section_heights(top_mm, LAYER_MM), layers.area_mm2()
    chosen = np.random.default_rng(7).choice(len(heights), min(RANDOM, len(heights)), replace=False)
    worst = 0.0
    for k in chosen.tolist():
        wanted = [solid.slice(float(heights[k]) + side).area() for side in (-IN_A_PLANE_MM, IN_A_PLANE_MM)]
        worst = max(worst, min(abs(float(area[k]) - one) / max(one, LEAST_MM2) for one in wanted))
    thickness = np.full(len(heights), LAYER_MM)
    thickness[-1] = top_mm - (len(heights) - 1) * LAYER_MM
    whole = volume_mm3(mesh)
    return worst, abs(float(area @ thickness) - whole) / whole


def steps(mesh: Mesh) -> float:
    """Share of the volume by which a layer in which level faces end may err: half a layer over their area."""
    corners = mesh.vertices_mm[mesh.faces]
    twice = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    level = np.ptp(corners[:, :, 2], axis=1) == 0.0
    inner = level & (corners[:, 0, 2] > 0.0) & (corners[:, 0, 2] < mesh.vertices_mm[:, 2].max())
    return float(0.25 * LAYER_MM * np.abs(twice[inner, 2]).sum()) / volume_mm3(mesh)


def assert_true(mesh: Mesh) -> None:
    layers = slice_parts([mesh], LAYER_MM)
    assert (np.diff(layers.loop_start) >= 3).all()  # closed: a loop of at least three points, the first not repeated
    area, volume = largest_errors(mesh, layers)
    assert area <= MOST_AREA
    assert volume <= MOST_VOLUME + steps(mesh)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pedicle-guide", "tibial-guide", "cranial-implant", "hollow-model"])
def test_layers_of_every_family(kind: str) -> None:
    case = good(kind, *bones(kind)[0])
    for part in case.device.parts:
        turned = part.mesh.vertices_mm @ stand(part, case.process, box_mm=(240.0, 240.0, 325.0)).rotation.T
        mesh = on_the_plate(turned, part.mesh.faces)
        assert (slice_parts([mesh], LAYER_MM).area_mm2() > 0.0).all()
        assert_true(mesh)


@pytest.mark.parametrize("name", ["Left_Bone_Talus", "Right_Bone_Patella", "Left_Bone_Sacrum"])
def test_layers_of_real_bones(test_data: Path, name: str) -> None:
    bone = trimesh.load(test_data / "bones" / f"VHF_{name}_smooth.stl")
    assert_true(on_the_plate(np.asarray(bone.vertices, dtype=np.float64), bone.faces))


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
