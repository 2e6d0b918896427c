"""Does the seating score put guides in the order that the literature does, and what does optimised contact gain?

    python -m benchmarks.seating [--starts 500] [--only hooks efficiency shafts optimised]

Published orderings (facts, DEVICES 4 and 6, METHODS C.7): contact efficiency at 12 zones against 6 (Mattheijer et al.), hooks on
a pedicle guide (University of Groningen), a lateral extension on a shaft (Caiti et al. 2018); then guides of
both families before and after their contact was chosen. Real bones come from BATCHONE_TEST_DATA; without it only the
synthetic ones are measured.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
from pathlib import Path

import numpy as np

from batchone.design.booleans import face_areas
from batchone.design.contact.field import Lattice
from batchone.design.guide.body import guide_pose
from batchone.design.nearest import indexed
from batchone.design.seating.contacts import Contact, Landscape, contact, landscape
from batchone.design.seating.friction import spread
from batchone.design.seating.make import SEED, Score, Seated, score, scored, seated
from batchone.design.seating.settle import Poses
from batchone.design.seating.stability import press_of, stability
from batchone.design.seating.uniqueness import planned_seat, reference, uniqueness
from batchone.design.seating.zones import chosen
from batchone.pipeline.case import case_folder
from batchone.pipeline.order import Parameters
from batchone.pipeline.values import Anatomy, Bone, FieldOfView, FloatArray, Mesh, Side
from benchmarks.guide import anatomy, replace_parameters

REACH_MM = 11.0  # half width and length of the plain shell whose places are chosen from
SPACING_MM = 2.0
SAMPLED = 24  # samplings of a part: one alone errs by 1 to 2.5 points, four by half a point
PARTS = ("hooks", "efficiency", "shafts", "optimised")
SEEDS = (20261001, 20262001, 20263001)  # beside that of the score: any will do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=500)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    bones = real_bones()
    spine = [vertebrae()] if bones and {"hooks", "optimised"} & set(options.only) else []
    print(f"\nload {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {options.starts} starts")
    if "hooks" in options.only:
        hooks([anatomy(60_000), *spine], options.starts)
    if "efficiency" in options.only:
        efficiency(bones)
    if "shafts" in options.only:
        shafts(bones, options.starts)
    if "optimised" in options.only:
        optimised(bones, spine, options.starts)


def real_bones() -> dict[str, Mesh]:
    """Bones of the Visible Human, LPS, simplified within 0.1 mm."""
    if "BATCHONE_TEST_DATA" not in os.environ:
        return {}
    return {name: real_bone(name) for name in ("left tibia", "right tibia", "left talus", "left patella", "left sacrum")}


def real_bone(name: str) -> Mesh:
    """A bone of the Visible Human, LPS, simplified within 0.1 mm."""
    import trimesh

    from batchone.design.model.reduction import reduced

    file = f"VHF_{name.title().replace(' ', '_Bone_')}_smooth.stl"
    stl = trimesh.load(Path(os.environ["BATCHONE_TEST_DATA"]) / "bones" / file)
    return reduced(Mesh(stl.vertices * np.array([-1.0, -1.0, 1.0]), np.asarray(stl.faces, dtype=np.int32)), 0.1)[0]


def hooks(shapes: list[Anatomy], starts: int) -> None:
    """Caudal hooks on pedicle guides: the angle that the guide lands at on bone as unsure as it is.

    A guide that falls off has no angle, so that shares of lost starts would decide a percentile of what lands: two guides are
    compared by those of the same starts that land with both.
    """
    from batchone.design.families.pedicle_guide import PedicleGuideParameters
    from batchone.design.make import design, plan
    from batchone.pipeline.order import Order
    from batchone.slicer.profiles import load_process

    process = load_process("pa12-sls")
    first = Order(
        case="bench", device="pedicle-guide", side="midline", process="pa12-sls", machine="sim-01",
        due=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), parameters=PedicleGuideParameters(bone_model=False),
    )  # fmt: skip
    print(f"\nhooks on a pedicle guide (published: 2.72 deg with, 5.61 deg minimal); {1 + len(SEEDS)} seeds; P95 of the angle")
    gains: dict[str, list[float]] = {"no hooks": []}
    for shape in shapes:
        proposal, angles = plan(shape, first), {}
        for name, changes in (
            ("hooks 3 mm", {}),
            ("no hooks", {"hook_mm": 0.0}),
        ):
            parts = design(shape, proposal, replace_parameters(first, **changes), process).parts
            ways = [axis for axis in proposal.axes if axis.name.startswith("insertion")]
            for bone, way, part in zip(shape.bones, ways, parts, strict=True):
                angles[bone.name, name] = landed_deg(seated(part, bone, guide_pose(way, bone)), starts)
        for bone in shape.bones:
            hooked = angles[bone.name, "hooks 3 mm"]
            for other, found in gains.items():
                bare = angles[bone.name, other]
                both = np.isfinite(hooked) & np.isfinite(bare)
                with_deg, without_deg = (float(np.percentile(one[both], 95)) for one in (hooked, bare))
                found.append(100.0 * (1.0 - with_deg / without_deg))
                lost = [100.0 * float(np.isnan(one).mean()) for one in (hooked, bare)]
                print(
                    f"  {bone.name:4} hooks {with_deg:5.2f} deg, {other:8} {without_deg:5.2f} deg: {found[-1]:4.0f} % lower; "
                    f"not landed {lost[0]:.1f} and {lost[1]:.1f} %",
                    flush=True,
                )
    for other, found in gains.items():
        print(f"  mean against {other}: {np.mean(found):.0f} % lower (needed 20)")


def landed_deg(seat: Seated, starts: int) -> FloatArray:
    """(starts of all seeds,) the angle that a guide lands at, NaN where it does not land."""
    press = press_of(seat.body)
    planned = reference(seat.body, planned_seat(seat.body, seat.ground, press))
    found = []
    for seed in (SEED, *SEEDS):
        ends = spread(seat.body, seat.ground, press, planned, count=starts, seed=seed + 20, sigma_mm=seat.sigma_mm)
        angles = np.full(starts, np.nan)
        angles[ends.landed] = ends.poses.angle_deg
        found.append(angles)
    return np.concatenate(found)


def efficiency(bones: dict[str, Mesh]) -> None:
    """Docking margin with few contacts, placed by exchange, over that of all: 6 against 12."""
    print("\ncontact efficiency: margin of n places over that of all (published 0.18 at 6, 0.74 at 12)")
    shares: dict[int, list[float]] = {6: [], 12: [], 24: []}
    for name, body in plain_bodies(bones).items():
        whole = stability(body).press.margin_deg
        found = {}
        for count in shares:
            cells = np.arange(body.carrying, dtype=np.int32)
            best = chosen(body.seats_mm, body.normals, cells, count)
            found[count] = max(best.margin_deg, 0.0) / max(whole, 1e-9)
            shares[count].append(found[count])
        print(f"  {name:28} all {whole:5.1f} deg; " + ", ".join(f"{count}: {value:.2f}" for count, value in found.items()))
    mean = {count: float(np.mean(values)) for count, values in shares.items()}
    print(f"  mean: {mean[6]:.2f} at 6, {mean[12]:.2f} at 12: {mean[12] / max(mean[6], 1e-9):.1f} x (needed 2)")


def plain_bodies(bones: dict[str, Mesh]) -> dict[str, Contact]:
    """A square shell on the side of each bone; on the lower end of a tibia."""
    found = {}
    for name, mesh in bones.items():
        middle = mesh.vertices_mm.mean(axis=0)
        long = np.linalg.svd(mesh.vertices_mm[::50] - middle, full_matrices=False)[2][0]
        side = np.cross(long, np.eye(3)[int(np.argmin(np.abs(long)))])
        side /= np.linalg.norm(side)
        distal = -0.42 * float(np.ptp(mesh.vertices_mm @ long)) * np.sign(long[2]) * long
        at = middle + (distal if "tibia" in name else 0.0)
        found[name] = shell(mesh, at, side, long, (-REACH_MM, REACH_MM), REACH_MM).body
    return found


def shell(mesh: Mesh, at: FloatArray, out: FloatArray, up: FloatArray, across: tuple[float, float], half_y: float) -> Seated:
    """A plain shell 0.2 mm off a bone, over a rectangle seen along ``out``, without what faces aside."""
    from batchone.design.cranial.rays import Scene

    pose = np.column_stack([np.cross(up, out), up, out])
    local = Mesh((mesh.vertices_mm - at) @ pose, mesh.faces)
    x, y = np.meshgrid(np.arange(across[0], across[1] + 0.1, SPACING_MM), np.arange(-half_y, half_y + 0.1, SPACING_MM))
    starts = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, 300.0)])
    away, face = Scene(local).meets(starts, np.tile([0.0, 0.0, -1.0], (x.size, 1)), 600.0)
    points = starts[face >= 0] - away[face >= 0, None] * [0.0, 0.0, 1.0]
    ground = landscape(local, points)
    normals = ground.normals(points)
    points = points[normals[:, 2] > 0.35] + 0.2 * normals[normals[:, 2] > 0.35]
    middle = points.mean(axis=0)
    moved = Landscape(
        Lattice(ground.lattice.origin_mm - middle, ground.lattice.step_mm, ground.lattice.shape), ground.distance_mm
    )
    body = contact(points - middle, np.empty((0, 3)), moved)
    surface = indexed(Mesh(local.vertices_mm - middle, local.faces))
    return Seated(np.eye(4), body, moved, np.full(len(body.points_mm), 0.3), surface)


def shafts(bones: dict[str, Mesh], starts: int) -> None:
    """A half shell on a tibial shaft, with and without an extension to the side: how far it may turn about the shaft."""
    print("\nlateral extension on a shaft (published: improves the placement, mid-shaft guides are worst)")
    for name in [one for one in bones if "tibia" in one]:
        mesh = bones[name]
        middle = mesh.vertices_mm.mean(axis=0)
        long = np.linalg.svd(mesh.vertices_mm[::50] - middle, full_matrices=False)[2][0]
        side = np.cross(long, np.eye(3)[int(np.argmin(np.abs(long)))])
        side /= np.linalg.norm(side)
        rows = {}
        for title, half in (
            ("half shell", (-7.0, 7.0)),
            ("extended to one side", (-7.0, 20.0)),
            ("to both sides", (-16.0, 16.0)),
        ):
            found = scored(shell(mesh, middle, side, long, half, 20.0), starts=starts)
            rows[title] = np.array([*np.percentile(about_shaft(found.friction.poses), [50, 95]), 100.0 * found.friction.bad])
            print(f"  {name:12} {title:21} {table(found)}, turned P50/P95 {rows[title][0]:.2f}/{rows[title][1]:.2f} deg")
        for title in ("extended to one side", "to both sides"):
            gain = 100.0 * (1.0 - rows[title] / rows["half shell"])
            print(
                f"    {title}: the turn about the shaft falls by {gain[0]:.0f} % (P50) and {gain[1]:.0f} % (P95) of what lands, ",
                end="",
            )
            print(f"stuck or lost by {gain[2]:.0f} % (needed 20)")


def about_shaft(poses: Poses) -> FloatArray:
    """(n,) degrees about y, which lies along the shaft."""
    return np.abs(np.degrees(poses.turn[:, 0, 2] - poses.turn[:, 2, 0]) / 2.0)


def table(found: Score) -> str:
    """The score in one line."""
    where, held = found.uniqueness, found.stability
    play, cone = float(np.nanmax(held.play_mm)), found.cone_deg
    return (
        f"slip {held.slip:5.1f}, margin {held.press.margin_deg:4.1f}, cone {cone[0]:2.0f}/{cone[1]:2.0f} deg, "
        f"play {play:5.2f} mm, wrong {100 * where.wrong:4.1f} %, stuck or lost {100 * found.friction.bad:4.1f} %"
    )


def optimised(bones: dict[str, Mesh], spine: list[Anatomy], starts: int) -> None:
    """Osteotomy guides on real tibiae and pedicle guides on a real thorax: plain contact, and no more where it seats best."""
    from batchone.design.families.osteotomy_guide import OsteotomyGuideParameters
    from batchone.design.families.pedicle_guide import PedicleGuideParameters

    print("\ncontact chosen by optimise_contact (needed: both a third less, or at most 1 % wrong and 5 % stuck or lost)")
    sides: tuple[Side, ...] = ("left", "right")
    shares = []
    for side in [one for one in sides if f"{one} tibia" in bones]:
        shape = tibia_anatomy(bones[f"{side} tibia"], side)
        for site in ("proximal", "shaft"):
            values = {"site": site, "wedge": "opening" if site == "proximal" else "none", "bone_model": False}
            parameters = OsteotomyGuideParameters.model_validate(values)
            shares.append(before_and_after(shape, "osteotomy-guide", side, parameters, f"{side} {site}", starts))
    of_family("osteotomy-guide", shares)
    of_spines = [
        before_and_after(shape, "pedicle-guide", "midline", PedicleGuideParameters(bone_model=False), "", starts)
        for shape in spine
    ]
    of_family("pedicle-guide", of_spines)


def of_family(title: str, shares: list[FloatArray]) -> None:
    """Print the means over all bones; ``shares`` (2, bones, 2): plain and chosen, of each wrong and stuck, in percent."""
    if not shares:
        return
    (wrong, stuck), (wrong_after, stuck_after) = np.concatenate(shares, axis=1).mean(axis=1)
    print(
        f"  {title}, mean of all bones: wrong {wrong:.1f} -> {wrong_after:.1f} %, "
        f"stuck or lost {stuck:.1f} -> {stuck_after:.1f} % ({100.0 * (stuck_after / stuck - 1.0):+.0f} %)"
    )


def before_and_after(shape: Anatomy, device: str, side: Side, parameters: Parameters, title: str, starts: int) -> FloatArray:
    """Design a guide plain and with chosen contact, print how each seats, and give (2, bones, 2) shares in percent."""
    from batchone.design.make import design, plan
    from batchone.pipeline.order import Order
    from batchone.slicer.profiles import load_process

    process = load_process("pa12-sls")
    first = Order(
        case="bench", device=device, side=side, process="pa12-sls", machine="sim-01",
        due=dt.datetime(2030, 1, 1, tzinfo=dt.UTC), parameters=parameters,
    )  # fmt: skip
    proposal = plan(shape, first)
    ways = [axis for axis in proposal.axes if axis.name.startswith("insertion")]
    found = np.zeros((2, len(shape.bones), 2))
    for row, kind in enumerate(("plain", "chosen")):
        order = replace_parameters(first, optimise_contact=True) if kind == "chosen" else first
        made = zip(shape.bones, ways, design(shape, proposal, order, process).parts, strict=True)
        for number, (bone, way, part) in enumerate(made):
            pose, area = guide_pose(way, bone), face_areas(part)["contact"]
            shares = other_seeds(seated(part, bone, pose, count=SAMPLED), starts)
            found[row, number] = shares.mean(axis=0)
            wrong, stuck = (", ".join(f"{one:.1f}" for one in column) for column in shares.T)
            print(
                f"  {title or bone.name:14} {kind:6} {area:5.0f} mm2  {table(score(part, bone, pose, starts=starts))}", flush=True
            )
            print(f"  {'':14} other seeds: wrong {wrong}; stuck {stuck}", flush=True)
    return found


def other_seeds(found: Seated, starts: int) -> FloatArray:
    """(seeds, 2) wrong seats, and stuck or lost, in percent, from five times as many starts of further seeds each."""
    body, ground = found.body, found.ground
    press = press_of(body)
    seat = reference(body, planned_seat(body, ground, press))
    return 100.0 * np.array(
        [
            (
                uniqueness(body, ground, press, seat, count=2 * starts, seed=seed).wrong,
                spread(body, ground, press, seat, count=5 * starts, seed=seed + 10).bad,
            )
            for seed in SEEDS
        ]
    )


def tibia_anatomy(mesh: Mesh, side: Side) -> Anatomy:
    """A real tibia as an anatomy."""
    from batchone.segment.frames.long_bone import tibia

    sigma = np.full(len(mesh.vertices_mm), 0.05)
    found = tibia(mesh, sigma, f"tibia-{side}", side, complete=True)
    assert found is not None
    bone = Bone("tibia", side, True, 1.0, 1.0, mesh, found.frame, sigma)
    return Anatomy((bone,), found.landmarks, FieldOfView(np.eye(4), (9, 9, 9)), references=found.references)


def vertebrae() -> Anatomy:
    """T8 to T11 of the real thorax, segmented; T8 was looked at for nothing that was chosen here."""
    from batchone.pipeline.case import run_case
    from batchone.pipeline.case_order import read_case_order
    from batchone.pipeline.store import CaseFolder

    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        (site / "order.toml").write_text(_THORAX)
        order = read_case_order(site / "order.toml")
        run_case(order, Path(os.environ["BATCHONE_TEST_DATA"]) / "thorax.zip", site=site, until="segment")
        whole: Anatomy = CaseFolder(case_folder(site, "thorax")).load("segment")
    return whole


_THORAX = """\
case = "thorax"
device = "pedicle-guide"
side = "midline"
process = "pa12-sls"
machine = "sim-01"
due = 2026-11-24T08:00:00Z
[target]
bones = ["T8", "T9", "T10", "T11"]
levels = {vertebra-4 = "T9"}
counted = 8
level_confirmed_by = "bench"
"""


if __name__ == "__main__":
    main()
