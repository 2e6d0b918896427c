"""Sends DICOM objects to a DICOMweb server by STOW-RS (PS3.18, 10.5), one object a request, and reads what it says of each."""

from __future__ import annotations

import json
import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from batchone.pipeline.errors import InputError, MachineError

PASSWORD_VARIABLE = "BATCHONE_DICOMWEB_PASSWORD"  # noqa: S105 - the names of the variables, not their values
TOKEN_VARIABLE = "BATCHONE_DICOMWEB_TOKEN"  # noqa: S105
TIMEOUT_S = 60.0  # to connect, and between two pieces of an answer
_MAX_ANSWER_BYTES = 4_000_000  # of one answer; one about one object takes about 1 kB
_FAILED, _STORED, _FAILURE, _WARNING = "00081198", "00081199", "00081197", "00081196"
_XML_NUMBER = r'tag="%s"[^>]*>\s*<Value[^>]*>\s*(\d+)\s*</Value>'
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_REASONS = {  # PS3.18, table I.2.2 and PS3.4, table B.2-1
    0x0110: "processing failure",
    0x0122: "it does not take this kind of object (SOP class)",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0xA700: "out of resources",
    0xA900: "the object does not match its kind",
    0xA770: "it knows the instance with other content",
    0xC000: "it cannot understand the object",
    0xC122: "it does not take this transfer syntax",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Payload:
    """One object to send: where it lies in the job, its kind, its UID, its bytes."""

    file: str
    sop_class: str
    sop_instance: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said of one object; ``stored`` with a ``note`` is a warning."""

    stored: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class WebServer:
    """A DICOMweb server and how to speak to it; ``url`` is the root of its services, a token goes before a password."""

    url: str
    user: str | None = None
    password: str = ""
    token: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        """The server as it may be shown."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@contextmanager
def web_client(server: WebServer) -> Iterator[httpx.Client]:
    """A connection to the server; no proxy of the environment stands in between, and no redirection is followed.

    Raises
    ------
    InputError
        The address is none.
    """
    address = urlsplit(server.url)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise InputError("--to is no http or https address", hint="as in https://pacs.example/dicom-web")
    if address.username or address.password:
        raise InputError("--to holds a password", hint=f"give --user NAME and ${PASSWORD_VARIABLE}")
    if address.scheme == "http" and address.hostname not in _LOOPBACK:
        _log.warning("the patient's name travels without encryption: use https where the server can")
    with httpx.Client(
        base_url=server.url.rstrip("/") + "/",
        auth=(server.user, server.password) if server.user and not server.token else None,
        headers={"Authorization": f"Bearer {server.token}"} if server.token else None,
        timeout=TIMEOUT_S,
        follow_redirects=False,
        trust_env=False,
        verify=server.tls or True,
    ) as client:
        yield client


def store(client: httpx.Client, payload: Payload) -> Answer:
    """Send one object.

    Raises
    ------
    MachineError
        The server cannot be reached, or refuses this user or the service as a whole.
    """
    boundary = f"batchone-{payload.sop_instance}"
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
        "Accept": "application/dicom+json",
    }
    body = head + payload.data + f"\r\n--{boundary}--\r\n".encode()
    try:
        with client.stream("POST", "studies", content=body, headers=headers) as response:
            return _answer(response.status_code, _body(response))
    except httpx.TimeoutException as error:
        raise _unreachable(f"did not answer for {TIMEOUT_S:.0f} s") from error
    except httpx.HTTPError as error:
        raise _unreachable(f"cannot be reached, or broke off ({_cause(error)})") from error


def _body(response: httpx.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _MAX_ANSWER_BYTES:
            limit = f"{_MAX_ANSWER_BYTES / 1e6:.0f} MB"
            raise MachineError(f"an answer of the DICOMweb server has more than {limit}, at most {limit}", hint="see its log")
    return bytes(body)


def _answer(status: int, body: bytes) -> Answer:
    if status in (401, 403):
        raise MachineError(
            f"the DICOMweb server refuses this user (HTTP {status})",
            hint=f"give --user NAME and ${PASSWORD_VARIABLE}, or ${TOKEN_VARIABLE}",
        )
    if status in (404, 405, 501):
        raise MachineError(
            f"the DICOMweb server takes no objects there (HTTP {status})",
            hint="does --to name the root of its DICOMweb services, with STOW-RS allowed? add --to AE@HOST:PORT for C-STORE",
        )
    if status >= 500:
        raise MachineError(f"the DICOMweb server failed (HTTP {status})", hint="see its log, then run the same command again")
    failure, warning, listed = _codes(body)
    if failure is not None:
        return Answer(False, _words(failure))
    if status in (200, 202) and (listed or not body.strip()):
        return Answer(True, "" if warning is None else f"stored with a warning (0x{warning:04X})")
    if status in (200, 202):
        return Answer(False, "its answer names neither a stored nor a refused object")
    return Answer(False, {409: "it refuses the object", 415: _REASONS[0xC122]}.get(status, f"HTTP {status}"))


def _codes(body: bytes) -> tuple[int | None, int | None, bool]:
    """Reason of a failure, reason of a warning, and whether the object is listed as stored; from DICOM JSON or XML."""
    text = body.decode("utf-8", errors="replace")
    try:
        tree = json.loads(text)
    except ValueError:
        failure, warning = (re.search(_XML_NUMBER % tag, text) for tag in (_FAILURE, _WARNING))
        listed = f'tag="{_STORED}"' in text
        failed = int(failure[1]) if failure else (0 if f'tag="{_FAILED}"' in text else None)
        return failed, int(warning[1]) if warning else None, listed
    tree = tree[0] if isinstance(tree, list) and tree else tree
    failed_item, stored_item = _first(tree, _FAILED), _first(tree, _STORED)
    return (
        None if failed_item is None else _number(failed_item, _FAILURE) or 0,
        None if stored_item is None else _number(stored_item, _WARNING),
        stored_item is not None,
    )


def _first(tree: Any, tag: str) -> Any:
    element = tree.get(tag) if isinstance(tree, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _number(item: Any, tag: str) -> int | None:
    found = _first(item, tag)
    return found if isinstance(found, int) else None


def _words(reason: int) -> str:
    known = _REASONS.get(reason) or _REASONS.get(reason & 0xFF00) or _REASONS.get(reason & 0xF000, "it refuses the object")
    return known if reason == 0 else f"{known} (0x{reason:04X})"


def _unreachable(what: str) -> MachineError:
    return MachineError(
        f"the DICOMweb server {what}", hint="check --to and the network, then run again: sending twice does no harm"
    )


def _cause(error: BaseException | None) -> str:
    """The system's word for it; no address and no path shows."""
    last = type(error).__name__
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"TLS: {error.verify_message}"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return last
