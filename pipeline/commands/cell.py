"""``batchone cell``: takes jobs from an inbox, has them printed, keeps their records; ``cell sign`` the steps after the print."""

from __future__ import annotations

import datetime as dt
import logging
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchone.pipeline.errors import InputError, MachineError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchone.factory.cell import Cell
    from batchone.factory.drivers.driver import Driver
    from batchone.factory.inbox import Inbox
    from batchone.factory.reports import Deliver
    from batchone.factory.settings import CellSettings, SiteAddress, TwinSettings
    from batchone.factory.shelf import Shelve
    from batchone.factory.site_link import SiteLink
    from batchone.factory.voice import Born
    from batchone.pipeline.job.withdrawal import WithdrawnJob

cell_app = typer.Typer(no_args_is_help=False, invoke_without_command=True, help="Take jobs, print them, keep their records.")

_Cell = Annotated[
    Path | None, typer.Option("--cell", help="Folder of the cell, with its cell.toml; default $BATCHONE_CELL, else ./cell.")
]
_Inbox = Annotated[
    Path | None,
    typer.Option("--inbox", help="Where job folders come; default inbox/ in its folder, or its [site]."),
]
_POLL_S = 2.0


@cell_app.callback()
def cell(
    context: typer.Context,
    folder: _Cell = None,
    inbox: _Inbox = None,
    signers: Annotated[
        Path | None, typer.Option("--signers", help="Who may release and approve: an allowed_signers file or a key folder.")
    ] = None,
    withdrawn: Annotated[
        Path | None,
        typer.Option("--withdrawn", help="The site's list of withdrawn jobs; default that of the site it reports to."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits, instead of waiting for more.")] = False,
) -> None:
    """Take the most urgent job that may be printed here, prove it, print it, record it; until SIGTERM or SIGINT."""
    context.obj = _folder(folder), inbox
    if context.invoked_subcommand is not None:
        return
    if signers is None:
        raise InputError("nobody is named who may sign jobs", hint="give --signers: an allowed_signers file or a site's keys")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    agent = _agent(_folder(folder), inbox, signers, withdrawn)
    with agent.held():
        _work(agent, stop, once=once)


def _work(agent: Cell, stop: threading.Event, *, once: bool) -> None:
    """Take jobs until told to stop. A site that cannot be reached is waited for; then what was under way is sorted out first."""
    from batchone.factory.inbox import Unreachable

    known, why = False, ""
    while not stop.is_set():
        took = False
        try:
            if not known:
                agent.resume()
                known, why = True, ""
            took = agent.step()
            agent.close_records()
        except Unreachable as error:
            if once:
                raise
            if str(error) != why:
                logging.getLogger(__name__).warning("%s; what is to be told waits", error)
            known, why = False, str(error)
        if not took:
            if once:
                return
            stop.wait(_POLL_S)


@cell_app.command("status")
def status(context: typer.Context) -> None:
    """What became of each job that lies in the inbox, and which step of which record is next."""
    from batchone.factory.dispatch import RECORDS
    from batchone.factory.record import AS_BUILT, RECORD, open_steps, signed_steps

    folder, inbox = context.obj
    jobs = _inbox(folder, inbox)
    for entry in jobs.entries():
        typer.echo(f"{entry.name}  {entry.state:9} attempt {entry.attempt}  {entry.cell:12} {entry.reason[:120]}".rstrip())
        for text in _unfit(folder, jobs, entry.name) if entry.state == "waiting" else ():
            typer.echo(f"{entry.name}  is not for this cell now: {text}")
    for record in sorted((folder / RECORDS).glob("*")):
        if (record / AS_BUILT).is_file() and not (record / RECORD).is_file():
            left = open_steps(record) if not any(step.rejected for step in signed_steps(record)) else None
            if left is None:
                typer.echo(f"{record.name}  is rejected: the cell closes its record")
                continue
            typer.echo(f"{record.name}  " + (f"next: step {left[0].number}: {left[0].what}" if left else "all steps are signed"))


def _unfit(folder: Path, inbox: Inbox, name: str) -> tuple[str, ...]:
    """Why a cell leaves a waiting job to others, or to a later day; nothing where it has no settings yet."""
    from batchone.factory.proof import read_work, unsuited
    from batchone.factory.readiness import FAULTS
    from batchone.factory.settings import SETTINGS, read_cell_settings

    if not (folder / SETTINGS).is_file():
        return ()
    try:
        settings = read_cell_settings(folder)
        work, driver = read_work(inbox.place(name)), _driver(folder, settings)
    except FAULTS as error:
        return (str(error),)
    return unsuited(work, settings, driver, today=dt.datetime.now(dt.UTC).date())


@cell_app.command("sign")
def sign(
    context: typer.Context,
    record: Annotated[str, typer.Argument(help="Name of the record: job or plate, and attempt.")],
    step: Annotated[int, typer.Argument(help="Number of the step; steps are signed in their order.")],
    who: Annotated[str, typer.Option("--as", help="Who did it; their key is in the cell's key folder.")],
    measured: Annotated[
        float | None, typer.Option("--measured", help="Greatest deviation of the face, mm; for steps with a tolerance.")
    ] = None,
    note: Annotated[str, typer.Option("--note", help="What else is to be known of it; it decides nothing.")] = "",
    reject: Annotated[
        str | None, typer.Option("--reject", help="Why the part may not be used: its record is closed, it is made once more.")
    ] = None,
) -> None:
    """Sign a step after the print: who did it, when, what was measured, and with --reject that the part may not be used."""
    from batchone.factory.dispatch import RECORDS
    from batchone.factory.record import sign_step
    from batchone.pipeline.job.signature import KEYS, safe_name

    if reject is not None and not reject.strip():
        raise InputError("--reject gives no reason", hint="say why the part may not be used")
    folder, _ = context.obj
    place = folder / RECORDS / safe_name(record)
    if not place.is_dir():
        raise InputError(f"record {record} is not there", hint="see `batchone cell status`")
    now = dt.datetime.now(dt.UTC)
    no = (reject or "").strip()
    said = sign_step(place, step, who=who, keys=folder / KEYS, when=now, measured_mm=measured, note=note, rejected=no)
    typer.echo(f"{record}: step {step} is signed{', the part is rejected' if no else ''}: {said.what}", err=True)


@cell_app.command("free")
def free(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Job or plate that is held or was refused.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; a site's server asks for it.")] = "",
) -> None:
    """Let a job that is held or was refused be tried again, after a person has looked; at a server with that person's token."""
    folder, inbox = context.obj
    _inbox(folder, inbox).free(name, reason)
    typer.echo(f"{name} waits for its next attempt", err=True)


def _folder(folder: Path | None) -> Path:
    return folder or Path(os.environ.get("BATCHONE_CELL", "cell"))


def _agent(folder: Path, inbox: Path | None, signers: Path, withdrawn: Path | None) -> Cell:
    from batchone.factory.cell import Cell
    from batchone.factory.dispatch import shelve as on_the_shelf
    from batchone.factory.settings import read_cell_settings
    from batchone.pipeline.job.withdrawal import LIST

    settings = read_cell_settings(folder)
    link = None if settings.site is None else _link(settings.site)
    place = _inbox(folder, inbox, settings, link)
    deliver: Deliver | None = None
    shelve: Shelve | None = None
    source = withdrawn or settings.report
    told: Callable[[], tuple[WithdrawnJob, ...]] | None
    told = None if source is None and not (folder / LIST).is_file() else partial(withdrawn_jobs, folder, source, signers)
    if link is not None:
        deliver, shelve = link.deliver, link.shelve
        told = partial(_withdrawn_there, link, folder, signers) if withdrawn is None else told
    elif settings.report is not None:
        deliver, shelve = told_to(settings.report), _once(partial(on_the_shelf, site=settings.report, cell=settings.name))
    return Cell(
        folder,
        settings,
        place,
        _driver(folder, settings),
        signers=signers,
        withdrawn=told,
        deliver=deliver,
        shelve=shelve,
        now=lambda: dt.datetime.now(dt.UTC),
        shared_now=place.time,
        read=partial(read_cell_settings, folder),
    )


def _once(shelve: Shelve) -> Shelve:
    """A record that this process found whole on the shelf is not proved there again."""
    known: dict[str, Path | None] = {}

    def once(record: Path) -> Path | None:
        if record.name not in known:
            known[record.name] = shelve(record)
        return known[record.name]

    return once


def _inbox(folder: Path, inbox: Path | None, settings: CellSettings | None = None, link: SiteLink | None = None) -> Inbox:
    """Where a cell's jobs come: a folder, or its site over the server."""
    from batchone.factory.inbox import Inbox
    from batchone.factory.settings import SETTINGS, read_cell_settings

    if settings is None and (folder / SETTINGS).is_file():
        settings = read_cell_settings(folder)
    if settings is None or settings.site is None:
        return Inbox(inbox or folder / "inbox")
    if inbox is not None:
        raise InputError("--inbox is given, and cell.toml has [site]: jobs come from there", hint="leave one of them out")
    from batchone.factory.served_inbox import ServedInbox

    return ServedInbox(link or _link(settings.site), settings.name, folder)


def _link(site: SiteAddress) -> SiteLink:
    from batchone.factory.site_link import SiteLink
    from batchone.pipeline.hospital.tls import client_tls
    from batchone.pipeline.hospital.upload import TOKEN_VARIABLE

    return SiteLink(site.url, os.environ.get(TOKEN_VARIABLE, ""), tls=client_tls(None, None, site.ca))


def _withdrawn_there(link: SiteLink, folder: Path, signers: Path) -> tuple[WithdrawnJob, ...]:
    """The jobs that count no more, by the list of the site's server; without an answer by the last one that was read."""
    from batchone.factory.inbox import Unreachable
    from batchone.pipeline.store import write_atomic

    now = folder / ".withdrawn.now"
    now.unlink(missing_ok=True)
    try:
        data = link.withdrawn()
    except Unreachable as error:
        logging.getLogger(__name__).warning("the list of withdrawn jobs is the last one that was read: %s", error)
        data = None
    if data is not None:
        write_atomic(now, data)
    try:
        return withdrawn_jobs(folder, now, signers)
    finally:
        now.unlink(missing_ok=True)


def withdrawn_jobs(cell: Path, source: Path | None, signers: Path) -> tuple[WithdrawnJob, ...]:
    """The jobs that count no more, by the list of a site or file; the cell keeps a copy for when it cannot be reached.

    Without ``source`` nothing more is heard: the copy of before counts.
    """
    from batchone.pipeline.job.verify import allowed_of
    from batchone.pipeline.job.withdrawal import LIST, OUTBOX, read_withdrawn
    from batchone.pipeline.store import write_atomic

    allowed, copy = allowed_of(signers), cell / LIST
    known: tuple[WithdrawnJob, ...] = ()
    if copy.is_file():
        known = read_withdrawn(copy, allowed)
    if source is None:
        return known
    path = source / OUTBOX / LIST if source.is_dir() else source
    if not path.is_file():
        return known
    try:
        now = read_withdrawn(path, allowed)
        if set(now) - set(known):
            write_atomic(copy, path.read_bytes())
    except (MachineError, OSError) as error:
        logging.getLogger(__name__).warning("the list of withdrawn jobs is the last one that was read: %s", error)
        return known
    return tuple({one.job: one for one in (*known, *now)}.values())


def told_to(site: Path) -> Deliver:
    """Reports become events of the cases of a site on this file system."""
    from batchone.factory.reports import REMAKE, Report
    from batchone.pipeline.case_workshop import record_step, remake
    from batchone.pipeline.events import CASES

    def deliver(report: Report) -> None:
        _must_reach(site / CASES)
        try:
            record(report)
        except InputError:
            _must_reach(site / CASES)  # a case is not unknown because its site went away meanwhile
            raise

    def record(report: Report) -> None:
        if report.step == REMAKE:
            remake(site, report.case, who=report.who, reason=report.reason, job=report.job, by_cell=True)
            return
        told = {"machine": report.machine, "lot": report.lot, "reason": report.reason}
        record_step(site, report.case, report.step, who=report.who, job=report.job, **told)

    return deliver


def _must_reach(cases: Path) -> None:
    if not cases.is_dir():
        raise MachineError(f"site {cases.parent.name} cannot be reached", hint="it hears of it later")


def _driver(folder: Path, settings: CellSettings) -> Driver:
    if settings.driver == "folder":
        from batchone.factory.drivers.folder import FolderDriver

        return FolderDriver(folder / "machine")
    if settings.opcua is not None:
        from batchone.factory.drivers.opcua import OpcuaDriver

        return OpcuaDriver(settings.opcua)
    from batchone.factory.drivers.twin import TwinDriver

    twin = settings.twin
    return TwinDriver(
        settings.machine, seed=twin.seed, speed=twin.speed, serial=settings.serial, born=_born(twin), pictures=twin.pictures
    )


def _born(twin: TwinSettings) -> Born | None:
    """How the twin tells of itself; None: it does not."""
    from batchone.factory.broker import Broker
    from batchone.factory.twin.mqtt import told_later

    at = twin.broker
    if at is None:
        return None
    password = os.environ.get("BATCHONE_BROKER_PASSWORD")
    return partial(told_later, Broker(at.url, ca=at.ca, certificate=at.certificate, key=at.key, user=at.user, password=password))
