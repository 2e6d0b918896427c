"""``batchone submit``: check an order and a study, take the identity out, pack both, and bring them to a site."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.errors import BatchoneError, OrderError, SeriesError

if TYPE_CHECKING:
    from batchone.pipeline.hospital.parcel import Parcel
    from batchone.pipeline.hospital.sendable import Advice
    from batchone.pipeline.hospital.upload import Server

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Submission:
    """What ``batchone submit`` reports. ``folder`` is the case at the site; None at a server's."""

    case: str
    status: str
    parcel: str
    images: int
    bytes: int
    resumed_at: int
    new: bool
    folder: Path | None
    left_out: dict[str, int]
    warnings: tuple[tuple[str, str], ...]

    def tree(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "case": self.case,
            "status": self.status,
            "parcel": self.parcel,
            "images": self.images,
            "bytes": self.bytes,
            "resumed_at": self.resumed_at,
            "new": self.new,
            "folder": None if self.folder is None else str(self.folder),
            "left_out": self.left_out,
            "warnings": [{"name": name, "text": text} for name, text in self.warnings],
        }


def submit(
    order: Annotated[Path, typer.Argument(help="The order (TOML).")],
    study: Annotated[Path, typer.Argument(help="DICOM folder or zip.")],
    to: Annotated[
        str, typer.Option("--to", help="The site: https://NAME of its server (token in $BATCHONE_TOKEN), or its folder.")
    ],
    keep: Annotated[
        Path | None,
        typer.Option("--keep", help="The hospital's own folder; default $BATCHONE_HOSPITAL, else ./batchone-hospital."),
    ] = None,
    tls_ca: Annotated[Path | None, typer.Option("--tls-ca", help="Authority (PEM) of the server's certificate.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")
    ] = False,
) -> None:
    """De-identify a study, pack it with its order and deliver it to a site; again and again without harm."""
    from batchone.pipeline.hospital.keep import keep_folder

    try:
        with _shown() as progress:
            done = submit_study(order, study, to=_destination(to, tls_ca), keep=keep_folder(keep), progress=progress)
    except BatchoneError as error:
        if as_json:
            told = {"message": str(error), "hint": error.hint, "exit_code": error.exit_code}
            typer.echo(json.dumps({"case": error.case_id, "status": "failed", "error": told}, indent=1, ensure_ascii=False))
        raise
    for _, text in done.warnings:
        typer.echo(f"warning: {text}", err=True)
    if as_json:
        typer.echo(json.dumps(done.tree(), indent=1, ensure_ascii=False))
        return
    if done.left_out:
        typer.echo("Not sent: " + ", ".join(f"{kind}: {count}" for kind, count in done.left_out.items()))
    how = "" if done.new else ", which the site had already"
    typer.echo(f"Case {done.case}: {done.status}; {done.images} images, {done.bytes / 1e6:.1f} MB{how}")
    if done.folder is not None:
        typer.echo(f"Case folder: {done.folder}")


def _destination(to: str, authority: Path | None) -> Path | Server:
    from batchone.pipeline.hospital.tls import client_tls
    from batchone.pipeline.hospital.upload import TOKEN_VARIABLE, Server, is_url, require_server

    if not is_url(to):
        if authority is not None:
            raise OrderError("--tls-ca is for a server, --to is a folder", hint="leave it out")
        return Path(to)
    server = Server(to, os.environ.get(TOKEN_VARIABLE, ""), client_tls(None, None, authority))
    require_server(server)
    return server


def submit_study(order: Path, study: Path, *, to: Path | Server, keep: Path, progress: Progress) -> Submission:
    """Check, de-identify, pack and deliver; then let the site's intake take the parcel in.

    Parameters
    ----------
    to
        The site's folder, or its server: then the scan is judged by the limits of the family, and by those of the site there.
    keep
        The hospital's folder.
    progress
        Called with what is done, how much of it, and how much there is.

    Raises
    ------
    BatchoneError
        Stamped with the case where that is known: the order is not valid, the study does not meet the device's protocol,
        the site refuses, a disk is full.
    """
    from batchone.design.families import load_families
    from batchone.pipeline.config import SiteSettings, protocol_at, read_site_settings
    from batchone.pipeline.errors import in_stage
    from batchone.pipeline.hospital.keep import Keep
    from batchone.pipeline.hospital.parcel import pack
    from batchone.pipeline.intake.make import admit
    from batchone.pipeline.intake.package import is_volume_file
    from batchone.pipeline.markups.order_file import read_order_file

    families = load_families()
    read = read_order_file(order, {name: family.parameters for name, family in families.items()})
    with in_stage(read.case, "submit"):
        if is_volume_file(study):
            raise SeriesError(
                "a volume file has no headers to de-identify and no series to return to", hint="give the DICOM study"
            )
        settings = read_site_settings(to) if isinstance(to, Path) else SiteSettings()
        protocol = protocol_at(settings, families[read.device].limits.protocol)
        admit(study, protocol, on=read.due.date())
        measured = _measured(study)
        parcel = pack(
            study, Keep.open(keep), order=order, case=read.case, progress=lambda done, all_: progress("de-identify", done, all_)
        )
        brought = _brought(parcel, to, lambda done, all_: progress("deliver", done, all_))
        parcel.path.unlink(missing_ok=True)  # the site has it whole; the same study makes the same parcel again
    return Submission(
        case=parcel.case,
        status=brought.status,
        parcel=parcel.digest,
        images=parcel.images,
        bytes=parcel.bytes,
        resumed_at=brought.resumed_at,
        new=brought.new,
        folder=brought.folder,
        left_out=dict(parcel.left_out),
        warnings=_joined(measured, parcel.advice),
    )


@dataclass(frozen=True, slots=True)
class _Brought:
    status: str
    resumed_at: int
    new: bool
    folder: Path | None


def _brought(parcel: Parcel, to: Path | Server, progress: Callable[[int, int], None]) -> _Brought:
    if isinstance(to, Path):
        from batchone.pipeline.hospital.deliver import deliver
        from batchone.pipeline.intake.inbox import accept

        receipt = deliver(parcel, to, progress)
        taken = accept(to, receipt.place)
        return _Brought("received", receipt.resumed_at, taken.new, taken.folder)
    from batchone.pipeline.hospital.upload import upload

    done = upload(parcel, to, progress)
    return _Brought("received" if done.state == "taken" else "in-inbox", done.resumed_at, done.new, None)


def _measured(study: Path) -> dict[str, str]:
    """What the pixels say of text burned in and of a face, by name; empty where they show none."""
    from batchone.pipeline.intake.summary import inspect_study

    found = [finding for series in inspect_study(study) for finding in series.report if finding.check in _PRIVACY]
    texts = {_PRIVACY[one.check]: "" for one in found}
    for one in found:
        if one.verdict != "pass":
            texts[_PRIVACY[one.check]] = f"{one.what}: {one.value:.0f} {one.unit}".rstrip() + f", {one.limit}; {one.hint}"
    return texts


def _joined(measured: dict[str, str], stated: Sequence[Advice]) -> tuple[tuple[str, str], ...]:
    """One warning a kind; what the pixels show goes before what the headers leave open."""
    texts = {one.name: one.here for one in stated if one.certain or one.name not in measured}
    return tuple((texts | {name: text for name, text in measured.items() if text}).items())


_PRIVACY = {"face": "recognisable-face", "burned-in-text": "burned-in-text", "burned-in-stated": "burned-in-text"}


@contextmanager
def _shown() -> Iterator[Progress]:
    """Bars on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:12}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield show
