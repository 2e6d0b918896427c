"""How a guide seats and how far off its tools may be at their targets: figures against the gates of its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from batchone.design.budget.breach import Breach
from batchone.design.budget.sources import Errors, Seats, seats
from batchone.design.cranial.columns import on_the_way
from batchone.design.cranial.rays import Scene
from batchone.design.family import Checked, CheckSet
from batchone.design.guide.checks import judged
from batchone.design.seating.make import INTERACTIVE_STARTS, RELEASE_STARTS, Score, score
from batchone.design.seating.stability import AXES
from batchone.design.seating.uniqueness import PRESS_DEG
from batchone.pipeline.limits import Limit
from batchone.pipeline.values import Axis, Bone, Finding, FloatArray, Part, Vector, judge

_STARTS: Final[dict[CheckSet, int]] = {"interactive": INTERACTIVE_STARTS, "release": RELEASE_STARTS}
UNBOUNDED = 1000.0  # figures of what nothing holds end here: a finding is a number in every file
_OUTSIDE_MM = 200.0  # numerical: the push comes from so far
_WORDS = (("the patient's right", "the patient's left"), ("the front", "the back"), ("the feet", "the head"))
_MEANT = 0.5  # cosine from which a direction is named
_HALVES = {
    "clearance": "a sleeve or slot that leads twice as far, or half its clearance (a metal insert), halves it",
    "process": "a process that holds half the tolerance halves it",
    "bone": "a scan of half the slice spacing, or contact where the bone is surer, halves it",
    "seating": "a wider contact, a hook or an extension, and the push at the marked place lower it",
    "plan": "a plan that batchone proposes, or lines drawn on thinner slices, halve it",
}

Gates = Mapping[str, Limit]


def scored_seat(checked: Checked, part: Part, bone: Bone, guide_pose: FloatArray) -> Score:
    """The score of a part's seat on the bone that carries it, from as many starts as the set of checks asks for."""
    found = score(part, bone, guide_pose, starts=_STARTS[checked.only])
    checked.scores[part.name] = found
    return found


def seating_findings(score: Score, part: Part, gates: Gates, *, offset_mm: float) -> tuple[Finding, ...]:
    """The score of a seat against the gates ``seating_*`` of a family, with the place to push at."""
    name, held, where = part.name, score.stability, score.uniqueness
    weakest = in_words(score.seated.pose[:3, :3] @ score.weakest)
    worst = _motion(score, held.worst)
    play = float(np.nan_to_num(np.abs(held.play_mm), nan=np.inf).max())
    plays = AXES[int(np.argmax(np.nan_to_num(held.play_mm, nan=np.inf))) // 2]
    more = f"add or move contact that faces {weakest}: a hook, an extension, a larger or optimised contact"
    more += _zones_in_words(score)
    rest = where.rests[0] if where.rests else None
    nearest = f" (most often {rest.away_mm:.1f} mm and {rest.away_deg:.0f} deg away)" if rest else ""
    wrong_at = None if rest is None else _vector(score.lps(rest.shift_mm))
    push, along = score.lps(score.press.place_mm), score.seated.pose[:3, :3] @ score.press.direction
    out_at, middle = _vector(score.lps(score.way_out_at_mm)), _vector(score.lps(np.zeros(3)))
    cone, friction = score.cone_deg, score.friction
    tilts = f"{name}: tilt of the push that the seat holds, least of 12 ways (median {cone[1]:g} deg; least towards {weakest})"
    found = [
        graded(gates, "seating_slip", "seating-slip", f"{name}: slide per mm of gap, worst: {worst}", held.slip, more, middle),
        graded(gates, "seating_cone_deg", "seating-cone", tilts, cone[0], more, middle),
        graded(gates, "seating_play_mm", "seating-play", f"{name}: largest play within the gap, {plays}", play, more, middle),
        graded(
            gates, "seating_false_percent", "seating-unique",
            f"{name}: wrong starts that come to rest elsewhere, of {where.starts}{nearest}", 100.0 * where.wrong, more, wrong_at,
        ),
        graded(
            gates, "seating_stuck_percent", "seating-friction",
            f"{name}: seatings with friction that stick over 1 mm away ({100.0 * friction.stuck:.1f} %) or do not land "
            f"({100.0 * friction.lost:.1f} %)", 100.0 * friction.bad, more, middle,
        ),
        graded(
            gates, "seating_way_out_mm", "seating-way-out", f"{name}: nearest to the bone on the way off, minus set",
            score.way_out_mm - offset_mm, "another insertion axis", out_at,
        ),
        graded(
            gates, "seating_collision_mm", "seating-way-out", f"{name}: nearest to the bone on the way off",
            score.way_out_mm, "another insertion axis", out_at,
        ),
        judge(
            "seating-press", f"{name}: push here, towards {in_words(along)}; linear margin",
            score.press.margin_deg, "deg", hint="mark the place on the guide and in the instructions",
            where_mm=_on_the_outside(part, push, along),
        ),
        judge("seating-unique", f"{name}: wrong starts that reach the planned seat", 100.0 * where.reached, "%"),
        judge(
            "seating-unique",
            f"{name}: wrong starts that lie elsewhere while the push is up to {PRESS_DEG:g} deg off, and do not hold",
            100.0 * where.passing, "%",
        ),
    ]  # fmt: skip
    return (*found, *_of_zones(score, name))


def _of_zones(score: Score, name: str) -> tuple[Finding, ...]:
    """Contact efficiency and the zones of contact: figures to judge a design by, without a gate."""
    held = score.covered
    if held is None:
        return ()
    sizes, weakest = ", ".join(f"{zone.area_mm2:.0f}" for zone in held.zones) or "none", held.weakest
    least = (
        ""
        if weakest is None
        else f"; without that of {weakest.area_mm2:.0f} mm2 {100.0 * weakest.share:.0f} % of the hold is lost, least of all"
    )
    found = [
        judge(
            "seating-zones", f"{name}: separate zones of contact (mm2: {sizes}{least})", float(len(held.zones)), "",
            hint="give a zone that holds little its area elsewhere" + _zones_in_words(score),
            where_mm=None if weakest is None else _vector(score.lps(weakest.middle_mm)),
        )
    ]  # fmt: skip
    if held.efficiency is not None:
        found.append(
            judge(
                "seating-zones", f"{name}: contact efficiency, the docking margin of what touches over that of all covered bone",
                100.0 * held.efficiency, "%", hint="a larger or optimised contact" + _zones_in_words(score),
                where_mm=None if held.add_mm is None else _vector(score.lps(held.add_mm)),
            )
        )  # fmt: skip
    return tuple(found)


def _zones_in_words(score: Score) -> str:
    """Where one more zone would hold most, and which of several holds least, in LPS."""
    held = score.covered
    if held is None:
        return ""
    weakest = held.weakest
    add = "" if held.add_mm is None else f"; of the bone it covers a zone at {_place(score, held.add_mm)} would hold most"
    return add + ("" if weakest is None else f"; the zone at {_place(score, weakest.middle_mm)} holds least")


def _place(score: Score, place_mm: FloatArray) -> str:
    x, y, z = score.lps(place_mm)
    return f"({x:.0f}, {y:.0f}, {z:.0f}) mm"


def landed_on(score: Score, name: str, only: CheckSet) -> tuple[Seats | None, tuple[Finding, ...]]:
    """The seats that the errors at targets come from: for a release alone, and a failure where no guide comes to rest.

    Without a seat there is no error to tell, and nothing is released on that.
    """
    found = seats(score) if only == "release" else None
    if only != "release" or found is not None:
        return found, ()
    sure = len(score.friction.poses)
    where = "on bone as unsure as this is" if sure else "on the bone as it is"
    what = f"{name}: seatings with friction that land {where}; without one no error at the target can be told"
    hint = "add or move contact until the guide seats: a hook, an extension, a larger or optimised contact"
    rule = "a device is released on measured errors: project rule"
    return None, (judge("budget", what, 0.0, "", low=1.0, hint=hint, source=rule),)


def budget_findings(errors: Errors, title: str, gates: Gates, at: Vector) -> tuple[Finding, ...]:
    """Errors at one target against the gates ``budget_mm`` and ``budget_deg``, with the source that counts most."""
    (mm50, deg50), (mm95, deg95) = errors.percentile(50.0), errors.percentile(95.0)
    source, share = errors.largest
    hint = f"{100.0 * share:.0f} % of it is {source}: {_HALVES[source]}"
    parts = ", ".join(f"{name} {100.0 * value:.0f} %" for name, value in errors.shares)
    return (
        graded(gates, "budget_mm", "budget", f"{title}: off at the target, 95 % (50 %: {mm50:.2f} mm; {parts})", mm95, hint, at),
        graded(gates, "budget_deg", "budget", f"{title}: turned, 95 % (50 %: {deg50:.2f} deg)", deg95, hint, at),
    )


def breach_findings(found: Breach, title: str, gates: Gates, at: Vector) -> tuple[Finding, ...]:
    """Probability of a breach: class C or worse against ``budget_breach_percent``, medial against ``budget_medial_percent``.

    ``at``: where the way is worst, LPS mm.
    """
    classes = ", ".join(f"{name} {100.0 * share:.1f} %" for name, share in found.classes)
    walls = ", ".join(f"{name} {100.0 * share:.1f} %" for name, share in found.walls if share > 0.0) or "none"
    medial = dict(found.walls)["medial"]
    hint = "a thinner screw, another way, or a guide with a smaller error"
    worse, through = f"{title}: breach of class C or worse ({classes})", f"{title}: breach of the medial wall (walls: {walls})"
    return (
        graded(gates, "budget_breach_percent", "budget-breach", worse, 100.0 * found.at_least("C"), hint, at),
        graded(gates, "budget_medial_percent", "budget-breach", through, 100.0 * medial, hint, at),
    )


def graded(gates: Gates, key: str, check: str, what: str, value: float, hint: str, where_mm: Vector | None = None) -> Finding:
    """Judge by the gate ``<key>``, and by ``<key>_stop`` where a family has one and the value is beyond it."""
    stop = gates.get(f"{key}_stop")
    rounded = round(min(float(value), UNBOUNDED), 6) + 0.0
    if stop is not None:
        found = judged(stop, check, what, rounded, hint, where_mm)
        if found.verdict != "pass":
            return found
    return judged(gates[key], check, what, rounded, hint, where_mm)


def led_mm(part: Part, label: str, way: Axis) -> tuple[float, float]:
    """Where a bore, on the mesh as it is, leads all round: from and to, above the entry of its way."""
    corners = part.mesh.vertices_mm[np.unique(part.mesh.faces[part.face_labels == part.labels.index(label)])]
    away, axis = corners - np.array(way.origin_mm), -np.array(way.direction)
    along = away @ axis
    side = np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))])
    angle = np.arctan2(away @ np.cross(axis, side), away @ side)
    low, high = [], []
    for middle in 2.0 * np.pi * np.arange(_SECTORS) / _SECTORS:
        inside = np.cos(angle - middle) > np.cos(1.5 * np.pi / _SECTORS)
        if inside.any():
            low.append(float(along[inside].min()))
            high.append(float(along[inside].max()))
    return max(low), min(high)


_SECTORS = 12  # numerical: round a bore


def in_words(direction: FloatArray) -> str:
    """A direction of LPS in words: "the patient's left and the head"."""
    order = np.argsort(-np.abs(direction))
    names = [_WORDS[k][int(direction[k] > 0.0)] for k in order if abs(direction[k]) > _MEANT * abs(direction[order[0]])]
    return " and ".join(names[:2])


def _motion(score: Score, motion: FloatArray) -> str:
    """A motion of the seat frame (6,) in words: where it leads, or about what it turns."""
    slide, turn = score.seated.pose[:3, :3] @ motion[:3], score.seated.pose[:3, :3] @ motion[3:]
    if np.linalg.norm(slide) >= np.linalg.norm(turn):
        return f"to {in_words(slide)}"
    return f"turning about the line to {in_words(turn)}"


def _on_the_outside(part: Part, place_mm: FloatArray, direction: FloatArray) -> Vector:
    """Where a push through a place first meets the part."""
    start = place_mm - _OUTSIDE_MM * direction
    distance, face = Scene(on_the_way(part.mesh, start[None], direction)).meets(start[None], direction[None], 2.0 * _OUTSIDE_MM)
    return _vector(start + float(distance[0]) * direction if face[0] >= 0 else place_mm)


def _vector(values: FloatArray) -> Vector:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return (x, y, z)
