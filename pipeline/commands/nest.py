"""``batchone nest``: released jobs of many patients on one plate or in one cake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def nest(
    jobs: Annotated[list[Path], typer.Argument(help="Job folders.", metavar="JOB...")],
    machine: Annotated[str, typer.Option("--machine", help="Machine profile.")],
    out: Annotated[Path, typer.Option("--out", help="Site folder; the build goes to builds/<build-id> in it.")],
    partial: Annotated[bool, typer.Option("--partial", help="Leave out what has no room, due last first.")] = False,
    signers: Annotated[
        Path | None, typer.Option("--signers", help="allowed_signers of the jobs' sites; else the site's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, the rest on stderr.")] = False,
) -> None:
    """Verify released jobs, nest them, slice the whole, and write a signed build folder (exit 5 when they do not go together)."""
    from batchone.pipeline.build.folder import nest_jobs
    from batchone.pipeline.build.manifest import DEMONSTRATION

    made = nest_jobs(jobs, machine=machine, site=out, leave_out=partial, signers=signers)
    manifest = made.manifest
    for note in manifest.notes:
        typer.echo(note, err=True)
    left_out = [one.model_dump(mode="json") for one in manifest.left_out]
    if as_json:
        tree = {
            "build": manifest.build,
            "folder": str(made.folder),
            "jobs": len({one.job for one in manifest.instances}),
            "bodies": len(manifest.instances),
            "layers": manifest.plate.layers,
            "height_mm": manifest.plate.height_mm,
            "seconds": manifest.plate.seconds,
            "seconds_low": manifest.plate.seconds_low,
            "seconds_high": manifest.plate.seconds_high,
            "utilisation": manifest.plate.utilisation,
            "left_out": left_out,
            "demonstration": manifest.demonstration,
            "notes": list(manifest.notes),
        }
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
        return
    for one in manifest.instances:
        text = f'  "{one.engraved}"' if one.engraved else ""
        typer.echo(f"{one.number:3}  {one.case}  {one.part}{'  supports' if one.kind == 'supports' else ''}{text}")
    for left in manifest.left_out:
        typer.echo(f"no room: case {left.case}, job {left.job}, due {left.due.isoformat()}", err=True)
    plate = manifest.plate
    share = f"{100.0 * plate.utilisation:.1f} % of the {'cake' if manifest.clearances.measured == 'surfaces' else 'plate'}"
    hours = (
        f"about {plate.seconds / 3600.0:.1f} h, between {plate.seconds_low / 3600.0:.1f} and {plate.seconds_high / 3600.0:.1f} h"
    )
    typer.echo(f"{plate.layers} layers, {plate.height_mm:.1f} mm high, {share}, {hours}")
    if manifest.demonstration:
        typer.echo(DEMONSTRATION)
    typer.echo(f"Build folder: {made.folder}")
