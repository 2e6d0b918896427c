"""An order file whose plan lies beside it: ``[plan] markups`` is resolved, so that the order stands for itself from then on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from batchone.pipeline.errors import OrderError
from batchone.pipeline.markups.read import PlanTables, read_markups
from batchone.pipeline.order import MAX_ORDER_BYTES, Order, Parameters, order_text, parse_order, read_order_table

MAX_FILES = 64  # markups files of one order: 3D Slicer saves one for each markup; project default
LONE_CURVES = {"cranial-implant": "rim"}  # device -> what a closed curve without a name is, alone in its file
_HINT = 'as in markups = ["plan.mrk.json"], beside the order'


def read_order_file(path: Path, parameter_models: Mapping[str, type[Parameters]]) -> Order:
    """Read and validate an order file; the markups files that its plan names become lines, planes, curves and points of it.

    Raises
    ------
    OrderError
        The order is not valid, or a markups file lies outside of the order's folder, cannot be read, or is not valid.
    """
    data = read_order_table(path)
    plan = data.get("plan")
    if not isinstance(plan, dict) or "markups" not in plan:
        return parse_order(data, parameter_models)
    files = [_beside(path, setting) for setting in _settings(plan["markups"])]
    drawn = plan_tables(files, str(data.get("device")))
    kept = {key: value for key, value in plan.items() if key != "markups"}
    for kind, entries in drawn.items():
        if not isinstance(kept.setdefault(kind, []), list):
            raise OrderError(f"plan.{kind} is {type(kept[kind]).__name__}, must be a list", hint=_HINT)
        kept[kind] = _sized(kept[kind], entries) if kind == "no_go" else [*kept[kind], *entries]
    order = parse_order({**data, "plan": kept}, parameter_models)
    require_order_size(order)
    return order


def _sized(given: list[Any], drawn: list[dict[str, Any]]) -> list[Any]:
    """Structures that the order has, and those of markups files with the radius and distance that it gives for their names.

    A list of points ``name-1``, ``name-2``... has those of ``name``; an entry that gives them for nothing stays, and is refused.
    """
    sizes = {one["name"]: one for one in given if isinstance(one, dict) and "name" in one and "points_mm" not in one}
    found, taken = [], set[str]()
    for entry in drawn:
        name = next((name for name in (entry["name"], entry["name"].rpartition("-")[0]) if name in sizes), "")
        found.append({**sizes.get(name, {}), **entry})
        taken.add(name)
    return [*(one for one in given if not isinstance(one, dict) or "points_mm" in one or one.get("name") not in taken), *found]


def plan_tables(files: Sequence[tuple[str, Path]], device: str) -> PlanTables:
    """The markups of several (name, file), as tables for ``[plan]`` of an order for a device.

    Raises
    ------
    OrderError
        As :func:`read_markups`.
    """
    tables: PlanTables = {}
    for name, file in files:
        for kind, entries in read_markups(file, name, lone_curve=LONE_CURVES.get(device, "")).items():
            tables.setdefault(kind, []).extend(entries)
    return tables


def name_and_file(setting: str) -> tuple[str, Path]:
    """The parts of ``[NAME=]FILE``."""
    name, _, place = setting.rpartition("=")
    return name.strip(), Path(place)


def changed_plan(order: Order, settings: Sequence[str]) -> Order:
    """The order with what ``[NAME=]FILE`` hold in place of what its plan has under the same names, and beside the rest.

    Raises
    ------
    OrderError
        As :func:`read_markups`; or the plan is then not valid.
    """
    return with_plan(order, plan_tables([name_and_file(setting) for setting in settings], order.device))


def with_plan(order: Order, drawn: PlanTables) -> Order:
    """The order with drawn entries in place of what its plan has under the same names, and beside the rest.

    Raises
    ------
    OrderError
        The plan is then not valid, or the order too large.
    """
    data = order.model_dump(exclude_none=True)
    for kind, entries in drawn.items():
        before = {one["name"]: one for one in data["plan"][kind]}
        names = {entry["name"] for entry in entries}
        kept = [one for one in data["plan"][kind] if one["name"] not in names]
        data["plan"][kind] = kept + [{**before.get(entry["name"], {}), **entry} for entry in entries]
    changed = parse_order(data, {order.device: type(order.parameters)})
    require_order_size(changed)
    return order.model_copy(update={"plan": changed.plan})


def require_order_size(order: Order) -> None:
    """Refuse an order that could not be read again.

    Raises
    ------
    OrderError
        Too large.
    """
    size = len(order_text(order).encode("utf-8", "replace"))
    if size > MAX_ORDER_BYTES:
        raise OrderError(
            f"the order is {size} bytes with its plan, at most {MAX_ORDER_BYTES} bytes", hint="draw curves with fewer points"
        )


def _settings(given: Any) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
        raise OrderError("plan.markups is no list of file names", hint=_HINT)
    if not 1 <= len(given) <= MAX_FILES:
        raise OrderError(f"plan.markups names {len(given)} files, must be 1 to {MAX_FILES}", hint=_HINT)
    return given


def _beside(order_file: Path, setting: str) -> tuple[str, Path]:
    """The name and the file of an entry; it lies in the order's folder, also after its links are followed."""
    name, place = name_and_file(setting)
    pure = PurePosixPath(place.as_posix())
    folder = order_file.parent.resolve()
    try:
        file = (folder / place).resolve()
        inside = not pure.is_absolute() and ".." not in pure.parts and file.is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # a name that no file can have, links in a ring
        inside = False
    if not inside:
        raise OrderError(f"plan.markups names {setting[:64]!r}, must lie in the folder of the order", hint=_HINT)
    return name, file
