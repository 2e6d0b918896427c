"""What reads foreign files or loads much runs in a process of its own: it cannot take the server with it, nor fill its memory.

The process gets one JSON document on its standard input and gives one on its standard output; it never outlives its task.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path

from batchone.pipeline.errors import (
    BatchoneError,
    CheckFailed,
    DiskError,
    InputError,
    MachineError,
    ProcessingError,
    UnknownCaseError,
)
from batchone.pipeline.serve.records import shelve

_KINDS = (UnknownCaseError, InputError, CheckFailed, DiskError, MachineError, ProcessingError)  # the narrower one first


async def in_child(task: str, site: Path, **given: str) -> str:
    """Do one of the tasks below in a new process.

    Raises
    ------
    BatchoneError
        What the task raises; ProcessingError when its process died.
    """
    command = (sys.executable, "-m", "batchone.pipeline.serve.child", task)
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    try:
        said, _ = await process.communicate(json.dumps({"site": str(site), **given}).encode())
    except asyncio.CancelledError:  # the server ends: what is half done is made anew, everything appears by rename
        process.kill()
        await process.wait()
        raise
    if process.returncode != 0:
        raise ProcessingError(f"{task} ended with code {process.returncode}", hint="try again; report it when it happens again")
    told = json.loads(said)
    for kind in _KINDS:
        if told["kind"] == kind.__name__:
            raise kind(told["message"], hint=told["hint"])
    return str(told["value"])


def take_in(site: Path, digest: str) -> str:
    """Make a case of a parcel that waits in the inbox; see :func:`batchone.pipeline.intake.inbox.accept`. Returns its id."""
    from batchone.pipeline.intake.inbox import Inbox, accept

    return accept(site, Inbox(site).place(digest)).case


def approve(site: Path, case: str, who: str, device: str, passphrase: str, checked: str) -> str:
    """Sign an approval; see :func:`batchone.pipeline.case_approval.sign_case`. Returns who signed the one that counts."""
    from batchone.pipeline.case_approval import sign_case

    ticked = checked.split(",") if checked else []
    return sign_case(site, case, who=who, device=device, passphrase=passphrase, ticked=ticked).name


def send_back(site: Path, case: str, who: str, device: str, passphrase: str, why: str) -> str:
    """Return a case; see :func:`batchone.pipeline.case_answers.return_case`."""
    from batchone.pipeline.case_answers import return_case
    from batchone.pipeline.case_decisions import known_case

    return_case(known_case(site, case), who=who, why=why, device=device, passphrase=passphrase)
    return who


def reject(site: Path, case: str, who: str, device: str, passphrase: str, why: str) -> str:
    """Reject a case; see :func:`batchone.pipeline.case_answers.reject_case`."""
    from batchone.pipeline.case_answers import reject_case
    from batchone.pipeline.case_decisions import known_case

    reject_case(known_case(site, case), who=who, why=why, device=device, passphrase=passphrase)
    return who


def workshop(site: Path, case: str, who: str, step: str, job: str, machine: str, lot: str, reason: str) -> str:
    """Record a step; see :func:`batchone.pipeline.case_workshop.record_step`. Returns whether it is new."""
    from batchone.pipeline.case_workshop import record_step

    return "new" if record_step(site, case, step, who=who, job=job, machine=machine, lot=lot, reason=reason) else ""


def remake(site: Path, case: str, who: str, reason: str, job: str, by_cell: str) -> str:
    """Have a job made once more; see :func:`batchone.pipeline.case_workshop.remake`. Returns whether it is new."""
    from batchone.pipeline.case_workshop import remake as again

    return "new" if again(site, case, who=who, reason=reason, job=job, by_cell=bool(by_cell)) else ""


def waive(site: Path, case: str, who: str, check: str, reason: str, device: str, passphrase: str) -> str:
    """Let what failed in one check stand; see :func:`batchone.pipeline.case.waive_check`."""
    from batchone.pipeline.case import case_folder, waive_check
    from batchone.pipeline.case_order import read_case_order

    order = read_case_order(case_folder(site, case) / "order.toml")
    waive_check(site, order, check, who=who, reason=reason, passphrase=passphrase, device=device)
    return who


def read_plan(site: Path, device: str, name: str, text: str) -> str:
    """Read a plan that was moved in 3D Slicer; see :func:`batchone.pipeline.markups.order_file.plan_tables`.

    ``name`` is that of the file, empty where it has none that may be kept. Returns JSON: ``tables``, and what was ``left_out``.
    """
    import tempfile

    from batchone.pipeline.markups.order_file import plan_tables
    from batchone.pipeline.markups.read import left_out

    with tempfile.TemporaryDirectory(prefix="batchone-plan-") as folder:
        file = Path(folder) / (name or ".mrk.json")
        file.write_text(text, encoding="utf-8")
        return json.dumps({"tables": plan_tables([("", file)], device), "left_out": left_out(file)})


def comment(site: Path, case: str, who: str, device: str, text: str) -> str:
    """Keep a comment on the device of a case; see :func:`batchone.pipeline.case_comments.comment`."""
    from batchone.pipeline.case_comments import comment as kept

    kept(site, case, who=who, device=device, text=text)
    return who


def cancel(site: Path, case: str, who: str, reason: str, passphrase: str) -> str:
    """End a case; see :func:`batchone.pipeline.case_decisions.decide`. Returns whether it is new."""
    from batchone.pipeline.case_decisions import decide

    return "new" if decide(site, case, "cancel", who=who, reason=reason, passphrase=passphrase)[1] else ""


def revise(site: Path, case: str, who: str, reason: str, passphrase: str) -> str:
    """Open a case for changes again; as :func:`cancel`."""
    from batchone.pipeline.case_decisions import decide

    return "new" if decide(site, case, "revise", who=who, reason=reason, passphrase=passphrase)[1] else ""


TASKS: dict[str, Callable[..., str]] = {"take-in": take_in, "approve": approve, "return": send_back, "reject": reject}
TASKS |= {"waive": waive, "workshop": workshop, "remake": remake, "cancel": cancel, "revise": revise}
TASKS |= {"read-plan": read_plan, "comment": comment, "shelve": shelve}


def main() -> None:
    """Do the task that the command line names, with what the standard input gives."""
    given = json.load(sys.stdin)
    site = Path(given.pop("site"))
    try:
        told = {"kind": "", "value": TASKS[sys.argv[1]](site, **given)}
    except BatchoneError as error:
        kind = next(kind.__name__ for kind in (*_KINDS, BatchoneError) if isinstance(error, kind))
        told = {"kind": kind, "message": str(error), "hint": error.hint}
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
