"""Signing in and out, passwords, and the tokens of one's own account."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from batchone.pipeline.job.signature import KEYS, change_approval_passphrase
from batchone.pipeline.order import Model
from batchone.pipeline.serve.credentials import MOST_TOKEN_DAYS, MOST_TOKENS, SESSION_S, TOKEN_DAYS, Token
from batchone.pipeline.serve.guard import COOKIE, GuardedRoute, Parts, Who, require_own_page
from batchone.pipeline.serve.passwords import LEAST_CHARACTERS, MOST_CHARACTERS
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.rights import API, Role
from batchone.pipeline.serve.services import Services, address_of

router = APIRouter(route_class=GuardedRoute)

Password = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
NewPassword = Annotated[str, Field(min_length=LEAST_CHARACTERS, max_length=MOST_CHARACTERS)]
Label = Annotated[str, Field(max_length=64, pattern=r"^[\x20-\x7e]*$", description="What the token is for.")]


class SignIn(Model):
    """Name and password."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    password: Password


class Me(Model):
    """Who is signed in; ``csrf`` goes into the header X-CSRF-Token of what a browser changes, null with a token."""

    name: str
    roles: Annotated[tuple[str, ...], Field(strict=False)]
    hospital: str
    must_change_password: bool
    csrf: str | None


class ChangePassword(Model):
    """The old password again, and the new one."""

    old: Password
    new: NewPassword


class NewToken(Model):
    """A token has one role of its account and ends after some days."""

    role: Role
    days: Annotated[int, Field(ge=1, le=MOST_TOKEN_DAYS)] = TOKEN_DAYS
    label: Label = ""


class TokenTold(Model):
    """A token; ``secret`` is told only when it is made."""

    id: str
    role: str
    label: str
    made: dt.datetime
    expires: dt.datetime
    secret: str | None = None


@router.post(f"{API}/sign-in")
def sign_in(given: SignIn, request: Request, response: Response, parts: Parts) -> Me:
    """Begin a session: a cookie that scripts cannot read, and the CSRF token for what is changed with it."""
    require_own_page(request, absent=True)
    require_password(request, parts, given.name, given.password, status=401)
    secret, csrf = parts.credentials.begin_session(given.name)
    response.set_cookie(COOKIE, secret, max_age=int(SESSION_S), path="/", secure=True, httponly=True, samesite="lax")
    actor = parts.credentials.by_session(secret)
    if actor is None:
        raise Refusal(401, "name or password is wrong", hint="try again")
    return Me(
        name=actor.name,
        roles=actor.account.roles,
        hospital=actor.account.hospital,
        must_change_password=actor.account.must_change,
        csrf=csrf,
    )


@router.post(f"{API}/sign-out", status_code=204)
def sign_out(who: Who, response: Response, parts: Parts) -> None:
    """End the session; a token ends by DELETE."""
    parts.credentials.end_session(who.secret)
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="lax")


@router.get(f"{API}/me")
def me(who: Who) -> Me:
    """Who is signed in."""
    return Me(
        name=who.name,
        roles=tuple(sorted(who.roles)),
        hospital=who.account.hospital,
        must_change_password=who.account.must_change,
        csrf=who.csrf,
    )


@router.post(f"{API}/me/password", status_code=204)
def change_password(given: ChangePassword, request: Request, who: Who, parts: Parts) -> None:
    """Change the password; every session and token of the account ends, this one too."""
    _require_session(who.by_session)
    require_password(request, parts, who.name, given.old, status=403)
    if given.new == given.old:
        raise Refusal(422, "the new password is the old one", hint="choose another one")
    change_approval_passphrase(parts.site / KEYS, who.name, given.old, given.new)
    parts.accounts.set_password(who.name, given.new)


@router.get(f"{API}/tokens")
def tokens(who: Who, parts: Parts) -> list[TokenTold]:
    """The tokens of one's own account that have not ended."""
    return [_told(token) for token in parts.credentials.tokens(who.name)]


@router.post(f"{API}/tokens", status_code=201)
def make_token(given: NewToken, who: Who, parts: Parts) -> TokenTold:
    """Make a token; only a session can, so that a stolen token cannot outlive itself."""
    _require_session(who.by_session)
    if given.role not in who.roles:
        raise Refusal(403, f"the account has no role {given.role}", hint="ask an admin")
    made = parts.credentials.make_token(who.name, given.role, days=given.days, label=given.label)
    if made is None:
        raise Refusal(409, f"the account has {MOST_TOKENS} tokens, at most {MOST_TOKENS}", hint="end one of them first")
    return _told(made[0], made[1])


@router.delete(f"{API}/tokens/{{token}}", status_code=204)
def drop_token(token: Annotated[str, Path(pattern="^[0-9a-f]{16}$")], who: Who, parts: Parts) -> None:
    """End a token of one's own account."""
    parts.credentials.drop_token(who.name, token)


def require_password(request: Request, parts: Services, name: str, password: str, *, status: int) -> None:
    """Refuse a wrong password; guesses are slowed by account and address.

    Raises
    ------
    Refusal
        ``status``, or 429 when it is too soon after earlier ones.
    """
    address = address_of(request)
    parts.brake.admit(name, address)
    if not parts.accounts.is_password(name, password):
        raise Refusal(status, "name or password is wrong", hint="try again; an admin gives a new one-time password")
    parts.brake.succeeded(name, address)


def _require_session(by_session: bool) -> None:
    if not by_session:
        raise Refusal(403, "this takes a session, a token was given", hint="sign in with name and password")


def _told(token: Token, secret: str | None = None) -> TokenTold:
    made, expires = (dt.datetime.fromtimestamp(moment, dt.UTC) for moment in (token.made_s, token.expires_s))
    return TokenTold(id=token.id, role=token.role, label=token.label, made=made, expires=expires, secret=secret)
