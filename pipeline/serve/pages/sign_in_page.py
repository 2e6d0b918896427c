"""Signing in and out, and one's own password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from batchone.pipeline.serve.guard import COOKIE, GuardedRoute, Parts, Who, identified, require_own_page
from batchone.pipeline.serve.pages.shell import MOST_WAY_BACK, PASSWORD, SIGN_IN, onward, shown
from batchone.pipeline.serve.passwords import LEAST_CHARACTERS, MOST_CHARACTERS
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.routes import sign_in as api

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Typed = Annotated[str, Form(max_length=MOST_CHARACTERS)]
Back = Annotated[str, Query(max_length=MOST_WAY_BACK)]


@router.get(SIGN_IN)
async def sign_in_page(request: Request, parts: Parts, next: Back = "/") -> Response:  # noqa: A002
    """The form; whoever is signed in already goes on."""
    if identified(request, parts) is not None:
        return onward(request, _own(next))
    return shown("sign_in.html", None, next=_own(next), told="", name="")


@router.post(SIGN_IN)
async def sign_in(request: Request, parts: Parts, name: Typed, password: Typed, next: Typed = "/") -> Response:  # noqa: A002
    """Begin a session; a browser always says which page it comes from."""
    require_own_page(request)
    answer = onward(request, _own(next))
    try:
        given = api.SignIn(name=name or "-", password=password or "-")
        me = await run_in_threadpool(api.sign_in, given, request, answer, parts)
    except Refusal as refusal:
        told = f"{refusal.message}; {refusal.hint}"
        return shown("sign_in.html", None, status=refusal.status, next=_own(next), told=told, name=name)
    if me.must_change_password:
        changing = onward(request, PASSWORD)
        changing.headers["set-cookie"] = answer.headers["set-cookie"]
        return changing
    return answer


@router.post("/sign-out")
def sign_out(request: Request, who: Who, parts: Parts) -> Response:
    """End the session."""
    answer = onward(request, SIGN_IN)
    api.sign_out(who, answer, parts)
    return answer


@router.get(PASSWORD)
async def password_page(who: Who) -> Response:
    """The form for another password."""
    return shown("password.html", who, least=LEAST_CHARACTERS)


@router.post(PASSWORD)
def change_password(request: Request, who: Who, parts: Parts, old: Typed, new: Typed, again: Typed) -> Response:
    """Change it; every session ends, this one too."""
    if new != again:
        raise Refusal(422, "the two new passwords differ", hint="type the new one twice")
    if len(new) < LEAST_CHARACTERS:
        raise Refusal(422, f"the new password has {len(new)} characters, at least {LEAST_CHARACTERS}", hint="choose a longer one")
    api.change_password(api.ChangePassword(old=old or "-", new=new), request, who, parts)
    answer = onward(request, SIGN_IN)
    answer.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")
    return answer


def _own(path: str) -> str:
    """A path of this server, whatever was asked for."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and "\n" not in path else "/"
