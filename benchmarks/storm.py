"""A storm of kill -9 over workers and their stage children: nothing lost, nothing twice, no byte other than undisturbed.

    python -m benchmarks.storm [--kills 200] [--seed 1] [--pause 2.0] [--engine sqlite|postgres|both]

One small case is run undisturbed. Then, round after round at a new site with the same keys and the same answer of the reviewer,
the same case runs under fire, with up to twelve kills a round, until as many as asked for are done. On SQLite one worker runs, on
PostgreSQL three. In the end every file of every stage and of the job must be that of the undisturbed run, and the audit of the
site whole. Printed: kills by victim and stage, and whatever was wrong, of many kills a stage without one too; anything wrong ends
the program with 1. The source must not change meanwhile: the job names its digest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from batchone.pipeline.audit import audit_site
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.samples.small_case import write_small_case
from batchone.samples.storm import STAGES, other_files, storm
from benchmarks.database import emptied, postgres

CASE, KILLS_A_ROUND = "small-0001", 12
ENOUGH = 100  # kills at random moments, after which no stage should have been spared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=2.0)
    parser.add_argument("--engine", choices=("sqlite", "postgres", "both"), default="both")
    options = parser.parse_args()
    use_kernel_cache()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_small_case(folder / "sent", case=CASE)
        truth = _received(folder, folder / "truth")
        _batchone(
            folder, "run", truth / "order.toml", "--study", truth / "study", "--out", folder / "truth", "--approve-as", "storm"
        )
        whole = True
        for engine in ("sqlite", "postgres") if options.engine == "both" else (options.engine,):
            with postgres() if engine == "postgres" else contextlib.nullcontext() as url:
                whole &= _rounds(folder, truth, engine, url, options)
    sys.exit(0 if whole else 1)


def _rounds(folder: Path, truth: Path, engine: str, url: str | None, options: argparse.Namespace) -> bool:
    kills: Counter[str] = Counter()
    wrong: list[str] = []
    seconds, looks, number = 0.0, 0, 0
    while kills.total() < options.kills:
        site = folder / f"{engine}-{number}"
        site.mkdir()
        shutil.copytree(folder / "truth" / "keys", site / "keys")
        if url is not None:
            emptied(url)
            (site / "site.toml").write_text(f'[engine]\ndatabase = "{url}"\n', encoding="utf-8")
        case = _received(folder, site)
        count = min(KILLS_A_ROUND, options.kills - kills.total())
        seen = storm(
            site,
            CASE,
            truth / "review",
            kills=count,
            seed=options.seed + number,
            workers=1 if url is None else 3,
            pause_s=options.pause,
        )
        faults = [fault for trail in audit_site(site) for fault in trail.faults]
        found = [f"round {number}: {text}" for text in (*seen.wrong, *map(str, faults), *other_files(case, truth))]
        print(*found, sep="\n", end="\n" if found else "", file=sys.stderr)
        wrong += found
        kills += seen.kills
        seconds, looks, number = seconds + seen.seconds, looks + seen.looks, number + 1
        shutil.rmtree(site)
        print(f"{engine}: {kills.total()} kills, {number} cases, {seconds:.0f} s, wrong so far: {len(wrong)}", file=sys.stderr)
    print(f"{engine}: {kills.total()} kills in {number} cases, {looks} looks at all results, {seconds:.0f} s")
    for what, count in sorted(kills.items()):
        print(f"  {what:24} {count:4}")
    if options.kills >= ENOUGH:
        wrong += [f"no kill in {stage}" for stage in STAGES if not any(what.endswith(f" in {stage}") for what in kills)]
    print("  wrong: " + ("nothing" if not wrong else "; ".join(wrong)))
    return not wrong


def _received(folder: Path, site: Path) -> Path:
    _batchone(folder, "submit", folder / "sent" / "order.toml", folder / "sent" / "study", "--to", site)
    return site / "cases" / CASE


def _batchone(folder: Path, *words: object) -> None:
    environment = os.environ | {"BATCHONE_HOSPITAL": str(folder / "hospital")}
    command = [sys.executable, "-m", "batchone.pipeline", *map(str, words)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
