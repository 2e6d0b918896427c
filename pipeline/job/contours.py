"""Layer count and volume of a binary CLI file that may be hostile, read with numpy alone."""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(slots=True)
class _Tally:
    """Sums of one label, in units of the file."""

    areas: dict[int, float] = field(default_factory=dict)
    points: list[Numbers] = field(default_factory=list)  # of each command, as the file holds them
    contours: int = 0
    around: float = 0.0
    hatches: int = 0
    length: float = 0.0

    def box(self) -> tuple[list[float], list[float]]:
        """Lowest and highest x and y of all points: of all at once, for one contour has few."""
        x, y = np.concatenate(self.points).reshape(-1, 2).T
        return [float(x.min()), float(y.min())], [float(x.max()), float(y.max())]


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
        tops, tallies = _walk(data, header.end())
    except (struct.error, ValueError, IndexError) as error:
        raise MachineError("CLI geometry is cut short or holds an unknown command") from error
    if len(tops) != int(announced[1]) or not tops:
        raise MachineError(f"CLI has {len(tops)} layers, its header says {int(announced[1])}")
    names = {int(number): name.decode("ascii") for number, name in _LABEL.findall(header[0])}
    named = [(names.get(number, ""), tallies[number]) for number in sorted(tallies)]
    labels = tuple((name, _layers_of(name, one, tops, unit_mm)) for name, one in named)
    return LayerFigures(
        len(tops),
        round(tops[-1] * unit_mm, 6),
        round(sum(one.volume_mm3 for _, one in labels if one.region is None), 6),
        sum(one.contours for one in tallies.values()),
        sum(one.hatches for one in tallies.values()),
        round(sum(one.length for one in tallies.values()) * unit_mm, 3),
        labels,
    )


def _layers_of(name: str, one: _Tally, tops: list[float], unit_mm: float) -> LayersEntry:
    steps = np.diff(np.array(tops), prepend=0.0)
    layers = sorted(one.areas)
    low, high = one.box()
    digest = hashlib.sha256("".join(f"{layer} {one.areas[layer]:.6g}\n" for layer in layers).encode()).hexdigest()
    return LayersEntry(
        region=region_of(name),
        first_layer=layers[0] if layers else -1,
        last_layer=layers[-1] if layers else -1,
        volume_mm3=round(sum(one.areas[layer] * float(steps[layer]) for layer in layers) * unit_mm**3, 6),
        box_low_mm=(round(low[0] * unit_mm, 6), round(low[1] * unit_mm, 6)),
        box_high_mm=(round(high[0] * unit_mm, 6), round(high[1] * unit_mm, 6)),
        contours=one.contours,
        contours_mm=round(one.around * unit_mm, 3),
        hatches=one.hatches,
        hatches_mm=round(one.length * unit_mm, 3),
        areas_sha256=digest,
    )


def _walk(data: bytes, at: int) -> tuple[list[float], dict[int, _Tally]]:
    """Top of each layer, in units of the file, and the sums of each label by its number."""
    tops: list[float] = []
    tallies: defaultdict[int, _Tally] = defaultdict(_Tally)
    while at < len(data):
        (command,) = struct.unpack_from("<H", data, at)
        at += 2
        if command in (_LONG_LAYER, _SHORT_LAYER):
            form = "<f" if command == _LONG_LAYER else "<H"
            tops.append(_finite(float(struct.unpack_from(form, data, at)[0])))
            at += struct.calcsize(form)
        elif command in (_LONG_LINE, _SHORT_LINE) and tops:
            head, kind = ("<3i", "<f4") if command == _LONG_LINE else ("<3H", "<u2")
            number, _, count = struct.unpack_from(head, data, at)
            at += struct.calcsize(head)
            found = _coordinates(data, kind, 2 * count, at)
            at += found.nbytes
            _count_contour(tallies[number], len(tops) - 1, found)
        elif command in (_LONG_HATCHES, _SHORT_HATCHES) and tops:
            head, kind = ("<2i", "<f4") if command == _LONG_HATCHES else ("<2H", "<u2")
            number, count = struct.unpack_from(head, data, at)
            at += struct.calcsize(head)
            found = _coordinates(data, kind, 4 * count, at)
            at += found.nbytes
            ends = found.astype(np.float64).reshape(-1, 4)
            tallies[number].length += float(np.hypot(ends[:, 2] - ends[:, 0], ends[:, 3] - ends[:, 1]).sum())
            tallies[number].hatches += count
            tallies[number].points.append(found)
        else:
            raise ValueError(command)
    return tops, dict(tallies)


def _count_contour(one: _Tally, layer: int, found: Numbers) -> None:
    points = found.astype(np.float64).reshape(-1, 2)
    one.areas[layer] = one.areas.get(layer, 0.0) + _area(points)
    one.points.append(found)
    one.contours += 1
    one.around += float(np.hypot(*(points[1:] - points[:-1]).T).sum())


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


def _area(points: Numbers) -> float:
    x, y = (points - points[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2.0)
