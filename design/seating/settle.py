"""Lets a rigid body come to rest on a bone under a push: many starts at once, each the same for any number of threads.

The body has springs at its points that only push. The energy to be least is -F f.x (the push, fixed to the bone in its direction
and to the body in its place) + 1/2 k sum(depth^2) + 1/2 kappa |rho log(R R0')|^2 (a soft hand that keeps the start's rotation).
The distances between grid nodes are linear along each axis, and the slope is that of the same interpolation, so that every step
that is taken lowers the energy (Levenberg-Marquardt, 6 by 6). Each start writes its own row only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from batchone.design.seating.contacts import BoolArray, Contact, Landscape
from batchone.design.seating.stability import Press
from batchone.pipeline.values import FloatArray, IntArray

EVERY = 5  # numerical: one in so many points is asked while the body is far from rest
SOFT = 3.0  # numerical: 0.03 mm at a dozen contacts; with 30 (facts, METHODS C.4) single points make rests that no bone has
SMOOTH = ((3.0, 0.1, EVERY, 60), (3.0, 0.0, EVERY, 60), (SOFT, 0.0, 1, 60))  # (k, kappa, every, most steps): facts, METHODS C.4
ROUGH = ((3.0, 0.1, EVERY, 60), (30.0, 0.0, 1, 60))  # with friction: facts, METHODS C.5
LAST = ((SOFT, 0.0, 1, 60),)  # from a rest
NUDGED = ((SOFT, 0.0, 1, 200),)  # numerical: as stiff, and long enough to slide off where nothing holds
STEP_MM, ROUGH_STEP_MM = 1.2, 0.4  # numerical: longest step without and with friction
GONE_MM, GONE_DEG = 20.0, 40.0  # a body moved or turned further has fallen off
DEEP_MM, UNBALANCED = 0.3, 0.03  # at rest nothing lies deeper in the bone, and no more of the push is left over
LEAST_CONTACTS = 3
_STUCK, _LOST_MM2 = 1e7, 900.0  # numerical: damping at which no step helps; a body 30 mm away is not followed
_LIFT_MM, _LIFTS = 0.5, 60  # numerical: starts are lifted by such steps until clear of the bone
_HELD = 0.6  # numerical: share of the push that the bone must carry before friction may stop the body


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """Poses of a body in its seat frame: ``x = turn @ p + shift``; (n, 3, 3) and (n, 3) mm."""

    turn: FloatArray
    shift_mm: FloatArray

    def __len__(self) -> int:
        return len(self.shift_mm)

    def only(self, chosen: BoolArray) -> Poses:
        """Some of them."""
        return Poses(self.turn[chosen], self.shift_mm[chosen])

    @property
    def angle_deg(self) -> FloatArray:
        """(n,) angles of the turns."""
        return np.degrees(np.arccos(np.clip(0.5 * (np.einsum("nii->n", self.turn) - 1.0), -1.0, 1.0)))

    def relative_to(self, other: Poses) -> Poses:
        """Each against one pose (or its own): what leads from it to there."""
        turn = np.einsum("nij,nkj->nik", self.turn, np.broadcast_to(other.turn, self.turn.shape))
        return Poses(turn, self.shift_mm - np.einsum("nij,nj->ni", turn, np.broadcast_to(other.shift_mm, self.shift_mm.shape)))


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """Where bodies came to rest, one row per start: pose, points in contact, deepest (mm), push left over, push carried."""

    poses: Poses
    contacts: FloatArray
    deepest_mm: FloatArray
    left_over: FloatArray
    carried: FloatArray

    @property
    def near(self) -> BoolArray:
        """(n,) lies on the bone and has not fallen."""
        lying = (self.contacts >= LEAST_CONTACTS) & (self.deepest_mm < DEEP_MM)
        moved = np.linalg.norm(self.poses.shift_mm, axis=1)
        return np.asarray(lying & (moved < GONE_MM) & (self.poses.angle_deg < GONE_DEG))

    @property
    def at_rest(self) -> BoolArray:
        """(n,) lies on the bone in balance."""
        return np.asarray(self.near & (self.left_over < UNBALANCED))

    @property
    def held(self) -> BoolArray:
        """(n,) lies on the bone and is carried by it, in balance or stuck."""
        return np.asarray(self.near & (self.carried > _HELD))


def settled(
    body: Contact,
    ground: Landscape,
    starts: Poses,
    press: Press | tuple[FloatArray, FloatArray],
    *,
    lift: bool = True,
    friction: float = 0.0,
    proud_mm: FloatArray | None = None,
    phases: tuple[tuple[float, float, int, int], ...] = SMOOTH,
    turns: IntArray | None = None,
) -> Settled:
    """Settle a body from each start.

    Parameters
    ----------
    body, ground
        What settles on what.
    starts
        (n) poses.
    press
        One push for all, or places (n, 3) on the body and unit directions (n, 3).
    lift
        Lift each start along z until it is clear of the bone.
    friction
        Coefficient; the body stops where a step gains less than friction takes.
    proud_mm
        (n, points) by how much the bone is nearer at each point of ``points_mm`` than the grid says.
    phases
        Stiffness, hand, one in how many points, and most steps, one after the other.
    turns
        (n,) which of the body's places each start takes; without, all take ``points_mm``.
    """
    count = len(starts)
    places, directions = (press.place_mm, press.direction) if isinstance(press, Press) else press
    places, directions = (np.broadcast_to(one, (count, 3)).astype(np.float64, order="C") for one in (places, directions))
    turn, shift = (one.astype(np.float64, order="C") for one in (starts.turn, starts.shift_mm))
    every = (body.points_mm, *(one.points_mm for one in body.again)) if turns is not None else (body.points_mm,)
    turns = np.zeros(count, dtype=np.int32) if turns is None else turns
    points, ends_at = np.concatenate(every), np.cumsum([0, *(len(one) for one in every)])
    proud = np.zeros((1, max(len(one) for one in every)), dtype=np.float32)
    if proud_mm is not None:
        proud = np.zeros((count, proud.shape[1]), dtype=np.float32)
        own: IntArray = np.arange(len(body.points_mm), dtype=np.int32)
        nearest = (own, *(one.nearest for one in body.again))
        for number, near in enumerate(nearest[: len(every)]):
            proud[turns == number, : len(near)] = proud_mm[turns == number][:, near]
    grid, origin, step = np.ascontiguousarray(ground.distance_mm), ground.lattice.origin_mm, ground.lattice.step_mm
    if lift:
        _lift(grid, origin, step, points, ends_at, turns, turn, shift)
    out_turn, out_shift, told = np.empty_like(turn), np.empty_like(shift), np.empty((count, 4))
    longest = ROUGH_STEP_MM if friction > 0.0 else STEP_MM
    _settle(
        grid, origin, step, points, ends_at, turns, proud, turn, shift, places, directions, body.rho_mm,
        np.array(phases, dtype=np.float64), longest, friction, out_turn, out_shift, told,
    )  # fmt: skip
    return Settled(Poses(out_turn, out_shift), told[:, 0], told[:, 1], told[:, 2], told[:, 3])


_GRID = numba.types.Array(numba.float32, 3, "C")
_I1, _T1 = numba.int64[::1], numba.int32[::1]
_F1, _F2, _F3 = numba.float64[::1], numba.float64[:, ::1], numba.float64[:, :, ::1]
_OUTSIDE_MM = 9.0  # numerical: further than any distance that is kept
_SURE = 0.8  # numerical: distances between nodes may change a little faster than the place does


@numba.njit(numba.float64(_GRID, numba.float64, numba.float64, numba.float64), cache=True, nogil=True, inline="always")
def _depth_at(grid, u, v, w):  # type: ignore[no-untyped-def]
    """The distance at a place in voxels; far outside of the grid."""
    if u < 0.0 or v < 0.0 or w < 0.0:
        return _OUTSIDE_MM
    i, j, k = int(u), int(v), int(w)
    if i >= grid.shape[0] - 1 or j >= grid.shape[1] - 1 or k >= grid.shape[2] - 1:
        return _OUTSIDE_MM
    u, v, w = u - i, v - j, w - k
    a = (grid[i, j, k] * (1 - w) + grid[i, j, k + 1] * w) * (1 - v) + (
        grid[i, j + 1, k] * (1 - w) + grid[i, j + 1, k + 1] * w
    ) * v
    i += 1
    b = (grid[i, j, k] * (1 - w) + grid[i, j, k + 1] * w) * (1 - v) + (
        grid[i, j + 1, k] * (1 - w) + grid[i, j + 1, k + 1] * w
    ) * v
    return a * (1 - u) + b * u


@numba.njit(numba.void(_GRID, _F1, numba.float64, _F2, _I1, _T1, _F3, _F2), cache=True, parallel=True, nogil=True)
def _lift(grid, origin, step, places, ends_at, turns, turn, shift):  # type: ignore[no-untyped-def]
    """Raise each start until none of its points lies in the bone."""
    for s in numba.prange(shift.shape[0]):
        r = turn[s]
        points = places[ends_at[turns[s]] : ends_at[turns[s] + 1]]
        reach = np.zeros(points.shape[0])  # how far the body has risen when a point must be asked again
        for lifted in range(_LIFTS):
            clear = True
            for n in range(points.shape[0]):
                if reach[n] > lifted * _LIFT_MM:
                    continue
                x, y, z = points[n, 0], points[n, 1], points[n, 2]
                u = (r[0, 0] * x + r[0, 1] * y + r[0, 2] * z + shift[s, 0] - origin[0]) / step
                v = (r[1, 0] * x + r[1, 1] * y + r[1, 2] * z + shift[s, 1] - origin[1]) / step
                w = (r[2, 0] * x + r[2, 1] * y + r[2, 2] * z + shift[s, 2] - origin[2]) / step
                apart = _depth_at(grid, u, v, w)
                if apart <= 0.0:
                    clear = False
                    break
                if apart < _OUTSIDE_MM:
                    reach[n] = lifted * _LIFT_MM + _SURE * apart
            if clear:
                break
            shift[s, 2] += _LIFT_MM


@numba.njit(
    numba.float64(
        _GRID, _F1, numba.float64, _F2, numba.float32[::1], _F2, _F1, _F2, _F1, _F1, numba.float64, numba.float64, numba.float64,
        numba.int64, _F1, _F2, _F1, _F1, numba.float64,
    ),
    cache=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _energy(grid, origin, step, points, proud, r, t, r0, place, push, rho, stiff, hand, every, slope, curve, told, reach, path):  # type: ignore[no-untyped-def]
    """Energy of a pose, its slope (6,) and curvature (6, 6); ``told``: contacts, deepest, left over, carried.

    A point is not asked again before the body's ``path`` (mm) has come as far as its ``reach``: so far it was from the bone.
    """
    slope[:] = 0.0
    curve[:] = 0.0
    contacts, deepest, carried = 0, 0.0, 0.0
    energy = 0.0
    row = np.empty(6)
    inverse = 1.0 / step
    for n in range(0, points.shape[0], every):
        if reach[n] > path:
            continue
        px, py, pz = points[n, 0], points[n, 1], points[n, 2]
        x = r[0, 0] * px + r[0, 1] * py + r[0, 2] * pz
        y = r[1, 0] * px + r[1, 1] * py + r[1, 2] * pz
        z = r[2, 0] * px + r[2, 1] * py + r[2, 2] * pz
        u, v, w = (x + t[0] - origin[0]) * inverse, (y + t[1] - origin[1]) * inverse, (z + t[2] - origin[2]) * inverse
        apart = _depth_at(grid, u, v, w)
        depth = proud[n] - apart
        if depth <= 0.0:
            if apart < _OUTSIDE_MM:
                reach[n] = path + _SURE * -depth
            continue
        contacts += 1
        deepest = max(deepest, depth)
        i, j, k = int(u), int(v), int(w)
        u, v, w = u - i, v - j, w - k
        g000, g001 = grid[i, j, k], grid[i, j, k + 1]
        g010, g011 = grid[i, j + 1, k], grid[i, j + 1, k + 1]
        g100, g101 = grid[i + 1, j, k], grid[i + 1, j, k + 1]
        g110, g111 = grid[i + 1, j + 1, k], grid[i + 1, j + 1, k + 1]
        nx = ((g100 - g000) * (1 - w) + (g101 - g001) * w) * (1 - v) + ((g110 - g010) * (1 - w) + (g111 - g011) * w) * v
        ny = ((g010 - g000) * (1 - w) + (g011 - g001) * w) * (1 - u) + ((g110 - g100) * (1 - w) + (g111 - g101) * w) * u
        nz = ((g001 - g000) * (1 - v) + (g011 - g010) * v) * (1 - u) + ((g101 - g100) * (1 - v) + (g111 - g110) * v) * u
        row[0], row[1], row[2] = nx * inverse, ny * inverse, nz * inverse
        row[3] = (y * row[2] - z * row[1]) / rho
        row[4] = (z * row[0] - x * row[2]) / rho
        row[5] = (x * row[1] - y * row[0]) / rho
        energy += 0.5 * stiff * depth * depth
        carried += stiff * depth
        for a in range(6):
            slope[a] -= stiff * depth * row[a]
            for b in range(a, 6):
                curve[a, b] += stiff * row[a] * row[b]
    x = r[0, 0] * place[0] + r[0, 1] * place[1] + r[0, 2] * place[2]
    y = r[1, 0] * place[0] + r[1, 1] * place[1] + r[1, 2] * place[2]
    z = r[2, 0] * place[0] + r[2, 1] * place[1] + r[2, 2] * place[2]
    energy -= push[0] * (x + t[0]) + push[1] * (y + t[1]) + push[2] * (z + t[2])
    slope[0] -= push[0]
    slope[1] -= push[1]
    slope[2] -= push[2]
    slope[3] -= (y * push[2] - z * push[1]) / rho
    slope[4] -= (z * push[0] - x * push[2]) / rho
    slope[5] -= (x * push[1] - y * push[0]) / rho
    if hand > 0.0:
        m = r @ r0.T
        cosine = min(max(0.5 * (m[0, 0] + m[1, 1] + m[2, 2] - 1.0), -1.0), 1.0)
        angle = np.arccos(cosine)
        factor = 0.5 if angle < 1e-6 else 0.5 * angle / max(np.sin(angle), 1e-9)
        tx, ty, tz = factor * (m[2, 1] - m[1, 2]), factor * (m[0, 2] - m[2, 0]), factor * (m[1, 0] - m[0, 1])
        energy += 0.5 * hand * rho * rho * (tx * tx + ty * ty + tz * tz)
        slope[3] += hand * rho * tx
        slope[4] += hand * rho * ty
        slope[5] += hand * rho * tz
        for a in range(3, 6):
            curve[a, a] += hand
    total = 0.0
    for a in range(6):
        total += slope[a] * slope[a]
    told[0], told[1], told[2], told[3] = contacts, deepest, np.sqrt(total), carried
    return energy


@numba.njit(numba.boolean(_F2, numba.float64, _F1, _F1), cache=True, nogil=True, error_model="numpy")
def _solve(curve, damping, slope, out):  # type: ignore[no-untyped-def]
    """The step that leads to the least of the damped energy (Cholesky); the upper half of ``curve`` counts."""
    low = np.zeros((6, 6))
    for a in range(6):
        for b in range(a + 1):
            total = curve[b, a] + (damping if a == b else 0.0)
            for c in range(b):
                total -= low[a, c] * low[b, c]
            if a == b:
                if total <= 0.0:
                    return False
                low[a, a] = np.sqrt(total)
            else:
                low[a, b] = total / low[b, b]
    for a in range(6):
        total = -slope[a]
        for c in range(a):
            total -= low[a, c] * out[c]
        out[a] = total / low[a, a]
    for a in range(5, -1, -1):
        total = out[a]
        for c in range(a + 1, 6):
            total -= low[c, a] * out[c]
        out[a] = total / low[a, a]
    return True


@numba.njit(numba.void(_F1, numba.float64, _F2, _F2), cache=True, nogil=True, error_model="numpy")
def _turned(step, rho, r, out):  # type: ignore[no-untyped-def]
    """A rotation, turned on by the last three entries of a step."""
    x, y, z = step[3] / rho, step[4] / rho, step[5] / rho
    angle = np.sqrt(x * x + y * y + z * z)
    s = 1.0 if angle < 1e-9 else np.sin(angle) / angle
    c = 0.5 if angle < 1e-9 else (1.0 - np.cos(angle)) / (angle * angle)
    m = np.empty((3, 3))
    m[0, 0], m[0, 1], m[0, 2] = 1.0 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y
    m[1, 0], m[1, 1], m[1, 2] = c * x * y + s * z, 1.0 - c * (x * x + z * z), c * y * z - s * x
    m[2, 0], m[2, 1], m[2, 2] = c * x * z - s * y, c * y * z + s * x, 1.0 - c * (x * x + y * y)
    for a in range(3):
        for b in range(3):
            out[a, b] = m[a, 0] * r[0, b] + m[a, 1] * r[1, b] + m[a, 2] * r[2, b]


_PHASE = numba.float64(
    _GRID, _F1, numba.float64, _F2, numba.float32[::1], _F2, _F1, _F2, _F1, _F1, numba.float64, _F1, numba.float64, numba.float64,
    numba.float64, _F1, numba.float64, _F1,
)  # fmt: skip


@numba.njit(_PHASE, cache=True, nogil=True, error_model="numpy")
def _phase(grid, origin, step, points, off, r, t, r0, place, push, rho, phase, longest, friction, widest, reach, path, told):  # type: ignore[no-untyped-def]
    """Steps of one phase: moves ``r`` and ``t`` to the rest, fills ``told``; gives the body's path."""
    stiff, hand, every = phase[0], phase[1], int(phase[2])
    r2, t2, move = np.empty((3, 3)), np.empty(3), np.empty(6)
    slope, curve = np.empty(6), np.empty((6, 6))
    slope2, curve2, told2 = np.empty(6), np.empty((6, 6)), np.empty(4)
    energy = _energy(
        grid, origin, step, points, off, r, t, r0, place, push, rho, stiff, hand, every, slope, curve, told, reach, path
    )
    damping, small, slow = 0.3, 0, 0
    for _ in range(int(phase[3])):
        if not _solve(curve, damping, slope, move):
            damping *= 6.0
            continue
        length = np.sqrt((move * move).sum())
        if length > longest:
            move *= longest / length
            length = longest
        _turned(move, rho, r, r2)
        far = np.sqrt(move[0] ** 2 + move[1] ** 2 + move[2] ** 2)
        far += np.sqrt(move[3] ** 2 + move[4] ** 2 + move[5] ** 2) * widest / rho
        path += far
        t2[:] = t + move[:3]
        energy2 = _energy(
            grid, origin, step, points, off, r2, t2, r0, place, push, rho, stiff, hand, every, slope2, curve2, told2, reach, path
        )
        if energy2 >= energy:
            path += far
            damping *= 6.0
            if damping > _STUCK:
                break
            continue
        gained, energy = energy - energy2, energy2
        r[:], t[:], told[:], slope[:], curve[:] = r2, t2, told2, slope2, curve2
        damping = max(damping * 0.35, 1e-6)
        if (t * t).sum() > _LOST_MM2:
            break
        if friction > 0.0 and told[0] >= LEAST_CONTACTS and told[3] > _HELD:
            slow = slow + 1 if gained < friction * told[3] * length else 0
            if slow >= 2:
                break
        small = small + 1 if (length < 2e-3 or gained < 2e-5) else 0
        if small >= 3:
            break
    return path


@numba.njit(
    numba.void(
        _GRID, _F1, numba.float64, _F2, _I1, _T1, numba.float32[:, ::1], _F3, _F2, _F2, _F2, numba.float64, _F2,
        numba.float64, numba.float64, _F3, _F2, _F2,
    ),
    cache=True, parallel=True, nogil=True, error_model="numpy",
)  # fmt: skip
def _settle(  # type: ignore[no-untyped-def]
    grid,
    origin,
    step,
    body,
    ends_at,
    turns,
    proud,
    turn,
    shift,
    places,
    pushes,
    rho,
    phases,
    longest,
    friction,
    ends,
    moved,
    told,
):
    """All starts, each phase after phase."""
    square = 0.0
    for n in range(body.shape[0]):
        square = max(square, body[n, 0] ** 2 + body[n, 1] ** 2 + body[n, 2] ** 2)
    widest = np.sqrt(square)
    for s in numba.prange(shift.shape[0]):
        r, t, found = turn[s].copy(), shift[s].copy(), np.zeros(4)
        points = body[ends_at[turns[s]] : ends_at[turns[s] + 1]]
        off = proud[s] if proud.shape[0] > 1 else proud[0]
        reach, path = np.zeros(points.shape[0]), 0.0
        for p in range(phases.shape[0]):
            path = _phase(
                grid, origin, step, points, off, r, t, turn[s], places[s], pushes[s], rho, phases[p], longest, friction, widest,
                reach, path, found,
            )  # fmt: skip
        ends[s], moved[s], told[s] = r, t, found
