"""The surface bench: the fitted cortex on bones whose truth is known; ``benchmarks.coverage`` judges its bound.

    python -m benchmarks.surface [--only TEXT] [--data DIR]

One row per phantom and per voxelised bone, the truth never used by the method. Columns:

- mean, RMS, P95: signed distance of the vertices from the true surface, mm, + outside; `start` is the P95 of the half level;
- Dice: voxels of the scan inside both surfaces over the mean of both; dist, HD95: mean and 95th percentile of the distances
  between the surfaces, both ways, mm;
- cover: share of the vertices within 1.96 standard deviations; FWHM: found in the scan, beside what was set;
- CPU, wall: seconds of the fit for 40 000 vertices, figures of the scan included; CPU is that of all cores together.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchone.design.nearest import nearest_points
from batchone.pipeline.job.voxels import Grid as VoxelGrid
from batchone.pipeline.job.voxels import put_inside
from batchone.pipeline.values import FloatArray, Mesh
from batchone.samples.bone_ct import BoneScan, Scanner, Scene, Tissue, scene
from batchone.samples.head import Phantom as HeadPhantom
from batchone.samples.head import head_phantom
from batchone.samples.long_bone import bone_surface
from batchone.samples.scanner import Grid as ScanGrid
from batchone.samples.spine import DISC_HU, TISSUE, spine_segment
from batchone.segment.bone import Grid, ScanFigures, cropped, filled, packed_box, scan_figures
from batchone.segment.cortex import cortex_surface
from batchone.segment.separate import chosen
from batchone.segment.surface import edge_field, surface

EDGE_MM = 4.0  # nearer to the end of a scan that cuts the bone, nothing is compared
POINTS = 20_000  # compared between two surfaces, at most
THRESHOLD_HU = 226  # the fixed threshold that is shown beside

VAULT_SLOPE = 0.4  # of the head phantom's vault, directions this steep and steeper: no base, no face
WIDTHS = (9, 8, 7, 7, 7, 8, 7, 7, 7, 12, 7, 7)

Bones = Callable[[str], Mesh]


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], BoneScan]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--data", type=Path, default=os.environ.get("BATCHONE_TEST_DATA"))
    arguments = parser.parse_args()
    data = Path(arguments.data) if arguments.data else None
    heads = ("vertices", "mean", "RMS", "P95", "start", "Dice", "dist", "HD95", "cover", "FWHM found", "CPU", "wall")
    print(f"{'case':44}" + "".join(f"{head:>{width}}" for head, width in zip(heads, WIDTHS, strict=True)))
    for case in cases(data):
        if arguments.only in case.name:
            _row(case)
    if arguments.only in "head":
        _head_rows()


# --- scans -------------------------------------------------------------------------------------------------------------------


def cases(data: Path | None) -> Iterator[Case]:
    bones = bone_of(data) if data is not None else None
    yield Case("long bone, 0.625x0.5x0.5", lambda: _long().scanned())
    yield Case("long bone, 1.25x0.5x0.5", lambda: _long().scanned(scanner=Scanner((1.25, 0.5, 0.5))))
    yield Case("long bone, 0.8, tilted 17 deg, straightened", _tilted)
    for name, scanner in (
        ("0.4x0.4x0.4, FWHM 0.6", Scanner((0.4, 0.4, 0.4), 0.6)),
        ("0.8x0.5x0.5", Scanner((0.8, 0.5, 0.5))),
        ("0.8x0.5x0.5, noise 50", Scanner((0.8, 0.5, 0.5), noise_hu=50.0)),
        ("1.25x0.6x0.6, FWHM 1.3", Scanner((1.25, 0.6, 0.6), 1.3)),
    ):
        yield Case(f"spine segment, {name}", lambda scanner=scanner: _spine().scanned(scanner=scanner))  # type: ignore[misc]
    if bones is None:
        return
    yield Case("tibia, 45 mm, 0.625x0.5x0.5 (aim)", lambda: end_of(bones("Left_Bone_Tibia"), 45.0).scanned(seed=1))
    thick, noisy = Tissue((2.0, 4.0)), Scanner(fwhm_mm=1.3, noise_hu=60.0)
    name = "tibia, cortex 2-4, noise 60, FWHM 1.3"
    yield Case(name, lambda: end_of(bones("Left_Bone_Tibia"), 30.0, thick).scanned(seed=3, scanner=noisy))
    for name, scanner in (
        ("Right_Bone_Tibia", Scanner((0.8, 0.5, 0.5))),
        ("Left_Bone_Fibula", Scanner((0.8, 0.5, 0.5))),
        ("Left_Bone_Sacrum", Scanner((1.0, 0.6, 0.6))),
    ):
        yield Case(f"{name}, 60 mm", lambda name=name, scanner=scanner: end_of(bones(name), 60.0).scanned(scanner=scanner))  # type: ignore[misc]
    for name in ("Right_Bone_Talus", "Left_Bone_Calcaneous", "Left_Bone_Patella"):
        yield Case(f"{name}, whole", lambda name=name: scene([bones(name)]).scanned(scanner=Scanner((0.8, 0.5, 0.5))))  # type: ignore[misc]


def bone_of(data: Path) -> Bones:
    """Surfaces of the data folder, about their middle."""

    @lru_cache
    def load(name: str) -> Mesh:
        from stl.mesh import Mesh as Stl

        corners = Stl.from_file(str(data / "bones" / f"VHF_{name}_smooth.stl")).vectors.reshape(-1, 3).astype(np.float64)
        points, index = np.unique(corners, axis=0, return_inverse=True)
        return Mesh(points - points.mean(axis=0), index.reshape(-1, 3).astype(np.int32))

    return load


def end_of(mesh: Mesh, length_mm: float, tissue: Tissue | None = None, *, low: bool = False) -> Scene:
    z = mesh.vertices_mm[:, 2]
    reach = (float(z.min()) - 6.0, float(z.min()) + length_mm) if low else (float(z.max()) - length_mm, float(z.max()) + 6.0)
    return scene([mesh], tissue=tissue, z_mm=reach)


@lru_cache
def _long() -> Scene:
    return scene([bone_surface()], z_mm=(10.0, 70.0))


@lru_cache
def _spine() -> Scene:
    made = spine_segment()
    return scene(made.vertebrae, tissue=TISSUE, things=[(disc, DISC_HU) for disc in made.discs])


def _tilted() -> BoneScan:
    """Slices that drift behind each other, written as DICOM and straightened on the way in."""
    from batchone.pipeline.intake.make import intake
    from batchone.pipeline.limits import Protocol
    from batchone.pipeline.order import Order
    from batchone.samples.dicom import write_series

    scan = _long().scanned(scanner=Scanner((0.8, 0.5, 0.5), drift_mm=0.25))
    protocol = Protocol(
        max_slice_spacing_mm=1.25, warn_slice_spacing_mm=1.25, max_slice_thickness_mm=2.0, max_pixel_mm=1.0,
        max_gantry_tilt_deg=1.0, min_slices=20, source="bench",
    )  # fmt: skip
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    order = Order(case="bench", device="anatomical-model", side="left", process="p", machine="m", due=due)
    with tempfile.TemporaryDirectory() as folder:
        write_series(scan.hu, scan.affine, Path(folder) / "series")
        straight, _ = intake(Path(folder) / "series", order, protocol)
    return replace(scan, hu=np.ascontiguousarray(straight.hu), affine=straight.affine)


# --- what is measured --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    start: Mesh
    mesh: Mesh
    sigma_mm: FloatArray
    found: dict[str, float]
    cpu_s: float
    wall_s: float
    grid: Grid
    figures: ScanFigures


def fitted(scan: BoneScan) -> Fit:
    """The bones of a scan, their surface by the half level, and that by the cortex."""
    figures = scan_figures(scan.hu)
    steps = np.linalg.norm(scan.affine[:3, :3], axis=0)
    bones = chosen(scan.hu, (float(steps[0]), float(steps[1]), float(steps[2])), figures)
    grid = cropped(scan.hu, scan.affine, bones.box)
    solid = filled(packed_box(bones.words, grid), grid)
    start = surface(edge_field(solid, grid, in_tissue=True), grid.affine)
    began, cpu = time.perf_counter(), time.process_time()
    mesh, sigma_mm, findings = cortex_surface(start, grid, figures, np.ones(len(start.vertices_mm), dtype=np.bool_))
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    return Fit(start, mesh, sigma_mm, {f.check: f.value for f in findings}, cpu_s, wall_s, grid, figures)


def compared(scan: BoneScan, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Which points lie far enough from the ends of the scan."""
    low, high = sorted((float(scan.affine[2, 3]), float(scan.affine[2, 3] + (len(scan.hu) - 1) * scan.affine[2, 2])))
    return np.asarray((points[:, 2] > low + EDGE_MM) & (points[:, 2] < high - EDGE_MM))


def dice(scan: BoneScan, mesh: Mesh) -> float:
    """Overlap of the voxels inside the true surfaces and inside the found one, away from the ends."""
    inside = []
    skip = int(np.ceil(EDGE_MM / abs(scan.affine[2, 2])))
    grid = VoxelGrid(scan.affine, (len(scan.hu), scan.hu.shape[1], scan.hu.shape[2])).slices(skip, len(scan.hu) - 2 * skip)
    for meshes in (scan.meshes, (mesh,)):
        bits = np.zeros(-(-int(np.prod(grid.shape)) // 8), dtype=np.uint8)
        for one in meshes:
            put_inside(one, grid, bits=bits, offset=0)
        inside.append(bits)
    both = int(np.bitwise_count(inside[0] & inside[1]).sum())
    return 2.0 * both / int(np.bitwise_count(inside[0]).sum() + np.bitwise_count(inside[1]).sum())


def between_mm(scan: BoneScan, mesh: Mesh) -> FloatArray:
    """Distances between the found surface and the true ones, both ways, unsigned."""
    truth = Mesh(
        np.vstack([m.vertices_mm for m in scan.meshes]),
        np.vstack([m.faces + n for m, n in zip(scan.meshes, _offsets(scan.meshes), strict=True)]).astype(np.int32),
    )
    parts = []
    for here, there in ((mesh, truth), (truth, mesh)):
        points = here.vertices_mm[compared(scan, here.vertices_mm)]
        parts.append(nearest_points(points[:: max(1, len(points) // POINTS)], there)[0])
    return np.concatenate(parts)


def _offsets(meshes: tuple[Mesh, ...]) -> list[int]:
    return [int(n) for n in np.cumsum([0, *(len(m.vertices_mm) for m in meshes)])[:-1]]


def _row(case: Case) -> None:
    scan = case.make()
    fit = fitted(scan)
    keep = compared(scan, fit.mesh.vertices_mm)
    error = scan.distance_mm(fit.mesh.vertices_mm)[keep]
    start = scan.distance_mm(fit.start.vertices_mm)[compared(scan, fit.start.vertices_mm)]
    between = between_mm(scan, fit.mesh)
    width = f"{fit.found['blur_across']:.2f} {fit.found['blur_along']:.2f}"
    figures = (
        f"{len(fit.mesh.vertices_mm)}",
        *(f"{value:+.3f}" for value in (error.mean(),)),
        *(f"{value:.3f}" for value in (rms(error), p95(error), p95(start))),
        f"{dice(scan, fit.mesh):.4f}",
        *(f"{value:.3f}" for value in (between.mean(), p95(between), cover(error, fit.sigma_mm[keep]))),
        width,
        *(f"{spent * 40_000 / len(fit.mesh.vertices_mm):.2f}" for spent in (fit.cpu_s, fit.wall_s)),
    )
    print(f"{case.name:44}" + "".join(f"{one:>{wide}}" for one, wide in zip(figures, WIDTHS, strict=True)), flush=True)
    if "aim" in case.name:
        level = 4 * (fit.grid.hu.astype(np.int32) - THRESHOLD_HU)
        level[level == 0] = 4
        fixed = surface(np.clip(level, -32000, 32000).astype(np.int16), fit.grid.affine)
        off = scan.distance_mm(fixed.vertices_mm)[compared(scan, fixed.vertices_mm)]
        off = off[off > -0.4]
        half = scan.distance_mm(fit.start.vertices_mm)[compared(scan, fit.start.vertices_mm)]
        for name, values in ((f"  beside: fixed {THRESHOLD_HU} HU", off), ("  beside: half level", half)):
            print(f"{name:44}{len(values):9d}{values.mean():+8.3f}{rms(values):7.3f}{p95(values):7.3f}")


def _head_rows() -> None:
    """The vault of the head phantom, outer and inner face; devices there keep the half level, the fit is shown beside."""
    phantom = head_phantom(seed=11, table=False)
    scan = BoneScan(phantom.hu, phantom.affine, (), (), phantom.hu.astype(np.float32))
    fit = fitted(scan)
    shape = (len(phantom.hu), phantom.hu.shape[1], phantom.hu.shape[2])
    places = ScanGrid(phantom.affine, shape).points_mm((slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])))
    above = np.flatnonzero(_in_vault(phantom, places))
    layers = [phantom.layers(some) for some in np.array_split(places[above], 40)]
    truth = np.concatenate([(one.outer_mm < 0.0) & (one.inner_mm > 0.0) for one in layers])
    for name, mesh, sigma_mm in (("half level", fit.start, None), ("fitted", fit.mesh, fit.sigma_mm)):
        bits = np.zeros(-(-int(np.prod(shape)) // 8), dtype=np.uint8)
        put_inside(mesh, VoxelGrid(phantom.affine, shape), bits=bits, offset=0)
        found = np.unpackbits(bits, bitorder="little")[above].astype(np.bool_)
        keep = _in_vault(phantom, mesh.vertices_mm)
        at = phantom.layers(mesh.vertices_mm[keep])
        error = np.where(np.abs(at.outer_mm) < np.abs(at.inner_mm), at.outer_mm, -at.inner_mm)
        near = np.abs(error) < 2.0  # the engraved letter is not in the truth
        error = error[near]
        overlap = 2.0 * float((found & truth).sum()) / float(found.sum() + truth.sum())
        share = "" if sigma_mm is None else f"{cover(error, sigma_mm[keep][near]):.3f}"
        figures = (f"{len(error)}", f"{error.mean():+.3f}", f"{rms(error):.3f}", f"{p95(error):.3f}", "", f"{overlap:.4f}",
                   f"{np.abs(error).mean():.3f}", f"{p95(error):.3f}", share, "", "", "")  # fmt: skip
        print(
            f"{'head, vault, 1.0x0.8x0.8, ' + name:44}"
            + "".join(f"{one:>{wide}}" for one, wide in zip(figures, WIDTHS, strict=True))
        )


def _in_vault(phantom: HeadPhantom, points: FloatArray) -> npt.NDArray[np.bool_]:
    """Above a plane through the temples, and not at the ends of the scan."""
    low, high = np.array(phantom.landmarks_mm["centre"]), phantom.affine[2, 3] + (len(phantom.hu) - 1) * phantom.affine[2, 2]
    offset = points - low
    lifted = offset[:, 2] > VAULT_SLOPE * np.linalg.norm(offset[:, :2], axis=1)
    return np.asarray(lifted & (np.linalg.norm(offset, axis=1) > 40.0) & (points[:, 2] < high - EDGE_MM))


def rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def p95(values: FloatArray) -> float:
    return float(np.percentile(np.abs(values), 95))


def cover(error: FloatArray, sigma: FloatArray) -> float:
    return float(np.mean(np.abs(error) <= 1.96 * sigma))


if __name__ == "__main__":
    main()
