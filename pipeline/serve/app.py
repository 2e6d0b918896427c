"""The application: the routes behind the edge, the intake beside them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from batchone.pipeline.errors import BatchoneError, InputError
from batchone.pipeline.intake.inbox import Inbox
from batchone.pipeline.serve.child import in_child
from batchone.pipeline.serve.edge import Edge
from batchone.pipeline.serve.embedded import keep_worker
from batchone.pipeline.serve.guard import GuardedRoute
from batchone.pipeline.serve.pages import (
    account_page,
    board_page,
    case_page,
    hospital_page,
    machine_page,
    order_page,
    plan_page,
    report_page,
    shell,
    sign_in_page,
)
from batchone.pipeline.serve.pages.scene_routes import scene_router
from batchone.pipeline.serve.records import sweep
from batchone.pipeline.serve.refusal import Refusal, Refused
from batchone.pipeline.serve.routes import case_routes, operations, people, print_routes, sign_in, uploads
from batchone.pipeline.serve.services import Services, services_of
from batchone.pipeline.store import CaseFolder

_RETRY_S = 60.0  # after a failure of the site's disk or of ours, which a person may have cured
_log = logging.getLogger(__name__)


def make_app(services: Services, *, https: bool = False, worker: bool = False) -> FastAPI:
    """The ASGI application of a site.

    Parameters
    ----------
    services
        What it works with; closed when the application ends.
    https
        Whether browsers reach it by TLS.
    worker
        Whether a worker runs beside it, as long as it does.
    """
    app = FastAPI(
        title="batchone",
        version=version("batchone"),
        description="Parcels in, status and events, the reviewer's answers, released jobs out. Not a cleared medical device.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={
            "4XX": {"model": Refused, "description": "Not done"},
            "5XX": {"model": Refused, "description": "Not possible now"},
        },
        lifespan=_lifespan,
    )
    app.state.services = services
    app.state.worker = worker
    pages = (shell, sign_in_page, account_page, board_page, case_page, order_page, report_page, plan_page, hospital_page)
    for module in (case_routes, uploads, print_routes, sign_in, people, operations, *pages, machine_page):
        app.include_router(module.router)
    app.include_router(scene_router(_folder, _judges, route_class=GuardedRoute), include_in_schema=False)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(Exception, _broken)
    app.add_middleware(Edge, requests=services.requests, https=https)
    return app


def _folder(request: Request, case: str) -> CaseFolder:
    """The folder of a case, for somebody who may see it."""
    cases = services_of(request).cases
    cases.shown(case, request.state.actor)
    return CaseFolder(cases.folder(case))


def _judges(request: Request) -> bool:
    """Whether an engineer or an approver asks."""
    return bool(request.state.actor.roles & {"engineer", "approver"})


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    sweep(services.site)
    beside = [asyncio.create_task(_take_in(services))]
    if app.state.worker:
        beside.append(asyncio.create_task(keep_worker(services.site)))
    try:
        yield
    finally:
        services.stopping.set()
        for task in beside:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        services.store.close()


async def _take_in(services: Services) -> None:
    """Make cases of the parcels of the inbox, those that were left there first, one at a time, each in a process of its own."""
    failed: set[str] = set()  # a parcel that fails for a reason of ours must not keep the others out
    while True:
        services.parcel_came.clear()
        waiting = [path.stem for path in Inbox(services.site).waiting()]
        for digest in sorted(waiting, key=lambda digest: digest in failed):
            try:
                await in_child("take-in", services.site, digest=digest)
            except InputError as error:
                _log.warning("parcel refused", extra={"fields": {"parcel": digest[:12], "kind": type(error).__name__}})
            except BatchoneError as error:
                failed.add(digest)
                _log.error("parcel not taken in", extra={"fields": {"parcel": digest[:12], "kind": type(error).__name__}})
            except Exception:  # noqa: BLE001 - the service loop: one parcel that shows a bug of ours must not end the intake
                failed.add(digest)
                _log.exception("parcel not taken in", extra={"fields": {"parcel": digest[:12]}})
            else:
                failed.discard(digest)
                _log.info("parcel taken in", extra={"fields": {"parcel": digest[:12]}})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(services.parcel_came.wait(), _RETRY_S if failed else None)


async def _refused(request: Request, error: Exception) -> Response:
    told = error
    if not isinstance(told, Refusal):
        assert isinstance(error, HTTPException)
        told = Refusal(error.status_code, str(error.detail), hint="GET /docs shows what there is", headers=error.headers)
    if shell.wants_page(request):
        return shell.refused_page(request, told)
    return JSONResponse(told.tree(), told.status, told.headers)


async def _not_valid(request: Request, error: Exception) -> Response:
    """What is wrong, without the value: it may be a password."""
    assert isinstance(error, RequestValidationError)
    faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return await _refused(request, Refusal(422, faults, hint="GET /docs shows what is asked for"))


async def _broken(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(Refusal(500, "a bug of ours", hint="report it with the time of the request").tree(), 500)
