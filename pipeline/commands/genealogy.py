"""``batchone trace``: which devices a case, lot, machine, time window or UDI leads to, and what went into each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.errors import InputError, MachineError

if TYPE_CHECKING:
    from batchone.factory.genealogy import Ancestry, Trace


def trace(
    key: Annotated[
        str,
        typer.Argument(help="Case, job, record, lot, machine or its serial number, person, UDI, UID of an image, or FROM..TO."),
    ],
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    records: Annotated[
        list[Path] | None, typer.Option("--records", help="Folder of device records; default records/ of the site.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Find device records both ways: which devices saw a lot or a machine, and what went into a device."""
    from batchone.factory.dispatch import RECORDS
    from batchone.factory.genealogy import trace as find

    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    found = find(key, folder, records or [folder / RECORDS])
    typer.echo(json.dumps(_tree(found), indent=1, ensure_ascii=False) if as_json else "\n".join(_lines(found)))
    for text in found.unread:
        typer.echo(f"cannot be read: {text}", err=True)
    if found.unread:
        raise MachineError(f"{len(found.unread)} records cannot be read, must be 0", hint="fetch them again from their cell")
    if not found.devices:
        raise InputError(f"no device record knows {key}", hint="see `batchone trace --help` for what may be looked for")


def _tree(found: Trace) -> dict[str, Any]:
    return {
        "key": found.key,
        "found_as": list(found.found_as),
        "devices": [_device(one) for one in found.devices],
        "unread": list(found.unread),
    }


def _device(one: Ancestry) -> dict[str, Any]:
    from batchone.factory.genealogy import Source

    record, built = one.record, one.record.as_built
    only = one.sources[0] if len(one.sources) == 1 else Source("", "")  # of several none is the one
    return {
        "record": f"{record.name}-{record.attempt}",
        "verdict": record.verdict,
        "reason": record.reason,
        "demonstration": record.demonstration,
        "udi": record.udi,
        "bodies": [{"case": body.case, "job": body.job, "part": body.part} for body in built.bodies],
        "cell": built.cell,
        "machine": built.serial,
        "material": built.lot.material,
        "lot": built.lot.lot,
        "facts": dict(built.facts),
        "calibrations": [{"name": one.name, "due": one.due.isoformat()} for one in built.calibrations],
        "started": built.started.isoformat(),
        "ended": built.ended.isoformat(),
        "signed_by": sorted({step.name for step in record.steps}),
        "sums_sha256": built.sums_sha256,
        "images": only.images,
        "scan_sources_digest": only.digest,
        "scans": [{"case": it.case, "job": it.job, "images": it.images, "scan_sources_digest": it.digest} for it in one.sources],
    }


def _lines(found: Trace) -> list[str]:
    lines = [f"{found.key}: {', '.join(found.found_as) or 'not known'}; {len(found.devices)} records"]
    for one in found.devices:
        tree = _device(one)
        lines += [
            f"{tree['record']}  {tree['verdict']}{': ' + tree['reason'] if tree['reason'] else ''}",
            f"  made      {tree['started'][:16]} to {tree['ended'][:16]} on {tree['machine']} of cell {tree['cell']}",
            f"  of        {tree['material']}, lot {tree['lot']}" + "".join(f"; {k}: {v}" for k, v in tree["facts"].items()),
            "  for       " + "; ".join(f"case {b['case']}, job {b['job']}, {b['part']}" for b in tree["bodies"]),
        ]
        for scan in tree["scans"]:
            if scan["images"] is not None:
                text = f"{scan['images']} images, digest of their UIDs {scan['scan_sources_digest'][:12]}"
                lines.append(f"  from      {text}" + (f", case {scan['case']}" if len(tree["bodies"]) > 1 else ""))
        if tree["udi"]:
            lines.append(f"  UDI       {tree['udi']}; signed by {', '.join(tree['signed_by'])}")
    return lines
