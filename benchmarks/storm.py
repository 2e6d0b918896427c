"""A storm of kill -9 over workers and their stage children: nothing lost, nothing twice, no byte other than undisturbed.

    python -m benchmarks.storm [--kills 200] [--seed 1] [--engine sqlite|postgres|both]

One small case is run undisturbed. Then, round after round at a new site with the same keys and the same answer of the reviewer,
the same case runs under fire, with up to twelve kills a round, until as many as asked for are done; the first round has none, and
tells what a case costs without them. On SQLite one worker runs, on PostgreSQL three, a dead one at times left to the others.
Each kill has a target that was drawn: one of the stages hit least so far, or, one in six, the engine (between stages, or a worker
that starts); it comes at a random moment of the time that the target lasts. In the end every file of every stage and of the job
must be that of the undisturbed run, and the audit of the site whole.
Printed: kills by who died and at what (looked at when it was dead), and whatever was wrong: of many kills also a stage that was
spared, or more dead while they started than were meant to be. Anything wrong ends the program with 1. The source must not change
meanwhile: the job names its digest.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from batchone.pipeline.audit import audit_site
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.samples.small_case import write_small_case
from batchone.samples.storm import Seen, other_files, storm
from batchone.samples.storm_aim import ENGINE, STAGES, usual_seconds
from benchmarks.database import emptied, postgres

CASE, KILLS_A_ROUND = "small-0001", 12
WITHIN_S = 3600.0  # a case ends by then also on a machine that does much else; it takes a minute or two
ENOUGH = 100  # kills after which no stage should have been spared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=("sqlite", "postgres", "both"), default="both")
    options = parser.parse_args()
    os.environ.setdefault("BATCHONE_APPROVER_PASSPHRASE", "benchmark-passphrase")
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
    all_seen, wrong, usual, calm_s = Seen(), list[str](), usual_seconds(truth), 0.0
    number = 0
    while number == 0 or all_seen.kills.total() < options.kills:
        site = folder / f"{engine}-{number}"
        site.mkdir()
        shutil.copytree(folder / "truth" / "keys", site / "keys")
        if url is not None:
            emptied(url)
            (site / "site.toml").write_text(f'[engine]\ndatabase = "{url}"\n', encoding="utf-8")
        case = _received(folder, site)
        seen = storm(
            site,
            CASE,
            truth / "review",
            kills=min(KILLS_A_ROUND, options.kills - all_seen.kills.total()) if number else 0,
            seed=options.seed + number,
            workers=1 if url is None else 3,
            within_s=WITHIN_S,
            usual=usual,
            hits=all_seen.within(),
        )
        faults = [fault for trail in audit_site(site) for fault in trail.faults]
        found = [f"round {number}: {text}" for text in (*seen.wrong, *map(str, faults), *other_files(case, truth))]
        wrong += found
        calm_s = calm_s or seen.processor_s
        _add(all_seen, seen)
        number += 1
        told = f"{engine}: {all_seen.kills.total()} kills, {number} cases, {all_seen.seconds:.0f} s, wrong so far: {len(wrong)}"
        print(*found, told, sep="\n", file=sys.stderr, flush=True)
        if found:
            shutil.copytree(site, Path(tempfile.gettempdir()) / f"storm-{os.getpid()}-{engine}-{number - 1}", symlinks=True)
        shutil.rmtree(site)
    _print(engine, all_seen, number, calm_s)
    wrong += all_seen.spared() if options.kills >= ENOUGH else []
    print("  wrong: " + ("nothing" if not wrong else "; ".join(wrong)), flush=True)
    return not wrong


def _add(whole: Seen, seen: Seen) -> None:
    whole.kills += seen.kills
    whole.aims += seen.aims
    whole.looks += seen.looks
    whole.seconds += seen.seconds
    whole.processor_s += seen.processor_s


def _print(engine: str, seen: Seen, cases: int, calm_s: float) -> None:
    kills = max(seen.kills.total(), 1)
    each_s = (seen.processor_s - cases * calm_s) / kills
    print(f"{engine}: {seen.kills.total()} kills in {cases} cases, {seen.looks} looks at all results, {seen.seconds:.0f} s")
    print(f"  of a processor: {calm_s:.1f} s a case without kills, {each_s:.1f} s more for each kill")
    within = seen.within()
    for stage in STAGES:
        who = ", ".join(f"{kind} {seen.kills[f'{kind} in {stage}']}" for kind in ("child", "worker"))
        print(f"  in {stage:24} {within[stage]:4} of {seen.aims[f'in {stage}']:3} meant ({who})")
    print(f"  the engine               {seen.kills.total() - within.total():4}, {ENGINE:.0%} meant:")
    for what, count in sorted(seen.kills.items()):
        if " in " not in what:
            print(f"    {what:22} {count:4}")


def _received(folder: Path, site: Path) -> Path:
    _batchone(folder, "submit", folder / "sent" / "order.toml", folder / "sent" / "study", "--to", site)
    return site / "cases" / CASE


def _batchone(folder: Path, *words: object) -> None:
    environment = os.environ | {"BATCHONE_HOSPITAL": str(folder / "hospital")}
    command = [sys.executable, "-m", "batchone.pipeline", *map(str, words)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
