"""A job folder that was changed in any way is refused, and the change is named."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from small_job import box_with_a_hole, make_job, seal

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job import archive
from batchone.pipeline.job.archive import corners_of, read_threemf
from batchone.pipeline.job.contours import cli_figures
from batchone.pipeline.job.manifest import JobManifest, canonical_json, read_manifest
from batchone.pipeline.job.measure import measure_mesh, measure_triangles, stl_bytes, stl_corners
from batchone.pipeline.job.provenance import PROVENANCE, envelope, statement
from batchone.pipeline.job.sbom import SBOM
from batchone.pipeline.job.signature import (
    RELEASE,
    approval_key,
    release_key,
    sign,
    write_allowed_signers,
)
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.job.verify import VerifyReport, verify_job
from batchone.pipeline.values import (
    Mesh,
)
from batchone.slicer.threemf import Item, read_3mf, write_3mf

_TEXT = {"type": "string", "minLength": 1}
_COMPONENT = {
    "type": "object",
    "required": ["type", "name", "version", "bom-ref"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["application", "library", "platform"]},
        "name": _TEXT,
        "version": _TEXT,
        "bom-ref": _TEXT,
        "purl": {"type": "string", "pattern": "^pkg:pypi/[a-z0-9-]+@"},
        "licenses": {"type": "array", "maxItems": 1, "items": {"required": ["expression"], "properties": {"expression": _TEXT}}},
        "properties": {"type": "array", "items": {"required": ["name", "value"]}},
    },
}
BILL = {  # what is used of CycloneDX 1.6, https://cyclonedx.org/schema/bom-1.6.schema.json
    "type": "object",
    "required": ["bomFormat", "specVersion"],
    "additionalProperties": False,
    "properties": {
        "bomFormat": {"enum": ["CycloneDX"]},
        "specVersion": {"enum": ["1.6"]},
        "version": {"type": "integer", "minimum": 1},
        "metadata": {"type": "object", "additionalProperties": False, "properties": {"component": _COMPONENT}},
        "components": {"type": "array", "uniqueItems": True, "items": _COMPONENT},
        "dependencies": {
            "type": "array",
            "uniqueItems": True,
            "items": {
                "required": ["ref"],
                "additionalProperties": False,
                "properties": {"ref": _TEXT, "dependsOn": {"type": "array", "uniqueItems": True, "items": _TEXT}},
            },
        },
    },
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "keys"
    release_key(folder)
    approval_key(folder, "reviewer")
    write_allowed_signers(folder)
    return folder


@pytest.fixture(scope="module")
def whole(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job folder with real meshes, layers and manifest; its papers are stand-ins."""
    folder = tmp_path_factory.mktemp("case") / "job"
    make_job(folder, keys, "pa12-sls")
    return folder


@pytest.fixture(scope="module")
def standing(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a process that needs supports."""
    folder = tmp_path_factory.mktemp("case") / "job"
    make_job(folder, keys, "ti64-lpbf")
    return folder


@pytest.fixture
def job(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "job"))


def _kinds(report: VerifyReport) -> set[tuple[str, str]]:
    assert report.ok == (not report.problems)
    return {(problem.kind, problem.file) for problem in report.problems}


def test_an_untouched_folder_verifies_and_names_its_signer(whole: Path, keys: Path) -> None:
    for signers in (keys, keys / "allowed_signers"):
        report = verify_job(whole, signers=signers)
        assert report.ok
        assert (report.signer, report.notes) == ("release", ())
    assert len(report.job_id) == 16


def test_without_signers_wholeness_is_proved_and_the_report_says_what_is_not(whole: Path) -> None:
    report = verify_job(whole, signers=None)
    assert report.ok
    assert report.notes == ("signer not checked: no allowed_signers given",)


def test_stock_tools_agree(whole: Path, keys: Path) -> None:
    subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=whole, check=True, capture_output=True)
    command = ["ssh-keygen", "-Y", "verify", "-f", keys / "allowed_signers", "-I", "release", "-n", "jobfolder"]
    sums = (whole / "SHA256SUMS").read_bytes()
    subprocess.run([*command, "-s", "SHA256SUMS.sig"], cwd=whole, input=sums, check=True, capture_output=True)


def test_every_file_changed_by_one_bit_is_named(whole: Path, job: Path, keys: Path) -> None:
    names = [p.relative_to(whole).as_posix() for p in sorted(whole.rglob("*")) if p.is_file()]
    assert len(names) == 12
    for name in names:
        data = (whole / name).read_bytes()
        for at in (0, len(data) // 2, len(data) - 1):
            (job / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            kinds = _kinds(verify_job(job, signers=keys))
            if name.startswith("SHA256SUMS"):
                assert ("signature", "SHA256SUMS.sig") in kinds, (name, at)
            else:
                assert ("changed", name) in kinds, (name, at)
                assert {file for _, file in kinds} == {name}, (name, at)
        (job / name).write_bytes(data)
    assert verify_job(job, signers=keys).ok


def test_any_bit_of_any_file_is_told_in_words(whole: Path, job: Path, keys: Path) -> None:
    """Also one that makes a text no text, or a packed file no packed file."""
    chance = np.random.default_rng(1)
    for path in sorted(p for p in whole.rglob("*") if p.is_file()):
        data, place = path.read_bytes(), job / path.relative_to(whole)
        for bit in chance.integers(8 * len(data), size=16).tolist():
            place.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ (1 << bit % 8)]) + data[bit // 8 + 1 :])
            assert not verify_job(job, signers=keys).ok, (path.name, bit)
        place.write_bytes(data)


def test_the_provenance_is_a_statement_that_openssl_verifies(job: Path, keys: Path, tmp_path: Path) -> None:
    tree = json.loads((job / PROVENANCE).read_bytes())
    payload = base64.b64decode(tree["payload"])
    said = json.loads(payload)
    listed = dict(line.split("  ")[::-1] for line in (job / "SHA256SUMS").read_text().splitlines())
    assert {one["name"]: one["digest"]["sha256"] for one in said["subject"]} == {
        name: digest for name, digest in listed.items() if name != PROVENANCE
    }
    (software,) = said["predicate"]["runDetails"]["builder"]["builderDependencies"]
    assert (software["name"], software["digest"]["sha256"]) == (SBOM, listed[SBOM])
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["predicate"]["runDetails"]["metadata"]["invocationId"] == read_manifest((job / "job.json").read_bytes()).job
    key = release_key(keys)
    pem = key.private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pem").write_bytes(pem)
    (tmp_path / "signature").write_bytes(base64.b64decode(tree["signatures"][0]["sig"]))
    kind = tree["payloadType"].encode()
    (tmp_path / "signed").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    asked = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "signed", "-sigfile", "signature"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Verified Successfully" in done.stdout


def test_the_bill_names_the_software_that_is_installed(job: Path) -> None:
    data = (job / SBOM).read_bytes()
    tree = json.loads(data)
    jsonschema.validate(tree, BILL)
    told = {one["name"]: one for one in tree["components"]}
    versions = read_manifest((job / "job.json").read_bytes()).versions
    for name in ("numpy", "scipy", "trimesh", "packaging"):
        assert told[name]["version"] == metadata.version(name)
    assert {name: version for name, version in versions.items() if name in told} == {
        name: told[name]["version"] for name in versions if name in told
    }
    assert told["python"]["version"] == versions["python"]
    assert not {"pytest", "mypy", "ruff"} & told.keys()  # what runs it, not what it is made with
    refs = {one["ref"] for one in tree["dependencies"]}
    assert refs == {*told, "batchone"} - {"python"}
    assert {ref for one in tree["dependencies"] for ref in one["dependsOn"]} <= {*told}
    record = Path(str(metadata.distribution("packaging").locate_file(""))) / "packaging" / "version.py"
    lines = [
        f"{path},{digest}"
        for path, digest, _ in csv.reader((metadata.distribution("packaging").read_text("RECORD") or "").splitlines())
        if digest and not path.endswith(("INSTALLER", "REQUESTED", "RECORD", "direct_url.json", ".pyc"))
    ]
    raw = base64.urlsafe_b64encode(hashlib.sha256(record.read_bytes()).digest()).rstrip(b"=").decode()
    assert f"packaging/version.py,sha256={raw}" in lines
    digest = hashlib.sha256("".join(f"{line}\n" for line in sorted(lines)).encode()).hexdigest()
    assert told["packaging"]["properties"] == [{"name": "batchone:files_sha256", "value": digest}]


def test_the_same_installation_gives_the_same_bill_in_another_process(job: Path) -> None:
    names = tuple(read_manifest((job / "job.json").read_bytes()).versions)
    program = f"import sys; from batchone.pipeline.job.sbom import sbom; sys.stdout.buffer.write(sbom({names!r}))"
    made = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "7"}
    )
    assert made.stdout == (job / SBOM).read_bytes()


@pytest.mark.parametrize("change", ["version", "missing", "spelling", "none", "deep"])
def test_a_bill_that_does_not_say_what_the_job_says_is_refused(change: str, job: Path, keys: Path) -> None:
    data = (job / SBOM).read_bytes()
    tree = json.loads(data)
    if change == "version":
        next(one for one in tree["components"] if one["name"] == "numpy")["version"] = "1.0"
    elif change == "missing":
        tree["components"] = [one for one in tree["components"] if one["name"] != "numpy"]
    changed = {"spelling": data.rstrip() + b" \n", "none": b"[]\n", "deep": b"[" * 200_000}.get(change, canonical_json(tree))
    (job / SBOM).write_bytes(changed)
    seal(job, release_key(keys))
    assert _kinds(verify_job(job, signers=keys)) == {("off", SBOM)}
    (job / SBOM).unlink()
    digests = {p.relative_to(job).as_posix(): sha256(p.read_bytes()) for p in sorted(job.rglob("*")) if p.is_file()}
    sums = sums_bytes({name: digest for name, digest in digests.items() if not name.startswith("SHA256SUMS")})
    (job / "SHA256SUMS").write_bytes(sums)
    (job / "SHA256SUMS.sig").write_text(sign(release_key(keys), sums, namespace=RELEASE))
    assert ("missing", SBOM) in _kinds(verify_job(job, signers=keys))  # a job of an earlier version is packaged again


@pytest.mark.parametrize("change", ["stranger", "says otherwise", "spelt otherwise", "no envelope", "not signed"])
def test_a_provenance_that_was_changed_is_off_though_it_is_listed_and_sealed(
    change: str, job: Path, keys: Path, tmp_path: Path
) -> None:
    manifest, key = read_manifest((job / "job.json").read_bytes()), release_key(keys)
    digests = {p.relative_to(job).as_posix(): sha256(p.read_bytes()) for p in job.rglob("*") if p.is_file()}
    whole, payload = (job / PROVENANCE).read_bytes(), statement(manifest, digests)
    other = manifest.model_copy(update={"case": "demo-0002"})
    signed = json.loads(whole)["signatures"][0]["sig"].encode()
    changed = {
        "stranger": envelope(payload, release_key(tmp_path / "keys")),
        "says otherwise": envelope(statement(other, digests), key),
        "spelt otherwise": whole.replace(b"\n", b" \n", 1),
        "no envelope": b"{}\n",
        "not signed": whole.replace(signed, base64.b64encode(key.private.sign(b"something else"))),
    }[change]
    (job / PROVENANCE).write_bytes(changed)
    listed = {name: digest for name, digest in digests.items() if not name.startswith("SHA256SUMS")}
    sums = sums_bytes(listed | {PROVENANCE: sha256(changed)})
    (job / "SHA256SUMS").write_bytes(sums)
    (job / "SHA256SUMS.sig").write_text(sign(key, sums, namespace=RELEASE))
    assert _kinds(verify_job(job, signers=keys)) == {("off", PROVENANCE)}


def test_every_missing_file_is_named(whole: Path, job: Path, keys: Path) -> None:
    for path in sorted(p for p in whole.rglob("*") if p.is_file()):
        name = path.relative_to(whole).as_posix()
        (job / name).unlink()
        assert ("missing", name) in _kinds(verify_job(job, signers=keys))
        shutil.copy(path, job / name)


@pytest.mark.parametrize("name", ["extra.txt", ".hidden", "parts/implant-2.stl", "pictures/a b.png", "new/deep/x"])
def test_an_extra_file_is_named(name: str, job: Path, keys: Path) -> None:
    (job / name).parent.mkdir(parents=True, exist_ok=True)
    (job / name).write_bytes(b"x")
    assert ("extra", name) in _kinds(verify_job(job, signers=keys))


def test_a_renamed_file_is_missing_and_extra(job: Path, keys: Path) -> None:
    (job / "parts/implant.stl").rename(job / "parts/Implant.stl")
    kinds = _kinds(verify_job(job, signers=keys))
    assert {("missing", "parts/implant.stl"), ("extra", "parts/Implant.stl")} <= kinds


def test_a_swapped_mesh_with_new_sums_but_the_old_signature_is_named(job: Path, keys: Path) -> None:
    (job / "parts/implant.stl").write_bytes(stl_bytes(box_with_a_hole(12.01)))
    signature = (job / "SHA256SUMS.sig").read_bytes()
    seal(job, release_key(keys))
    (job / "SHA256SUMS.sig").write_bytes(signature)
    assert {("signature", "SHA256SUMS.sig"), ("off", "parts/implant.stl")} <= _kinds(verify_job(job, signers=keys))


def test_a_swapped_mesh_signed_with_a_strangers_key_is_named_by_key_and_by_value(job: Path, keys: Path, tmp_path: Path) -> None:
    (job / "parts/implant.stl").write_bytes(stl_bytes(box_with_a_hole(12.01)))
    seal(job, release_key(tmp_path / "other"))
    report = verify_job(job, signers=keys)
    assert {("signature", "SHA256SUMS.sig"), ("off", "parts/implant.stl")} <= _kinds(report)
    assert any("not allowed" in problem.text for problem in report.problems)
    assert ("off", "parts/implant.stl") in _kinds(verify_job(job, signers=None))


def _swap_manifest(job: Path, change: Callable[[JobManifest], JobManifest]) -> None:
    (job / "job.json").write_bytes(change(read_manifest((job / "job.json").read_bytes())).to_bytes())


def test_a_mesh_swapped_by_one_who_holds_the_key_is_caught_by_value(job: Path, keys: Path) -> None:
    """Sums, signature and the digest in job.json are all new: only the figures still tell."""
    data = stl_bytes(box_with_a_hole(12.001))
    (job / "parts/implant.stl").write_bytes(data)

    def change(manifest: JobManifest) -> JobManifest:
        return manifest.model_copy(update={"parts": (manifest.parts[0].model_copy(update={"stl_sha256": sha256(data)}),)})

    _swap_manifest(job, change)
    seal(job, release_key(keys))
    report = verify_job(job, signers=keys)
    assert _kinds(report) == {("off", "parts/implant.stl")}
    texts = " ".join(problem.text for problem in report.problems)
    assert "volume is" in texts
    assert "box high is" in texts


@pytest.mark.parametrize("change", ["moved", "mirrored", "scaled"])
def test_a_part_that_is_changed_on_the_plate_alone_is_caught_by_value(job: Path, keys: Path, change: str) -> None:
    (item, *others) = read_3mf((job / "build/plate.3mf").read_bytes())
    pose, mesh = item.pose.copy(), item.mesh
    if change == "moved":
        pose[0, 3] += 0.01
    else:
        points = mesh.vertices_mm * (np.array([-1.0, 1.0, 1.0]) if change == "mirrored" else 1.001)
        mesh = Mesh(points, np.ascontiguousarray(mesh.faces[:, ::-1]) if change == "mirrored" else mesh.faces)
    (job / "build/plate.3mf").write_bytes(write_3mf([Item(item.name, mesh, pose), *others], title="t", notes={}))
    seal(job, release_key(keys))
    assert _kinds(verify_job(job, signers=keys)) == {("off", "build/plate.3mf")}


def test_a_mirrored_mesh_is_caught_by_value(job: Path, keys: Path) -> None:
    mesh = box_with_a_hole()
    middle = (mesh.vertices_mm.min(axis=0) + mesh.vertices_mm.max(axis=0)) / 2.0
    points = mesh.vertices_mm.copy()
    points[:, 0] = 2.0 * middle[0] - points[:, 0]
    (job / "parts/implant.stl").write_bytes(stl_bytes(Mesh(points, np.ascontiguousarray(mesh.faces[:, ::-1]))))
    assert any("centre of mass" in p.text for p in verify_job(job, signers=keys).problems)


def test_a_3mf_that_differs_from_its_stl_is_off_even_when_signed(job: Path, keys: Path) -> None:
    data = (job / "build/plate.3mf").read_bytes()  # the same part, moved to the plate
    (job / "parts/implant.3mf").write_bytes(data)

    def change(manifest: JobManifest) -> JobManifest:
        return manifest.model_copy(update={"parts": (manifest.parts[0].model_copy(update={"threemf_sha256": sha256(data)}),)})

    _swap_manifest(job, change)
    seal(job, release_key(keys))
    assert _kinds(verify_job(job, signers=keys)) == {("off", "parts/implant.3mf")}


def test_layers_that_differ_from_the_manifest_are_off_even_when_signed(job: Path, keys: Path) -> None:
    def change(manifest: JobManifest) -> JobManifest:
        return manifest.model_copy(update={"build": manifest.build.model_copy(update={"layers": manifest.build.layers + 1})})

    _swap_manifest(job, change)
    seal(job, release_key(keys))
    assert _kinds(verify_job(job, signers=keys)) == {("off", "build/layers.cli")}


def test_a_job_on_supports_verifies_and_names_them(standing: Path, keys: Path) -> None:
    assert verify_job(standing, signers=keys).ok
    (entry,) = read_manifest((standing / "job.json").read_bytes()).build.supports
    assert entry.part == "implant"
    assert entry.volume_mm3 == pytest.approx(entry.figures.volume_mm3, rel=1e-6)
    assert 0.0 < entry.contact_mm2 < entry.figures.area_mm2


@pytest.mark.parametrize(
    ("change", "said"), [("missing", "bodies are implant; must be"), ("moved", "box"), ("renamed", "bodies are")]
)
def test_supports_that_are_missing_or_changed_are_off_even_when_signed(
    change: str, said: str, standing: Path, keys: Path, tmp_path: Path
) -> None:
    job = Path(shutil.copytree(standing, tmp_path / "job"))
    part, support = read_3mf((job / "build/plate.3mf").read_bytes())
    moved = replace(support, mesh=Mesh(support.mesh.vertices_mm + np.array([0.0, 0.0, 0.05]), support.mesh.faces))
    items = {"missing": [part], "moved": [part, moved], "renamed": [part, replace(support, name="supports-other")]}[change]
    (job / "build/plate.3mf").write_bytes(write_3mf(items, title="plate", notes={}))
    seal(job, release_key(keys))
    problems = verify_job(job, signers=keys).problems
    assert [(p.kind, p.file) for p in problems] == [("off", "build/plate.3mf")] * len(problems) != []
    assert said in problems[0].text


def test_a_changed_approval_is_named_even_when_the_folder_is_signed_anew(job: Path, keys: Path) -> None:
    def change(manifest: JobManifest) -> JobManifest:
        return manifest.model_copy(update={"approval": manifest.approval.model_copy(update={"name": "somebody"})})

    _swap_manifest(job, change)
    seal(job, release_key(keys))
    for signers in (keys, None):
        assert _kinds(verify_job(job, signers=signers)) == {("signature", "job.json")}


def test_links_and_special_files_are_unsafe_and_not_followed(job: Path, keys: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.pdf"
    shutil.copy(job / "build-report.pdf", outside)
    (job / "build-report.pdf").unlink()
    (job / "build-report.pdf").symlink_to(outside)
    (job / "loop").symlink_to(job, target_is_directory=True)
    os.mkfifo(job / "pipe")
    os.link(outside, job / "hard")
    kinds = _kinds(verify_job(job, signers=keys))
    assert {("unsafe", name) for name in ("build-report.pdf", "loop", "pipe", "hard")} <= kinds
    assert ("missing", "build-report.pdf") not in kinds


@pytest.mark.parametrize(
    "line",
    ["{d}  ../outside\n", "{d}  /etc/hosts\n", "{d} *job.json\n", "\\{d}  a\n", "{d}  job.json\r\n", "{d}  a//b\n", "x\n", ""],
)
def test_a_list_that_is_not_canonical_is_refused(line: str, job: Path, keys: Path) -> None:
    sums = (job / "SHA256SUMS").read_bytes() + line.format(d="0" * 64).encode() if line else b""
    (job / "SHA256SUMS").write_bytes(sums)
    (job / "SHA256SUMS.sig").write_text(sign(release_key(keys), sums, namespace=RELEASE))
    report = verify_job(job, signers=keys)
    assert ("changed", "SHA256SUMS") in _kinds(report) or ("missing", "SHA256SUMS") in _kinds(report)


def test_a_job_json_of_another_version_or_with_an_unknown_key_is_off(job: Path, keys: Path) -> None:
    data = (job / "job.json").read_bytes()
    for old, new in ((b"batchone-job/2", b"batchone-job/3"), (b'{\n  "after', b'{\n  "a": 1,\n  "after')):
        (job / "job.json").write_bytes(data.replace(old, new, 1))
        seal(job, release_key(keys))
        assert ("off", "job.json") in _kinds(verify_job(job, signers=keys))


def test_a_job_of_the_schema_before_is_refused_in_a_clear_word(job: Path, keys: Path) -> None:
    data = (job / "job.json").read_bytes()
    (job / "job.json").write_bytes(data.replace(b"batchone-job/2", b"batchone-job/1", 1))
    seal(job, release_key(keys))
    (found,) = (p for p in verify_job(job, signers=keys).problems if p.file == "job.json" and p.kind == "off")
    assert "batchone-job/2" in found.text


def _packed(xml: bytes, *, name: str = "3D/3dmodel.model") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, xml)
    return out.getvalue()


MODEL = b'<model unit="millimeter"><resources><object id="1">%s</object></resources><build><item objectid="1"/></build></model>'
TETRA = (
    b'<mesh><vertices><vertex x="0" y="0" z="0"/><vertex x="1" y="0" z="0"/>'
    b'<vertex x="0" y="1" z="0"/><vertex x="0" y="0" z="1"/></vertices>'
    b'<triangles><triangle v1="0" v2="2" v3="1"/><triangle v1="0" v2="1" v3="3"/>'
    b'<triangle v1="1" v2="2" v3="3"/><triangle v1="0" v2="3" v3="2"/></triangles></mesh>'
)


def test_a_plain_3mf_is_measured_right() -> None:
    figures = measure_triangles(corners_of(read_threemf(_packed(MODEL % TETRA))))
    assert figures.volume_mm3 == pytest.approx(1.0 / 6.0, abs=1e-6)
    assert figures.centre_of_mass_mm == pytest.approx((0.25, 0.25, 0.25), abs=1e-6)
    assert figures.triangles == 4


def test_the_quick_way_and_the_parser_read_the_same(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (whole / "build/plate.3mf").read_bytes()
    quick = corners_of(read_threemf(data))
    monkeypatch.setattr(archive, "_without_lists", lambda xml: (xml, []))
    assert np.array_equal(quick, corners_of(read_threemf(data)))


@pytest.mark.parametrize("before", [b"<!-- <vertices></vertices> -->", b"<vertices/>", b"<![CDATA[<triangles>]]>"])
def test_a_list_cannot_be_hidden_from_the_quick_way(before: bytes) -> None:
    figures = measure_triangles(
        corners_of(read_threemf(_packed((MODEL % TETRA).replace(b"<resources>", b"<resources>" + before))))
    )
    assert (figures.triangles, figures.volume_mm3) == (4, pytest.approx(1.0 / 6.0, abs=1e-6))


def _bent(packed: bytes) -> bytes:
    """The packed bytes of the first file turned round: nothing that unpacks."""
    start = 30 + int.from_bytes(packed[26:28], "little") + int.from_bytes(packed[28:30], "little")  # PKZIP local file header
    return packed[: start + 4] + packed[start + 4 : start + 60][::-1] + packed[start + 60 :]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        _packed(MODEL % TETRA, name="../3dmodel.model"),
        _packed(MODEL % TETRA, name="readme.txt"),
        _packed(b'<!DOCTYPE a [<!ENTITY x "' + b"y" * 99 + b'">]>' + MODEL % TETRA),
        _packed(b'<!DOCTYPE a SYSTEM "file:///etc/hosts">' + MODEL % TETRA),
        _packed((MODEL % TETRA).replace(b"millimeter", b"inch")),
        _packed((MODEL % TETRA).replace(b'v1="0"', b'v1="9"')),
        _packed((MODEL % TETRA).replace(b'v1="0"', b'v1="-1"')),
        _packed((MODEL % TETRA).replace(b'v1="0"', b'v1="18446744073709551616"')),
        _packed((MODEL % TETRA).replace(b'v1="0"', b'v1="' + b"9" * 5000 + b'"')),
        _packed((MODEL % TETRA).replace(b'x="1"', b'x="nan"')),
        _packed((MODEL % TETRA).replace(b'x="1"', b"")),
        _packed(MODEL % b'<components><component objectid="1"/></components>'),
        _packed(MODEL % b""),
        _packed((MODEL % TETRA)[:-20]),
        _packed(MODEL % (b" " * 50_000_000)),
        _bent(_packed(MODEL % TETRA)),
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_a_hostile_3mf_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(MachineError):
        measure_triangles(corners_of(read_threemf(data)))


@pytest.mark.parametrize("at", [0, 20, 300, -5])
def test_a_cut_layer_file_is_refused_in_words(at: int, whole: Path) -> None:
    data = (whole / "build/layers.cli").read_bytes()
    with pytest.raises(MachineError):
        cli_figures(data[:at])


def test_layer_figures_are_those_of_the_solid(whole: Path) -> None:
    figures = cli_figures((whole / "build/layers.cli").read_bytes())
    solid = measure_mesh(box_with_a_hole())
    assert figures.layers == read_manifest((whole / "job.json").read_bytes()).build.layers
    # whole layers against a height that is no multiple of them: at most one layer more
    assert solid.volume_mm3 * 0.995 <= figures.volume_mm3 <= solid.volume_mm3 * (1.005 + 1.0 / figures.layers)


def test_a_truncated_or_padded_stl_is_refused_in_words() -> None:
    data = stl_bytes(box_with_a_hole())
    for wrong in (data[:-1], data + b"\0", data[:50], b""):
        with pytest.raises(MachineError, match="STL has"):
            stl_corners(wrong)


def test_what_is_no_folder_is_refused(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "link").symlink_to(whole, target_is_directory=True)
    for path in (tmp_path / "absent", tmp_path / "link"):
        with pytest.raises(MachineError, match="not a folder"):
            verify_job(path, signers=None)


def test_verification_needs_the_core_install_only(whole: Path, keys: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom batchone.pipeline.job.verify import verify_job\n"
        f"assert verify_job(Path({str(whole)!r}), signers=Path({str(keys)!r})).ok\n"
        "heavy = {'cadquery', 'vtk', 'SimpleITK', 'numba', 'trimesh', 'lib3mf', 'manifold3d', 'scipy', 'typst', 'PIL', 'stl'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
