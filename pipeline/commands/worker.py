"""``batchone worker``: runs the cases of a site, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer


def worker(
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    slot: Annotated[
        int | None, typer.Option("--slot", min=1, max=999, help="Number of this worker; default the first that is free.")
    ] = None,
    until_eof: Annotated[bool, typer.Option("--until-eof", help="End when standard input does, as its parent may.")] = False,
) -> None:
    """Run the cases of a site: what comes into its inbox, and what people answer, until SIGTERM or SIGINT."""
    from batchone.pipeline.engine.worker import run_worker

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if until_eof:
        threading.Thread(target=_until_eof, args=(stop,), daemon=True).start()
    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    run_worker(folder, slot=slot, stop=stop, ready=lambda name: typer.echo(f"{name} works at {folder}", err=True))
    logging.shutdown()
    os._exit(0)  # the stages at hand end with this process, and go on with the next one


def _until_eof(stop: threading.Event) -> None:
    sys.stdin.buffer.read()
    stop.set()
