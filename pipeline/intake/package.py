"""Open what the sender gave: a folder, a zip or a single file; nothing is followed out of it and no name is kept.

A folder is walked without symbolic links; a zip is read into memory, member by member, under caps. Files are known by
their place in the list only, for a file name may hold a patient's name.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeVar

from batchone.pipeline.errors import InputError, SeriesError

MAX_FILES = 6_000  # files in one study; project default, three times the longest clinical series
MAX_FOLDER_DEPTH = 16  # folders below each other; project default
MAX_UNPACKED_BYTES = 1_000_000_000  # a zip in memory; project default, 1,900 slices of 512 x 512
MAX_ZIP_RATIO = 100.0  # unpacked / packed over the whole zip; CT packs about 2:1, project default against zip bombs
THREADS = 2  # reading and inflating release the interpreter lock; more than two bring nothing from a page cache
RUNS_PER_THREAD = 4  # neighbours are worked on by one thread; item by item, handing over cost a third more time (400 slices)

_BLOCK_BYTES = 1 << 20
_ENTRY_BYTES = 30  # what stands before an entry of a zip at least
_VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd", ".nhdr")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class FileSource:
    """A regular file on disk; never opened through a symbolic link."""

    path: Path
    size: int

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        with _opened(self.path) as handle:
            return os.pread(handle, size, offset)

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill ``target`` from ``offset``; returns the bytes read."""
        with _opened(self.path) as handle:
            return _filled(handle, offset, target)

    def read_and_digest(self, offset: int, target: memoryview) -> tuple[int, bytes]:
        """Fill ``target`` from ``offset``; returns the bytes read into it, and the SHA-256 of the whole file."""
        with _opened(self.path) as handle:
            running = hashlib.sha256(os.pread(handle, offset, 0))
            done = _filled(handle, offset, target)
            running.update(target[:done])
            at = offset + done
            while block := os.pread(handle, _BLOCK_BYTES, at):
                running.update(block)
                at += len(block)
        return done, running.digest()


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A member of a zip, unpacked."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.content)

    def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        return self.content[offset : offset + size]

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill ``target`` from ``offset``; returns the bytes read."""
        part = memoryview(self.content)[offset : offset + len(target)]
        target[: len(part)] = part
        return len(part)

    def read_and_digest(self, offset: int, target: memoryview) -> tuple[int, bytes]:
        """Fill ``target`` from ``offset``; returns the bytes read into it, and the SHA-256 of the whole file."""
        return self.read_into(offset, target), hashlib.sha256(self.content).digest()


Source = FileSource | MemorySource


@dataclass(frozen=True, slots=True)
class Package:
    """The files of a study, in no meaningful order, and how many entries were left out because they lead elsewhere."""

    sources: tuple[Source, ...]
    links: int = 0

    @property
    def volume(self) -> str:
        """The one volume file of a folder, by its ending (``*.nii.gz``): its name may hold a patient's; "" without one."""
        names = [source.path.name.lower() for source in self.sources if isinstance(source, FileSource)]
        found = [name for name in names if name.endswith(_VOLUME_SUFFIXES)]
        return f"*{max((end for end in _VOLUME_SUFFIXES if found[0].endswith(end)), key=len)}" if len(found) == 1 else ""


def is_volume_file(study: Path) -> bool:
    """Whether the study is one NIfTI, NRRD or MetaImage file."""
    return study.is_file() and study.name.lower().endswith(_VOLUME_SUFFIXES)


def open_study(study: Path) -> Package:
    """List the files of a folder, a zip, or the one file given.

    Raises
    ------
    SeriesError
        Nothing there, too many files, or a zip that breaks the caps.
    """
    if not (study.is_dir() or study.is_file()):
        raise SeriesError("the study is not there: no such file or folder", hint="check the path given with --study")
    study = study.resolve()
    try:
        if study.is_dir():
            package = _open_folder(study)
        elif zipfile.is_zipfile(study):
            package = Package(_unpack(study))
        else:
            package = Package((FileSource(study, study.stat().st_size),))
    except OSError as error:
        raise _unreadable(error) from None
    if not package.sources:
        raise SeriesError("the study holds 0 files, at least 1 is needed", hint="ask the sender for the CT series as DICOM files")
    return package


def study_digest(study: Path) -> str:
    """SHA-256 over the sorted SHA-256 of the contents of all files of a study; names and folders do not matter.

    A zip and the folder it was made from have the same digest.
    """
    return combined_digest(in_threads(content_digest, open_study(study).sources))


def combined_digest(digests: Sequence[bytes]) -> str:
    """SHA-256 over the sorted binary digests, hexadecimal."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``work`` to each item on a few threads, in runs of neighbours; results in the order of the items."""
    if len(items) < THREADS:
        return [work(item) for item in items]
    run = -(-len(items) // (THREADS * RUNS_PER_THREAD))
    with ThreadPoolExecutor(THREADS) as pool:
        done = pool.map(lambda first: [work(item) for item in items[first : first + run]], range(0, len(items), run))
        return [result for results in done for result in results]


def content_digest(source: Source) -> bytes:
    """SHA-256 of the content of one file."""
    if isinstance(source, MemorySource):
        return hashlib.sha256(source.content).digest()
    running = hashlib.sha256()
    buffer = memoryview(bytearray(min(source.size, _BLOCK_BYTES)))
    with _opened(source.path) as handle:
        while buffer and (count := os.readv(handle, [buffer])):
            running.update(buffer[:count])
    return running.digest()


def _filled(handle: int, offset: int, target: memoryview) -> int:
    done = 0
    while done < len(target) and (count := os.preadv(handle, [target[done:]], offset + done)):
        done += count
    return done


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file; a fault names no file, for its name may hold a patient's."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(error) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise SeriesError("a file of the study changed while it was read", hint="run again when the study is complete")
        yield handle
    except OSError as error:
        raise _unreadable(error) from None
    finally:
        os.close(handle)


def _unreadable(error: OSError) -> SeriesError:
    return SeriesError(
        f"a file of the study cannot be read: {error.strerror}", hint="check the permissions of the study and its disk"
    )


def _open_folder(folder: Path) -> Package:
    found: list[FileSource] = []
    links = 0
    waiting = [(folder, 0)]
    while waiting:
        current, depth = waiting.pop()
        if depth > MAX_FOLDER_DEPTH:
            raise SeriesError(
                f"the study is more than {MAX_FOLDER_DEPTH} folders deep, at most {MAX_FOLDER_DEPTH}",
                hint="give the folder that holds the series",
            )
        with os.scandir(current) as entries:
            for entry in entries:
                if entry.is_symlink():
                    links += 1
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    found.append(FileSource(Path(entry.path), entry.stat(follow_symlinks=False).st_size))
                    _refuse_too_many(len(found))
    return Package(tuple(found), links)


def _refuse_too_many(count: int) -> None:
    if count > MAX_FILES:
        raise SeriesError(
            f"the study holds more than {MAX_FILES} files, at most {MAX_FILES}",
            hint="give the folder of one examination, or of one series",
        )


def _unpack(archive: Path) -> tuple[MemorySource, ...]:
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _refuse_unsafe_members(members, archive.stat().st_size)
        return _Unpacker(archive).unpack(members)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise SeriesError(
            "the zip is damaged, encrypted or packed in an unknown way", hint="ask the sender to pack it again"
        ) from error


def _refuse_unsafe_members(members: Sequence[zipfile.ZipInfo], packed_bytes: int) -> None:
    _refuse_too_many(len(members))
    hint = "ask the sender to pack the study again, plainly"
    if len({member.filename for member in members}) < len(members):
        raise SeriesError("the zip holds two entries of one name, at most 1 each", hint=hint)
    for number, member in enumerate(members, start=1):
        place = f"zip entry {number} of {len(members)}"
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
            raise SeriesError(f"{place} points outside the zip", hint=hint)
        if stat.S_ISLNK(member.external_attr >> 16):
            raise SeriesError(f"{place} is a symbolic link", hint=hint)
        if member.flag_bits & 0x1:
            raise SeriesError(f"{place} is encrypted", hint="ask the sender for a zip without a password")
    placed = sorted(members, key=lambda member: member.header_offset)
    if any(two.header_offset < one.header_offset + _ENTRY_BYTES + one.compress_size for one, two in pairwise(placed)):
        raise SeriesError("the zip holds entries that lie over each other, as in a zip bomb", hint=hint)
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED_BYTES:
        raise SeriesError(
            f"the zip unpacks to {total / 1e6:.0f} MB, at most {MAX_UNPACKED_BYTES / 1e6:.0f} MB",
            hint="unpack it and give the folder, or send one series",
        )
    if total > MAX_ZIP_RATIO * max(packed_bytes, 1):
        raise SeriesError(
            f"the zip unpacks to {total / max(packed_bytes, 1):.0f} times its size, at most {MAX_ZIP_RATIO:.0f} times", hint=hint
        )


class _Unpacker:
    """Inflates members on several threads, each with its own handle of the archive."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._local = threading.local()
        self._opened: list[zipfile.ZipFile] = []

    def unpack(self, members: Sequence[zipfile.ZipInfo]) -> tuple[MemorySource, ...]:
        try:
            return tuple(in_threads(self._one, members))
        finally:
            for opened in self._opened:
                opened.close()

    def _one(self, member: zipfile.ZipInfo) -> MemorySource:
        if not hasattr(self._local, "opened"):
            self._local.opened = zipfile.ZipFile(self._archive)
            self._opened.append(self._local.opened)
        with self._local.opened.open(member) as stream:
            content = stream.read(member.file_size)
        if len(content) != member.file_size:
            raise zipfile.BadZipFile("short member")
        return MemorySource(content)
