"""The truth bench: defects are cut out of skulls, and each implant is compared with the bone that was taken out.

    python -m benchmarks.truth [--cases N] [--only TEXT] [--data DIR]

The implant is made as thick as the missing bone, with a border gap of 0.5 mm, without holes and label. Truth is the surface of
the same scan before the cut, as segmented by the same code, inside the cutter. Columns:

- Dice, bDice (within 10 mm of the wall of the cut), HD95: implant and removed bone as voxels of 0.5 mm, along the cutter's axis;
- vol: their volumes, from the closed meshes or the voxels;
- outer: distance of the implant's outer face from the uncut surface, median and 95th percentile; inner likewise;
- gap: border gap on the mesh against the bone's surface, median, 95th percentile, least.

Cases marked `dev` were looked at while the planning was still changed; the blind ones were added when it was done, and nothing
was changed for them since. `bare` and `dressed` are one and the same skull: blind there means another place, not another patient.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from batchone.design.cranial.rays import Scene
from batchone.design.families.cranial_implant import CranialImplantParameters
from batchone.design.make import check, design, plan
from batchone.pipeline.errors import BatchoneError, OrderError
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, FloatArray, Mesh, Part, Scan, SeriesRecord, Side
from batchone.samples.craniectomy import Craniectomy, craniectomy, point_on_skull
from batchone.samples.dress import dress
from batchone.samples.head import head_phantom
from batchone.segment.make import segment

HEADER = (
    f"{'case':38} {'':5} {'Dice':>5} {'bDice':>5} {'HD95':>5} {'vol/true ml':>11}  {'outer':>9}  {'inner':>9}  "
    f"{'gap':>14}  plan+design s"
)
VOXEL_MM = 0.5
BORDER_MM = 10.0
DATA_VARIABLE = "BATCHONE_TEST_DATA"
_RECORD = SeriesRecord("CT", "", "", "", "HFS", 0, 1.0, 1.0, (0.5, 0.5), 0.0, "", "0" * 64)
_DUE = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Case:
    """One defect: the scan it is cut from (bare, dressed, phantom-<seed>), where, how wide, how tapered."""

    source: str
    place: str
    azimuth_deg: float
    elevation_deg: float
    diameter_mm: float
    edge_angle_deg: float
    side: Side
    seen: str = "blind"

    @property
    def name(self) -> str:
        return f"{self.source} {self.place} {self.diameter_mm:g}/{self.edge_angle_deg:g}"


CASES = (
    Case("dressed", "parietal", 100, 35, 80, 10, "left", "dev"),
    Case("bare", "frontal", 30, 45, 60, 0, "left", "dev"),
    Case("phantom-1", "temporal", -90, 15, 70, 10, "right", "dev"),
    Case("dressed", "occipital", -150, 25, 70, 15, "right", "dev"),
    Case("bare", "vertex, midline", 0, 85, 100, 5, "midline", "dev"),
    Case("phantom-2", "frontal, midline", 0, 45, 90, 0, "midline", "dev"),
    Case("dressed", "temporal", -88, 18, 60, 20, "right", "dev"),
    Case("bare", "parietal", -110, 40, 110, 10, "right", "dev"),
    Case("phantom-1", "parietal", 100, 35, 80, 10, "left", "dev"),
    Case("dressed", "near the midline", 15, 70, 70, 0, "left", "dev"),
    Case("phantom-2", "occipital, midline", 180, 25, 80, 15, "midline", "dev"),
    Case("dressed", "parietal", 60, 50, 40, 20, "left", "dev"),
    Case("phantom-7", "parietal", -100, 35, 90, 10, "right"),
    Case("phantom-11", "frontal", -35, 40, 75, 5, "right"),
    Case("dressed", "frontal", -30, 50, 65, 10, "right"),
    Case("bare", "parietal and occipital", 140, 40, 85, 15, "left"),
)  # fmt: skip


@dataclass(frozen=True)
class Score:
    """What was measured on one case; lengths in mm, volumes in mm3."""

    case: Case
    dice: float
    border_dice: float
    hd95_mm: float
    implant_mm3: float
    truth_mm3: float
    outer_mm: tuple[float, float]
    inner_mm: tuple[float, float]
    gap_mm: tuple[float, float, float]
    failed: tuple[str, ...]
    plan_s: float
    design_s: float


def main() -> None:
    """Print the table, then what was found on intact skulls."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", type=int, default=len(CASES), help="only the first N cases")
    options.add_argument("--only", default="", help="only cases whose name holds this text")
    options.add_argument("--data", type=Path, default=None, help=f"folder of real scans; default ${DATA_VARIABLE}")
    chosen = options.parse_args()
    data = chosen.data or (Path(os.environ[DATA_VARIABLE]) if DATA_VARIABLE in os.environ else None)
    cases = [case for case in CASES if chosen.only in case.name][: chosen.cases]
    if data is None:
        print(f"{DATA_VARIABLE} is not set: phantoms only")
        cases = [case for case in cases if case.source.startswith("phantom")]
    print(HEADER)
    scores = []
    for outcome in run(cases, data):
        print(line(outcome) if isinstance(outcome, Score) else outcome, flush=True)
        if isinstance(outcome, Score):
            scores.append(outcome)
    for text in summary(scores, len(cases)):
        print(text)
    for source in sorted({case.source for case in cases}):
        print(f"intact {source}: {intact(source, data)}", flush=True)


def run(cases: list[Case], data: Path | None) -> Iterator[Score | str]:
    """Cut, segment, plan, build and measure; a case without a device gives one line with the reason."""
    for case in cases:
        try:
            yield scored(case, data)
        except BatchoneError as error:
            yield f"{case.name:38} FAILED: {type(error).__name__}: {error}"


def summary(scores: list[Score], asked: int) -> list[str]:
    """Means and worst values: of all, of those that steered the planning, and of those that only judge it."""
    if not scores:
        return ["no case was completed"]
    told = [f"{len(scores)} of {asked} cases; {_summed(scores)}"]
    for seen in ("dev", "blind"):
        some = [score for score in scores if score.case.seen == seen]
        if some:
            told.append(f"  {seen}, {len(some)}: {_summed(some)}")
    return told


def _summed(scores: list[Score]) -> str:
    dice = [score.dice for score in scores]
    outer = np.array([score.outer_mm for score in scores])
    return (
        f"Dice mean {np.mean(dice):.3f}, least {min(dice):.3f}; "
        f"HD95 mean {np.mean([s.hd95_mm for s in scores]):.2f}, worst {max(s.hd95_mm for s in scores):.2f} mm; "
        f"outer median mean {outer[:, 0].mean():.2f}, worst {outer[:, 0].max():.2f} mm; "
        f"outer P95 mean {outer[:, 1].mean():.2f}, worst {outer[:, 1].max():.2f} mm"
    )


def line(score: Score) -> str:
    """One row of the table."""
    outer, inner, gap = score.outer_mm, score.inner_mm, score.gap_mm
    text = (
        f"{score.case.name:38} {score.case.seen:5} {score.dice:5.3f} {score.border_dice:5.3f} {score.hd95_mm:5.2f} "
        f"{score.implant_mm3 / 1000.0:5.1f}/{score.truth_mm3 / 1000.0:5.1f}  {outer[0]:4.2f}/{outer[1]:4.2f}  "
        f"{inner[0]:4.2f}/{inner[1]:4.2f}  {gap[0]:4.2f}/{gap[1]:4.2f}/{gap[2]:4.2f}  {score.plan_s:4.1f}+{score.design_s:4.1f}"
    )
    return text + (f"  fails: {', '.join(score.failed)}" if score.failed else "")


def scored(case: Case, data: Path | None) -> Score:
    """Run one case.

    Raises
    ------
    BatchoneError
        No plan or no device.
    """
    from batchone.slicer.profiles import load_machine, load_process

    hu, affine = scan_of(case.source, data)
    centre = point_on_skull(hu, affine, azimuth_deg=case.azimuth_deg, elevation_deg=case.elevation_deg)
    cut = craniectomy(hu, affine, centre_mm=centre, diameter_mm=case.diameter_mm, edge_angle_deg=case.edge_angle_deg, seed=7)
    order = order_for(case.side)
    anatomy = segmented(cut.hu, affine, order)
    started = time.perf_counter()
    proposed = plan(anatomy, order)
    planned = time.perf_counter()
    process, machine = load_process(order.process), load_machine(order.machine)
    device = design(anatomy, proposed, order, process)
    designed = time.perf_counter()
    checked = check(device, anatomy, proposed, order, process, machine)
    failed = tuple(f"{f.check}: {f.what} {f.value:.3g} {f.unit}" for f in checked.findings if f.verdict == "fail")
    score = compared(device.parts[0], truth_of(case.source, data), cut)
    return replace(
        score, case=case, failed=failed, plan_s=planned - started, design_s=designed - planned,
        gap_mm=gap_of(device.parts[0], anatomy),
    )  # fmt: skip


def gap_of(part: Part, anatomy: Anatomy) -> tuple[float, float, float]:
    """Median, 95th percentile and least border gap, mm."""
    from batchone.design.cranial.rim_gap import border_gap

    skull = anatomy.bone("skull")
    assert skull is not None
    gap = border_gap(part, skull.mesh)
    return gap.percentile(50.0), gap.percentile(95.0), gap.least_mm


def compared(part: Part, whole: Mesh, cut: Craniectomy) -> Score:
    """Compare an implant with what was cut out of ``whole``, the closed surface of the uncut bone."""
    cutter = cut.cutter
    pose = np.eye(4)
    pose[:3, :3] = np.stack([cutter.across[0], cutter.across[1], cutter.axis], axis=1)
    pose[:3, 3] = cutter.centre_mm
    to_cutter = np.asarray(np.linalg.inv(pose), dtype=np.float64)
    implant = part.mesh.moved(to_cutter)
    half = cutter.radius_mm + 15.0
    columns = np.arange(-half, half, VOXEL_MM)
    depths = np.arange(-60.0, 15.0, VOXEL_MM)
    grid = np.stack(np.meshgrid(columns, columns, depths, indexing="ij"), axis=-1).reshape(-1, 3)
    world = grid @ pose[:3, :3].T + pose[:3, 3]
    wall = cutter.wall_distance_mm(world).reshape(len(columns), len(columns), -1)
    depth = cutter.depth_mm(world).reshape(wall.shape)
    cutting = (wall <= 0.0) & (depth <= 18.0) & (depth >= -5.0)
    truth = occupied(near(whole.moved(to_cutter), half + 5.0), columns, depths) & cutting
    ours = occupied(implant, columns, depths)
    border = wall > -BORDER_MM
    outer = face_distance(part, "outer", whole)
    inner = face_distance(part, "inner", whole)
    blank = Case("", "", 0, 0, 0, 0, "left")
    return Score(
        case=blank,
        dice=dice(ours, truth),
        border_dice=dice(ours & border, truth & border),
        hd95_mm=hd95(ours, truth),
        implant_mm3=volume_mm3(part.mesh),
        truth_mm3=float(truth.sum()) * VOXEL_MM**3,
        outer_mm=(float(np.median(outer)), float(np.percentile(outer, 95.0))),
        inner_mm=(float(np.median(inner)), float(np.percentile(inner, 95.0))),
        gap_mm=(np.nan, np.nan, np.nan),
        failed=(),
        plan_s=0.0,
        design_s=0.0,
    )


def occupied(mesh: Mesh, columns: FloatArray, depths: FloatArray) -> np.ndarray:
    """(columns, columns, depths) bool: voxel centres inside a closed mesh, by all crossings along z."""
    scene = Scene(mesh)
    top = depths[-1] + 1.0
    x, y = (a.ravel() for a in np.meshgrid(columns, columns, indexing="ij"))
    count = len(x)
    down = np.broadcast_to(np.array([0.0, 0.0, -1.0]), (count, 3))
    at = np.full(count, top)
    depth_inside = np.zeros((count, len(depths) + 1), dtype=np.int32)
    live = np.arange(count)
    for _ in range(64):
        origins = np.stack([x[live] + 1.7e-4, y[live] + 2.3e-4, at[live]], axis=1)
        hits = scene.first(origins, down[live], 200.0)
        met = hits.face >= 0
        live, height, entering = live[met], at[live][met] - hits.distance_mm[met], scene.facing(hits.face[met], down[0]) < 0.0
        if not len(live):
            break
        place = np.searchsorted(depths, height, side="right")  # voxels below this index lie under the crossing
        np.add.at(depth_inside, (live, place), np.where(entering, 1, -1))
        at[live] = height - 1e-3
    below = np.cumsum(depth_inside[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return (below > 0).reshape(len(columns), len(columns), len(depths))


def near(mesh: Mesh, reach_mm: float) -> Mesh:
    """The triangles within a square of ``reach_mm`` about the z axis and above z = -70 mm."""
    corner = mesh.vertices_mm[mesh.faces[:, 0]]
    keep = (np.abs(corner[:, :2]).max(axis=1) < reach_mm) & (corner[:, 2] > -70.0)
    return Mesh(mesh.vertices_mm, mesh.faces[keep])


def dice(one: np.ndarray, two: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|)."""
    return float(2.0 * (one & two).sum() / max(1, int(one.sum()) + int(two.sum())))


def hd95(one: np.ndarray, two: np.ndarray) -> float:
    """Larger of both directed 95th percentiles of the distance between voxel surfaces, mm."""
    used = np.argwhere(one | two)
    box = tuple(slice(max(0, low - 2), high + 3) for low, high in zip(used.min(axis=0), used.max(axis=0), strict=True))
    shells = [mask[box] & ~binary_erosion(mask[box]) for mask in (one, two)]
    away = [distance_transform_edt(~shell, sampling=VOXEL_MM) for shell in shells]
    return float(max(np.percentile(away[1][shells[0]], 95.0), np.percentile(away[0][shells[1]], 95.0)))


def face_distance(part: Part, label: str, whole: Mesh) -> FloatArray:
    """Distances of points all over a face (one for each 0.25 mm2) from a surface, mm."""
    from batchone.design.cranial.rim_gap import near_bone, surface_samples
    from batchone.design.nearest import nearest_mm

    samples = surface_samples(part, (label,), sample_mm2=0.25).points_mm
    return nearest_mm(samples, near_bone(part.mesh, whole), within_mm=15.0)


def volume_mm3(mesh: Mesh) -> float:
    """Signed volume of a closed mesh."""
    a, b, c = (mesh.vertices_mm[mesh.faces[:, k]] - mesh.vertices_mm.mean(axis=0) for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)


def intact(source: str, data: Path | None) -> str:
    """What planning says of the uncut skull."""
    order = order_for("left")
    try:
        found = plan(whole_anatomy(source, data), order)
    except OrderError as error:
        return "no defect, as it should be" if "no defect" in str(error) else f"OrderError: {error}"
    return f"FALSE DEFECT of {dict(found.figures)['defect_area_cm2']:.1f} cm2"


def order_for(side: Side) -> Order:
    """An order for an implant as thick as the bone, without holes and label."""
    parameters = CranialImplantParameters(thickness_mode="bone", perforation_pitch_mm=0.0, fixation_holes=0, engrave=False)
    return Order(
        case="truth", device="cranial-implant", side=side, process="ti64-lpbf", machine="sim-01", due=_DUE, parameters=parameters
    )


def segmented(hu: np.ndarray, affine: FloatArray, order: Order) -> Anatomy:
    """The anatomy of a volume."""
    return segment(Scan(hu, affine, replace(_RECORD, slices=hu.shape[0])), order)


@lru_cache(maxsize=4)
def scan_of(source: str, data: Path | None) -> tuple[np.ndarray, FloatArray]:
    """HU and affine of an uncut head."""
    if source.startswith("phantom-"):
        phantom = head_phantom(seed=int(source.removeprefix("phantom-")))
        return phantom.hu, phantom.affine
    if source == "dressed":
        hu, affine = scan_of("bare", data)
        return dress(hu, affine, seed=3), affine
    from batchone.design.families import load_families
    from batchone.pipeline.intake.make import intake

    assert data is not None, "a real scan needs the data folder"
    protocol = load_families()["cranial-implant"].limits.protocol
    scan, _ = intake(data / "head-phantom.zip", order_for("left"), protocol)
    return scan.hu, scan.affine


@lru_cache(maxsize=4)
def whole_anatomy(source: str, data: Path | None) -> Anatomy:
    """The anatomy of an uncut head."""
    hu, affine = scan_of(source, data)
    return segmented(hu, affine, order_for("left"))


def truth_of(source: str, data: Path | None) -> Mesh:
    """The surface of an uncut skull."""
    skull = whole_anatomy(source, data).bone("skull")
    assert skull is not None
    return skull.mesh


if __name__ == "__main__":
    main()
