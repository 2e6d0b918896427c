"""The label of a guide, engraved in a flat face: case code, what it is for, and an arrow to the head."""

from __future__ import annotations

import numpy as np

from batchone.design import solid
from batchone.pipeline.errors import DesignError
from batchone.pipeline.process import Process
from batchone.pipeline.values import FloatArray, Vector

LABEL = "label"

_STROKE_PER_HEIGHT = 0.19  # thinnest stroke of DejaVu Sans Bold per height of a capital; measured on its capitals
_LINE_PITCH = 1.45  # from line to line per height of a capital
_MARGIN_MM = 1.1  # around the label: a tenth of a mm more than the least wall of a guide
_ARROW_WIDTH = 0.6  # of the arrow's head per its length
_ABOVE_MM = 1.0  # numerical: tools reach this far out of the face
_LEAST_FLOOR_MM = 1.0  # left below the letters; project default, unverified


def letters_mm(process: Process) -> float:
    """Height of a capital that a process can engrave."""
    return max(process.font_height_mm, process.engrave_line_mm / _STROKE_PER_HEIGHT)


def height_mm(lines: tuple[str, ...], process: Process) -> float:
    """Height of a label of so many lines, margins included."""
    return letters_mm(process) * (1.0 + _LINE_PITCH * (len(lines) - 1)) + 2.0 * _MARGIN_MM


def long_mm(lines: tuple[str, ...], wide_mm: float, process: Process) -> float:
    """Length of a label whose longest line is so wide, arrow and margins included."""
    return _ARROW_WIDTH * _arrow_mm(lines, process) + 0.6 * letters_mm(process) + wide_mm + 2.0 * _MARGIN_MM


def _arrow_mm(lines: tuple[str, ...], process: Process) -> float:
    return max(height_mm(lines, process) - 2.0 * _MARGIN_MM, 1.6 * letters_mm(process))


def engraved(
    lines: tuple[str, ...],
    process: Process,
    *,
    middle_mm: FloatArray,
    right: FloatArray,
    up: FloatArray,
    length_mm: float,
    thick_mm: float,
) -> tuple[solid.Feature, ...]:
    """Letters and an arrow that points along ``up``, for a flat face about ``middle_mm``.

    Parameters
    ----------
    lines
        From above.
    process
        Sizes.
    middle_mm, right, up
        (3,) middle of the face, reading direction, direction to the head.
    length_mm, thick_mm
        Room along the reading direction, and material below the face.

    Raises
    ------
    DesignError
        The label is longer than its room.
    """
    tall = letters_mm(process)
    normal = np.cross(right, up)
    depth = min(process.engrave_depth_mm, thick_mm - _LEAST_FLOOR_MM)
    block = height_mm(lines, process) - 2.0 * _MARGIN_MM
    arrow = _arrow_mm(lines, process)
    wide = max(solid.text_width_mm(line, tall) for line in lines)
    total = long_mm(lines, wide, process) - 2.0 * _MARGIN_MM
    if total + 2.0 * _MARGIN_MM > length_mm:
        raise DesignError(
            f"the label is {total + 2.0 * _MARGIN_MM:.1f} mm long, the bar has {length_mm:.1f} mm",
            hint="a shorter case code, or engrave = false",
        )
    left = -0.5 * total
    arrow_at = middle_mm + (left + 0.5 * _ARROW_WIDTH * arrow) * right
    features = [
        solid.arrow(
            "label arrow", length_mm=arrow, width_mm=_ARROW_WIDTH * arrow, depth_mm=depth, above_mm=_ABOVE_MM,
            origin=_vector(arrow_at), direction=_vector(up), normal=_vector(normal),
        )
    ]  # fmt: skip
    for row, line in enumerate(lines):
        origin = middle_mm + (left + total - 0.5 * wide) * right + (0.5 * block - tall * (0.5 + _LINE_PITCH * row)) * up
        features.append(
            solid.text(
                "label text", line, height_mm=tall, depth_mm=depth, above_mm=_ABOVE_MM,
                origin=_vector(origin), x_direction=_vector(right), normal=_vector(normal),
            )
        )  # fmt: skip
    return tuple(features)


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
