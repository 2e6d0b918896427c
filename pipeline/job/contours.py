"""Layer count and volume of a binary CLI file that may be hostile, with the standard library and numpy alone."""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import MachineError

_HEADER = re.compile(rb"\$\$HEADERSTART\s.*?\$\$HEADEREND", re.DOTALL)
_UNITS = re.compile(rb"\$\$UNITS/(\d{1,6}\.\d{1,12})")
_LAYERS = re.compile(rb"\$\$LAYERS/(\d{1,7})")
_MAX_HEADER_BYTES = 65_536
_LONG_LAYER, _SHORT_LAYER, _SHORT_LINE, _LONG_LINE, _SHORT_HATCHES, _LONG_HATCHES = 127, 128, 129, 130, 131, 132  # CLI 2.0


@dataclass(frozen=True, slots=True)
class LayerFigures:
    """What a layer file measures: ``volume_mm3`` sums signed area times the step from the layer below; ``hatches`` are lines."""

    layers: int
    height_mm: float
    volume_mm3: float
    contours: int
    hatches: int
    hatches_mm: float


def cli_figures(data: bytes) -> LayerFigures:
    """Count the layers and add up their volume.

    Raises
    ------
    MachineError
        Truncated, an unknown command, or a header that says something else.
    """
    header = _HEADER.match(data[:_MAX_HEADER_BYTES])
    units = _UNITS.search(header[0]) if header else None
    announced = _LAYERS.search(header[0]) if header else None
    if header is None or units is None or announced is None:
        raise MachineError("CLI header is not understood")
    unit_mm = float(units[1])
    try:
        tops, areas, contours, hatches, length = _walk(data, header.end())
    except (struct.error, ValueError, IndexError) as error:
        raise MachineError("CLI geometry is cut short or holds an unknown command") from error
    if len(tops) != int(announced[1]) or not tops:
        raise MachineError(f"CLI has {len(tops)} layers, its header says {int(announced[1])}")
    volume = float(np.sum(np.diff(np.array(tops), prepend=0.0) * np.array(areas)))
    height_mm, volume_mm3 = round(tops[-1] * unit_mm, 6), round(volume * unit_mm**3, 6)
    return LayerFigures(len(tops), height_mm, volume_mm3, contours, hatches, round(length * unit_mm, 3))


def _walk(data: bytes, at: int) -> tuple[list[float], list[float], int, int, float]:
    """Top of each layer and its signed area, in units of the file, the number of contours and hatches, the hatches' length."""
    tops: list[float] = []
    areas: list[float] = []
    contours = hatches = 0
    length = 0.0
    while at < len(data):
        (command,) = struct.unpack_from("<H", data, at)
        at += 2
        if command in (_LONG_LAYER, _SHORT_LAYER):
            form = "<f" if command == _LONG_LAYER else "<H"
            tops.append(_finite(float(struct.unpack_from(form, data, at)[0])))
            areas.append(0.0)
            at += struct.calcsize(form)
        elif command in (_LONG_LINE, _SHORT_LINE):
            head, kind = ("<3i", "<f4") if command == _LONG_LINE else ("<3H", "<u2")
            count = struct.unpack_from(head, data, at)[2]
            at += struct.calcsize(head)
            points = _coordinates(data, kind, 2 * count, at).reshape(-1, 2)
            at += points.size * np.dtype(kind).itemsize
            areas[-1] += _area(points)
            contours += 1
        elif command in (_LONG_HATCHES, _SHORT_HATCHES) and tops:
            head, kind = ("<2i", "<f4") if command == _LONG_HATCHES else ("<2H", "<u2")
            count = struct.unpack_from(head, data, at)[1]
            at += struct.calcsize(head)
            ends = _coordinates(data, kind, 4 * count, at).reshape(-1, 4)
            at += ends.size * np.dtype(kind).itemsize
            length += float(np.hypot(ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1]).sum())
            hatches += count
        else:
            raise ValueError(command)
    return tops, areas, contours, hatches, length


def _coordinates(data: bytes, kind: str, count: int, at: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Some finite numbers of the file, at least one."""
    if count < 1:
        raise ValueError(count)
    found = np.frombuffer(data, dtype=kind, count=count, offset=at).astype(np.float64)
    _finite(float(np.abs(found).max()))
    return found


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(value)
    return value


def _area(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    x, y = (points - points[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2.0)
