"""One worker: it beats, watches the site's folder, runs what the engine hands it, and takes over what the dead left."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig
from dbos._error import DBOSException
from dbos._serialization import DBOSPortableJSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from batchone.pipeline.case_decisions import publish_decided
from batchone.pipeline.config import EngineSettings, read_site_settings
from batchone.pipeline.engine.database import database_url, open_database
from batchone.pipeline.engine.heartbeat import BEAT_S, DEAD_S, Heartbeat, executor_id
from batchone.pipeline.engine.watch import ENGINE_VERSION, Watch, end_other_versions
from batchone.pipeline.engine.workflows import CASES, PREPARE, PROGRAMS, RELEASE, Place, work_at
from batchone.pipeline.errors import MachineError

LOCKS = ".workers"
_LOOK_S: Final = (0.1, 1.0)  # between two looks at the site: as long as ten looks take, at least and at most
_TAKE_OVER_S: Final = 1.0
_POLL_S: Final = 0.25  # how often a queue is asked
_FENCED = 5
_LOG = logging.getLogger("batchone.engine")


def run_worker(site: Path, *, slot: int | None = None, stop: threading.Event, ready: Callable[[str], None] = _LOG.info) -> None:
    """Work at a site until told to stop; the process should end then: what is underway is left as a crash would leave it.

    Parameters
    ----------
    site
        Its folder.
    slot
        Number of this worker, from 1; the same machine should take the same one again. None takes the first that is free.
    stop
        Set when the worker should end after the steps at hand.
    ready
        Told once, with the worker's name, when it works.

    Raises
    ------
    MachineError
        The database does not answer, or the slot is taken; with SQLite a second worker of a site.
    """
    settings = read_site_settings(site).engine
    url = database_url(site, read_site_settings(site))
    site.mkdir(parents=True, exist_ok=True)
    database = open_database(url)
    alone = settings.database is None
    heart = Heartbeat(database, site / LOCKS, 1 if alone else slot)
    work_at(Place(site.resolve(), settings.threads))
    config: DBOSConfig = {
        "name": "batchone",
        "system_database_url": url,
        "system_database_engine": database,
        "application_version": ENGINE_VERSION,
        "executor_id": heart.executor_id,
        "serializer": DBOSPortableJSONSerializer(),
        "notification_listener_polling_interval_sec": _POLL_S,
        "log_level": "WARNING",
    }
    DBOS(config=config)
    ended = threading.Event()
    threading.Thread(target=_beat, args=(heart, ended), daemon=True).start()
    DBOS.launch()
    _queues(settings)
    if count := end_other_versions():
        _LOG.warning("%d workflows of another version were ended; their cases begin anew", count)
    publish_decided(site)
    ready(heart.executor_id)
    _work(site, heart, None if alone else database, stop)
    ended.set()
    heart.leave()


def _queues(settings: EngineSettings) -> None:
    """Limits by what is scarce: cores and memory for stages, one turn at a time for foreign programs."""
    limits = {CASES: None, PREPARE: settings.cases, RELEASE: settings.cases, PROGRAMS: 1}
    for name, limit in limits.items():
        DBOS.register_queue(name, worker_concurrency=limit, polling_interval_sec=_POLL_S, on_conflict="always_update")


def _work(site: Path, heart: Heartbeat, database: sa.Engine | None, stop: threading.Event) -> None:
    watch, took_s, taken_over = Watch(site), 0.0, 0.0
    while not stop.wait(min(max(_LOOK_S[0], 10.0 * took_s), _LOOK_S[1])):
        begun = time.monotonic()
        try:
            watch.look()
        except MachineError as error:  # the disk: told, and looked at again
            _LOG.warning("%s; %s", error, error.hint)
        except (
            OSError,
            SQLAlchemyError,
            DBOSException,
        ):  # the database is away: what it knows waits, what lies in the folder is seen again
            _LOG.exception("the site could not be looked at")
            watch = Watch(site)
        took_s = time.monotonic() - begun
        if database is not None and begun - taken_over > _TAKE_OVER_S:
            taken_over = begun
            _take_over(heart)


def _take_over(heart: Heartbeat) -> None:
    """Put what dead workers had begun back on the queues."""
    try:
        for one in heart.look():
            if one.slot == heart.slot or not heart.silent(one):
                continue
            with heart.dead(one.slot) as dead:
                if dead and (handles := DBOS._recover_pending_workflows([executor_id(one.slot)])):
                    _LOG.warning(
                        "%d workflows of %s are taken over by %s", len(handles), executor_id(one.slot), heart.executor_id
                    )
    except (SQLAlchemyError, DBOSException):
        _LOG.exception("the other workers could not be looked at")
        heart.forget()


def _beat(heart: Heartbeat, ended: threading.Event) -> None:
    """Beat until the end; a worker whose beat fails longer than others wait has been buried, and must not go on."""
    heard = time.monotonic()
    while not ended.wait(BEAT_S):
        try:
            alive = heart.beat()
        except SQLAlchemyError:
            _LOG.exception("the heartbeat failed")
            alive = time.monotonic() - heard < DEAD_S
        else:
            heard = time.monotonic() if alive else heard
        if not alive:
            _LOG.error("%s was taken over by others: it ends at once", heart.executor_id)
            os._exit(_FENCED)
