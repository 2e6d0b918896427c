"""Guessing is slowed, per account and per address; the state lies in the store, so that a restart forgives nothing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.store import Store

FREE_PER_ACCOUNT = 5  # wrong passwords before the first wait; project default, NIST SP 800-63B-4, 3.2.2 allows 100 in a row
FREE_PER_ADDRESS = 20  # a ward signs in from one address; project default
LONGEST_WAIT_S = 900.0  # project default
FORGOTTEN_S = 86_400.0  # after a day without a failure the count begins anew; project default


class Brake:
    """Counts failed passwords and says how long to wait.

    Parameters
    ----------
    clock
        The time in seconds since the epoch.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock

    def admit(self, account: str, address: str) -> None:
        """Let one guess pass, counted as failed until :meth:`succeeded`: guesses at the same time do not slip through.

        Raises
        ------
        Refusal
            429: too soon after earlier failures.
        """
        now_s = self._clock()
        with self._store.transaction() as opened:
            opened.execute("DELETE FROM failures WHERE last_s < ?", (now_s - FORGOTTEN_S,))
            opened.execute("UPDATE failures SET last_s = ? WHERE last_s > ?", (now_s, now_s))  # the clock was set back
        with self._store.transaction() as opened:
            for key, free in _keys(account, address):
                found = opened.execute("SELECT count, last_s FROM failures WHERE key = ?", (key,)).fetchone()
                left_s = 0.0 if found is None else found["last_s"] + wait_s(found["count"], free) - now_s
                if left_s > 0:
                    raise Refusal(
                        429,
                        f"too many wrong passwords; the next try is possible in {math.ceil(left_s)} s",
                        hint="wait, or ask an admin for a new password",
                        headers={"Retry-After": str(math.ceil(left_s))},
                    )
            for key, _ in _keys(account, address):
                opened.execute(
                    "INSERT INTO failures VALUES (?, 1, ?) ON CONFLICT (key) DO UPDATE SET count = count + 1, last_s = ?",
                    (key, now_s, now_s),
                )

    def succeeded(self, account: str, address: str) -> None:
        """The guess was right: the account's count begins anew, the address's is what it was."""
        (own, _), (place, _) = _keys(account, address)
        with self._store.transaction() as opened:
            opened.execute("DELETE FROM failures WHERE key = ?", (own,))
            opened.execute("UPDATE failures SET count = count - 1 WHERE key = ?", (place,))


def wait_s(failures: int, free: int) -> float:
    """Seconds from the last failure to the next guess: none for the first ones, then doubling from 1 s to the longest."""
    return 0.0 if failures < free else min(2.0 ** min(failures - free, 30), LONGEST_WAIT_S)


def _keys(account: str, address: str) -> tuple[tuple[str, int], tuple[str, int]]:
    """The store holds no names and no addresses, only digests of them."""
    return (
        (hashlib.sha256(f"account {account}".encode()).hexdigest(), FREE_PER_ACCOUNT),
        (hashlib.sha256(f"address {address}".encode()).hexdigest(), FREE_PER_ADDRESS),
    )
