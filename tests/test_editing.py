"""Labels out to 3D Slicer and NIfTI, and back through the command line: the case runs again and says who drew them."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import bone_scan as phantom
import jsonschema
import nibabel
import numpy as np
import pytest
import SimpleITK

from batchone.pipeline.editing.take import read_edit
from batchone.pipeline.errors import InputError
from batchone.segment.label_map import expanded

PROGRAM = Path(__file__).with_name("bone_program.py")


def batchone(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchone.pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def document(*arguments: str | Path) -> dict[str, Any]:
    done = batchone(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with an external program and a case that has run to its end."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(PROGRAM), "{image}", "{labels}", "{names}"]
    (folder / "site.toml").write_text(
        f'[segmentation]\nbackend = "external"\n[segmentation.external]\nprogram = {json.dumps(command)}\nversion = "1.0"\n'
    )
    scan, _ = phantom.bones_scan()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.affine
    nibabel.save(nibabel.Nifti1Image(scan.hu.transpose(2, 1, 0), affine), folder / "study.nii.gz")
    (folder / "order.toml").write_text(
        'case = "spine-1"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
        'due = 2026-11-24T08:00:00Z\n[target]\nbones = ["L1", "L2"]\n[parameters]\nengrave = false\nscale_cube = false\n'
    )
    run = ("run", folder / "order.toml", "--study", folder / "study.nii.gz", "--out", folder)
    document(*run, "--approve-as", "tester")
    return folder


@pytest.fixture
def case(site: Path, tmp_path: Path) -> Path:
    """A copy of that case, for a test to change."""
    shutil.copytree(site, tmp_path / "site")
    return tmp_path / "site" / "cases" / "spine-1"


def anatomy_of(case: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((case / "segment" / "anatomy.json").read_text())
    return tree


def events_of(case: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (case / "events.jsonl").read_text().splitlines()]


def test_the_anatomy_file_lists_bones_numbering_source_and_label_files(site: Path) -> None:
    folder = site / "cases" / "spine-1" / "segment"
    anatomy = json.loads((folder / "anatomy.json").read_text())
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/anatomy.schema.json").read_text())
    jsonschema.validate(anatomy, schema)
    assert anatomy["source"] == "bone-program 1.0"
    settings = json.loads((folder.parent / "site.json").read_text())
    assert settings["segmentation"]["external"]["version"] == "1.0"
    assert [(bone["name"], bone["numbering"], bone["mesh"]) for bone in anatomy["bones"]] == [
        ("l1", "estimated", "l1.stl"),
        ("l2", "estimated", "l2.stl"),
    ]
    assert [value["name"] for value in anatomy["labels"]["values"]] == ["l1", "l2", "femur"]
    assert all((folder / name).is_file() for name in ("l1.stl", "l2.stl", "labels.seg.nrrd", "labels.nii.gz"))


def test_the_files_hold_the_same_labels_at_the_same_place(site: Path) -> None:
    folder = site / "cases" / "spine-1" / "segment"
    scan, truth = phantom.bones_scan()
    nrrd = SimpleITK.ReadImage(str(folder / "labels.seg.nrrd"))
    nifti = SimpleITK.ReadImage(str(folder / "labels.nii.gz"))
    image = SimpleITK.ReadImage(str(site / "study.nii.gz"))
    assert nifti.GetSize() == image.GetSize()
    grown = SimpleITK.Resample(nrrd, image, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0)
    assert np.array_equal(SimpleITK.GetArrayViewFromImage(grown), SimpleITK.GetArrayViewFromImage(nifti))
    assert np.mean(SimpleITK.GetArrayViewFromImage(nifti) == truth) > 0.999
    assert scan.hu.shape == truth.shape


def test_3d_slicers_keys_name_each_segment_with_colour_extent_and_terminology(site: Path) -> None:
    image = SimpleITK.ReadImage(str(site / "cases" / "spine-1" / "segment" / "labels.seg.nrrd"))
    voxels = SimpleITK.GetArrayViewFromImage(image)
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert [keys[f"Segment{n}_Name"] for n in range(3)] == ["l1", "l2", "femur left"]
    assert len({keys[f"Segment{n}_Color"] for n in range(3)}) == 3
    assert "SCT^71341001^Femur~SCT^7771000^Left" in keys["Segment2_Tags"]
    assert "SCT^66794005^L1 vertebra" in keys["Segment0_Tags"]
    for n in range(3):
        assert keys[f"Segment{n}_Layer"] == "0"
        where = np.argwhere(voxels == int(keys[f"Segment{n}_LabelValue"]))[:, ::-1]
        assert list(map(int, keys[f"Segment{n}_Extent"].split())) == [
            edge for axis in range(3) for edge in (where[:, axis].min(), where[:, axis].max())
        ]
    offset = [int(text) for text in keys["Segmentation_ReferenceImageExtentOffset"].split()]
    nifti = SimpleITK.ReadImage(str(site / "cases" / "spine-1" / "segment" / "labels.nii.gz"))  # on the scan's own grid
    assert nifti.TransformPhysicalPointToIndex(image.GetOrigin()) == tuple(offset)


def edited(case: Path, to: Path, change: Any, names: dict[str, str] | None = None) -> Path:
    """What 3D Slicer would save after an edit: the same file with other voxels, or other names."""
    image = SimpleITK.ReadImage(str(case / "segment" / "labels.seg.nrrd"))
    voxels = SimpleITK.GetArrayFromImage(image)
    change(voxels)
    out = SimpleITK.GetImageFromArray(voxels)
    out.CopyInformation(image)
    for key in image.GetMetaDataKeys():
        out.SetMetaData(key, image.GetMetaData(key))
    for key, value in (names or {}).items():
        out.SetMetaData(key, value)
    SimpleITK.WriteImage(out, str(to), True)
    return to


def cut_off_the_top(voxels: Any) -> None:
    for k in np.flatnonzero((voxels == 1).any(axis=(1, 2)))[-8:]:
        voxels[k][voxels[k] == 1] = 0


@pytest.mark.slow
def test_an_edit_comes_back_runs_everything_after_and_is_recorded(case: Path, tmp_path: Path) -> None:
    before = anatomy_of(case)
    file = edited(case, tmp_path / "edited.seg.nrrd", cut_off_the_top)
    result = document("segment", case, "--labels", file, "--as", "code-9")
    assert result["stages"]["intake"] == 0.0
    assert all(result["stages"][name] > 0.0 for name in ("segment", "plan", "design", "check"))
    after = anatomy_of(case)
    assert after["source"] == "edited by code-9"
    assert after["bones"][0]["volume_mm3"] < 0.8 * before["bones"][0]["volume_mm3"]  # 8 of 24 mm
    assert after["bones"][1]["volume_mm3"] == pytest.approx(before["bones"][1]["volume_mm3"], rel=0.01)
    assert any(f["check"] == "labels_edited" and "code-9" in f["what"] for f in result["findings"])
    event = next(e for e in events_of(case) if e["what"] == "labels edited")
    assert (event["who"], len(event["digest"])) == ("code-9", 64)
    again = document("segment", case)
    assert set(again["stages"].values()) == {0.0}  # kept: nothing changed
    job = document("review", case, "--approve", "--checked", "all", "--as", "tester")["job"]
    manifest = json.loads((Path(job) / "job.json").read_text())
    assert any(f["check"] == "labels_edited" for f in manifest["findings"])
    back = document("segment", case, "--automatic", "--as", "code-9")
    assert back["stages"]["segment"] > 0.0
    assert anatomy_of(case)["bones"] == before["bones"]
    assert any(e["what"] == "edited labels dropped" for e in events_of(case))


@pytest.mark.slow
def test_a_nifti_comes_back_under_the_names_that_went_out(case: Path, tmp_path: Path) -> None:
    image = nibabel.load(case / "segment" / "labels.nii.gz")
    voxels = np.asarray(image.dataobj).copy()
    voxels[voxels == 3] = 0
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine, image.header), tmp_path / "edited.nii.gz")
    document("segment", case, "--labels", tmp_path / "edited.nii.gz", "--as", "code-9")
    assert [value["name"] for value in anatomy_of(case)["labels"]["values"]] == ["l1", "l2"]


def layered(path: Path, layers: Any, origin: str, names: tuple[str, ...]) -> Path:
    """A file with one layer for each segment, as 3D Slicer writes segments that overlap."""
    count, slices, rows, columns = layers.shape
    lines = ["NRRD0004", "type: unsigned char", "dimension: 4", "space: left-posterior-superior"]
    lines += [f"sizes: {count} {columns} {rows} {slices}", "space directions: none (1,0,0) (0,1,0) (0,0,1)"]
    lines += ["kinds: list domain domain domain", "encoding: gzip", f"space origin: {origin}"]
    for n, name in enumerate(names):
        lines += [
            f"Segment{n}_ID:=Segment_{n}",
            f"Segment{n}_Name:={name}",
            f"Segment{n}_LabelValue:=1",
            f"Segment{n}_Layer:={n}",
        ]
    data = gzip.compress(np.ascontiguousarray(np.moveaxis(layers, 0, -1)).tobytes())
    path.write_bytes("\n".join(lines).encode() + b"\n\n" + data)
    return path


def test_layers_of_3d_slicer_are_read_and_their_overlap_is_refused(tmp_path: Path) -> None:
    scan, truth = phantom.bones_scan()
    part = np.stack([truth == 1, truth == 2]).astype(np.uint8)[:, 10:80, 20:70, 30:90]
    origin = f"({scan.affine[0, 3] + 30},{scan.affine[1, 3] + 20},{scan.affine[2, 3] + 10})"
    file = layered(tmp_path / "two.seg.nrrd", part, origin, ("L1", "vertebrae_L2"))
    edit = read_edit(file, scan, (), phantom.order("l1", "l2"), who="code-9")
    assert edit.labels is not None
    assert [label.name for label in edit.labels.labels] == ["l1", "l2"]
    assert np.array_equal(expanded(edit.labels).voxels, np.where(truth == 3, 0, truth))
    part[1][part[0].nonzero()[0][0]] |= part[0][part[0].nonzero()[0][0]]
    file = layered(tmp_path / "over.seg.nrrd", part, origin, ("L1", "L2"))
    with pytest.raises(InputError, match=r"segments overlap in \d+ voxels, at most 0"):
        read_edit(file, scan, (), phantom.order("l1"), who="code-9")
    outside = layered(tmp_path / "out.seg.nrrd", part, f"(40,{scan.affine[1, 3]},{scan.affine[2, 3]})", ("L1", "L2"))
    with pytest.raises(InputError, match=r"lies on another grid"):
        read_edit(outside, scan, (), phantom.order("l1"), who="code-9")


@pytest.mark.slow
def test_labels_that_do_not_belong_are_refused_by_name_and_change_nothing(case: Path, tmp_path: Path) -> None:
    before = (case / "segment" / "anatomy.json").read_bytes()

    def refused(file: Path) -> str:
        done = batchone("segment", case, "--labels", file, "--as", "code-9")
        assert done.returncode == 2, done.stderr
        assert (case / "segment" / "anatomy.json").read_bytes() == before
        assert not (case / "labels").exists()
        return done.stderr

    def nothing(voxels: Any) -> None:
        pass

    other_scan = {"Segment0_Tags": "batchone.scan:0123456789abcdef|"}
    assert "drawn on scan 0123456789abcdef, this case has scan" in refused(
        edited(case, tmp_path / "scan.seg.nrrd", nothing, other_scan)
    )
    named = edited(case, tmp_path / "name.seg.nrrd", nothing, {"Segment1_Name": "Segment_2"})
    assert "segment 'Segment_2' is the name of no bone" in refused(named)
    sideless = edited(case, tmp_path / "side.seg.nrrd", nothing, {"Segment2_Name": "femur"})
    assert "names no side; write 'femur left' or 'femur right'" in refused(sideless)
    mirrored = edited(case, tmp_path / "mirrored.seg.nrrd", nothing, {"Segment2_Name": "femur right"})
    assert "femur right lies 38 mm to the left of the body's middle" in refused(mirrored)

    def without_l2(voxels: Any) -> None:
        voxels[voxels == 2] = 0

    assert "l2 not found" in refused(edited(case, tmp_path / "less.seg.nrrd", without_l2))
    image = SimpleITK.ReadImage(str(case / "segment" / "labels.seg.nrrd"))
    (tmp_path / "cut.seg.nrrd").write_bytes((case / "segment" / "labels.seg.nrrd").read_bytes()[:2000])
    image.SetSpacing((1.02, 1.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / "grid.seg.nrrd"), True)
    assert "beside the scan's, at most 0.05 mm (spacing 1.02 x 1 x 1 mm, the scan's 1 x 1 x 1 mm)" in refused(
        tmp_path / "grid.seg.nrrd"
    )
    assert "cannot be read: damaged" in refused(tmp_path / "cut.seg.nrrd")
    (tmp_path / "text.seg.nrrd").write_text("no picture")
    assert "is no NRRD file" in refused(tmp_path / "text.seg.nrrd")
    assert "there is no file" in refused(tmp_path / "absent.seg.nrrd")
    nameless = batchone("segment", case, "--labels", case / "segment" / "labels.seg.nrrd")
    assert nameless.returncode == 2
    assert "labels or levels want a name" in nameless.stderr
    export = batchone("segment", case, "--export", tmp_path / "seg.dcm")
    assert export.returncode == 2
    assert "the scan came as a volume file" in export.stderr
    assert not (tmp_path / "seg.dcm").exists()


def test_a_file_larger_than_the_scan_is_refused_before_it_is_read(tmp_path: Path) -> None:
    scan, _ = phantom.bones_scan()
    header = nibabel.Nifti1Image(np.zeros((2, 2, 2), dtype=np.uint8), np.eye(4)).to_bytes()
    claimed = bytearray(header)
    claimed[42:48] = np.array([30_000, 30_000, 30_000], dtype="<i2").tobytes()
    (tmp_path / "bomb.nii").write_bytes(bytes(claimed))
    with pytest.raises(InputError, match=r"has 30000 x 30000 x 30000 voxels, 27000000000000 in all; the scan has 972000"):
        read_edit(tmp_path / "bomb.nii", scan, (), phantom.order("l1"), who="code-9")
    lines = ["NRRD0004", "type: unsigned char", "dimension: 3", "space: left-posterior-superior", "sizes: 30000 30000 30000"]
    lines += ["space directions: (1,0,0) (0,1,0) (0,0,1)", "encoding: gzip", "space origin: (0,0,0)"]
    lines += ["Segment0_ID:=a", "Segment0_Name:=l1", "Segment0_LabelValue:=1", "Segment0_Layer:=0"]
    (tmp_path / "bomb.seg.nrrd").write_bytes("\n".join(lines).encode() + b"\n\n" + gzip.compress(b"0"))
    with pytest.raises(InputError, match=r"has 30000 x 30000 x 30000 voxels, 27000000000000 in all; the scan has 972000"):
        read_edit(tmp_path / "bomb.seg.nrrd", scan, (), phantom.order("l1"), who="code-9")


@pytest.mark.slow
def test_counted_labels_wait_for_a_level_and_new_labels_for_a_new_word(case: Path, tmp_path: Path) -> None:
    def nothing(voxels: Any) -> None:
        pass

    counted = {"Segment0_Name": "vertebra-1", "Segment1_Name": "vertebra-2"}
    file = edited(case, tmp_path / "counted.seg.nrrd", nothing, counted)
    waiting = document("segment", case, "--labels", file, "--as", "code-9")
    assert (waiting["status"], waiting["job"]) == ("awaiting-level", None)
    assert document("status", case)["status"] == "awaiting-level"
    assert document("review", case, "--approve", "--checked", "all", "--as", "tester")["status"] == "awaiting-level"
    assert (case / "segment" / "levels.png").is_file()
    nameless = batchone("segment", case, "--level", "vertebra-1=L1")
    assert (nameless.returncode, "want a name" in nameless.stderr) == (2, True)
    both = batchone("segment", case, "--level", "vertebra-1=L1", "--labels", file, "--as", "code-9")
    assert (both.returncode, "give one of" in both.stderr) == (2, True)
    confirmed = document("segment", case, "--level", "vertebra-1=L1", "--as", "code-17")
    assert confirmed["status"] == "awaiting-approval"
    assert [(bone["name"], bone["numbering"]) for bone in anatomy_of(case)["bones"]] == [("l1", "confirmed"), ("l2", "confirmed")]
    assert document("status", case)["status"] == "done"  # the device is the one that was approved
    again = document("segment", case, "--labels", file, "--as", "code-9")
    assert again["status"] == "awaiting-level"
    said = [event["what"] for event in events_of(case)]
    assert "level confirmed: vertebra-1 is L1" in said
    assert "confirmed level dropped" in said
