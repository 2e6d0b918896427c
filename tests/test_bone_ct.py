"""The scans that surfaces are judged by: the truth lies where the image says, and the same seed gives the same bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from batchone.pipeline.values import FloatArray, Mesh, moved_points
from batchone.samples.bone_ct import BoneScan, Scanner, Scene, Tissue, scene
from batchone.samples.long_bone import bone_surface
from batchone.samples.spine import spine_segment
from batchone.segment.patches import vertex_normals
from batchone.segment.surface import count_open_edges, signed_volume_mm3

PLAIN = Tissue(cortex_mm=(3.0, 3.0), cortex_spread=0.0, marrow_hu=1200.0, marrow_spread_hu=0.0, fat_share=0.0)
QUIET = Scanner(spacing_mm=(0.8, 0.7, 0.7), fwhm_mm=1.0, noise_hu=0.0)


@pytest.fixture(scope="module")
def rod() -> Scene:
    mesh = bone_surface(60.0, rings=60, spokes=48)
    return scene([Mesh(0.5 * mesh.vertices_mm, mesh.faces)], tissue=PLAIN)


def seen_hu(scan: BoneScan, points: FloatArray) -> FloatArray:
    index = moved_points(np.linalg.inv(scan.affine), points)
    return np.asarray(map_coordinates(scan.volume, index[:, ::-1].T, order=3, output=np.float64))


@pytest.mark.parametrize(
    "scanner", [QUIET, replace(QUIET, drift_mm=0.2), replace(QUIET, drift_mm=-0.2)], ids=["straight", "tilted", "back"]
)
def test_half_of_the_step_lies_on_the_true_surface(rod: Scene, scanner: Scanner) -> None:
    scan = rod.scanned(seed=3, scanner=scanner)
    mesh = scan.meshes[0]
    shaft = np.abs(mesh.vertices_mm[:, 2]) < 8.0
    points, normals = mesh.vertices_mm[shaft], vertex_normals(mesh.vertices_mm, mesh.faces)[shaft]
    assert np.abs(scan.distance_mm(points)).max() < 0.04  # corners of this coarse mesh stand out of the smooth field
    assert scan.distance_mm(points - 0.5 * normals) == pytest.approx(-0.5, abs=0.04)
    # half is 620 HU; a round shaft of 5 mm loses blur^2 / (2 * 5 mm) = 0.025 mm, 25 HU of a slope of 1000 HU per mm
    assert np.median(seen_hu(scan, points)) == pytest.approx(620.0, abs=45.0)
    assert np.median(seen_hu(scan, points - 1.5 * normals)) == pytest.approx(1200.0, abs=15.0)
    assert np.median(seen_hu(scan, points + 1.5 * normals)) == pytest.approx(40.0, abs=15.0)
    assert bool(scan.affine[1, 2] != 0.0) is (scanner.drift_mm != 0.0)


def test_the_same_seed_gives_the_same_bits_and_another_not(rod: Scene) -> None:
    noisy = replace(QUIET, noise_hu=20.0)
    first, again, other = (rod.scanned(seed=seed, scanner=noisy).hu for seed in (4, 4, 5))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


def test_an_overshooting_kernel_is_brighter_behind_the_edge(rod: Scene) -> None:
    plain, sharp = (rod.scanned(seed=3, scanner=replace(QUIET, overshoot=share)).volume for share in (0.0, 0.3))
    assert sharp.max() > plain.max() + 30.0
    assert sharp.min() < plain.min() - 15.0


def test_the_vertebrae_are_closed_alike_and_not_mirrored() -> None:
    made = spine_segment()
    assert (len(made.vertebrae), len(made.discs)) == (3, 2)
    for mesh in (*made.vertebrae, *made.discs):
        assert count_open_edges(mesh.faces) == 0
        assert signed_volume_mm3(mesh) > 5e3
    points = made.vertebrae[0].vertices_mm
    assert points[:, 0].max() + points[:, 0].min() > 2.0  # the left side reaches further
    assert np.diff([mesh.vertices_mm[:, 2].mean() for mesh in made.vertebrae]).min() > 25.0
