"""One DICOM association, as far as it may be trusted: pynetdicom's protocol machine with bounds around it.

pynetdicom reads as many bytes as a PDU says it has (up to 4 GB), collects messages of any length in memory, and decodes
commands of every kind. Here a PDU has the length that was negotiated and must come in time, only C-ECHO and C-STORE requests are
read, and the data set of a C-STORE goes straight into the spool, fragment by fragment (PS3.7, 6.3; PS3.8, annex E).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import struct
import threading
import time
from io import BytesIO
from typing import TYPE_CHECKING

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import C_ECHO, C_STORE
from pynetdicom.fsm import StateMachine
from pynetdicom.transport import AssociationSocket

from batchone.pipeline.errors import BatchoneError, InputError, MachineError
from batchone.pipeline.hospital.incoming import Incoming, Mismatch, Stray, file_meta
from batchone.pipeline.hospital.spool import Announced, Spool

if TYPE_CHECKING:
    from pynetdicom.association import Association
    from pynetdicom.dimse_primitives import DimsePrimitiveType
    from pynetdicom.pdu_primitives import P_DATA

MAX_PDU_BYTES = 131_072  # what we announce; the largest that dcmtk sends
MAX_COMMAND_BYTES = 4_096  # a C-STORE command has about 300; project default
MAX_PENDING = 2  # requests that wait for their answer; one is allowed without negotiating more (PS3.7, D.3.3.3)

SUCCESS, OUT_OF_RESOURCES, NOT_THE_CLASS, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000  # PS3.4, table B.2-1
_STORE_REQUEST, _ECHO_REQUEST = 0x0001, 0x0030
_NO_DATA_SET = 0x0101
_IS_COMMAND, _IS_LAST = 1, 2
_INVALID_PDU = "Evt19"  # pynetdicom's word for an unrecognised or invalid PDU: the association is aborted
_AFFECTED_CLASS, _FIELD, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE, _INSTANCE = 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000

_log = logging.getLogger(__name__)


class BoundedSocket(AssociationSocket):
    """Reads no more than a PDU may have, and waits no longer for it than the DIMSE timeout."""

    def recv(self, nr_bytes: int) -> bytearray:
        """Read ``nr_bytes``; fewer when the peer closes.

        Raises
        ------
        OSError
            More than a PDU may have, too slow, or the connection is gone.
        """
        if nr_bytes > MAX_PDU_BYTES:
            _log.warning("%s sends a PDU of %d bytes, at most %d: association ended", self._peer, nr_bytes, MAX_PDU_BYTES)
            raise OSError(errno.EMSGSIZE, "PDU too long")
        connection = self.socket
        if connection is None:
            raise OSError(errno.ENOTCONN, "closed")
        timeout_s = self.assoc.dimse_timeout or 0.0
        deadline_s = time.monotonic() + timeout_s
        buffer = bytearray(nr_bytes)
        done = 0
        try:
            while done < nr_bytes:
                connection.settimeout(max(deadline_s - time.monotonic(), 0.001))
                count = connection.recv_into(memoryview(buffer)[done:])
                if not count:
                    break
                done += count
            connection.settimeout(timeout_s)
        except TimeoutError:
            _log.warning("%s stopped in the middle of a PDU for %g s: association ended", self._peer, timeout_s)
            raise
        return buffer[:done]

    @property
    def _peer(self) -> str:
        return str(self.assoc.requestor.address)


class Machine(StateMachine):
    """A protocol machine that ends its connection, and nothing else, on what it cannot act upon."""

    def do_action(self, event: str) -> None:
        """Act on an event; a PDU that pynetdicom cannot read, or an answer that comes too late, ends the connection."""
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001 - whatever pynetdicom raises on what a peer sent; its text may quote that
            _log.warning("a connection could not go on (%s): ended", type(error).__name__)
            self.dul.kill_dul()


class Session:
    """What one association brings to the spool.

    Parameters
    ----------
    source
        Its name, for the spool.
    peer
        Its name, for the log.
    """

    def __init__(self, spool: Spool, source: str, peer: str) -> None:
        self.peer = peer
        self.kept = 0
        self.failed = 0
        self.strays = 0
        self._spool = spool
        self._source = source

    def begin(self, *, sop_class: str, sop_instance: str, syntax: str) -> Incoming:
        """A new object; errors as :meth:`Spool.incoming`."""
        return self._spool.incoming(file_meta(sop_class=sop_class, sop_instance=sop_instance, syntax=syntax))

    def keep(self, request: StoreRequest) -> int:
        """Keep what came with a request; returns the status for its sender."""
        try:
            if request.fault is not None or request.incoming is None:
                raise request.fault or InputError("an object came without data", hint="ask the sender to send it again")
            said = Announced(sop_class=str(request.AffectedSOPClassUID), sop_instance=str(request.AffectedSOPInstanceUID))
            self._spool.store(request.incoming, self._source, said)
        except Stray as error:
            self.strays += 1
            _log.warning("%s: an object was refused (0x%04X): %s", self.peer, CANNOT_UNDERSTAND, error)
            return CANNOT_UNDERSTAND
        except (BatchoneError, OSError) as error:
            self.failed += 1
            status = _status(error)
            _log.error("%s: an object was refused (0x%04X): %s", self.peer, status, error)
            return status
        self.kept += 1
        return SUCCESS

    def end(self, *, released: bool) -> None:
        """The association is over; ``released``: its sender said that it was done."""
        self._spool.end(self._source, whole=released and not self.failed)


class StoreRequest(C_STORE):
    """A C-STORE request whose data set lies in the spool."""

    def __init__(self) -> None:
        super().__init__()
        self.incoming: Incoming | None = None
        self.fault: BatchoneError | None = None


class StoreProvider(DIMSEServiceProvider):
    """Reads C-ECHO and C-STORE requests; anything else ends the association."""

    def __init__(self, assoc: Association, session: Session) -> None:
        super().__init__(assoc)
        self.session = session
        self._command = bytearray()
        self._current: StoreRequest | None = None
        self._context = 0
        self._broken = False
        self._sending = threading.Lock()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take in the fragments of one P-DATA primitive."""
        if self._broken:
            return
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._take(context_id, fragment)
        except _Fault as fault:
            _log.warning("%s: %s: association ended", self.session.peer, fault)
            with self._sending:
                self._broken = True
                while not self.dul.to_provider_queue.empty():
                    self.dul.to_provider_queue.get_nowait()
                self.dul.event_queue.put(_INVALID_PDU)
            self.drop()

    def send_msg(self, primitive: DimsePrimitiveType, context_id: int) -> None:
        """Answer, unless the association is being ended."""
        with self._sending:
            if not self._broken:
                super().send_msg(primitive, context_id)

    def drop(self) -> None:
        """Leave nothing behind of an object that did not come whole."""
        current, self._current = self._current, None
        if current is not None:
            self.session.failed += 1
            if current.incoming is not None:
                current.incoming.discard()
        while not self.msg_queue.empty():
            _, waiting = self.msg_queue.get_nowait()
            if isinstance(waiting, StoreRequest) and waiting.incoming is not None:
                self.session.failed += 1
                waiting.incoming.discard()

    def _take(self, context_id: int, fragment: bytes) -> None:
        if not fragment:
            raise _Fault("an empty fragment")
        last = bool(fragment[0] & _IS_LAST)
        if not fragment[0] & _IS_COMMAND:
            self._data(context_id, memoryview(fragment)[1:], last=last)
            return
        if self._current is not None:
            raise _Fault("a command came before the data of the one before were complete")
        self._command += fragment[1:]
        if len(self._command) > MAX_COMMAND_BYTES:
            raise _Fault(f"a command has more than {MAX_COMMAND_BYTES} bytes, at most {MAX_COMMAND_BYTES}")
        if last:
            command, self._command = _elements(bytes(self._command)), bytearray()
            self._begin(context_id, command)

    def _begin(self, context_id: int, command: dict[int, bytes]) -> None:
        context = self.assoc._accepted_cx.get(context_id)
        sop_class = _text(command, _AFFECTED_CLASS)
        if context is None or sop_class != context.abstract_syntax:
            raise _Fault("a request for what was not negotiated")
        field, with_data = _number(command, _FIELD), _number(command, _DATA_SET_TYPE) != _NO_DATA_SET
        if self.msg_queue.qsize() >= MAX_PENDING:
            raise _Fault("requests come without waiting for answers")
        if field == _ECHO_REQUEST and not with_data:
            echo = C_ECHO()
            echo.MessageID, echo.AffectedSOPClassUID = _number(command, _MESSAGE_ID), sop_class
            self.msg_queue.put((context_id, echo))
        elif field == _STORE_REQUEST and with_data:
            self._context, self._current = context_id, self._request(command, str(context.transfer_syntax[0]))
        else:
            raise _Fault("a request other than C-ECHO or C-STORE")

    def _request(self, command: dict[int, bytes], syntax: str) -> StoreRequest:
        request = StoreRequest()
        request.MessageID = _number(command, _MESSAGE_ID)
        request.AffectedSOPClassUID = sop_class = _text(command, _AFFECTED_CLASS)
        request.AffectedSOPInstanceUID = sop_instance = _text(command, _INSTANCE)
        request.Priority = _number(command, _PRIORITY)
        request.DataSet = BytesIO(b"")
        try:
            request.incoming = self.session.begin(sop_class=sop_class, sop_instance=sop_instance, syntax=syntax)
        except MachineError as error:
            request.fault = error
        return request

    def _data(self, context_id: int, data: memoryview, *, last: bool) -> None:
        request = self._current
        if request is None or context_id != self._context:
            raise _Fault("data came without a request")
        if request.incoming is not None:
            try:
                request.incoming.write(data)
            except InputError as error:  # larger than anything we take: not worth reading to its end
                raise _Fault(str(error)) from None
            except MachineError as error:  # the disk is full: the rest is read past, and then the sender is told
                request.incoming.discard()
                request.incoming, request.fault = None, error
        if last:
            self._current = None
            self.msg_queue.put((context_id, request))


class _Fault(Exception):  # noqa: N818 - why an association is ended, inside this module
    pass


def _elements(command: bytes) -> dict[int, bytes]:
    """The elements of a command set by their number in group 0000; always implicit little endian (PS3.7, 6.3.1)."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 8 <= len(command):
        group, number, length = struct.unpack_from("<HHI", command, at)
        at += 8
        if group != 0 or at + length > len(command):
            raise _Fault("a command that cannot be read")
        found[number] = command[at : at + length]
        at += length
    return found


def _text(command: dict[int, bytes], number: int) -> str:
    text = command.get(number, b"").decode("ascii", "replace").strip(" \0")
    if not text or len(text) > 64 or not text.isascii() or not text.replace(".", "").isdigit():
        raise _Fault("a command without a valid identifier")
    return text


def _number(command: dict[int, bytes], number: int) -> int:
    raw = command.get(number, b"")
    if len(raw) != 2:
        raise _Fault("a command without a number that it must have")
    return int.from_bytes(raw, "little")


def _status(error: BatchoneError | OSError) -> int:
    if isinstance(error, Mismatch):
        return NOT_THE_CLASS
    return CANNOT_UNDERSTAND if isinstance(error, InputError) else OUT_OF_RESOURCES


def shut(connection: socket.socket) -> None:
    """Close a connection both ways; it may be closed already."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
