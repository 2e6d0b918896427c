"""What is to be printed, for cells: who has which job, the job itself, and the records that come back.

A cell is its account: it claims, renews and settles under its own name alone. Each claim names the cell's own token too, which
tells it from another one that uses the same account.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from batchone.factory.inbox import ClaimLost, Entry
from batchone.pipeline.errors import BatchoneError, DiskError, InputError
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.order import Model
from batchone.pipeline.serve.child import in_child
from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.download import zipped
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.prints import told
from batchone.pipeline.serve.records import INCOMING, MOST_RECORD_BYTES, shelved_sums
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.serve.rights import API
from batchone.pipeline.serve.services import Services

router = APIRouter(route_class=GuardedRoute)

Told = TypeVar("Told")

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"  # a job's id, or that of a plate
_RECORD = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}-[1-9][0-9]{0,5}$"
_MOST_ATTEMPTS = 1_000_000
Name = Annotated[str, Path(pattern=_NAME, description="Id of a job or plate.")]
RecordName = Annotated[str, Path(pattern=_RECORD, description="Job or plate, and attempt.")]
Attempt = Annotated[int, Field(ge=1, le=_MOST_ATTEMPTS)]
Reason = Annotated[str, Field(max_length=4000)]
Token = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$", description="What tells the cell from another one of its account.")]


class Job(Model):
    """A job or plate; `state` is waiting, claimed, printed, released, refused or held, `cell` who has or had it, `until` when its
    claim or its wait ends, `printed` the attempts whose print was done, `sums` the SHA-256 of its SHA256SUMS (empty where it is
    not here any more).
    """

    name: str
    state: str
    cell: str
    until: str
    attempt: int
    reason: str
    most: int
    printed: tuple[int, ...]
    sums: str = ""


class Jobs(Model):
    """What is to be printed or under way, and the time by which claims are reckoned."""

    time: dt.datetime
    jobs: list[Job]


class Claim(Model):
    """A claim begins, or goes on after a new start."""

    token: Token


class Held(Model):
    """The claim on an attempt."""

    token: Token
    attempt: Attempt


class Settled(Held):
    """What became of an attempt."""

    state: Literal["printed", "refused", "waiting"]
    reason: Reason = ""


class Moved(Model):
    """What became of a printed job."""

    attempt: Attempt
    state: Literal["released", "refused", "waiting"]
    reason: Reason = ""


class Freed(Model):
    """Why a job may be tried again."""

    reason: Annotated[str, Field(min_length=1, max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Shelved(Model):
    """A record that lies on the site's shelf: the SHA-256 of its SHA256SUMS."""

    sums: str


@router.get(f"{API}/prints")
def jobs(
    parts: Parts, *, listed: Annotated[bool, Query(alias="jobs", description="False: the time alone is asked.")] = True
) -> Jobs:
    """What is to be printed or under way; up to a second old."""
    offers = _done(parts.prints.open) if listed else []
    return Jobs(time=_done(parts.prints.inbox.time), jobs=[Job.model_validate(told(one)) for one in offers])


@router.get(f"{API}/prints/{{name}}")
def job(name: Name, parts: Parts) -> Job:
    """What became of a job."""
    return _told(_done(lambda: parts.prints.entry(name)))


@router.get(f"{API}/prints/{{name}}/head", response_class=StreamingResponse)
def head(name: Name, parts: Parts) -> StreamingResponse:
    """What says for which machine a job is and when it is due, as a zip: `job.json` or `build.json`, and the list of digests."""
    return _zip(zipped(_done(lambda: parts.prints.offer(name)).folder, for_a_cell=True, head=True), name)


@router.get(f"{API}/prints/{{name}}/files", response_class=StreamingResponse)
def files(name: Name, parts: Parts) -> StreamingResponse:
    """The whole job as a zip, without the clinical report."""
    return _zip(zipped(_done(lambda: parts.prints.offer(name)).folder, for_a_cell=True), name)


@router.post(f"{API}/prints/{{name}}/claim")
def claim(name: Name, given: Claim, who: Who, parts: Parts) -> Job | None:
    """Take a job; null when another has it, or nobody may have it any more."""
    if _done(lambda: parts.prints.find(name)) is None:
        return None
    inbox = parts.prints.inbox
    taken = _done(lambda: inbox.claim(name, _cell(who, given.token), inbox.time()))
    return None if taken is None else _told(taken)


@router.post(f"{API}/prints/{{name}}/renew")
def renew(name: Name, given: Held, who: Who, parts: Parts) -> Job:
    """Go on having a job; 410 when another attempt is under way."""
    inbox, entry = parts.prints.inbox, _held(name, given, who, parts)
    return _told(_done(lambda: inbox.renew(entry, inbox.time())))


@router.post(f"{API}/prints/{{name}}/settle")
def settle(name: Name, given: Settled, who: Who, parts: Parts) -> Job:
    """Say what became of a claimed job; 410 when another attempt is under way."""
    inbox, entry = parts.prints.inbox, _held(name, given, who, parts)
    return _told(_done(lambda: inbox.settle(entry, given.state, inbox.time(), given.reason)))


@router.post(f"{API}/prints/{{name}}/move")
def move(name: Name, given: Moved, who: Who, parts: Parts) -> Job:
    """Say what became of a printed job, by the cell that printed it."""
    there = _done(lambda: parts.prints.entry(name))
    if there.cell.rpartition("@")[0] != who.name:
        raise Refusal(409, f"attempt {given.attempt} of {name} is not of this cell", hint="put its record aside")
    return _told(_done(lambda: parts.prints.inbox.move(name, given.attempt, given.state, given.reason)))


@router.post(f"{API}/prints/{{name}}/free")
def free(name: Name, given: Freed, who: Who, parts: Parts) -> Job:
    """Let a job that is held or was refused be tried again, by a person who has looked; the site's events say who and why."""
    _done(lambda: parts.prints.entry(name))

    def tell() -> None:
        when = dt.datetime.now(dt.UTC).isoformat()
        append_event(parts.site / EVENTS, who=who.name, what=f"print {name}: freed", when=when, meaning=given.reason)

    return _told(_done(lambda: parts.prints.inbox.free(name, given.reason, tell=tell)))


@router.get(f"{API}/records/{{record}}")
def record(record: RecordName, parts: Parts) -> Shelved:
    """Whether a record lies on the site's shelf."""
    sums = shelved_sums(parts.site, record)
    if sums is None:
        raise unknown("record")
    return Shelved(sums=sums)


@router.put(
    f"{API}/records/{{record}}",
    openapi_extra={
        "requestBody": {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}, "required": True}
    },
)
async def shelve(record: RecordName, request: Request, who: Who, parts: Parts) -> Shelved:
    """Bring a closed record, as a zip of stored entries; it is proved to be whole and this cell's own before it is kept."""
    with _done(lambda: tempfile.TemporaryDirectory(dir=parts.site, prefix=INCOMING)) as folder:
        file = FilePath(folder) / "record.zip"
        await _receive(request, file)
        try:
            sums = await in_child("shelve", parts.site, record=record, who=who.name, file=str(file))
        except InputError as error:
            parts.cases.must_be_there()
            raise Refusal(409, str(error), hint=error.hint) from error
        except BatchoneError as error:
            raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error
    return Shelved(sums=sums)


async def _receive(request: Request, file: FilePath) -> None:
    came = 0
    with file.open("wb") as sink:
        try:
            async for block in request.stream():
                came += len(block)
                if came > MOST_RECORD_BYTES:
                    raise Refusal(413, f"the record has more than {MOST_RECORD_BYTES} bytes", hint="is this a device record?")
                await run_in_threadpool(sink.write, block)
        except ClientDisconnect as error:
            raise Refusal(400, "the connection broke", hint="send it again") from error
        except OSError as error:
            raise Refusal(507, f"the site's disk takes no more: {os.strerror(error.errno or 0)}", hint="free space") from error


def _cell(who: Actor, token: str) -> str:
    return f"{who.name}@{token}"


def _held(name: str, given: Held, who: Actor, parts: Services) -> Entry:
    there = _done(lambda: parts.prints.entry(name))
    return replace(there, state="claimed", cell=_cell(who, given.token), attempt=given.attempt)


def _told(entry: Entry) -> Job:
    keys = ("name", "state", "cell", "until", "attempt", "reason", "most", "printed")
    return Job(**{key: getattr(entry, key) for key in keys})


def _zip(blocks: Iterator[bytes], name: str) -> StreamingResponse:
    headers = {"Content-Disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(blocks, media_type="application/zip", headers=headers)


def _done(asked: Callable[[], Told]) -> Told:
    """410 for a claim that was lost, 409 for what the ledger does not allow, 503 for a disk that cannot be used now."""
    try:
        return asked()
    except ClaimLost as error:
        raise Refusal(410, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503 if isinstance(error, DiskError) else 409, str(error), hint=error.hint) from error
    except OSError as error:
        raise Refusal(503, f"the site's disk: {error.strerror}", hint="ask again later", headers={"Retry-After": "5"}) from error
