"""``batchone doctor``: can this installation, and this site, do its work?"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchone.pipeline.errors import MachineError

if TYPE_CHECKING:
    from batchone.pipeline.diagnosis import Check


def doctor(
    warm: Annotated[bool, typer.Option("--warm", help="Compile and cache the kernels.")] = False,
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site where it is there.")
    ] = None,
    retention: Annotated[
        bool, typer.Option("--apply-retention", help="Remove what [retention] of site.toml says is kept no longer.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Forget the engine's tables; workers make them anew from the case folders.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """Say whether this installation and its site can do their work, and what to do where not (exit 5)."""
    from batchone.pipeline.diagnosis import diagnose
    from batchone.pipeline.site_diagnosis import diagnose_site

    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    if site is not None and not site.is_dir():
        raise MachineError(f"there is no site at {site}", hint="give the folder that `run --out` or `receive --to` named")
    now = dt.datetime.now(dt.UTC)
    checks = diagnose(warm=warm)
    if folder.is_dir():
        checks += diagnose_site(folder, now=now)
        if rebuild:
            checks += _rebuilt(folder)
        if retention:
            checks += _retention(folder, now)
    healthy = not any(check.state == "broken" for check in checks)
    if as_json:
        tree = {"healthy": healthy, "checks": [dataclasses.asdict(check) for check in checks]}
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
    else:
        typer.echo("\n".join(f"{'' if check.state == 'ok' else check.state + ': '}{check.line}" for check in checks))
    if not healthy:
        raise typer.Exit(5)


def _rebuilt(site: Path) -> tuple[Check, ...]:
    from batchone.pipeline.diagnosis import Check
    from batchone.pipeline.engine.rebuild import rebuild

    return (Check("engine", "ok", rebuild(site)),)


def _retention(site: Path, now: dt.datetime) -> tuple[Check, ...]:
    from batchone.pipeline.config import read_site_settings
    from batchone.pipeline.diagnosis import Check
    from batchone.pipeline.retention import apply_retention

    removed = apply_retention(site, read_site_settings(site).retention, now=now)
    told = [
        Check("retention", "ok", f"{one.what} of case {one.case} removed: {one.files} files, {one.size_bytes / 1e6:.1f} MB")
        for one in removed
    ]
    return tuple(told) or (Check("retention", "ok", "nothing is to be removed"),)
