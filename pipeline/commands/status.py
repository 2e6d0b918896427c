"""``batchone status``: where a case is, from the inbox to the job folder, read from the disk alone."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.errors import InputError
from batchone.pipeline.findings import LEVEL_CONFIRMED

if TYPE_CHECKING:
    from batchone.pipeline.intake.inbox import Refusal

_TO_THE_ARCHIVE = "batchone return"  # who in the events of a job that was sent to the archive: the case is as it was
_JOB = "job"  # folder of the last stage, whose name is package


@dataclass(frozen=True, slots=True)
class Status:
    """Where a case is.

    ``status`` is in-inbox, awaiting-order, received, in-progress, check-failed, awaiting-approval, awaiting-level, returned,
    rejected, done or refused.
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
    """Say where a case is: in the inbox, received, which stages are done, who must act, or where its job folder lies."""
    found = case_status(case, site or Path(os.environ.get("BATCHONE_SITE", "batchone-site")))
    if as_json:
        typer.echo(json.dumps(found.tree(), indent=1, ensure_ascii=False))
        return
    typer.echo(f"Case {found.case}: {found.status}" + (f" ({found.returned})" if found.returned else ""))
    if found.stages:
        typer.echo("Seconds per stage: " + "  ".join(f"{name} {seconds:.1f}" for name, seconds in found.stages))
    for text in found.warnings:
        typer.echo(f"warning: {text}")
    for one in found.refusals:
        typer.echo(f"refused parcel {one.digest[:12]}: {one.reason}\n  what to do: {one.hint}")
    if found.job is not None:
        typer.echo(f"Job folder: {found.job}")


def case_status(case: str, site: Path) -> Status:
    """Where a case is; ``case`` is its id or its folder.

    Raises
    ------
    InputError
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
    raise InputError(
        f"case {case} is not known at this site", hint="check the id and --site; `batchone submit` brings a case to a site"
    )


def _refuse_strange(case: str) -> None:
    if Path(case).name != case or case in ("", ".", ".."):
        raise InputError("there is no case folder at this path", hint="give a case id with --site, or the path of a case folder")


def _of_folder(case: str, folder: Path, refusals: tuple[Refusal, ...]) -> Status:
    from batchone.pipeline.stages import STAGES

    records = {
        stage.name: record
        for stage in STAGES
        if (record := _read(folder / (_JOB if stage.gives == "JobFolder" else stage.name) / "stage.json")) is not None
    }
    parcel = _read(folder / "parcel.json") or {}
    job = _job(folder, records)
    returned, rejected = _answered(folder, "returned: "), _answered(folder, "rejected: ")
    if _awaits_level(records.get("segment", {})):
        state, job = "awaiting-level", None  # a job that is there was made before
    elif job is not None:
        state = "done"
    elif rejected is not None:
        state = "rejected"
    elif returned is not None:
        state = "returned"
    elif not records:
        state = "received" if (folder / "order.toml").is_file() else "awaiting-order"
    elif "check" not in records:
        state = "in-progress"
    elif _fails(records["check"]):
        state = "check-failed"
    else:
        state = "in-progress" if _approved(records) else "awaiting-approval"
    return Status(
        case,
        state,
        folder,
        tuple((name, float(record["seconds"])) for name, record in records.items() if "seconds" in record),
        job,
        parcel.get("images"),
        tuple(parcel.get("warnings", ())),
        returned or rejected,
        refusals,
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return tree if isinstance(tree, dict) else None


def _approved(records: dict[str, Any]) -> bool:
    """Whether the approval is for the device that is there now."""
    taken = records.get("review", {}).get("taken", {})
    return bool(taken) and taken.get("CheckedDevice") == records["check"].get("value_digest")


def _job(folder: Path, records: dict[str, Any]) -> Path | None:
    """The job folder that was made of the device and the approval that are there now."""
    value = _read(folder / _JOB / "value.json")
    if value is None or "package" not in records or "check" not in records or not _approved(records):
        return None
    taken = records["package"].get("taken", {})
    if taken.get("CheckedDevice") != records["check"].get("value_digest"):
        return None
    return folder / str(value["folder"])


def _awaits_level(record: dict[str, Any]) -> bool:
    """Whether a person must still say which level of the spine is meant."""
    findings = record.get("findings", {})
    items = findings.get("$tuple", []) if isinstance(findings, dict) else []
    return any(item.get("check") == LEVEL_CONFIRMED and item.get("verdict") == "fail" for item in items)


def _fails(record: dict[str, Any]) -> bool:
    findings = record.get("findings", {})
    items = findings.get("$tuple", []) if isinstance(findings, dict) else []
    return any(item.get("verdict") == "fail" for item in items)


def _answered(folder: Path, answer: str) -> str | None:
    """Why the reviewer sent the device back or ended the case, where that is the last thing that happened."""
    try:
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = (json.loads(line) for line in reversed(lines))
        last: dict[str, Any] = next((one for one in events if one.get("who") != _TO_THE_ARCHIVE), {})
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    what = str(last.get("what", ""))
    return what.removeprefix(answer) if what.startswith(answer) else None
