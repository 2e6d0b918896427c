"""The job folder: complete, measured, the same bytes every time, and free of identity."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import io
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import manifold3d
import numpy as np
import pytest
from flat_step import LABEL, step_below
from PIL import Image

from batchone.pipeline import disk
from batchone.pipeline.errors import CheckFailed, DesignError, FilesError, MachineError
from batchone.pipeline.job import report, report_rows
from batchone.pipeline.job.annotate import direction_letters
from batchone.pipeline.job.folder import package
from batchone.pipeline.job.manifest import DISCLAIMER, JobManifest, canonical_json, read_manifest
from batchone.pipeline.job.measure import measure_mesh, measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.pictures import cropped, fitting_camera, outward_direction
from batchone.pipeline.job.raster import HEIGHT_PX, WIDTH_PX, Camera, draw, make_body
from batchone.pipeline.job.readback import reread_layers, reread_png, reread_stl
from batchone.pipeline.job.sections import ct_sections, plane_segments
from batchone.pipeline.job.signature import approval_key, release_key, sign_approval
from batchone.pipeline.job.verify import verify_job
from batchone.pipeline.order import Order, Prescription
from batchone.pipeline.progress import Progress
from batchone.pipeline.values import (
    Anatomy,
    Approval,
    Axis,
    Bone,
    CheckedDevice,
    Device,
    FieldOfView,
    FunctionalFace,
    JobFolder,
    Landmark,
    Mesh,
    Part,
    Plan,
    Scan,
    SeriesRecord,
    judge,
)
from batchone.slicer.cli_header import KEYWORDS, read_header
from batchone.slicer.make import slice_device
from batchone.slicer.profiles import load_machine, load_process
from batchone.slicer.readback import refuse_failed

MARKUP = '#include "/etc/hosts" $x^2$ "quoted" *bold* _it_ \\ #panic("no") <label> @ref // c'
OUTWARD = np.array([np.sin(np.radians(60.0)), 0.0, np.cos(np.radians(60.0))])  # to the left and up: an asymmetric place


def _mesh(solid: manifold3d.Manifold) -> Mesh:
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def _shell_and_plug() -> tuple[Mesh, Mesh]:
    """A hollow egg with a round hole in its upper left, and a plug for the hole."""
    outer = manifold3d.Manifold.sphere(60.0, 64).scale([0.85, 1.1, 1.0])
    inner = manifold3d.Manifold.sphere(54.0, 64).scale([0.85, 1.1, 1.0])
    hole = manifold3d.Manifold.cylinder(80.0, 20.0, circular_segments=64).rotate([0.0, 60.0, 0.0])
    plug = manifold3d.Manifold.cylinder(80.0, 19.5, circular_segments=64).rotate([0.0, 60.0, 0.0])
    return _mesh(outer - inner - hole), _mesh((outer - inner) ^ plug)


def _scan() -> Scan:
    size, step_mm = 48, 3.0
    grid = (np.mgrid[:size, :size, :size][::-1].T * step_mm - 70.5).transpose(2, 1, 0, 3)  # (slice, row, column, xyz)
    radius = np.sqrt((grid[..., 0] / 0.85) ** 2 + (grid[..., 1] / 1.1) ** 2 + grid[..., 2] ** 2)
    hu = np.full((size, size, size), -1000, dtype=np.int16)
    hu[radius < 64.0], hu[radius < 60.0], hu[radius < 54.0] = 40, 900, 35
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    affine[:3, 3] = -70.5
    record = SeriesRecord(
        modality="CT",
        manufacturer="Maker",
        model="Model 1",
        kernel="H30",
        patient_position="HFS",
        slices=size,
        slice_spacing_mm=step_mm,
        slice_thickness_mm=step_mm,
        pixel_mm=(step_mm, step_mm),
        gantry_tilt_deg=0.0,
        transfer_syntax="1.2.840.10008.1.2.1",
        sources_digest="ab" * 32,
        ignored=("2 localizer images",),
        corrections=("resampled by at most 0.1 mm",),
    )
    return Scan(hu, affine, record, (judge("protocol.spacing", "slice spacing", 3.0, "mm", high=3.0, source="project default"),))


def _values(keys: Path, **order_changes: Any) -> dict[str, Any]:
    """Everything that package takes, except the folder."""
    shell, plug = _shell_and_plug()
    scan = _scan()
    bone = Bone("skull", "midline", True, 0.98, 3.0e5, shell, np.eye(4), np.full(len(shell.vertices_mm), 0.1))
    anatomy = Anatomy((bone,), (Landmark("nasion", (0.0, -60.0, 0.0), 1.2),), FieldOfView(scan.affine, (48, 48, 48)))
    axis = Axis("insertion", (float(OUTWARD[0] * 57), 0.0, float(OUTWARD[2] * 57)), (float(-OUTWARD[0]), 0.0, float(-OUTWARD[2])))
    plan = Plan("cranial-implant", True, "left", axes=(axis,), figures=(("defect_diameter_mm", 40.0),))
    labels = np.zeros(len(plug.faces), dtype=np.int16)
    labels[:50] = 1
    face = FunctionalFace("rim", "keeps its gap to the bone", 0.1)
    labels[-1] = 2
    part = Part("implant", plug, labels, ("outer", "rim", LABEL), (face,), step_below(plug, -1))
    findings = (
        judge("implant.gap", "border gap, median", 0.51, "mm", low=0.4, high=0.6, source="project default, unverified"),
        judge("implant.wall", "least wall", float("nan"), "mm", low=1.0, gate=False, hint="look at it", source=MARKUP),
    )
    checked = CheckedDevice(Device("cranial-implant", (part,), (("thickness_mm", 6.0),)), findings)
    process, machine = load_process("ti64-lpbf"), load_machine("sim-01")
    given = {
        "case": "demo-0001",
        "device": "cranial-implant",
        "side": "left",
        "process": process.name,
        "machine": machine.name,
        "due": dt.datetime(2026, 11, 24, 8, 0, tzinfo=dt.UTC),
        "prescription": Prescription(prescriber="code-17", characteristics=MARKUP),
    }
    order = Order(**{**given, **order_changes})
    time = dt.datetime(2026, 3, 4, 10, 0, tzinfo=dt.UTC)
    approval = Approval("demo", time, "released for manufacturing", "cd" * 32, "", demonstration=True)
    approval = sign_approval(approval, approval_key(keys, "demo"))
    return {
        "scan": scan,
        "anatomy": anatomy,
        "plan": plan,
        "checked": checked,
        "approval": approval,
        "build": slice_device(checked, approval, process, machine),
        "order": order,
        "process": process,
        "machine": machine,
        "key": release_key(keys),
    }


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site") / "keys"


@pytest.fixture(scope="module")
def values(keys: Path) -> dict[str, Any]:
    return _values(keys)


@pytest.fixture(scope="module")
def made(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobFolder]:
    into = tmp_path_factory.mktemp("case") / "job"
    return into, package(**values, into=into)


@pytest.fixture(scope="module")
def manifest(made: tuple[Path, JobFolder]) -> JobManifest:
    return read_manifest((made[0] / "job.json").read_bytes())


def _text(path: Path) -> str:
    return subprocess.run(["pdftotext", "-layout", path, "-"], check=True, capture_output=True, text=True).stdout


def test_the_folder_holds_what_it_must_and_verifies(made: tuple[Path, JobFolder], keys: Path) -> None:
    into, job = made
    names = {p.relative_to(into).as_posix() for p in into.rglob("*") if p.is_file()}
    wanted = {
        "job.json",
        "build-report.pdf",
        "clinical-report.pdf",
        "parts/implant.stl",
        "parts/implant.3mf",
        "parts/implant.step",
        "build/plate.3mf",
        "build/layers.cli",
        "provenance.dsse.json",
        "sbom.cdx.json",
        "SHA256SUMS",
        "SHA256SUMS.sig",
    }
    assert wanted <= names
    assert {name for name in names - wanted if not re.fullmatch(r"pictures/[a-z-]+\.png", name)} == set()
    assert verify_job(into, signers=keys).ok
    assert job.folder == f"job/{job.job_id}"
    assert job.sums_digest == hashlib.sha256((into / "SHA256SUMS").read_bytes()).hexdigest()


def test_the_manifest_holds_the_figures_of_the_mesh(manifest: JobManifest, values: dict[str, Any]) -> None:
    (part,) = manifest.parts
    wanted = measure_mesh(values["checked"].device.parts[0].mesh)
    assert wanted.differences(part.figures, length_mm=1e-4, relative=1e-6) == ()
    solid = manifold3d.Manifold(
        manifold3d.Mesh64(
            values["checked"].device.parts[0].mesh.vertices_mm,
            values["checked"].device.parts[0].mesh.faces.astype(np.uint64),
        )
    )
    assert part.figures.volume_mm3 == pytest.approx(solid.volume(), rel=1e-6)
    assert part.figures.area_mm2 == pytest.approx(solid.surface_area(), rel=1e-6)
    assert part.figures.centre_of_mass_mm[0] > 40.0, "the plug is in the patient's left"
    assert part.functional_faces[0].area_mm2 > 0.0
    assert manifest.build.layers == values["build"].estimate.layers
    stages = [f.stage for f in manifest.findings]
    assert stages == sorted(stages, key=("intake", "check", "slice", "package").index)
    assert stages[:3] == ["intake", "check", "check"]
    assert next(f for f in manifest.findings if f.check == "implant.wall").value is None


def test_the_layer_file_says_how_the_patient_lies_and_names_nobody(made: tuple[Path, JobFolder], values: dict[str, Any]) -> None:
    header, _ = read_header((made[0] / "build" / "layers.cli").read_bytes())
    (said,), (placement,) = header.medical, values["build"].placements
    front, head = (np.fromstring(said[key].strip("()"), sep=",") for key in ("front-vector", "head-vector"))
    # parts turn as their pose says: what is in front of the patient is at -y of LPS, the head at +z
    np.testing.assert_allclose(placement.pose[:3, :3].T @ front, [0.0, -1.0, 0.0], atol=2e-6)
    np.testing.assert_allclose(placement.pose[:3, :3].T @ head, [0.0, 0.0, 1.0], atol=2e-6)
    record = values["scan"].record
    assert (said["patient-id"], said["study-id"]) == (values["order"].case, record.sources_digest[:16])
    assert float(said["slice-thickness"]) == record.slice_thickness_mm
    assert set(said) == {*KEYWORDS} - {"institution-id", "examination-date"}


def test_another_process_at_another_time_makes_the_same_bytes(made: tuple[Path, JobFolder], keys: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys, time\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"spec = importlib.util.spec_from_file_location('case', {__file__!r})\n"
        "case = importlib.util.module_from_spec(spec); spec.loader.exec_module(case)\n"
        f"case.package(**case._values(Path({str(keys)!r})), into=Path({str(tmp_path / 'again')!r}))\n"
    )
    environment = {**os.environ, "TZ": "Asia/Tokyo", "NUMBA_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    first = {p.relative_to(made[0]).as_posix(): p.read_bytes() for p in made[0].rglob("*") if p.is_file()}
    again = {p.relative_to(tmp_path / "again").as_posix(): p.read_bytes() for p in (tmp_path / "again").rglob("*") if p.is_file()}
    assert first.keys() == again.keys()
    assert [name for name in first if first[name] != again[name]] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda v: {"order": v["order"].model_copy(update={"case": "demo-0002"})},
        lambda v: {"scan": replace(v["scan"], record=replace(v["scan"].record, sources_digest="ac" * 32))},
        lambda v: {"process": v["process"].model_copy(update={"layer_mm": 0.031})},
        lambda v: {"machine": v["machine"].model_copy(update={"name": "sim-02"})},
        lambda v: {"approval": replace(v["approval"], digest="ce" * 32)},
        lambda v: {"approval": replace(v["approval"], time=v["approval"].time + dt.timedelta(seconds=1))},
    ],
    ids=["order", "scan", "process", "machine", "device", "approval"],
)
def test_the_job_id_depends_on_every_input(
    change: Callable[[dict[str, Any]], dict[str, Any]], values: dict[str, Any], manifest: JobManifest
) -> None:
    from batchone.pipeline.job.describe import Case, job_id_of

    assert job_id_of(Case(**values)) == manifest.job
    assert job_id_of(Case(**{**values, **change(values)})) != manifest.job


def test_the_manifest_keeps_one_spelling_and_refuses_others(manifest: JobManifest) -> None:
    data = manifest.to_bytes()
    assert read_manifest(data) == manifest
    for wrong in (data + b"\n", data.replace(b"\n", b"\r\n"), data.replace(b'"case"', b' "case"'), b"{}", b"\xff"):
        with pytest.raises(MachineError, match=r"job\.json"):
            read_manifest(wrong)
    assert canonical_json({"b": 0.1 + 0.2, "a": [-0.0]}) == b'{\n  "a": [\n    0.0\n  ],\n  "b": 0.3\n}\n'


def test_words_from_outside_are_shown_as_they_are_and_never_run(made: tuple[Path, JobFolder]) -> None:
    words = re.sub(r"\s+", "", MARKUP)
    assert words in re.sub(r"\s+", "", _text(made[0] / "clinical-report.pdf"))


def test_reports_say_what_they_must_on_every_page(made: tuple[Path, JobFolder], manifest: JobManifest) -> None:
    for name in ("build-report.pdf", "clinical-report.pdf"):
        pages = _text(made[0] / name).rstrip("\f").split("\f")
        assert all(DISCLAIMER in page for page in pages), name
        assert all(report_rows.DEMONSTRATION_TEXT in page for page in pages), name
        assert all(manifest.job in page for page in pages), name
    build = _text(made[0] / "build-report.pdf")
    assert manifest.parts[0].stl_sha256 in build
    assert "code-17" not in build
    assert "0.51 mm" in build
    assert "not measurable" in build
    assert manifest.after_printing[0] in build
    clinical = _text(made[0] / "clinical-report.pdf")
    assert "resampled by at most 0.1 mm" in clinical
    assert "0.100 mm" in clinical


def test_a_real_approval_carries_no_mark_of_a_demonstration(manifest: JobManifest) -> None:
    approval = manifest.approval.model_copy(update={"demonstration": False})
    real = manifest.model_copy(update={"approval": approval})
    shown, marked = (report.build_report(m, (), {}) for m in (real, manifest))
    assert _red(marked)
    assert not _red(shown)


def _red(pdf: bytes) -> bool:
    """Does any content of the PDF paint in the alarm colour?"""
    alarm = re.compile(rb"0\.75\d* 0\.07\d* 0\.12\d* (?:rg|sc|scn)\b", re.IGNORECASE)
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    return any(alarm.search(_inflated(stream)) for stream in streams)


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(stream)
    except zlib.error:
        return stream


def test_no_time_of_the_clock_and_no_path_is_in_any_file(made: tuple[Path, JobFolder], keys: Path) -> None:
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%d").encode()
    assert b"D:20260304" in (made[0] / "build-report.pdf").read_bytes(), "the date is that of the approval"
    for path in sorted(p for p in made[0].rglob("*") if p.is_file()):
        data = path.read_bytes()
        for word in (str(made[0].parent).encode(), str(keys).encode(), b"/tmp/", b"D:" + now):
            assert word not in data, path.name


def test_stl_is_binary_with_a_fixed_header_in_patient_mm(made: tuple[Path, JobFolder], values: dict[str, Any]) -> None:
    data = (made[0] / "parts/implant.stl").read_bytes()
    mesh = values["checked"].device.parts[0].mesh
    assert not data.startswith(b"solid")
    corners = stl_corners(data)
    assert np.abs(corners - mesh.vertices_mm[mesh.faces]).max() < 1e-5  # mm: 32-bit rounding at 60 mm is 4e-6
    normals = np.frombuffer(data, dtype=[("n", "<f4", 3), ("rest", "V38")], offset=84)["n"]
    middle = corners.mean(axis=1) - corners.reshape(-1, 3).mean(axis=0)
    assert np.sum(normals * middle) > 0.0, "normals point outward"


def test_a_part_that_reads_back_differently_is_refused(values: dict[str, Any]) -> None:
    part = values["checked"].device.parts[0]
    moved = np.eye(4)
    moved[0, 3] = 0.002  # mm: just outside the limit of 0.001 mm
    figures, findings = reread_stl(part, stl_bytes(part.mesh.moved(moved)))
    assert [(f.verdict, round(f.value, 4)) for f in findings if f.unit == "mm"] == [("fail", 0.002)]
    with pytest.raises(
        MachineError, match=r"parts/implant\.stl from where it belongs is 0\.002.* mm, limit at most 0\.001 mm, at \("
    ):
        refuse_failed(findings)
    moved[0, 3] = 0.0005
    refuse_failed(reread_stl(part, stl_bytes(part.mesh.moved(moved)))[1])
    assert figures.triangles == len(part.mesh.faces)


@pytest.mark.parametrize(("scale", "verdict"), [(1.004, "pass"), (1.006, "fail"), (0.98, "fail")])
def test_layers_that_hold_another_volume_than_the_parts_are_refused(values: dict[str, Any], scale: float, verdict: str) -> None:
    build, (part,) = values["build"], values["checked"].device.parts
    other = replace(part, mesh=Mesh(part.mesh.vertices_mm * np.cbrt(scale), part.mesh.faces))
    figures, findings = reread_layers(build.layers_cli, build, (other,), values["process"])
    assert [f.verdict for f in findings] == ["pass", "pass", verdict]
    assert (findings[2].value, findings[2].unit) == (figures.volume_mm3, "mm3")


def test_layers_of_another_number_than_the_build_says_are_refused(values: dict[str, Any]) -> None:
    build = values["build"]
    more = replace(build, estimate=replace(build.estimate, layers=build.estimate.layers + 1))
    _, findings = reread_layers(build.layers_cli, more, values["checked"].device.parts, values["process"])
    assert [f.verdict for f in findings] == ["fail", "fail", "pass"]
    assert {(f.value, f.low) for f in findings[:2]} == {(build.estimate.layers, build.estimate.layers + 1)}


def test_what_was_found_on_the_files_stands_in_the_manifest_and_the_report(
    made: tuple[Path, JobFolder], manifest: JobManifest
) -> None:
    found = [f for f in manifest.findings if f.stage == "package"]
    assert {f.check for f in found} == {"files"}
    for name in ("parts/implant.stl", "parts/implant.3mf", "parts/implant.step", "build/plate.3mf", "build/layers.cli"):
        assert len([f for f in found if name in f.what]) >= 3, name
    assert all(f.verdict == "pass" and f.source and f.hint and f.value is not None for f in found)
    assert all(f.where_mm is None for f in found), "a place is that of rounding where nothing is off"
    report = _text(made[0] / "build-report.pdf")
    triangles = manifest.parts[0].figures.triangles
    assert re.search(rf"files +triangles of parts/implant\.stl +{triangles} +{triangles} +pass +the device and build", report)
    row = r"files +largest distance of a corner of parts/ +[\d.e-]+ mm +at most 0\.001 mm +pass .*\n +implant\.stl from where it"
    assert re.search(row, report)


def test_all_files_are_measured_before_any_is_refused(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN in the STL, a plate that cannot be read and layers of another number: one refusal tells of all three."""

    def broken(mesh: Mesh) -> bytes:
        data = bytearray(stl_bytes(mesh))
        data[96:100] = np.float32(np.nan).tobytes()
        return bytes(data)

    monkeypatch.setattr(sys.modules[package.__module__], "stl_bytes", broken)
    build = replace(values["build"], plate_3mf=b"PK", estimate=replace(values["build"].estimate, layers=1))
    with pytest.raises(FilesError) as caught:
        package(**{**values, "build": build}, into=tmp_path / "job")
    words = [finding.what for finding in caught.value.findings if finding.verdict == "fail"]
    assert [what for what in words if "parts/implant.stl from where it belongs" in what]
    assert [what for what in words if "faults that keep build/plate.3mf from being read" in what]
    assert [what for what in words if "layers of build/layers.cli" in what]
    passed = [finding for finding in caught.value.findings if finding.verdict == "pass"]
    assert [finding for finding in passed if "parts/implant.3mf" in finding.what]
    tree = Progress().failure("case-0001", caught.value)
    assert len(tree["findings"]) == len(caught.value.findings)
    assert tree["error"]["exit_code"] == 5
    assert [one["value"] for one in tree["findings"] if "parts/implant.stl from where" in one["what"]] == [None]


def test_a_device_with_a_failed_check_is_not_packaged(values: dict[str, Any], tmp_path: Path) -> None:
    failed = judge("implant.gap", "border gap", 0.1, "mm", low=0.4)
    checked = replace(values["checked"], findings=(failed,))
    with pytest.raises(CheckFailed, match="1 checks failed") as caught:
        package(**{**values, "checked": checked}, into=tmp_path / "job")
    assert caught.value.findings == (failed,)
    assert not (tmp_path / "job").exists()


def test_an_approval_that_was_changed_is_not_packaged(values: dict[str, Any], tmp_path: Path) -> None:
    approval = replace(values["approval"], digest="00" * 32)
    with pytest.raises(MachineError):
        package(**{**values, "approval": approval}, into=tmp_path / "job")


def test_a_part_name_that_is_no_file_name_is_refused(values: dict[str, Any], tmp_path: Path) -> None:
    device = values["checked"].device
    for name in ("../x", "a/b", "", "a b", "x" * 65):
        wrong = replace(values["checked"], device=replace(device, parts=(replace(device.parts[0], name=name),)))
        with pytest.raises(DesignError, match="file name"):
            package(**{**values, "checked": wrong}, into=tmp_path / "job")


def test_a_full_disk_is_said_in_words(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(MachineError, match="disk full") as caught:
        package(**values, into=tmp_path / "job")
    assert caught.value.exit_code == 5


def test_a_limit_on_file_size_is_a_full_disk(tmp_path: Path) -> None:
    code = (
        "import resource\nfrom pathlib import Path\nfrom batchone.pipeline.errors import MachineError\n"
        "from batchone.pipeline.disk import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try:\n    write_bytes(Path({str(tmp_path / 'a')!r}), b'x' * 2000)\n"
        "except MachineError as error:\n    assert 'disk full' in str(error), error\nelse:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _marked_image(camera: Camera) -> np.ndarray[Any, Any]:
    """A grey ball with a red ball at its left and a green one at its front."""
    ball = _mesh(manifold3d.Manifold.sphere(30.0, 48))
    left = _mesh(manifold3d.Manifold.sphere(8.0, 32).translate([28.0, 0.0, 0.0]))
    front = _mesh(manifold3d.Manifold.sphere(8.0, 32).translate([0.0, -28.0, 12.0]))
    bodies = (make_body(ball, (0.8, 0.8, 0.8)), make_body(left, (0.9, 0.1, 0.1)), make_body(front, (0.1, 0.8, 0.1)))
    return draw(bodies, camera)


def _centre_of(image: np.ndarray[Any, Any], channel: int) -> tuple[float, float] | None:
    """Mean (column, row) of the pixels in which one colour stands out, from the middle; None when it is not seen."""
    others = [c for c in range(3) if c != channel]
    rows, columns = np.nonzero(image[..., channel].astype(int) > image[..., others].max(axis=2).astype(int) + 40)
    return None if len(rows) == 0 else (columns.mean() - WIDTH_PX / 2, rows.mean() - HEIGHT_PX / 2)


@pytest.mark.parametrize(
    ("forward", "up", "red", "green"),
    [
        ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1, 0), (0, -1)),  # from the front: the left is on the right of the picture
        ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (-1, 0), None),
        ((-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0, 0), (-1, -1)),  # from the left: the face looks to the left
        ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), None, (1, -1)),
        ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (-1, 0), (0, -1)),  # from the top, face up: the left is on the left
    ],
    ids=["front", "back", "left", "right", "top"],
)
def test_pictures_show_each_side_where_it_is_and_mirror_nothing(forward: Any, up: Any, red: Any, green: Any) -> None:
    camera = Camera((0.0, 0.0, 0.0), forward, up, 0.15)
    image = _marked_image(camera)
    for channel, wanted in ((0, red), (1, green)):
        seen = _centre_of(image, channel)
        if wanted is None:
            assert seen is None
            continue
        assert seen is not None
        for found, sign in zip(seen, wanted, strict=True):
            assert abs(found) < 12 if sign == 0 else np.sign(found) == sign


def test_letters_name_directions_in_the_patient() -> None:
    x, y, z = np.eye(3)
    assert [direction_letters(v) for v in (x, -x, y, -y, z, -z)] == ["L", "R", "P", "A", "H", "F"]
    assert direction_letters(2 * x - y) == "LA"


def test_the_scale_of_a_picture_is_true() -> None:
    box = _mesh(manifold3d.Manifold.cube([40.0, 10.0, 20.0], True))
    camera = Camera((0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), 0.1)
    rows, columns = np.nonzero((draw((make_body(box, (0.3, 0.5, 0.8)),), camera) < 250).any(axis=2))
    assert columns.max() - columns.min() + 1 == pytest.approx(400, abs=2)  # px: 40 mm at 0.1 mm, antialiased edges
    assert rows.max() - rows.min() + 1 == pytest.approx(200, abs=2)


def test_a_camera_fits_all_points_from_any_side() -> None:
    points = np.random.default_rng(5).normal(size=(500, 3)) * [80.0, 20.0, 5.0] + [100.0, 0.0, -40.0]
    body = make_body(Mesh(points, np.zeros((0, 3), dtype=np.int32)), (1.0, 1.0, 1.0))
    for forward, up in (((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), ((0.6, 0.0, -0.8), (0.0, 1.0, 0.0))):
        camera = fitting_camera((body,), forward=forward, up=up)
        view = np.abs((points - camera.centre_mm) @ camera.axes.T / camera.mm_per_px)
        fill = max(view[:, 0].max() * 2 / WIDTH_PX, view[:, 1].max() * 2 / HEIGHT_PX)
        assert fill == pytest.approx(0.86, 1e-4)  # of the picture; 32-bit points


def test_pictures_are_small_and_show_something(made: tuple[Path, JobFolder]) -> None:
    pictures = sorted((made[0] / "pictures").glob("*.png"))
    assert len(pictures) == 28
    drawn = {path.stem for path in pictures}
    assert {"plate-above", "plate-oblique", "layer-low", "layer-middle", "layer-high"} <= drawn
    for path in pictures:
        assert path.stat().st_size < 100_000, path.name  # bytes
        reread_png(path.name, path.read_bytes())
    blank = io.BytesIO()
    Image.new("RGB", (9, 9), "white").save(blank, "PNG")
    for wrong in (blank.getvalue(), b"", pictures[0].read_bytes()[:5000]):
        with pytest.raises(MachineError):
            reread_png("x.png", wrong)


def test_the_outward_direction_leaves_the_bone_whichever_way_the_axis_is_written(values: dict[str, Any]) -> None:
    axis = values["plan"].axes[0]
    turned = replace(axis, direction=tuple(-v for v in axis.direction))
    for given in (axis, turned):
        outward = outward_direction(given, values["anatomy"], values["checked"].device)
        assert np.dot(outward, OUTWARD) == pytest.approx(1.0, abs=1e-9)


def test_a_bone_model_does_not_turn_the_outward_direction(values: dict[str, Any]) -> None:
    device, bone = values["checked"].device, values["anatomy"].bones[0].mesh
    moved = Mesh(bone.vertices_mm - 30.0 * OUTWARD, bone.faces)
    labels = np.zeros(len(bone.faces), dtype=np.int16)
    model = replace(device.parts[0], name="bone", mesh=moved, face_labels=labels, purpose="bone-model")
    both = replace(device, parts=(*device.parts, model))
    assert np.dot(outward_direction(values["plan"].axes[0], values["anatomy"], both), OUTWARD) == pytest.approx(1.0, abs=1e-9)


def test_cropping_keeps_whole_triangles_inside_a_box(values: dict[str, Any]) -> None:
    shell = values["anatomy"].bones[0].mesh
    patch = cropped(shell, np.array([0.0, -30.0, 0.0]), np.array([60.0, 30.0, 70.0]))
    assert 0 < len(patch.faces) < len(shell.faces)
    assert patch.vertices_mm[:, 0].min() >= 0.0
    assert len(patch.vertices_mm) == len(np.unique(patch.faces))


def test_a_crop_drops_bits_that_it_cut_loose_and_keeps_fragments() -> None:
    def ball(radius: float, x: float) -> Mesh:
        return _mesh(manifold3d.Manifold.sphere(radius, 32).translate((x, 0.0, 0.0)))

    def together(*meshes: Mesh) -> Mesh:
        starts = np.cumsum([0, *(len(mesh.vertices_mm) for mesh in meshes)])
        faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
        return Mesh(np.vstack([mesh.vertices_mm for mesh in meshes]), np.vstack(faces).astype(np.int32))

    box = np.array([-100.0, -100.0, -100.0]), np.array([45.0, 100.0, 100.0])
    large = _mesh(manifold3d.Manifold.sphere(30.0, 256))
    fragment, at_the_edge = ball(2.0, 40.0), ball(2.0, 45.0)
    patch = cropped(together(large, fragment, at_the_edge), *box)
    assert len(patch.faces) == len(large.faces) + len(fragment.faces)


def test_plane_segments_lie_on_plane_and_surface_and_close() -> None:
    ball = _mesh(manifold3d.Manifold.sphere(30.0, 64))
    origin, normal = np.array([0.0, 0.0, 10.0]), np.array([0.0, 0.6, 0.8])
    segments = plane_segments(ball, origin, normal)
    assert np.abs((segments - origin) @ normal).max() < 1e-9
    distance = abs(float(origin @ normal))
    radii = np.linalg.norm(segments - distance * normal, axis=2)
    assert np.abs(radii - np.sqrt(30.0**2 - distance**2)).max() < 0.1  # mm: facets of a ball of 64 segments
    ends = np.round(segments.reshape(-1, 3), 6)
    _, counts = np.unique(ends, axis=0, return_counts=True)
    assert set(counts) == {2}


def test_sections_show_the_patients_right_on_the_left(values: dict[str, Any]) -> None:
    """A bright block in the patient's left front upper part must be at the same place in each section."""
    scan, device = values["scan"], values["checked"].device
    hu = np.full_like(scan.hu, -1000)
    shell = Mesh(values["anatomy"].bones[0].mesh.vertices_mm, np.zeros((0, 3), dtype=np.int32))
    bone = replace(values["anatomy"].bones[0], mesh=shell)
    middle = np.array([40.6, 0.0, 23.5])  # mm: about the device's middle, through which the sections go
    corner = middle + np.array([12.0, -12.0, 12.0])  # mm: left, front, up of it
    index = np.round((corner - scan.affine[:3, 3]) / 3.0).astype(int)
    low = np.round((middle - scan.affine[:3, 3]) / 3.0).astype(int)
    span = [slice(min(a, b), max(a, b) + 1) for a, b in zip(low[::-1], index[::-1], strict=True)]
    hu[tuple(span)] = 1500
    sections = ct_sections(replace(scan, hu=hu), replace(values["anatomy"], bones=(bone,)), device, values["plan"])
    assert [s.name for s in sections] == [f"section-{n}.png" for n in ("transverse", "coronal", "sagittal", "axis-1", "axis-2")]
    for section, (sign_x, sign_y) in zip(sections[:3], ((1, -1), (1, -1), (-1, -1)), strict=True):
        grey = np.asarray(Image.open(io.BytesIO(section.png)).convert("L"), dtype=np.float64)
        inner = grey[60:-60, 80:-160]
        rows, columns = np.nonzero(inner > 235)
        blue = _device_centre(section.png)
        assert np.sign(columns.mean() + 80 - blue[0]) == sign_x, section.name
        assert np.sign(rows.mean() + 60 - blue[1]) == sign_y, section.name


def _device_centre(png: bytes) -> tuple[float, float]:
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    rows, columns = np.nonzero((image[..., 2] > image[..., 0] + 50) & (image[..., 2] > 100))
    return (columns.min() + columns.max()) / 2.0, (rows.min() + rows.max()) / 2.0


def test_figures_see_a_shift_a_turn_and_a_scale_but_not_rounding() -> None:
    mesh = _mesh(manifold3d.Manifold.cube([10.0, 20.0, 30.0]))
    figures = measure_mesh(mesh)
    assert figures.volume_mm3 == pytest.approx(6000.0, abs=1e-6)
    assert figures.centre_of_mass_mm == pytest.approx((5.0, 10.0, 15.0), abs=1e-6)
    rounded = measure_triangles(stl_corners(stl_bytes(mesh)))
    assert figures.differences(rounded, length_mm=1e-4, relative=1e-6) == ()
    for pose in (np.diag([1.0001, 1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, 1.0, 1.0])):
        assert figures.differences(measure_mesh(mesh.moved(pose)), length_mm=1e-4, relative=1e-6)
