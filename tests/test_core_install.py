"""The core install alone runs the hospital's side: a virtual environment that holds the core's own dependencies and no more.

The system's OpenGL and X11 libraries are hidden from every command: the loader finds files of their names first that are none.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import socket
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dicom_case
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, evt

import batchone.pipeline
from batchone.samples.traps import SLICES

# 161.9 MB with the libraries of the lock file; the design's aim is 150. numpy 57, GDCM 44, cryptography 15, pydicom 8, pyjpegls
# 8, pylibjpeg-openjpeg 6, pynetdicom 6, pydantic-core 5, pygments (for rich) 5. Without GDCM it would be under; it stays, for it
# decodes JPEG lossless (process 14), which many archives hold, and nothing else here does: pylibjpeg-libjpeg is GPL, Pillow reads
# 8 bits of it. GDCM could read JPEG-LS and JPEG 2000 too and save the 14 MB of the other two; they stay, for they are faster and
# do not die on damaged streams as GDCM does.
MAX_MEGABYTES = 165.0  # it must not grow unseen
GRAPHICS = ("libGL.so", "libEGL.so", "libX11.so", "libOpenGL.so", "libGLX.so", "libGLdispatch.so", "libxcb.so")
HIDDEN = (
    *("libGL.so.1", "libEGL.so.1", "libOpenGL.so.0", "libGLX.so.0", "libGLdispatch.so.0"),
    *("libX11.so.6", "libxcb.so.1", "libXext.so.6", "libXrender.so.1"),
)
SITE_ONLY = ("cadquery", "vtkmodules", "SimpleITK", "numba", "trimesh", "scipy", "skimage", "manifold3d", "lib3mf", "stl", "PIL")
RUN = """
import sys, pathlib
from batchone.pipeline.cli import main
sys.argv[0] = "batchone"
try:
    main()
finally:
    maps = pathlib.Path("/proc/self/maps")
    loaded = sorted({line.split("/")[-1] for line in maps.read_text().splitlines() if "/" in line})
    pathlib.Path(".loaded").write_text("\\n".join([*loaded, *sys.modules]))
"""
ORDERED = ("--case", "c-0001", "--side", "left", "--due", "2026-11-24T08:00:00Z")


def core_requirements() -> list[str]:
    """What the project's core depends on: of pyproject.toml where it lies beside the tests, else of what is installed."""
    project = Path(__file__).parents[1] / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return [text for text in importlib.metadata.requires("batchone") or () if "extra ==" not in text]


def closure(requirements: list[str]) -> dict[str, importlib.metadata.Distribution]:
    """The distributions that these requirements bring, by name; what is needed only elsewhere or for an extra is left out."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = [(Requirement(text), frozenset[str]()) for text in requirements]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        need, extras = waiting.pop()
        if need.marker is not None and not any(need.marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            continue
        name, wanted = canonicalize_name(need.name), frozenset(need.extras)
        if (name, wanted) not in seen:
            seen.add((name, wanted))
            found[name] = importlib.metadata.distribution(need.name)
            waiting += [(Requirement(text), wanted) for text in found[name].requires or ()]
    return found


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the core alone; nothing is downloaded, the files are linked."""
    folder = tmp_path_factory.mktemp("core") / "environment"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    for distribution in closure(core_requirements()).values():
        for top in sorted({Path(str(file)).parts[0] for file in distribution.files or ()}):
            if top not in ("..", "__pycache__", "bin") and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))))
    own = importlib.metadata.distribution("batchone")
    record = next(part for file in own.files or () for part in Path(str(file)).parts if part.endswith(".dist-info"))
    (packages / record).symlink_to(Path(str(own.locate_file(record))))
    code = Path(batchone.pipeline.__file__).parent.parent
    (packages / "batchone").mkdir()
    for room in ("pipeline", "segment", "design", "slicer", "factory", "samples"):
        if (code / room).exists():
            (packages / "batchone" / room).symlink_to(code / room)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def hiding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the loader's search path: empty files under the names of the graphics libraries, so that none is loaded."""
    folder = tmp_path_factory.mktemp("hiding")
    for name in HIDDEN:
        (folder / name).touch()
    return folder


def core_environment(hiding: Path, home: Path) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": str(home), "LANG": "C.UTF-8", "LD_LIBRARY_PATH": str(hiding)}


@pytest.fixture
def run(core: Path, hiding: Path, tmp_path: Path) -> Iterator[object]:
    """Runs a command of batchone in the core environment, without graphics libraries, and looks afterwards at what it loaded."""

    def command(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = core_environment(hiding, tmp_path)
        done = subprocess.run(
            [str(core), "-c", RUN, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "batchone[site]" not in done.stderr, done.stderr
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        loaded = (tmp_path / ".loaded").read_text().splitlines()
        assert not [name for name in loaded if name.startswith(GRAPHICS) or name in SITE_ONLY]
        return done

    return command  # type: ignore[return-value]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound CT study, as a scanner writes it."""
    import numpy as np

    from batchone.samples.dicom import write_series

    folder = tmp_path_factory.mktemp("studies") / "study"
    hu = np.full((70, 48, 48), -1000, dtype=np.int16)
    hu[8:62, 10:38, 10:38] = 40
    hu[8:62, 14:24, 14:24] = 1200
    hu += np.random.default_rng(5).integers(-8, 9, hu.shape, dtype=np.int16)
    write_series(np.maximum(hu, -1024), np.diag([0.45, 0.45, 0.6, 1.0]), folder, mess=True)
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job folder beside the identity that its case folder read, made by the whole installation."""
    made = dicom_case.make_job(tmp_path_factory.mktemp("job"))
    identity = {name: getattr(made.identity, name) for name in made.identity.__slots__}
    (made.case / "intake").mkdir(exist_ok=True)
    (made.case / "intake" / "identity.json").write_text(json.dumps(identity))
    folder: Path = made.job
    return folder


def test_the_environment_holds_the_core_and_nothing_of_the_site(core: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {SITE_ONLY!r} if u.find_spec(n)])"
    assert subprocess.run([str(core), "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_graphics_libraries_are_hidden_even_from_the_whole_installation(core: Path, hiding: Path, tmp_path: Path) -> None:
    """None of them loads in the commands' environment; cadquery, which needs them, cannot be imported there."""
    code = f"""
import ctypes
for name in {HIDDEN!r}:
    try:
        ctypes.CDLL(name)
    except OSError as error:
        assert "file too short" in str(error), error
    else:
        raise SystemExit(name + " was loaded")
"""
    environment = core_environment(hiding, tmp_path)
    subprocess.run([str(core), "-c", code], env=environment, check=True)
    whole = subprocess.run([sys.executable, "-c", "import OCP"], env=environment, capture_output=True, text=True, check=False)
    assert whole.returncode == 1
    assert "file too short" in whole.stderr


def test_the_core_is_small() -> None:
    files = [
        Path(str(distribution.locate_file(file)))
        for distribution in closure(core_requirements()).values()
        for file in distribution.files or ()
    ]
    megabytes = sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".pyc") / 1e6
    assert megabytes < MAX_MEGABYTES


@pytest.mark.parametrize(
    "command", ["", "order", "order new", "inspect", "submit", "status", "cases", "return", "receive", "verify"]
)
def test_help_works(run, command: str) -> None:  # type: ignore[no-untyped-def]
    assert "Usage" in run(*command.split(), "--help").stdout


def test_from_an_order_to_a_case_in_the_site(run, study: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run("order", "new", "anatomical-model", *ORDERED, "--study", str(study), "--out", "order.toml")
    report = json.loads(run("inspect", str(study), "--device", "anatomical-model", "--json").stdout)
    assert report["usable"]
    sent = json.loads(run("submit", "order.toml", str(study), "--to", "site", "--json").stdout)
    assert sent["case"] == "c-0001"
    known = json.loads(run("status", "c-0001", "--site", "site", "--json").stdout)
    assert (known["case"], known["images"]) == ("c-0001", 70)


@contextmanager
def archive() -> Iterator[tuple[str, list[Dataset]]]:
    """An archive that takes what `return` sends: its address, and what it took."""
    taken: list[Dataset] = []

    def store(event: evt.Event) -> int:
        taken.append(event.dataset)
        return 0

    entity = AE(ae_title="PACS")
    for sop_class in ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.104.3", "1.2.840.10008.5.1.4.1.1.104.1"):
        entity.add_supported_context(sop_class, ExplicitVRLittleEndian)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield f"PACS@127.0.0.1:{server.server_address[1]}", taken
    finally:
        server.shutdown()


@pytest.mark.slow
def test_from_an_order_to_the_job_in_the_archive(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Every command of the hospital's side in one case; between them the site, with the whole installation, makes the job."""
    study, images, seeds = dicom_case.make_study(tmp_path / "in")
    run("order", "new", "anatomical-model", *ORDERED, "--out", "order.toml")
    report = json.loads(run("inspect", str(study), "--json").stdout)
    assert report["usable"]
    sent = json.loads(run("submit", "order.toml", str(study), "--to", "site", "--keep", "keep", "--json").stdout)
    assert sent["case"] == "c-0001"
    known = json.loads(run("status", "c-0001", "--site", "site", "--json").stdout)
    assert (known["images"], known["job"]) == (len(images), None)

    case = tmp_path / "site" / "cases" / "c-0001"
    made = dicom_case.job_of(case / "study", images, seeds, site=tmp_path / "site", case="c-0001")
    assert made.identity.patient_name != dicom_case.NAME

    assert "Case c-0001" in run("status", str(made.case)).stdout
    with archive() as (address, taken):
        returned = json.loads(run("return", str(made.job), "--to", address, "--keep", "keep", "--json").stdout)
    assert returned["complete"]
    assert {str(item.PatientName) for item in taken} == {dicom_case.NAME}
    assert len(taken) == len(returned["objects"]) == 4
    assert json.loads(run("verify", str(made.job), "--json").stdout)["ok"]


def test_compressed_pixels_are_read(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from batchone.samples.traps import trap, write_trap

    for name in ("rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000"):
        write_trap(trap(name), tmp_path / name)
        report = json.loads(run("inspect", str(tmp_path / name), "--json").stdout)
        assert [one["shape"][0] for one in report["series"] if one["readable"]] == [SLICES]


@pytest.mark.slow
def test_a_job_is_verified_and_a_changed_one_is_not(run, job: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    assert json.loads(run("verify", str(job), "--json").stdout)["ok"]
    changed = tmp_path / "changed"
    shutil.copytree(job, changed)
    with (changed / "job.json").open("ab") as stream:
        stream.write(b" ")
    assert not json.loads(run("verify", str(changed), "--json", code=5).stdout)["ok"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["http://127.0.0.1:{port}/dicom-web", "ARCHIVE@127.0.0.1:{port}"])
def test_return_reaches_for_the_archive(run, job: Path, target: str) -> None:  # type: ignore[no-untyped-def]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens there once it is closed
    refused = run("return", str(job), "--to", target.format(port=port), code=5)
    assert "what to do" in refused.stderr


def test_what_only_the_site_can_do_says_what_to_install(core: Path, hiding: Path, study: Path, tmp_path: Path) -> None:
    order = tmp_path / "order.toml"
    environment = core_environment(hiding, tmp_path)
    flags = ["order", "new", "anatomical-model", *ORDERED, "--out", str(order)]
    subprocess.run([str(core), "-m", "batchone.pipeline", *flags], env=environment, check=True, capture_output=True)
    command = [str(core), "-m", "batchone.pipeline", "run", str(order), "--study", str(study), "--out", str(tmp_path / "site")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 5
    assert "pip install 'batchone[site]'" in done.stderr
    assert "Traceback" not in done.stderr
