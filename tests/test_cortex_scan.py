"""The fitted cortex on a real scan, through the segment stage: no truth, but what comes out must be a surface to build on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchone.segment.shapes
from batchone.design.crossings import crossing_pairs
from batchone.design.families import load_families
from batchone.pipeline.intake.make import intake
from batchone.pipeline.order import Order, Target
from batchone.pipeline.values import Anatomy, FloatArray, Mesh
from batchone.segment.cortex import MOST_MOVED_MM, Mask, cortex_surface
from batchone.segment.make import segment
from batchone.segment.shapes import CUT_MM
from batchone.segment.surface import count_open_edges

pytestmark = [pytest.mark.slow, pytest.mark.data]
VERTEBRA = "vertebra-4"


@dataclass(frozen=True)
class Fitted:
    anatomy: Anatomy
    start: Mesh
    region: Mask
    log: str

    @property
    def mesh(self) -> Mesh:
        return self.anatomy.bones[0].mesh

    @property
    def sigma_mm(self) -> FloatArray:
        return self.anatomy.bones[0].uncertainty_mm


@pytest.fixture(scope="module")
def vertebra(test_data: Path) -> Fitted:
    """A vertebra of a family that touches it: the protocol says so, the order names the bone."""
    protocol = load_families()["anatomical-model"].limits.protocol.model_copy(update={"fits_cortex": True})
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    target = Target(bones=(VERTEBRA,))
    order = Order(case="t", device="anatomical-model", side="midline", process="p", machine="m", due=due, target=target)
    scan, _ = intake(test_data / "thorax.zip", order, protocol)
    given: list[Any] = []

    def watched(mesh: Mesh, grid: Any, figures: Any, region: Mask) -> Any:
        given.extend((mesh, region))
        return cortex_surface(mesh, grid, figures, region)

    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batchone.segment.shapes, "cortex_surface", watched)
        patch.setattr(batchone.segment.shapes._log, "info", lambda text, *values: lines.append(text % values))
        anatomy = segment(scan, order, protocol=protocol)
    start, region = given
    return Fitted(anatomy, start, region, "\n".join(lines))


def test_the_fitted_vertebra_is_a_surface_to_build_on(vertebra: Fitted) -> None:
    assert np.array_equal(vertebra.mesh.faces, vertebra.start.faces)
    assert count_open_edges(vertebra.mesh.faces) == 0
    assert len(crossing_pairs(vertebra.mesh, tolerance_mm=0.005)) == 0
    moved_mm = np.linalg.norm(vertebra.mesh.vertices_mm - vertebra.start.vertices_mm, axis=1)
    assert moved_mm.max() <= MOST_MOVED_MM + 0.3  # and the step to the paraboloid
    assert 0.1 <= np.median(moved_mm[vertebra.region]) <= 0.4  # thin cortex at 0.8 x 0.8 x 1 mm
    found = {f.check: f.value for f in vertebra.anatomy.findings}
    assert found["cortex_fitted"] >= 95.0


def test_no_triangle_of_it_is_turned_over_by_the_fit(vertebra: Fitted) -> None:
    before, after = (_face_normals(mesh) for mesh in (vertebra.start, vertebra.mesh))
    size = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    seen = size > 1e-9
    assert np.min(np.einsum("ij,ij->i", before, after)[seen] / size[seen]) >= 0.0


def test_it_is_sure_of_the_arch_and_not_of_cuts_between_bones(vertebra: Fitted) -> None:
    points = vertebra.mesh.vertices_mm
    behind = points[:, 1] > np.percentile(points[:, 1], 75)  # the spinous process and the laminae
    assert np.median(vertebra.sigma_mm[behind & vertebra.region]) <= 0.12
    assert vertebra.sigma_mm[~vertebra.region].min() >= CUT_MM


def test_the_log_says_how_long_the_fit_took(vertebra: Fitted) -> None:
    assert vertebra.log.startswith(f"{VERTEBRA}: cortex fitted at ")


def _face_normals(mesh: Mesh) -> FloatArray:
    a, b, c = (mesh.vertices_mm[mesh.faces[:, n]] for n in range(3))
    return np.asarray(np.cross(b - a, c - a))
