"""An order, written in a form: checked as ``batchone order new`` checks it, and given as TOML, to be sent with its study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from batchone.design.families import load_families
from batchone.pipeline.commands.order_new import text_of, validated_order
from batchone.pipeline.commands.order_questions import MACHINE, PROCESS, SIDES
from batchone.pipeline.commands.parameter_table import faults
from batchone.pipeline.errors import BatchoneError, OrderError
from batchone.pipeline.order import Instruments, parse_settings
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.parameter_form import fields_of, settings_of, table_of
from batchone.pipeline.serve.pages.shell import shown
from batchone.pipeline.serve.refusal import Refusal
from batchone.slicer.profiles import machine_names, process_names

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)

_INSTRUMENT = "instrument."  # what the name of a field begins with that is one of [instruments]


@router.get("/orders/new")
def order_page(who: Who, parts: Parts, device: Annotated[str, Query(max_length=64)] = "") -> Response:
    """The choice of a family, and the form of the one that was chosen."""
    families = load_families()
    if device and device not in families:
        raise Refusal(404, f"device is {device!r}, known are {', '.join(sorted(families))}", hint="choose one of them")
    return shown(
        "order.html",
        who,
        families=sorted(families.values(), key=lambda one: one.name),
        device=device,
        fields=fields_of(device, {}) if device else (),
        instruments=[name for name in Instruments.model_fields if not name.endswith("_mm")] if device else (),
        measures=[name for name in Instruments.model_fields if name.endswith("_mm")] if device else (),
        sides=SIDES,
        processes=process_names(parts.site),
        machines=machine_names(parts.site),
        usual=(PROCESS, MACHINE),
    )


@router.post("/orders/new")
async def write_order(request: Request, who: Who, parts: Parts) -> Response:
    """Check what was typed; the order as TOML, and how it goes on."""
    given = {name: str(text) for name, text in (await request.form()).items()}
    try:
        case, text = await run_in_threadpool(_written, given, parts.site)
    except OrderError as error:
        raise Refusal(422, str(error), hint=error.hint) from error
    except BatchoneError as error:  # a profile of the site that cannot be read
        raise Refusal(409, str(error), hint=error.hint) from error
    return shown("order_made.html", who, case=case, text=text, link=f"data:application/toml;charset=utf-8,{quote(text)}")


def _written(given: Mapping[str, str], site: Path) -> tuple[str, str]:
    """Case and text of the order that was typed."""
    words = {name: text.strip() or None for name, text in given.items()}
    device, families = words.get("device") or "", load_families()
    if device not in families:
        raise OrderError(f"device is {device!r}; known devices: {', '.join(sorted(families))}", hint="choose one of them")
    if missing := [name for name in ("case", "side", "due") if words.get(name) is None]:
        raise OrderError(f"{', '.join(missing)} of the order: empty", hint="fill them in")
    parameters = parse_settings(settings_of(device, {}, given))
    if found := faults(table_of(device), parameters, device):
        raise OrderError("order: " + "; ".join(found), hint="correct it in the form")
    bones = [bone.strip() for bone in (words.get("bones") or "").split(",") if bone.strip()]
    tables: dict[str, dict[str, Any]] = {
        "prescription": {name: words.get(name) for name in ("prescriber", "characteristics")},
        "target": {"bones": bones or None, "level_confirmed_by": words.get("level_confirmed_by")},
        "instruments": {
            name: _measured(name, text) if name.endswith("_mm") else text
            for name in Instruments.model_fields
            if (text := words.get(_INSTRUMENT + name)) is not None
        },
    }
    head = {"device": device, **{name: words.get(name) for name in ("case", "side", "due", "process", "machine")}}
    order = validated_order(head, tables, parameters, families[device], site)
    return order.case, text_of(order, families[device])


def _measured(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OrderError(f"instruments.{name} is {text[:32]!r}, must be a number, mm", hint="for example 3.2") from None
