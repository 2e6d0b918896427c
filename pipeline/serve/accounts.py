"""Accounts: a name, a password, roles, and the hospital that a hospital's account belongs to."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchone.pipeline.events import append_event
from batchone.pipeline.job.signature import DEMONSTRATOR
from batchone.pipeline.serve.passwords import digest_of, is_password, one_time_password
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.serve.rights import ROLES
from batchone.pipeline.serve.store import Store

FIRST = "admin"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"  # as the names of signing keys
HOSPITAL = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Clock = Callable[[], float]  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Account:
    """Who may sign in. ``hospital`` is the code of the hospital, of an account with that role; empty for others.

    With ``must_change`` nothing can be done before the password is changed.
    """

    name: str
    roles: tuple[str, ...]
    hospital: str = ""
    must_change: bool = False
    disabled: bool = False


class Accounts:
    """The accounts of a site; every change is an event of the site.

    Parameters
    ----------
    site
        The site's folder: its ``events.jsonl`` gets the changes.
    """

    def __init__(self, store: Store, site: Path, clock: Clock) -> None:
        self._store = store
        self._events = site / "events.jsonl"
        self._clock = clock

    def first_admin(self, *, again: bool = False) -> str | None:
        """Make the account ``admin``, where there is no account at all, and return its one-time password.

        ``again`` gives an ``admin`` who lost the password, the role or the account a new one-time password.
        """
        if not again and self._store.row("SELECT name FROM accounts LIMIT 1") is not None:
            return None
        password = one_time_password()
        digest = digest_of(password)
        with self._store.transaction() as opened:
            if not again and opened.execute("SELECT name FROM accounts LIMIT 1").fetchone() is not None:
                return None
            opened.execute(
                "INSERT INTO accounts VALUES (?, ?, 'admin', '', 1, 0, ?) ON CONFLICT (name) DO UPDATE SET "
                "password = excluded.password, must_change = 1, disabled = 0, "
                "roles = CASE WHEN ' ' || roles || ' ' LIKE '% admin %' THEN roles ELSE trim(roles || ' admin') END",
                (FIRST, digest, self._clock()),
            )
            _sign_out(opened, FIRST)
        self._record("batchone", f"account {FIRST} got a one-time password")
        return password

    def find(self, name: str) -> Account | None:
        """The account of a name."""
        row = self._store.row("SELECT * FROM accounts WHERE name = ?", name)
        return None if row is None else _account(row)

    def all(self) -> tuple[Account, ...]:
        """All accounts, by name."""
        return tuple(_account(row) for row in self._store.rows("SELECT * FROM accounts ORDER BY name"))

    def is_password(self, name: str, password: str) -> bool:
        """Whether it is the account's password; takes as long when there is no such account, or it is disabled."""
        row = self._store.row("SELECT password FROM accounts WHERE name = ? AND disabled = 0", name)
        return is_password(password, None if row is None else row["password"])

    def make(self, account: Account, *, by: str) -> str:
        """Make an account; returns its one-time password.

        Raises
        ------
        Refusal
            409: the name is taken; 422: roles and hospital do not fit.
        """
        _require_fitting(account)
        password = one_time_password()
        digest = digest_of(password)
        try:
            with self._store.transaction() as opened:
                values = (account.name, digest, " ".join(account.roles), account.hospital, self._clock())
                opened.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, 1, 0, ?)", values)
        except sqlite3.IntegrityError:
            raise Refusal(409, "an account of this name exists", hint="choose another name") from None
        self._record(by, f"account {account.name} made: {_words(account)}")
        return password

    def change(
        self,
        name: str,
        *,
        by: str,
        roles: tuple[str, ...] | None = None,
        hospital: str | None = None,
        disabled: bool | None = None,
        new_password: bool = False,
    ) -> tuple[Account, str | None]:
        """Change an account; with ``new_password`` it gets a one-time password, which is returned beside it.

        Its sessions end; its tokens end with the account, or with their role.

        Raises
        ------
        Refusal
            404: there is none; 409: no admin would be left; 422: roles and hospital do not fit.
        """
        password = one_time_password() if new_password else None
        digest = None if password is None else digest_of(password)
        with self._store.transaction() as opened:
            row = opened.execute("SELECT * FROM accounts WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise unknown("account")
            before = _account(row)
            after = Account(
                name,
                before.roles if roles is None else roles,
                before.hospital if hospital is None else hospital,
                before.must_change or new_password,
                before.disabled if disabled is None else disabled,
            )
            _require_fitting(after)
            opened.execute(
                "UPDATE accounts SET roles = ?, hospital = ?, disabled = ?, must_change = ?, password = ? WHERE name = ?",
                (
                    " ".join(after.roles),
                    after.hospital,
                    after.disabled,
                    after.must_change,
                    row["password"] if digest is None else digest,
                    name,
                ),
            )
            left = opened.execute(
                "SELECT count(*) FROM accounts WHERE disabled = 0 AND ' ' || roles || ' ' LIKE '% admin %'"
            ).fetchone()[0]
            if left == 0:
                raise Refusal(409, "no admin would be left, at least 1", hint="make another admin first")
            if new_password or after.disabled:
                _sign_out(opened, name)
            else:
                opened.execute("DELETE FROM sessions WHERE account = ?", (name,))
        self._record(by, f"account {name} changed: {_words(after)}" + (", one-time password" if new_password else ""))
        return after, password

    def set_password(self, name: str, password: str) -> None:
        """Set a password that the person chose; all sessions and tokens of the account end."""
        digest = digest_of(password)
        with self._store.transaction() as opened:
            opened.execute("UPDATE accounts SET password = ?, must_change = 0 WHERE name = ?", (digest, name))
            _sign_out(opened, name)
        self._record(name, f"account {name} changed its password")

    def _record(self, who: str, what: str) -> None:
        when = dt.datetime.fromtimestamp(self._clock(), dt.UTC).isoformat()
        append_event(self._events, who=who, what=what, when=when)


def _account(row: sqlite3.Row) -> Account:
    roles = tuple(row["roles"].split())
    return Account(row["name"], roles, row["hospital"], bool(row["must_change"]), bool(row["disabled"]))


def _words(account: Account) -> str:
    at = f" of {account.hospital}" if account.hospital else ""
    return f"{' '.join(account.roles) or 'no role'}{at}" + (", disabled" if account.disabled else "")


def _require_fitting(account: Account) -> None:
    if account.name == DEMONSTRATOR:
        raise Refusal(422, f"the name is {DEMONSTRATOR}, which signs demonstrations alone", hint="choose another name")
    strange = [role for role in account.roles if role not in ROLES]
    if strange or len(set(account.roles)) != len(account.roles):
        raise Refusal(
            422, f"roles are {', '.join(account.roles)}; known, once each: {', '.join(ROLES)}", hint="name some of them"
        )
    if ("hospital" in account.roles) != bool(account.hospital):
        raise Refusal(
            422,
            f"role hospital is {'given' if 'hospital' in account.roles else 'not given'}, "
            f"the hospital is {account.hospital or 'not given'}",
            hint="an account with the role hospital names its hospital by code, others name none",
        )


def _sign_out(opened: sqlite3.Connection, name: str) -> None:
    opened.execute("DELETE FROM sessions WHERE account = ?", (name,))
    opened.execute("DELETE FROM tokens WHERE account = ?", (name,))
