"""Where cases, keys and job folders meet the disk; what fails there is told in the workshop's words."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchone.pipeline.errors import DiskError, MachineError

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
_FAULTY = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENXIO)  # a broken disk, one gone read-only, a share whose server is gone


@contextmanager
def disk() -> Iterator[None]:
    """Turn a disk that cannot take more, or is broken, into a DiskError; other operating-system errors pass.

    Raises
    ------
    DiskError
        No space, quota or file size is left, or the disk returns errors.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FAULTY:
            raise DiskError(
                f"disk fault: reading or writing failed ({error.strerror})",
                hint="look at the site's disk or share and the system's log; then run the same command again",
            ) from error
        if error.errno not in _FULL:
            raise
        raise DiskError(
            f"disk full: a write was refused ({error.strerror})",
            hint="free space on the site's disk and run the same command again",
        ) from error


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turn an operating-system error about ``what`` into a MachineError.

    Raises
    ------
    MachineError
        ``disk full: ...`` when no space, quota or file size is left; else the system's own words.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise DiskError(
                f"disk full: {what} could not be written ({error.strerror})", hint="free space, then run again"
            ) from error
        raise MachineError(
            f"{what}: {error.strerror or error}", hint="check the folder and its rights, then run again"
        ) from error


@contextmanager
def waited_for(folder: Path, what: str) -> Iterator[None]:
    """Hold ``folder`` for one process; others wait.

    Raises
    ------
    MachineError
        The lock file of ``what`` cannot be made.
    """
    with reported(what):
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk.

    Raises
    ------
    OSError
        As the system says; the caller wraps it in :func:`disk` or :func:`reported`.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write all bytes and sync them, making the parent folder.

    Raises
    ------
    MachineError
        See :func:`reported`.
    """
    with reported(path.name):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def write_once(path: Path, data: bytes, *, mode: int) -> None:
    """Let ``path`` appear whole with these bytes and this mode, unless it is already there.

    Raises
    ------
    OSError
        As the system says; the caller wraps it in :func:`reported`.
    """
    beside = _write_beside(path, data, mode)
    try:
        os.link(beside, path)
    except FileExistsError:
        pass
    finally:
        beside.unlink()


def write_over(path: Path, data: bytes, *, mode: int) -> None:
    """Replace ``path`` by these bytes in one step; nothing is written when they are already there.

    Raises
    ------
    OSError
        As the system says; the caller wraps it in :func:`reported`.
    """
    if path.is_file() and path.read_bytes() == data:
        return
    beside = _write_beside(path, data, mode)
    beside.replace(path)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink()
        raise
    return beside
