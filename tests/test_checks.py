"""Checks on shapes of known truth: each has one shape just inside and one just outside its limit."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest

from batchone.design.checks.mesh import is_closed, measure_mesh, mesh_findings, mesh_volume_mm3
from batchone.design.checks.placement import placement_findings
from batchone.design.checks.walls import measure_walls, wall_findings
from batchone.design.crossings import crossing_pairs
from batchone.design.families import load_families
from batchone.design.triangles import moments
from batchone.pipeline.limits import Limit
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Bone, Device, FieldOfView, Finding, Mesh, Part, Plan, Plane
from batchone.slicer.profiles import load_machine, load_process

BOX_FACES = np.array(
    [
        [0, 2, 1],
        [1, 2, 3],
        [4, 5, 6],
        [5, 7, 6],
        [0, 1, 4],
        [1, 5, 4],
        [2, 6, 3],
        [3, 6, 7],
        [0, 4, 2],
        [2, 4, 6],
        [1, 3, 5],
        [3, 7, 5],
    ],
    dtype=np.int32,
)


def box(low: tuple[float, float, float], high: tuple[float, float, float], *, cells: int = 1) -> Mesh:
    """A closed box; its faces divided into ``cells`` x ``cells`` squares."""
    grid = np.arange(cells + 1) / cells
    points: dict[tuple[float, float, float], int] = {}
    faces = []
    for axis in range(3):
        for end in (0.0, 1.0):
            for i in range(cells):
                for j in range(cells):
                    square = []
                    for u, v in ((i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)):
                        point = np.empty(3)
                        point[axis], point[(axis + 1) % 3], point[(axis + 2) % 3] = end, grid[u], grid[v]
                        square.append(points.setdefault((float(point[0]), float(point[1]), float(point[2])), len(points)))
                    a, b, c, d = square if end else square[::-1]
                    faces += [(a, b, c), (a, c, d)]
    unit = np.array(list(points))
    return Mesh(np.array(low) + unit * (np.array(high) - np.array(low)), np.array(faces, dtype=np.int32))


def together(*meshes: Mesh) -> Mesh:
    offsets = np.cumsum([0, *(len(mesh.vertices_mm) for mesh in meshes[:-1])])
    faces = np.vstack([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)])
    return Mesh(np.vstack([mesh.vertices_mm for mesh in meshes]), faces.astype(np.int32))


def part(mesh: Mesh, name: str = "part") -> Part:
    return Part(name, mesh, np.zeros(len(mesh.faces), dtype=np.int16), ("body",))


def turned(mesh: Mesh) -> Mesh:
    """The same shape at an odd angle, far from the origin."""
    first = np.array([2.0, -1.0, 0.5]) / np.linalg.norm([2.0, -1.0, 0.5])
    second = np.cross(first, [0.0, 0.0, 1.0])
    second /= np.linalg.norm(second)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([first, second, np.cross(first, second)])
    pose[:3, 3] = [-120.0, 310.0, -845.0]
    return mesh.moved(pose)


def verdicts(findings: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.what.split(": ")[1]: finding.verdict for finding in findings}


# the mesh


def test_a_sound_box_passes_every_check_of_the_mesh() -> None:
    findings = mesh_findings(part(turned(box((0, 0, 0), (3, 4, 5), cells=4))))
    assert {finding.verdict for finding in findings} == {"pass"}
    assert mesh_volume_mm3(turned(box((0, 0, 0), (3, 4, 5)))) == pytest.approx(60.0, rel=1e-9)


def test_a_missing_triangle_leaves_three_open_edges() -> None:
    mesh = box((0, 0, 0), (1, 1, 1))
    opened = Mesh(mesh.vertices_mm, mesh.faces[1:])
    assert measure_mesh(opened).open_edges == 3
    assert not is_closed(opened)
    assert is_closed(mesh)
    assert verdicts(mesh_findings(part(opened)))["open edges"] == "fail"


def test_a_flipped_triangle_is_found() -> None:
    mesh = box((0, 0, 0), (1, 1, 1))
    faces = mesh.faces.copy()
    faces[0] = faces[0, ::-1]
    flipped = Mesh(mesh.vertices_mm, faces)
    assert measure_mesh(flipped).flipped_edges == 3
    assert not is_closed(flipped)


def test_a_mesh_turned_inside_out_has_no_positive_volume() -> None:
    mesh = box((0, 0, 0), (1, 1, 1))
    found = verdicts(mesh_findings(part(Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces[:, ::-1])))))
    assert found["volume"] == "fail"
    assert found["open edges"] == "pass"


def test_two_boxes_that_share_an_edge_have_a_branching_edge() -> None:
    both = together(box((0, 0, 0), (1, 1, 1)), box((1, 1, 0), (2, 2, 1)))
    points, index = np.unique(both.vertices_mm, axis=0, return_inverse=True)
    measures = measure_mesh(Mesh(points, index[both.faces].astype(np.int32)))
    assert measures.branching_edges == 1


def test_two_boxes_that_share_one_corner_have_a_pinched_vertex() -> None:
    both = together(box((0, 0, 0), (1, 1, 1)), box((1, 1, 1), (2, 2, 2)))
    points, index = np.unique(both.vertices_mm, axis=0, return_inverse=True)
    measures = measure_mesh(Mesh(points, index[both.faces].astype(np.int32)))
    assert (measures.pinched_vertices, measures.branching_edges, measures.open_edges) == (1, 0, 0)


def test_pieces_are_counted_against_the_declared_number() -> None:
    both = part(together(box((0, 0, 0), (1, 1, 1)), box((3, 0, 0), (4, 1, 1))))
    assert verdicts(mesh_findings(both))["separate pieces"] == "fail"
    assert verdicts(mesh_findings(both, pieces=2))["separate pieces"] == "pass"


def test_a_box_with_a_hole_through_it_is_sound_although_it_has_a_handle() -> None:
    from batchone.design.booleans import box_solid, difference, to_mesh

    block = box_solid(np.array([0.0, 0, 0]), np.array([9.0, 9, 3]), "block")
    hole = box_solid(np.array([3.0, 3, -1]), np.array([6.0, 6, 4]), "hole")
    assert {f.verdict for f in mesh_findings(part(to_mesh(difference(block, hole, what="hole"))[0]))} == {"pass"}


@pytest.mark.parametrize("cells", [1, 7])
def test_boxes_that_pass_through_each_other_cross_and_near_ones_do_not(cells: int) -> None:
    base = box((0, 0, 0), (10, 10, 10), cells=cells)
    apart = turned(together(base, box((10.00001, 2, 3), (12, 5, 6), cells=cells)))
    through = turned(together(base, box((9.99999, 2, 3), (12, 5, 6), cells=cells)))
    assert len(crossing_pairs(apart, tolerance_mm=1e-6)) == 0
    pairs = crossing_pairs(through, tolerance_mm=1e-6)
    assert len(pairs) > 0
    assert (pairs[:, 0] < len(base.faces)).all()
    assert (pairs[:, 1] >= len(base.faces)).all()


def test_a_box_inside_another_crosses_nothing_but_is_a_second_piece() -> None:
    nested = measure_mesh(together(box((0, 0, 0), (10, 10, 10), cells=5), box((4, 4, 4), (6, 6, 6), cells=3)))
    assert (len(nested.crossings), nested.pieces) == (0, 2)


def test_a_corner_pushed_through_the_opposite_wall_of_its_own_box_is_found() -> None:
    mesh = box((0, 0, 0), (10, 10, 10), cells=5)
    for height, crossed in ((0.001, False), (-0.001, True)):
        points = mesh.vertices_mm.copy()
        middle = int(np.argmin(np.linalg.norm(points - [4.0, 4.0, 10.0], axis=1)))
        points[middle, :2] += 0.3
        points[middle, 2] = height
        assert (len(crossing_pairs(Mesh(points, mesh.faces), tolerance_mm=1e-6)) > 0) is crossed


def test_crossings_agree_with_a_test_of_every_pair() -> None:
    chance = np.random.default_rng(7)
    soup = chance.random((60, 1, 3)) + 0.35 * chance.standard_normal((60, 3, 3))
    mesh = Mesh(soup.reshape(-1, 3), np.arange(180, dtype=np.int32).reshape(-1, 3))
    touched = {int(face) for face in crossing_pairs(mesh, tolerance_mm=1e-9).ravel()}
    by_hand = {i for i in range(60) for j in range(60) if i != j and (_pierces(soup[i], soup[j]) or _pierces(soup[j], soup[i]))}
    assert touched <= by_hand
    assert 10 < len(by_hand) < 60
    assert len(touched) > 0.6 * len(by_hand)  # of each triangle the first partner is listed, not all


def _pierces(triangle: np.ndarray, other: np.ndarray) -> bool:
    """Solve for the point where each edge meets the other's plane."""
    for k in range(3):
        p, q = triangle[k], triangle[(k + 1) % 3]
        system = np.column_stack([q - p, other[0] - other[1], other[0] - other[2]])
        t, u, v = np.linalg.solve(system, other[0] - p)
        if 0.0 < t < 1.0 and u >= 0.0 and v >= 0.0 and u + v <= 1.0:
            return True
    return False


# walls


@pytest.fixture(scope="module")
def process() -> Process:
    return load_process("pa12-sls")


@pytest.mark.parametrize(("excess_mm", "verdict"), [(0.01, "pass"), (-0.01, "fail")])
def test_a_plate_just_thicker_than_the_limit_passes_and_just_thinner_fails(
    process: Process, excess_mm: float, verdict: str
) -> None:
    plate = turned(box((0, 0, 0), (40, 30, process.min_wall_mm + excess_mm), cells=10))
    found = wall_findings(part(plate), process)
    assert found[0].verdict == verdict
    assert found[0].value == pytest.approx(process.min_wall_mm + excess_mm, abs=0.001)  # single-precision rays


def test_a_familys_own_wall_raises_the_limit_or_turns_it_into_advice(process: Process) -> None:
    plate = part(box((0, 0, 0), (40, 30, 1.5), cells=10))
    assert wall_findings(plate, process, Limit(low=2.0, unit="mm", source="test"))[0].verdict == "fail"
    assert wall_findings(plate, process, Limit(low=2.0, unit="mm", gate=False, source="test"))[0].verdict == "warn"


@pytest.mark.parametrize(("angle_deg", "thin"), [(39.0, False), (35.0, True)])
def test_a_corner_sharper_than_37_degrees_counts_as_a_thin_wall(angle_deg: float, thin: bool) -> None:
    mesh = box((0, 0, 0), (20, 20, 20), cells=20)
    sheared = mesh.vertices_mm.copy()
    sheared[:, 0] += sheared[:, 2] / np.tan(np.deg2rad(angle_deg))
    walls = measure_walls(Mesh(sheared, mesh.faces))
    assert bool((walls.thickness_mm < 1.0).any()) is thin


@pytest.mark.parametrize(("angle_deg", "thin"), [(31.0, False), (29.0, True)])
def test_beside_an_edge_of_30_degrees_or_more_there_is_no_thin_spot(angle_deg: float, thin: bool) -> None:
    mesh = box((0, 0, 0), (20, 20, 20), cells=20)
    sheared = mesh.vertices_mm.copy()
    sheared[:, 0] += sheared[:, 2] / np.tan(np.deg2rad(angle_deg))
    wedge = Mesh(sheared, mesh.faces)
    assert (measure_walls(wedge).thinnest_spot(wedge, 1.0)[0] < 1.0) is thin


def test_the_thin_part_of_a_body_is_found_and_located(process: Process) -> None:
    from batchone.design.booleans import box_solid, to_mesh, union

    block = box_solid(np.array([0.0, 0, 0]), np.array([20.0, 20, 20]), "block")
    fin = box_solid(np.array([19.0, 5, 5]), np.array([30.0, 15, 5.6]), "fin")
    finding = wall_findings(part(to_mesh(union(block, fin, what="fin"))[0]), process)[0]
    assert (finding.verdict, finding.value) == ("fail", pytest.approx(0.6, abs=0.001))
    assert finding.where_mm is not None
    assert finding.where_mm[0] > 19.0


# placement


def order(side: str) -> Order:
    return Order(
        case="test-1", device="anatomical-model", side=side, process="pa12-sls", machine="sim-01",
        due=dt.datetime(2026, 11, 24, tzinfo=dt.UTC), parameters=load_families()["anatomical-model"].parameters(),
    )  # fmt: skip


def anatomy() -> Anatomy:
    mesh = box((-50, -50, -50), (50, 50, 50))
    bone = Bone("skull", "midline", True, 1.0, 1e6, mesh, np.eye(4), np.zeros(8))
    return Anatomy((bone,), (), FieldOfView(np.eye(4), (100, 100, 100)))


def judged(mesh: Mesh, side: str = "left", machine: Machine | None = None, normal: float = 1.0) -> dict[str, Finding]:
    plan = Plan("test", True, "left", planes=(Plane("symmetry", (0.0, 0.0, 0.0), (normal, 0.0, 0.0)),))
    family = load_families()["anatomical-model"]
    device = Device("anatomical-model", (part(mesh),))
    where = placement_findings(
        device, anatomy(), plan, order(side), limits=family.limits, machine=machine or load_machine("sim-01")
    )
    return {finding.what.split(": ")[1]: finding for finding in where}


def test_size_volume_and_centre_of_mass_are_those_of_the_box() -> None:
    mesh = box((1, 2, 3), (11, 22, 33), cells=3)
    found = judged(mesh)
    assert found["size along x (left to right)"].value == pytest.approx(10.0)
    assert found["size along z (foot to head)"].value == pytest.approx(30.0)
    assert found["volume, at its centre of mass"].value == pytest.approx(6000.0)
    assert found["volume, at its centre of mass"].where_mm == pytest.approx((6.0, 12.0, 18.0))
    moved = turned(mesh)
    assert moments(moved)[1] == pytest.approx(moved.vertices_mm.min(axis=0) / 2 + moved.vertices_mm.max(axis=0) / 2)


@pytest.mark.parametrize("normal", [1.0, -1.0])
@pytest.mark.parametrize(("shift_mm", "left", "right"), [(0.1, "pass", "fail"), (-0.1, "fail", "pass")])
def test_a_device_lies_on_the_ordered_side_whichever_way_the_planes_normal_points(
    shift_mm: float, left: str, right: str, normal: float
) -> None:
    mesh = box((shift_mm - 10, 0, 0), (shift_mm + 10, 10, 10))
    assert judged(mesh, "left", normal=normal)["centre of mass to the left of the plane of symmetry"].verdict == left
    assert judged(mesh, "right", normal=normal)["centre of mass to the right of the plane of symmetry"].verdict == right
    assert judged(mesh, "midline")["centre of mass to the left of the plane of symmetry"].limit == "for information"


def test_a_device_just_fits_the_machine_in_any_orientation_along_its_own_axes() -> None:
    machine = replace_envelope(load_machine("sim-01"), (50.0, 70.0, 90.0))
    what = f"largest side beyond the room of {machine.name}"
    assert judged(box((0, 0, 0), (89.9, 39.9, 59.9)), machine=machine)[what].verdict == "pass"
    assert judged(turned(box((0, 0, 0), (89.9, 39.9, 59.9))), machine=machine)[what].verdict == "pass"
    assert judged(box((0, 0, 0), (89.9, 40.1, 59.9)), machine=machine)[what].verdict == "fail"
    assert judged(box((0, 0, 0), (90.1, 39.9, 59.9)), machine=machine)[what].value == pytest.approx(0.1)


def replace_envelope(machine: Machine, envelope_mm: tuple[float, float, float]) -> Machine:
    return machine.model_copy(update={"envelope_mm": envelope_mm})


def test_the_design_envelope_is_inclusive() -> None:
    family = load_families()["anatomical-model"]
    limit = family.limits.envelope["volume_mm3"]
    assert limit.low is not None
    side = limit.low ** (1.0 / 3.0)
    what = "volume inside the design envelope"
    assert judged(box((0, 0, 0), (side, side, side * 1.001)))[what].verdict == "pass"
    assert judged(box((0, 0, 0), (side, side, side * 0.999)))[what].verdict == "fail"


def test_every_device_is_held_against_the_envelope_and_a_bone_model_is_not() -> None:
    family = load_families()["anatomical-model"]
    good, tiny = part(box((0, 0, 0), (30, 30, 30))), part(box((40, 0, 0), (41, 1, 1)))
    parts = (good, replace(tiny, name="second"), replace(tiny, name="bone", purpose="bone-model"))
    found = placement_findings(
        Device("anatomical-model", parts), anatomy(), Plan("test", True, "left"), order("left"),
        limits=family.limits, machine=load_machine("sim-01"),
    )  # fmt: skip
    told = {finding.what.split(":")[0] for finding in found if finding.check == "envelope" and finding.verdict == "fail"}
    assert told == {"second"}


def test_a_plan_without_a_plane_of_symmetry_gives_no_side() -> None:
    device = Device("anatomical-model", (part(box((0, 0, 0), (10, 10, 10))),))
    family = load_families()["anatomical-model"]
    plain = placement_findings(
        device, anatomy(), Plan("test", True, "left"), order("left"), limits=family.limits, machine=load_machine("sim-01")
    )
    assert not [finding for finding in plain if "symmetry" in finding.what]
    assert replace(plain[0], value=1.0).unit == "mm"


def test_the_ridges_of_an_engraving_are_no_walls(process: Process) -> None:
    thin = box((0, 0, 0), (40, 30, 0.3), cells=10)
    labelled = replace(part(thin), labels=("label",), face_labels=np.zeros(len(thin.faces), dtype=np.int16))
    assert np.isnan(wall_findings(labelled, process)[0].value)
    assert wall_findings(part(thin), process)[0].verdict == "fail"


def test_a_wider_tolerance_never_finds_more_crossings() -> None:
    rng = np.random.default_rng(5)
    corners = rng.uniform(0.0, 10.0, (300, 1, 3)) + rng.uniform(-1.0, 1.0, (300, 3, 3))
    soup = Mesh(corners.reshape(-1, 3), np.arange(900, dtype=np.int32).reshape(-1, 3))
    counts = [len(crossing_pairs(soup, tolerance_mm=t)) for t in (0.0, 1e-4, 1e-2, 0.1, 0.3)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_crossings_of_a_heap_are_those_that_linear_equations_find() -> None:
    rng = np.random.default_rng(7)
    corners = rng.uniform(0.0, 10.0, (200, 1, 3)) + rng.uniform(-1.5, 1.5, (200, 3, 3))
    soup = Mesh(corners.reshape(-1, 3), np.arange(600, dtype=np.int32).reshape(-1, 3))

    def pierced(one: int, other: int) -> bool:
        a, b, c = corners[other]
        for start, end in ((0, 1), (1, 2), (2, 0)):
            p, q = corners[one, start], corners[one, end]
            along, s, t = np.linalg.solve(np.column_stack([p - q, b - a, c - a]), p - a)
            if 0.0 <= along <= 1.0 and s >= 0.0 and t >= 0.0 and s + t <= 1.0:
                return True
        return False

    wanted = {(i, j) for i in range(200) for j in range(i + 1, 200) if pierced(i, j) or pierced(j, i)}
    found = {(int(i), int(j)) for i, j in crossing_pairs(soup, tolerance_mm=0.0)}
    assert found <= wanted
    assert len(found) > 20
    after = {one for pair in found for one in pair}
    assert all(i in after or j in after for i, j in wanted)  # each pair has one that counts


@pytest.mark.parametrize(("height_mm", "pairs"), [(0.0, 0), (0.1, 1)])
def test_a_triangle_without_height_crosses_nothing_whatever_its_rounding(height_mm: float, pairs: int) -> None:
    from scipy.spatial.transform import Rotation

    through = [[0.0, 0.0, -1.0], [0.0, 0.0, 1.0], [height_mm, 0.0, 0.3]]
    points = np.array([*through, [-2.0, -2.0, 0.1], [2.0, -2.0, 0.1], [0.0, 3.0, 0.1]])
    turned = Rotation.from_euler("xyz", [17.0, 29.0, 41.0], degrees=True).apply(points) + np.array([300.0, -200.0, 100.0])
    mesh = Mesh(turned, np.array([[0, 1, 2], [3, 4, 5]], dtype=np.int32))
    assert len(crossing_pairs(mesh, tolerance_mm=1e-4)) == pairs
