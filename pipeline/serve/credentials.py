"""Sessions (a browser's cookie) and tokens (a program's): 256 random bits each, kept as SHA-256, with an end."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from batchone.pipeline.serve.accounts import Account, Accounts, Clock
from batchone.pipeline.serve.refusal import unknown
from batchone.pipeline.serve.store import Store

SESSION_S = 12 * 3600.0  # a working day; NIST SP 800-63B-4, 2.2.3: at most 24 h
IDLE_S = 3600.0  # the same section: at most 1 h without anything done
TOKEN_DAYS, MOST_TOKEN_DAYS = 90, 366  # project default
MOST_TOKENS = 50  # of one account; project default
_SEEN_EVERY_S = 60.0  # how often it is noted that a session lives
_SECRET_BYTES = 32
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, and with which roles: all of a session's account, the one of a token. ``csrf`` is that of a session."""

    account: Account
    roles: frozenset[str]
    csrf: str | None = None
    secret: str = ""

    @property
    def name(self) -> str:
        """The account's name."""
        return self.account.name

    @property
    def by_session(self) -> bool:
        """Whether it is a browser's session."""
        return self.csrf is not None


@dataclass(frozen=True, slots=True)
class Token:
    """What is told of a token; its secret is told once, when it is made."""

    id: str
    role: str
    label: str
    made_s: float
    expires_s: float


class Credentials:
    """The sessions and tokens of a site's accounts."""

    def __init__(self, store: Store, accounts: Accounts, clock: Clock) -> None:
        self._store = store
        self._accounts = accounts
        self._clock = clock

    def begin_session(self, name: str) -> tuple[str, str]:
        """The secret of a new session and its CSRF token."""
        secret, csrf, now_s = secrets.token_urlsafe(_SECRET_BYTES), secrets.token_urlsafe(_SECRET_BYTES), self._clock()
        with self._store.transaction() as opened:
            opened.execute("DELETE FROM sessions WHERE begun_s <= ? OR seen_s <= ?", (now_s - SESSION_S, now_s - IDLE_S))
            opened.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (_digest(secret), name, csrf, now_s, now_s))
        return secret, csrf

    def end_session(self, secret: str) -> None:
        """End a session."""
        with self._store.transaction() as opened:
            opened.execute("DELETE FROM sessions WHERE digest = ?", (_digest(secret),))

    def by_session(self, secret: str, *, acts: bool = True) -> Actor | None:
        """Whose session it is; None when there is no such session, or it has ended.

        ``acts``: whether somebody does something with it. What a page asks by itself holds no session open.
        """
        digest, now_s = _digest(secret), self._clock()
        row = self._store.row("SELECT * FROM sessions WHERE digest = ?", digest)
        if row is None or now_s >= row["begun_s"] + SESSION_S or now_s >= row["seen_s"] + IDLE_S:
            return None
        account = self._accounts.find(row["account"])
        if account is None or account.disabled:
            return None
        if acts and now_s >= row["seen_s"] + _SEEN_EVERY_S:
            with self._store.transaction() as opened:
                opened.execute("UPDATE sessions SET seen_s = ? WHERE digest = ?", (now_s, digest))
        return Actor(account, frozenset(account.roles), row["csrf"], secret)

    def make_token(self, name: str, role: str, *, days: int, label: str) -> tuple[Token, str] | None:
        """A new token with one role, and its secret; None when the account has as many as it may."""
        secret, now_s = secrets.token_urlsafe(_SECRET_BYTES), self._clock()
        token = Token(secrets.token_hex(8), role, label, now_s, now_s + days * _DAY_S)
        with self._store.transaction() as opened:
            opened.execute("DELETE FROM tokens WHERE expires_s <= ?", (now_s,))
            if opened.execute("SELECT count(*) FROM tokens WHERE account = ?", (name,)).fetchone()[0] >= MOST_TOKENS:
                return None
            values = (token.id, _digest(secret), name, role, label, token.made_s, token.expires_s)
            opened.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?)", values)
        return token, secret

    def tokens(self, name: str) -> tuple[Token, ...]:
        """The tokens of an account that have not ended."""
        query = "SELECT id, role, label, made_s, expires_s FROM tokens WHERE account = ? AND expires_s > ? ORDER BY made_s, id"
        return tuple(Token(*row) for row in self._store.rows(query, name, self._clock()))

    def drop_token(self, name: str, token: str) -> None:
        """End a token.

        Raises
        ------
        Refusal
            404: the account has no such token.
        """
        with self._store.transaction() as opened:
            if opened.execute("DELETE FROM tokens WHERE id = ? AND account = ?", (token, name)).rowcount == 0:
                raise unknown("token")

    def by_token(self, secret: str) -> Actor | None:
        """Whose token it is; None when there is no such token, it has ended, or the account has lost the role."""
        row = self._store.row("SELECT account, role, expires_s FROM tokens WHERE digest = ?", _digest(secret))
        if row is None or self._clock() >= row["expires_s"]:
            return None
        account = self._accounts.find(row["account"])
        if account is None or account.disabled or row["role"] not in account.roles:
            return None
        return Actor(account, frozenset({row["role"]}))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
