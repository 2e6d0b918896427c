"""``batchone status``: where a case is, from the inbox to the job folder, read from the disk alone."""

from __future__ import annotations

import datetime as dt
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.errors import InputError, UnknownCaseError

if TYPE_CHECKING:
    from batchone.pipeline.clock.outlook import Outlook
    from batchone.pipeline.intake.inbox import Refusal

_NO_OUTLOOK: dict[str, Any] = {
    "device": None,
    "due": None,
    "probability": None,
    "last_safe_approval": None,
    "light": "none",
    "reason": "",
    "who": None,
    "waits_for": "",
    "last_event": None,
    "plan": [],
    "left_out": [],
}
"""The clock's part of the JSON document of a case that has no folder yet."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a case is.

    ``status`` is in-inbox, awaiting-order, received, in-progress, check-failed, awaiting-approval, awaiting-level, returned,
    rejected, cancelled, handed-over, done or refused.
    ``stages`` holds the seconds of each stage whose result is there; ``refusals`` the parcels of this case that were refused.
    """

    case: str
    status: str
    folder: Path | None = None
    stages: tuple[tuple[str, float], ...] = ()
    job: Path | None = None
    images: int | None = None
    warnings: tuple[str, ...] = ()
    returned: str | None = None
    refusals: tuple[Refusal, ...] = ()

    def tree(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "case": self.case,
            "status": self.status,
            "folder": None if self.folder is None else str(self.folder),
            "stages": dict(self.stages),
            "job": None if self.job is None else str(self.job),
            "images": self.images,
            "warnings": list(self.warnings),
            "returned": self.returned,
            "refusals": [{"parcel": one.digest, "reason": one.reason, "hint": one.hint} for one in self.refusals],
        }


def status(
    case: Annotated[str, typer.Argument(help="Case id, or path of the case folder.")],
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Say where a case is: in the inbox, received, which stages are done, its gates, who must act, where its job folder lies."""
    from batchone.pipeline.commands.gates import finding_tree, kept_findings, print_findings

    found = case_status(case, site or Path(os.environ.get("BATCHONE_SITE", "batchone-site")))
    told = None if found.folder is None else _outlook(found.folder)
    findings, odd = ((), ()) if found.folder is None else kept_findings(found.folder)
    for stage in odd:
        typer.echo(f"warning: findings in stage.json of {stage} cannot be read; run the case again", err=True)
    if as_json:
        gates = {"findings": [finding_tree(one) for one in findings]}
        tree = found.tree() | (_NO_OUTLOOK if told is None else told.tree()) | gates
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False))
        return
    typer.echo(f"Case {found.case}: {found.status}" + (f" ({found.returned})" if found.returned else ""))
    if told is not None:
        typer.echo("\n".join(told.lines()))
    print_findings(findings)
    if found.stages:
        typer.echo("Seconds per stage: " + "  ".join(f"{name} {seconds:.1f}" for name, seconds in found.stages))
    for text in found.warnings:
        typer.echo(f"warning: {text}")
    for one in found.refusals:
        typer.echo(f"refused parcel {one.digest[:12]}: {one.reason}\n  what to do: {one.hint}")
    if found.job is not None:
        typer.echo(f"Job folder: {found.job}")


def _outlook(folder: Path) -> Outlook | None:
    """What the clock of the case's site says; None where the folder is no site's."""
    from batchone.pipeline.clock.outlook import outlook
    from batchone.pipeline.commands.cases import site_cases

    now = dt.datetime.now(dt.UTC)
    return outlook(site_cases(folder.parent.parent, now), folder.name, now)


def case_status(case: str, site: Path) -> Status:
    """Where a case is; ``case`` is its id or its folder.

    Raises
    ------
    UnknownCaseError
        The site does not know it.
    """
    from batchone.pipeline.intake.inbox import Inbox
    from batchone.pipeline.intake.parcel_file import opened_parcel

    folder = Path(case)
    if (folder / "events.jsonl").is_file() or (folder / "order.toml").is_file():
        folder = folder.resolve()
        case, site = folder.name, folder.parent.parent
    else:
        _refuse_strange(case)
        folder = site / "cases" / case
    inbox = Inbox(site)
    refusals = tuple(one for one in inbox.refusals() if one.case == case)
    if folder.is_dir():
        return _of_folder(case, folder, refusals)
    for parcel in inbox.waiting():
        try:
            with opened_parcel(parcel) as (_, manifest):
                if manifest.case == case:
                    return Status(case, "in-inbox", images=manifest.images, warnings=tuple(manifest.warnings), refusals=refusals)
        except InputError:
            continue  # it will be refused when it is taken in
    if refusals:
        return Status(case, "refused", refusals=refusals)
    raise UnknownCaseError(
        f"case {case} is not known at this site", hint="check the id and --site; `batchone submit` brings a case to a site"
    )


def _refuse_strange(case: str) -> None:
    if Path(case).name != case or case in ("", ".", ".."):
        raise InputError("there is no case folder at this path", hint="give a case id with --site, or the path of a case folder")


def _of_folder(case: str, folder: Path, refusals: tuple[Refusal, ...]) -> Status:
    from batchone.pipeline.clock.folder import read_case, read_tree
    from batchone.pipeline.clock.state import standing

    files = read_case(folder)
    stands = standing(files, dt.datetime.now(dt.UTC))
    parcel = read_tree(folder / "parcel.json") or {}
    return Status(
        case,
        stands.state,
        folder,
        tuple((name, float(record["seconds"])) for name, record in files.records.items() if "seconds" in record),
        stands.job,
        parcel.get("images"),
        tuple(parcel.get("warnings", ())),
        stands.returned,
        refusals,
    )
