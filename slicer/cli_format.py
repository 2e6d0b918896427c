"""Common Layer Interface 2.0: a writer, and a reader that refuses whatever the writer could not have written.

Rules (CLI 2.0 specification): ASCII header from ``$$HEADERSTART`` to ``$$HEADEREND``, then at once little-endian commands;
z is the upper surface of a layer, ascending; a closed polyline repeats its first point; dir 0 = hole (clockwise),
1 = outer contour (counter-clockwise); hatches are pairs of points, in the order in which they are scanned. No ``$$DATE``
(outputs carry no clock) and no ``$$ALIGN``.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from batchone.pipeline.values import FloatArray, Vector
from batchone.slicer.cli_header import LONG_UNIT_MM, SHORT_UNIT_MM, Header, damaged, read_header, region_of
from batchone.slicer.cli_text import commands, text_of
from batchone.slicer.encode import encode_hatches, encode_long, encode_short, opened
from batchone.slicer.hatch import Hatches, no_hatches
from batchone.slicer.layers import Layers

_SHORT_MAX: Final = 65535
_LAYER_LONG, _LAYER_SHORT, _POLYLINE_SHORT, _POLYLINE_LONG, _HATCHES_SHORT, _HATCHES_LONG = 127, 128, 129, 130, 131, 132


@dataclass(frozen=True, slots=True, eq=False)
class CliFile:
    """What a CLI file says.

    Attributes
    ----------
    header
        What the header says.
    top_mm
        (count,) float64: upper surface of each layer, mm.
    layers
        The contours.
    hatches
        The lines between them.
    """

    header: Header
    top_mm: FloatArray
    layers: Layers
    hatches: Hatches

    @property
    def labels(self) -> tuple[str, ...]:
        """Of bodies, then of what a laser draws of them; id i belongs to ``labels[i - 1]``."""
        return self.header.labels

    @property
    def outlines(self) -> Layers:
        """The contours of the bodies: without those that a beam runs along."""
        return self.layers.of_first(sum(region_of(label) is None for label in self.labels))

    def to_text(self) -> bytes:
        """The same file as text: slower and larger, for readers and people that want it."""
        return text_of(self.header, self.top_mm, self.layers, self.hatches)


def write_cli(layers: Layers, labels: Sequence[str], hatches: Hatches | None = None) -> bytes:
    """Write layers as binary CLI.

    The short form (unsigned 16-bit, 0.005 mm) is taken when everything fits into it, else the long form (float32, mm).
    Points that fall together after rounding are merged; a contour that has fewer than three left, or no area, is left out.

    Parameters
    ----------
    layers
        At least one contour.
    labels
        One for each id; characters that a label cannot hold become ``_``.
    hatches
        Lines within the contours; those of a layer follow its contours.
    """
    short = _fits_short(layers)
    unit_mm = SHORT_UNIT_MM if short else LONG_UNIT_MM
    first = np.searchsorted(layers.loop_layer, np.arange(layers.count + 1)).astype(np.int64)
    top_mm = np.arange(1, layers.count + 1) * layers.layer_mm
    encode = encode_short if short else encode_long
    lines_of = hatches or no_hatches()
    words, first_hatch = encode_hatches(
        lines_of.vectors_mm, lines_of.start, lines_of.layer, lines_of.part, layers.count, short, unit_mm
    )
    body = encode(
        layers.points_mm, layers.loop_start, layers.loop_part, layers.loop_area_mm2, first, top_mm, unit_mm, words, first_hatch
    )
    low, high = _bounds(layers.points_mm)
    # outward to whole units, so that every rounded point lies inside
    corner = np.floor(np.array([*low, 0.0]) / SHORT_UNIT_MM) * SHORT_UNIT_MM
    far = np.ceil(np.array([*high, top_mm[-1]]) / SHORT_UNIT_MM) * SHORT_UNIT_MM
    box = (float(corner[0]), float(corner[1]), float(corner[2])), (float(far[0]), float(far[1]), float(far[2]))
    header = Header(True, unit_mm, tuple(labels), box, layers.count)
    return b"".join((header.to_bytes(), memoryview(body).cast("B")))


def read_cli(data: bytes) -> CliFile:
    """Read a CLI file as :func:`write_cli` and :meth:`CliFile.to_text` write it.

    Raises
    ------
    MachineError
        Anything unexpected: truncated, unknown command, layers not ascending, open or mis-directed contour, a count or
        dimension that does not agree with the header.
    """
    header, at = read_header(data)
    if header.unit_mm not in (SHORT_UNIT_MM, LONG_UNIT_MM):
        raise damaged(f"unit is {header.unit_mm:g} mm, must be {SHORT_UNIT_MM:g} or {LONG_UNIT_MM:g} mm")
    body = data[at:] if header.binary else commands(data[at:].decode("latin-1"))
    found = _walk(body, short=header.unit_mm == SHORT_UNIT_MM, parts=len(header.labels))
    if len(found.top) != header.layers:
        raise damaged(f"{len(found.top)} layers, header says {header.layers}")
    top_mm = np.array(found.top, dtype=np.float64) * header.unit_mm
    if np.any(np.diff(top_mm, prepend=0.0) <= 0) or not np.isfinite(top_mm).all():
        raise damaged("layer heights do not ascend")
    layers = _contours(body, found, header.unit_mm, float(top_mm[0]))
    hatches = _lines(body, found, header.unit_mm)
    _refuse_outside(layers.points_mm, top_mm, header.box_mm)
    _refuse_outside(hatches.vectors_mm.reshape(-1, 2), top_mm, header.box_mm)
    return CliFile(header, top_mm, layers, hatches)


def _bounds(points_mm: FloatArray) -> tuple[tuple[float, float], tuple[float, float]]:
    x, y = points_mm[:, 0], points_mm[:, 1]  # column by column: many times faster than along the short axis
    return (float(x.min()), float(y.min())), (float(x.max()), float(y.max()))


def _fits_short(layers: Layers) -> bool:
    steps = layers.layer_mm / SHORT_UNIT_MM
    whole = abs(steps - round(steps)) < 1e-9 * steps  # numerical: decimal fractions are not exact in binary
    reach_mm = (_SHORT_MAX + 0.5) * SHORT_UNIT_MM
    low_enough = layers.count * layers.layer_mm <= _SHORT_MAX * SHORT_UNIT_MM
    longest = int(np.diff(layers.loop_start).max(initial=0)) + 1 <= _SHORT_MAX
    inside = bool(layers.points_mm.min(initial=0.0) >= -0.5 * SHORT_UNIT_MM and layers.points_mm.max(initial=0.0) < reach_mm)
    return whole and low_enough and longest and inside


@dataclass(slots=True)
class _Found:
    """Where the walk found what: layer tops in units; per polyline its layer, id, dir, byte offset and point count; per
    command of hatches its layer, id, byte offset and line count."""

    top: list[float]
    layer: list[int]
    part: list[int]
    direction: list[int]
    offset: list[int]
    size: list[int]
    lines: list[tuple[int, int, int, int]]


def _walk(body: bytes, *, short: bool, parts: int) -> _Found:
    found = _Found([], [], [], [], [], [], [])
    layer_command, polyline_command = (_LAYER_SHORT, _POLYLINE_SHORT) if short else (_LAYER_LONG, _POLYLINE_LONG)
    hatch_command = _HATCHES_SHORT if short else _HATCHES_LONG
    height, head = struct.Struct("<H" if short else "<f"), struct.Struct("<3H" if short else "<3i")
    payloads = {layer_command: height, polyline_command: head, hatch_command: struct.Struct("<2H" if short else "<2i")}
    point_bytes = 4 if short else 8
    at, end = 0, len(body)
    while at < end:
        if at + 2 > end:
            raise damaged(f"one byte is left over at byte {at} of the geometry")
        command = body[at] | body[at + 1] << 8
        at += 2
        if command not in payloads:
            known = ", ".join(map(str, payloads))
            raise damaged(f"command {command} at byte {at - 2} of the geometry, expected one of {known}")
        payload = payloads[command]
        if at + payload.size > end:
            raise damaged(f"truncated in command {command} at byte {at - 2} of the geometry")
        values = payload.unpack_from(body, at)
        at += payload.size
        if command == layer_command:
            found.top.append(float(values[0]))
            continue
        if command == hatch_command:
            number, size = values
            if not found.top or not 1 <= number <= parts or size < 1:
                raise damaged(f"{size} hatches of part {number}; needs a layer, part 1 to {parts}, >= 1")
            if at + 2 * size * point_bytes > end:
                raise damaged(f"truncated: {size} hatches announced, {(end - at) // (2 * point_bytes)} are left")
            found.lines.append((len(found.top) - 1, number - 1, at, size))
            at += 2 * size * point_bytes
            continue
        number, direction, size = values
        if not found.top or not 1 <= number <= parts or direction not in (0, 1) or size < 4:
            raise damaged(
                f"polyline of part {number}, direction {direction}, {size} points; needs a layer, part 1 to {parts}, 0 or 1, >= 4"
            )
        if at + size * point_bytes > end:
            raise damaged(f"truncated: a polyline announces {size} points, {(end - at) // point_bytes} are left")
        found.layer.append(len(found.top) - 1)
        found.part.append(number - 1)
        found.direction.append(direction)
        found.offset.append(at)
        found.size.append(size)
        at += size * point_bytes
    return found


def _contours(body: bytes, found: _Found, unit_mm: float, layer_mm: float) -> Layers:
    if not found.size:
        raise damaged("no contour in it")
    start = np.concatenate([[0], np.cumsum(found.size)]).astype(np.int64)
    offset = np.array(found.offset, dtype=np.int64) // 2
    words = np.frombuffer(body, dtype="<u2").copy()
    points_mm, area_mm2, not_closed = opened(words, offset, start, unit_mm == SHORT_UNIT_MM, unit_mm)
    if not np.isfinite(points_mm).all():
        raise damaged("a coordinate is not a finite number")
    if not_closed:
        raise damaged(f"{not_closed} contours do not end where they start")
    if np.any((area_mm2 > 0) != np.array(found.direction, dtype=bool)) or np.any(area_mm2 == 0):
        raise damaged("a contour runs against its direction, or has no area")
    return Layers(
        layer_mm=layer_mm,
        count=len(found.top),
        points_mm=points_mm,
        loop_start=start - np.arange(len(start)),
        loop_layer=np.array(found.layer, dtype=np.int32),
        loop_part=np.array(found.part, dtype=np.int32),
        loop_area_mm2=area_mm2,
    )


def _lines(body: bytes, found: _Found, unit_mm: float) -> Hatches:
    if not found.lines:
        return no_hatches()
    kind = "<u2" if unit_mm == SHORT_UNIT_MM else "<f4"
    vectors = [np.frombuffer(body, dtype=kind, count=4 * size, offset=at).reshape(-1, 4) for _, _, at, size in found.lines]
    lines_mm = np.concatenate(vectors).astype(np.float64) * unit_mm
    if not np.isfinite(lines_mm).all():
        raise damaged("a coordinate is not a finite number")
    if (lines_mm[:, :2] == lines_mm[:, 2:]).all(axis=1).any():
        raise damaged("a hatch has no length")
    layer, part = (np.array([line[k] for line in found.lines], dtype=np.int32) for k in (0, 1))
    sizes = np.array([size for _, _, _, size in found.lines])
    group = np.r_[True, (np.diff(layer) != 0) | (np.diff(part) != 0)]  # a command holds no more than 16 bits can count
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Hatches(lines_mm, np.append(start[:-1][group], start[-1]), layer[group], part[group])


def _refuse_outside(points_mm: FloatArray, top_mm: FloatArray, box: tuple[Vector, Vector]) -> None:
    if len(points_mm) == 0:
        return
    slack_mm = 1e-4  # float32 of a coordinate below 1 m
    (low_x, low_y), (high_x, high_y) = _bounds(points_mm)
    low, high = np.array([low_x, low_y, 0.0]), np.array([high_x, high_y, top_mm[-1]])
    if np.any(low < np.array(box[0]) - slack_mm) or np.any(high > np.array(box[1]) + slack_mm):
        raise damaged("geometry lies outside $$DIMENSION")
