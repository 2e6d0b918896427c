"""Uploads of parcels: announce, bring the bytes in as many pieces as it takes, ask what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Request
from pydantic import Field
from starlette.requests import ClientDisconnect

from batchone.pipeline.order import Model
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.parcels import Upload
from batchone.pipeline.serve.refusal import unknown
from batchone.pipeline.serve.rights import API

router = APIRouter(route_class=GuardedRoute)

_DIGEST = r"^[0-9a-f]{64}$"
Digest = Annotated[str, Path(pattern=_DIGEST, description="SHA-256 of the parcel.")]


class Announcement(Model):
    """A parcel that is to come: SHA-256 and size of its bytes, as `batchone submit` makes it."""

    digest: Annotated[str, Field(pattern=_DIGEST)]
    bytes: Annotated[int, Field(ge=1, le=2**53)]


class UploadTold(Model):
    """Where a parcel is: `open` (goes on at byte `offset`), `waiting` for the intake, `taken` (is `case`), or `refused` (why)."""

    digest: str
    bytes: int
    offset: int
    state: Literal["open", "waiting", "taken", "refused"]
    case: str | None
    reason: str
    hint: str


@router.post(f"{API}/uploads")
def announce(given: Announcement, who: Who, parts: Parts) -> UploadTold:
    """Begin an upload; the same again is the same upload, also when it is long a case."""
    return _told(parts.parcels.announce(who.account.hospital, given.digest, given.bytes))


@router.get(f"{API}/uploads/{{digest}}")
def upload(digest: Digest, who: Who, parts: Parts) -> UploadTold:
    """Where a parcel is."""
    found = parts.parcels.find(who.account.hospital, digest)
    if found is None:
        raise unknown("upload")
    return _told(found)


@router.patch(
    f"{API}/uploads/{{digest}}",
    openapi_extra={
        "requestBody": {
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            "required": True,
        }
    },
)
async def append(
    digest: Digest,
    upload_offset: Annotated[int, Header(ge=0, le=2**53, description="At which byte the body begins.")],
    request: Request,
    who: Who,
    parts: Parts,
) -> UploadTold:
    """Bring bytes; what came before a connection broke is kept, GET tells how many."""
    done = await parts.parcels.append(who.account.hospital, digest, upload_offset, _blocks(request))
    if done.state == "waiting":
        parts.parcel_came.set()
    return _told(done)


@router.delete(f"{API}/uploads/{{digest}}", status_code=204)
def give_up(digest: Digest, who: Who, parts: Parts) -> None:
    """Give up an open upload."""
    parts.parcels.drop(who.account.hospital, digest)


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes; where the connection breaks it ends there."""
    try:
        async for block in request.stream():
            yield block
    except ClientDisconnect:
        return


def _told(found: Upload) -> UploadTold:
    return UploadTold(
        digest=found.digest,
        bytes=found.bytes,
        offset=found.offset,
        state=found.state,
        case=found.case,
        reason=found.reason,
        hint=found.hint,
    )
