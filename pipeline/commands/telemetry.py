"""``batchone telemetry``: takes what the machines of a broker tell into a site's store, until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer


def telemetry(
    broker: Annotated[str, typer.Option("--broker", help="mqtts://HOST[:PORT]; mqtt:// on this machine alone.")],
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="Whom to trust (PEM); default the system's own.")] = None,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Our certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Its key (PEM).")] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Our name at the broker; the password is in $BATCHONE_BROKER_PASSWORD.")
    ] = None,
) -> None:
    """Take in what machines tell over MQTT: each sample once, none lost while this or the broker is started again."""
    from batchone.factory.broker import Broker
    from batchone.factory.ingest import Ingest
    from batchone.factory.intake import Intake
    from batchone.pipeline.config import read_site_settings

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    password = os.environ.get("BATCHONE_BROKER_PASSWORD")
    at = Broker(broker, ca=ca, certificate=certificate, key=key, user=user, password=password)
    intake = Intake(folder, read_site_settings(folder).telemetry)
    with intake.held():
        Ingest(at, intake).run(stop)
