"""Accounts, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response
from pydantic import ValidationError

from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.shell import shown
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.rights import ROLES
from batchone.pipeline.serve.routes import people
from batchone.pipeline.serve.services import Services

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Typed = Annotated[str, Form(max_length=64)]


@router.get("/accounts")
def accounts(who: Who, parts: Parts) -> Response:
    """All accounts, and the form for another."""
    return _page(who, parts)


@router.post("/accounts")
def make_account(who: Who, parts: Parts, name: Typed, role: Typed, hospital: Typed = "") -> Response:
    """Make one; its one-time password is shown once."""
    try:
        given = people.NewAccount(name=name, roles=(role,), hospital=hospital or None)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", hint="correct it") from error
    return _page(who, parts, people.make_account(given, who, parts))


def _page(who: Actor, parts: Services, made: people.AccountTold | None = None) -> Response:
    return shown("accounts.html", who, accounts=parts.accounts.all(), roles=ROLES, made=made)
