"""A site's steps on a file system with less and less room; a program of its own, for the file system is one that it mounts.

    unshare --mount [--map-root-user] python disk_full_site.py FOLDER PARCEL

Prints one JSON document: for each step how often the disk was full before there was room, and what was wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from batchone.pipeline import codec
from batchone.pipeline.case_approval import sign_case
from batchone.pipeline.case_decisions import decide
from batchone.pipeline.case_order import order_digest, read_case_order
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import chain_head, read_chain
from batchone.pipeline.intake.inbox import Inbox, accept
from batchone.pipeline.job import key_file
from batchone.pipeline.revisions import keep_revision
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import CheckedDevice, Device

SIZE, PAGE = 4 << 20, 4096
FINE = 12  # so many pages of room are tried one by one, then twice as many each time
STARTED = "2026-01-01T00:00:00+00:00"
WHO = {"who": "eva", "passphrase": "a word of a full disk"}


def main(folder: Path, parcel: Path) -> None:
    """Mount a small file system and run each step with ever more room, until it is done."""
    key_file.KDF_ROUNDS = 1
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)], check=True)
    site = folder / "site"
    Inbox(site).make()
    waiting = Inbox(site).place(parcel.stem)
    shutil.copyfile(parcel, waiting)
    case = site / "cases" / "case-0001"
    checked = CheckedDevice(Device("anatomical-model", ()), ())
    device = codec.digest(checked)

    def check() -> None:
        def write(into: Path) -> dict[str, object]:
            codec.save(checked, into)
            return {"seconds": 1.0, "started": STARTED, "taken": {}, "value_digest": device, "findings": {"$tuple": []}}

        with CaseFolder(case).locked():
            CaseFolder(case).publish("check", write)
            keep_revision(CaseFolder(case), order_digest(read_case_order(case / "order.toml")))

    steps: dict[str, Callable[[], object]] = {
        "accept": lambda: accept(site, waiting),
        "check": check,
        "approve": lambda: sign_case(site, case.name, device=device, ticked=None, **WHO),
        "revise": lambda: decide(site, case.name, "revise", reason="too thick", **WHO),
        "approve again": lambda: sign_case(site, case.name, device=device, ticked=None, **WHO),
    }
    told = {name: _squeezed(folder, case, step) for name, step in steps.items()}
    found = {
        "full": {name: full for name, (full, _) in told.items()},
        "wrong": [one for _, wrong in told.values() for one in wrong],
    }
    sys.stdout.write(json.dumps(found))


def _squeezed(folder: Path, case: Path, step: Callable[[], object]) -> tuple[int, list[str]]:
    ballast, full, wrong = folder / "ballast", 0, []
    while True:
        room = PAGE * (full if full <= FINE else FINE << (full - FINE))
        state = os.statvfs(folder)
        ballast.write_bytes(bytes(max(state.f_bavail * state.f_frsize - room, 0)))
        try:
            step()
        except MachineError as error:
            if "disk full" not in str(error) or "space" not in error.hint:
                wrong.append(f"told: {error}; {error.hint}")
        else:
            ballast.unlink()
            return full, wrong + _half(case)
        ballast.unlink()
        wrong += _half(case)
        full += 1


def _half(case: Path) -> list[str]:
    """What of a case can be read and is not whole."""
    if not case.exists():
        return []
    found = CaseFolder(case)
    wrong = [] if chain_head(case / "events.jsonl") is not None or read_chain(case / "events.jsonl").torn_bytes else ["chain"]
    for stage in ("check", "review"):
        record = found.record(stage)
        if (case / stage).exists() and (record is None or not found.intact(stage, record)):
            wrong.append(f"{stage} is half")
    return wrong


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
