"""Bones apart: each bone its own label, in order and by name, on real scans and where the truth of a cut is exact."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow
from skimage.morphology import reconstruction

import batchone.segment.apart.joints
import batchone.segment.apart.march
from batchone.pipeline.intake.make import intake
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Order
from batchone.pipeline.values import Finding, Mesh, Scan, SeriesRecord
from batchone.samples.joint import joint
from batchone.segment.apart.chest import in_order
from batchone.segment.apart.fill import grey_filled
from batchone.segment.apart.make import bones_apart
from batchone.segment.apart.maxflow import source_side
from batchone.segment.apart.numbering import NAMES
from batchone.segment.apart.ribs import near_end
from batchone.segment.label_map import Label, LabelMap

RECORD = SeriesRecord("CT", "", "", "", "HFS", 1, 1.0, 1.0, (1.0, 1.0), 0.0, "", "")
ANY_SCAN = Protocol(
    max_slice_spacing_mm=10.0,
    warn_slice_spacing_mm=10.0,
    max_slice_thickness_mm=10.0,
    max_pixel_mm=10.0,
    max_gantry_tilt_deg=45.0,
    min_slices=3,
    source="test: everything that is a volume",
)
TRUTH = {"t12": 32, "l1": 31, "l2": 30, "l3": 29, "l4": 28, "l5": 27, "sacrum": 25}  # values in the labelled scan's file
PAIRED_TRUTH = {("hip", "left"): 77, ("hip", "right"): 78, ("femur", "left"): 75, ("femur", "right"): 76}
Apart = tuple[LabelMap, tuple[Finding, ...]]
Bytes = npt.NDArray[np.uint8]


@lru_cache(maxsize=3)
def scan_of(path: Path) -> Scan:
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    order = Order(case="t-1", device="anatomical-model", side="midline", process="p", machine="m", due=due)
    return intake(path, order, ANY_SCAN)[0]


@lru_cache(maxsize=3)
def apart(path: Path) -> Apart:
    return bones_apart(scan_of(path))


def truth_labels(test_data: Path) -> Bytes:
    file = test_data / "lumbar-labelled" / "example_seg_fast_force_split.nii.gz"
    truth = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file))).astype(np.uint8)
    truth[truth == 26] = 25  # S1 is of the sacrum
    return truth


def one(found: LabelMap, name: str, side: str = "midline") -> Label:
    (label,) = [label for label in found.labels if (label.name, label.side) == (name, side)]
    return label


def is_vertebra(label: Label) -> bool:
    return label.name in NAMES or label.name.startswith("vertebra-")


def dice(one_: npt.NDArray[np.bool_], two: npt.NDArray[np.bool_]) -> float:
    return 2.0 * float((one_ & two).sum()) / float(one_.sum() + two.sum())


# --- real scans -------------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_lumbar_vertebrae_are_found_in_order_none_merged(test_data: Path) -> None:
    found, _ = apart(test_data / "lumbar-labelled" / "example_ct.nii.gz")
    truth = truth_labels(test_data)
    ours = [one(found, name) for name in ("t12", "l1", "l2", "l3", "l4", "l5")]
    heights = [np.argwhere(found.voxels == label.value)[:, 0].mean() for label in ours]
    assert heights == sorted(heights, reverse=True)
    bone = (found.voxels > 0) & np.isin(truth, [*TRUTH.values(), *PAIRED_TRUTH.values()])
    for label in ours[1:]:
        mine, wanted = found.voxels == label.value, truth == TRUTH[label.name]
        assert dice(mine & bone, wanted & bone) >= 0.95, label.name
        assert dice(mine, wanted) >= 0.80, label.name
        assert label.complete
    assert not ours[0].complete  # T12 leaves the scan


@pytest.mark.data
def test_lumbar_pelvis_has_names_and_sides_and_its_metal_is_reported(test_data: Path) -> None:
    found, findings = apart(test_data / "lumbar-labelled" / "example_ct.nii.gz")
    truth = truth_labels(test_data)
    least = {"hip": 0.86, "femur": 0.76}
    for (name, side), value in PAIRED_TRUTH.items():
        assert dice(found.voxels == one(found, name, side).value, truth == value) >= least[name], (name, side)
    assert dice(found.voxels == one(found, "sacrum").value, truth == TRUTH["sacrum"]) >= 0.55  # thin cortex at 3 mm
    (metal,) = [finding for finding in findings if finding.check == "metal_in_bone"]
    assert metal.verdict == "warn"
    assert metal.value > 5.0


@pytest.mark.data
def test_a_number_is_certain_only_with_two_anchors(test_data: Path) -> None:
    lumbar, _ = apart(test_data / "lumbar-labelled" / "example_ct.nii.gz")
    assert one(lumbar, "l3").numbering == "certain"
    assert "sacrum" in one(lumbar, "l3").evidence
    thorax, findings = apart(test_data / "thorax.zip")
    vertebrae = [label for label in thorax.labels if is_vertebra(label)]
    assert len(vertebrae) >= 6
    assert {label.numbering for label in vertebrae} == {"estimated"}
    assert all("ambiguous" in label.evidence for label in vertebrae)
    assert [f.verdict for f in findings if f.check == "vertebra_numbering"] == ["warn"]


@pytest.mark.data
def test_each_complete_thoracic_vertebra_is_one_piece_with_body_and_arch(test_data: Path) -> None:
    found, _ = apart(test_data / "thorax.zip")
    whole = [label for label in found.labels if is_vertebra(label) and label.complete]
    assert len(whole) >= 4
    heights = []
    for label in whole:
        places = np.argwhere(found.voxels == label.value) * (1.0, 0.78125, 0.78125)
        pieces = SimpleITK.GetArrayFromImage(
            SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray((found.voxels == label.value).astype(np.uint8)))
        )
        assert np.bincount(pieces[pieces > 0]).max() >= 0.99 * (pieces > 0).sum(), label.name
        size = np.ptp(places, axis=0)
        assert 35.0 <= size[0] <= 75.0, label.name  # a body and its hanging process, never two bodies (mm)
        assert 60.0 <= size[1] <= 100.0, label.name  # body to spinous process
        heights.append(places[:, 0].mean())
    assert heights == sorted(heights, reverse=True)


@pytest.mark.data
def test_thoracic_ribs_have_labels_of_their_own(test_data: Path) -> None:
    found, _ = apart(test_data / "thorax.zip")
    ribs = [label for label in found.labels if label.name.startswith("rib")]
    assert len(ribs) >= 20
    for label in ribs:
        x_mm = found.affine[0, 3] + found.affine[0, 0] * np.argwhere(found.voxels == label.value)[:, 2].mean()
        assert (x_mm > 0.0) == (label.side == "left"), label
    borne = Counter((label.evidence.split(";")[0], label.side) for label in ribs if label.evidence.startswith("touches"))
    assert len(borne) >= 10
    assert max(borne.values()) == 1  # no vertebra has two ribs on one side


@pytest.mark.data
def test_few_ribs_are_cut_through_their_neck(test_data: Path) -> None:
    found, _ = apart(test_data / "thorax.zip")
    spine = {label.value for label in found.labels if is_vertebra(label)}
    ribs = {label.value for label in found.labels if label.name.startswith("rib")}
    cuts = [cut for cut in found.cuts if cut.first in spine and cut.second in ribs and cut.area_mm2 >= 30.0]
    assert sum(cut.valley_ratio > 0.75 for cut in cuts) <= 3  # 5 of 13 when nothing draws a neck to its rib


@pytest.mark.data
@pytest.mark.parametrize(
    ("axis", "degrees"), [(0, 10.0), *(pytest.param(*turn, marks=pytest.mark.slow) for turn in ((0, -10.0), (1, 10.0)))]
)
def test_the_ribs_of_a_patient_who_lies_turned_are_found_where_the_oblique_scan_ends(
    test_data: Path, axis: int, degrees: float
) -> None:
    scan = scan_of(test_data / "thorax.zip")
    first, second = [other for other in range(3) if other != axis]
    turn = np.eye(4)
    turn[[first, second], [first, second]] = np.cos(np.radians(degrees))
    turn[first, second], turn[second, first] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
    found, _ = bones_apart(Scan(scan.hu, turn @ scan.affine, scan.record))
    assert len([label for label in found.labels if label.name.startswith("rib")]) >= 20
    assert len([label for label in found.labels if is_vertebra(label) and label.complete]) >= 4


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2, 4)])
def test_the_end_of_a_field_of_view_is_seen_from_as_far_as_asked_and_no_further(low: int, high: int) -> None:
    inside = np.ones((20, 2, 2), dtype=np.bool_)
    inside[:low, 1], inside[20 - high :, 1] = False, False  # oblique: one row ends earlier
    assert np.flatnonzero(near_end(inside, 3)[:, 0, 0]).tolist() == [0, 1, 2, 17, 18, 19]
    assert np.flatnonzero(near_end(inside, 3)[:, 1, 0]).tolist() == [*range(low + 3), *range(17 - high, 20)]


@pytest.mark.data
def test_the_head_phantom_is_a_skull_and_a_vault_without_holder_and_stand(test_data: Path) -> None:
    found, _ = apart(test_data / "head-phantom.zip")
    scan = scan_of(test_data / "head-phantom.zip")
    assert {label.name for label in found.labels} == {"skull", "skull-vault"}
    stand = (scan.hu > 50) & (scan.hu < 150) & (found.voxels > 0)
    assert stand.sum() < 0.03 * (found.voxels > 0).sum()
    volume_cm3 = float((found.voxels > 0).sum() * np.prod(scan.spacing_mm)) / 1e3
    assert 330.0 <= volume_cm3 <= 430.0  # bone above the threshold is 397 cm3, the holder would add 129


@pytest.mark.slow
@pytest.mark.data
def test_a_scan_stored_the_other_way_round_gives_the_same_bones(test_data: Path) -> None:
    path = test_data / "lumbar-labelled" / "example_ct.nii.gz"
    scan, (found, _) = scan_of(path), apart(path)
    affine = scan.affine.copy()
    last = np.array(scan.hu.shape[::-1], dtype=np.float64) - 1.0
    for axis in (1, 2):  # rows and slices: two flips keep the frame right-handed
        affine[:3, 3] += affine[:3, axis] * last[axis]
        affine[:3, axis] *= -1.0
    again, _ = bones_apart(Scan(np.ascontiguousarray(scan.hu[::-1, ::-1]), affine, scan.record))
    turned_back = again.voxels[::-1, ::-1]
    for label in found.labels:
        if label.name not in ("rib", "bone"):  # small pieces of ribs carry no name of their own
            same = one(again, label.name, label.side)
            assert same.complete == label.complete
            assert dice(turned_back == same.value, found.voxels == label.value) >= 0.99, label.name


@pytest.mark.slow
@pytest.mark.data
def test_without_the_march_the_lowest_lumbar_disc_is_lost(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchone.segment.apart.march, "MARCH_LEAST", 1e9)
    monkeypatch.setattr(batchone.segment.apart.march, "MARCH_EDGE_LEAST", 1e9)
    found, _ = bones_apart(scan_of(test_data / "lumbar-labelled" / "example_ct.nii.gz"))
    truth = truth_labels(test_data)
    lowest = found.voxels[truth == TRUTH["l5"]]
    value = np.bincount(lowest[lowest > 0]).argmax()
    assert found.labels[value - 1].name == "sacrum"  # L5 went to it


# --- exact truth ------------------------------------------------------------------------------------------------------------


def bone_surface(test_data: Path, name: str, down_mm: float = 0.0) -> Mesh:
    mesh = trimesh.load(test_data / "bones" / f"VHF_Left_Bone_{name}_smooth.stl")
    vertices = np.asarray(mesh.vertices, dtype=np.float64) * (1.0, -1.0, 1.0) - (0.0, 0.0, down_mm)
    return Mesh(vertices, np.asarray(mesh.faces, dtype=np.int32)[:, ::-1].copy())


def mesh_below(mesh: Mesh, height_mm: float) -> Mesh:
    """The part of a bone below a height, closed there: a shaft that the scan would otherwise follow far up."""
    solid = trimesh.Trimesh(mesh.vertices_mm, mesh.faces, process=False)
    if solid.bounds[1, 2] > height_mm:
        solid = trimesh.intersections.slice_mesh_plane(solid, [0.0, 0.0, -1.0], [0.0, 0.0, height_mm], cap=True)
    return Mesh(np.asarray(solid.vertices, dtype=np.float64), np.asarray(solid.faces, dtype=np.int32))


DOWN_MM = {0.5: 1.6, 1.0: 3.3, 2.0: 6.0}  # how far the calcaneus is moved for that least gap under the talus


def two_bones(test_data: Path, gap_mm: float) -> tuple[Scan, Bytes]:
    surfaces = (bone_surface(test_data, "Talus"), bone_surface(test_data, "Calcaneous", DOWN_MM[gap_mm]))
    phantom = joint(surfaces, spacing_mm=0.8)
    return Scan(phantom.hu, phantom.affine, RECORD), phantom.truth


@pytest.mark.data
@pytest.mark.parametrize("gap_mm", [0.5, pytest.param(1.0, marks=pytest.mark.slow), pytest.param(2.0, marks=pytest.mark.slow)])
def test_two_bones_close_to_each_other_are_two_labels(test_data: Path, gap_mm: float) -> None:
    scan, truth = two_bones(test_data, gap_mm)
    found, _ = bones_apart(scan)
    assert len(found.labels) == 2
    both = (found.voxels > 0) & (truth > 0)
    for value in (1, 2):
        mine = found.voxels == np.bincount(found.voxels[truth == value]).argmax()
        assert dice(mine & both, (truth == value) & both) >= 0.99
        assert dice(mine, truth == value) >= 0.95


@pytest.mark.data
@pytest.mark.parametrize(
    "spacing_mm", [pytest.param(0.5, marks=pytest.mark.slow), 0.8, pytest.param(1.25, marks=pytest.mark.slow)]
)
def test_the_ankle_falls_into_its_four_bones_whatever_the_voxels(test_data: Path, spacing_mm: float) -> None:
    surfaces = [bone_surface(test_data, name) for name in ("Tibia", "Fibula", "Talus", "Calcaneous")]
    phantom = joint(tuple(mesh_below(mesh, 230.0) for mesh in surfaces), spacing_mm=spacing_mm)
    found, _ = bones_apart(Scan(phantom.hu, phantom.affine, RECORD))
    both = (found.voxels > 0) & (phantom.truth > 0)
    values = [int(np.bincount(found.voxels[(phantom.truth == k) & both]).argmax()) for k in (1, 2, 3, 4)]
    assert sorted(values) == [1, 2, 3, 4]
    for k, value in enumerate(values, start=1):
        assert dice((found.voxels == value) & both, (phantom.truth == k) & both) >= 0.98


@pytest.mark.data
def test_without_the_valley_levels_two_close_bones_are_one(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchone.segment.apart.joints, "JOINT_LEVELS", ())
    found, _ = bones_apart(two_bones(test_data, 0.5)[0])
    assert len(found.labels) == 1


@pytest.mark.parametrize("hu", [-1000, 40, 3000])
def test_a_scan_without_bone_has_no_labels(hu: int) -> None:
    voxels = np.full((40, 80, 80), -1000, dtype=np.int16)
    voxels[5:35, 20:60, 20:60] = 30
    voxels[15:25, 38:42, 38:42] = hu
    found, _ = bones_apart(Scan(voxels, np.diag([1.0, 1.0, 1.0, 1.0]), RECORD))
    assert len(found.labels) == (1 if hu == 3000 else 0)  # metal alone is kept, and reported
    assert not found.voxels.any() or hu == 3000


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.tuples(st.integers(1, 6), st.integers(2, 7), st.integers(2, 7)))
def test_the_cut_is_minimal(seed: int, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    mask, cost = rng.random(shape) < 0.85, rng.random(shape).astype(np.float32)
    pull = np.where(rng.random(shape) < 0.3, rng.integers(-900, 900, shape), 0).astype(np.int32)
    side = source_side(mask, cost, pull.copy())
    number = np.where(mask, np.cumsum(mask).reshape(shape) - 1, -1)
    count, rows, columns, room, crossing = int(mask.sum()), [], [], [], 0
    for axis in range(3):
        first = tuple(slice(0, -1) if k == axis else slice(None) for k in range(3))
        second = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        both = mask[first] & mask[second]
        weight = np.floor(np.minimum(cost[first], cost[second]) * 1000.0 + 0.5).astype(np.int64)[both]
        rows += [*number[first][both], *number[second][both]]
        columns += [*number[second][both], *number[first][both]]
        room += [*weight, *weight]
        crossing += int(weight[(side[first] != side[second])[both]].sum())
    for node, tie in zip(number[mask], pull[mask], strict=True):
        if tie:
            rows.append(count if tie > 0 else int(node))
            columns.append(int(node) if tie > 0 else count + 1)
            room.append(abs(int(tie)))
    crossing += int(pull[mask & (pull > 0) & ~side].sum() - pull[mask & (pull < 0) & side].sum())
    graph = csr_matrix((np.array(room, dtype=np.int32), (rows, columns)), shape=(count + 2, count + 2))
    assert maximum_flow(graph, count, count + 1).flow_value == crossing


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_filling_grey_values_is_reconstruction_by_erosion(seed: int) -> None:
    hu = np.random.default_rng(seed).integers(-200, 900, (6, 9, 11)).astype(np.int16)
    filled = grey_filled(hu, 1e9, (-200, 900))  # no bone on the faces: the flood comes in everywhere
    marker = np.full(hu.shape, 900)
    marker[0], marker[-1], marker[:, 0], marker[:, -1] = hu[0], hu[-1], hu[:, 0], hu[:, -1]
    marker[:, :, 0], marker[:, :, -1] = hu[:, :, 0], hu[:, :, -1]
    cross = np.zeros((3, 3, 3), dtype=bool)
    cross[1, 1, :] = cross[1, :, 1] = cross[:, 1, 1] = True
    assert np.array_equal(filled, reconstruction(marker, hu, method="erosion", footprint=cross))


def test_two_ribs_that_touch_one_vertebra_most_are_given_to_two() -> None:
    assert in_order([{7: 90, 8: 60}, {7: 80}], [8, 7]) == [8, 7]
    assert in_order([{}, {3: 5}], [2, 3]) == [0, 3]
