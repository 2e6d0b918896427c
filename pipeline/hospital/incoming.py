"""One object on its way into the spool: written as it comes, never longer than its bound, and gone unless it came whole."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import InputError

IMPLEMENTATION_UID = "2.25.302197316023473868441912457016938247121"  # ours; a random 128-bit number, as PS3.5 B.2 has it
_PREAMBLE_BYTES = 128


class Mismatch(InputError):  # noqa: N818 - a verdict on one object, told to its sender as a status of its own
    """An object that is not what its sender announced."""


class Stray(InputError):  # noqa: N818 - a verdict on one object, which says nothing about the study that came with it
    """An object that belongs to no study: scanners write index files beside their images, and some are sent with them."""


class Incoming:
    """A file that is being received.

    Parameters
    ----------
    path
        Where it is written until it is whole; must not exist.
    head
        What goes before the first byte received.
    limit
        Most bytes it may have.
    """

    def __init__(self, path: Path, head: bytes, *, limit: int) -> None:
        self.path = path
        self.size = 0
        self._limit = limit
        with reported("an incoming object"):
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self.write(head)
        except BaseException:
            self.discard()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append what came.

        Raises
        ------
        InputError
            The object is larger than its bound.
        MachineError
            The disk is full.
        """
        if self.size + len(data) > self._limit:
            raise InputError(
                f"an object is larger than {self._limit / 1e6:.0f} MB, at most {self._limit / 1e6:.0f} MB",
                hint="ask the sender for one series, cut to the region that is needed",
            )
        rest = memoryview(data)
        with reported("an incoming object"):
            while rest:
                rest = rest[os.write(self._open(), rest) :]
        self.size += len(data)

    def finish(self) -> None:
        """Flush everything to the disk; a preamble that the sender filled is cleared (CVE-2019-11687).

        Raises
        ------
        MachineError
            The disk is full.
        """
        with reported("an incoming object"):
            handle = self._open()
            start = os.pread(handle, _PREAMBLE_BYTES + 4, 0)
            if start[_PREAMBLE_BYTES:] == b"DICM" and any(start[:_PREAMBLE_BYTES]):
                os.pwrite(handle, bytes(_PREAMBLE_BYTES), 0)
            os.fsync(handle)
        self._close()

    def discard(self) -> None:
        """Leave nothing behind; no harm when it was kept under another name."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _open(self) -> int:
        if self._handle is None:
            raise AssertionError("an object is written to after its end")
        return self._handle

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def file_meta(*, sop_class: str, sop_instance: str, syntax: str) -> bytes:
    """An empty preamble and the file meta information (PS3.10, 7.1) for a data set that comes without."""
    texts = ((0x0002, sop_class), (0x0003, sop_instance), (0x0010, syntax), (0x0012, IMPLEMENTATION_UID))
    body = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\x00\x01"
    for number, text in texts:
        value = text.encode("ascii")
        value += b"\0" * (len(value) % 2)
        body += struct.pack("<HH2sH", 2, number, b"UI", len(value)) + value
    return bytes(_PREAMBLE_BYTES) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body
