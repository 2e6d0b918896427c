"""``batchone serve``: the site's server."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from batchone.pipeline.errors import InputError, MachineError

_BACKLOG = 1024
_KEPT_S = 75  # a connection is kept for the next question: longer than a client's pause, and than a proxy's 60 s
_GRACE_S = 5  # for answers under way when the server ends
_PROXY = "Public address (https://site.example) of the proxy in front, which makes the TLS."


def serve(
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8443,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="Our TLS certificate (PEM).")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="Its key (PEM).")] = None,
    behind_proxy: Annotated[str | None, typer.Option("--behind-proxy", help=_PROXY)] = None,
    worker: Annotated[
        bool | None, typer.Option("--worker/--no-worker", help="Run the cases too; default where no [engine] database is set.")
    ] = None,
    reset_admin: Annotated[bool, typer.Option("--reset-admin", help="Give admin a new one-time password first.")] = False,
) -> None:
    """Take parcels, tell status and events, take reviewers' answers, give released jobs; who may what is in /docs."""
    if (tls_cert is None) != (tls_key is None):
        raise InputError("TLS needs a certificate and its key, one is missing", hint="give --tls-cert and --tls-key")
    _refuse_open(host, tls=tls_cert is not None, origin=behind_proxy)
    import uvicorn

    from batchone.pipeline.config import read_site_settings
    from batchone.pipeline.hospital.tls import server_tls
    from batchone.pipeline.serve.app import make_app
    from batchone.pipeline.serve.services import make_services

    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    tls = None if tls_cert is None or tls_key is None else server_tls(tls_cert, tls_key, None)
    settings = read_site_settings(folder)
    services = make_services(folder, settings=settings.server, clock=time.time, origin=behind_proxy or "")
    listening = _listen(host, port)
    scheme = "http" if tls is None else "https"
    own = f"{scheme}://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    password = services.accounts.first_admin(again=reset_admin)
    if password is not None:
        typer.echo(f"Sign in at {behind_proxy or own} as admin with the one-time password {password} and change it:", err=True)
        typer.echo(
            f"  {behind_proxy or own}/ in a browser; programs: /docs (POST /api/v1/sign-in, then POST /api/v1/me/password)",
            err=True,
        )
    _log_json()
    config = uvicorn.Config(
        make_app(
            services,
            https=tls is not None or behind_proxy is not None,
            worker=settings.engine.database is None if worker is None else worker,
        ),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="on",
        timeout_graceful_shutdown=_GRACE_S,
        timeout_keep_alive=_KEPT_S,
        ssl_context_factory=None if tls is None else lambda config, default: tls,
    )
    logging.getLogger("batchone").info("listening", extra={"fields": {"address": own}})
    uvicorn.Server(config).run(sockets=[listening])


def _refuse_open(host: str, *, tls: bool, origin: str | None) -> None:
    """Passwords and scans never cross a network in the clear."""
    if origin is not None:
        parts = urlsplit(origin)
        if parts.scheme != "https" or not parts.netloc or parts.path.strip("/") or parts.query:
            raise InputError(
                f"--behind-proxy is {origin}, must be https://NAME or https://NAME:PORT", hint="give the public address"
            )
        return
    if not tls and not _is_loopback(host):
        raise InputError(
            f"--host is {host}, without TLS it must be a loopback address",
            hint="give --tls-cert and --tls-key, or --behind-proxy https://NAME when a proxy in front makes the TLS",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise MachineError(
            f"port {port} of {host} cannot be listened on: {error.strerror or error}", hint="give another --port or --host"
        ) from error


def _log_json() -> None:
    from batchone.pipeline.serve.edge import JsonLines

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("batchone", "uvicorn"):
        log = logging.getLogger(name)
        log.addHandler(handler)
        log.setLevel(logging.INFO if name == "batchone" else logging.WARNING)
        log.propagate = False
