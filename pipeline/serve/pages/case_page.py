"""One case: where it is, every finding, what may be changed, and the reviewer's signature."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from batchone.pipeline.approval import shown as with_waivers
from batchone.pipeline.case_approval import confirmed_points
from batchone.pipeline.case_comments import comments_of
from batchone.pipeline.case_decisions import MEANINGS, What, order_approval
from batchone.pipeline.case_order import ORDER, order_digest, read_case_order, replace_order
from batchone.pipeline.case_waivers import waivers_of
from batchone.pipeline.clock.outlook import outlook
from batchone.pipeline.clock.state import ENDED
from batchone.pipeline.commands.cases import site_cases
from batchone.pipeline.errors import BatchoneError, CheckFailed, InputError
from batchone.pipeline.findings import Finding, recorded_findings, worst_first
from batchone.pipeline.job.signature import KEYS
from batchone.pipeline.order import Order, changed_order
from batchone.pipeline.preview import FOLLOW, PREVIEW, preview_of, release_checks, why_not_checked
from batchone.pipeline.revisions import Revision, made_for, revisions
from batchone.pipeline.serve.cases import View
from batchone.pipeline.serve.child import in_child
from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.compared import paired
from batchone.pipeline.serve.pages.finding_table import finding_tables
from batchone.pipeline.serve.pages.parameter_form import Field, fields_of, settings_of
from batchone.pipeline.serve.pages.report_page import jobs_of
from batchone.pipeline.serve.pages.shell import onward, shown
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.routes import case_routes
from batchone.pipeline.serve.routes.case_routes import CaseId
from batchone.pipeline.serve.routes.sign_in import require_password
from batchone.pipeline.serve.scene.pictures import seat_parts
from batchone.pipeline.serve.services import Services
from batchone.pipeline.store import CaseFolder

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)

PLAN = "plan.mrk.json"
_ON_THE_PAGE: tuple[What, ...] = ("revise", "cancel")


@router.get("/review/{case}")
def case_page(case: CaseId, who: Who, parts: Parts) -> Response:
    """The whole page; a hospital sees the state, the device in 3D, comments and what happened: no findings, no forms."""
    view = parts.cases.shown(case, who)
    works = _workplace(parts.cases.folder(case), parts) if _works(who) else {}
    return shown("case.html", who, **_state(case, view, parts), **works)


@router.get("/review/{case}/state")
def state(case: CaseId, who: Who, parts: Parts) -> Response:
    """Where the case is, asked for again every few seconds."""
    return shown("state.html", who, **_state(case, parts.cases.shown(case, who), parts))


@router.post("/review/{case}/design")
async def change(case: CaseId, request: Request, who: Who, parts: Parts) -> Response:
    """Put changed parameters into the order; whoever runs the case makes the new device of it."""
    parts.cases.shown(case, who)
    given = {name: str(text) for name, text in (await request.form()).items()}
    try:
        await run_in_threadpool(_change, case, given, who.name, parts)
    except InputError as error:
        raise Refusal(422, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error
    return onward(request, f"/review/{case}")


@router.post("/review/{case}/waive")
async def waive(case: CaseId, request: Request, who: Who, parts: Parts) -> Response:
    """Let what failed in one check stand, with a reason and the password again."""
    parts.cases.shown(case, who)
    given = {name: str(text) for name, text in (await request.form()).items()}
    words = {name: given.get(name, "").strip() for name in ("check", "reason")}
    if not all(words.values()):
        raise Refusal(422, "the reason is empty", hint="say why the finding may stand; it is in the report")
    password = given.get("password", "")
    await run_in_threadpool(require_password, request, parts, who.name, password, status=403)
    try:
        device = given.get("device", "")
        await in_child("waive", parts.site, case=case, who=who.name, passphrase=password, device=device, **words)
    except (InputError, CheckFailed) as error:
        raise Refusal(409, str(error), hint=error.hint) from error
    except BatchoneError as error:
        raise Refusal(503, str(error), hint=error.hint, headers={"Retry-After": "5"}) from error
    return onward(request, f"/review/{case}")


@router.post("/review/{case}/answer")
async def answer(case: CaseId, request: Request, who: Who, parts: Parts) -> Response:
    """Approve, return or reject the device that was seen, with the password again."""
    form = await request.form()
    given: dict[str, Any] = {name: str(text) for name, text in form.items()}
    if given.get("answer") == "approve" and given.pop("seen", "") != "yes":
        raise Refusal(422, "the box before the signature is not ticked", hint="look at device and findings, then tick it")
    given.pop("seen", None)
    given["checked"] = [str(one) for one in form.getlist("checked")]
    try:
        asked = case_routes.Answer(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", hint="correct it and sign again") from error
    await case_routes.review(case, asked, request, who, parts)
    return onward(request, f"/review/{case}")


@router.post("/review/{case}/decide")
async def decide(case: CaseId, request: Request, who: Who, parts: Parts) -> Response:
    """Cancel or revise the case, with a reason and the password again."""
    given = {name: str(text) for name, text in (await request.form()).items()}
    what = given.pop("decision", "")
    if what not in _ON_THE_PAGE:
        raise Refusal(422, f"the decision is {what!r}, must be {' or '.join(_ON_THE_PAGE)}", hint="choose one of them")
    try:
        asked = case_routes.Decided(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise Refusal(422, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", hint="correct it and sign again") from error
    await case_routes.decided(what, case, asked, request, who, parts)
    return onward(request, f"/review/{case}")


@router.get("/review/{case}/compare")
def compare(case: CaseId, who: Who, parts: Parts, a: int, b: int) -> Response:
    """Two devices that the case has had, side by side: what was asked for and what was measured."""
    parts.cases.shown(case, who)
    kept = {one.number: one for one in revisions(parts.cases.folder(case))}
    if a not in kept or b not in kept:
        raise Refusal(404, f"there are revisions 1 to {len(kept)}, asked for {a} and {b}", hint="choose two of them")
    return shown("compare.html", who, case=case, a=kept[a], b=kept[b], **_differences(kept[a], kept[b]))


def _works(who: Actor) -> bool:
    return bool(who.roles & {"engineer", "approver"})


def _state(case: str, view: View, parts: Services) -> dict[str, Any]:
    folder, now = parts.cases.folder(case), dt.datetime.now(dt.UTC)
    order, busy = _order(folder), _busy(view, parts)
    told = outlook(site_cases(parts.site, now, parts.reader), case, now)
    events = parts.cases.events(case)
    checks = release_checks(CaseFolder(folder), [one["what"] for one in events], now) if view.preview else ""
    key = "" if order is None else order_digest(order)
    return {
        "case": case,
        "view": view,
        "busy": busy,
        "checks": checks,
        "soon": checks == FOLLOW if checks else busy,
        "told_of": f"{view.preview or view.device or ''} {'' if checks == FOLLOW else checks}".strip(),
        "told": told,
        "events": events[::-1],
        "comments": comments_of(events)[::-1],
        "order": order,
        "order_key": key,
        "answered": _answered(view, parts),
        "locked": _locked(view, parts),
        "decisions": () if view.status in ENDED else tuple((what, MEANINGS[what]) for what in _possible(view, parts)),
    }


def _busy(view: View, parts: Services) -> bool:
    """Whether the order is another than the one that the case's device was made for, and a new one is to come."""
    folder = parts.cases.folder(view.case)
    order, stands_for = _order(folder), made_for(folder)
    if order is None or stands_for in (None, order_digest(order)):
        return False
    return not why_not_checked([one["what"] for one in parts.cases.events(view.case)])


def _answered(view: View, parts: Services) -> bool:
    """Whether the device waits for no answer any more: it is released, about to be, or the case has ended."""
    approval = CaseFolder(parts.cases.folder(view.case)).record("review") or {}
    approved = view.device is not None and approval.get("taken", {}).get("CheckedDevice") == view.device
    return view.status == "done" or view.status in ENDED or (view.status == "in-progress" and approved)


def _locked(view: View, parts: Services) -> bool:
    """Whether the order may be changed no more: its device was answered, or the order was approved, whatever came of it."""
    return _answered(view, parts) or order_approval(CaseFolder(parts.cases.folder(view.case))) is not None


def require_open(case_id: str, parts: Services) -> None:
    """Let the order of a case be changed while its device is open for changes.

    Raises
    ------
    Refusal
        409: it is locked.
    """
    view = parts.cases.view(case_id)
    if _locked(view, parts):
        raise Refusal(409, f"the case is {view.status}: its device is locked", hint="revise it first, or make a new order")


def _possible(view: View, parts: Services) -> tuple[What, ...]:
    """What may be decided on a case: to revise takes an approval."""
    return _ON_THE_PAGE if CaseFolder(parts.cases.folder(view.case)).record("review") is not None else ("cancel",)


def _workplace(folder: Path, parts: Services) -> dict[str, Any]:
    """What an engineer or an approver works with."""
    return {
        **_device(folder, parts),
        "fields": _fields(folder),
        "kept": revisions(folder),
        "points": _points(folder),
        "jobs": jobs_of(folder),
        "planned": (folder / "plan" / PLAN).is_file(),
    }


def _device(folder: Path, parts: Services) -> dict[str, Any]:
    """The findings of the checked device, the worst first, as people see them."""
    case = CaseFolder(folder)
    preview = preview_of(case)
    record = case.record("check")
    found: tuple[Finding, ...] = ()
    if preview is not None:
        found = worst_first(recorded_findings(preview))
    elif record is not None:
        found = worst_first(with_waivers(recorded_findings(record), waivers_of(case, record["value_digest"], parts.site / KEYS)))
    failed, warned = (sum(one.verdict == verdict for one in found) for verdict in ("fail", "warn"))
    tables = finding_tables(found, seats=seat_parts(case, "check" if preview is None else PREVIEW.name))
    waivable = tuple(dict.fromkeys(one.check for one in found if one.verdict == "fail" and one.waivable))
    return {"findings": found, "failed": failed, "warned": warned, "tables": tables, "waivable": waivable}


def _fields(folder: Path) -> tuple[Field, ...]:
    order = _order(folder)
    return () if order is None else fields_of(order.device, order.parameters.model_dump())


def _points(folder: Path) -> tuple[tuple[str, str], ...]:
    """The points (id, text) of the checklist that a reviewer of the case confirms."""
    order = _order(folder)
    return () if order is None else confirmed_points(order.device, None)


def _order(folder: Path) -> Order | None:
    return read_case_order(folder / ORDER) if (folder / ORDER).is_file() else None


def _change(case_id: str, given: Mapping[str, str], who: str, parts: Services) -> None:
    case = CaseFolder(parts.cases.folder(case_id))
    with case.locked():
        require_open(case_id, parts)
        order = read_case_order(case.path / ORDER)
        if order_digest(order) != given.get("order"):
            raise Refusal(409, "the order was changed meanwhile", hint="load the page again; what you typed stays in the form")
        changed = changed_order(order, settings_of(order.device, order.parameters.model_dump(), given))
        if changed.parameters == order.parameters:
            raise Refusal(422, "no parameter differs from that of the order", hint="change one")
        replace_order(case, changed, who)


def _differences(a: Revision, b: Revision) -> dict[str, Any]:
    first, second = (_parameters(one.folder) for one in (a, b))
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    rows = [one for one in paired(*(recorded_findings(one.record()) for one in (a, b))) if one.differs]
    return {"parameters": [(name, first.get(name, "–"), second.get(name, "–")) for name in names], "rows": rows}


def _parameters(folder: Path) -> dict[str, str]:
    tree = tomllib.loads((folder / ORDER).read_text(encoding="utf-8"))
    return {field.about.name: field.text for field in fields_of(tree["device"], tree.get("parameters", {}))}
