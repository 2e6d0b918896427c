"""The compiled reader of G-code: each move with what limits it, in the order of the file.

Understood is what a Marlin 2 machine with one extruder is told: G0 G1 G4 G28 G90 G91 G92, M82 M83, M201 M203 M204 M205, M566, and
the comments of PrusaSlicer that begin a layer and say what is extruded. Heating and fans move nothing. Arcs (G2 G3), firmware
retraction (G10 G11), inches (G20) and speed or flow overrides (M220 M221) are refused: they would move otherwise than is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit, types

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray, IntArray

Bytes = npt.NDArray[np.uint8]

OTHER: Final = 0  # what is extruded is of no part: brim, priming
SUPPORT: Final = 1
PART: Final = 2
OUTLINE: Final = 3  # of a part, along its contour

_TEXT: Final = types.Array(types.uint8, 1, "C", readonly=True)
_NUMBERS: Final = types.Array(types.float64, 1, "C")
_FLAGS: Final = types.Array(types.boolean, 1, "C")
_TABLE: Final = types.Array(types.float64, 2, "C")
_COUNTS: Final = types.Array(types.int32, 1, "C")

# columns of a move: where it ends, mm; filament, mm; length, mm; what limits it, mm/s and mm/s2; standstill before it, s
X, Y, Z, E, LENGTH, CRUISE, ACCELERATION, JUNCTION, STOP, PAUSE_S, FRESH = range(11)
_COLUMNS: Final = 11

_LAYER: Final = np.frombuffer(b";LAYER_CHANGE", dtype=np.uint8)
_TYPE: Final = np.frombuffer(b";TYPE:", dtype=np.uint8)
# two letters tell them apart: External and Overhang perimeter, Support material, Skirt/Brim, Custom, Wipe tower; others are of a part
_KINDS: Final = np.frombuffer(b"ExOvSuSkCuWi", dtype=np.uint8)
_KIND_ROLES: Final = np.array([OUTLINE, OUTLINE, SUPPORT, OTHER, OTHER, OTHER])
_REFUSED: Final = {1: "G2, G3 (arcs)", 2: "G10, G11 (firmware retraction)", 3: "G20 (inches)", 4: "M220, M221 (overrides)"}
_GO_OVER = 0.99  # Marlin's own
_NO_FEED, _NO_NUMBER = -1, -2
# numerical defaults until the file says otherwise: Marlin's own (Configuration.h): acceleration, jerk; speeds without limit
_ACCELERATION, _JERK_XY, _JERK_Z, _JERK_E = 3000.0, 10.0, 0.3, 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """The moves of a G-code file.

    Attributes
    ----------
    table
        (n, 11) float64; the columns are the constants of this module.
    layer
        (n,) int32: 0 before the first layer, then 1, 2, ...
    role
        (n,) int32: ``OTHER``, ``SUPPORT``, ``PART`` or ``OUTLINE``.
    last_pause_s
        Standstill after the last move.
    """

    table: FloatArray
    layer: IntArray
    role: IntArray
    last_pause_s: float


def read_moves(data: bytes) -> Moves:
    """Read G-code.

    Raises
    ------
    MachineError
        A command that would be misread, a number that is none, a move without speed, or no move at all.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    table, layer, role, pause_s, fault, line = _read(text, np.count_nonzero(text == 10) + 1)
    if fault:
        what = {_NO_FEED: "a move without speed", _NO_NUMBER: "a number that cannot be read"}.get(fault) or _REFUSED[fault]
        raise MachineError(f"G-code has {what} in line {line}", hint="make the toolpath again with the shipped configuration")
    if len(table) == 0:
        raise MachineError("G-code has no moves, at least 1", hint="make the toolpath again")
    return Moves(table, layer, role, float(pause_s))


@njit(types.boolean(_TEXT, types.int64, _TEXT), cache=True, nogil=True)
def _starts(text: Bytes, at: int, wanted: Bytes) -> bool:
    if at + wanted.shape[0] > text.shape[0]:
        return False
    for i in range(wanted.shape[0]):  # noqa: SIM110 - compiled
        if text[at + i] != wanted[i]:
            return False
    return True


@njit(types.int64(_TEXT, types.int64), cache=True, nogil=True)
def _role_of(text: Bytes, at: int) -> int:
    """What is extruded after a comment of its type."""
    for kind in range(_KIND_ROLES.shape[0]):
        if _starts(text, at, _KINDS[2 * kind : 2 * kind + 2]):
            return _KIND_ROLES[kind]
    return PART


@njit(types.Tuple((types.float64, types.int64))(_TEXT, types.int64), cache=True, nogil=True)
def _number(text: Bytes, at: int) -> tuple[float, int]:
    """A decimal number and where it ends; NaN where there is none."""
    sign, whole, scale, digits, at_point = 1.0, 0.0, 1.0, 0, False
    if at < text.shape[0] and (text[at] == 45 or text[at] == 43):
        sign = -1.0 if text[at] == 45 else 1.0
        at += 1
    while at < text.shape[0]:
        c = text[at]
        if 48 <= c <= 57:
            whole = 10.0 * whole + (c - 48.0)
            scale = 10.0 * scale if at_point else scale
            digits += 1
        elif c == 46 and not at_point:
            at_point = True
        else:
            break
        at += 1
    return (sign * whole / scale if digits else np.nan), at


@njit(types.int64(_TEXT, types.int64, _NUMBERS, _FLAGS), cache=True, nogil=True)
def _words(text: Bytes, at: int, value: FloatArray, given: npt.NDArray[np.bool_]) -> int:
    """The letters of a command with their numbers, up to the end of the line or its comment; where that is, or -1."""
    given[:] = False
    while at < text.shape[0] and text[at] != 10 and text[at] != 59:
        c = text[at]
        if c == 32 or c == 9 or c == 13:
            at += 1
        elif 65 <= c <= 90:
            number, at = _number(text, at + 1)
            value[c - 65] = number
            given[c - 65] = True
            if np.isnan(value[c - 65]) and not (at >= text.shape[0] or text[at] == 32 or text[at] == 10 or text[at] == 13):
                return -1
        else:
            return -1
    return at


@njit("void(f8[::1], f8[::1], b1[::1], f8)", cache=True, nogil=True)
def _set_axes(limit: FloatArray, value: FloatArray, given: npt.NDArray[np.bool_], scale: float) -> None:
    """Take the limits of X, Y, Z, E that a command gives."""
    for axis in range(4):
        letter = 23 + axis if axis < 3 else 4
        if given[letter]:
            limit[axis] = value[letter] * scale


@njit("Tuple((f8, f8, f8, f8))(f8[::1], f8, f8, f8, f8[::1], f8[::1], f8[::1])", cache=True, nogil=True)
def _limited(
    delta: FloatArray, length: float, feed: float, acceleration: float, most: FloatArray, steepest: FloatArray, jerk: FloatArray
) -> tuple[float, float, float, float]:
    """Speed and acceleration of a move within the limits of each axis, and at which speed it may start and stop at once."""
    cruise = feed
    for axis in range(4):
        share = abs(delta[axis]) / length
        if share > 0.0:
            cruise = min(cruise, most[axis] / share)
            acceleration = min(acceleration, steepest[axis] / share)
    stop = cruise
    for axis in range(4):
        share = abs(delta[axis]) / length
        if share > 0.0:
            stop = min(stop, jerk[axis] / share)
    return cruise, acceleration, stop, length


@njit("f8(f8[::1], f8[::1], f8, f8, f8, f8[::1])", cache=True, nogil=True)
def _junction(before: FloatArray, after: FloatArray, slower: float, stop: float, start: float, jerk: FloatArray) -> float:
    """Speed at which a move may go over into the next: no axis jumps by more than its jerk, one that turns back starts from rest.

    ``before`` and ``after`` are the moves' directions, ``slower`` the lower of their speeds, ``stop`` and ``start`` those at which
    the first may stop and the second start. Where both are no slower than going over would be, Marlin goes over at the latter.
    """
    speed = slower
    for axis in range(4):
        a, b = before[axis], after[axis]
        jump = abs(a - b) if a * b > 0.0 else max(abs(a), abs(b))
        if jump * speed > jerk[axis]:
            speed = jerk[axis] / jump
    return start if min(stop, start) > _GO_OVER * speed else speed


@njit(
    types.Tuple((_TABLE, _COUNTS, _COUNTS, types.float64, types.int64, types.int64))(_TEXT, types.int64), cache=True, nogil=True
)
def _read(text: Bytes, most_moves: int) -> tuple[FloatArray, IntArray, IntArray, float, int, int]:
    """The moves, their layers and roles, the pause after the last, a fault (0: none) and its line."""
    table = np.zeros((most_moves, _COLUMNS))
    layer, role = np.zeros(most_moves, np.int32), np.zeros(most_moves, np.int32)
    value, given = np.zeros(26), np.zeros(26, np.bool_)
    most, steepest = np.full(4, np.inf), np.full(4, np.inf)
    jerk = np.array([_JERK_XY, _JERK_XY, _JERK_Z, _JERK_E])
    printing, retracting, travelling = _ACCELERATION, _ACCELERATION, _ACCELERATION
    least_printing, least_travelling = 0.0, 0.0
    place, delta, before, after = np.zeros(4), np.zeros(4), np.zeros(4), np.zeros(4)
    absolute, absolute_e, feed, fresh, pause = True, True, 0.0, True, 0.0
    now_layer, now_role, used, at, line = 0, OTHER, 0, 0, 0
    while at < text.shape[0]:
        line += 1
        if text[at] == 59:
            if _starts(text, at, _LAYER):
                now_layer += 1
            elif _starts(text, at, _TYPE):
                now_role = _role_of(text, at + _TYPE.shape[0])
        elif text[at] == 71 or text[at] == 77:
            moves_it = text[at] == 71
            number, end = _number(text, at + 1)
            code = -1 if np.isnan(number) else int(number)
            if moves_it and (code == 2 or code == 3):
                return table[:0], layer[:0], role[:0], pause, 1, line
            if moves_it and (code == 10 or code == 11):
                return table[:0], layer[:0], role[:0], pause, 2, line
            if moves_it and code == 20:
                return table[:0], layer[:0], role[:0], pause, 3, line
            if not moves_it and (code == 220 or code == 221):
                return table[:0], layer[:0], role[:0], pause, 4, line
            read = moves_it or code == 82 or code == 83 or (201 <= code <= 205) or code == 566
            if read and _words(text, end, value, given) < 0:
                return table[:0], layer[:0], role[:0], pause, _NO_NUMBER, line
            if moves_it and code == 28:
                place[:3] = 0.0
            elif moves_it and code == 4:
                pause += value[15] / 1000.0 if given[15] else 0.0
                pause += value[18] if given[18] else 0.0
                fresh = True
            elif moves_it and (code == 90 or code == 91):
                absolute = absolute_e = code == 90
            elif moves_it and code == 92:
                _set_axes(place, value, given, 1.0)
            elif not moves_it and (code == 82 or code == 83):
                absolute_e = code == 82
            elif not moves_it and code == 201:
                _set_axes(steepest, value, given, 1.0)
            elif not moves_it and code == 203:
                _set_axes(most, value, given, 1.0)
            elif not moves_it and code == 204:
                if given[18]:
                    printing = travelling = value[18]
                printing = value[15] if given[15] else printing
                retracting = value[17] if given[17] else retracting
                travelling = value[19] if given[19] else travelling
            elif not moves_it and code == 205:
                _set_axes(jerk, value, given, 1.0)
                least_printing = value[18] if given[18] else least_printing
                least_travelling = value[19] if given[19] else least_travelling
            elif not moves_it and code == 566:
                _set_axes(jerk, value, given, 1.0 / 60.0)
            elif moves_it and (code == 0 or code == 1):
                if given[5]:
                    feed = value[5] / 60.0
                delta[:] = 0.0
                for axis in range(4):
                    letter = 23 + axis if axis < 3 else 4
                    if given[letter]:
                        here = place[axis] if (absolute_e if axis == 3 else absolute) else 0.0
                        delta[axis] = value[letter] - here
                        place[axis] += delta[axis]
                length = np.sqrt(delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2)
                alone = length == 0.0
                length = abs(delta[3]) if alone else length
                if np.isnan(length) or np.isnan(delta[3]):
                    return table[:0], layer[:0], role[:0], pause, _NO_NUMBER, line
                if length > 0.0:
                    wanted = max(feed, least_travelling if delta[3] == 0.0 else least_printing)
                    if not wanted > 0.0:
                        return table[:0], layer[:0], role[:0], pause, _NO_FEED, line
                    rate = retracting if alone else travelling if delta[3] <= 0.0 else printing
                    cruise, rate, stop, _ = _limited(delta, length, wanted, rate, most, steepest, jerk)
                    after[:] = delta / length
                    row = table[used]
                    row[0], row[1], row[2], row[3] = place[0], place[1], place[2], delta[3]
                    row[4], row[5], row[6], row[8] = length, cruise, rate, stop
                    if fresh:
                        row[7] = stop
                    else:
                        last = table[used - 1]
                        row[7] = _junction(before, after, min(last[5], cruise), last[8], stop, jerk)
                    row[9], row[10] = pause, 1.0 if fresh else 0.0
                    layer[used], role[used] = now_layer, now_role
                    before[:] = after
                    used, fresh, pause = used + 1, False, 0.0
        while at < text.shape[0] and text[at] != 10:
            at += 1
        at += 1
    return table[:used].copy(), layer[:used].copy(), role[:used].copy(), pause, 0, line
