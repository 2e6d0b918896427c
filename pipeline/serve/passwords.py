"""Passwords: argon2id, slow on purpose, a bounded number at a time; an unknown account takes as long as a known one."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from batchone.pipeline.serve.refusal import Refusal

LEAST_CHARACTERS = 15  # NIST SP 800-63B-4, 3.1.1.2: a password that is the only factor
MOST_CHARACTERS = 256  # so that a request stays small; the same section asks for at least 64
_MEMORY_KIB, _PASSES, _LANES = 65_536, 3, 4  # RFC 9106, 4: the second recommended option
_AT_ONCE = 2  # hashes under way, 64 MB each: sign-ins cannot fill the memory
_PATIENCE_S = 5.0  # how long a sign-in waits for room
_ONE_TIME_BYTES = 15  # 20 characters; 120 random bits

_hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=_LANES, type=Type.ID)
_room = threading.BoundedSemaphore(_AT_ONCE)
_nobody: list[str] = []  # a digest of a password that nobody has


def one_time_password() -> str:
    """A random password that is to be changed at the first sign-in."""
    return secrets.token_urlsafe(_ONE_TIME_BYTES)


def digest_of(password: str) -> str:
    """The argon2id digest of a password, with its salt and costs."""
    with _a_place():
        return _hasher.hash(password)


def is_password(password: str, digest: str | None) -> bool:
    """Whether a password has a digest; None, of an account that is not there, takes as long and is False."""
    if digest is None and not _nobody:
        _nobody.append(digest_of(secrets.token_urlsafe()))
    with _a_place():
        try:
            _hasher.verify(digest or _nobody[0], password)
        except (VerificationError, InvalidHashError):
            return False
    return digest is not None


@contextmanager
def _a_place() -> Iterator[None]:
    if not _room.acquire(timeout=_PATIENCE_S):
        raise Refusal(
            429, f"more than {_AT_ONCE} passwords are being checked", hint="try again in a moment", headers={"Retry-After": "5"}
        )
    try:
        yield
    finally:
        _room.release()
