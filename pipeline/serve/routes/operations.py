"""Whether the server lives and can work, what it counts, and what it offers."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse

from batchone.pipeline.memory import resident_mb
from batchone.pipeline.order import Model
from batchone.pipeline.serve.guard import COOKIE, GuardedRoute, Parts
from batchone.pipeline.serve.metrics import CONTENT_TYPE, document, gauge
from batchone.pipeline.serve.page import page
from batchone.pipeline.serve.parcels import SPARE_BYTES
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.rights import API

router = APIRouter(route_class=GuardedRoute)


class Health(Model):
    """`ok`; what is wrong otherwise is in the error of the answer."""

    status: str = "ok"


@router.get("/health/live")
async def live() -> Health:
    """Whether the server answers at all."""
    return Health()


@router.get("/health/ready")
def ready(parts: Parts) -> Health:
    """Whether it can take parcels: its store answers, and the site's disk has room."""
    parts.store.rows("SELECT 1")
    free = _free_bytes(parts.site)
    if free < SPARE_BYTES:
        raise Refusal(
            503, f"{free / 1e6:.0f} MB are free on the site's disk, at least {SPARE_BYTES / 1e6:.0f} MB", hint="free space"
        )
    return Health()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"application/openmetrics-text": {}}}})
def metrics(parts: Parts) -> Response:
    """Cases by state, uploads, requests and their seconds, disk and memory, as OpenMetrics text."""
    states: Counter[str] = Counter()
    for case in parts.cases.ids():
        try:
            states[parts.cases.view(case).status] += 1
        except Refusal:
            continue  # it was removed meanwhile
    lines = [
        *gauge("batchone_cases", "Cases by state.", states, label="state"),
        *gauge("batchone_uploads_open", "Parcels that are not yet cases.", float(len(parts.parcels.open_uploads()))),
        "# HELP batchone_upload_bytes Bytes that came since the server began.",
        "# TYPE batchone_upload_bytes counter",
        "# UNIT batchone_upload_bytes bytes",
        f"batchone_upload_bytes_total {parts.parcels.received_bytes}",
        *gauge("batchone_disk_free_bytes", "Free on the site's disk.", float(_free_bytes(parts.site)), unit="bytes"),
        *gauge("batchone_resident_bytes", "Memory of the server.", resident_mb() * 1e6, unit="bytes"),
        *parts.requests.lines(),
    ]
    return Response(document(lines), media_type=CONTENT_TYPE)


@router.get(f"{API}/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(openapi_document(request.app))


@router.get("/docs", response_class=HTMLResponse)
async def docs(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page, without script."""
    return HTMLResponse(page(openapi_document(request.app)))


def openapi_document(app: Any) -> dict[str, Any]:
    """The OpenAPI document of the application, made once."""
    if not app.openapi_schema:
        tree = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        tree.setdefault("components", {})["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
        }
        app.openapi_schema = tree
    found: dict[str, Any] = app.openapi_schema
    return found


def _free_bytes(site: Any) -> int:
    found = os.statvfs(site)
    return found.f_bavail * found.f_frsize
