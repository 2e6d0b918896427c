"""``batchone backup`` and ``batchone restore``: a site in one file, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from batchone.pipeline.errors import MachineError


def backup(
    to: Annotated[Path, typer.Option("--to", help="The file to write; must not be there.")],
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
) -> None:
    """Write cases, builds, keys, events and settings of a site into one file, while cases run; read it back."""
    from batchone.pipeline.backup import back_up

    done = back_up(site or Path(os.environ.get("BATCHONE_SITE", "batchone-site")), to)
    cases = len(done.backup.cases)
    typer.echo(
        f"{to}: {cases} cases, {done.files} files, {done.size_bytes / 1e6:.1f} MB, read back; it holds the keys: keep it safe"
    )
    typer.echo(f"Head of the site's events: {done.backup.events_head}")


def restore(
    archive: Annotated[Path, typer.Argument(help="What `batchone backup` wrote.")],
    site: Annotated[Path, typer.Option("--site", help="Where the site is to be; must not be there, or be empty.")],
) -> None:
    """Make a site of a backup, with every digest checked and its record audited (exit 5 when that is broken)."""
    from batchone.pipeline.backup import restore as restored

    done, faults = restored(archive, site)
    typer.echo(f"{site}: {len(done.backup.cases)} cases, {done.files} files, as of {done.backup.made}; every digest agrees")
    if faults:
        first = faults[0]
        raise MachineError(
            f"the site is restored, and its record is broken in {len(faults)} places: {first.file}: {first.text}",
            hint=f"it was so when it was backed up: batchone audit --site {site}",
        )
