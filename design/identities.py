"""Booleans of bare bodies, each measured against its identity and refused when it breaks it."""

from __future__ import annotations

from collections.abc import Callable

from manifold3d import Error, Manifold, OpType

from batchone.pipeline.errors import DesignError

_SURFACE_EPSILON_MM = 1e-6  # numerical: how far a boolean may move a surface; times area, the volume an identity may miss
_RELATIVE_EPSILON = 1e-9  # numerical: rounding of a volume summed over millions of triangles


class _Unsound(Exception):  # noqa: N818 - never leaves this module
    """One way of a boolean gave a result that breaks its identity."""


def first_sound(ways: tuple[Callable[[], Manifold], ...], what: str) -> Manifold:
    """Return the result of the first way that holds; DesignError with what every way measured when none does."""
    faults: list[str] = []
    for way in ways:
        try:
            return way()
        except _Unsound as fault:
            if str(fault) not in faults:
                faults.append(str(fault))
    raise DesignError(f"{what}: " + "; then ".join(faults), hint="change the parameter that places these solids")


def _joined(a: Manifold, b: Manifold) -> Manifold:
    result, common = a + b, a ^ b
    _expect(
        result,
        a.volume() + b.volume() - volume_of(common),
        slack_mm3(a, b),
        f"union of {a.volume():.3f} and {b.volume():.3f} mm3",
    )
    return result


def joined_pairwise(bodies: list[Manifold]) -> Manifold:
    """Union as a tree of pairs, each with its identity."""
    level = bodies
    while len(level) > 1:
        paired = [_joined(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def joined_at_once(bodies: list[Manifold]) -> Manifold:
    """Union in one step, within its bounds."""
    result = Manifold.batch_boolean(bodies, OpType.Add)
    volumes = [body.volume() for body in bodies]
    allowed_mm3 = slack_mm3(*bodies)
    fault = fault_of(result)
    if fault or not max(volumes) - allowed_mm3 <= result.volume() <= sum(volumes) + allowed_mm3:
        raise _Unsound(
            f"union of {len(bodies)} solids is {volume_of(result):.3f} mm3, must be {max(volumes):.3f} to {sum(volumes):.3f} mm3"
            + (f" ({fault})" if fault else "")
        )
    return result


def _cut(body: Manifold, tool: Manifold) -> tuple[Manifold, float]:
    common, rest = body.split(tool)
    removed_mm3 = volume_of(common)
    if body.volume() - removed_mm3 <= slack_mm3(body, tool):
        raise _Unsound(f"the tool of {tool.volume():.3f} mm3 removes all of {body.volume():.3f} mm3")
    _expect(rest, body.volume() - removed_mm3, slack_mm3(body, tool), f"{body.volume():.3f} less {removed_mm3:.3f} mm3")
    return rest, removed_mm3


def cut_at_once(body: Manifold, tools: list[Manifold]) -> Manifold:
    """Difference with the union of all tools."""
    tool = joined_pairwise(tools)
    rest, removed_mm3 = _cut(body, tool)
    _expect_removal(body, removed_mm3, tools)
    return rest


def cut_one_by_one(body: Manifold, tools: list[Manifold]) -> Manifold:
    """Difference tool by tool."""
    rest, total_mm3 = body, 0.0
    for tool in tools:
        rest, removed_mm3 = _cut(rest, tool)
        total_mm3 += removed_mm3
    _expect_removal(body, total_mm3, tools)
    return rest


def _expect_removal(body: Manifold, removed_mm3: float, tools: list[Manifold]) -> None:
    if removed_mm3 <= slack_mm3(body, *tools):
        tool_mm3 = sum(tool.volume() for tool in tools)
        raise _Unsound(f"{len(tools)} tools of {tool_mm3:.3f} mm3 remove {removed_mm3:.3g} mm3 of {body.volume():.3f} mm3")


def shared(a: Manifold, b: Manifold) -> Manifold:
    """Intersection, measured against what it leaves."""
    result, rest = a.split(b)
    _expect(result, a.volume() - volume_of(rest), slack_mm3(a, b), f"shared by {a.volume():.3f} and {b.volume():.3f} mm3")
    return result


def _expect(result: Manifold, expected_mm3: float, allowed_mm3: float, what: str) -> None:
    fault = fault_of(result)
    if fault or abs(result.volume() - expected_mm3) > allowed_mm3:
        raise _Unsound(
            f"{what} is {volume_of(result):.3f} mm3, must be {expected_mm3:.3f} within {allowed_mm3:.2g} mm3"
            + (f" ({fault})" if fault else "")
        )


def fault_of(body: Manifold) -> str:
    """Say what is wrong with a body: status, empty, no volume; empty text when nothing is."""
    if body.status() != Error.NoError:
        return f"status {body.status().name}"
    if body.is_empty():
        return "empty"
    return "" if body.volume() > 0.0 else f"volume is {body.volume():.3g} mm3, must be more than 0 mm3"


def volume_of(body: Manifold) -> float:
    """Volume, mm3; 0 for an empty body."""
    return 0.0 if body.is_empty() else float(body.volume())


def slack_mm3(*bodies: Manifold) -> float:
    """How far volumes of these bodies may miss an identity: their surfaces moved by the solver's tolerance."""
    area_mm2 = sum(body.surface_area() for body in bodies)
    moved_mm = max(_SURFACE_EPSILON_MM, *(body.get_tolerance() for body in bodies))
    return float(area_mm2 * moved_mm + _RELATIVE_EPSILON * sum(abs(body.volume()) for body in bodies))
