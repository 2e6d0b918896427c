"""``batchone cancel``, ``revise`` and ``hand-over``: a person ends a case, opens an approved one, or gives it to another site."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from batchone.pipeline.case_decisions import What
    from batchone.pipeline.values import Decision

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


def hand_over(
    case: _Case,
    to: Annotated[Path, typer.Option("--to", help="The other site's folder, or a file with the line of its keys/release.pub.")],
    reason: _Reason,
    who: _Who,
    site: _Site = None,
) -> None:
    """Hand a case over to another site, which makes its own device: here it ends, and what was released is withdrawn."""
    from batchone.pipeline.case_decisions import known_case
    from batchone.pipeline.case_handover import hand_over as give

    folder = _folder(site)
    known_case(folder, case)
    given = give(folder, case, to=to, who=who, reason=reason, passphrase=_passphrase(folder, who))
    _tell(folder, given.decision, new=given.new)
    typer.echo(f"{'Case folder' if to.is_dir() else 'Parcel for the other site'}: {given.place}")


def _decide(what: What, case: str, reason: str, who: str, site: Path | None) -> None:
    from batchone.pipeline.case_decisions import decide, known_case

    folder = _folder(site)
    known_case(folder, case)
    decision, new = decide(folder, case, what, who=who, reason=reason, passphrase=_passphrase(folder, who))
    _tell(folder, decision, new=new)


def _folder(site: Path | None) -> Path:
    return site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))


def _passphrase(site: Path, who: str) -> str | None:
    """Asked for before the case is held."""
    from batchone.pipeline.job.signature import DEMONSTRATOR, KEYS, approver_passphrase

    return None if who == DEMONSTRATOR else approver_passphrase(site / KEYS, who)


def _tell(site: Path, decision: Decision, *, new: bool) -> None:
    from batchone.pipeline.job.withdrawal import LIST, OUTBOX, PAST

    done = f"case {decision.case}: {PAST[decision.what]} by {decision.name}"
    typer.echo(f"{done}{'' if new else ', as decided before'}", err=True)
    for job, _ in decision.jobs:
        typer.echo(f"withdrawn: job {job}; give {site / OUTBOX / LIST} to whoever has it", err=True)
