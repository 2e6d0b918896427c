"""``batchone audit``: the record of a case or of the site, verified and printed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.errors import MachineError

if TYPE_CHECKING:
    from batchone.pipeline.audit import Signature, Trail

_DIGITS = 12  # of a digest, as people see it


def audit(
    case: Annotated[
        str | None, typer.Argument(help="Case id, or path of the case folder; without it the site and all cases.")
    ] = None,
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Verify who did what when: chains of events and signatures; prints them, or ends with exit 5 at the first broken line."""
    from batchone.pipeline.audit import audit_case, audit_site

    root = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    if case is None:
        trails = audit_site(root)
    else:
        if (Path(case) / "events.jsonl").is_file():
            folder = Path(case).resolve()
            case, root = folder.name, folder.parent.parent
        trails = (audit_case(root, case),)
    typer.echo(json.dumps(_tree(trails), indent=1, ensure_ascii=False) if as_json else "\n".join(_lines(trails)))
    faults = [fault for trail in trails for fault in trail.faults]
    if faults:
        first = faults[0]
        where = first.file if first.line is None else f"{first.file}, line {first.line}"
        raise MachineError(
            f"the record is broken in {len(faults)} places, must be 0; first: {where}: {first.text}",
            hint="leave the site as it is, and compare it with its last backup: `batchone restore` into another folder",
        )


def _lines(trails: tuple[Trail, ...]) -> list[str]:
    lines = []
    for trail in trails:
        state = f"broken: {trail.faults[0].text}" if trail.faults else "whole"
        count = len(trail.chain.events)
        lines.append(f"{trail.name or 'site'}: {count} events, {state}; head {trail.chain.head}")
        if trail.chain.torn_bytes:
            lines.append(f"  a crash cut the last line off ({trail.chain.torn_bytes} bytes); the next event will say so")
        if trail.name is None or len(trails) == 1:
            lines += [
                f"  {event.when[:19]}  {event.who}: {event.what}{f' ({event.meaning})' if event.meaning else ''}"
                f"{f'  [{event.digest[:_DIGITS]}]' if event.digest else ''}"
                for event in trail.chain.events
            ]
        lines += [_signature_line(signature) for signature in trail.signatures]
    return lines


def _signature_line(signature: Signature) -> str:
    kind = f"demonstration, no {signature.kind}" if signature.demonstration else signature.kind
    words = f"{signature.name}, {signature.time}: {signature.meaning}; {signature.about}"
    return f"  signed ({kind}): {words}; the signature {'holds' if signature.holds else 'DOES NOT HOLD'}"


def _tree(trails: tuple[Trail, ...]) -> dict[str, Any]:
    return {
        "ok": not any(trail.faults for trail in trails),
        "trails": [
            {
                "case": trail.name,
                "head": trail.chain.head,
                "count": len(trail.chain.events),
                "torn_bytes": trail.chain.torn_bytes,
                "events": [dataclasses.asdict(event) for event in trail.chain.events],
                "signatures": [dataclasses.asdict(signature) for signature in trail.signatures],
                "faults": [dataclasses.asdict(fault) for fault in trail.faults],
            }
            for trail in trails
        ],
    }
