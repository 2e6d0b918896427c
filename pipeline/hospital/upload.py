"""Bring a parcel to a site's server: a broken connection goes on where it was, and a repeated upload changes nothing."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.deliver import Progress
from batchone.pipeline.hospital.parcel import Parcel
from batchone.pipeline.intake.parcel_file import BLOCK_BYTES

TOKEN_VARIABLE = "BATCHONE_TOKEN"  # noqa: S105 - the name of a variable
_TRIES = 10  # without a byte of progress between them; project default
_LONGEST_WAIT_S = 30.0
_CONNECT_S, _ANSWER_S = 20.0, 300.0  # a whole parcel of 2 GB is digested before the last answer
_INTAKE_S = 600.0  # how long the site may take to make a case of a parcel before we say that it waits
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Server:
    """A site's server: ``https://site.example``, the token of a hospital's account, and the TLS to reach it with."""

    url: str
    token: str
    tls: ssl.SSLContext | bool = True


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of an upload. ``state`` is ``taken`` or ``waiting``; ``new`` is False when the site had the parcel already."""

    state: str
    resumed_at: int
    new: bool


def is_url(to: str) -> bool:
    """Whether a destination is a server's address and not a folder."""
    return to.lower().startswith(("https://", "http://"))


def require_server(server: Server) -> None:
    """Refuse an address over which a scan would travel in the clear, or no token.

    Raises
    ------
    InputError
        The address is no https URL of a server (http is for loopback alone), or the token is missing.
    """
    parts = urlsplit(server.url)
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise InputError(f"--to is {server.url}, must be https://NAME or https://NAME:PORT", hint="give the site's address alone")
    if parts.scheme != "https" and not _is_loopback(parts.hostname):
        raise InputError(f"--to is {parts.scheme}://{parts.netloc}, a scan travels by https only", hint="give the https address")
    if not server.token:
        raise InputError(f"no token for {parts.netloc}", hint=f"set {TOKEN_VARIABLE} to a token of the hospital's account")


def upload(
    parcel: Parcel,
    server: Server,
    progress: Progress = lambda done, total: None,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Uploaded:
    """Upload a parcel and wait until the site has made a case of it.

    Parameters
    ----------
    progress
        Called with the bytes uploaded so far and their total.
    sleep
        Waits some seconds.

    Raises
    ------
    InputError
        The site refuses the token or the parcel.
    MachineError
        The site cannot be reached, or is full; what came stays there for the next try.
    """
    require_server(server)
    with httpx.Client(
        base_url=server.url.rstrip("/") + "/api/v1",
        headers={"Authorization": f"Bearer {server.token}"},
        verify=server.tls,
        timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
        follow_redirects=False,
    ) as client:
        return _Uploading(parcel, client, progress, sleep).run()


@dataclass(slots=True)
class _Uploading:
    parcel: Parcel
    client: httpx.Client
    progress: Progress
    sleep: Callable[[float], None]

    def run(self) -> Uploaded:
        told = self._asked("POST", "/uploads", {"digest": self.parcel.digest, "bytes": self.parcel.bytes})
        resumed_at, new = (int(told["offset"]), True) if told["state"] == "open" else (0, told["state"] == "waiting")
        tries, best = 0, resumed_at
        while told["state"] == "open":
            try:
                told = self._send(int(told["offset"]))
            except _Broken as broken:
                tries += 1
                if tries > _TRIES:
                    raise _unreachable(broken) from broken
                self.sleep(min(2.0 ** (tries - 1), _LONGEST_WAIT_S))
                told = self._asked("GET", f"/uploads/{self.parcel.digest}")
            if int(told["offset"]) > best:
                tries, best = 0, int(told["offset"])
        self.progress(self.parcel.bytes, self.parcel.bytes)
        waited_s = 0.0
        while told["state"] == "waiting" and waited_s < _INTAKE_S:
            self.sleep(_LOOK_S)
            waited_s += _LOOK_S
            told = self._asked("GET", f"/uploads/{self.parcel.digest}")
        if told["state"] == "refused":
            raise InputError(f"the site refused the parcel: {told['reason']}", hint=str(told["hint"]))
        return Uploaded(str(told["state"]), resumed_at, new)

    def _send(self, offset: int) -> dict[str, Any]:
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/octet-stream"}
        try:
            answer = self.client.patch(f"/uploads/{self.parcel.digest}", content=self._blocks(offset), headers=headers)
        except httpx.TransportError as error:
            raise _Broken(str(error)) from error
        return _read(answer, again=(409,))  # another connection still holds it, or it ends elsewhere: ask

    def _asked(self, method: str, path: str, tree: dict[str, Any] | None = None) -> dict[str, Any]:
        for tries in range(_TRIES + 1):
            try:
                return _read(self.client.request(method, path, json=tree))
            except (_Broken, httpx.TransportError) as error:
                _refuse_untrusted(error)
                if tries == _TRIES:
                    raise _unreachable(error) from error
                self.sleep(min(2.0**tries, _LONGEST_WAIT_S))
        raise AssertionError

    def _blocks(self, offset: int) -> Iterator[bytes]:
        with self.parcel.path.open("rb") as source:
            source.seek(offset)
            while block := source.read(BLOCK_BYTES):
                yield block
                offset += len(block)
                self.progress(offset, self.parcel.bytes)


class _Broken(Exception):  # noqa: N818 - something to go on from
    """The connection broke, or the site cannot answer just now."""


def _read(answer: httpx.Response, *, again: tuple[int, ...] = ()) -> dict[str, Any]:
    """The document of an answer; ``again`` are further answers after which it is worth to ask again."""
    if (answer.status_code >= 500 and answer.status_code != 507) or answer.status_code in again:
        raise _Broken(f"the site answered {answer.status_code}: {_why(answer)[0]}")
    if answer.status_code >= 400:
        message, hint = _why(answer)
        kind = MachineError if answer.status_code == 507 else InputError
        raise kind(f"the site answered {answer.status_code}: {message}", hint=hint)
    tree: dict[str, Any] = answer.json()
    return tree


def _why(answer: httpx.Response) -> tuple[str, str]:
    try:
        told = answer.json()["error"]
        return str(told["message"]), str(told["hint"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase, "is --to the address of a batchone server?"


def _refuse_untrusted(error: Exception) -> None:
    """A certificate that is not trusted does not become so by asking again."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise MachineError(
            "the site's TLS certificate is not trusted", hint="give its authority with --tls-ca; check the address"
        ) from error


def _unreachable(error: Exception) -> MachineError:
    return MachineError(
        f"the site cannot be reached: {error or type(error).__name__}",
        hint="submit again: what came is kept, and it goes on from there",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
