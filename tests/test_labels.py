"""From labels to bones: several bones, an external program, a person's edits, and what is refused."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import bone_scan as phantom
import manifold3d
import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from batchone.pipeline.config import External, Segmentation, read_site_settings
from batchone.pipeline.errors import InputError, MachineError, OrderError
from batchone.pipeline.job.voxels import Grid, put_inside
from batchone.pipeline.labels import is_bone, split_title
from batchone.pipeline.values import Anatomy, Bone, Edit, FloatArray, Label, Scan, SeriesRecord, moved_points
from batchone.segment.backends.names import known_bone
from batchone.segment.cuts import cuts_between
from batchone.segment.frames.fits import fit_sphere
from batchone.segment.label_map import LabelArray, LabelMap, compact, expanded, measured
from batchone.segment.make import segment
from batchone.segment.surface import count_open_edges

PROGRAM = Path(__file__).with_name("bone_program.py")
BoolArray = npt.NDArray[np.bool_]


order = phantom.order


@pytest.fixture(scope="module")
def scanned() -> tuple[Scan, LabelArray]:
    scan, truth = phantom.bones_scan()
    return scan, truth


def program(how: str = "well", *, version: str = "1.0", timeout_s: float = 60.0, memory_mb: float = 4000.0) -> Segmentation:
    command = (sys.executable, str(PROGRAM), "{image}", "{labels}", "{names}", how)
    return Segmentation(
        backend="external", external=External(program=command, version=version, timeout_s=timeout_s, memory_mb=memory_mb)
    )


def labels_of(names: tuple[str, ...]) -> tuple[Label, ...]:
    parts = [split_title(name) for name in names]
    return tuple(Label(n, name, side or "midline", True, 1.0) for n, (name, side) in enumerate(parts, start=1))


def edit_of(scan: Scan, voxels: LabelArray, names: tuple[str, ...] = ("l1", "l2", "femur left")) -> Edit:
    from dataclasses import replace

    given = compact(LabelMap(voxels, scan.affine, labels_of(names)))
    return Edit(replace(given, scan=scan.record.sources_digest), "code-9", "ab" * 32)


def inside(bone: Bone, scan: Scan) -> BoolArray:
    bits = np.zeros(-(-scan.hu.size // 8), dtype=np.uint8)
    put_inside(bone.mesh, Grid(scan.affine, scan.hu.shape), bits=bits, offset=0)
    return np.unpackbits(bits, bitorder="little")[: scan.hu.size].reshape(scan.hu.shape).astype(np.bool_)


def dice(a: BoolArray, b: BoolArray) -> float:
    return 2.0 * float(np.count_nonzero(a & b)) / float(np.count_nonzero(a) + np.count_nonzero(b))


def overlap_mm3(a: Bone, b: Bone) -> float:
    solids = [
        manifold3d.Manifold(manifold3d.Mesh64(np.asarray(x.mesh.vertices_mm), x.mesh.faces.astype(np.uint64))) for x in (a, b)
    ]
    assert all(solid.status() == manifold3d.Error.NoError for solid in solids)
    return float((solids[0] ^ solids[1]).volume())


# --- labels as runs ----------------------------------------------------------------------------------------------------------


def test_labels_as_runs_give_the_voxels_back_and_their_boxes() -> None:
    voxels = np.random.default_rng(1).integers(0, 4, (7, 9, 70)).astype(np.uint8)
    voxels[voxels == 3] = 200
    runs = compact(LabelMap(voxels, np.eye(4), ()))
    assert np.array_equal(expanded(runs).voxels, voxels)
    counts, boxes = measured(runs)
    for value in (1, 2, 200):
        where = np.argwhere(voxels == value)
        assert counts[value] == len(where)
        assert np.array_equal(boxes[value], np.stack([where.min(axis=0), where.max(axis=0) + 1], axis=1))
    assert counts[3] == 0


def test_no_labels_are_no_runs() -> None:
    runs = compact(LabelMap(np.zeros((2, 3, 5), dtype=np.uint8), np.eye(4), ()))
    assert len(runs.start) == 0
    assert not expanded(runs).voxels.any()


# --- several bones -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spine(scanned: tuple[Scan, LabelArray]) -> Anatomy:
    return segment(scanned[0], order("L1", "L2", "femur"), program())


def test_an_external_program_gives_the_ordered_bones_with_sides(spine: Anatomy, scanned: tuple[Scan, LabelArray]) -> None:
    scan, truth = scanned
    assert [(b.name, b.side, b.complete, b.numbering) for b in spine.bones] == [
        ("l1", "midline", True, "estimated"),
        ("l2", "midline", True, "estimated"),
        ("femur", "left", True, "none"),
    ]
    assert spine.source == "bone-program 1.0"
    assert "bone-program 1.0 names it vertebrae_L1" in spine.bones[0].evidence
    for value, bone in enumerate(spine.bones, start=1):
        assert count_open_edges(bone.mesh.faces) == 0
        assert dice(inside(bone, scan), truth == value) >= 0.97
    assert all(
        f.verdict == "pass" for f in spine.findings if f.check not in ("level_confirmed", "landmarks", "surface_sigma_median")
    )


def test_the_labels_of_all_bones_travel_with_the_anatomy(scanned: tuple[Scan, LabelArray]) -> None:
    only = segment(scanned[0], order("L2"), program())
    assert [bone.name for bone in only.bones] == ["l2"]
    assert only.labels is not None
    assert [label.title for label in only.labels.labels] == ["l1", "l2", "femur left"]
    assert only.labels.scan == scanned[0].record.sources_digest
    assert set(np.unique(expanded(only.labels).voxels)) == {0, 1, 2, 3}


@pytest.mark.parametrize("gap", [0, 1])
def test_bones_that_touch_do_not_overlap(scanned: tuple[Scan, LabelArray], gap: int) -> None:
    scan, truth = scanned
    voxels = truth.copy()
    if gap == 0:  # labels share a face: the joint's voxels go to the upper bone
        joint = (ndimage.binary_dilation(truth == 1) | ndimage.binary_dilation(truth == 2)) & (truth == 0)
        joint[:44] = joint[46:] = False
        voxels[joint & (ndimage.binary_dilation(truth == 1))] = 1
    bones = segment(scan, order("l1", "l2"), edit=edit_of(scan, voxels)).bones
    assert overlap_mm3(bones[0], bones[1]) <= 1e-6 * bones[0].volume_mm3
    for bone, height_mm in zip(bones, (24.0, 25.0), strict=True):
        assert bone.volume_mm3 == pytest.approx(np.pi * 16.0**2 * height_mm, rel=0.03)


@pytest.mark.parametrize(("gap_hu", "poor"), [(150.0, False), (900.0, True)])
def test_a_cut_through_solid_bone_is_shown_and_one_in_a_gap_is_not(gap_hu: float, poor: bool) -> None:
    scan, truth = phantom.bones_scan(gap_hu=gap_hu)
    voxels = truth.copy()
    voxels[45][(truth[44] == 2)] = 1  # the joint's one layer of voxels goes to the upper bone: the labels touch below it
    anatomy = segment(scan, order("l1", "l2"), edit=edit_of(scan, voxels))
    (cut,) = [f for f in anatomy.findings if f.check == "cut_between_bones"]
    assert "l1 to l2" in cut.what
    assert cut.verdict == ("warn" if poor else "pass")
    assert cut.value == pytest.approx(1.0 if poor else 0.5 * (150.0 + 900.0) / 900.0, abs=0.02)
    (figures,) = cuts_between(voxels, scan.hu, scan.spacing_mm[::-1])
    assert figures.area_mm2 == pytest.approx(np.pi * 16.0**2, rel=0.03)
    assert figures.dense_share == pytest.approx(1.0)


def test_a_missing_bone_and_the_other_side_are_refused_with_what_there_is(scanned: tuple[Scan, LabelArray]) -> None:
    with pytest.raises(OrderError, match=r"l5 not found; bones told apart in the scan: l1, l2, femur left"):
        segment(scanned[0], order("L5"), program())
    with pytest.raises(OrderError, match=r"femur right found only on the other side"):
        segment(scanned[0], order("femur", side="right"), program())
    assert segment(scanned[0], order("femur left", side="right"), program()).bones[0].side == "left"


def test_bones_that_nothing_tells_apart_are_refused_by_name(scanned: tuple[Scan, LabelArray]) -> None:
    with pytest.raises(OrderError, match=r"l1, l2 not found; bones told apart in the scan: bone"):
        segment(scanned[0], order("L1", "L2"))


@pytest.mark.parametrize(
    ("text", "name"), [("vertebrae_T9", "t9"), ("Vertebra L1", "l1"), ("vertebra-3", "vertebra-3"), ("vertebra 3", "vertebra-3")]
)
def test_a_counted_vertebra_keeps_its_name(text: str, name: str) -> None:
    assert split_title(text) == (name, None)


def test_an_estimated_level_wants_a_persons_word(scanned: tuple[Scan, LabelArray]) -> None:
    def level(*, by: str | None) -> tuple[str, float]:
        found = segment(scanned[0], order("L1", confirmed_by=by), program()).findings
        return next((f.verdict, f.value) for f in found if f.check == "level_confirmed")

    assert level(by=None) == ("warn", 1.0)
    assert level(by="code-4") == ("pass", 0.0)
    assert not [f for f in segment(scanned[0], order("femur"), program()).findings if f.check == "level_confirmed"]


# --- labels that are off by a voxel ------------------------------------------------------------------------------------------

LUMBAR = {25: "sacrum", 26: "sacrum", 27: "l5", 28: "l4", 29: "l3", 30: "l2", 31: "l1"}
LUMBAR |= {75: "femur left", 76: "femur right", 77: "hip left", 78: "hip right"}
CROSS = ndimage.generate_binary_structure(3, 1)


@pytest.fixture(scope="module")
def lumbar(test_data: Path) -> tuple[Scan, npt.NDArray[np.int64], FloatArray]:
    import nibabel

    ct = nibabel.load(test_data / "lumbar-labelled" / "example_ct.nii.gz")
    labels = nibabel.load(test_data / "lumbar-labelled" / "example_seg_fast_force_split.nii.gz")
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ ct.affine
    hu = np.rint(ct.get_fdata()).astype(np.int16).transpose(2, 1, 0)[:, ::-1]  # rows turned: a right-handed grid
    affine[:3, 3] += affine[:3, 1] * (hu.shape[1] - 1)
    affine[:3, 1] *= -1
    record = SeriesRecord("CT", "", "", "", "HFS", 1, 3.0, 3.0, (3.0, 3.0), 0.0, "", "7" * 64)
    return Scan(np.ascontiguousarray(hu), affine, record), np.asarray(labels.dataobj).astype(np.int64), labels.affine


def off_by_a_voxel(labels: npt.NDArray[np.int64], how: str) -> npt.NDArray[np.uint8]:
    out = np.zeros(labels.shape, dtype=np.uint8)
    for value in LUMBAR:
        mask = labels == value
        if how == "eroded":
            out[ndimage.binary_erosion(mask, CROSS, border_value=1)] = value
        else:
            out[ndimage.binary_dilation(mask, CROSS) & (mask | ((labels == 0) & (out == 0)))] = value
    return out


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("how", ["eroded", "dilated"])
def test_labels_a_voxel_off_come_back_to_the_bone(
    lumbar: tuple[Scan, npt.NDArray[np.int64], FloatArray], how: str, tmp_path: Path
) -> None:
    """The program only hands out a file of labels, as TotalSegmentator would: the values and names are its own."""
    import nibabel

    scan, labels, affine = lumbar
    nibabel.save(nibabel.Nifti1Image(off_by_a_voxel(labels, how), affine), tmp_path / "given.nii.gz")
    names = {25: "sacrum", 26: "vertebrae_S1", **{n: f"vertebrae_L{32 - n}" for n in range(27, 32)}}
    names |= {75: "femur_left", 76: "femur_right", 77: "hip_left", 78: "hip_right"}
    text = json.dumps({"name": "copy", "version": "2", "labels": {str(value): name for value, name in names.items()}})
    (tmp_path / "names.json").write_text(text)
    script = "import shutil, sys\nfor name, to in zip(('given.nii.gz', 'names.json'), sys.argv[1:]):\n"
    script += f"    shutil.copy({str(tmp_path)!r} + '/' + name, to)\n"
    (tmp_path / "copy.py").write_text(script)
    command = (sys.executable, str(tmp_path / "copy.py"), "{labels}", "{names}", "{image}")
    settings = Segmentation(backend="external", external=External(program=command, version="2"))
    bones = dict.fromkeys(LUMBAR.values())
    anatomy = segment(scan, order(*bones, side="midline"), settings)
    turned = labels.transpose(2, 1, 0)[:, ::-1]
    found = {}
    for bone in anatomy.bones:
        title = bone.name if bone.side == "midline" else f"{bone.name} {bone.side}"
        found[title] = dice(inside(bone, scan), np.isin(turned, [value for value, name in LUMBAR.items() if name == title]))
    assert set(found) == set(bones)
    assert min(found.values()) >= 0.95, found


@pytest.mark.data
@pytest.mark.slow
def test_canal_and_femoral_heads_of_a_real_scan_lie_where_its_other_labels_have_them(
    lumbar: tuple[Scan, npt.NDArray[np.int64], FloatArray],
) -> None:
    scan, labels, _ = lumbar
    turned = labels.transpose(2, 1, 0)[:, ::-1]
    names = tuple(dict.fromkeys(LUMBAR.values()))
    voxels = np.zeros(scan.hu.shape, dtype=np.uint8)
    for value, name in LUMBAR.items():
        voxels[turned == value] = names.index(name) + 1
    anatomy = segment(scan, order(*names, side="midline"), edit=edit_of(scan, voxels, names))
    at = {m.name: np.array(m.point_mm) for m in anatomy.landmarks}

    def places(mask: BoolArray) -> FloatArray:
        return moved_points(scan.affine, np.argwhere(mask)[:, ::-1].astype(np.float64))

    cord = places(turned == 79)
    for level in ("l1", "l2", "l3", "l4", "l5"):
        canal = at[f"{level}-canal-centre"]
        near = cord[np.abs(cord[:, 2] - canal[2]) < 3.0].mean(axis=0)
        assert np.linalg.norm((canal - near)[:2]) <= 3.0, level  # a voxel
        left, right = at[f"{level}-pedicle-left"], at[f"{level}-pedicle-right"]
        assert 20.0 <= (left - right)[0] <= 65.0
        assert abs(0.5 * (left + right)[0] - canal[0]) <= 5.0
        assert at[f"{level}-endplate-upper"][2] - at[f"{level}-endplate-lower"][2] > 18.0
    heights = [at[f"l{n}-body-centre"][2] for n in range(1, 6)]
    assert heights == sorted(heights, reverse=True)
    for femur, hip, name in ((75, 77, "left"), (76, 78, "right")):
        rim = (turned == femur) & ~ndimage.binary_erosion(turned == femur, CROSS)
        joint = rim & ndimage.binary_dilation(turned == hip, CROSS, iterations=2)
        centre, radius = fit_sphere(places(joint))
        assert 20.0 <= radius <= 28.0
        assert np.linalg.norm(at[f"femur-{name}-head-centre"] - centre) <= 5.0, name


# --- what a program may do wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("fails", r"ended with 1, must end with 0; it said: no model weights"),
        ("version", r"says that it is version 9\.9, site\.toml says 1\.0"),
        ("grid", r"another grid: voxels lie up to 0\.\d+ mm beside the scan's, at most 0\.05 mm"),
        ("shape", r"another grid: 119 x 90 x 90 voxels, must be the scan's 120 x 90 x 90"),
        ("mirrored", r"femur left lies 3\d mm to the right of the body's middle"),
        ("unknown", r"labels of unknown meaning: 2 \(left_wing\); at most 0"),
        ("nameless", r"labels of unknown meaning: 2 \(no name\)"),
        ("halves", r"no whole numbers"),
        ("empty", r"holds no bone of at least 8 voxels"),
        ("silent", r"no labels were written"),
        ("json", r"no JSON"),
    ],
)
def test_a_program_that_fails_or_lies_is_refused_by_what_it_did(scanned: tuple[Scan, LabelArray], how: str, text: str) -> None:
    with pytest.raises(MachineError, match=text) as caught:
        segment(scanned[0], order("L1"), program(how))
    assert caught.value.hint


def test_labels_stored_the_other_way_round_are_the_same_bones(scanned: tuple[Scan, LabelArray], spine: Anatomy) -> None:
    turned = segment(scanned[0], order("L1", "L2", "femur"), program("flipped"))
    for one, other in zip(spine.bones, turned.bones, strict=True):
        assert one.mesh.vertices_mm.tobytes() == other.mesh.vertices_mm.tobytes()


def test_a_program_that_hangs_or_eats_memory_is_ended(scanned: tuple[Scan, LabelArray]) -> None:
    started = time.monotonic()
    with pytest.raises(MachineError, match=r"runs for more than 3 s, at most 3 s"):
        segment(scanned[0], order("L1"), program("hangs", timeout_s=3.0))
    with pytest.raises(MachineError, match=r"uses \d+ MB, at most 400 MB"):
        segment(scanned[0], order("L1"), program("eats", memory_mb=400.0))
    assert time.monotonic() - started < 60.0


def test_a_missing_program_is_the_workshops(scanned: tuple[Scan, LabelArray]) -> None:
    external = External(program=("/nowhere/bones", "{image}", "{labels}", "{names}"), version="1")
    with pytest.raises(MachineError, match=r"program bones cannot be started: No such file") as caught:
        segment(scanned[0], order("L1"), Segmentation(backend="external", external=external))
    assert caught.value.exit_code == 5


# --- names -------------------------------------------------------------------------------------------------------------------


def test_every_class_of_totalsegmentator_has_an_answer() -> None:
    spine = [f"vertebrae_{level}" for level in (*(f"C{n}" for n in range(1, 8)), *(f"T{n}" for n in range(1, 13)))]
    spine += [f"vertebrae_L{n}" for n in range(1, 6)]
    assert [known_bone(name) for name in spine] == [(name[10:].lower(), "midline") for name in spine]
    assert known_bone("rib_left_5") == ("rib-5", "left")
    assert known_bone("clavicula_right") == ("clavicle", "right")
    assert known_bone("hip_left") == ("hip", "left")
    assert known_bone("vertebrae_S1") == known_bone("sacrum") == ("sacrum", "midline")
    assert known_bone("skull") == ("skull", "midline")
    for name in ("spleen", "iliac_vena_left", "costal_cartilages", "autochthon_right", "lung_middle_lobe_right"):
        assert known_bone(name) is None
    for name in ("wing_left", "femur", "skull_left", "vertebrae_L9", "rib_left_14"):
        with pytest.raises(KeyError):
            known_bone(name)


@pytest.mark.parametrize(
    ("text", "name", "side"),
    [
        ("L1", "l1", None),
        ("Femur left", "femur", "left"),
        ("rib_left_5", "rib-5", "left"),
        ("right hip", "hip", "right"),
        ("rib-5 right", "rib-5", "right"),
        ("clefts", "clefts", None),
    ],
)
def test_titles_are_read_in_any_usual_spelling(text: str, name: str, side: str | None) -> None:
    assert split_title(text) == (name, side)
    assert is_bone(name) == (name != "clefts")


# --- site.toml ---------------------------------------------------------------------------------------------------------------


def test_a_sites_settings_are_strict(tmp_path: Path) -> None:
    assert read_site_settings(tmp_path).segmentation.backend == "threshold"
    (tmp_path / "site.toml").write_text(
        '[segmentation]\nbackend = "external"\n[segmentation.external]\n'
        'program = ["bones", "{image}", "{labels}", "{names}"]\nversion = "2.4"\n'
    )
    external = read_site_settings(tmp_path).segmentation.external
    assert external is not None
    assert external.version == "2.4"
    for text, fault in (
        ('[segmentation]\nbackend = "external"\n', "must say program and version"),
        ('[segmentation]\nbackend = "magic"\n', "segmentation.backend"),
        ("[segmentation]\nwibble = 1\n", "segmentation.wibble"),
        ('[segmentation.external]\nprogram = ["bones"]\nversion = "1"\n', "program must name {image}, {labels}, {names}"),
        ("[segmentation\n", "not valid TOML"),
    ):
        (tmp_path / "site.toml").write_text(text)
        with pytest.raises(MachineError, match=r"site\.toml") as caught:
            read_site_settings(tmp_path)
        assert fault in str(caught.value)


# --- a person's labels -------------------------------------------------------------------------------------------------------


def test_labels_of_another_scan_or_grid_are_refused(scanned: tuple[Scan, LabelArray]) -> None:
    from dataclasses import replace

    scan, truth = scanned
    other = replace(scan, record=replace(scan.record, sources_digest="6" * 64))
    with pytest.raises(InputError, match=r"drawn on scan 5{16}, this is scan 6{16}"):
        segment(other, order("l1"), edit=edit_of(scan, truth))
    moved = scan.affine.copy()
    moved[:3, 3] += 0.4
    shifted = edit_of(replace(scan, affine=moved), truth)
    with pytest.raises(InputError, match=r"voxels lie up to 0\.693 mm beside the scan's, at most 0\.05 mm"):
        segment(scan, order("l1"), edit=shifted)


def test_a_persons_labels_count_and_the_findings_say_so(scanned: tuple[Scan, LabelArray]) -> None:
    scan, truth = scanned
    anatomy = segment(scan, order("l1", "l2"), program("fails"), edit_of(scan, truth))  # the program is not even asked
    assert anatomy.source == "edited by code-9"
    edited = next(f for f in anatomy.findings if f.check == "labels_edited")
    assert (edited.value, "code-9" in edited.what) == (3.0, True)
    assert anatomy.bones[0].evidence == "named by code-9"
