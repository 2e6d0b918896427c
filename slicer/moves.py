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
# two letters tell them apart: External and Overhang perimeter, Support material, Skirt/Brim, Custom, Wipe tower; else: of a part
_KINDS: Final = np.frombuffer(b"ExOvSuSkCuWi", dtype=np.uint8)
_KIND_ROLES: Final = np.array([OUTLINE, OUTLINE, SUPPORT, OTHER, OTHER, OTHER])
_REFUSED: Final = {1: "G2, G3 (arcs)", 2: "G10, G11 (firmware retraction)", 3: "G20 (inches)", 4: "M220, M221 (overrides)"}
_GO_OVER = 0.99  # Marlin's own
_NO_FEED, _NO_NUMBER = -1, -2
_FASTEST, _STEEPEST, _JERK = range(3)  # limits of each axis: mm/s, mm/s2, mm/s
_PRINTING, _RETRACTING, _TRAVELLING, _LEAST_PRINTING, _LEAST_TRAVELLING, _FEED, _ABSOLUTE, _ABSOLUTE_E, _FRESH, _PAUSE = range(10)
# until the file says otherwise: Marlin's own (Configuration.h) acceleration and jerk, no limit of speed, absolute places
_AXES: Final = np.array([[np.inf] * 4, [np.inf] * 4, [10.0, 10.0, 0.3, 5.0]])
_START: Final = np.array([3000.0, 3000.0, 3000.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0])


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


@njit("UniTuple(f8, 3)(f8[::1], f8, f8, f8, f8[:, ::1])", cache=True, nogil=True)
def _limited(delta: FloatArray, length: float, feed: float, acceleration: float, axes: FloatArray) -> tuple[float, float, float]:
    """Speed and acceleration of a move within the limits of each axis, and at which speed it may start and stop at once."""
    cruise = feed
    for axis in range(4):
        share = abs(delta[axis]) / length
        if share > 0.0:
            cruise = min(cruise, axes[_FASTEST, axis] / share)
            acceleration = min(acceleration, axes[_STEEPEST, axis] / share)
    stop = cruise
    for axis in range(4):
        share = abs(delta[axis]) / length
        if share > 0.0:
            stop = min(stop, axes[_JERK, axis] / share)
    return cruise, acceleration, stop


@njit("f8(f8[::1], f8[::1], f8, f8, f8, f8[::1])", cache=True, nogil=True)
def _junction(before: FloatArray, after: FloatArray, slower: float, stop: float, start: float, jerk: FloatArray) -> float:
    """Speed at which a move may go over into the next: no axis jumps by more than its jerk, one that turns back starts from rest.

    ``before`` and ``after`` are the moves' directions, ``slower`` the lower of their speeds, ``stop`` and ``start`` those
    at which the first may stop and the second start. Where both are no slower than going over would be, Marlin goes over
    at ``start``.
    """
    speed = slower
    for axis in range(4):
        a, b = before[axis], after[axis]
        jump = abs(a - b) if a * b > 0.0 else max(abs(a), abs(b))
        if jump * speed > jerk[axis]:
            speed = jerk[axis] / jump
    return start if min(stop, start) > _GO_OVER * speed else speed


@njit(types.int64(types.boolean, types.int64), cache=True, nogil=True)
def _refusal(is_g: bool, code: int) -> int:
    """Which commands would make the moves others than are read; 0: not this one."""
    if is_g:
        if code == 2 or code == 3:
            return 1
        if code == 10 or code == 11:
            return 2
        return 3 if code == 20 else 0
    return 4 if code == 220 or code == 221 else 0


@njit(types.void(types.int64, _NUMBERS, _FLAGS, types.Array(types.float64, 2, "C"), _NUMBERS), cache=True, nogil=True)
def _set_limits(code: int, value: FloatArray, given: npt.NDArray[np.bool_], axes: FloatArray, now: FloatArray) -> None:
    """What a command of the kind M sets."""
    if code == 82 or code == 83:
        now[_ABSOLUTE_E] = 1.0 if code == 82 else 0.0
    elif code == 201:
        _set_axes(axes[_STEEPEST], value, given, 1.0)
    elif code == 203:
        _set_axes(axes[_FASTEST], value, given, 1.0)
    elif code == 204:
        for state, letter in (
            (_PRINTING, 18),
            (_TRAVELLING, 18),
            (_PRINTING, 15),
            (_RETRACTING, 17),
            (_TRAVELLING, 19),
        ):  # S S P R T
            now[state] = value[letter] if given[letter] else now[state]
    elif code == 205:
        _set_axes(axes[_JERK], value, given, 1.0)
        now[_LEAST_PRINTING] = value[18] if given[18] else now[_LEAST_PRINTING]
        now[_LEAST_TRAVELLING] = value[19] if given[19] else now[_LEAST_TRAVELLING]
    elif code == 566:
        _set_axes(axes[_JERK], value, given, 1.0 / 60.0)


@njit(types.void(types.int64, _NUMBERS, _FLAGS, _NUMBERS, _NUMBERS), cache=True, nogil=True)
def _set_place(code: int, value: FloatArray, given: npt.NDArray[np.bool_], place: FloatArray, now: FloatArray) -> None:
    """What a command of the kind G does that moves nothing that counts."""
    if code == 4:
        now[_PAUSE] += (value[15] / 1000.0 if given[15] else 0.0) + (value[18] if given[18] else 0.0)
        now[_FRESH] = 1.0
    elif code == 28:
        place[:3] = 0.0
    elif code == 90 or code == 91:
        now[_ABSOLUTE] = now[_ABSOLUTE_E] = 1.0 if code == 90 else 0.0
    elif code == 92:
        _set_axes(place, value, given, 1.0)


@njit(types.float64(_NUMBERS, _FLAGS, _NUMBERS, _NUMBERS, _NUMBERS), cache=True, nogil=True)
def _go(value: FloatArray, given: npt.NDArray[np.bool_], place: FloatArray, now: FloatArray, delta: FloatArray) -> float:
    """Take a move into ``delta`` and ``place``; its length, of the filament alone where nothing else moves."""
    if given[5]:
        now[_FEED] = value[5] / 60.0
    delta[:] = 0.0
    for axis in range(4):
        letter = 23 + axis if axis < 3 else 4
        if given[letter]:
            delta[axis] = value[letter] - (place[axis] if now[_ABSOLUTE_E if axis == 3 else _ABSOLUTE] > 0.0 else 0.0)
            place[axis] += delta[axis]
    length = np.sqrt(delta[0] ** 2 + delta[1] ** 2 + delta[2] ** 2)
    return abs(delta[3]) if length == 0.0 else length


@njit(
    types.int64(_NUMBERS, types.float64, _NUMBERS, _NUMBERS, types.Array(types.float64, 2, "C"), _TABLE, types.int64, _NUMBERS),
    cache=True,
    nogil=True,
)
def _put(
    delta: FloatArray,
    length: float,
    place: FloatArray,
    now: FloatArray,
    axes: FloatArray,
    table: FloatArray,
    used: int,
    before: FloatArray,
) -> int:
    """Write a move into the table; a fault, or 0."""
    if not np.isfinite(length + delta[3]):
        return _NO_NUMBER
    alone = delta[0] == 0.0 and delta[1] == 0.0 and delta[2] == 0.0
    feed = max(now[_FEED], now[_LEAST_TRAVELLING] if delta[3] == 0.0 else now[_LEAST_PRINTING])
    if not feed > 0.0:
        return _NO_FEED
    rate = now[_RETRACTING] if alone else now[_TRAVELLING] if delta[3] <= 0.0 else now[_PRINTING]
    cruise, rate, stop = _limited(delta, length, feed, rate, axes)
    after = delta / length
    row = table[used]
    row[0], row[1], row[2], row[3] = place[0], place[1], place[2], delta[3]
    row[4], row[5], row[6], row[7], row[8] = length, cruise, rate, stop, stop
    if now[_FRESH] == 0.0:
        last = table[used - 1]
        row[7] = _junction(before, after, min(last[5], cruise), last[8], stop, axes[_JERK])
    row[9], row[10] = now[_PAUSE], now[_FRESH]
    now[_PAUSE] = now[_FRESH] = 0.0
    before[:] = after
    return 0


@njit(
    types.Tuple((_TABLE, _COUNTS, _COUNTS, types.float64, types.int64, types.int64))(_TEXT, types.int64), cache=True, nogil=True
)
def _read(text: Bytes, most_moves: int) -> tuple[FloatArray, IntArray, IntArray, float, int, int]:
    """The moves, their layers and roles, the pause after the last, a fault (0: none) and its line."""
    table = np.zeros((most_moves, _COLUMNS))
    layers, roles = np.zeros(most_moves, np.int32), np.zeros(most_moves, np.int32)
    value, given = np.zeros(26), np.zeros(26, np.bool_)
    axes, now = _AXES.copy(), _START.copy()
    place, delta, before = np.zeros(4), np.zeros(4), np.zeros(4)
    layer, role, used, at, line, fault = 0, OTHER, 0, 0, 0, 0
    while at < text.shape[0] and fault == 0:
        line += 1
        if text[at] == 59:
            if _starts(text, at, _LAYER):
                layer += 1
            elif _starts(text, at, _TYPE):
                role = _role_of(text, at + _TYPE.shape[0])
        elif text[at] == 71 or text[at] == 77:
            is_g = text[at] == 71
            number, end = _number(text, at + 1)
            code = -1 if np.isnan(number) else int(number)
            fault = _refusal(is_g, code)
            if fault == 0 and (is_g or code in (82, 83, 201, 203, 204, 205, 566)) and _words(text, end, value, given) < 0:
                fault = _NO_NUMBER
            if fault == 0 and not is_g:
                _set_limits(code, value, given, axes, now)
            elif fault == 0 and code > 1:
                _set_place(code, value, given, place, now)
            elif fault == 0 and code >= 0:
                length = _go(value, given, place, now, delta)
                if length != 0.0:
                    fault = _put(delta, length, place, now, axes, table, used, before)
                    layers[used], roles[used] = layer, role
                    used += 1
        while at < text.shape[0] and text[at] != 10:
            at += 1
        at += 1
    return table[:used].copy(), layers[:used].copy(), roles[:used].copy(), now[_PAUSE], fault, line
