"""``batchone cancel`` and ``batchone revise``: a person ends a case, or opens an approved one for changes again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from batchone.pipeline.case_decisions import What

_Case = Annotated[str, typer.Argument(help="Case id.")]
_Reason = Annotated[str, typer.Option("--reason", help="Why; it stands in the events.")]
_Who = Annotated[str, typer.Option("--as", help="Who decides; signed with their key.")]
_Site = Annotated[Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")]


def cancel(case: _Case, reason: _Reason, who: _Who, site: _Site = None) -> None:
    """End a case for good: nothing runs or is approved any more, and what was released is withdrawn."""
    _decide("cancel", case, reason, who, site)


def revise(case: _Case, reason: _Reason, who: _Who, site: _Site = None) -> None:
    """Withdraw an approval and what was released by it, and open the case for changes: the next approval makes another job."""
    _decide("revise", case, reason, who, site)


def _decide(what: What, case: str, reason: str, who: str, site: Path | None) -> None:
    from batchone.pipeline.case_decisions import decide, known_case
    from batchone.pipeline.job.signature import DEMONSTRATOR, KEYS, approver_passphrase
    from batchone.pipeline.job.withdrawal import LIST, OUTBOX, PAST

    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    known_case(folder, case)
    passphrase = None if who == DEMONSTRATOR else approver_passphrase(folder / KEYS, who)  # asked for before the case is held
    decision, new = decide(folder, case, what, who=who, reason=reason, passphrase=passphrase)
    typer.echo(f"case {case}: {PAST[what]} by {decision.name}{'' if new else ', as decided before'}", err=True)
    for job, _ in decision.jobs:
        typer.echo(f"withdrawn: job {job}; give {folder / OUTBOX / LIST} to whoever has it", err=True)
