"""Layers, moves, filament and bounds of a G-code file that may be hostile, with the standard library and numpy alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from batchone.pipeline.errors import MachineError

_MOVE = re.compile(rb"^G[01](?= )([^;\n]*)", re.MULTILINE)
_LAYER = re.compile(rb"^;LAYER_CHANGE\r?$", re.MULTILINE)
_NUMBER = rb"([-+]?(?:\d+\.?\d*|\.\d+))(?=\s|$)"
_WORDS = {letter: re.compile(b" " + letter.encode() + _NUMBER) for letter in "XYZE"}
_RELATIVE = re.compile(rb"^M83\b", re.MULTILINE)
_ABSOLUTE = re.compile(rb"^(?:M82|G91)\b", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ToolpathFigures:
    """What a toolpath measures: filament that stays out of the nozzle, and the box in which it moves, mm."""

    layers: int
    moves: int
    filament_mm: float
    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]


def toolpath_figures(data: bytes) -> ToolpathFigures:
    """Measure a toolpath of relative extrusion and absolute places, as the slicing program writes it.

    Raises
    ------
    MachineError
        No moves along an axis, or places and extrusion of another kind.
    """
    if not _RELATIVE.search(data) or _ABSOLUTE.search(data):
        raise MachineError("G-code does not say M83, or says M82 or G91: its extrusion cannot be added up")
    moves = _MOVE.findall(data)
    text = b"\n".join(moves)
    along = {letter: np.array(word.findall(text), dtype=np.float64) for letter, word in _WORDS.items()}
    if any(len(values) == 0 for values in along.values()):
        raise MachineError("G-code has no moves along X, Y, Z or E")
    low, high = ([round(float(end(along[letter])), 3) for letter in "XYZ"] for end in (np.min, np.max))
    return ToolpathFigures(
        layers=len(_LAYER.findall(data)),
        moves=len(moves),
        filament_mm=round(float(along["E"].sum()), 3),
        low_mm=(low[0], low[1], low[2]),
        high_mm=(high[0], high[1], high[2]),
    )
