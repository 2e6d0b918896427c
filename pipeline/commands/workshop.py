"""``batchone workshop`` and ``batchone remake``: what happens to a released job after it left for the workshop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

_Case = Annotated[str, typer.Argument(help="Case id.")]
_Site = Annotated[Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")]


def workshop(
    case: _Case,
    step: Annotated[
        str,
        typer.Argument(
            help="print-started, print-done, print-failed, post-processing-done, inspection-done, sterilisation-done, delivered."
        ),
    ],
    who: Annotated[str, typer.Option("--as", help="Who did it.")],
    machine: Annotated[str, typer.Option("--machine", help="The machine.")] = "",
    lot: Annotated[str, typer.Option("--lot", help="Lot of the material, or of the sterilisation.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why a print failed.")] = "",
    job: Annotated[str, typer.Option("--job", help="Id of the job in hand: refused when it is not the released one.")] = "",
    site: _Site = None,
) -> None:
    """Record a step of the workshop: who, when, which machine and lot; said twice, it stands once."""
    from batchone.pipeline.case_workshop import record_step

    new = record_step(_folder(site), case, step, who=who, job=job, machine=machine, lot=lot, reason=reason)
    typer.echo(f"case {case}: {step}{'' if new else ', as recorded before'}", err=True)


def remake(
    case: _Case,
    reason: Annotated[str, typer.Option("--reason", help="What is wrong with the part.")],
    who: Annotated[str, typer.Option("--as", help="Who says so.")],
    site: _Site = None,
) -> None:
    """Say that the released job is to be made once more, as it is: it queues again, and the clock's plan with it."""
    from batchone.pipeline.case_workshop import remake as again

    again(_folder(site), case, who=who, reason=reason)
    typer.echo(f"case {case}: to be made once more", err=True)


def _folder(site: Path | None) -> Path:
    return site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
