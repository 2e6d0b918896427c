"""Cases: where they are, what happened, the reviewer's answer, the released job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from batchone.pipeline.errors import BatchoneError, CheckFailed, InputError, UnknownCaseError
from batchone.pipeline.job.withdrawal import LIST, OUTBOX, WithdrawnList
from batchone.pipeline.order import Model, PointId
from batchone.pipeline.serve.cases import CASE_ID, released, visible
from batchone.pipeline.serve.child import in_child
from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.download import zipped
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who, identified
from batchone.pipeline.serve.known import is_known
from batchone.pipeline.serve.passwords import MOST_CHARACTERS
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.rights import API
from batchone.pipeline.serve.routes.sign_in import require_password
from batchone.pipeline.serve.services import MOST_STREAMS, Services

router = APIRouter(route_class=GuardedRoute)

_LOOK_S = 0.5  # how often a stream looks for new events
_BEAT_S = 15.0  # a comment this often keeps proxies from cutting a stream; then the right to it is looked at again
CaseId = Annotated[str, Path(pattern=CASE_ID, description="The case's id.")]


class CaseTold(Model):
    """Where a case is; `status` as of `batchone status`, `stages` the seconds of each that is done, `job` the id of the released
    job, `device` the digest of the checked device that a reviewer answers for.
    """

    case: str
    status: str
    stages: dict[str, float]
    job: str | None
    device: str | None
    images: int | None
    warnings: list[str]
    returned: str | None


class CaseList(Model):
    """A page of cases, by id; `next` is where the next page begins, null on the last."""

    cases: list[CaseTold]
    next: str | None


class Event(Model):
    """What happened: who, what, when (UTC), the meaning of a signature, the digest of what it is about."""

    who: str
    what: str
    when: str
    meaning: str
    digest: str


class Answer(Model):
    """A reviewer's answer on the device whose digest is `device`; signed by the password again. Return and reject give a
    reason; approve names in `checked` every point of the family's checklist (`batchone devices NAME --json`, `limits.checklist`).
    """

    answer: Literal["approve", "return", "reject"]
    device: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reason: Annotated[str, Field(max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""
    password: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    checked: Annotated[tuple[PointId, ...], Field(strict=False, max_length=64)] = ()


Line = Annotated[str, Field(max_length=400, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Step(Model):
    """What a cell did to the job that it has in hand; a failed print gives its reason."""

    step: Literal[
        "print-started",
        "print-done",
        "print-failed",
        "post-processing-done",
        "inspection-done",
        "sterilisation-done",
        "delivered",
    ]
    job: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    machine: Line = ""
    lot: Line = ""
    reason: Line = ""


class Recorded(Model):
    """`new` is false for what had been recorded before."""

    new: bool


class Remake(Model):
    """Why the released job is to be made once more; a cell names the job that it means."""

    reason: Line
    job: Annotated[str, Field(pattern=r"^([0-9a-f]{16})?$")] = ""


class Decided(Model):
    """Why the case is cancelled or revised; signed by the password again."""

    reason: Annotated[Line, Field(min_length=1)]
    password: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]


class Answered(Model):
    """Whose answer counts: of two approvals of one device the first."""

    answer: str
    by: str


@router.get(f"{API}/cases", response_model=CaseList)
def cases(
    who: Who,
    parts: Parts,
    status: Annotated[str | None, Query(max_length=64)] = None,
    after: Annotated[str, Query(max_length=64, description="Begin after this id.")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """The cases that one may see: a hospital its own, a cell the released ones."""
    bodies: list[bytes] = []
    last = ""
    for case in parts.cases.ids():
        if case <= after:
            continue
        try:
            view = parts.cases.view(case)
        except Refusal:
            continue  # it was removed meanwhile
        if visible(view, who) and status in (None, view.status):
            if len(bodies) == limit:
                return _json(b'{"cases": [' + b", ".join(bodies) + b'], "next": ' + json.dumps(last).encode() + b"}")
            bodies.append(view.body)
            last = case
    return _json(b'{"cases": [' + b", ".join(bodies) + b'], "next": null}')


@router.get(f"{API}/cases/{{case}}", response_model=CaseTold, responses={304: {"description": "As the asker knows it"}})
async def case_told(case: CaseId, request: Request, who: Who, parts: Parts) -> Response:
    """Where a case is; 304 where `If-None-Match` names the `ETag` of what would be told."""
    view = parts.cases.shown(case, who)
    headers = {"ETag": view.tag}
    if is_known(request.headers.get("if-none-match"), view.tag):
        return Response(status_code=304, headers=headers)
    return Response(view.body, media_type="application/json", headers=headers)


@router.get(f"{API}/cases/{{case}}/events")
def events(case: CaseId, who: Who, parts: Parts) -> list[Event]:
    """What happened to a case, in order."""
    parts.cases.shown(case, who)
    return [Event(**event) for event in parts.cases.events(case)]


@router.get(f"{API}/cases/{{case}}/events/stream", response_class=StreamingResponse)
async def event_stream(
    case: CaseId,
    request: Request,
    who: Who,
    parts: Parts,
    last_event_id: Annotated[int, Header(ge=0, le=2**31, description="Go on after this event.")] = 0,
) -> StreamingResponse:
    """What happened to a case, and what happens next, as server-sent events; `id` counts from 1."""
    parts.cases.shown(case, who)
    if parts.streams.locked():
        raise Refusal(429, f"{MOST_STREAMS} streams are open, at most {MOST_STREAMS}", hint="ask for the events instead")
    return StreamingResponse(_stream(case, request, parts, last_event_id), media_type="text/event-stream")


async def _stream(case: str, request: Request, parts: Services, told: int) -> AsyncIterator[str]:
    quiet_s, seen = 0.0, None
    async with parts.streams:
        while not parts.stopping.is_set():
            now = parts.cases.events_stamp(case)
            if now != seen:
                found = await run_in_threadpool(parts.cases.events, case)
                for number, event in enumerate(found[told:], start=told + 1):
                    yield f"id: {number}\nevent: case\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
                    quiet_s = 0.0
                seen, told = now, len(found)
            if quiet_s >= _BEAT_S:
                if not _still_allowed(request, case, parts):
                    return
                yield ": \n\n"
                quiet_s = 0.0
            await asyncio.sleep(_LOOK_S)
            quiet_s += _LOOK_S


def _still_allowed(request: Request, case: str, parts: Services) -> bool:
    actor = identified(request, parts)
    try:
        return actor is not None and parts.cases.shown(case, actor) is not None
    except Refusal:
        return False


@router.get(f"{API}/cases/{{case}}/job", response_class=StreamingResponse)
def job(case: CaseId, who: Who, parts: Parts) -> StreamingResponse:
    """The released job folder as a zip; for a cell without the clinical report."""
    folder = released(parts.cases.shown(case, who))
    headers = {"Content-Disposition": f'attachment; filename="{folder.name}.zip"'}
    for_a_cell = not who.roles & {"hospital", "engineer", "approver"}
    return StreamingResponse(zipped(folder, for_a_cell=for_a_cell), media_type="application/zip", headers=headers)


@router.post(f"{API}/cases/{{case}}/review")
async def review(case: CaseId, given: Answer, request: Request, who: Who, parts: Parts) -> Answered:
    """A reviewer's answer, with the password again. It is signed and nothing more: whoever runs the case goes on from it."""
    view = parts.cases.shown(case, who)
    await run_in_threadpool(require_password, request, parts, who.name, given.password, status=403)
    if view.device != given.device:
        raise Refusal(409, "the case has another device now than the one that was seen", hint="look at it again")
    if given.answer != "approve" and not given.reason.strip():
        raise Refusal(422, "the reason is empty", hint="say what is wrong with the device")
    try:
        what = {"checked": ",".join(given.checked)} if given.answer == "approve" else {"why": given.reason.strip()}
        what |= {"device": given.device, "passphrase": given.password}
        by = await in_child(given.answer, parts.site, case=case, who=who.name, **what)
    except (InputError, CheckFailed) as error:
        raise Refusal(409, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error
    return Answered(answer=given.answer, by=by)


@router.post(f"{API}/cases/{{case}}/workshop")
async def workshop(case: CaseId, given: Step, who: Who, parts: Parts) -> Recorded:
    """A step of the workshop, told by the cell: for the released job alone. Said twice, it stands once."""
    parts.cases.shown(case, who)
    return Recorded(new=bool(await _done("workshop", parts, case=case, who=who.name, **given.model_dump())))


@router.post(f"{API}/cases/{{case}}/remake")
async def remake(case: CaseId, given: Remake, who: Who, parts: Parts) -> Recorded:
    """Have the released job made once more, as it is. Said twice, it stands once."""
    parts.cases.shown(case, who)
    by_cell = not who.roles & {"engineer", "approver"}
    if by_cell:
        await run_in_threadpool(_must_have_printed, given.job, who, parts)
    told = {"reason": given.reason, "job": given.job, "by_cell": "cell" if by_cell else ""}
    return Recorded(new=bool(await _done("remake", parts, case=case, who=who.name, **told)))


def _must_have_printed(job: str, who: Actor, parts: Services) -> None:
    """A cell asks for what it printed itself, by the ledger; an engineer for any."""
    if not job:
        raise Refusal(422, "job is missing", hint="a cell names the job that it means")
    try:
        printed = parts.prints.was_printed_by(who.name, job)
    except OSError as error:
        raise Refusal(503, f"the site's disk: {error.strerror}", hint="ask again later", headers={"Retry-After": "5"}) from error
    if not printed:
        raise Refusal(409, f"the ledger says of no attempt at {job} that {who.name} printed it", hint="ask an engineer")


@router.post(f"{API}/cases/{{case}}/cancel")
async def cancel(case: CaseId, given: Decided, request: Request, who: Who, parts: Parts) -> Recorded:
    """End a case for good, with the password again: nothing is made for it any more, and its job is withdrawn."""
    return await decided("cancel", case, given, request, who, parts)


@router.post(f"{API}/cases/{{case}}/revise")
async def revise(case: CaseId, given: Decided, request: Request, who: Who, parts: Parts) -> Recorded:
    """Withdraw the approval of a case and its job, with the password again: the case is open for changes."""
    return await decided("revise", case, given, request, who, parts)


async def decided(what: str, case: str, given: Decided, request: Request, who: Actor, parts: Services) -> Recorded:
    """Sign a decision on a case; said twice, it stands once."""
    parts.cases.shown(case, who)
    await run_in_threadpool(require_password, request, parts, who.name, given.password, status=403)
    told = await _done(what, parts, case=case, who=who.name, reason=given.reason, passphrase=given.password)
    return Recorded(new=bool(told))


@router.get(f"{API}/withdrawn", response_model=WithdrawnList | None)
def withdrawn(who: Who, parts: Parts) -> Response:
    """The site's signed list of withdrawn jobs, for `batchone verify --withdrawn`; null where there is none."""
    path = parts.site / OUTBOX / LIST
    return _json(path.read_bytes() if path.exists() else b"null")


async def _done(task: str, parts: Services, **given: str) -> str:
    """Do a task in a child; what the case does not allow now is 409, a busy case or a full disk 503."""
    try:
        return await in_child(task, parts.site, **given)
    except InputError as error:
        parts.cases.must_be_there()
        if isinstance(error, UnknownCaseError):  # it was, a moment ago: the disk went away for that long
            raise Refusal(503, "the site's disk could not be reached", hint="ask again", headers={"Retry-After": "5"}) from error
        raise Refusal(409, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
