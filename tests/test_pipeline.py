"""The whole job through the command line: exit codes, resume after a kill, a full disk, the same bytes twice, no identity."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from batchone.pipeline.case_order import read_case_order
from batchone.pipeline.markups.order_file import changed_plan
from batchone.pipeline.order import PlanInput
from batchone.pipeline.stages import ARGUMENTS, CASE_INPUTS, STAGES
from batchone.samples.dicom import write_demo
from batchone.slicer.cli_format import read_cli

IDENTITY = ("TEST^ALPHA", "TEST-0001")


def batchone(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "batchone.pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def schema(name: str) -> Any:
    return json.loads(resources.files("batchone.pipeline").joinpath(f"schemas/{name}.schema.json").read_text())


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_demo(tmp_path_factory.mktemp("sample"), device="cranial-implant")


@pytest.fixture(scope="module")
def site(sample: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    order, study = sample
    done = batchone("run", order, "--study", study, "--out", folder, "--approve-as", "tester", "--json")
    assert done.returncode == 0, done.stderr
    (folder / "result.json").write_text(done.stdout)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def job(site: Path) -> Path:
    return Path(json.loads((site / "result.json").read_text())["job"])


def test_each_stage_takes_what_is_there_and_its_function_agrees() -> None:
    import inspect

    known = set(CASE_INPUTS)
    for stage in STAGES:
        assert set(stage.takes) <= known, stage.name
        known.add(stage.gives)
        if stage.kind == "gate":
            continue
        signature = inspect.signature(stage.load())
        names = [ARGUMENTS[name] for name in stage.takes] + (["into"] if stage.gives == "JobFolder" else [])
        given = {one.name for one in signature.parameters.values() if one.kind != one.KEYWORD_ONLY or one.default is one.empty}
        assert given == set(names), stage.name
        for name in stage.takes:
            annotation = str(signature.parameters[ARGUMENTS[name]].annotation).removesuffix(" | None")
            assert annotation.endswith("Path" if name == "Study" else name), (stage.name, name, annotation)


@pytest.mark.slow
def test_the_result_of_a_run_is_one_document_of_the_contract(site: Path) -> None:
    result = json.loads((site / "result.json").read_text())
    jsonschema.validate(result, schema("run"))
    assert result["status"] == "done"
    assert set(result["stages"]) == {"intake", "segment", "plan", "design", "check", "slice", "package"}
    assert all(finding["verdict"] != "fail" for finding in result["findings"])


@pytest.mark.slow
def test_the_anatomy_file_is_what_the_contract_says(site: Path) -> None:
    folder = site / "cases" / "demo-0001" / "segment"
    anatomy = json.loads((folder / "anatomy.json").read_text())
    jsonschema.validate(anatomy, schema("anatomy"))
    assert all((folder / bone["mesh"]).is_file() for bone in anatomy["bones"])


@pytest.mark.slow
def test_the_plan_lies_in_the_case_as_3d_slicer_reads_it_and_may_be_sent_back(site: Path) -> None:
    folder = site / "cases" / "demo-0001"
    written = folder / "plan" / "plan.mrk.json"
    order = read_case_order(folder / "order.toml")
    assert order.plan == PlanInput()
    back = changed_plan(order, [str(written)])
    assert {curve.name for curve in back.plan.curves} >= {"rim", "rim-inner"}
    assert {line.name for line in back.plan.lines} == {"vault-centre", "insertion"}
    assert [plane.name for plane in back.plan.planes] == ["symmetry"]


@pytest.mark.slow
def test_verify_and_the_stock_tools_agree_on_the_job_folder(site: Path, job: Path) -> None:
    done = batchone("verify", job, "--signers", site / "keys" / "allowed_signers", "--json")
    assert done.returncode == 0, done.stdout
    jsonschema.validate(json.loads(done.stdout), schema("verify"))
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=job, check=True)
    check = ["ssh-keygen", "-Y", "verify", "-f", site / "keys" / "allowed_signers", "-I", "release", "-n", "jobfolder"]
    with (job / "SHA256SUMS").open("rb") as sums:
        subprocess.run([*check, "-s", job / "SHA256SUMS.sig"], stdin=sums, check=True, capture_output=True)


@pytest.mark.slow
def test_a_layer_of_a_job_is_counted_and_drawn(job: Path, tmp_path: Path) -> None:
    from PIL import Image

    build, picture, text = json.loads((job / "job.json").read_text())["build"], tmp_path / "layer.png", tmp_path / "layers.cli"
    at_mm = 0.5 * build["height_mm"]
    done = batchone("layers", job, "--at", str(at_mm), "--picture", picture, "--text", text, "--json")
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    jsonschema.validate(tree, schema("layers"))
    assert tree["layers"] == build["layers"]
    assert tree["top_mm"] - build["layer_mm"] <= at_mm <= tree["top_mm"]
    assert 0 < tree["hatches"] < build["hatches"]
    # lines lie a tenth of a millimetre apart or so, and leave out the edge that the beam reaches
    assert 0.3 * tree["area_mm2"] < 0.08 * tree["hatches_mm"] < tree["area_mm2"]
    with Image.open(picture) as drawn:
        assert len(drawn.convert("RGB").getcolors(maxcolors=1 << 24) or ()) > 100
    written, whole = read_cli(text.read_bytes()), read_cli((job / "build" / "layers.cli").read_bytes())
    assert not written.header.binary
    assert np.abs(written.layers.points_mm - whole.layers.points_mm).max() < 1e-4
    assert np.abs(written.hatches.vectors_mm - whole.hatches.vectors_mm).max() < 1e-4
    outside = batchone("layers", job, "--at", str(build["height_mm"] + 1.0))
    assert (outside.returncode, outside.stdout) == (5, "")
    assert "the build goes from 0" in outside.stderr


def test_a_swapped_mesh_is_named(job: Path, site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "job"
    shutil.copytree(job, copy)
    mesh = next((copy / "parts").glob("*.stl"))
    data = bytearray(mesh.read_bytes())
    data[100] ^= 1
    mesh.write_bytes(bytes(data))
    done = batchone("verify", copy, "--signers", site / "keys" / "allowed_signers", "--json")
    assert done.returncode == 5
    assert any(p["kind"] == "changed" and p["file"].endswith(".stl") for p in json.loads(done.stdout)["problems"])


@pytest.mark.slow
def test_the_same_command_again_keeps_everything(site: Path, sample: tuple[Path, Path]) -> None:
    order, study = sample
    case = site / "cases" / "demo-0001"
    before = {path: path.stat().st_mtime_ns for path in case.rglob("stage.json")}
    done = batchone("run", order, "--study", study, "--out", site, "--json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["stages"].values()) == {0.0}
    assert {path: path.stat().st_mtime_ns for path in case.rglob("stage.json")} == before


@pytest.mark.slow
def test_the_patients_identity_is_only_in_its_own_file(site: Path) -> None:
    holders = [
        path for path in site.rglob("*") if path.is_file() and any(text.encode() in path.read_bytes() for text in IDENTITY)
    ]
    assert [path.name for path in holders] == ["identity.json"]


def _same_case_elsewhere(site: Path, elsewhere: Path) -> None:
    """Keys and the approval travel; nothing else."""
    shutil.copytree(site / "keys", elsewhere / "keys")
    case = elsewhere / "cases" / "demo-0001"
    case.mkdir(parents=True)
    shutil.copytree(site / "cases" / "demo-0001" / "review", case / "review")


@pytest.mark.slow
def test_killed_in_every_stage_on_one_core_the_job_folder_has_the_same_bytes(
    site: Path, job: Path, sample: tuple[Path, Path], tmp_path: Path
) -> None:
    order, study = sample
    _same_case_elsewhere(site, tmp_path)
    case = tmp_path / "cases" / "demo-0001"
    command = [
        sys.executable,
        "-m",
        "batchone.pipeline",
        "run",
        str(order),
        "--study",
        str(study),
        "--out",
        str(tmp_path),
        "--json",
    ]
    one_core = {min(os.sched_getaffinity(0))}
    for stage in STAGES:
        if stage.kind == "gate":
            continue
        folder = "job" if stage.name == "package" else stage.name
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.sched_setaffinity(process.pid, one_core)
        while not (case / f".{folder}.part").exists():
            assert process.poll() is None, f"the run ended before {stage.name}"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (case / folder / "stage.json").exists()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, preexec_fn=lambda: os.sched_setaffinity(0, one_core)
    )
    assert done.returncode == 0, done.stderr
    assert files_of(Path(json.loads(done.stdout)["job"])) == files_of(job)
    assert not list(case.glob(".*.part"))


@pytest.mark.slow
def test_a_disk_that_refuses_large_files_is_exit_5_and_shows_nothing_half_written(
    sample: tuple[Path, Path], tmp_path: Path
) -> None:
    order, study = sample

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = batchone("run", order, "--study", study, "--out", tmp_path, "--json", preexec_fn=small_files)
    assert done.returncode == 5, done.stderr
    tree = json.loads(done.stdout)
    jsonschema.validate(tree, schema("run"))
    assert tree["error"]["exit_code"] == 5
    assert "space" in tree["error"]["hint"]
    assert not (tmp_path / "cases" / "demo-0001" / "intake").exists()


@pytest.mark.slow
def test_a_slicing_program_that_is_missing_or_crashes_is_exit_5_and_leaves_the_checked_device(
    sample: tuple[Path, Path], tmp_path: Path
) -> None:
    order, study = sample
    printed, case, programs = tmp_path / "order.toml", tmp_path / "site" / "cases" / "demo-0001", tmp_path / "programs"
    printed.write_text(re.sub('process = "[^"]+"', 'process = "peek-fff"', order.read_text()))
    programs.mkdir()
    for script, said in (("", "cannot be started"), ("kill -SEGV $$", "ended with -11")):
        if script:
            (programs / "prusa-slicer").write_text(f"#!/bin/sh\n{script}\n")
            (programs / "prusa-slicer").chmod(0o755)
        done = batchone(
            "run", printed, "--study", study, "--out", tmp_path / "site", "--approve-as", "tester", "--json",
            env={**os.environ, "PATH": str(programs)},
        )  # fmt: skip
        assert done.returncode == 5, done.stderr
        tree = json.loads(done.stdout)
        assert said in tree["error"]["message"]
        assert (case / "check" / "findings.json").is_file()
        assert not list(case.glob("*slice*"))
        assert not (case / "job").exists()


@pytest.mark.slow
def test_a_changed_parameter_runs_again_only_what_depends_on_it(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site / "cases", tmp_path / "cases")
    shutil.copytree(site / "keys", tmp_path / "keys")
    (released,) = (tmp_path / "cases" / "demo-0001" / "job").glob("*/job.json")
    change = ("design", "demo-0001", "--set", "border_gap_mm=0.6", "--site", tmp_path, "--json")
    refused = batchone(*change)  # what was approved stands
    assert (refused.returncode, "batchone revise" in refused.stderr) == (2, True), refused.stderr
    revised = batchone("revise", "demo-0001", "--reason", "the gap is too small", "--as", "tester", "--site", tmp_path)
    assert revised.returncode == 0, revised.stderr
    done = batchone(*change)
    assert done.returncode == 0, done.stderr
    seconds = json.loads(done.stdout)["stages"]
    assert [name for name, value in seconds.items() if value > 0] == ["design", "check"]
    again = batchone("review", "demo-0001", "--approve", "--checked", "all", "--as", "tester", "--site", tmp_path, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["status"] == "done"
    assert Path(json.loads(again.stdout)["job"]).name != released.parent.name


@pytest.mark.slow
def test_a_returned_device_is_exit_4_and_stands_in_the_events(site: Path, tmp_path: Path) -> None:
    for name in ("cases", "keys"):
        shutil.copytree(site / name, tmp_path / name)
    done = batchone("review", "demo-0001", "--return", "border too tight", "--as", "tester", "--site", tmp_path)
    assert (done.returncode, "was approved by" in done.stderr, "batchone revise" in done.stderr) == (2, True, True), done.stderr
    done = batchone("revise", "demo-0001", "--reason", "another look", "--as", "tester", "--site", tmp_path)
    assert done.returncode == 0, done.stderr
    done = batchone("review", "demo-0001", "--return", "border too tight", "--as", "tester", "--site", tmp_path)
    assert done.returncode == 4
    assert "border too tight" in (tmp_path / "cases" / "demo-0001" / "events.jsonl").read_text()
    done = batchone("review", "demo-0001", "--reject", "another operation", "--as", "tester", "--site", tmp_path)
    assert done.returncode == 4
    assert "rejected: another operation" in (tmp_path / "cases" / "demo-0001" / "events.jsonl").read_text()


def _changed(order: Path, tmp_path: Path, old: str, new: str) -> Path:
    text = order.read_text()
    assert old in text
    changed = tmp_path / "order.toml"
    changed.write_text(text.replace(old, new))
    return changed


@pytest.mark.slow
def test_another_order_under_the_same_case_is_refused(site: Path, sample: tuple[Path, Path], tmp_path: Path) -> None:
    order, study = sample
    changed = _changed(order, tmp_path, 'prescriber = "code-17"', 'prescriber = "code-18"')
    done = batchone("run", changed, "--study", study, "--out", site)
    assert done.returncode == 2
    assert "another order" in done.stderr


@pytest.mark.slow
def test_the_wrong_side_is_refused(sample: tuple[Path, Path], tmp_path: Path) -> None:
    order, study = sample
    done = batchone("run", _changed(order, tmp_path, 'side = "left"', 'side = "right"'), "--study", study, "--out", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "side" in done.stderr
    assert "what to do" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('side = "left"', 'side = "left"\nsidde = "left"', "sidde: unknown key"),
        ('side = "left"', 'side = "up"', "side"),
        ("T08:00:00Z", "T08:00:00", "time zone"),
        ('process = "ti64-lpbf"', 'process = "wood"', "wood"),
        ('machine = "sim-01"', 'machine = "none"', "none"),
    ],
)
def test_a_wrong_order_is_exit_2_with_what_to_do(
    sample: tuple[Path, Path], tmp_path: Path, old: str, new: str, told: str
) -> None:
    order, study = sample
    done = batchone("run", _changed(order, tmp_path, old, new), "--study", study, "--out", tmp_path)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "what to do" in done.stderr


def test_a_parameter_out_of_limits_is_refused_with_its_limit(sample: tuple[Path, Path], tmp_path: Path) -> None:
    order, study = sample
    changed = tmp_path / "order.toml"
    changed.write_text(order.read_text().split("[parameters]")[0] + "\n[parameters]\nborder_gap_mm = 1.5\n")
    done = batchone("run", changed, "--study", study, "--out", tmp_path)
    assert done.returncode == 2
    assert "border_gap_mm" in done.stderr
    assert "1" in done.stderr


@pytest.mark.parametrize("kind", ["missing", "empty", "text"])
def test_a_study_without_images_is_exit_2(sample: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    study = tmp_path / "study"
    if kind != "missing":
        study.mkdir()
    if kind == "text":
        (study / "image.dcm").write_text("this is no image")
    done = batchone("run", sample[0], "--study", study, "--out", tmp_path)
    assert done.returncode == 2, done.stderr
    assert "what to do" in done.stderr


def test_usage_errors_are_exit_2() -> None:
    assert batchone("run").returncode == 2
    assert batchone("frobnicate").returncode == 2


def test_devices_and_orders_follow_the_contract() -> None:
    jsonschema.validate(json.loads(batchone("devices", "--json").stdout), schema("devices"))
    jsonschema.validate(json.loads(batchone("devices", "cranial-implant", "--json").stdout), schema("devices"))
    made = batchone("order", "new", "cranial-implant", "--case", "c1", "--side", "left", "--due", "2026-11-24T08:00:00Z")
    assert made.returncode == 0, made.stderr
    assert 'device = "cranial-implant"' in made.stdout
    assert batchone("order", "new", "toy", "--case", "c1", "--side", "left", "--due", "2026-11-24T08:00:00Z").returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_site_on_a_full_disk_is_exit_5_and_goes_on_when_there_is_space(sample: tuple[Path, Path], tmp_path: Path) -> None:
    order, study = sample
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path], check=True)
    try:
        done = batchone("run", order, "--study", study, "--out", tmp_path, "--json")
        assert done.returncode == 5, done.stderr
        assert "space" in json.loads(done.stdout)["error"]["hint"]
        case = tmp_path / "cases" / "demo-0001"
        shown = [folder.name for folder in case.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
        assert all((case / name / "stage.json").is_file() for name in shown)
        subprocess.run(["mount", "-o", "remount,size=600m", tmp_path], check=True)
        done = batchone("run", order, "--study", study, "--out", tmp_path, "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "awaiting-approval"
    finally:
        subprocess.run(["umount", tmp_path], check=True)
