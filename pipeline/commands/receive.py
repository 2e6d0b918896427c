"""``batchone receive``: studies out of the PACS, by C-STORE or DICOMweb, into parcels and cases; or parcels into cases."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.errors import InputError, OrderError

if TYPE_CHECKING:
    import ssl

    from batchone.pipeline.hospital.deliver import Progress
    from batchone.pipeline.hospital.receive import Gateway, OrderFile, Received
    from batchone.pipeline.hospital.spool import Waiting

_INTERRUPTED = 130
_QUIET_S = 30.0  # after the last image; scanners and PACS send a study's images within seconds of each other
_WHO = "Calling AE title that may send, or AE@host; may be repeated."
_QUIET = "Seconds after the last image until a study is whole."
_CA = "Authority (PEM): senders must show a certificate of it; for --from, the server must."


def receive(
    to: Annotated[Path, typer.Option("--to", help="Site folder.")],
    keep: Annotated[Path | None, typer.Option("--keep", help="Hospital's keep; default $BATCHONE_HOSPITAL.")] = None,
    order: Annotated[Path | None, typer.Option("--order", help="The next whole study is for this order; then end.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 11112,
    title: Annotated[str, typer.Option("--aet", help="Our AE title.")] = "BATCHONE",
    allow: Annotated[list[str] | None, typer.Option("--allow", help=_WHO)] = None,
    quiet: Annotated[float, typer.Option("--quiet", min=0.1, max=86_400, help=_QUIET)] = _QUIET_S,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Our TLS certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    tls_ca: Annotated[Path | None, typer.Option("--tls-ca", help=_CA)] = None,
    url: Annotated[str | None, typer.Option("--from", help="Read from this DICOMweb server instead of listening.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="UID of the study to read, or that --order is for.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="User; password in $BATCHONE_DICOMWEB_PASSWORD.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only list the studies that wait for their rest.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Only take in the parcels that wait in the site's inbox.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, the rest on stderr.")] = False,
) -> None:
    """Take studies from the PACS, or parcels from the inbox, and make cases of them."""
    with _log_on_stderr():
        if once or waiting:
            others: dict[str, object] = {"--from": url, "--study": study, "--order": order, "--allow": allow}
            others["--waiting"] = once and waiting
            _refuse_given(others, "--once only takes in parcels" if once else "--waiting only lists")
            _take_in(to, as_json=as_json) if once else _list_waiting(to, keep, as_json=as_json)
            return
        if url is not None:
            _refuse_given({"--allow": allow}, "--from reads instead of listening")
            tls = _client_tls(tls_cert, tls_key, tls_ca) if tls_cert or tls_key or tls_ca else None
            _read(to, keep, _order(order), url=url, study=study, user=user, tls=tls, as_json=as_json)
            return
        _refuse_given({"--user": user}, "--user is for --from")
        from batchone.pipeline.hospital.listener import Listening, check_title, parse_peers

        tls = _server_tls(tls_cert, tls_key, tls_ca)
        listening = Listening(parse_peers(allow or []), check_title(title), host, port, tls)
        with _signals() as signalled:
            _listen(to, keep, _order(order), listening, study=study, quiet_s=quiet, signalled=signalled, as_json=as_json)
        if signalled.interrupted:
            raise typer.Exit(_INTERRUPTED)


def _listen(
    site: Path,
    keep: Path | None,
    order: OrderFile | None,
    listening: Any,
    *,
    study: str | None,
    quiet_s: float,
    signalled: _Signalled,
    as_json: bool,
) -> None:
    from batchone.pipeline.hospital.receive import listen

    if study is not None and order is None:
        raise InputError("--study is given without --order or --from", hint="give the --order that the study is for")
    with _gateway(site, keep, order, study=study, purpose="listener") as gateway:
        try:
            listen(gateway, listening, quiet_s=quiet_s, stop=signalled.event)
        finally:
            _tell("listen", gateway.received, gateway.spool.waiting(), (), as_json=as_json)


def _read(
    site: Path,
    keep: Path | None,
    order: OrderFile | None,
    *,
    url: str,
    study: str | None,
    user: str | None,
    tls: ssl.SSLContext | None,
    as_json: bool,
) -> None:
    from batchone.pipeline.hospital.dicomweb_in import PASSWORD_VARIABLE, DicomWeb
    from batchone.pipeline.hospital.receive import read

    if study is None:
        raise InputError("--from is given without --study", hint="give --study UID")
    server = DicomWeb(url, user, os.environ.get(PASSWORD_VARIABLE, ""), tls)
    with _gateway(site, keep, order, study=study, purpose="dicomweb") as gateway:
        try:
            with _bar("images", as_json=as_json) as progress:
                read(gateway, server, study, progress=progress)
        finally:
            _tell("read", gateway.received, gateway.spool.waiting(), (), as_json=as_json)


def _take_in(site: Path, *, as_json: bool) -> None:
    """Take in what lies in the inbox; exit 2 when a parcel was refused."""
    from batchone.pipeline.hospital.receive import take_in

    received, refused = take_in(site)
    _tell("inbox", received, (), refused, as_json=as_json)
    if refused:
        raise typer.Exit(InputError.exit_code)


def _list_waiting(site: Path, keep: Path | None, *, as_json: bool) -> None:
    from batchone.pipeline.hospital.keep import keep_folder
    from batchone.pipeline.hospital.receive import waiting_studies

    _tell("waiting", (), waiting_studies(keep_folder(keep), site), (), as_json=as_json)


@contextmanager
def _gateway(site: Path, keep: Path | None, order: OrderFile | None, *, study: str | None, purpose: str) -> Iterator[Gateway]:
    from batchone.pipeline.hospital.keep import Keep, keep_folder
    from batchone.pipeline.hospital.receive import Gateway, open_spool

    opened = Keep.open(keep_folder(keep))
    spool = open_spool(opened, site, purpose=purpose)
    try:
        yield Gateway(opened, site, spool, order=order, study_uid=study)
    finally:
        spool.close()


def _order(path: Path | None) -> OrderFile | None:
    if path is None:
        return None
    from batchone.pipeline.case_order import read_case_order
    from batchone.pipeline.hospital.receive import OrderFile

    return OrderFile(path, read_case_order(path).case)


def _server_tls(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext | None:
    from batchone.pipeline.hospital.tls import server_tls

    if certificate is None or key is None:
        if certificate or key or authority:
            raise InputError("TLS needs a certificate and its key, one is missing", hint="give --tls-cert and --tls-key")
        return None
    return server_tls(certificate, key, authority)


def _client_tls(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    from batchone.pipeline.hospital.tls import client_tls

    return client_tls(certificate, key, authority)


def _refuse_given(options: dict[str, object], why: str) -> None:
    given = [name for name, value in options.items() if value]
    if given:
        raise OrderError(f"{', '.join(given)} cannot be given here: {why}", hint="see `batchone receive --help`")


class _Signalled:
    """What the process was told from outside."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.interrupted = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = number == signal.SIGINT
        self.event.set()
        signal.signal(number, signal.default_int_handler if self.interrupted else signal.SIG_DFL)  # a second one ends at once


@contextmanager
def _signals() -> Iterator[_Signalled]:
    """SIGTERM and SIGINT end the listener after the step at hand."""
    signalled = _Signalled()
    before = {number: signal.signal(number, signalled) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signalled
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Our own log lines go to stderr with their time; libraries stay silent, for their warnings quote what they read."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S"))
    log = logging.getLogger("batchone")
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


@contextmanager
def _bar(what: str, *, as_json: bool) -> Iterator[Progress]:
    """A progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), disable=as_json or not sys.stderr.isatty()) as shown:
        task = shown.add_task(what)
        yield lambda done, total: shown.update(task, completed=done, total=total)


def _tell(
    mode: str,
    received: list[Received] | tuple[Received, ...],
    waiting: tuple[Waiting, ...],
    refused: tuple[tuple[str, str], ...],
    *,
    as_json: bool,
) -> None:
    tree = {
        "mode": mode,
        "cases": [{"case": one.case, "folder": str(one.folder), "new": one.new, "images": one.images} for one in received],
        "waiting": [{"study": one.study, "images": one.images, "reason": one.reason} for one in waiting],
        "refused": [{"parcel": parcel, "reason": reason} for parcel, reason in refused],
    }
    if as_json:
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
        return
    for one in received:
        typer.echo(f"case {one.case}: {one.folder}" + ("" if one.new else " (was there already)"))
    for study in waiting:
        typer.echo(f"study {study.study} waits with {study.images} images: {study.reason}")
    for parcel, reason in refused:
        typer.echo(f"parcel {parcel[:12]} was refused: {reason}")
    if not (received or waiting or refused):
        typer.echo("nothing waits" if mode == "waiting" else "nothing came")
