"""What a mask shows, layer by layer: grey images in an archive like that of SL1 printers, and their reading back.

An image is the platform seen from above: columns run along x, the first row is the farthest along y. It is never mirrored: a
machine whose mask lights from below through the film turns it over itself. Grey is the share of a pixel that the layer covers.
Exposure and lift are the machine's for its resin: the archive does not state them.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final, TypeVar

import manifold3d
import numpy as np
import shapely

from batchone.pipeline.errors import MachineError
from batchone.pipeline.machine import Mask
from batchone.pipeline.side_by_side import beside
from batchone.pipeline.values import Finding, FloatArray, judge
from batchone.slicer.deflate import block_of
from batchone.slicer.layers import Layers
from batchone.slicer.mask import Grey, shaded, summed
from batchone.slicer.scan_check import material_of

_Made = TypeVar("_Made")

_ZIP_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first date an archive can hold: outputs carry no clock
_WORKERS: Final = 2  # images made or read at a time; each is its own, whichever thread makes it
_RUN: Final = 32  # numerical: images that a thread makes or reads before it asks for more
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LAST: Final = b"\x03\x00"  # an empty block that ends a deflate stream
_LEVEL: Final = 6  # of run lengths: none is faster
_ROWS_AT_ONCE: Final = 64  # numerical: blank rows that are compressed together
_AREA_PERCENT: Final = 0.5  # requirement: area of a layer's pixels against its contours; project default
_AREA_PIXELS: Final = 2.0  # numerical: grey is rounded to 1/255, in a layer that covers next to nothing
_OUTLINE_PIXELS: Final = 0.1  # requirement: mean distance of the image's edge from the contours; a shift by a pixel gives 0.3
_SHARES: Final = (0.08, 0.29, 0.5, 0.71, 0.92)  # of the layers: those compared pixel by pixel
_HINT: Final = "do not print; slice again"
_SOURCE: Final = "project default"


def write_sl1(layers: Layers, mask: Mask, *, name: str, seconds: float) -> bytes:
    """Write the images of all layers and ``config.ini`` into an archive.

    Parameters
    ----------
    layers
        Contours in the plate's frame.
    mask
        Where the pixels are.
    name
        Of the job in the archive: images are ``<name>00000.png`` and so on, from the platform on.
    seconds
        Estimated time of the build.

    Raises
    ------
    MachineError
        A contour lies outside of the mask.
    """
    _refuse_outside(layers, mask)
    config = {
        "action": "print",
        "jobDir": name,
        "layerHeight": f"{layers.layer_mm:g}",
        "numFade": "0",
        "numFast": str(layers.count),
        "numSlow": "0",
        "pixelMm": f"{mask.pixel_mm:g}",
        "printTime": f"{seconds:.0f}",
    }
    images = _of_each(layers.count, lambda layer: _png(layers, layer, mask))
    files = {"config.ini": "".join(f"{key} = {value}\n" for key, value in config.items()).encode()}
    files |= {f"{name}{layer:05d}.png": image for layer, image in enumerate(images)}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file, data in files.items():
            info = zipfile.ZipInfo(file, _ZIP_DATE)
            info.create_system = 0  # the same on every operating system
            archive.writestr(info, data)
    return out.getvalue()


def read_png(data: bytes) -> Grey:
    """(rows, columns) grey of an image of :func:`write_sl1`, checked against its sums.

    Raises
    ------
    MachineError
        It is no such image, or damaged.
    """
    columns, rows, packed = _opened(data)
    try:
        lines = np.frombuffer(zlib.decompress(packed, bufsize=rows * (columns + 1)), dtype=np.uint8).reshape(rows, columns + 1)
    except (ValueError, zlib.error) as error:
        raise MachineError(f"an image of a layer cannot be read: {error}", hint=_HINT) from error
    return lines[:, 1:]


def image_findings(archive: bytes, layers: Layers, mask: Mask) -> list[Finding]:
    """Measure the images against the contours.

    Raises
    ------
    MachineError
        The archive, or an image of it, cannot be read.
    """
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".png"))
        data = [files.read(name) for name in names]
    measured, wanted = beside(
        lambda: _of_each(len(data), lambda layer: _area_mm2(data[layer], mask)), lambda: _covered_mm2(layers)
    )
    areas = np.array(measured)
    same = len(areas) == layers.count
    off = np.maximum(np.abs(areas - wanted) - _AREA_PIXELS * mask.pixel_mm**2, 0.0) if same else np.array([np.inf])
    percent = float((100.0 * off / np.maximum(wanted, mask.pixel_mm**2)).max()) if same else math.inf
    edges = _outline_pixels(data, layers, mask) if same else math.inf
    step_mm2 = mask.pixel_mm**2 / 255.0
    dark = (areas <= 0.0) & ((wanted <= 0.0) | (wanted >= step_mm2)) if same else areas <= 0.0
    return [
        judge("layers.images", "images of layers", len(areas), "", low=layers.count, high=layers.count, hint=_HINT,
              source="one for each layer"),
        judge("layers.images_blank", "images without a lit pixel", int(np.count_nonzero(dark)), "", high=0, hint=_HINT,
              source=f"a blank layer is a fault, but where its contours cover less than a step of grey, {step_mm2:.2g} mm2"),
        judge("layers.images_area", "area of the worst layer's pixels against its contours", percent, "%", high=_AREA_PERCENT,
              hint=_HINT, source=f"{_SOURCE}; beyond {_AREA_PIXELS:g} pixels, the rounding of grey"),
        judge("layers.images_outline", "mean distance of the edges of images from contours, in the worst of some layers", edges,
              "pixels", high=_OUTLINE_PIXELS, hint=_HINT, source=_SOURCE),
    ]  # fmt: skip


def _of_each(layers: int, made: Callable[[int], _Made]) -> list[_Made]:
    """What is made of each layer, some layers at a time."""
    runs = [range(low, min(low + _RUN, layers)) for low in range(0, layers, _RUN)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        return [one for run in pool.map(lambda run: [made(layer) for layer in run], runs) for one in run]


def _covered_mm2(layers: Layers) -> FloatArray:
    """(layers,) area that the contours of all bodies cover; supports reach into their parts."""
    area = layers.area_mm2()
    first = np.searchsorted(layers.loop_layer, np.arange(layers.count + 1))
    for layer in range(layers.count):
        loops = range(int(first[layer]), int(first[layer + 1]))
        if len(np.unique(layers.loop_part[loops.start : loops.stop])) > 1:
            contours = [layers.points_mm[layers.loop_start[i] : layers.loop_start[i + 1]] for i in loops]
            area[layer] = manifold3d.CrossSection(contours, manifold3d.FillRule.Positive).area()
    return area


def no_images() -> Finding:
    """Advice where the machine's mask is not described."""
    hint = "let the machine's own preparation make the images of build/plate.3mf, or describe its mask in the profile"
    what = "images of layers: the machine's profile has no mask, layers.cli holds contours"
    return judge("layers.images", what, 0.0, "", low=1.0, gate=False, hint=hint, source=_SOURCE)


def _refuse_outside(layers: Layers, mask: Mask) -> None:
    low, high = layers.bounds_mm()
    left, bottom = mask.corner_mm
    right, top = left + mask.columns * mask.pixel_mm, bottom + mask.rows * mask.pixel_mm
    if low[0] < left or low[1] < bottom or high[0] > right or high[1] > top:
        raise MachineError(
            f"parts reach from ({low[0]:.1f}, {low[1]:.1f}) to ({high[0]:.1f}, {high[1]:.1f}) mm, "
            f"the mask from ({left:.1f}, {bottom:.1f}) to ({right:.1f}, {top:.1f}) mm",
            hint="choose a larger machine, or print the parts in several builds",
        )


def _png(layers: Layers, layer: int, mask: Mask) -> bytes:
    """One image. Only rows that the layer reaches are shaded and compressed; the blank ones around come in ready pieces."""
    first, last = np.searchsorted(layers.loop_layer, (layer, layer + 1)).tolist()
    points = layers.points_mm[layers.loop_start[first] : layers.loop_start[last]]
    starts = layers.loop_start[first : last + 1] - layers.loop_start[first]
    left_mm, top_mm = mask.corner_mm[0], mask.corner_mm[1] + mask.rows * mask.pixel_mm
    above = below = 0
    if len(points):
        above = min(mask.rows - 1, int((top_mm - points[:, 1].max()) / mask.pixel_mm))
        below = mask.rows - min(mask.rows, max(above + 1, math.ceil((top_mm - points[:, 1].min()) / mask.pixel_mm)))
    rows, wide = mask.rows - above - below, 1 + mask.columns
    runs = shaded(
        np.ascontiguousarray(points), starts, left_mm, top_mm - above * mask.pixel_mm, mask.pixel_mm, rows, mask.columns
    )
    block, total = block_of(*runs, before=above * wide, after=below * wide)
    pieces = (b"\x78\x01", _blank(above, wide), block.tobytes(), _blank(below, wide), _LAST, struct.pack(">I", total))
    head = struct.pack(">IIBBBBB", mask.columns, mask.rows, 8, 0, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", head) + _chunk(b"IDAT", b"".join(pieces)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _blank(rows: int, wide: int) -> bytes:
    return _blank_piece(_ROWS_AT_ONCE * wide) * (rows // _ROWS_AT_ONCE) + _blank_piece(wide) * (rows % _ROWS_AT_ONCE)


@lru_cache(maxsize=8)
def _blank_piece(count: int) -> bytes:
    return _piece(bytes(count))


def _piece(data: bytes) -> bytes:
    """Part of a deflate stream that ends on a whole byte and refers to nothing before it, so that pieces can be joined."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)


def _opened(data: bytes) -> tuple[int, int, bytes]:
    """Columns, rows and compressed lines of an image; MachineError when it is no plain 8 bit grey, or a sum is wrong."""
    try:
        if not data.startswith(_SIGNATURE):
            raise ValueError("no signature")
        chunks, at = {}, len(_SIGNATURE)
        while at < len(data):
            length, kind = struct.unpack_from(">I4s", data, at)
            body = data[at + 8 : at + 8 + length]
            if struct.unpack_from(">I", data, at + 8 + length)[0] != zlib.crc32(kind + body):
                raise ValueError("a checksum is wrong")
            chunks[kind] = body
            at += 12 + length
        columns, rows, *kinds = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        if kinds != [8, 0, 0, 0, 0]:
            raise ValueError("not 8 bit grey")
        return columns, rows, chunks[b"IDAT"]
    except (ValueError, KeyError, struct.error) as error:
        raise MachineError(f"an image of a layer cannot be read: {error}", hint=_HINT) from error


def _area_mm2(data: bytes, mask: Mask) -> float:
    """Area that an image lights. Blank pieces at both ends are told by their bytes: unpacking them takes most of the time."""
    columns, _, packed = _opened(data)
    wide = 1 + columns
    piece, skipped = _blank_piece(_ROWS_AT_ONCE * wide), 0
    first, last = 2, len(packed) - 4 - len(_LAST)
    if packed[last : last + len(_LAST)] != _LAST:
        raise MachineError("an image of a layer does not end as written", hint=_HINT)
    while packed.startswith(piece, first):
        first, skipped = first + len(piece), skipped + 1
    single = _blank_piece(wide)
    tail = 0
    while packed.endswith(single, first, last):
        last, tail = last - len(single), tail + 1
    while packed.endswith(piece, first, last):
        last, skipped = last - len(piece), skipped + 1
    lines = zlib.decompressobj(-15).decompress(packed[first:last])
    found = (len(lines) // wide + tail + skipped * _ROWS_AT_ONCE, len(lines) % wide, columns)
    if found != (mask.rows, 0, mask.columns):
        raise MachineError(f"an image has {columns} x {found[0]} pixels, the mask {mask.columns} x {mask.rows}", hint=_HINT)
    return summed(np.frombuffer(lines, dtype=np.uint8)) / 255.0 * mask.pixel_mm**2


def _outline_pixels(data: Sequence[bytes], layers: Layers, mask: Mask) -> float:
    """Pixels that are lit and should not be, or the other way round, per length of the outlines, both in pixels."""
    worst = 0.0
    for layer in sorted({min(layers.count - 1, int(share * layers.count)) for share in _SHARES}):
        solid = material_of([loop for part in range(int(layers.loop_part.max()) + 1) for loop in layers.loops(layer, part)])
        if solid.is_empty:  # no outline; the area tells of whatever is lit
            continue
        lit = read_png(data[layer]) > 127
        low, high = _pixel(solid.bounds[:2], mask), _pixel(solid.bounds[2:], mask)
        columns, rows = np.arange(max(low[0] - 1, 0), high[0] + 2), np.arange(max(high[1] - 1, 0), low[1] + 2)
        x = mask.corner_mm[0] + (columns + 0.5) * mask.pixel_mm
        y = mask.corner_mm[1] + (mask.rows - rows - 0.5) * mask.pixel_mm
        shapely.prepare(solid)
        inside = shapely.contains_xy(solid, *np.meshgrid(x, y))
        wrong = np.count_nonzero(lit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] != inside)
        wrong += np.count_nonzero(lit) - np.count_nonzero(lit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        worst = max(worst, wrong * mask.pixel_mm / solid.length)
    return worst


def _pixel(point: Sequence[float], mask: Mask) -> tuple[int, int]:
    """Column and row of a place."""
    return (
        int((point[0] - mask.corner_mm[0]) / mask.pixel_mm),
        int(mask.rows - (point[1] - mask.corner_mm[1]) / mask.pixel_mm),
    )
