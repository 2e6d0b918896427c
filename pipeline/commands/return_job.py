"""``batchone return``: a job's DICOM objects into the hospital's archive, under the patient they belong to."""

from __future__ import annotations

import json
import logging
import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchone.pipeline.errors import InputError, MachineError

if TYPE_CHECKING:
    from batchone.pipeline.hospital.giveback import Progress, Returned, Target

_TO = "DICOMweb address or AE@HOST:PORT; may be repeated: what one does not take goes to the next, DICOMweb first."
_WITHOUT = "Leave out: segmentation, model or report; may be repeated."


def return_job(
    job: Annotated[Path, typer.Argument(help="The job folder.")],
    to: Annotated[list[str], typer.Option("--to", help=_TO)],
    keep: Annotated[Path | None, typer.Option("--keep", help="Hospital's keep; default $BATCHONE_HOSPITAL.")] = None,
    without: Annotated[list[str] | None, typer.Option("--without", help=_WITHOUT)] = None,
    signers: Annotated[Path | None, typer.Option("--signers", help="allowed_signers file of the site.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="DICOMweb user; password in $BATCHONE_DICOMWEB_PASSWORD.")] = None,
    title: Annotated[str, typer.Option("--aet", help="Our AE title.")] = "BATCHONE",
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS with an AE.")] = False,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Our TLS certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    tls_ca: Annotated[Path | None, typer.Option("--tls-ca", help="Authority (PEM) of the archive's certificate.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, the rest on stderr.")] = False,
) -> None:
    """Verify a job, put the hospital's own names and UIDs back, and store its objects in the archive."""
    from batchone.pipeline.hospital.giveback import give_back

    targets = _targets(to, user=user, title=title, tls=tls, files=(tls_cert, tls_key, tls_ca))
    with _silent_libraries(), _bar(as_json=as_json) as progress:
        returned = give_back(job, targets, keep=keep, without=_kinds(without), signers=signers, progress=progress)
    _tell(returned, as_json=as_json)
    if not returned.complete:
        raise typer.Exit(MachineError.exit_code)


def _targets(
    to: list[str], *, user: str | None, title: str, tls: bool, files: tuple[Path | None, Path | None, Path | None]
) -> list[Target]:
    from batchone.pipeline.hospital.store_scu import Peer, parse_peer
    from batchone.pipeline.hospital.stow import PASSWORD_VARIABLE, TOKEN_VARIABLE, WebServer
    from batchone.pipeline.hospital.tls import client_tls

    if (files[0] is None) != (files[1] is None):
        raise InputError("TLS needs a certificate and its key, one is missing", hint="give --tls-cert and --tls-key")
    if not 1 <= len(title.strip()) <= 16:
        raise InputError(f"--aet has {len(title.strip())} characters, must be 1 to 16", hint="give our AE title")
    context: ssl.SSLContext | None = client_tls(*files) if tls or any(files) else None
    web = [address for address in to if "://" in address]
    password, token = os.environ.get(PASSWORD_VARIABLE, ""), os.environ.get(TOKEN_VARIABLE, "")
    return [
        *(WebServer(address, user, password, token, context) for address in web),
        *(Peer(*parse_peer(text), title.strip(), context) for text in to if text not in web),
    ]


def _kinds(without: list[str] | None) -> frozenset[str]:
    from batchone.pipeline.hospital.giveback import KINDS

    unknown = sorted(set(without or ()) - set(KINDS))
    if unknown:
        raise InputError(
            f"--without names {unknown[0]!r}, must be one of {', '.join(KINDS)}", hint="see `batchone return --help`"
        )
    return frozenset(without or ())


def _tell(returned: Returned, *, as_json: bool) -> None:
    if as_json:
        tree = {
            "case": returned.case,
            "job": returned.job,
            "complete": returned.complete,
            "objects": [
                {
                    "file": one.file,
                    "sop_class": one.sop_class,
                    "sop_instance": one.sop_instance,
                    "to": one.to,
                    "way": one.way,
                    "stored": one.stored,
                    "note": one.note,
                }
                for one in returned.sent
            ],
            "notes": list(returned.notes),
        }
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
    else:
        for one in returned.sent:
            said = "stored" if one.stored else "REFUSED"
            typer.echo(f"{one.file}: {said} by {one.to} ({one.way})" + (f": {one.note}" if one.note else ""))
        for note in returned.notes:
            typer.echo(note, err=True)
    refused = [one for one in returned.sent if not one.stored]
    if refused:
        kinds = "the same archive may take it by another way: add --to AE@HOST:PORT, or leave the kind out with --without"
        typer.echo(f"batchone: {len(refused)} of {len(returned.sent)} objects were refused\n  what to do: {kinds}", err=True)


@contextmanager
def _silent_libraries() -> Iterator[None]:
    """Our own warnings go to stderr; the libraries' stay silent, for theirs may hold what they send."""
    handler = logging.StreamHandler(sys.stderr)
    ours, theirs = logging.getLogger("batchone"), [logging.getLogger(name) for name in ("pynetdicom", "pydicom", "httpx")]
    before = [log.level for log in theirs]
    ours.addHandler(handler)
    for log in theirs:
        log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        for log, level in zip(theirs, before, strict=True):
            log.setLevel(level)


@contextmanager
def _bar(*, as_json: bool) -> Iterator[Progress]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as shown:
        task = shown.add_task("objects")
        yield lambda done, total: shown.update(task, completed=done, total=total)
