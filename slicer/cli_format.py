"""Common Layer Interface 2.0: a writer, and a reader that refuses whatever the writer could not have written.

Rules (CLI 2.0 specification): ASCII header from ``$$HEADERSTART`` to ``$$HEADEREND``, then at once little-endian commands;
z is the upper surface of a layer, ascending; a closed polyline repeats its first point; dir 0 = hole (clockwise),
1 = outer contour (counter-clockwise); hatches are pairs of points, in the order in which they are scanned. No ``$$DATE``
(outputs carry no clock) and no ``$$ALIGN``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from batchone.pipeline.values import FloatArray, Vector
from batchone.slicer.cli_header import LONG_UNIT_MM, SHORT_UNIT_MM, Header, damaged, read_header, region_of
from batchone.slicer.cli_text import commands, text_of
from batchone.slicer.decode import (
    CUT_SHORT,
    HATCHES_CUT,
    HATCHES_LONG,
    HATCHES_SHORT,
    LAYER_LONG,
    LAYER_SHORT,
    NO_HATCHES,
    NO_POLYLINE,
    POLYLINE_CUT,
    POLYLINE_LONG,
    POLYLINE_SHORT,
    UNKNOWN,
    Numbers,
    Words,
    opened,
    opened_lines,
    walked,
)
from batchone.slicer.encode import encode_hatches, encode_long, encode_short
from batchone.slicer.hatch import Hatches, no_hatches
from batchone.slicer.layers import Layers

_SHORT_MAX: Final = 65535
_LONGEST: Final = _SHORT_MAX  # format: points of a contour of the short form, the repeated one included


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
    short = fits_short(layers)
    return file_of(layers, labels, [geometry(layers, hatches or no_hatches(), 0, layers.count, short=short)], short=short)


def geometry(layers: Layers, hatches: Hatches, low: int, high: int, *, short: bool) -> Words:
    """The commands of the layers from ``low`` to ``high - 1``, in which all the contours and lines lie, as 16-bit words."""
    unit_mm = SHORT_UNIT_MM if short else LONG_UNIT_MM
    first = np.searchsorted(layers.loop_layer, np.arange(low, high + 1)).astype(np.int64)
    top_mm = np.arange(low + 1, high + 1) * layers.layer_mm
    encode = encode_short if short else encode_long
    words, first_hatch = encode_hatches(
        hatches.vectors_mm, hatches.start, hatches.layer - np.int32(low), hatches.part, high - low, short, unit_mm
    )
    return encode(
        layers.points_mm, layers.loop_start, layers.loop_part, layers.loop_area_mm2, first, top_mm, unit_mm, words, first_hatch
    )


def file_of(layers: Layers, labels: Sequence[str], runs: Sequence[Words], *, short: bool) -> bytes:
    """The file of some layers, none of whose drawn contours lie outside of them, from the commands of all runs of layers."""
    unit_mm, top_mm = SHORT_UNIT_MM if short else LONG_UNIT_MM, layers.count * layers.layer_mm
    low, high = layers.bounds_mm()
    # outward to whole units, so that every rounded point lies inside
    corner = np.floor(np.array([*low, 0.0]) / SHORT_UNIT_MM) * SHORT_UNIT_MM
    far = np.ceil(np.array([*high, top_mm]) / SHORT_UNIT_MM) * SHORT_UNIT_MM
    box = (float(corner[0]), float(corner[1]), float(corner[2])), (float(far[0]), float(far[1]), float(far[2]))
    header = Header(True, unit_mm, tuple(labels), box, layers.count)
    return b"".join((header.to_bytes(), *(words.data.cast("B") for words in runs)))


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
    words, short = np.frombuffer(body, dtype="<u2", count=len(body) // 2).copy(), header.unit_mm == SHORT_UNIT_MM
    top, found, fault = walked(words, short, len(header.labels))
    if fault[0]:
        raise damaged(_said(fault, words, short=short, parts=len(header.labels)))
    if len(body) % 2:
        raise damaged(f"one byte is left over at byte {len(body) - 1} of the geometry")
    if len(top) != header.layers:
        raise damaged(f"{len(top)} layers, header says {header.layers}")
    top_mm = top * header.unit_mm
    if np.any(np.diff(top_mm, prepend=0.0) <= 0) or not np.isfinite(top_mm).all():
        raise damaged("layer heights do not ascend")
    polyline = found[:, 0] == (POLYLINE_SHORT if short else POLYLINE_LONG)
    layers = _contours(words, found[polyline], top_mm, header.unit_mm)
    hatches = _lines(words, found[~polyline], header.unit_mm)
    _refuse_outside(layers.points_mm, top_mm, header.box_mm)
    _refuse_outside(hatches.vectors_mm.reshape(-1, 2), top_mm, header.box_mm)
    return CliFile(header, top_mm, layers, hatches)


def fits_short(layers: Layers) -> bool:
    """Whether the short form can say all contours."""
    steps = layers.layer_mm / SHORT_UNIT_MM
    whole = abs(steps - round(steps)) < 1e-9 * steps  # numerical: decimal fractions are not exact in binary
    reach_mm = (_SHORT_MAX + 0.5) * SHORT_UNIT_MM
    low_enough = layers.count * layers.layer_mm <= _SHORT_MAX * SHORT_UNIT_MM
    longest = int(np.diff(layers.loop_start).max(initial=0)) + 1 <= _LONGEST
    inside = bool(layers.points_mm.min(initial=0.0) >= -0.5 * SHORT_UNIT_MM and layers.points_mm.max(initial=0.0) < reach_mm)
    return whole and low_enough and longest and inside


def _said(fault: Numbers, words: Words, *, short: bool, parts: int) -> str:
    """What is wrong with a command, from the numbers of :func:`walked`."""
    what, at, command, part, direction, count = fault.tolist()
    width = 1 if short else 2
    known = (LAYER_SHORT, POLYLINE_SHORT, HATCHES_SHORT) if short else (LAYER_LONG, POLYLINE_LONG, HATCHES_LONG)
    left = len(words) - at - 1
    return {
        UNKNOWN: f"command {command} at byte {2 * at} of the geometry, expected one of {', '.join(map(str, known))}",
        CUT_SHORT: f"truncated in command {command} at byte {2 * at} of the geometry",
        NO_POLYLINE: f"polyline of part {part}, direction {direction}, {count} points; "
        f"needs a layer, part 1 to {parts}, 0 or 1, >= 4",
        POLYLINE_CUT: f"truncated: a polyline announces {count} points, {(left - 3 * width) // (2 * width)} are left",
        NO_HATCHES: f"{count} hatches of part {part}; needs a layer, part 1 to {parts}, >= 1",
        HATCHES_CUT: f"truncated: {count} hatches announced, {(left - 2 * width) // (4 * width)} are left",
    }[what]


def _contours(words: Words, polylines: Numbers, top_mm: FloatArray, unit_mm: float) -> Layers:
    if len(polylines) == 0:
        raise damaged("no contour in it")
    _, layer, part, direction, size, offset = np.ascontiguousarray(polylines.T)
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    points_mm, area_mm2, not_closed = opened(words, offset, start, unit_mm == SHORT_UNIT_MM, unit_mm)
    if not np.isfinite(points_mm).all():
        raise damaged("a coordinate is not a finite number")
    if not_closed:
        raise damaged(f"{not_closed} contours do not end where they start")
    if np.any((area_mm2 > 0) != (direction == 1)) or np.any(area_mm2 == 0):
        raise damaged("a contour runs against its direction, or has no area")
    return Layers(
        layer_mm=float(top_mm[0]),
        count=len(top_mm),
        points_mm=points_mm,
        loop_start=start - np.arange(len(start)),
        loop_layer=layer.astype(np.int32),
        loop_part=part.astype(np.int32),
        loop_area_mm2=area_mm2,
    )


def _lines(words: Words, groups: Numbers, unit_mm: float) -> Hatches:
    if len(groups) == 0:
        return no_hatches()
    _, layer, part, _, size, offset = np.ascontiguousarray(groups.T)
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    lines_mm, without_length = opened_lines(words, offset, start, unit_mm == SHORT_UNIT_MM, unit_mm)
    if not np.isfinite(lines_mm).all():
        raise damaged("a coordinate is not a finite number")
    if without_length:
        raise damaged("a hatch has no length")
    first = np.r_[True, (np.diff(layer) != 0) | (np.diff(part) != 0)]  # a command holds no more than 16 bits can count
    return Hatches(lines_mm, np.append(start[:-1][first], start[-1]), layer[first].astype(np.int32), part[first].astype(np.int32))


def _refuse_outside(points_mm: FloatArray, top_mm: FloatArray, box: tuple[Vector, Vector]) -> None:
    if len(points_mm) == 0:
        return
    slack_mm = 1e-4  # float32 of a coordinate below 1 m
    x, y = points_mm[:, 0], points_mm[:, 1]
    low, high = np.array([x.min(), y.min(), 0.0]), np.array([x.max(), y.max(), top_mm[-1]])
    if np.any(low < np.array(box[0]) - slack_mm) or np.any(high > np.array(box[1]) + slack_mm):
        raise damaged("geometry lies outside $$DIMENSION")
