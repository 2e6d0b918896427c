"""A folder as a zip of stored entries, and back: how jobs and records travel between a cell and its site's server."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import Final

from batchone.pipeline.errors import InputError
from batchone.pipeline.job.sums import MAX_FILES

_BLOCK_BYTES: Final = 1 << 18


def pack(folder: Path, file: Path) -> None:
    """Write a folder as ``file``, its entries below the folder's own name; the same folder gives the same bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as made:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            member = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", (1980, 1, 1, 0, 0, 0))
            with path.open("rb") as source, made.open(member, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, _BLOCK_BYTES)


def unpack(file: Path, place: Path, *, most_bytes: int) -> None:
    """Make ``place`` of what :func:`pack` wrote of a folder of its name.

    Raises
    ------
    InputError
        It is no such zip, or holds more than ``most_bytes`` or names that lead elsewhere; ``place`` may be half there then.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        with zipfile.ZipFile(file) as opened:
            members = opened.infolist()
            size_bytes = sum(one.file_size for one in members)
            if len(members) > MAX_FILES or size_bytes > most_bytes:
                raise InputError(
                    f"the zip holds {len(members)} files of {size_bytes} bytes, at most {MAX_FILES} of {most_bytes}",
                    hint="is it the right folder?",
                )
            for one in members:
                _write(opened, one, place)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, RuntimeError) as error:
        raise InputError(f"the zip cannot be read: {error}", hint="send it again") from error


def _write(opened: zipfile.ZipFile, one: zipfile.ZipInfo, place: Path) -> None:
    first, *inside = PurePosixPath(one.filename).parts or ("",)
    target = place.joinpath(*inside)
    if one.compress_type != zipfile.ZIP_STORED or first != place.name or not inside or ".." in inside or target.exists():
        raise InputError(f"the zip holds more than stored files of {place.name}, each once", hint="send the folder alone")
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(one) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink, _BLOCK_BYTES)
