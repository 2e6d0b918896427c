"""What every page shares: templates, headers, and how a refusal looks to a person."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.guard import GuardedRoute, identified
from batchone.pipeline.serve.known import is_known
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.services import services_of

SIGN_IN, PASSWORD = "/sign-in", "/password"
MOST_WAY_BACK = 200  # characters; project default
STATIC = Path(__file__).parent.parent / "static"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}  # without a referrer a form has no Origin
_KINDS = {".css": "text/css", ".js": "text/javascript"}
_FILES = {path.name: path for path in STATIC.iterdir() if path.suffix in _KINDS}
_TAGS = {name: f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"' for name, path in _FILES.items()}

templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
router = APIRouter(route_class=GuardedRoute, include_in_schema=False)


def _moment(when: dt.datetime | None) -> str:
    return "–" if when is None else f"{when.astimezone(dt.UTC):%d %b %Y %H:%M}"


def _figure(value: float) -> str:
    """A measured number as people read it: no powers of ten before a million."""
    return f"{value:,.0f}".replace(",", " ") if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"


def _change(value: float) -> str:
    """A difference, with its sign."""
    return _figure(value) if value <= 0.0 else f"+{_figure(value)}"


templates.filters.update({"moment": _moment, "figure": _figure, "change": _change})


def shown(template: str, who: Actor | None, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one, from a template."""
    text = templates.get_template(template).render(who=who, **values)
    return HTMLResponse(text, status, headers=_HEADERS)


def onward(request: Request, path: str) -> Response:
    """Send a browser to another page, whether htmx asked or a form without it."""
    if "hx-request" in request.headers:
        return Response(status_code=200, headers={"HX-Redirect": path})
    return RedirectResponse(path, 303)


def wants_page(request: Request) -> bool:
    """Whether a person's browser asked, and not a program."""
    return "text/html" in request.headers.get("accept", "")


def refused_page(request: Request, refusal: Refusal) -> Response:
    """How a refusal looks to a person: a notice in the page where htmx asked, else a page of its own."""
    headers: Mapping[str, str] = {name: text for name, text in refusal.headers.items() if name != "WWW-Authenticate"}
    if "hx-request" in request.headers:
        notice = shown("notice.html", None, status=refusal.status, refusal=refusal)
        notice.headers.update({"HX-Retarget": "#notice", "HX-Reswap": "innerHTML", **headers})
        return notice
    if refusal.status == 401:
        return RedirectResponse(f"{SIGN_IN}?next={quote(_way_back(request))}", 303)
    actor = identified(request, services_of(request))
    if refusal.status == 403 and actor is not None and actor.account.must_change:
        return RedirectResponse(PASSWORD, 303)
    return shown("refused.html", None, status=refusal.status, refusal=refusal)


def _way_back(request: Request) -> str:
    """What was asked for, with its query; the path alone, or the board, where that is longer than the sign-in takes."""
    path, query = request.url.path, request.url.query
    way = f"{path}?{query}" if query else path
    return next((one for one in (way, path) if len(one) <= MOST_WAY_BACK), "/")


@router.get("/static/{name}")
async def static(name: str, known: Annotated[str | None, Header(alias="if-none-match", max_length=1024)] = None) -> Response:
    """A script or a style sheet, unless the browser has it as it is; nothing else lies there."""
    found = _FILES.get(name)
    if found is None:
        raise Refusal(404, "there is no such file", hint="go back to the board")
    headers = {"Cache-Control": "no-cache", "ETag": _TAGS[name]}
    if is_known(known, _TAGS[name]):
        return Response(status_code=304, headers=headers)
    return Response(found.read_bytes(), media_type=_KINDS[found.suffix], headers=headers)
