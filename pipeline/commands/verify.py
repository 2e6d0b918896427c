"""``batchone verify``: is a job or a build the one that was released, and does it still count?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def verify(
    job: Path,
    signers: Annotated[Path | None, typer.Option("--signers", help="allowed_signers file of the cell.")] = None,
    withdrawn: Annotated[
        Path | None, typer.Option("--withdrawn", help="The site's list of withdrawn jobs (outbox/withdrawn.json), or its folder.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Re-read every file of a job or build folder, re-measure every mesh, check the signature (exit 5 when anything is off)."""
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
