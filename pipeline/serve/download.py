"""A job folder as one zip, made while it is sent: stored entries, read in blocks, each checked against SHA256SUMS on the way."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

from batchone.factory.inbox import NOT_FOR_A_CELL
from batchone.pipeline.errors import MachineError

_BLOCK_BYTES = 1 << 18
_SUMS = ("SHA256SUMS", "SHA256SUMS.sig")
_HEAD = ("job.json", "build.json")


def zipped(job: Path, *, for_a_cell: bool, head: bool = False) -> Iterator[bytes]:
    """The bytes of a zip of a job folder; the same folder gives the same bytes. Memory: one block.

    Parameters
    ----------
    for_a_cell
        Leaves out the clinical report; ``sha256sum -c --ignore-missing SHA256SUMS`` holds for the rest.
    head
        Only what says what it is: ``job.json``, or of a plate ``build.json`` and the ``job.json`` of each job, and the digests.

    Raises
    ------
    MachineError
        A file has another digest than SHA256SUMS says: the stream breaks off, so that no whole zip arrives.
    """
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in (job / _SUMS[0]).read_text("utf-8").splitlines())}
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as opened:
        for name in sorted(sums) + list(_SUMS):
            if (for_a_cell and name in NOT_FOR_A_CELL) or (head and name.rpartition("/")[2] not in (*_HEAD, *_SUMS)):
                continue
            running = hashlib.sha256()
            with (job / name).open("rb") as source, opened.open(_member(f"{job.name}/{name}"), "w", force_zip64=True) as target:
                while block := source.read(_BLOCK_BYTES):
                    running.update(block)
                    target.write(block)
                    yield sink.taken()
            if sums.get(name, running.hexdigest()) != running.hexdigest():
                raise MachineError(
                    f"{name} has another digest than SHA256SUMS says", hint="check the disk; `batchone verify` the job"
                )
    yield sink.taken()


class _Sink(io.RawIOBase):
    """Takes what the zip's writer writes, and gives it away; cannot be gone back in."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._held.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        """What was written since."""
        held, self._held = self._held, []
        return b"".join(held)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    member.create_system = 3
    member.external_attr = 0o644 << 16
    return member
