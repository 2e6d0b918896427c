"""Accounts, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import Field

from batchone.pipeline.order import Model
from batchone.pipeline.serve.accounts import HOSPITAL, NAME, Account
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.rights import API, ROLES, Role

router = APIRouter(route_class=GuardedRoute)

Name = Annotated[str, Field(pattern=NAME)]
Hospital = Annotated[str, Field(pattern=HOSPITAL, description="The hospital's code.")]
Roles = Annotated[tuple[Role, ...], Field(strict=False, max_length=len(ROLES))]


class NewAccount(Model):
    """An account to be made; one with the role hospital names its hospital."""

    name: Name
    roles: Roles
    hospital: Hospital | None = None


class AccountChange(Model):
    """What is to be changed; what is absent stays. ``no_hospital`` takes the hospital away."""

    roles: Roles | None = None
    hospital: Hospital | None = None
    no_hospital: bool = False
    disabled: bool | None = None
    new_password: bool = False


class AccountTold(Model):
    """An account; ``one_time_password`` is told only when it is made or renewed."""

    name: str
    roles: Annotated[tuple[str, ...], Field(strict=False)]
    hospital: str
    disabled: bool
    must_change_password: bool
    one_time_password: str | None = None


@router.get(f"{API}/accounts")
def accounts(parts: Parts) -> list[AccountTold]:
    """All accounts."""
    return [_told(account) for account in parts.accounts.all()]


@router.post(f"{API}/accounts", status_code=201)
def make_account(given: NewAccount, who: Who, parts: Parts) -> AccountTold:
    """Make an account; its one-time password is told once."""
    account = Account(given.name, given.roles, given.hospital or "", must_change=True)
    return _told(account, parts.accounts.make(account, by=who.name))


@router.patch(f"{API}/accounts/{{name}}")
def change_account(name: Annotated[str, Path(pattern=NAME)], given: AccountChange, who: Who, parts: Parts) -> AccountTold:
    """Change roles or hospital, disable, or give a new one-time password; the account's sessions end."""
    changed, password = parts.accounts.change(
        name,
        by=who.name,
        roles=given.roles,
        hospital="" if given.no_hospital else given.hospital,
        disabled=given.disabled,
        new_password=given.new_password,
    )
    return _told(changed, password)


def _told(account: Account, password: str | None = None) -> AccountTold:
    return AccountTold(
        name=account.name,
        roles=account.roles,
        hospital=account.hospital,
        disabled=account.disabled,
        must_change_password=account.must_change,
        one_time_password=password,
    )
