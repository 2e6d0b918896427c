"""Sends DICOM objects to an archive by C-STORE (PS3.4, annex B), plain or over TLS."""

from __future__ import annotations

import io
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.stow import Answer, Payload

TIMEOUT_S = 60.0  # for an association and for each object
_CONNECT_S = 10.0
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_PEER = re.compile(r"(?P<title>[!-~][ -~]{0,15})@(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
_WARNINGS = (0xB000, 0xB006, 0xB007)  # stored, but something of it was changed or left out
_WORDS = {0x0122: "it does not take this kind of object (SOP class)", 0x0124: "not authorised", 0x0117: "invalid instance"}
_FAMILIES = {0xA700: "out of resources", 0xA900: "the object does not match its kind", 0xC000: "it cannot understand the object"}


@dataclass(frozen=True, slots=True)
class Peer:
    """An archive: its AE title, host and port, and our own title; over TLS where a context is given."""

    title: str
    host: str
    port: int
    own_title: str = "BATCHONE"
    tls: ssl.SSLContext | None = None

    @property
    def name(self) -> str:
        """The archive as it may be shown."""
        return f"{self.title}@{self.host}:{self.port}"


def parse_peer(text: str) -> tuple[str, str, int]:
    """Title, host and port of ``AE@host:port``.

    Raises
    ------
    InputError
        Not of that form.
    """
    match = _PEER.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise InputError(
            "--to is neither a DICOMweb address nor AE@HOST:PORT (title at most 16 characters, port 1 to 65535)",
            hint="as in https://pacs.example/dicom-web or PACS@pacs.example:104",
        )
    return match["title"], match["host"].strip("[]"), int(match["port"])


@contextmanager
def association(peer: Peer, classes: tuple[str, ...]) -> Iterator[Any]:
    """An association in which objects of these SOP classes may be sent.

    Raises
    ------
    MachineError
        The archive cannot be reached, or refuses the association.
    """
    from pynetdicom import AE

    _refuse_unreachable(peer)
    entity = AE(ae_title=peer.own_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_S
    entity.connection_timeout = _CONNECT_S
    for sop_class in classes:
        entity.add_requested_context(sop_class, _EXPLICIT_LITTLE)
    tls = None if peer.tls is None else (peer.tls, peer.host)
    made = entity.associate(peer.host, peer.port, ae_title=peer.title, tls_args=tls)
    try:
        if not made.is_established:
            raise MachineError(f"the archive {peer.name} {_why(made)}", hint=_what_to_do(made))
        yield made
    finally:
        if made.is_established:
            made.release()
        entity.shutdown()


def store(made: Any, payload: Payload) -> Answer:
    """Send one object.

    Raises
    ------
    MachineError
        The association broke.
    """
    from pydicom import dcmread

    accepted = {str(context.abstract_syntax) for context in made.accepted_contexts}
    if payload.sop_class not in accepted:
        return Answer(False, _WORDS[0x0122])
    try:
        status = made.send_c_store(dcmread(io.BytesIO(payload.data)))
    except (RuntimeError, OSError) as error:
        raise _broken() from error
    code = status.get("Status")
    if code is None:
        raise _broken()
    if code == 0:
        return Answer(True)
    if code in _WARNINGS:
        return Answer(True, f"stored with a warning (0x{code:04X})")
    words = _WORDS.get(code) or _FAMILIES.get(code & 0xFF00) or _FAMILIES.get(code & 0xF000, "it refuses the object")
    return Answer(False, f"{words} (0x{code:04X})")


def _refuse_unreachable(peer: Peer) -> None:
    """See that somebody answers there at all; the network library would only say that something failed."""
    try:
        with socket.create_connection((peer.host, peer.port), timeout=_CONNECT_S) as plain:
            if peer.tls is not None:
                peer.tls.wrap_socket(plain, server_hostname=peer.host).close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if isinstance(error, ssl.SSLError):
            reason = f"TLS: {getattr(error, 'verify_message', '') or error.reason or 'no handshake'}"
        raise MachineError(
            f"the archive {peer.name} cannot be reached ({reason})",
            hint="check --to, the network and TLS, then run again: sending twice does no harm",
        ) from error


def _why(made: Any) -> str:
    if made.is_rejected:
        reason = getattr(made.acceptor.primitive, "reason_str", "") or "no reason given"
        return f"rejects the association ({reason})"
    if made.is_aborted and made.acceptor.primitive is not None:
        return "accepts none of the kinds of object"
    return "broke off before the association stood"


def _what_to_do(made: Any) -> str:
    if made.is_rejected:
        return "ask the archive's keeper to allow our AE title (--aet), and check the title given with --to"
    return "check --to, the network and TLS, then run again: sending twice does no harm"


def _broken() -> MachineError:
    return MachineError(
        "the archive broke off before it confirmed an object", hint="run the same command again: sending twice does no harm"
    )
