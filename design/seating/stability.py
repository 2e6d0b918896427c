"""How firmly a seated body sits: linear measures of its contacts, each a few milliseconds.

A motion is xi = (v, rho * omega) and a load W = (force, moment / rho), all in the seat frame with moments about its origin; so
every entry is a length or a force. A contact resists along its row G_i = (n_i, p_i x n_i / rho).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.spatial import ConvexHull

from batchone.design.seating.contacts import Contact, farthest
from batchone.pipeline.values import FloatArray

HULL_POINTS = 220  # numerical: farthest contacts that make the hull (facts, METHODS C.3)
PRESS_POINTS = 80  # numerical: places that are tried for pressing
PRESS_CONE_DEG = 25.0  # directions tried, about the way on (facts, METHODS C.3)
AMONG = 0.5  # numerical: pushes whose margin is this share of the largest count, the more the larger
STEEPEST = 0.06  # numerical: contacts parallel to the load go to infinity in the projection
ENOUGH_DEG = 20.0  # a margin of so much holds the 15 degrees of METHODS C.8, of which a linear margin promises 0.6 to 0.9 (C.3)
WORTH = 0.9  # a push leans no further for the last tenth of the margin: it rubs more than it holds; project default, unverified
_LEANS = 16  # numerical: directions tried between the best push and the way on
AXES = ("x", "y", "z", "about x", "about y", "about z")
_FLAT = 1e-9  # numerical: smaller eigenvalues are none
_UNBOUNDED = 3  # linprog's status
_ON = np.array([0.0, 0.0, -1.0])  # the way on


@dataclass(frozen=True, slots=True, eq=False)
class Press:
    """A push on the body: place (3,), unit direction (3,), and the docking margin that it has, degrees."""

    place_mm: FloatArray
    direction: FloatArray
    margin_deg: float


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """What the contacts hold.

    Attributes
    ----------
    slip
        Millimetres of slide for each millimetre of gap (rms); infinite where nothing holds.
    worst
        (6,) the motion that slips.
    straight_deg
        Docking margin of a push along the way on, through the middle of the contact; negative: not held.
    press
        The best push.
    tolerated
        (12,) largest load along +-each axis beside a unit push: forces as shares of it, moments in mm.
    play_mm
        (12,) largest motion along +-each axis within the gaps, rotations at ``rho``; infinite where nothing holds.
    """

    slip: float
    worst: FloatArray
    straight_deg: float
    press: Press
    tolerated: FloatArray
    play_mm: FloatArray


def stability(body: Contact) -> Stability:
    """Measure a body; its gaps count as they are drawn."""
    rows = jacobian(body.seats_mm, body.normals, body.rho_mm)
    slip, worst = slip_of(rows)
    facets = docking_facets(rows)
    straight = margins_deg(facets, wrench(np.zeros((1, 3)), np.array([[0.0, 0.0, -1.0]]), body.rho_mm))[0]
    press = best_press(body, facets)
    load = wrench(press.place_mm[None], press.direction[None], body.rho_mm)[0]
    return Stability(slip, worst, float(straight), press, tolerated(facets, load), play_mm(body, rows, load))


def jacobian(points_mm: FloatArray, normals: FloatArray, rho_mm: float) -> FloatArray:
    """(n, 6) how fast the gap at each contact opens with each motion."""
    return np.concatenate([normals, np.cross(points_mm, normals) / rho_mm], axis=1)


def wrench(places_mm: FloatArray, directions: FloatArray, rho_mm: float) -> FloatArray:
    """(n, 6) loads of unit pushes at places (n, 3) along directions (n, 3)."""
    return np.concatenate([directions, np.cross(places_mm, directions) / rho_mm], axis=1)


def slip_of(rows: FloatArray) -> tuple[float, FloatArray]:
    """Slide for each millimetre of gap, and the motion (6,) that slides."""
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    least = float(values[0])
    return (float(1.0 / np.sqrt(least)) if least > _FLAT else np.inf), np.asarray(vectors[:, 0])


def docking_facets(rows: FloatArray) -> FloatArray:
    """(m, 6) unit inward normals of the cone of loads that contacts without friction can take; none where it has no inside."""
    chosen = rows[farthest(rows, HULL_POINTS)] if len(rows) > HULL_POINTS else rows
    chosen = chosen[np.linalg.norm(chosen, axis=1) > _FLAT]  # a place with no bone near has no normal, and holds nothing
    if len(chosen) < 6:
        return np.empty((0, 6))
    middle = (chosen / np.linalg.norm(chosen, axis=1)[:, None]).mean(axis=0)
    length = float(np.linalg.norm(middle))
    if length < _FLAT:
        return np.empty((0, 6))
    middle /= length
    rest = np.linalg.svd(middle[None])[2][1:]  # (5, 6): across the middle
    high = np.maximum(chosen @ middle, STEEPEST)
    flat = (chosen @ rest.T) / high[:, None]
    hull = ConvexHull(flat, qhull_options="QJ")
    facets = -hull.equations[:, 5:] * middle - hull.equations[:, :5] @ rest
    return np.asarray(facets / np.linalg.norm(facets, axis=1)[:, None])


def margins_deg(facets: FloatArray, loads: FloatArray) -> FloatArray:
    """(n,) least angle by which a load (n, 6) may turn before a contact would have to pull; negative: it does already."""
    if len(facets) == 0:
        return np.full(len(loads), -90.0)
    sine = (-loads @ facets.T).min(axis=1) / np.linalg.norm(loads, axis=1)
    return np.asarray(np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0))))


def cone(axis: FloatArray, most_deg: float, rings: int) -> FloatArray:
    """(1 + 3 r (r + 1), 3) unit vectors about an axis: itself, and rings of 6, 12, ... evenly out to an angle."""
    side = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    side /= np.linalg.norm(side)
    other = np.cross(axis, side)
    found = [axis]
    for ring in range(1, rings + 1):
        turn = 2.0 * np.pi * (np.arange(6 * ring) + 0.5 * (ring % 2)) / (6 * ring)
        tilt = np.radians(most_deg * ring / rings)
        found += list(np.cos(tilt) * axis + np.sin(tilt) * (np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other))
    return np.array(found)


def press_of(body: Contact) -> Press:
    """The push that :func:`stability` finds, without the rest of it."""
    return best_press(body, docking_facets(jacobian(body.seats_mm, body.normals, body.rho_mm)))


def best_press(body: Contact, facets: FloatArray) -> Press:
    """The middle of the pushes with the largest docking margins; against the mean of the normals where none has one.

    The single largest flips between pushes 12 degrees apart when the places sampled on the same contact change, and the share of
    false seats with it; the middle of those nearly as good stays, and a hand may miss it to any side. It leans no further from
    the way on than holds enough, or nearly as much as any: a push that leans rubs the guide along the bone as it comes on.
    """
    directions = cone(_ON, PRESS_CONE_DEG, 4)
    places = np.concatenate([np.zeros((1, 3)), body.seats_mm[farthest(body.seats_mm, PRESS_POINTS - 1)]])
    place, direction = np.repeat(places, len(directions), axis=0), np.tile(directions, (len(places), 1))
    margins = margins_deg(facets, wrench(place, direction, body.rho_mm))
    best = float(margins.max())
    if best < 0.6:  # numerical: within what the hull's joggle moves (facts, METHODS C.3)
        mean = -body.normals.mean(axis=0)
        length = float(np.linalg.norm(mean))
        return Press(np.zeros(3), mean / length if length > _FLAT else _ON, max(best, 0.0))
    weight = np.maximum(margins - AMONG * best, 0.0) ** 2
    at = weight @ place / weight.sum()
    along = weight @ direction / weight.sum()
    share = np.linspace(0.0, 1.0, _LEANS + 1)[:, None]
    leans = share * along / np.linalg.norm(along) + (1.0 - share) * _ON
    leans /= np.linalg.norm(leans, axis=1)[:, None]
    held = margins_deg(facets, wrench(np.tile(at, (len(leans), 1)), leans, body.rho_mm))
    most = float(held.max())
    chosen = int(np.argmax(held >= min(ENOUGH_DEG, WORTH * most, most)))
    return Press(at, leans[chosen], float(held[chosen]))


def tolerated(facets: FloatArray, load: FloatArray) -> FloatArray:
    """(12,) how much of a unit load along +-each axis is held beside a load (6,)."""
    found = np.zeros(12)
    held = -facets @ load
    for number in range(12 if len(facets) else 0):
        axis = np.zeros(6)
        axis[number // 2] = 1.0 if number % 2 == 0 else -1.0
        against = facets @ axis
        pulls = against > _FLAT
        found[number] = max(float((held[pulls] / against[pulls]).min()), 0.0) if pulls.any() else np.inf
    return found


def play_mm(body: Contact, rows: FloatArray, load: FloatArray) -> FloatArray:
    """(12,) how far the body can move along +-each axis within its gaps while the pushed place does not rise."""
    chosen = farthest(rows, HULL_POINTS)
    matrix = np.concatenate([-rows[chosen], -load[None]])
    limits = np.concatenate([np.maximum(body.gap_mm[chosen], 0.0), [0.0]])
    found = np.zeros(12)
    for number in range(12):
        aim = np.zeros(6)
        aim[number // 2] = -1.0 if number % 2 == 0 else 1.0
        solved = linprog(aim, A_ub=matrix, b_ub=limits, bounds=(None, None), method="highs")
        found[number] = np.inf if solved.status == _UNBOUNDED else (-solved.fun if solved.status == 0 else np.nan)
    return found
