"""Number, size and light of the images in an archive that may be hostile, with the standard library and numpy alone."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import MachineError

_HEAD = struct.Struct(">8sI4sIIBBBBBI")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_IMAGES = 100_000
_MAX_BYTES = 100_000_000  # of one image, packed or not; and of all images as they stand in the archive ten times as much
_LOOKED_AT = 40  # images whose pixels are added up, evenly spread: each takes a hundredth of a second, and all have digests
_AT_A_TIME = 2  # images that are unpacked


@dataclass(frozen=True, slots=True)
class ImageFigures:
    """What an archive of images measures: ``lit`` is the sum of grey over some of them, in wholly lit pixels."""

    images: int
    columns: int
    rows: int
    lit: float


def image_figures(data: bytes) -> ImageFigures:
    """Measure an archive of 8 bit grey PNG images of one size.

    Raises
    ------
    MachineError
        It is no such archive, or holds something else.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = sorted(
                (info for info in archive.infolist() if info.filename.endswith(".png")), key=lambda info: info.filename
            )
            sizes = [info.file_size for info in infos]
            if not 0 < len(infos) <= _MAX_IMAGES or max(sizes) > _MAX_BYTES or sum(sizes) > 10 * _MAX_BYTES:
                raise ValueError(f"{len(infos)} images of {sum(sizes)} bytes")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise ValueError("images are packed twice")
            files = [archive.read(info) for info in infos]
        columns, rows = _size(files[0])
        if any(_size(file) != (columns, rows) for file in files) or (columns + 1) * rows > _MAX_BYTES:
            raise ValueError("images of different or huge size")
        chosen = np.unique(np.linspace(0, len(files) - 1, _LOOKED_AT).astype(np.int64)).tolist()
        with ThreadPoolExecutor(_AT_A_TIME) as pool:  # unpacking lets other threads run
            lit = sum(pool.map(lambda index: _lit(files[index], columns, rows), chosen))
    except (zipfile.BadZipFile, zlib.error, struct.error, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise MachineError(f"images of layers cannot be read: {error}") from error
    return ImageFigures(len(files), columns, rows, round(lit / 255.0, 3))


def _size(file: bytes) -> tuple[int, int]:
    signature, _, kind, columns, rows, *kinds, _ = _HEAD.unpack_from(file)
    if signature != _SIGNATURE or kind != b"IHDR" or kinds != [8, 0, 0, 0, 0] or not columns or not rows:
        raise ValueError("not an 8 bit grey PNG image")
    return columns, rows


def _lit(file: bytes, columns: int, rows: int) -> int:
    at, packed = _HEAD.size, b""
    while at < len(file):
        length, kind = struct.unpack_from(">I4s", file, at)
        packed += file[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    lines = np.frombuffer(zlib.decompressobj().decompress(packed, rows * (columns + 1) + 1), dtype=np.uint8)
    lines = lines.reshape(rows, columns + 1)
    if lines[:, 0].any():
        raise ValueError("filtered lines")
    return int(lines.sum(dtype=np.uint64))
