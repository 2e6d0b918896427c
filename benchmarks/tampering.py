"""What a cell refuses: a released job, or a plate of two patients, changed in one way at a time, at least 1,000 times in all.

    python -m benchmarks.tampering [--trials 1000] [--seed 1]

Bits are flipped in every file; meshes are swapped and everything is sealed anew, by a stranger's key and by the site's own;
patients are swapped on the plate; jobs are withdrawn; lots and calibrations run out. Every trial goes the way that a cell goes
before it prints. Whatever is not refused is listed, and ends the program with 1.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import manifold3d
import numpy as np

from batchone.factory.drivers.twin import TwinDriver
from batchone.factory.proof import read_work, refusals, unsuited
from batchone.factory.settings import Calibration, CellSettings, Lot
from batchone.pipeline.build.folder import nest_jobs
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.measure import stl_bytes, stl_corners
from batchone.pipeline.job.provenance import PROVENANCE, envelope, statement
from batchone.pipeline.job.signature import RELEASE, SiteKey, release_key, sign, write_allowed_signers
from batchone.pipeline.job.sums import sha256, sums_bytes
from batchone.pipeline.job.withdrawal import WithdrawnJob
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.values import Mesh
from benchmarks.plate_guides import released

TODAY = dt.date(2026, 11, 30)
DAY = dt.timedelta(days=1)
MACHINE = TwinDriver("sim-01", seed=0, speed=1.0, chance=False)


@dataclass(frozen=True)
class Trial:
    """One change: its kind, what it is done to, and how the cell stands."""

    kind: str
    folder: Path
    change: Callable[[Path], None]
    cell: CellSettings
    withdrawn: tuple[WithdrawnJob, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    os.environ.setdefault("BATCHONE_APPROVER_PASSPHRASE", "benchmark-passphrase")
    use_kernel_cache()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(_report(Path(folder), options.trials, np.random.default_rng(options.seed)))


def _report(site: Path, count: int, chance: np.random.Generator) -> int:
    jobs = [_named(released(site / "made" / str(k), site / "keys", k, boxes(k))) for k in range(2)]
    write_allowed_signers(site / "keys")
    plate = nest_jobs(jobs, machine="sim-01", site=site, signers=site / "keys").folder
    for untouched in (*jobs, plate):
        faults = faults_of(untouched, cell(), site / "keys")
        if faults:
            raise MachineError(f"{untouched.name} is refused as it is: {faults[0]}")
    done, missed = Counter[str](), Counter[str]()
    for trial in trials(site, jobs, plate, count, chance):
        place = site / "trial" / trial.folder.name
        shutil.copytree(trial.folder, place)
        trial.change(place)
        done[trial.kind] += 1
        if not faults_of(place, trial.cell, site / "keys", trial.withdrawn):
            missed[trial.kind] += 1
        shutil.rmtree(place)
    print(f"\n{sum(done.values())} changes of a job and of a plate of two patients: refused")
    for kind, number in sorted(done.items()):
        print(f"  {kind:52} {number - missed[kind]:5} of {number}")
    return int(bool(missed))


def trials(site: Path, jobs: list[Path], plate: Path, count: int, chance: np.random.Generator) -> Iterator[Trial]:
    """Each kind a tenth of the time, the rest bits; every file of both folders gets its share of those."""
    one, other = jobs
    own, stranger = release_key(site / "keys"), release_key(site / "stranger")
    withdrawn = WithdrawnJob(
        job=one.name, sums_sha256="0" * 64, case="bench-0001", what="revised", when=dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
    )
    kinds = [
        Trial("mesh swapped, sealed by a stranger", one, lambda job: _swap(job, stranger, chance), cell()),
        Trial("mesh swapped, sealed by the site's own key", one, lambda job: _swap(job, own, chance), cell()),
        Trial("job of an earlier revision, on the site's list", one, lambda job: None, cell(), (withdrawn,)),
        Trial("plate with a job of an earlier revision", plate, lambda job: None, cell(), (withdrawn,)),
        Trial("patients swapped on the plate, sealed by the site's key", plate, lambda build: _swap_patients(build, own), cell()),
        Trial("plate that carries another patient's papers", plate, lambda build: _carry(build, one, other, own), cell()),
        Trial("wrong material loaded", one, lambda job: None, cell(material="Ti-6Al-4V ELI")),
        Trial("lot out of date", one, lambda job: None, cell(lot_until=TODAY - DAY)),
        Trial("calibration out of date", plate, lambda job: None, cell(calibrated_until=TODAY - DAY)),
    ]  # fmt: skip
    for trial in kinds:
        for _ in range(max(1, count // 50)):
            yield trial
    files = [
        (folder, path.relative_to(folder)) for folder in (one, plate) for path in sorted(folder.rglob("*")) if path.is_file()
    ]
    left = max(len(files), count - len(kinds) * max(1, count // 50))
    for number in range(left):
        folder, name = files[number % len(files)]
        where = f"one bit, {'plate' if folder == plate else 'job'}, {name.suffix or name.name}"
        yield Trial(where, folder, lambda place, name=name: _flip(place / name, chance), cell())  # type: ignore[misc]


def faults_of(folder: Path, settings: CellSettings, signers: Path, withdrawn: tuple[WithdrawnJob, ...] = ()) -> tuple[str, ...]:
    """As a cell asks before it prints."""
    try:
        work = read_work(folder)
    except (MachineError, OSError) as error:
        return (str(error),)
    faults = unsuited(work, settings, MACHINE, today=TODAY)
    return faults or refusals(work, signers=signers, withdrawn=withdrawn)


def cell(*, material: str = "PA12", lot_until: dt.date = TODAY, calibrated_until: dt.date = TODAY) -> CellSettings:
    """A cell that may print what is made here, unless told otherwise."""
    wanted = ("powder lot of new powder", "lot or mixture of used powder", "share of new powder")
    lot = Lot(material=material, lot="TEST-1", expires=lot_until, facts=dict.fromkeys(wanted, "TEST^VALUE"))
    calibration = Calibration(name="laser power", done=TODAY - 30 * DAY, due=calibrated_until)
    return CellSettings(name="cell-1", machine="sim-01", serial="TWIN-1", driver="twin", lots=(lot,), calibrations=(calibration,))


def boxes(patient: int) -> list[Mesh]:
    """Two boxes of sizes and places of their own for each of two patients."""
    mesh, sizes = box(), np.linspace(0.88, 1.12, 4)[2 * patient :]
    places = [np.array([3.0 * patient, -5.0 * number, 10.0 * patient]) for number in range(2)]
    return [Mesh(mesh.vertices_mm * size + place, mesh.faces) for size, place in zip(sizes, places, strict=False)]


def box() -> Mesh:
    """A box with a hole, mm."""
    solid = manifold3d.Manifold.cube([14.0, 11.0, 5.0]) - manifold3d.Manifold.cylinder(20.0, 2.0, circular_segments=24).translate(
        [5.0, 5.0, -5.0]
    )
    made = solid.to_mesh64()
    return Mesh(np.array(made.vert_properties[:, :3]), np.array(made.tri_verts, dtype=np.int32))


def _named(job: Path) -> Path:
    """A job under its own name."""
    return job.rename(job.with_name(read_manifest((job / "job.json").read_bytes()).job))


def _flip(path: Path, chance: np.random.Generator) -> None:
    data = bytearray(path.read_bytes())
    data[int(chance.integers(len(data)))] ^= 1 << int(chance.integers(8))
    path.write_bytes(data)


def _swap(job: Path, key: SiteKey, chance: np.random.Generator) -> None:
    """Another mesh under the name of a part, a little larger or with a dent, with lists and provenance that agree."""
    path = sorted(job.glob("parts/*.stl"))[0]
    corners = stl_corners(path.read_bytes()).astype(np.float64)
    corners *= 1.0 + float(chance.uniform(1e-4, 1e-2))
    faces = np.arange(3 * len(corners), dtype=np.int32).reshape(-1, 3)
    path.write_bytes(stl_bytes(Mesh(corners.reshape(-1, 3), faces)))
    _seal(job, key)


def _seal(folder: Path, key: SiteKey) -> None:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    digests = {name: sha256((folder / name).read_bytes()) for name in names if not name.startswith("SHA256SUMS")}
    if "job.json" in digests:
        data = envelope(statement(read_manifest((folder / "job.json").read_bytes()), digests), key)
        (folder / PROVENANCE).write_bytes(data)
        digests[PROVENANCE] = sha256(data)
    sums = sums_bytes(digests)
    (folder / "SHA256SUMS").write_bytes(sums)
    (folder / "SHA256SUMS.sig").write_text(sign(key, sums, namespace=RELEASE))


def _swap_patients(build: Path, key: SiteKey) -> None:
    """The first bodies of both patients change their transforms and boxes, as if one lay where the other should."""
    tree = json.loads((build / "build.json").read_bytes())
    first, second = (next(one for one in tree["instances"] if one["case"] == case) for case in ("bench-0001", "bench-0002"))
    for name in ("transform", "box_low_mm", "box_high_mm"):
        first[name], second[name] = second[name], first[name]
    (build / "build.json").write_text(json.dumps(tree, sort_keys=True, ensure_ascii=False, indent=2) + "\n")
    _seal(build, key)


def _carry(build: Path, one: Path, other: Path, key: SiteKey) -> None:
    """What the plate carries of one patient's job is replaced by the other's."""
    for path in (build / "jobs" / one.name).iterdir():
        shutil.copy(build / "jobs" / other.name / path.name, path)
    _seal(build, key)


if __name__ == "__main__":
    main()
