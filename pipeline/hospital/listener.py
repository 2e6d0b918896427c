"""Listens for C-STORE and C-ECHO: only from senders on the list, over TLS where asked for, within bounds.

The protocol itself is pynetdicom's; what it leaves open is closed here and in :mod:`batchone.pipeline.hospital.association`:
the TLS handshake runs apart from the accepting thread and in bounded time, connections are counted before anything is read, and
its log, which prints what it received, is cut down to the place of an error.
"""

from __future__ import annotations

import logging
import re
import secrets
import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import _config as pynetdicom_config
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.association import MAX_PDU_BYTES, SUCCESS, BoundedSocket, Machine, Session, StoreProvider, shut
from batchone.pipeline.hospital.spool import CLASSES, Spool
from batchone.pipeline.intake.pixels import LOSSLESS, LOSSY

VERIFICATION = "1.2.840.10008.1.1"
NATIVE_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")
SYNTAXES = (*NATIVE_SYNTAXES, *LOSSLESS, *LOSSY)
_REJECTED, _BY_USER, _CALLING, _CALLED = 0x01, 0x01, 0x03, 0x07  # PS3.8, table 9-21
_SPARE_CONNECTIONS = 8  # beyond the associations: so that one too many is told so, and not just cut
_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")  # PS3.5, AE, outer spaces off
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LOOK_S = 0.1  # how often an association is looked at whose network side may have gone

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Peer:
    """A sender that may come in: its AE title, and the addresses that it may come from (all, when there are none)."""

    title: str
    addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where and for whom to listen; the last three are project defaults.

    ``timeout_s`` bounds a TLS handshake, an association request, and one PDU; ``idle_s`` the silence of an open association:
    a sender may fetch the next image from an archive first, and one that is ended by us counts as cut off.
    """

    peers: tuple[Peer, ...]
    title: str = "BATCHONE"
    host: str = "127.0.0.1"
    port: int = 11112
    tls: ssl.SSLContext | None = None
    associations: int = 8
    timeout_s: float = 60.0
    idle_s: float = 300.0


class Listener:
    """A running listener; a context manager."""

    def __init__(self, listening: Listening, spool: Spool) -> None:
        self._listening = listening
        self._spool = spool
        self._server: _Server | None = None

    def __enter__(self) -> Listener:
        """Start.

        Raises
        ------
        MachineError
            The port cannot be listened on.
        """
        asked = self._listening
        pynetdicom_config.LOG_HANDLER_LEVEL = "none"
        _quieten("pynetdicom")
        if asked.tls is None and asked.host not in _LOOPBACK:
            _log.warning("images with names in them will come without encryption: give --tls-cert, --tls-key and --tls-ca")
        entity = ApplicationEntity(asked.title)
        entity.require_calling_aet = sorted({peer.title for peer in asked.peers})
        entity.require_called_aet = True
        entity.maximum_associations = asked.associations
        entity.maximum_pdu_size = MAX_PDU_BYTES
        entity.acse_timeout = entity.dimse_timeout = asked.timeout_s
        entity.network_timeout = asked.idle_s
        entity.add_supported_context(VERIFICATION)
        for sop_class in CLASSES:
            entity.add_supported_context(sop_class, list(SYNTAXES))
        try:
            self._server = _Server(entity, asked, self._spool)
        except (OSError, OverflowError) as error:
            raise MachineError(
                f"cannot listen on {asked.host}:{asked.port}: {getattr(error, 'strerror', None) or error}",
                hint="give another --port or --host, or end what listens there",
            ) from error
        entity._servers.append(self._server)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.stop()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        if self._server is None:
            raise AssertionError("the listener has not started")
        return int(self._server.server_address[1])


def parse_peers(texts: Sequence[str]) -> tuple[Peer, ...]:
    """Senders from texts ``AE`` or ``AE@host``.

    Raises
    ------
    InputError
        No text, no valid AE title, or a host that is not known.
    """
    if not texts:
        raise InputError("0 senders are allowed, at least 1 is needed", hint="name each with --allow AE or --allow AE@host")
    return tuple(_parse_peer(text) for text in texts)


def check_title(title: str) -> str:
    """The AE title without outer spaces.

    Raises
    ------
    InputError
        It is none.
    """
    title = title.strip()
    if not _TITLE.fullmatch(title):
        raise InputError(
            f"AE title is {title!r}, must be 1 to 16 printable ASCII characters without a backslash", hint="as in BATCHONE"
        )
    return title


def _parse_peer(text: str) -> Peer:
    title, at, host = text.partition("@")
    title = check_title(title)
    if not at:
        return Peer(title)
    try:
        found = socket.getaddrinfo(host or None, None) if host else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise InputError(f"the host of --allow {title}@{host} is not known", hint="give its address, as in PACS@192.0.2.7")
    return Peer(title, frozenset(str(entry[4][0]) for entry in found))


class _Server(ThreadedAssociationServer):
    """Accepts connections, at most so many at once; each has a thread from its handshake to its end."""

    daemon_threads = True

    def __init__(self, entity: ApplicationEntity, listening: Listening, spool: Spool) -> None:
        self.listening = listening
        self.spool = spool
        self._places = threading.BoundedSemaphore(listening.associations + _SPARE_CONNECTIONS)
        super().__init__(
            entity,
            (listening.host, listening.port),
            listening.title,
            entity.supported_contexts,
            evt_handlers=[(evt.EVT_REQUESTED, _judge), (evt.EVT_REJECTED, _tell_rejected), (evt.EVT_C_STORE, _keep)],
            request_handler=_Connection,
        )

    def get_request(self) -> tuple[socket.socket, Any]:
        if self.socket is None:
            raise OSError("closed")
        return self.socket.accept()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether there is a place; socketserver closes the connection otherwise."""
        free = self._places.acquire(blocking=False)
        if not free:
            _log.warning("%s: more connections than %d at once: refused", client_address[0], self.listening.associations)
        return free

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            secured = self._secured(request, client_address[0])
            if secured is not None:
                self.finish_request(secured, client_address)
                shut(secured)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.exception("%s: the connection broke", client_address[0])

    def stop(self) -> None:
        """End all associations and stop listening."""
        for association in self.active_associations:
            if association.is_established:
                association.abort()
            elif association.dul.socket is not None and association.dul.socket.socket is not None:
                shut(association.dul.socket.socket)
        self.shutdown()

    def _secured(self, request: socket.socket, peer: str) -> socket.socket | None:
        request.settimeout(self.listening.timeout_s)
        if self.listening.tls is None:
            return request
        try:
            return self.listening.tls.wrap_socket(request, server_side=True)
        except ssl.SSLCertVerificationError as error:
            _log.warning("%s: TLS refused: its certificate is not accepted: %s", peer, error.verify_message)
        except ssl.SSLError as error:
            _log.warning("%s: TLS refused: %s", peer, _tls_reason(error))
        except OSError as error:
            _log.warning("%s: TLS refused: the handshake did not end (%s)", peer, error.strerror or "timed out")
        shut(request)
        return None


class _Connection(RequestHandler):
    """One connection, from its association request to its end."""

    server: _Server

    def handle(self) -> None:
        association = self._create_association()
        association.dul.daemon = True
        peer = str(self.client_address[0])
        session = Session(self.server.spool, secrets.token_hex(8), peer)
        provider = StoreProvider(association, session)
        association.dimse = provider
        try:
            association.start()
            while association.is_alive():
                association.join(_LOOK_S)
                if association._started_dul and not association.dul.is_alive():
                    nothing: Any = None  # wakes it where it still waits for a request that cannot come any more
                    association.dul.to_user_queue.put(nothing)
            association.dul.join(self.server.listening.timeout_s)
            provider.drop()
        finally:
            session.end(released=association.is_released)
        if session.kept or session.failed or session.strays:
            how = "released" if association.is_released else "cut off"
            refused = session.failed + session.strays
            _log.info("%s: association %s: %d objects kept, %d not", peer, how, session.kept, refused)

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.socket = BoundedSocket(association, client_socket=self.request)
        association.dul.state_machine = Machine(association.dul)
        association.dul.event_queue.get_nowait()  # both sockets announced the same connection
        return association


def _judge(event: Event) -> None:
    """Reject an association request that is not on the list (PS3.8, 9.3.4)."""
    server = event.assoc._server
    request = event.assoc.requestor.primitive
    peer = event.assoc.requestor.address
    calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
    allowed = [one for one in server.listening.peers if one.title == calling and (not one.addresses or peer in one.addresses)]
    if allowed and called == server.listening.title:
        return
    if not allowed:
        _log.warning("%s: association refused: calling AE title %r is not on the list from there", peer, calling[:16])
        reason = _CALLING
    else:
        _log.warning("%s: association refused: called AE title is %r, ours is %r", peer, called[:16], server.listening.title)
        reason = _CALLED
    event.assoc.acse.send_reject(_REJECTED, _BY_USER, reason)
    event.assoc.kill()


def _tell_rejected(event: Event) -> None:
    """An association that pynetdicom rejected itself: too many at once."""
    server = event.assoc._server
    limit = server.listening.associations
    _log.warning("%s: association refused: %d are open, at most %d", event.assoc.requestor.address, limit, limit)


def _keep(event: Event) -> int:
    provider = event.assoc.dimse
    request: Any = event.request
    return provider.session.keep(request) if isinstance(provider, StoreProvider) else SUCCESS


def _tls_reason(error: ssl.SSLError) -> str:
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it gave no certificate, one is needed"
    return (error.reason or "unknown reason").replace("_", " ").lower()


class _Place(logging.Handler):
    """Says where a library met an error, and nothing of what it was reading."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else record.levelname
        _log.debug("DICOM network: %s at %s:%d", kind, record.module, record.lineno)


def _quieten(library: str) -> None:
    found = logging.getLogger(library)
    found.propagate = False
    if not any(isinstance(handler, _Place) for handler in found.handlers):
        found.addHandler(_Place(logging.ERROR))
