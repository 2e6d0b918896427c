"""The reports of a released job: the one for the cell as a page with the pictures, both as PDF; of withdrawn jobs too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Response
from fastapi import Path as Part

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.report_rows import build_rows
from batchone.pipeline.job.sums import PRINTED_FROM, SUMS
from batchone.pipeline.job.withdrawal import read_decisions, withdrawn_by
from batchone.pipeline.revisions import revisions
from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.shell import shown
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.serve.routes.case_routes import CaseId
from batchone.pipeline.serve.services import Services

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)

_PAPERS = ("build-report.pdf", "clinical-report.pdf")
JobId = Annotated[str, Part(pattern=r"^[0-9a-f]{16}$")]
Name = Annotated[str, Part(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,80}\.(png|pdf)$")]


@dataclass(frozen=True, slots=True)
class KeptJob:
    """A job folder of a case: the number of its revision, and whether it was withdrawn: revised, cancelled or handed over."""

    revision: int
    folder: Path
    withdrawn: bool


def jobs_of(case: Path) -> tuple[KeptJob, ...]:
    """The job folders of a case, the last one first; those of a revised device lie with its revision."""
    kept, gone = revisions(case), {one.job for one in withdrawn_by(read_decisions(case))}
    standing = [KeptJob(kept[-1].number if kept else 0, path, path.name in gone) for path in _jobs(case / "job")]
    return (*standing, *(KeptJob(one.number, path, True) for one in reversed(kept) for path in _jobs(one.folder / "job")))


@router.get("/review/{case}/report/{job}")
def report(case: CaseId, job: JobId, who: Who, parts: Parts) -> Response:
    """What the report for the cell says, with every picture of the job."""
    found = _found(case, job, who, parts)
    folder = found.folder
    try:
        manifest = read_manifest((folder / "job.json").read_bytes())
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (MachineError, OSError, UnicodeDecodeError) as error:
        raise Refusal(409, f"job {job} cannot be read", hint="batchone verify says what is wrong with it") from error
    files = {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name.endswith(PRINTED_FROM)}
    pictures = sorted(path.name for path in (folder / "pictures").glob("*.png"))
    rows = build_rows(manifest, files)
    papers = [name for name in _PAPERS if (folder / name).is_file()]
    told: dict[str, Any] = {"rows": rows, "pictures": pictures, "papers": papers, "withdrawn": found.withdrawn}
    return shown("report.html", who, case=case, job=job, **told)


@router.get("/review/{case}/report/{job}/{name}")
def paper(case: CaseId, job: JobId, name: Name, who: Who, parts: Parts) -> Response:
    """One of the two reports as PDF, or a picture of the job."""
    folder = _found(case, job, who, parts).folder
    is_paper = name in _PAPERS
    try:
        data = (folder / name if is_paper else folder / "pictures" / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise unknown("file") from None
    if not is_paper:
        return Response(data, media_type="image/png")
    headers = {"Content-Disposition": f'attachment; filename="{case}-{job}-{name}"'}
    return Response(data, media_type="application/pdf", headers=headers)


def _found(case: str, job: str, who: Actor, parts: Services) -> KeptJob:
    """A job, for somebody who may see it: a hospital its released one alone."""
    view = parts.cases.shown(case, who)
    found = [one for one in jobs_of(parts.cases.folder(case)) if one.folder.name == job]
    if not found or not (who.roles & {"engineer", "approver"} or (view.job is not None and view.job.name == job)):
        raise unknown("job")
    return found[0]


def _jobs(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"[0-9a-f]*/{SUMS}"))
