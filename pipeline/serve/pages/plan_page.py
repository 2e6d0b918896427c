"""The plan of a case on its way to 3D Slicer and back: what was moved is shown in numbers, then it is a change of the order."""

from __future__ import annotations

import json
import re

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from batchone.pipeline.case_order import ORDER, order_digest, read_case_order, replace_order
from batchone.pipeline.errors import BatchoneError, InputError, OrderError
from batchone.pipeline.markups.moved import moved, not_sent
from batchone.pipeline.markups.order_file import with_plan
from batchone.pipeline.markups.read import PlanTables, read_markups
from batchone.pipeline.order import Order
from batchone.pipeline.serve.child import in_child
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.case_page import PLAN, require_open
from batchone.pipeline.serve.pages.shell import shown
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.serve.routes.case_routes import CaseId
from batchone.pipeline.serve.services import Services
from batchone.pipeline.store import CaseFolder

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)

_OF_A_CASE = re.compile(r"(.+)\.plan\.mrk( ?\(\d+\))?\.json")  # as it is downloaded, also for the second time
_MOST_NAME_BYTES = 200  # of a file: what every file system takes


@router.get("/review/{case}/plan.mrk.json")
def plan_file(case: CaseId, who: Who, parts: Parts) -> Response:
    """The plan that the device was made by, for 3D Slicer."""
    parts.cases.shown(case, who)
    try:
        data = (parts.cases.folder(case) / "plan" / PLAN).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise unknown("plan") from None
    headers = {"Content-Disposition": f'attachment; filename="{case}.{PLAN}"'}
    return Response(data, media_type="application/json", headers=headers)


@router.post("/review/{case}/plan")
async def move_plan(case: CaseId, request: Request, who: Who, parts: Parts) -> Response:
    """What a plan from 3D Slicer moves, in numbers; with ``take`` it is put into the order, and the device is made again."""
    parts.cases.shown(case, who)
    await request.body()  # all of it or a refusal, before anything is taken apart
    async with request.form() as form:
        file, seen, take = form.get("file"), str(form.get("order")), form.get("do") == "take"
        data = await file.read() if isinstance(file, UploadFile) else b""
        name = (file.filename or "") if isinstance(file, UploadFile) else ""
    if not data:
        raise Refusal(422, "no file was given", hint=f"download {PLAN}, move it in 3D Slicer, save it, and give it here")
    name = _file_name(case, name)
    try:
        order = await run_in_threadpool(read_case_order, parts.cases.folder(case) / ORDER)
        text = data.decode("utf-8", "replace")
        read = json.loads(await in_child("read-plan", parts.site, device=order.device, name=name, text=text))
        drawn: PlanTables = read["tables"]
        before = await run_in_threadpool(_before, case, order, parts)
        told = {"rows": moved(before, drawn), "missing": not_sent(before, drawn), "left_out": read["left_out"]}
        await run_in_threadpool(_take, case, drawn, seen, who.name, parts, put=take)
    except InputError as error:
        raise Refusal(422, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error
    return shown("moved.html", who, case=case, taken=take, **told)


def _file_name(case: str, given: str) -> str:
    """The name of a file, without that of the case; markups without a name take it. Empty where it cannot be that of a file.

    Raises
    ------
    Refusal
        422: it names another case.
    """
    other = _OF_A_CASE.fullmatch(given)
    if other is not None and other[1] != case:
        raise Refusal(422, f"the file is the plan of {other[1][:64]}, not of {case}", hint=f"give the plan of {case}, moved")
    name = given.removeprefix(f"{case}.")
    plain = name.isprintable() and not name.startswith(".") and not {"/", "\\"} & set(name)
    return name if plain and name.endswith(".json") and len(name.encode()) <= _MOST_NAME_BYTES else ""


def _before(case: str, order: Order, parts: Services) -> PlanTables:
    """The plan that the device was made by, and what else the order has drawn."""
    tables: PlanTables = {kind: list(entries) for kind, entries in order.plan.model_dump(exclude_none=True).items()}
    made = parts.cases.folder(case) / "plan" / PLAN
    for kind, entries in (read_markups(made) if made.is_file() else {}).items():
        names = {entry["name"] for entry in entries}
        tables[kind] = [one for one in tables.get(kind, []) if one["name"] not in names] + entries
    return tables


def _take(case_id: str, drawn: PlanTables, seen: str, who: str, parts: Services, *, put: bool) -> None:
    """Hold what was drawn against the order, as any change of it; ``put`` it in place."""
    case = CaseFolder(parts.cases.folder(case_id))
    with case.locked():
        require_open(case_id, parts)
        order = read_case_order(case.path / ORDER)
        if order_digest(order) != seen:
            raise Refusal(409, "the order was changed meanwhile", hint="load the page again, and give the file once more")
        changed = with_plan(order, drawn)
        if put and changed == order:
            raise OrderError("nothing differs from the plan of the order", hint="move something in 3D Slicer")
        if put:
            replace_order(case, changed, who)
