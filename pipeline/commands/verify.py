"""``batchone verify``: is a job or a build the one that was released, and does it still count? Is a device record whole?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def verify(
    job: Path,
    signers: Annotated[
        Path | None, typer.Option("--signers", help="allowed_signers file, or a key folder: of a record that of its cell.")
    ] = None,
    withdrawn: Annotated[
        Path | None, typer.Option("--withdrawn", help="The site's list of withdrawn jobs (outbox/withdrawn.json), or its folder.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Re-read every file of a job, build or device record, re-measure meshes, check signatures (exit 5 when anything is off)."""
    if (job / "as-built.json").is_file():
        _record(job, signers, as_json=as_json)
        return
    from batchone.pipeline.build.verify import is_build, verify_build
    from batchone.pipeline.job.verify import allowed_of, verify_job
    from batchone.pipeline.job.withdrawal import read_withdrawn

    kind, check = ("build", verify_build) if is_build(job) else ("job", verify_job)
    listed = () if withdrawn is None else read_withdrawn(withdrawn, allowed_of(signers))
    report = check(job, signers=signers, withdrawn=listed)
    tree = {
        "ok": report.ok,
        kind: report.job_id,
        "problems": [{"kind": p.kind, "file": p.file, "text": p.text} for p in report.problems],
    }
    lines = [f"{p.kind}: {p.file}: {p.text}" for p in report.problems] or [
        f"{kind} {report.job_id} is whole, unchanged and signed"
    ]
    lines += report.notes
    if withdrawn is None:
        lines.append("withdrawals not checked: no --withdrawn given")
    typer.echo(json.dumps(tree, indent=1, ensure_ascii=False) if as_json else "\n".join(lines))
    if not report.ok:
        raise typer.Exit(5)


def _record(record: Path, signers: Path | None, *, as_json: bool) -> None:
    """A closed record of a cell: its files, signatures of cell and people, and that it says what its files say."""
    from batchone.factory.record import record_signers, verify_record
    from batchone.pipeline.errors import MachineError
    from batchone.pipeline.job.signature import read_allowed_signers

    allowed = None
    if signers is not None:
        allowed = record_signers(signers) if signers.is_dir() else read_allowed_signers(signers)
    problems = []
    try:
        found = verify_record(record, allowed=allowed)
        line = f"record {record.name} is whole, unchanged and signed: {found.verdict} {found.reason}".rstrip()
    except (MachineError, OSError) as error:
        line = f"off: {record.name}: {error}"
        problems = [{"kind": "off", "file": "record.json", "text": str(error)}]
    tree = {"ok": not problems, "record": record.name, "problems": problems}
    lines = [line] if allowed is not None else [line, "signer not checked: no allowed_signers given"]
    typer.echo(json.dumps(tree, indent=1, ensure_ascii=False) if as_json else "\n".join(lines))
    if problems:
        raise typer.Exit(5)
