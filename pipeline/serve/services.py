"""What the routes work with: one value, made when the server starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from batchone.pipeline.clock.folder import CaseReader
from batchone.pipeline.config import ServerSettings
from batchone.pipeline.serve.accounts import Accounts, Clock
from batchone.pipeline.serve.brake import Brake
from batchone.pipeline.serve.cases import Cases
from batchone.pipeline.serve.credentials import Credentials
from batchone.pipeline.serve.metrics import Requests
from batchone.pipeline.serve.parcels import Parcels
from batchone.pipeline.serve.prints import Prints
from batchone.pipeline.serve.store import Store

MOST_STREAMS = 500  # of events, at a time; project default


@dataclass(frozen=True)
class Services:
    """The parts of a running server.

    ``origin`` is the public address behind a proxy (``https://site.example``), empty where browsers reach the server itself;
    ``reader`` remembers what the clock read of cases; ``parcel_came`` wakes the intake, ``stopping`` ends the streams of events.
    """

    site: Path
    clock: Clock
    origin: str
    store: Store
    accounts: Accounts
    credentials: Credentials
    brake: Brake
    parcels: Parcels
    cases: Cases
    prints: Prints
    reader: CaseReader
    requests: Requests = field(default_factory=Requests)
    parcel_came: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_STREAMS))


def make_services(site: Path, *, settings: ServerSettings, clock: Clock, origin: str = "") -> Services:
    """Open what a server works with.

    Raises
    ------
    MachineError
        The site's folder or ``server.sqlite`` cannot be used.
    """
    store = Store(site)
    accounts = Accounts(store, site, clock)
    cases, reader = Cases(site), CaseReader()
    return Services(
        site=site,
        clock=clock,
        origin=origin.rstrip("/"),
        store=store,
        accounts=accounts,
        credentials=Credentials(store, accounts, clock),
        brake=Brake(store, clock),
        parcels=Parcels(site, settings, clock),
        cases=cases,
        prints=Prints(site, cases, reader),
        reader=reader,
    )


def services_of(request: Request) -> Services:
    """The parts of the server that a request came to."""
    found: Services = request.app.state.services
    return found


def address_of(request: Request) -> str:
    """Where a request came from: behind a proxy what the proxy itself saw, the last of ``X-Forwarded-For``."""
    seen = request.client.host if request.client else ""
    told = request.headers.getlist("x-forwarded-for") if services_of(request).origin else []
    return told[-1].rsplit(",", 1)[-1].strip() or seen if told else seen
