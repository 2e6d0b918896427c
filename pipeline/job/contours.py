"""Layer count and volume of a binary CLI file that may be hostile, read with numpy alone."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.sums import Digest
from batchone.pipeline.order import Model
from batchone.pipeline.process import Region
from batchone.slicer.cli_header import region_of

Numbers = np.ndarray[tuple[int, ...], np.dtype[Any]]

_HEADER = re.compile(rb"\$\$HEADERSTART\s.*?\$\$HEADEREND", re.DOTALL)
_UNITS = re.compile(rb"\$\$UNITS/(\d{1,6}\.\d{1,12})")
_LABEL = re.compile(rb'\$\$LABEL/(\d{1,5}),"([A-Za-z0-9 ._-]{1,96})"')
_LAYERS = re.compile(rb"\$\$LAYERS/(\d{1,7})")
_MAX_HEADER_BYTES = 262_144  # as the slicer's own reader takes
_LONG_LAYER, _SHORT_LAYER, _SHORT_LINE, _LONG_LINE, _SHORT_HATCHES, _LONG_HATCHES = 127, 128, 129, 130, 131, 132  # CLI 2.0
_POINT, _LINE = 2, 4  # numbers of a contour's point, and of a line
_HEADS = {
    _LONG_LINE: (struct.Struct("<3i"), "<f4", _POINT),
    _SHORT_LINE: (struct.Struct("<3H"), "<u2", _POINT),
    _LONG_HATCHES: (struct.Struct("<2i"), "<f4", _LINE),
    _SHORT_HATCHES: (struct.Struct("<2H"), "<u2", _LINE),
}
_BLOCK = 1 << 19  # numerical: numbers that are measured at a time


class LayersEntry(Model):
    """The layers under one label, as measured on ``layers.cli``; layer 0 lies on the plate.

    ``contours_mm`` is their length and that of the way back to where they begin; ``region`` is what a laser draws of a body,
    null for the outlines of the body itself.
    """

    region: Region | None
    first_layer: int
    last_layer: int
    volume_mm3: float
    box_low_mm: tuple[float, float]
    box_high_mm: tuple[float, float]
    contours: int
    contours_mm: float
    hatches: int
    hatches_mm: float
    areas_sha256: Digest  # over number and area of each layer that has contours of it


class _Command(NamedTuple):
    """A contour or a group of lines: its label, its layer, and its coordinates as the file holds them."""

    label: int
    layer: int
    numbers: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """What commands measure, each (n,) or (n, 2), in units of the file; lines have no area."""

    label: Numbers
    layer: Numbers
    low: Numbers
    high: Numbers
    length: Numbers
    area: Numbers
    lines: Numbers


@dataclass(frozen=True, slots=True)
class LayerFigures:
    """What a layer file measures: ``volume_mm3`` sums signed area of the bodies' outlines times the step from the layer below;
    ``contours`` are all, those of the beam too, ``hatches`` are lines; ``labels`` are names and their layers, in the order of
    their numbers."""

    layers: int
    height_mm: float
    volume_mm3: float
    contours: int
    hatches: int
    hatches_mm: float
    labels: tuple[tuple[str, LayersEntry], ...] = ()

    @property
    def bodies(self) -> tuple[tuple[str, LayersEntry], ...]:
        """Names and outlines of the bodies."""
        return tuple((name, one) for name, one in self.labels if one.region is None)


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
        tops, commands = _walk(data, header.end())
    except (struct.error, ValueError, IndexError) as error:
        raise MachineError("CLI geometry is cut short or holds an unknown command") from error
    if len(tops) != int(announced[1]) or not tops:
        raise MachineError(f"CLI has {len(tops)} layers, its header says {int(announced[1])}")
    if not any(commands.values()):
        return LayerFigures(len(tops), round(tops[-1] * unit_mm, 6), 0.0, 0, 0, 0.0)
    names = {int(number): name.decode("ascii") for number, name in _LABEL.findall(header[0])}
    sums = _measured(commands)
    named = [(names.get(label, ""), _of(sums, sums.label == label)) for label in np.unique(sums.label).tolist()]
    labels = tuple((name, _layers_of(name, one, tops, unit_mm)) for name, one in named)
    return LayerFigures(
        len(tops),
        round(tops[-1] * unit_mm, 6),
        round(sum(one.volume_mm3 for _, one in labels if one.region is None), 6),
        sum(one.contours for _, one in labels),
        sum(one.hatches for _, one in labels),
        round(float(sums.length[sums.lines > 0].sum()) * unit_mm, 3),
        labels,
    )


def _layers_of(name: str, one: _Sums, tops: list[float], unit_mm: float) -> LayersEntry:
    steps, around = np.diff(np.array(tops), prepend=0.0), one.lines == 0
    layers, where = np.unique(one.layer[around], return_inverse=True)
    areas = np.bincount(where, one.area[around], minlength=len(layers))
    low, high = (one.low.min(axis=0) * unit_mm).tolist(), (one.high.max(axis=0) * unit_mm).tolist()
    said = "".join(f"{layer} {area:.6g}\n" for layer, area in zip(layers.tolist(), areas.tolist(), strict=True))
    return LayersEntry(
        region=region_of(name),
        first_layer=int(layers[0]) if len(layers) else -1,
        last_layer=int(layers[-1]) if len(layers) else -1,
        volume_mm3=round(sum((areas * steps[layers]).tolist()) * unit_mm**3, 6),
        box_low_mm=(round(low[0], 6), round(low[1], 6)),
        box_high_mm=(round(high[0], 6), round(high[1], 6)),
        contours=int(around.sum()),
        contours_mm=round(float(one.length[around].sum()) * unit_mm, 3),
        hatches=int(one.lines.sum()),
        hatches_mm=round(float(one.length[~around].sum()) * unit_mm, 3),
        areas_sha256=hashlib.sha256(said.encode()).hexdigest(),
    )


def _walk(data: bytes, at: int) -> tuple[list[float], dict[int, list[_Command]]]:
    """Top of each layer, in units of the file, and contours and groups of lines, by the numbers of a point and of a line."""
    tops: list[float] = []
    commands: dict[int, list[_Command]] = {_POINT: [], _LINE: []}
    while at < len(data):
        (command,) = struct.unpack_from("<H", data, at)
        at += 2
        if command in (_LONG_LAYER, _SHORT_LAYER):
            form = "<f" if command == _LONG_LAYER else "<H"
            tops.append(_finite(float(struct.unpack_from(form, data, at)[0])))
            at += struct.calcsize(form)
        elif command in _HEADS and tops:
            head, kind, numbers = _HEADS[command]
            label, *_, count = head.unpack_from(data, at)
            at += head.size
            found = _coordinates(data, kind, numbers * count, at)
            at += found.nbytes
            commands[numbers].append(_Command(label, len(tops) - 1, found))
        else:
            raise ValueError(command)
    return tops, commands


def _measured(commands: dict[int, list[_Command]]) -> _Sums:
    """What each command measures, contours first: so many at a time that little is held at once."""
    found = []
    for width, those in commands.items():
        ends = np.cumsum([len(one.numbers) for one in those]) // _BLOCK
        for block in np.split(np.arange(len(those)), 1 + np.flatnonzero(np.diff(ends))):
            if len(block):
                found.append(_sums_of(those[block[0] : block[-1] + 1], width))
    return _Sums(*(np.concatenate([getattr(one, field.name) for one in found]) for field in fields(_Sums)))


def _of(sums: _Sums, here: Numbers) -> _Sums:
    return _Sums(*(getattr(sums, field.name)[here] for field in fields(_Sums)))


def _sums_of(those: list[_Command], width: int) -> _Sums:
    numbers = np.concatenate([one.numbers for one in those]).astype(np.float64)
    sizes = np.array([len(one.numbers) for one in those]) // 2
    x, y = np.ascontiguousarray(numbers.reshape(-1, 2).T)
    first = np.cumsum(sizes) - sizes
    low, high = (np.stack([of.reduceat(x, first), of.reduceat(y, first)], axis=1) for of in (np.minimum, np.maximum))
    if width == _LINE:
        length = np.add.reduceat(np.hypot(x[1::2] - x[::2], y[1::2] - y[::2]), first // 2)
        area, lines = np.zeros(len(sizes)), sizes // 2
    else:
        last = first + sizes - 1  # from there no edge begins
        u, v = x - np.repeat(x[first], sizes), y - np.repeat(y[first], sizes)
        step = np.hypot(np.roll(x, -1) - x, np.roll(y, -1) - y)
        twice = u * np.roll(v, -1) - np.roll(u, -1) * v
        step[last] = twice[last] = 0.0
        length, area = np.add.reduceat(step, first), np.add.reduceat(twice, first) / 2.0
        lines = np.zeros(len(sizes), dtype=np.int64)
    label, layer = (np.array([getattr(one, name) for one in those]) for name in ("label", "layer"))
    return _Sums(label, layer, low, high, length, area, lines)


def _coordinates(data: bytes, kind: str, count: int, at: int) -> Numbers:
    """Some finite numbers of the file, at least one."""
    if count < 1:
        raise ValueError(count)
    found = np.frombuffer(data, dtype=kind, count=count, offset=at)
    if kind == "<f4":
        _finite(float(np.abs(found).max()))
    return found


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(value)
    return value
