"""Two cells fight for one inbox while they, the site's server, disk and broker go down again and again: nothing lost or twice.

    python -m benchmarks.cells [--jobs 200] [--kills 200] [--seed 1] [--speed 40000] [--keep DIR]

Small jobs of as many cases, really sliced and signed, go through a cell with a twin that reaches its site over the server and
tells a broker (mosquitto) of itself, and through one that sees the site's folders and has a machine's own software. Printed:
kills by moment, restarts, what became of all attempts, how many samples the site heard, and whatever was wrong; anything wrong
ends the program with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.signature import KEYS, approval_key, release_key, write_allowed_signers
from batchone.pipeline.kernel_cache import use_kernel_cache

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the storm is tested too, and the wheel has no benchmarks
from cell_storm import PROCESS, storm  # type: ignore[import-not-found]
from small_job import make_job  # type: ignore[import-not-found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=40_000.0)
    parser.add_argument("--keep", type=Path, help="where the storm's folder stays")
    options = parser.parse_args()
    use_kernel_cache()
    os.environ["BATCHONE_APPROVER_PASSPHRASE"] = "benchmark-passphrase-1"
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name) / "storm"
        folder.mkdir(parents=True)
        jobs = made(Path(name) / "jobs", options.jobs)
        keys = Path(name) / "jobs" / KEYS
        seen = storm(
            folder, jobs, keys, kills=options.kills, seed=options.seed, speed=options.speed, within_s=60.0 + 20.0 * options.jobs
        )
    for moment, count in sorted(seen.kills.items()):
        print(f"{count:5}  {moment}")
    print(f"{seen.kills.total()} kills, {seen.cuts} cuts of the site, {options.jobs} jobs, {seen.seconds:.0f} s")
    print("taken down and started again: " + ", ".join(f"{name} {count}" for name, count in sorted(seen.restarts.items())))
    print(f"attempts: {dict(sorted(seen.attempts.items()))}; {seen.readings} readings of the twin compared")
    print(f"{seen.samples} samples came through the broker into the site's files, each once where nothing is told as wrong")
    for text in seen.wrong:
        print(f"WRONG  {text}")
    sys.exit(1 if seen.wrong else 0)


def made(folder: Path, count: int) -> list[Path]:
    """Jobs of as many cases, and the keys that signed them."""
    keys = folder / KEYS
    release_key(keys)
    approval_key(keys, "reviewer", passphrase=os.environ["BATCHONE_APPROVER_PASSPHRASE"])
    write_allowed_signers(keys)
    jobs = []
    for number in range(1, count + 1):
        make_job(folder / "made", keys, PROCESS, case=f"bench-{number:04d}")
        place = folder / read_manifest((folder / "made" / "job.json").read_bytes()).job
        jobs.append((folder / "made").rename(place))
    return jobs


if __name__ == "__main__":
    main()
