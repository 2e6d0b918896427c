"""The door: before a route runs, or its body is read, the table of rights is asked. A route without a row cannot be made.

A browser is known by its session's cookie; what it changes must carry the session's CSRF token and come from our own pages
(``Origin``). A program is known by its token in ``Authorization: Bearer``; it needs neither, for no browser adds that by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.rights import ANYONE, API, RIGHTS
from batchone.pipeline.serve.services import Services, services_of

COOKIE = "__Host-batchone"
CSRF_HEADER = "X-CSRF-Token"
_BEFORE_THE_CHANGE = {("GET", f"{API}/me"), ("POST", f"{API}/me/password"), ("POST", f"{API}/sign-out")}
_BEFORE_THE_CHANGE |= {("GET", "/password"), ("POST", "/password"), ("POST", "/sign-out")}
_READING = ("GET", "HEAD")
_BY_ITSELF = {("GET", "/board"), ("GET", "/review/{case}/state"), ("GET", "/machines/now")}  # every few seconds, by an open page
_BY_ITSELF |= {("GET", "/machines/{machine}/picture/{moment}")}  # shown by the last of them


class GuardedRoute(APIRoute):
    """A route that asks the table of rights first.

    Raises
    ------
    KeyError
        The table does not name it.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        (method,) = options["methods"]
        self._row = (method, path)
        if RIGHTS[self._row] != ANYONE:
            options["openapi_extra"] = {"security": [{"token": []}, {"session": []}]}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, behind the door."""
        handler = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            _require_right(request, self._row)
            return await handler(request)

        return guarded


def _require_right(request: Request, row: tuple[str, str]) -> None:
    allowed = RIGHTS[row]
    if allowed == ANYONE:
        return
    actor = identified(request, services_of(request), acts=row not in _BY_ITSELF)
    if actor is None:
        raise Refusal(
            401,
            "not signed in, or the session or token has ended",
            hint="sign in, or give a token in Authorization: Bearer",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if actor.by_session and row[0] not in _READING:
        require_own_page(request)
        if not secrets.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), (actor.csrf or "").encode()):
            raise Refusal(
                403, f"{CSRF_HEADER} is missing or not that of the session", hint=f"load the page again; GET {API}/me tells it"
            )
    if actor.account.must_change and row not in _BEFORE_THE_CHANGE:
        raise Refusal(403, "the one-time password is still to be changed", hint=f"POST {API}/me/password")
    if not actor.roles & allowed:
        raise Refusal(
            403,
            f"this is for {' or '.join(sorted(allowed))}, not for {' and '.join(sorted(actor.roles)) or 'no role'}",
            hint="ask an admin",
        )
    request.state.actor = actor


def identified(request: Request, services: Services, *, acts: bool = True) -> Actor | None:
    """Who sends a request; None without credentials that hold now. ``acts``: a person does, and not a page by itself."""
    header = request.headers.get("authorization")
    if header is not None:
        kind, _, secret = header.partition(" ")
        return services.credentials.by_token(secret.strip()) if kind.lower() == "bearer" else None
    cookie = request.cookies.get(COOKIE)
    return None if cookie is None else services.credentials.by_session(cookie, acts=acts)


def require_own_page(request: Request, *, absent: bool = False) -> None:
    """Refuse what a page of another site sends; ``absent`` lets pass what names no page at all.

    Raises
    ------
    Refusal
        403.
    """
    origin = request.headers.get("origin")
    own = services_of(request).origin or f"{request.url.scheme}://{request.headers.get('host', '')}"
    if not (origin == own or (origin is None and absent)):
        raise Refusal(403, "Origin is not that of this server", hint=f"send Origin: {own}")


async def _actor(request: Request) -> Actor:  # both are async: others would each take a thread
    found: Actor = request.state.actor
    return found


async def _parts(request: Request) -> Services:
    return services_of(request)


Who = Annotated[Actor, Depends(_actor)]
"""Who asks, in the arguments of a route."""
Parts = Annotated[Services, Depends(_parts)]
"""The parts of the server, in the arguments of a route."""
